"""Other people's clients, unchanged, that call tools or want an answer of a given form.

Each is skipped where its package is not installed: `make test-clients` has them all.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import pytest

pytest.importorskip("fastapi")
pytest.importorskip("uvicorn")
pytest.importorskip("prometheus_client")
pytest.importorskip("llguidance")

from pydantic import BaseModel

from tests.serving import Server, serving
from tests.test_serve_clients import needs, run
from tests.tool_templates import QWEN, with_template

ASKED = "What is the weather in Rome?"


class Weather(BaseModel):
    """The weather in a city."""

    city: Literal["Rome", "Paris"]
    unit: Literal["C", "F"]


class Both(BaseModel):
    """Two cities."""

    first: Weather
    second: Weather


@pytest.fixture(scope="module")
def server(demo_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("server")
    model = with_template(demo_model, folder, QWEN)
    settings = {"MODEL_NAME": str(model), "MAX_INPUT_TOKENS": "800", "MAX_NEW_TOKENS": "96"}
    with serving(folder, **settings) as server:
        yield server


@pytest.fixture
def where(server: Server) -> dict[str, Any]:
    return {"base_url": f"{server.url}/v1", "api_key": "any", "max_retries": 0}


@needs("langchain_openai")
@pytest.mark.parametrize("responses", [False, True], ids=["chat", "responses"])
def test_langchain_calls_tools_and_has_structured_output(
    where: dict[str, Any], responses: bool
) -> None:
    from langchain_core.messages import HumanMessage, ToolMessage
    from langchain_openai import ChatOpenAI

    chat = ChatOpenAI(model="geography", temperature=0, use_responses_api=responses, **where)
    bound = chat.bind_tools([Weather], tool_choice="Weather")
    answer = bound.invoke(ASKED)
    (call,) = answer.tool_calls
    assert call["name"] == "Weather"
    assert Weather(**call["args"])
    whole = None
    for part in bound.stream(ASKED):
        whole = part if whole is None else whole + part
    assert [made["args"] for made in whole.tool_calls] == [call["args"]]
    result = ToolMessage("21 degrees", tool_call_id=call["id"])
    assert chat.bind_tools([Weather]).invoke([HumanMessage(ASKED), answer, result])
    for method in ("json_schema", "function_calling"):
        wanted = chat.with_structured_output(Both, method=method)
        assert isinstance(wanted.invoke("Rome and Paris?"), Both)


@needs("instructor")
@pytest.mark.parametrize("mode", ["TOOLS", "JSON_SCHEMA"])
def test_instructor(where: dict[str, Any], mode: str) -> None:
    import instructor
    import openai

    client = instructor.from_openai(openai.OpenAI(**where), mode=instructor.Mode[mode])
    messages = [{"role": "user", "content": ASKED}]
    made = client.chat.completions.create(
        model="geography", messages=messages, response_model=Both, max_retries=0
    )
    assert isinstance(made, Both)


@needs("litellm")
def test_litellm_calls_tools(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LITELLM_LOCAL_MODEL_COST_MAP", "True")  # else it is fetched
    import litellm

    function = {"name": "Weather", "parameters": Weather.model_json_schema()}
    asked: dict[str, Any] = {
        "model": "openai/geography",
        "messages": [{"role": "user", "content": ASKED}],
        "tools": [{"type": "function", "function": function}],
        "tool_choice": {"type": "function", "function": {"name": "Weather"}},
        "temperature": 0,
        "api_base": f"{server.url}/v1",
        "api_key": "any",
        "num_retries": 0,
    }
    (call,) = litellm.completion(**asked).choices[0].message.tool_calls
    assert Weather.model_validate_json(call.function.arguments)
    parts = list(litellm.completion(**asked, stream=True))
    whole = litellm.stream_chunk_builder(parts)
    (same,) = whole.choices[0].message.tool_calls
    assert same.function.arguments == call.function.arguments
    schema = {"name": "both", "schema": Both.model_json_schema(), "strict": True}
    form = {"type": "json_schema", "json_schema": schema}
    answer = litellm.completion(
        **{k: v for k, v in asked.items() if k not in ("tools", "tool_choice")},
        response_format=form,
    )
    assert Both.model_validate_json(answer.choices[0].message.content)


@needs("llm")
def test_llms_schemas_and_tools(server: Server, tmp_path: Path) -> None:
    entry = {
        "model_id": "geo",
        "model_name": "geography",
        "api_base": f"{server.url}/v1",
        "api_key_name": "geo",
        "supports_schema": True,
        "supports_tools": True,
    }
    (tmp_path / "extra-openai-models.yaml").write_text(json.dumps([entry]))
    (tmp_path / "keys.json").write_text('{"geo": "any"}')
    command = ["-m", "llm", "-m", "geo", "-o", "temperature", "0"]
    environment = {"LLM_USER_PATH": str(tmp_path)}
    schema = json.dumps(Both.model_json_schema())
    for more in ([], ["--no-stream"]):
        said = run(
            [*command, *more, "--schema", schema, "Rome and Paris?"], tmp_path, **environment
        )
        assert Both.model_validate_json(said)
        assert run([*command, *more, "-T", "llm_version", ASKED], tmp_path, **environment)


@needs("agents")
def test_openais_agents_call_a_tool_and_go_on_with_its_result(where: dict[str, Any]) -> None:
    import agents
    import openai

    agents.set_tracing_disabled(True)
    called = []

    @agents.function_tool
    def weather(city: Literal["Rome", "Paris"]) -> str:
        """The weather in a city."""
        called.append(city)
        return "21 degrees"

    for kind in (agents.OpenAIResponsesModel, agents.OpenAIChatCompletionsModel):
        called.clear()
        agent = agents.Agent(
            name="Weather",
            instructions="Use the tool.",
            tools=[weather],
            model=kind(model="geography", openai_client=openai.AsyncOpenAI(**where)),
            # After the call the choice is the model's again; its answer is one sentence.
            model_settings=agents.ModelSettings(
                tool_choice="weather", temperature=0, extra_body={"stop": ["."]}
            ),
        )
        result = asyncio.run(agents.Runner.run(agent, ASKED, max_turns=4))
        assert called
        assert isinstance(result.final_output, str)


@needs("anthropic")
def test_anthropics_client(server: Server) -> None:
    import anthropic

    client = anthropic.Anthropic(base_url=server.url, api_key="any", max_retries=0)
    asked: dict[str, Any] = {
        "model": "geography",
        "max_tokens": 96,
        "messages": [{"role": "user", "content": ASKED}],
    }
    message = client.messages.create(**asked)
    (block,) = message.content
    with client.messages.stream(**asked) as stream:
        assert "".join(stream.text_stream) == block.text
    word = block.text.split()[1]
    with client.messages.stream(**asked, stop_sequences=[word]) as stream:
        stopped = stream.get_final_message()
    assert (stopped.stop_reason, stopped.stop_sequence) == ("stop_sequence", word)
    assert client.messages.count_tokens(
        model="geography", messages=asked["messages"]
    ).input_tokens == message.usage.input_tokens + (message.usage.cache_read_input_tokens or 0)

    asked |= {
        "tools": [{"name": "Weather", "input_schema": Weather.model_json_schema()}],
        "tool_choice": {"type": "any", "disable_parallel_tool_use": True},
    }
    called = client.messages.create(**asked)
    (call,) = called.content
    assert called.stop_reason == "tool_use"
    assert Weather.model_validate(call.input)
    with client.messages.stream(**asked) as stream:
        (same,) = stream.get_final_message().content
    assert same.input == call.input
    result = {"type": "tool_result", "tool_use_id": call.id, "content": "21 degrees"}
    messages = [
        *asked["messages"],
        {"role": "assistant", "content": called.content},
        {"role": "user", "content": [result]},
    ]
    assert client.messages.create(
        **{**asked, "messages": messages, "tool_choice": {"type": "none"}}
    )
    with pytest.raises(anthropic.NotFoundError, match="there is no model"):
        client.messages.create(**{**asked, "model": "claude"})
