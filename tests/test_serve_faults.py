"""What goes wrong at a server: bad requests, too many, clients that hang up, being stopped."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import json
import socket
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from runtime import Pipeline
from runtime.common.offline import OfflineError, guard
from tests.serving import Server, serving

pytest.importorskip("fastapi")
pytest.importorskip("uvicorn")
pytest.importorskip("prometheus_client")
httpx = pytest.importorskip("httpx")

KEY = "a secret"
# Takes minutes: it must be ended, not waited for.
ENDLESS = {"model": "demo", "prompt": "A", "max_tokens": 2000, "ignore_eos": True}
TINY = {"model": "demo", "prompt": "A", "max_tokens": 1}
CHAT = {"model": "demo", "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 1}


@pytest.fixture(scope="module")
def server(demo_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("server")
    arguments = ("--queue", "6", "--body-mb", "1")
    settings = {"ADAPTERS_BASE_DIR": "", "ALGEBRA_TOOL": "off", "MAX_INPUT_TOKENS": "2048"}
    with serving(folder, *arguments, SERVE_API_KEY=KEY, BATCH_SIZE="4", **settings) as server:
        yield server


@pytest.fixture(scope="module")
def http(server: Server) -> Iterator[Any]:
    headers = {"Authorization": f"Bearer {KEY}"}
    with httpx.Client(base_url=server.url, timeout=60, headers=headers) as http:
        yield http


def raw_request(server: Server, body: bytes, length: int | None = None) -> socket.socket:
    """A connection on which a request has been sent, or the beginning of one."""
    connection = socket.create_connection(server.address, timeout=30)
    head = (
        f"POST /v1/completions HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {KEY}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {length or len(body)}\r\n\r\n"
    )
    connection.sendall(head.encode() + body)
    return connection


def until(holds: Callable[[], bool], seconds: float = 30) -> None:
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.02)


def problem(response: Any, status: int) -> dict[str, Any]:
    """The error of a response, which is in OpenAI's form."""
    assert response.status_code == status, response.text
    error = response.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert error["message"]
    return dict(error)


def test_the_key_is_wanted_everywhere_but_where_nothing_is_to_be_had(server: Server) -> None:
    for headers in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": f"Basic {KEY}"}):
        with httpx.Client(base_url=server.url, headers=headers) as stranger:
            error = problem(stranger.post("/v1/completions", json=TINY), 401)
            assert error["code"] == "invalid_api_key"
            for path in ("/v1/models", "/tokenizer_info", "/v1/files", "/v1/nothing"):
                problem(stranger.get(path), 401)
            for path in ("/", "/health", "/version", "/metrics"):
                assert stranger.get(path).status_code == 200


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b'{"model": "demo", "prompt": ',
        b"[]",
        b"null",
        b'"text"',
        b"\xff\xfe{}",
        b"[" * 100_000,
        b'{"model": "demo", "prompt": "A", "max_tokens": ' + b"9" * 5000 + b"}",
        b'{"model": "demo", "prompt": "A", "temperature": NaN}',
        b'{"model": "demo", "prompt": "A", "temperature": Infinity}',
    ],
    ids=range(11),
)
def test_what_is_no_body_is_refused(http: Any, body: bytes) -> None:
    headers = {"Content-Type": "application/json"}
    error = problem(http.post("/v1/completions", content=body, headers=headers), 400)
    assert error["type"] == "invalid_request_error"


@pytest.mark.parametrize(
    ("path", "schema", "base"),
    [
        ("/v1/completions", "CompletionBody", TINY),
        ("/v1/chat/completions", "ChatBody", CHAT),
        ("/tokenize", "TokenizeBody", {"prompt": "A"}),
        ("/detokenize", "DetokenizeBody", {"tokens": [5]}),
    ],
)
def test_wrong_types_of_every_field_are_told(
    http: Any, path: str, schema: str, base: dict[str, Any]
) -> None:
    fields = http.get("/openapi.json").json()["components"]["schemas"][schema]["properties"]
    assert len(fields) >= 2
    strange = [True, 0.5, -7, "x", [], [None], [[]], {}, {"a": 1}, 2**70, "", "\x00", [{"role": 1}]]
    n_refused = 0
    for field in fields:
        for value in strange:
            body = {**base, field: value}
            if field == "stream" and value is True:
                continue
            response = http.post(path, json=body)
            if response.status_code != 200:
                error = problem(response, 404 if response.status_code == 404 else 400)
                n_refused += 1
                assert error["param"] in (field, None, "model", "messages", "prompt")
    assert n_refused > 6 * len(fields)


@pytest.mark.parametrize(
    ("more", "param"),
    [
        ({"temperature": -1}, "temperature"),
        ({"temperature": "1"}, "temperature"),
        ({"top_p": 0}, "top_p"),
        ({"n": 0}, "n"),
        ({"stop": ""}, "stop"),
        ({"logprobs": 21}, "logprobs"),
        ({"prompt": []}, "prompt"),
        ({"prompt": ""}, "prompt"),
        ({"prompt": [10**8]}, "prompt"),
        ({"prompt": "A " * 3000}, "prompt"),
        ({"min_tokens": 5}, "min_tokens"),
        ({"frequency_penalty": 1.0}, "frequency_penalty"),
        ({"model": "gpt-4"}, "model"),
    ],
)
def test_the_field_that_is_wrong_is_named(http: Any, more: dict[str, Any], param: str) -> None:
    body = {**TINY, **more}
    error = problem(http.post("/v1/completions", json=body), 404 if param == "model" else 400)
    assert error["param"] == param


def test_what_is_not_served_is_refused_and_not_ignored(http: Any) -> None:
    for more in (
        {"tools": [{"type": "function"}]},
        {"response_format": {"type": "json_object"}},
        {"logit_bias": {"5": 1}},
        {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {}}]}]},
        {"messages": [{"role": "tool", "content": "x"}]},
        {"stream_options": {"include_usage": True}},
    ):
        problem(http.post("/v1/chat/completions", json={**CHAT, **more}), 400)
    extra = {"user": "me", "store": False, "metadata": {"a": "b"}, "tools": []}
    assert http.post("/v1/chat/completions", json={**CHAT, **extra}).status_code == 200


def test_there_is_no_such_address_or_method(http: Any) -> None:
    problem(http.get("/v1/nothing"), 404)
    problem(http.get("/v1/completions"), 405)
    problem(http.post("/v1/load_lora_adapter", json={"lora_name": "a", "lora_path": "b"}), 403)
    problem(http.get("/v1/batches"), 501)


def test_a_body_that_is_sent_wrongly_is_told_how_to_be_sent(http: Any) -> None:
    body = json.dumps(TINY)
    form = {"Content-Type": "application/x-www-form-urlencoded"}  # as curl -d sends it
    error = problem(http.post("/v1/completions", content=body, headers=form), 400)
    assert "Content-Type: application/json" in error["message"]
    packed = {"Content-Type": "application/json", "Content-Encoding": "gzip"}
    content = gzip.compress(body.encode())
    error = problem(http.post("/v1/completions", content=content, headers=packed), 415)
    assert "Content-Encoding: gzip is not served" in error["message"]


def test_head_is_get_without_the_body(http: Any) -> None:
    for path in ("/health", "/", "/v1/models"):
        response = http.head(path)
        assert (response.status_code, response.content) == (200, b""), path
    problem(http.get("/v1/nothing"), 404)
    assert http.head("/v1/nothing").status_code == 404


def test_bodies_that_are_too_large_are_refused_and_take_no_memory(
    http: Any, server: Server
) -> None:
    psutil = pytest.importorskip("psutil")
    process = psutil.Process(server.process.pid)
    before = process.memory_info().rss
    huge = b"x" * (100 * 2**20)
    headers = {"Content-Type": "application/json"}
    assert problem(http.post("/v1/completions", content=huge, headers=headers), 413)

    def pieces() -> Iterator[bytes]:  # with no length said before
        for _ in range(100):
            yield huge[: 2**20]

    assert problem(http.post("/v1/completions", content=pieces(), headers=headers), 413)
    assert process.memory_info().rss - before < 50 * 2**20
    assert http.post("/v1/completions", json=TINY).status_code == 200


def test_half_bodies_cost_nobody_anything(http: Any, server: Server) -> None:
    body = json.dumps(TINY).encode()
    left = [raw_request(server, body[:10], len(body)) for _ in range(20)]
    for connection in left[:10]:
        connection.close()
    assert http.post("/v1/completions", json=TINY).status_code == 200
    for connection in left[10:]:
        connection.sendall(body[10:])  # late, but in time
        assert connection.recv(12) == b"HTTP/1.1 200"
        connection.close()


@pytest.mark.parametrize("stream", [False, True])
def test_a_client_that_hangs_up_frees_its_slot(http: Any, server: Server, stream: bool) -> None:
    def load() -> tuple[int, int]:
        found = http.get("/health").json()
        return found["running"], found["waiting"]

    body = json.dumps({**ENDLESS, "stream": stream}).encode()
    connections = [raw_request(server, body) for _ in range(6)]
    until(lambda: sum(load()) == 6)
    for connection in connections:
        connection.close()
    until(lambda: load() == (0, 0), seconds=5)
    assert http.post("/v1/completions", json=TINY).status_code == 200


def test_too_many_are_told_when_to_come_again(http: Any, server: Server) -> None:
    body = json.dumps(ENDLESS).encode()
    connections = [raw_request(server, body) for _ in range(16)]
    try:
        # Of 16 some are refused at once; but then the first get slots, and there is room again.
        # The server may also read the short question before the endless ones, and answer it.
        refused = None
        while refused is None or refused.status_code == 200:
            connections.append(raw_request(server, body))
            with contextlib.suppress(httpx.ReadTimeout):  # let in, where it waits for ever
                refused = http.post("/v1/completions", json=TINY, timeout=1)
        assert problem(refused, 429)["type"] == "rate_limit_error"
        assert 1 <= int(refused.headers["retry-after"]) <= 60
    finally:
        for connection in connections:
            connection.close()
    until(lambda: http.post("/v1/completions", json=TINY).status_code == 200)


def test_of_many_at_once_each_gets_its_own_answer(http: Any) -> None:
    def ask(number: int) -> bool:
        body = {**TINY, "prompt": f"Number {number}:", "echo": True}
        while True:
            response = http.post("/v1/completions", json=body)
            if response.status_code != 429:
                text = response.json()["choices"][0]["text"]
                return bool(text.startswith(f"Number {number}:"))
            time.sleep(0.05)

    with ThreadPoolExecutor(16) as pool:
        assert all(pool.map(ask, range(80)))


def test_idle_connections_keep_nobody_out(demo_model: Path, tmp_path: Path) -> None:
    psutil = pytest.importorskip("psutil")
    resource = pytest.importorskip("resource")
    with serving(tmp_path, ADAPTERS_BASE_DIR="", ALGEBRA_TOOL="off") as server:
        process = psutil.Process(server.process.pid)
        limit = process.num_fds() + 60
        resource.prlimit(server.process.pid, resource.RLIMIT_NOFILE, (limit, limit))
        idle = []
        for number in range(200):
            idle.append(socket.create_connection(server.address, timeout=30))
            if number % 2:
                idle[-1].sendall(b"POST /v1/completions HTTP/1.1\r\nHost: x\r\n")
        for _ in range(5):
            assert httpx.get(f"{server.url}/health", timeout=20).status_code == 200
        assert httpx.post(f"{server.url}/v1/completions", json=TINY, timeout=30).status_code == 200
        assert process.num_fds() <= limit
        for connection in idle:
            connection.close()
        assert len(server.log.read_bytes()) < 20_000
        assert "Traceback" not in server.log.read_text("utf-8")


def test_half_a_head_is_not_waited_for(pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch) -> None:
    import uvicorn

    from runtime.serve import connections

    monkeypatch.setattr(connections, "PATIENCE", 0.3)

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            await send({"type": "http.response.start", "status": 204, "headers": []})
            await send({"type": "http.response.body", "body": b""})

    async def run() -> None:
        config = uvicorn.Config(
            app, port=0, http=connections.PatientProtocol, log_config=None, lifespan="off"
        )
        server = uvicorn.Server(config)
        task = asyncio.create_task(server.serve())
        while not server.started:
            await asyncio.sleep(0.01)
        port = server.servers[0].sockets[0].getsockname()[1]
        whole = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
        for before in (b"", b"GET / HTTP/1.1\r\n", whole + b"GET / HT"):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(before)
            read = await asyncio.wait_for(reader.read(), 10)  # until it is closed
            assert read.count(b"HTTP/1.1 204") == before.count(whole)
            writer.close()
        server.should_exit = True
        await task

    asyncio.run(run())


def test_a_port_that_is_taken_is_told_at_once(server: Server, tmp_path: Path) -> None:
    port = str(server.address[1])
    with (
        pytest.raises(AssertionError, match=f"cannot listen on 127.0.0.1:{port}"),
        serving(tmp_path, "--port", port),
    ):
        pass


def test_asked_to_stop_it_finishes_what_runs(server: Server, http: Any) -> None:
    """The last here, as it stops the server."""
    body = {**TINY, "prompt": "Once upon", "max_tokens": 30, "ignore_eos": True}
    with ThreadPoolExecutor(3) as pool:
        running = [pool.submit(http.post, "/v1/completions", json=body) for _ in range(3)]
        until(lambda: http.get("/health").json()["running"] > 0)
        assert server.stop() == 0
        for future in running:
            assert future.result().json()["usage"]["completion_tokens"] == 30
    assert "Traceback" not in server.log.read_text("utf-8")


# Within this process


def test_a_body_that_never_fits_the_queue_is_refused_at_once(pipeline: Pipeline) -> None:
    async def test(client: Any) -> None:
        body = {**TINY, "prompt": ["A"] * 600}
        error = problem(await client.post("/v1/completions", json=body), 400)
        assert "600 requests in one body are too many here" in error["message"]
        fits = {**TINY, "prompt": ["A"] * 64}
        assert (await client.post("/v1/completions", json=fits)).status_code == 200

    serve_here(pipeline, test, queue=64)


def serve_here(pipeline: Pipeline, test: Callable[[Any], Any], **options: Any) -> None:
    """Run an asynchronous test with a client of a server in this process."""
    from runtime.serve.app import make_app
    from runtime.serve.options import Options

    async def run() -> None:
        app = make_app(pipeline, Options(**options))
        transport = httpx.ASGITransport(app)
        async with (
            app.router.lifespan_context(app),
            httpx.AsyncClient(transport=transport, base_url="http://here", timeout=60) as client,
        ):
            await test(client)

    asyncio.run(run())


def test_what_takes_too_long_is_given_up(pipeline: Pipeline) -> None:
    async def test(client: Any) -> None:
        body = {**ENDLESS, "prompt": ["A"] * 200}
        error = problem(await client.post("/v1/completions", json=body), 504)
        assert error["code"] == "timeout"
        response = await client.post("/v1/completions", json={**body, "stream": True})
        *_, event, done = [line for line in response.text.split("\n") if line]
        assert json.loads(event.removeprefix("data: "))["error"]["code"] == "timeout"
        assert done == "data: [DONE]"
        health = (await client.get("/health")).json()
        while health["running"] or health["waiting"]:
            await asyncio.sleep(0.01)
            health = (await client.get("/health")).json()

    serve_here(pipeline, test, deadline=1.0)
    assert pipeline([{"questionID": 1, "question": "Hi"}])[0]["answer"]


def test_the_offline_guard_is_in_force_while_it_serves(pipeline: Pipeline) -> None:
    async def test(client: Any) -> None:
        assert (await client.post("/v1/completions", json=TINY)).status_code == 200
        with pytest.raises(OfflineError):
            socket.create_connection(("192.0.2.1", 80), timeout=0.2)

    with guard("process"):
        serve_here(pipeline, test)


def test_it_serves_under_the_strictest_guard(demo_model: Path, tmp_path: Path) -> None:
    settings = {"ADAPTERS_BASE_DIR": "", "ALGEBRA_TOOL": "off", "OFFLINE_GUARD": "process"}
    with serving(tmp_path, **settings) as server:
        assert httpx.post(f"{server.url}/v1/completions", json=TINY).status_code == 200
