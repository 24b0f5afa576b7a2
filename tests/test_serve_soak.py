"""A server under bad clients and under every kind of request: nothing is lost, memory is flat."""

from __future__ import annotations

import io
import json
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

from lab.attack import ask_beside, attacked
from tests.serving import Server, serving

pytestmark = pytest.mark.slow
MIB = 2**20


@pytest.fixture(scope="module")
def server(
    shallow_model: Path, shallow_loras: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("server")
    settings = {"PREFIX_CACHE_MB": "16", "MAX_INPUT_TOKENS": "1024"}
    settings |= {"MODELS_DIR": str(shallow_model.parent), "ADAPTERS_BASE_DIR": str(shallow_loras)}
    # glibc gives each thread a heap of its own, so memory would depend on which thread did what.
    settings["MALLOC_ARENA_MAX"] = "1"
    options = ("--runtime-adapters", "--batch-dir", folder / "kept")
    with serving(folder, *options, **settings) as server:
        yield server


def memory(http: Any) -> float:
    """MiB of the server's process."""
    for line in http.get("/metrics").text.splitlines():
        if line.startswith("process_resident_memory_bytes"):
            return float(line.split()[-1]) / MIB
    raise AssertionError("no metric of memory")


def test_bad_clients_cost_the_others_nothing(server: Server) -> None:
    host, port = server.address
    with attacked(f"{host}:{port}", "demo", idle=200, half=50, unread=5) as opened:
        assert opened == 255
        traffic = ask_beside(f"{host}:{port}", "demo", clients=4, seconds=8)
    assert traffic.sent >= 4
    assert (traffic.missing, traffic.doubled) == (0, 0), traffic.lost[:3]
    said = server.log.read_text("utf-8")
    assert "Traceback" not in said
    assert len(said) < 20_000


def hang_up(server: Server, stream: bool) -> None:
    """Ask for a long answer, and leave before it ends."""
    body = {"model": "demo", "prompt": "A", "max_tokens": 400, "ignore_eos": True}
    data = json.dumps({**body, "stream": stream}).encode()
    head = "POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
    with socket.create_connection(server.address, timeout=30) as connection:
        connection.sendall(f"{head}Content-Length: {len(data)}\r\n\r\n".encode() + data)
        if stream:
            connection.recv(200)


def a_round(server: Server, http: Any, adapter: Path, number: int) -> None:
    """Each kind of request once, several at a time."""

    def post(path: str, **body: Any) -> Any:
        response = http.post(path, json=body)
        assert response.status_code == 200, response.text
        return response

    def complete(**more: Any) -> None:
        body = {"model": "demo", "prompt": f"Round {number}:", "max_tokens": 4, **more}
        post("/v1/completions", **body)

    def talk(model: str, **more: Any) -> None:
        turns = [
            {"role": "user", "content": f"What is {number} to me, and why? " * 8},
            {"role": "assistant", "content": "Nothing."},
            {"role": "user", "content": f"Then what is {number + 1}?"},
        ]
        post("/v1/chat/completions", model=model, messages=turns, max_tokens=6, **more)

    def batch() -> None:
        line = {"model": "demo", "prompt": f"{number}, ", "max_tokens": 3}
        lines = [
            {"custom_id": str(n), "method": "POST", "url": "/v1/completions", "body": line}
            for n in range(4)
        ]
        text = "\n".join(map(json.dumps, lines)).encode()
        files = {"file": ("b.jsonl", io.BytesIO(text))}
        sent = http.post("/v1/files", files=files, data={"purpose": "batch"}).json()
        state = post("/v1/batches", input_file_id=sent["id"], endpoint="/v1/completions").json()
        while state["status"] != "completed":
            state = http.get(f"/v1/batches/{state['id']}").json()
        for name in ("input_file_id", "output_file_id"):
            http.delete(f"/v1/files/{state[name]}")

    post("/v1/load_lora_adapter", lora_name="mine", lora_path=str(adapter))
    with ThreadPoolExecutor(9) as pool:
        jobs = [
            pool.submit(complete, n=3, temperature=1.0),
            pool.submit(complete, prompt=f"{number} is long. " * 60),
            pool.submit(complete, prompt=[f"{number} {letter}" for letter in "abcde"]),
            pool.submit(complete, prompt=f"{number}", echo=True, logprobs=2),
            pool.submit(talk, "history"),
            pool.submit(talk, "mine", stream=True),
            pool.submit(hang_up, server, stream=True),
            pool.submit(hang_up, server, stream=False),
            pool.submit(batch),
        ]
        for job in jobs:
            job.result()
    post("/v1/unload_lora_adapter", lora_name="mine")


def test_memory_is_flat_whatever_is_asked(server: Server, shallow_loras: Path) -> None:
    """What a round leaves behind is left by all rounds; what the allocator keeps, only by some."""
    adapter = next(shallow_loras.iterdir())
    resident: list[float] = []
    with httpx.Client(base_url=server.url, timeout=120) as http:
        for number in range(45):
            a_round(server, http, adapter, number)
            resident.append(memory(http))
            # Each round's prompts and answers alone would be some MiB, were they kept; the cache
            # itself grows by some MiB when more requests than before happen to meet.
            if is_flat := number >= 14 and resident[-1] - resident[-11] < 12:
                break
        health = http.get("/health").json()
    assert is_flat, resident
    assert (health["running"], health["waiting"]) == (0, 0)
    assert "Traceback" not in server.log.read_text("utf-8")
