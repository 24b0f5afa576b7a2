"""Anthropic's /v1/messages, as its documentation has it. Its client is in test_serve_clients."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("fastapi")
pytest.importorskip("uvicorn")
pytest.importorskip("prometheus_client")
pytest.importorskip("httpx")

import httpx

from runtime.serve.anthropic.body import MessagesBody, chat_body
from runtime.serve.anthropic.events import MessageEvents
from runtime.serve.body.fields import REFUSED_IN_MESSAGES
from runtime.serve.errors import ApiError
from tests.serving import Server, serving

KEY = "secret"
FRANCE = {"role": "user", "content": "What is the capital of France?"}
ASKED: dict[str, Any] = {"model": "demo", "max_tokens": 8, "messages": [FRANCE]}


@pytest.fixture(scope="module")
def server(demo_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving(tmp_path_factory.mktemp("server"), SERVE_API_KEY=KEY) as server:
        yield server


@pytest.fixture(scope="module")
def http(server: Server) -> Iterator[httpx.Client]:
    headers = {"x-api-key": KEY, "anthropic-version": "2023-06-01"}
    with httpx.Client(base_url=server.url, headers=headers, timeout=60) as http:
        yield http


def test_an_answer_is_the_chats(http: httpx.Client) -> None:
    message = http.post("/v1/messages", json={**ASKED, "system": "Be brief."}).json()
    messages = [{"role": "system", "content": "Be brief."}, FRANCE]
    body = {"model": "demo", "max_tokens": 8, "messages": messages}
    chat = http.post("/v1/chat/completions", json=body, headers={"authorization": f"Bearer {KEY}"})
    (choice,) = chat.json()["choices"]
    assert message["content"] == [{"type": "text", "text": choice["message"]["content"]}]
    reasons = {"length": "max_tokens", "stop": "end_turn"}
    assert message["stop_reason"] == reasons[choice["finish_reason"]]
    usage = message["usage"]
    assert usage["output_tokens"] == chat.json()["usage"]["completion_tokens"]
    n_prompt = chat.json()["usage"]["prompt_tokens"]
    assert usage["input_tokens"] + usage["cache_read_input_tokens"] == n_prompt
    counted = http.post(
        "/v1/messages/count_tokens",
        json={"model": "demo", "system": "Be brief.", "messages": [FRANCE]},
    )
    assert counted.json() == {"input_tokens": n_prompt}


def test_a_stream_has_the_official_events(http: httpx.Client) -> None:
    whole = http.post("/v1/messages", json=ASKED).json()
    text = http.post("/v1/messages", json={**ASKED, "stream": True}).text
    events = []
    for block in text.removesuffix("\n\n").split("\n\n"):
        name, data = block.split("\n")
        events.append(json.loads(data.removeprefix("data: ")))
        assert name == f"event: {events[-1]['type']}"
    deltas = [event for event in events if event["type"] == "content_block_delta"]
    assert [event["type"] for event in events] == [
        *("message_start", "content_block_start"),
        *["content_block_delta"] * len(deltas),
        *("content_block_stop", "message_delta", "message_stop"),
    ]
    assert "".join(event["delta"]["text"] for event in deltas) == whole["content"][0]["text"]
    assert events[0]["message"]["content"] == []
    assert events[-2]["delta"]["stop_reason"] == whole["stop_reason"]
    assert events[-2]["usage"]["output_tokens"] == whole["usage"]["output_tokens"]


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"messages": [{"role": "user", "content": [{"type": "image"}]}]}, "messages"),
        ({"messages": [{"role": "user", "content": [{"type": "text"}]}]}, "messages"),
        ({"max_tokens": None}, "max_tokens"),
        ({"thinking": {"type": "enabled", "budget_tokens": 1024}}, "thinking"),
        ({"tools": [{"name": "a", "input_schema": {}}]}, "tools"),
        ({"tools": [{"type": "bash_20250124", "name": "bash"}]}, "tools"),
        ({"temperature": 11}, "temperature"),
    ],
)
def test_what_cannot_be_asked_names_the_field(
    http: httpx.Client, fields: dict[str, Any], param: str
) -> None:
    for stream in (False, True):
        response = http.post("/v1/messages", json={**ASKED, "stream": stream, **fields})
        assert response.status_code == 400
        assert_error(response, "invalid_request_error", param)


def assert_error(response: httpx.Response, kind: str, told: str) -> None:
    """It is an error in Anthropic's form, whose message has these words."""
    body = response.json()
    assert sorted(body) == ["error", "type"]
    assert sorted(body["error"]) == ["message", "type"]
    assert (body["type"], body["error"]["type"]) == ("error", kind)
    assert told in body["error"]["message"]


def test_errors_are_in_the_form_of_their_api(http: httpx.Client) -> None:
    denied = http.post("/v1/messages", json=ASKED, headers={"x-api-key": "no"})
    assert denied.status_code == 401
    assert_error(denied, "authentication_error", "API key")
    missing = http.post("/v1/messages", json={**ASKED, "model": "no-such-model"})
    assert missing.status_code == 404
    assert_error(missing, "not_found_error", "no-such-model")
    broken = http.post("/v1/messages/count_tokens", content=b"{")
    assert_error(broken, "invalid_request_error", "JSON")
    assert_error(http.get("/v1/messages"), "invalid_request_error", "Method Not Allowed")
    assert http.get("/v1/nothing").json()["error"]["param"] is None


@pytest.mark.parametrize("stream", [False, True])
def test_an_answer_says_which_stop_sequence_ended_it(http: httpx.Client, stream: bool) -> None:
    whole = http.post("/v1/messages", json=ASKED).json()["content"][0]["text"]
    stop = whole.split()[1]
    asked = {**ASKED, "stop_sequences": ["@@@", stop], "stream": stream}
    response = http.post("/v1/messages", json=asked)
    if stream:
        ends = [line for line in response.text.splitlines() if '"message_delta"' in line]
        said = json.loads(ends[0].removeprefix("data: "))["delta"]
    else:
        said = response.json()
        assert said["content"][0]["text"] == whole[: whole.index(stop)]
    assert (said["stop_reason"], said["stop_sequence"]) == ("stop_sequence", stop)


def test_fields_that_would_change_an_answer_are_refused_by_their_names() -> None:
    for field in REFUSED_IN_MESSAGES:
        with pytest.raises(ValueError, match=f"{field} is not served"):
            MessagesBody.model_validate({**ASKED, field: "strange"})


def test_calls_and_results_are_those_of_chats() -> None:
    sent = {
        **ASKED,
        "messages": [
            FRANCE,
            {
                "role": "assistant",
                "content": [
                    {"type": "text", "text": "Well."},
                    {"type": "tool_use", "id": "1", "name": "get", "input": {"key": "a"}},
                ],
            },
            {
                "role": "user",
                "content": [
                    {"type": "tool_result", "tool_use_id": "1", "content": "one"},
                    {"type": "text", "text": "And?"},
                ],
            },
        ],
        "tools": [{"name": "get", "input_schema": {"type": "object"}}],
        "tool_choice": {"type": "tool", "name": "get"},
        "stop_sequences": ["###"],
        "seed": 7,
    }
    chat = chat_body(MessagesBody.model_validate(sent), sent)
    roles = [message.role for message in chat.messages]
    assert roles == ["user", "assistant", "tool", "user"]
    (call,) = chat.messages[1].tool_calls or ()
    assert json.loads(call.function.arguments) == {"key": "a"}
    assert chat.messages[1].text == "Well."
    assert (chat.stops, chat.seed, chat.max_tokens) == (("###",), 7, 8)
    assert chat.offer is not None
    assert chat.offer.required


def test_calls_in_a_stream_are_blocks() -> None:
    events = MessageEvents("demo", 5)

    def chunk(reason: str | None = None, **delta: Any) -> dict[str, Any]:
        return {"choices": [{"delta": delta, "finish_reason": reason}]}

    def call(arguments: str, **more: Any) -> dict[str, Any]:
        return {"index": 0, "function": {"arguments": arguments, **more.pop("of", {})}, **more}

    made = [*events.begin()]
    for each in (
        chunk(content="Well."),
        chunk(tool_calls=[call('{"a"', id="1", of={"name": "get"})]),
        chunk(tool_calls=[call(": 1}")]),
        chunk("tool_calls"),
    ):
        made += events.add(each)
    made += events.finish()
    assert [event["type"].removeprefix("content_block_") for event in made] == [
        *("message_start", "start", "delta", "stop"),
        *("start", "delta", "delta", "stop", "message_delta", "message_stop"),
    ]
    assert [event["index"] for event in made if "index" in event] == [0, 0, 0, 1, 1, 1, 1]
    assert events.answer["stop_reason"] == "tool_use"
    assert events.answer["content"] == [
        {"type": "text", "text": "Well."},
        {"type": "tool_use", "id": "1", "name": "get", "input": {"a": 1}},
    ]
    assert events.fail(ApiError(504, "given up"))["error"]["message"] == "given up"
