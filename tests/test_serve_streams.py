"""Streams of events: the head comes at once, and comments keep silent ones open."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import openai
import pytest

from runtime.serve.errors import ApiError
from runtime.serve.web import hangups
from tests.serving import Server, serving

HEAD = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": "demo"}


def chunk(text: str) -> dict[str, Any]:
    choice = {"index": 0, "finish_reason": None, "logprobs": None, "delta": {"content": text}}
    return {**HEAD, "choices": [choice]}


@asynccontextmanager
async def streaming(chunks: Callable[[], Any]) -> AsyncIterator[Any]:
    """OpenAI's client of a real HTTP server that answers everything with a stream."""
    import uvicorn

    async def app(scope: Any, receive: Any, send: Any) -> None:
        while (await receive()).get("more_body"):
            pass
        await hangups.EventStream(chunks())(scope, receive, send)

    server = uvicorn.Server(uvicorn.Config(app, port=0, log_config=None, lifespan="off"))
    task = asyncio.create_task(server.serve())
    while not server.started:
        await asyncio.sleep(0.01)
    host, port = server.servers[0].sockets[0].getsockname()
    try:
        async with openai.AsyncOpenAI(
            base_url=f"http://{host}:{port}/v1", api_key="any", max_retries=0
        ) as client:
            yield client
    finally:
        server.should_exit = True
        await task


def test_comments_fill_silence_and_openais_client_ignores_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(hangups, "SILENCE", 0.05)

    async def slow() -> AsyncIterator[Any]:
        yield None
        await asyncio.sleep(0.3)
        yield chunk("Par")
        await asyncio.sleep(0.3)
        yield chunk("is")

    async def run() -> None:
        async with streaming(slow) as client:
            stream = await client.chat.completions.create(model="demo", messages=[], stream=True)
            texts = [part.choices[0].delta.content async for part in stream]
            assert texts == ["Par", "is"]
            async with client.chat.completions.with_streaming_response.create(
                model="demo", messages=[], stream=True
            ) as response:
                text = (await response.read()).decode()
        before, between, after = text.split("data: ")[:3]
        for part in (before, between):
            assert 2 <= part.count(": waiting\n\n") <= 6
        assert ": waiting" not in after
        assert text.endswith("data: [DONE]\n\n")

    asyncio.run(run())


def test_an_error_keeps_its_status_until_the_request_is_accepted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(hangups, "SILENCE", 0.5)

    def failing(accepted: bool) -> Callable[[], Any]:
        async def chunks() -> AsyncIterator[Any]:
            if accepted:
                yield None
            raise ApiError(429, "too many wait")

        return chunks

    async def run() -> None:
        ask = {"model": "demo", "messages": [], "stream": True}
        async with streaming(failing(accepted=False)) as client:
            with pytest.raises(openai.RateLimitError, match="too many wait"):
                await client.chat.completions.create(**ask)
        async with streaming(failing(accepted=True)) as client:
            stream = await client.chat.completions.create(**ask)
            with pytest.raises(openai.APIError, match="too many wait"):
                [part async for part in stream]

    asyncio.run(run())


@pytest.fixture(scope="module")
def server(demo_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("server")
    settings = {"ADAPTERS_BASE_DIR": "", "MAX_INPUT_TOKENS": "2048"}
    with serving(folder, "--deadline", "5", "--access-log", BATCH_SIZE="1", **settings) as server:
        yield server


def test_the_head_comes_before_the_first_token(server: Server) -> None:
    endless = {"model": "demo", "prompt": "A", "max_tokens": 2000, "ignore_eos": True}
    body = json.dumps({**endless, "stream": True}).encode()
    head = (
        "POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    )
    with (
        socket.create_connection(server.address, timeout=30) as first,
        socket.create_connection(server.address, timeout=30) as second,
    ):
        first.sendall(head.encode() + body)
        received = b""
        while b"data: " not in received:
            received += first.recv(4096)
        second.sendall(head.encode() + body)  # waits for the slot, up to the deadline
        received = b""
        while b"\r\n\r\n" not in received:
            received += second.recv(4096)
        assert received.startswith(b"HTTP/1.1 200")
        assert b"text/event-stream" in received
        assert b"data: " not in received
        first.close()
        while b"data: " not in received:
            received += second.recv(4096)
        assert b'"choices"' in received


def test_offsets_of_streamed_tokens_count_on(server: Server) -> None:
    client = openai.OpenAI(base_url=f"{server.url}/v1", api_key="any", max_retries=0)
    emoji = {
        "model": "demo",
        "prompt": "🎉 🎈 🎉 🎈 🎉",
        "max_tokens": 12,
        "logprobs": 0,
        "seed": 1,
    }
    for ask in (emoji, {**emoji, "prompt": "One, two,", "n": 2, "temperature": 1}):
        more = {"extra_body": {"ignore_eos": True}}
        whole = client.completions.create(**ask, **more)
        found: dict[int, list[int]] = {choice.index: [] for choice in whole.choices}
        for part in client.completions.create(**ask, **more, stream=True):
            for choice in part.choices:
                if choice.logprobs:
                    found[choice.index] += choice.logprobs.text_offset
        for choice in whole.choices:
            assert found[choice.index] == choice.logprobs.text_offset
            assert max(choice.logprobs.text_offset) <= len(choice.text)
            assert choice.logprobs.text_offset[0] == 0
            assert choice.logprobs.text_offset[-1] > 0


def test_each_response_has_a_request_id_and_the_log_a_line(server: Server) -> None:
    client = openai.OpenAI(base_url=f"{server.url}/v1", api_key="any", max_retries=0)
    ask: dict[str, Any] = {"model": "demo", "prompt": "A", "max_tokens": 1}
    made = [client.completions.create(**ask)._request_id for _ in range(2)]
    assert len({*made, None}) == 3
    own = {"x-request-id": "mine-7"}
    assert client.completions.create(**ask, extra_headers=own)._request_id == "mine-7"
    with pytest.raises(openai.NotFoundError) as caught:
        client.models.retrieve("none\nsuch", extra_headers=own)
    assert caught.value.request_id == "mine-7"
    odd = client.completions.create(**ask, extra_headers={"x-request-id": "two words"})
    assert odd._request_id not in ("two words", None)
    lines = [line for line in server.log.read_text("utf-8").splitlines() if "mine-7" in line]
    assert "POST /v1/completions 200 " in lines[0]
    assert "GET /v1/models/none%0Asuch 404 " in lines[1]
