"""/v1/responses, with OpenAI's client."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import pytest

pytest.importorskip("fastapi")
pytest.importorskip("uvicorn")
pytest.importorskip("prometheus_client")
pytest.importorskip("openai")
pytest.importorskip("httpx")

import httpx
import openai
from pydantic import BaseModel

from runtime.serve.errors import ApiError
from runtime.serve.responses.body import ResponseBody, messages_of
from runtime.serve.responses.events import ResponseEvents
from runtime.serve.responses.store import ResponseStore
from tests.serving import Server, serving

FRANCE = "What is the capital of France?"


@pytest.fixture(scope="module")
def server(demo_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving(tmp_path_factory.mktemp("server")) as server:
        yield server


@pytest.fixture(scope="module")
def client(server: Server) -> Any:
    return openai.OpenAI(base_url=f"{server.url}/v1", api_key="any", max_retries=0)


def asked(client: Any, **fields: Any) -> Any:
    usual = {"model": "geography", "input": FRANCE, "max_output_tokens": 24}
    return client.responses.create(**{**usual, **fields})


def test_a_response_is_the_chats_answer(client: Any) -> None:
    chat = client.chat.completions.create(
        model="geography", messages=[{"role": "user", "content": FRANCE}]
    )
    response = asked(client, metadata={"a": "b"})
    assert response.output_text == chat.choices[0].message.content
    assert (response.status, response.error, response.object) == ("completed", None, "response")
    assert response.metadata == {"a": "b"}
    usage = response.usage
    assert usage.input_tokens == chat.usage.prompt_tokens
    assert usage.output_tokens == chat.usage.completion_tokens
    assert usage.total_tokens == usage.input_tokens + usage.output_tokens
    assert usage.input_tokens_details.cached_tokens > 0  # the chat computed it
    assert response.route["model"] == "geography"


def test_a_stream_has_the_official_events_and_ends_with_the_response(client: Any) -> None:
    longer = {"model": "demo", "input": "Tell me about oceans."}
    with asked(client, stream=True, **longer) as stream:
        events = list(stream)
    kinds = [event.type.removeprefix("response.") for event in events]
    n_deltas = kinds.count("output_text.delta")
    assert n_deltas > 1
    assert kinds == [
        *("created", "in_progress", "output_item.added", "content_part.added"),
        *["output_text.delta"] * n_deltas,
        *("output_text.done", "content_part.done", "output_item.done"),
        events[-1].response.status,
    ]
    assert [event.sequence_number for event in events] == list(range(len(events)))
    texts = "".join(event.delta for event in events if event.type.endswith("text.delta"))
    whole = asked(client, **longer)
    assert texts == events[-1].response.output_text == whole.output_text
    assert events[0].response.output == []
    assert events[-1].response.usage.output_tokens == whole.usage.output_tokens
    with client.responses.stream(model="geography", input=FRANCE) as stream:
        assert stream.get_final_response().output_text == asked(client).output_text


def test_events_have_names_and_nothing_comes_after_the_last(server: Server) -> None:
    body = {"model": "demo", "input": "Hi", "stream": True, "max_output_tokens": 2}
    text = httpx.post(f"{server.url}/v1/responses", json=body, timeout=60).text
    blocks = text.removesuffix("\n\n").split("\n\n")
    for block in blocks:
        name, data = block.split("\n")
        assert name == f"event: {json.loads(data.removeprefix('data: '))['type']}"
    assert blocks[-1].startswith("event: response.incomplete\n")


def test_an_answer_at_its_limit_is_incomplete(client: Any) -> None:
    response = asked(client, model="demo", max_output_tokens=2)
    assert response.status == response.output[0].status == "incomplete"
    assert response.incomplete_details.reason == "max_output_tokens"
    assert response.usage.output_tokens == 2


def test_a_conversation_goes_on_from_a_stored_response(client: Any) -> None:
    first = asked(client, model="demo", instructions="Be brief.", input="Name an ocean.")
    assert client.responses.retrieve(first.id).output_text == first.output_text
    second = asked(client, model="demo", input="Another.", previous_response_id=first.id)
    # Instructions are of one response only.
    messages = [
        {"role": "user", "content": "Name an ocean."},
        {"role": "assistant", "content": first.output_text},
        {"role": "user", "content": "Another."},
    ]
    chat = client.chat.completions.create(model="demo", messages=messages, max_tokens=24)
    assert second.usage.input_tokens == chat.usage.prompt_tokens
    assert second.output_text == chat.choices[0].message.content
    sent = asked(client, model="demo", input=[*messages[:1], *first.output, messages[2]])
    assert sent.output_text == second.output_text
    client.responses.delete(first.id)
    for ask in (
        lambda: client.responses.retrieve(first.id),
        lambda: asked(client, previous_response_id=first.id),
    ):
        with pytest.raises(openai.NotFoundError, match="send the whole conversation"):
            ask()
    kept_not = asked(client, store=False)
    with pytest.raises(openai.NotFoundError):
        client.responses.retrieve(kept_not.id)


def test_log_probabilities(client: Any) -> None:
    fields = {"model": "demo", "include": ["message.output_text.logprobs"], "top_logprobs": 2}
    response = asked(client, **fields)
    scores = response.output[0].content[0].logprobs
    assert "".join(score.token for score in scores).startswith(response.output_text)
    assert all(len(score.top_logprobs) == 2 for score in scores)
    with asked(client, stream=True, **fields) as stream:
        streamed = [s for e in stream if e.type.endswith("text.delta") for s in e.logprobs]
    assert [s.token for s in streamed] == [s.token for s in scores]


class City(BaseModel):
    name: Literal["Paris", "Rome"]


def test_structured_output_is_parsed(client: Any) -> None:
    pytest.importorskip("llguidance")
    wanted: dict[str, Any] = {"model": "geography", "input": FRANCE, "max_output_tokens": 96}
    response = client.responses.parse(text_format=City, **wanted)
    assert isinstance(response.output_parsed, City)
    with client.responses.stream(text_format=City, **wanted) as stream:
        assert stream.get_final_response().output_parsed == response.output_parsed
    anything = asked(client, model="demo", text={"format": {"type": "json_object"}}, temperature=1)
    assert anything.output_text.startswith("{")


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"input": [{"role": "user", "content": [{"type": "input_image"}]}]}, "input"),
        ({"input": [{"type": "item_reference", "id": "msg_1"}]}, "input"),
        ({"input": [{"type": "function_call_output", "call_id": "a", "output": "1"}]}, "input"),
        ({"input": "a b " * 500, "model": "demo"}, "input"),
        ({"input": []}, "input"),
        ({"model": "none"}, "model"),
        ({"max_output_tokens": 0}, "max_output_tokens"),
        ({"temperature": 11}, "temperature"),
        ({"tools": [{"type": "web_search"}]}, "tools"),
        ({"tools": [{"type": "function", "name": "get", "parameters": {}}]}, "tools"),
        ({"background": True}, "background"),
        ({"text": {"format": {"type": "json_schema", "name": "a"}}}, "text"),
        ({"reasoning": {"effort": "high"}}, "reasoning"),
    ],
)
def test_what_cannot_be_asked_names_the_field(
    client: Any, fields: dict[str, Any], param: str
) -> None:
    with pytest.raises(openai.APIStatusError) as caught:
        asked(client, **fields)
    assert caught.value.body["param"] == param
    with pytest.raises(openai.APIStatusError):
        asked(client, stream=True, **fields)


def test_embeddings_are_refused_in_words(client: Any) -> None:
    with pytest.raises(openai.BadRequestError, match="run an embedding model beside it"):
        client.embeddings.create(model="demo", input="Hi")


def test_calls_and_their_results_are_messages() -> None:
    call = {"type": "function_call", "call_id": "1", "name": "get", "arguments": "{}"}
    body = ResponseBody.model_validate(
        {
            "model": "demo",
            "input": [
                {"role": "user", "content": [{"type": "input_text", "text": "Hi"}]},
                {"type": "message", "role": "assistant", "content": "Well."},
                call,
                {**call, "call_id": "2"},
                {"type": "function_call_output", "call_id": "1", "output": "one"},
                {"type": "function_call_output", "call_id": "2", "output": "two"},
            ],
        }
    )
    user, assistant, *results = messages_of(body)
    assert user == {"role": "user", "content": "Hi"}
    assert assistant["content"] == "Well."
    assert [call["id"] for call in assistant["tool_calls"]] == ["1", "2"]
    assert [(result["tool_call_id"], result["content"]) for result in results] == [
        ("1", "one"),
        ("2", "two"),
    ]


def test_a_failure_after_the_first_event_is_an_event() -> None:
    events = ResponseEvents(ResponseBody(model="demo", input="Hi"))
    first = list(events.begin())
    failed = events.fail(ApiError(504, "given up"))
    assert failed["type"] == "response.failed"
    assert failed["response"]["error"] == {"code": "server_error", "message": "given up"}
    assert first[0]["response"]["status"] == "in_progress"  # as it was then


def test_the_store_is_bounded_by_number_and_bytes() -> None:
    def response(name: str) -> dict[str, Any]:
        return {"id": name}

    store = ResponseStore(most=2)
    for name in "ab":
        store.keep(response(name), [])
    store.find("a")
    store.keep(response("c"), [])
    assert [store.find(name).response["id"] for name in "ac"] == ["a", "c"]
    with pytest.raises(ApiError):
        store.find("b")
    small = ResponseStore(size=100)
    for name in "abcdefgh":
        small.keep(response(name), [{"role": "user", "content": "x" * 40}])
    assert len(small._kept) == 1
    small.keep(response("large"), [{"role": "user", "content": "x" * 1000}])
    assert (len(small._kept), small._bytes) == (0, 0)
