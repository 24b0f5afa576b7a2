"""What goes wrong at a server: too many, clients that hang up, being stopped."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from runtime import Pipeline
from runtime.common.offline import OfflineError, guard
from tests.limited_server import ENDLESS, KEY, TINY, problem
from tests.serving import Server, patient_server, serve_here, serving

pytest_plugins = ["tests.limited_server"]


def raw_request(server: Server, body: bytes, length: int | None = None) -> socket.socket:
    """A connection on which a request has been sent, or the beginning of one."""
    connection = socket.create_connection(server.address, timeout=30)
    head = (
        f"POST /v1/completions HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {KEY}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {length or len(body)}\r\n\r\n"
    )
    connection.sendall(head.encode() + body)
    return connection


def until(holds: Callable[[], bool], seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.02)


def test_half_bodies_cost_nobody_anything(keyed: Any, limited: Server) -> None:
    body = json.dumps(TINY).encode()
    left = [raw_request(limited, body[:10], len(body)) for _ in range(20)]
    for connection in left[:10]:
        connection.close()
    assert keyed.post("/v1/completions", json=TINY).status_code == 200
    for connection in left[10:]:
        connection.sendall(body[10:])  # late, but in time
        assert connection.recv(12) == b"HTTP/1.1 200"
        connection.close()


@pytest.mark.parametrize("stream", [False, True])
def test_a_client_that_hangs_up_frees_its_slot(keyed: Any, limited: Server, stream: bool) -> None:
    def load() -> tuple[int, int]:
        found = keyed.get("/health").json()
        return found["running"], found["waiting"]

    body = json.dumps({**ENDLESS, "stream": stream}).encode()
    connections = [raw_request(limited, body) for _ in range(6)]
    until(lambda: sum(load()) == 6)
    for connection in connections:
        connection.close()
    until(lambda: load() == (0, 0))
    assert keyed.post("/v1/completions", json=TINY).status_code == 200


def test_too_many_are_told_when_to_come_again(keyed: Any, limited: Server) -> None:
    body = json.dumps(ENDLESS).encode()
    connections = [raw_request(limited, body) for _ in range(16)]
    try:
        # Of 16 some are refused at once; but then the first get slots, and there is room again.
        # The server may also read the short question before the endless ones, and answer it.
        refused = None
        while refused is None or refused.status_code == 200:
            connections.append(raw_request(limited, body))
            with contextlib.suppress(httpx.ReadTimeout):  # let in, where it waits for ever
                refused = keyed.post("/v1/completions", json=TINY, timeout=1)
        assert problem(refused, 429)["type"] == "rate_limit_error"
        assert 1 <= int(refused.headers["retry-after"]) <= 60
    finally:
        for connection in connections:
            connection.close()
    until(lambda: keyed.post("/v1/completions", json=TINY).status_code == 200)


def test_of_many_at_once_each_gets_its_own_answer(keyed: Any) -> None:
    def ask(number: int) -> bool:
        body = {**TINY, "prompt": f"Number {number}:", "echo": True}
        while True:
            response = keyed.post("/v1/completions", json=body)
            if response.status_code != 429:
                text = response.json()["choices"][0]["text"]
                return bool(text.startswith(f"Number {number}:"))
            time.sleep(0.05)

    with ThreadPoolExecutor(16) as pool:
        assert all(pool.map(ask, range(80)))


def test_idle_connections_keep_nobody_out(demo_model: Path, tmp_path: Path) -> None:
    resource = pytest.importorskip("resource")
    with serving(tmp_path, ADAPTERS_BASE_DIR="") as server:
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
        assert httpx.post(f"{server.url}/v1/completions", json=TINY, timeout=60).status_code == 200
        assert process.num_fds() <= limit
        for connection in idle:
            connection.close()
        assert len(server.log.read_bytes()) < 20_000
        assert "Traceback" not in server.log.read_text("utf-8")


def test_half_a_head_is_not_waited_for(pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch) -> None:
    from runtime.serve.web import connections

    monkeypatch.setattr(connections, "PATIENCE", 0.3)

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            await send({"type": "http.response.start", "status": 204, "headers": []})
            await send({"type": "http.response.body", "body": b""})

    async def run() -> None:
        whole = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
        async with patient_server(app) as (_, port):
            for before in (b"", b"GET / HTTP/1.1\r\n", whole + b"GET / HT"):
                reader, writer = await asyncio.open_connection("127.0.0.1", port)
                writer.write(before)
                read = await asyncio.wait_for(reader.read(), 10)  # until it is closed
                assert read.count(b"HTTP/1.1 204") == before.count(whole)
                writer.close()

    asyncio.run(run())


def test_a_port_that_is_taken_is_told_at_once(limited: Server, tmp_path: Path) -> None:
    port = str(limited.address[1])
    with (
        pytest.raises(AssertionError, match=f"cannot listen on 127.0.0.1:{port}"),
        serving(tmp_path, "--port", port),
    ):
        pass


def test_a_body_that_never_fits_the_queue_is_refused_at_once(pipeline: Pipeline) -> None:
    async def test(client: Any) -> None:
        body = {**TINY, "prompt": ["A"] * 600}
        error = problem(await client.post("/v1/completions", json=body), 400)
        assert "600 requests in one body are too many here" in error["message"]
        fits = {**TINY, "prompt": ["A"] * 64}
        assert (await client.post("/v1/completions", json=fits)).status_code == 200

    serve_here(pipeline, test, queue=64)


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


def test_under_the_strictest_guard_it_serves_and_finishes_what_runs_when_asked_to_stop(
    demo_model: Path, tmp_path: Path
) -> None:
    settings = {"ADAPTERS_BASE_DIR": "", "OFFLINE_GUARD": "process"}
    body = {**TINY, "prompt": "Once upon", "max_tokens": 30, "ignore_eos": True}
    with (
        serving(tmp_path, **settings) as server,
        httpx.Client(base_url=server.url, timeout=60) as http,
        ThreadPoolExecutor(3) as pool,
    ):
        running = [pool.submit(http.post, "/v1/completions", json=body) for _ in range(3)]
        until(lambda: http.get("/health").json()["running"] > 0)
        assert server.stop() == 0
        for future in running:
            assert future.result().json()["usage"]["completion_tokens"] == 30
        assert "Traceback" not in server.log.read_text("utf-8")
