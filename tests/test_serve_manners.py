"""Keys, origins, names and lengths; clients that do not read; being stopped."""

from __future__ import annotations

import asyncio
import json
import logging
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families
from pydantic import BaseModel, ValidationError

from runtime import Pipeline
from runtime.common.errors import SetupError
from runtime.serve.app import make_app
from runtime.serve.asking import chat_task
from runtime.serve.body.schema import ChatBody, CompletionBody
from runtime.serve.errors import explain_invalid
from runtime.serve.options import Options, parse
from runtime.serve.web.keys import Keys
from tests.conftest import small_settings
from tests.serving import patient_server, serve_here, serving

ORIGIN = "https://page.example"
TINY = {"model": "demo", "prompt": "A", "max_tokens": 2, "ignore_eos": True}
CHAT = {"model": "demo", "messages": [{"role": "user", "content": "Hi"}]}
PLAIN = {"ADAPTERS_BASE_DIR": ""}


def test_pages_of_allowed_origins_may_ask(pipeline: Pipeline) -> None:
    async def test(client: Any) -> None:
        asks = {
            "Origin": ORIGIN,
            "Access-Control-Request-Method": "POST",
            "Access-Control-Request-Headers": "authorization,content-type",
        }
        before = await client.options("/v1/completions", headers=asks)  # without the key
        assert before.status_code == 200
        assert before.headers["access-control-allow-origin"] == ORIGIN
        assert "authorization" in before.headers["access-control-allow-headers"]
        key = {"Authorization": "Bearer secret"}
        for headers, status in (({**key, "Origin": ORIGIN}, 200), ({"Origin": ORIGIN}, 401)):
            answer = await client.post("/v1/completions", json=TINY, headers=headers)
            assert answer.status_code == status
            assert answer.headers["access-control-allow-origin"] == ORIGIN
        other = await client.get("/health", headers={"Origin": "https://other.example"})
        assert "access-control-allow-origin" not in other.headers

    serve_here(pipeline, test, api_key="secret", allowed_origins=(ORIGIN,))


def test_without_allowed_origins_no_page_may(pipeline: Pipeline) -> None:
    async def test(client: Any) -> None:
        answer = await client.get("/health", headers={"Origin": ORIGIN})
        assert "access-control-allow-origin" not in answer.headers

    serve_here(pipeline, test)


def test_keys_of_a_file_are_read_again(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    file = tmp_path / "keys"
    file.write_text("# of the team\n\none-long-key\n  two \n")
    keys = Keys("mine", file)
    assert len(keys) == 3
    names = [keys.find(key) for key in (b"mine", b"one-long-key", b"two")]
    assert len({*names, None}) == 4
    for wrong in (b"", b"#", b"# of the team", b"one-long-ke", b"  two "):
        assert keys.find(wrong) is None
    file.write_text("three\n")
    keys.reload()
    assert (keys.find(b"two"), len(keys)) == (None, 2)
    for damage in ("", "# none\n"):
        file.write_text(damage)
        keys.reload()
        assert keys.find(b"three")
    assert "the API keys stay as they were" in caplog.text
    file.unlink()
    keys.reload()
    assert keys.find(b"three")
    assert not any(key in caplog.text for key in ("one-long-key", "three", names[0] or "?"))
    with pytest.raises(SetupError, match="No such file"):
        Keys("", file)
    file.touch()
    with pytest.raises(SetupError, match="it has no keys"):
        Keys("", file)


def test_a_bare_base_has_the_names_that_it_is_given(pipeline: Pipeline) -> None:
    async def test(client: Any) -> None:
        names = [model["id"] for model in (await client.get("/v1/models")).json()["data"]]
        assert names[-2:] == ["small", "gpt-4o-mini"]
        for name in ("small", "gpt-4o-mini"):
            answer = await client.post("/v1/completions", json={**TINY, "model": name})
            assert (answer.status_code, answer.json()["model"]) == (200, name)
        assert (await client.post("/v1/completions", json=TINY)).status_code == 404
        assert 'model_name="small"' in (await client.get("/metrics")).text

    serve_here(pipeline, test, served_model_name=("small", "gpt-4o-mini"))
    with pytest.raises(SetupError, match="history: a model has this name already"):
        make_app(pipeline, Options(served_model_name=("history",)))


def test_answers_of_the_bare_base_may_fill_the_context(pipeline: Pipeline) -> None:
    service = make_app(pipeline, Options()).state.service

    def most_new(**more: Any) -> tuple[int, int]:
        task = asyncio.run(chat_task(service, ChatBody.model_validate({**CHAT, **more})))
        return task.most_new, task.served.context - len(task.prompt(0))

    most, left = most_new()
    assert most == left > 24
    assert most_new(max_tokens=3)[0] == 3
    assert most_new(model="history")[0] < left  # as in a list of questions


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        ({"model_name": "demo"}, 256 + 24 * 3),
        ({"max_model_len": 4000}, 4000),
        ({"max_model_len": 10}, 256 + 24 * 3),
        ({"max_model_len": -1}, 8192 - 16),  # the model's own
        ({"max_model_len": -1, "kv_cache_gb": 0.02}, 256 + 24 * 3),
    ],
)
def test_the_context_is_as_long_as_is_asked(
    demo_model: Path, changed: dict[str, Any], expected: int
) -> None:
    from runtime import loadPipeline
    from runtime.serve.catalog import Catalog

    with loadPipeline(small_settings(adapters_base_dir="", **changed)) as loaded:
        catalog = Catalog(loaded.settings, loaded.routes, loaded.engines)
        assert catalog.base is not None
        assert catalog.base.context == pytest.approx(expected, abs=40)
    assert parse(["--max-model-len", "auto"]).max_model_len == -1
    assert parse(["--max-model-len", "4096"]).max_model_len == 4096


def wrong(kind: type[BaseModel], **body: Any) -> str:
    base = CHAT if kind is ChatBody else {"model": "demo", "prompt": "A"}
    with pytest.raises(ValidationError) as caught:
        kind.model_validate({**base, **body})
    return str(explain_invalid(caught.value.errors(), {**base, **body}).detail)


def test_errors_name_the_field_and_say_what_it_must_be() -> None:
    def content(value: Any) -> str:
        return wrong(ChatBody, messages=[{"role": "user", "content": value}])

    image = [{"type": "image_url", "image_url": {"url": "x"}}]
    assert content(image) == "messages.0.content.0.type: must be 'text', not \"image_url\""
    assert content(None) == "messages.0: content is missing"
    assert content(5) == "messages.0.content: must be a text or a list, not 5"
    assert wrong(ChatBody, stop=[""]) == 'stop.0: must have at least 1 character, not ""'
    assert wrong(ChatBody, messages=[{"content": "x"}]) == "messages.0.role: is missing"
    assert wrong(ChatBody, temperature="hot") == 'temperature: must be a number, not "hot"'
    assert "wrong fields besides: 1" in wrong(ChatBody, n="x", seed="y")
    assert wrong(CompletionBody, prompt=[]) == "prompt: must have at least 1 item"
    assert wrong(CompletionBody, prompt=None) == "prompt: must be a text or a list, not null"
    assert wrong(CompletionBody, prompt=[-1]).startswith("prompt.0: must be greater")


def test_a_client_that_does_not_read_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    from runtime.serve.web import connections

    monkeypatch.setattr(connections.PatientProtocol, "unread", 0.3)
    ended = asyncio.Event()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            await send({"type": "http.response.start", "status": 200, "headers": []})
            try:
                for _ in range(10_000):
                    await send(
                        {"type": "http.response.body", "body": b"x" * 9999, "more_body": True}
                    )
                    if (await asyncio.wait_for(receive(), 0.001))["type"] == "http.disconnect":
                        break
            except TimeoutError:
                pass
            finally:
                ended.set()

    async def run() -> None:
        async with patient_server(app) as (server, port):
            with socket.socket() as client:
                client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
                client.setblocking(False)
                loop = asyncio.get_running_loop()
                await loop.sock_connect(client, ("127.0.0.1", port))
                await loop.sock_sendall(client, b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
                await asyncio.wait_for(ended.wait(), 20)
                while server.server_state.connections:
                    await asyncio.sleep(0.02)

    asyncio.run(asyncio.wait_for(run(), 60))


def test_what_is_broken_off_says_so(demo_model: Path, tmp_path: Path) -> None:
    """A stop ends endless streams with an error event and [DONE], whole answers with 503."""
    endless = {**TINY, "max_tokens": 100_000}
    arguments = ("--grace", "0.5", "--max-model-len", "8000")
    with serving(tmp_path, *arguments, **PLAIN) as server:
        body = {**endless, "stream": True}
        with httpx.stream("POST", f"{server.url}/v1/completions", json=body, timeout=60) as answer:
            lines = answer.iter_lines()
            assert next(lines).startswith("data: {")
            server.process.send_signal(signal.SIGTERM)
            *_, event, done = [line for line in lines if line]
        assert json.loads(event.removeprefix("data: "))["error"]["code"] == "server_stopping"
        assert done == "data: [DONE]"
        assert server.process.wait(30) == 0
        assert "Traceback" not in server.log.read_text("utf-8")


def command(tmp_path: Path, *arguments: str) -> tuple[subprocess.Popen[bytes], Path]:
    log = tmp_path / "log"
    with log.open("wb") as stderr:
        line = [sys.executable, "-m", "runtime.serve", "--port", "0", *arguments]
        return subprocess.Popen(line, stderr=stderr), log


def test_asked_to_stop_while_it_loads_it_ends_well(
    demo_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {"MODEL_NAME": "demo", **PLAIN}.items():
        monkeypatch.setenv(name, value)
    process, log = command(tmp_path)
    end = time.monotonic() + 60
    while b"routes" not in log.read_bytes():
        assert time.monotonic() < end
        time.sleep(0.01)
    process.send_signal(signal.SIGTERM)
    assert process.wait(20) == 0
    assert "Traceback" not in log.read_text("utf-8")


def test_what_cannot_be_used_is_told_before_a_model_is_loaded(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for option in ("--batch-dir", "--api-keys-file"):
        process, log = command(tmp_path, option, str(tmp_path / "file"))
        assert process.wait(60) == 1
        said = log.read_text("utf-8")
        assert f"error: {option}" in said
        assert "routes" not in said


def test_keys_are_read_again_on_sighup(demo_model: Path, tmp_path: Path) -> None:
    keys = tmp_path / "keys"
    keys.write_text("first\n")
    with serving(tmp_path, "--api-keys-file", keys, **PLAIN) as server:

        def status(key: str) -> int:
            headers = {"Authorization": f"Bearer {key}"}
            return httpx.get(f"{server.url}/v1/models", headers=headers, timeout=30).status_code

        assert [status("first"), status("second")] == [200, 401]
        keys.write_text("second\n")
        server.process.send_signal(signal.SIGHUP)
        end = time.monotonic() + 20
        while status("second") != 200:
            assert time.monotonic() < end
        assert status("first") == 401
        assert "second" not in server.log.read_text("utf-8")


# Of the panels of vLLM's dashboards: examples/observability/prometheus_grafana/grafana.json and
# the same of earlier versions.
COUNTED = [
    *("vllm:e2e_request_latency_seconds", "vllm:inter_token_latency_seconds"),
    *("vllm:time_to_first_token_seconds", "vllm:time_per_output_token_seconds"),
    *("vllm:request_prompt_tokens", "vllm:request_generation_tokens"),
    *("vllm:request_queue_time_seconds", "vllm:request_prefill_time_seconds"),
    *("vllm:request_decode_time_seconds", "vllm:request_inference_time_seconds"),
    *("vllm:request_max_num_generation_tokens", "vllm:request_params_n"),
    *("vllm:request_params_max_tokens", "vllm:iteration_tokens_total"),
]
TOTALS = [
    *("vllm:prompt_tokens_total", "vllm:generation_tokens_total", "vllm:request_success_total"),
    *("vllm:prefix_cache_queries_total", "vllm:prefix_cache_hits_total"),
    *("vllm:gpu_prefix_cache_queries_total", "vllm:gpu_prefix_cache_hits_total"),
    "vllm:num_preemptions_total",
]
NOW = [
    *("vllm:num_requests_running", "vllm:num_requests_waiting", "vllm:num_requests_swapped"),
    *("vllm:kv_cache_usage_perc", "vllm:gpu_cache_usage_perc", "vllm:cpu_cache_usage_perc"),
    "vllm:cache_config_info",
]
PROCESS = ["process_resident_memory_bytes", "process_cpu_seconds_total", "process_open_fds"]


def test_vllms_dashboards_have_no_empty_panel(pipeline: Pipeline) -> None:
    async def test(client: Any) -> None:
        body = {"model": "history", "prompt": "Once upon a time", "max_tokens": 4, "n": 2}
        for _ in range(2):
            answer = await client.post("/v1/completions", json={**body, "ignore_eos": True})
            assert answer.status_code == 200
        assert (await client.get("/v1/models/none")).status_code == 404
        text = (await client.get("/metrics")).text
        samples = [s for family in text_string_to_metric_families(text) for s in family.samples]
        mine = {s.name: s.value for s in samples if s.labels.get("model_name") == "demo"}
        vllms = {s.name for s in samples if s.name.startswith("vllm:")} - {
            "vllm:lora_requests_info"
        }
        assert vllms == {s.name for s in samples if "model_name" in s.labels}
        for name in COUNTED:
            assert mine[f"{name}_count"] > 0
            assert f"{name}_bucket" in mine
        assert mine["vllm:request_params_n_sum"] == 4
        assert not {*TOTALS, *NOW} - mine.keys()
        assert mine["vllm:generation_tokens_total"] == 16
        assert not set(PROCESS) - {s.name for s in samples}
        statuses = {
            (s.labels["handler"], s.labels["status"]): s.value
            for s in samples
            if s.name == "http_requests_total"
        }
        assert statuses["/v1/completions", "200"] == 2
        assert statuses["/v1/models/{name:path}", "404"] == 1
        by_model = [s for s in samples if s.name == "subject_lora:requests_total"]
        assert [s.labels["model"] for s in by_model if s.value] == ["history"]

    serve_here(pipeline, test)
