"""Answers that call tools, with OpenAI's client. The model's template is one that knows tools."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import pytest

pytest.importorskip("fastapi")
pytest.importorskip("uvicorn")
pytest.importorskip("prometheus_client")
pytest.importorskip("httpx")
pytest.importorskip("openai")
pytest.importorskip("llguidance")

import httpx
import openai
from pydantic import BaseModel

from tests.serving import Server, serving
from tests.tool_templates import QWEN, WEATHER, with_template

ADD: dict[str, Any] = {
    "type": "function",
    "function": {
        "name": "add",
        "parameters": {
            "type": "object",
            "properties": {"a": {"enum": [1, 2]}, "b": {"enum": [1, 2]}},
            "required": ["a", "b"],
            "additionalProperties": False,
        },
    },
}
TOOLS = [WEATHER, ADD]
ROME = {"role": "user", "content": "What is the weather in Rome?"}
HINT = {"role": "system", "content": "Begin with <tool_call>."}
NAMED = {"type": "function", "function": {"name": "add"}}


@pytest.fixture(scope="module")
def server(
    shallow_model: Path, shallow_loras: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("server")
    model = with_template(shallow_model, folder, QWEN)
    settings = {"MODEL_NAME": str(model), "MAX_INPUT_TOKENS": "600", "MAX_NEW_TOKENS": "96"}
    settings["ADAPTERS_BASE_DIR"] = str(shallow_loras)
    with serving(folder, **settings) as server:
        yield server


@pytest.fixture(scope="module")
def client(server: Server) -> Any:
    return openai.OpenAI(base_url=f"{server.url}/v1", api_key="any", max_retries=0)


def ask(client: Any, **fields: Any) -> Any:
    asked = {"model": "geography", "messages": [ROME], "tools": TOOLS, **fields}
    return client.chat.completions.create(**asked)


def streamed(client: Any, **fields: Any) -> tuple[str, list[dict[str, Any]], str]:
    """The content of a stream, its calls, and why it ended."""
    content, calls, reason = "", list[dict[str, Any]](), ""
    for chunk in ask(client, stream=True, **fields):
        (choice,) = chunk.choices
        content += choice.delta.content or ""
        reason = choice.finish_reason or reason
        for call in choice.delta.tool_calls or ():
            if call.id:
                assert call.index == len(calls)
                calls.append({"id": call.id, "name": call.function.name, "arguments": ""})
            calls[call.index]["arguments"] += call.function.arguments
    return content, calls, reason


def check(name: str, arguments: str) -> None:
    given = json.loads(arguments)
    if name == "add":
        assert set(given) == {"a", "b"}
        assert set(given.values()) <= {1, 2}
    else:
        assert name == "get_weather"
        assert set(given) == {"city", "unit"}
        assert isinstance(given["city"], str)
        assert given["unit"] in ("C", "F")


@pytest.mark.parametrize("model", ["geography", "auto"])
def test_a_call_that_is_named_keeps_to_its_schema(client: Any, model: str) -> None:
    fields = {"model": model, "tool_choice": NAMED}
    (choice,) = ask(client, **fields).choices
    (call,) = choice.message.tool_calls
    assert (choice.finish_reason, choice.message.content) == ("tool_calls", None)
    assert (call.type, call.function.name) == ("function", "add")
    check("add", call.function.arguments)
    content, (same,), reason = streamed(client, **fields)
    assert (content, reason) == ("", "tool_calls")
    assert (same["name"], same["arguments"]) == ("add", call.function.arguments)
    assert same["id"] != call.id


def test_a_call_that_is_required_is_one_of_the_tools(client: Any) -> None:
    answer = ask(client, tool_choice="required", parallel_tool_calls=False, n=2, temperature=1.5)
    for choice in answer.choices:
        (call,) = choice.message.tool_calls
        if choice.finish_reason == "tool_calls":  # else it is cut
            check(call.function.name, call.function.arguments)
    assert len({choice.message.tool_calls[0].id for choice in answer.choices}) == 2


@pytest.mark.parametrize("seed", range(2))
def test_calls_that_the_model_chooses_to_make_keep_to_their_schemas(client: Any, seed: int) -> None:
    fields = {"temperature": 1.2, "seed": seed, "messages": [HINT, ROME]}
    (choice,) = ask(client, **fields).choices
    made = [call.function.model_dump() for call in choice.message.tool_calls or ()]
    _, streamed_calls, streamed_reason = streamed(client, **fields)
    for calls, reason in ((made, choice.finish_reason), (streamed_calls, streamed_reason)):
        assert (reason == "tool_calls") <= bool(calls)
        for call in calls if reason == "tool_calls" else calls[:-1]:  # else the last may be cut
            check(call["name"], call["arguments"])


def test_an_answer_may_be_a_call_or_of_a_form(client: Any) -> None:
    schema = {
        "type": "object",
        "properties": {"sunny": {"type": "boolean"}},
        "required": ["sunny"],
        "additionalProperties": False,
    }
    form = {"type": "json_schema", "json_schema": {"name": "weather", "schema": schema}}
    (choice,) = ask(client, response_format=form).choices
    if choice.message.tool_calls:
        function = choice.message.tool_calls[0].function
        check(function.name, function.arguments)
    else:
        assert isinstance(json.loads(choice.message.content)["sunny"], bool)
    with pytest.raises(openai.BadRequestError, match="tools and a pattern cannot both"):
        ask(client, extra_body={"guided_regex": "a+"})


def test_a_schema_that_cannot_be_kept_to_is_refused_where_it_must_be(client: Any) -> None:
    function = {"name": "odd", "parameters": {"type": "object", "not": {"required": ["a"]}}}
    odd = {"type": "function", "function": function}
    assert ask(client, tools=[odd]).choices[0].message
    strict = {"type": "function", "function": {**function, "strict": True}}
    for fields in ({"tools": [strict]}, {"tools": [odd], "tool_choice": "required"}):
        with pytest.raises(openai.BadRequestError, match="tools: the grammar cannot be used"):
            ask(client, **fields)


def test_without_choice_the_prompt_is_as_without_tools(client: Any) -> None:
    none = ask(client, tool_choice="none")
    plain = client.chat.completions.create(model="geography", messages=[ROME])
    assert none.usage.prompt_tokens == plain.usage.prompt_tokens
    assert none.choices[0].message.content == plain.choices[0].message.content


def test_results_are_shown_in_the_order_of_their_calls(client: Any, server: Server) -> None:
    calls = [
        {
            "id": id_,
            "type": "function",
            "function": {"name": "add", "arguments": '{"a": 1, "b": 2}'},
        }
        for id_ in ("one", "two")
    ]
    made = [ROME, {"role": "assistant", "content": None, "tool_calls": calls}]
    first = {"role": "tool", "tool_call_id": "one", "content": "three"}
    second = {"role": "tool", "tool_call_id": "two", "content": "a much longer result: 3"}
    prompts = [
        httpx.post(f"{server.url}/tokenize", json={"messages": [*made, *results]}).json()["tokens"]
        for results in ([first, second], [second, first])
    ]
    assert prompts[0] == prompts[1]
    assert ask(client, messages=[*made, first, second]).choices[0].message
    without_tools = client.chat.completions.create(
        model="geography", messages=[*made, first, second]
    )
    assert without_tools.choices[0].message.content

    for messages, problem in (
        ([*made, first], "the call 'two' has no result"),
        ([*made, first, first], "the result for 'one' must follow"),
        ([ROME, first], "the result for 'one' must follow"),
        ([ROME, {**made[1], "tool_calls": calls[:1] * 2}], "the same id"),
        ([ROME, {"role": "assistant", "content": None}], "content is missing"),
        ([{**ROME, "tool_calls": calls}], "only the assistant makes tool_calls"),
    ):
        with pytest.raises(openai.BadRequestError, match=problem) as caught:
            ask(client, messages=messages)
        assert caught.value.body["param"] == "messages"


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ({"tools": [WEATHER, WEATHER]}, "two tools have the same name"),
        ({"tools": [], "tool_choice": "required"}, "there are no tools"),
        ({"tools": [WEATHER], "tool_choice": NAMED}, "names 'add', which is not in tools"),
        ({"tools": [{"type": "custom", "custom": {"name": "a"}}]}, "tools.0"),
        (
            {"tools": [{**ADD, "function": {"name": "a", "parameters": {"type": "array"}}}]},
            "object",
        ),
        ({"functions": [ADD["function"]]}, "give tools or functions, not both"),
    ],
)
def test_what_cannot_be_offered_is_refused_in_words(
    client: Any, fields: dict[str, Any], problem: str
) -> None:
    with pytest.raises(openai.BadRequestError, match=problem):
        ask(client, **fields)


class GetWeather(BaseModel):
    """The weather in a city."""

    city: Literal["Rome", "Paris"]
    unit: Literal["C", "F"]


def test_openais_parse_makes_objects_of_calls(client: Any) -> None:
    answer = client.chat.completions.parse(
        model="geography",
        messages=[ROME],
        tools=[openai.pydantic_function_tool(GetWeather)],
        tool_choice="required",
        parallel_tool_calls=False,
    )
    (call,) = answer.choices[0].message.tool_calls
    assert isinstance(call.function.parsed_arguments, GetWeather)
    with client.chat.completions.stream(
        model="geography",
        messages=[ROME],
        tools=[openai.pydantic_function_tool(GetWeather)],
        tool_choice="required",
        parallel_tool_calls=False,
    ) as stream:
        (same,) = stream.get_final_completion().choices[0].message.tool_calls
    assert same.function.parsed_arguments == call.function.parsed_arguments


def test_a_response_calls_and_goes_on_with_the_result(client: Any) -> None:
    asked: dict[str, Any] = {
        "model": "geography",
        "input": ROME["content"],
        "tools": [{"type": "function", **ADD["function"], "strict": True}],
        "tool_choice": {"type": "function", "name": "add"},
    }
    response = client.responses.create(**asked)
    (call,) = response.output
    assert (response.status, call.type, call.status) == ("completed", "function_call", "completed")
    check(call.name, call.arguments)

    with client.responses.create(**asked, stream=True) as stream:
        events = list(stream)
    kinds = [event.type.removeprefix("response.") for event in events]
    deltas = [event.delta for event in events if event.type.endswith("arguments.delta")]
    assert kinds == [
        *("created", "in_progress", "output_item.added"),
        *["function_call_arguments.delta"] * len(deltas),
        *("function_call_arguments.done", "output_item.done", "completed"),
    ]
    assert "".join(deltas) == events[-3].arguments == call.arguments

    result = {"type": "function_call_output", "call_id": call.call_id, "output": "3"}
    after = client.responses.create(
        model="geography", input=[result], previous_response_id=response.id
    )
    function = {"name": call.name, "arguments": call.arguments}
    chat = client.chat.completions.create(
        model="geography",
        messages=[
            ROME,
            {
                "role": "assistant",
                "tool_calls": [{"id": call.call_id, "type": "function", "function": function}],
            },
            {"role": "tool", "tool_call_id": call.call_id, "content": "3"},
        ],
    )
    assert after.usage.input_tokens == chat.usage.prompt_tokens
    assert after.output_text == chat.choices[0].message.content
    with pytest.raises(openai.BadRequestError, match="has no result"):
        client.responses.create(model="geography", input="And?", previous_response_id=response.id)


def test_functions_are_the_older_form_of_tools(client: Any, server: Server) -> None:
    functions = [tool["function"] for tool in TOOLS]
    asked: dict[str, Any] = {"model": "geography", "messages": [ROME]}
    named = {"functions": functions, "function_call": {"name": "add"}}
    (choice,) = client.chat.completions.create(**asked, **named).choices
    (call,) = ask(client, tool_choice=NAMED).choices[0].message.tool_calls
    said = choice.message
    assert (choice.finish_reason, said.content, said.tool_calls) == ("function_call", None, None)
    assert said.function_call.name == "add"
    assert said.function_call.arguments == call.function.arguments
    name = arguments = reason = ""
    for chunk in client.chat.completions.create(**asked, **named, stream=True):
        (part,) = chunk.choices
        if made := part.delta.function_call:
            name += made.name or ""
            arguments += made.arguments or ""
        reason = part.finish_reason or reason
    assert (name, arguments, reason) == ("add", call.function.arguments, "function_call")
    # The prompt of what follows is that of the newer form.
    result = {"role": "function", "name": "add", "content": "3"}
    older = [ROME, said.model_dump(exclude_none=True), result]
    calls = [{"id": "1", "type": "function", "function": said.function_call.model_dump()}]
    newer = [ROME, {"role": "assistant", "tool_calls": calls}]
    newer.append({"role": "tool", "tool_call_id": "1", "content": "3"})
    counts = [
        httpx.post(f"{server.url}/tokenize", json={"model": "geography", "messages": each}).json()
        for each in (older, newer)
    ]
    assert counts[0]["tokens"] == counts[1]["tokens"]
    after = client.chat.completions.create(
        model="geography", messages=older, functions=functions, max_tokens=8
    )
    assert after.choices[0].message.role == "assistant"


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"functions": [ADD["function"]], "tools": TOOLS}, "not both"),
        ({"function_call": {"name": "add"}}, "there are no functions"),
        ({"functions": [ADD["function"]], "function_call": {"name": "no"}}, "'no'"),
    ],
)
def test_functions_that_cannot_be_called_are_refused(
    server: Server, fields: dict[str, Any], told: str
) -> None:
    body = {"model": "geography", "messages": [ROME], **fields}
    response = httpx.post(f"{server.url}/v1/chat/completions", json=body)
    assert response.status_code == 400
    assert told in response.json()["error"]["message"]
