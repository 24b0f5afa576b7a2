"""Files and batches, as OpenAI's client uses them, and through a kill."""

from __future__ import annotations

import io
import json
import time
from pathlib import Path
from typing import Any

import pytest

from tests.serving import Server, serving

pytest.importorskip("fastapi")
pytest.importorskip("uvicorn")
pytest.importorskip("prometheus_client")
pytest.importorskip("python_multipart")
openai = pytest.importorskip("openai")

SETTINGS = {"ADAPTERS_BASE_DIR": "", "ALGEBRA_TOOL": "off"}


def connect(server: Server) -> Any:
    return openai.OpenAI(base_url=f"{server.url}/v1", api_key="any", max_retries=0)


def upload(client: Any, lines: list[Any]) -> str:
    text = "\n".join(line if isinstance(line, str) else json.dumps(line) for line in lines)
    file = client.files.create(file=("b.jsonl", io.BytesIO(text.encode())), purpose="batch")
    return str(file.id)


def request(number: int, **more: Any) -> dict[str, Any]:
    body = {"model": "demo", "prompt": f"{number} and", "max_tokens": 8, "temperature": 1.5}
    return {
        "custom_id": f"id-{number}",
        "method": "POST",
        "url": "/v1/completions",
        "body": {**body, "ignore_eos": True, **more},
    }


def start(client: Any, lines: list[Any], endpoint: str = "/v1/completions") -> Any:
    return client.batches.create(
        input_file_id=upload(client, lines), endpoint=endpoint, completion_window="24h"
    )


def until(client: Any, batch: Any, *states: str) -> Any:
    end = time.monotonic() + 60
    while batch.status not in states:
        assert time.monotonic() < end, batch
        time.sleep(0.05)
        batch = client.batches.retrieve(batch.id)
    return batch


def results(client: Any, file_id: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in client.files.content(file_id).text.splitlines()]


def test_a_batch_goes_on_after_a_kill_and_loses_nothing(demo_model: Path, tmp_path: Path) -> None:
    lines = [request(number) for number in range(120)]
    lines[7]["body"]["max_tokens"] = "many"
    lines[9]["body"]["model"] = "gpt-4"
    kept = tmp_path / "kept"
    with serving(tmp_path, "--batch-dir", kept, **SETTINGS) as server:
        client = connect(server)
        batch = start(client, lines)
        while client.batches.retrieve(batch.id).request_counts.completed < 20:
            time.sleep(0.02)
        server.kill()
    (journal,) = (kept / "batches").glob("*.journal")
    with journal.open("ab") as file:
        file.write(b'{"number": 1')  # what a kill in the middle of a line leaves
    before = len(journal.read_bytes().splitlines()) - 1
    assert 20 <= before < 120
    with serving(tmp_path, "--batch-dir", kept, **SETTINGS) as server:
        client = connect(server)
        batch = until(client, batch, "completed")
        counts = batch.request_counts
        assert (counts.total, counts.completed, counts.failed) == (120, 118, 2)
        answers = results(client, batch.output_file_id)
        errors = results(client, batch.error_file_id)
        # Once each, in order, and no draw depends on the kill.
        assert [a["custom_id"] for a in answers] == [
            f"id-{number}" for number in range(120) if number not in (7, 9)
        ]
        assert [e["response"]["status_code"] for e in errors] == [400, 404]
        assert errors[0]["response"]["body"]["error"]["param"] == "max_tokens"
        again = until(client, start(client, lines[:60]), "completed")
        first = {a["custom_id"]: a["response"]["body"]["choices"] for a in answers}
        texts = {
            a["custom_id"]: a["response"]["body"]["choices"]
            for a in results(client, again.output_file_id)
        }
        same = sum(first[id_] == choices for id_, choices in texts.items())
        assert same >= 55  # but where two candidates are equal up to rounding
        assert not list((kept / "batches").glob("*.journal"))
        assert server.stop() == 0


def test_files_and_batches_as_the_client_manages_them(demo_model: Path, tmp_path: Path) -> None:
    with serving(tmp_path, "--batch-dir", tmp_path / "kept", **SETTINGS) as server:
        client = connect(server)

        # A file of which something is wrong fails as a whole, and says what and where.
        wrong = [
            request(1),
            request(1),
            "not JSON",
            {**request(2), "url": "/v1/embeddings"},
            {**request(3), "method": "GET"},
            {**request(4), "body": []},
            [],
            {"custom_id": 5},
        ]
        failed = until(client, start(client, wrong), "failed")
        assert [(e.line, e.code) for e in failed.errors.data] == [
            (2, "duplicate_custom_id"),
            (3, "invalid_json_line"),
            (4, "mismatched_endpoint"),
            (5, "invalid_method"),
            (6, "invalid_body"),
            (7, "invalid_json_line"),
            (8, "invalid_custom_id"),
        ]
        assert until(client, start(client, [""]), "failed").errors.data[0].code == "empty_file"

        # Chat, with a blank line.
        body = {"model": "general", "messages": [{"role": "user", "content": "Hi"}], "n": 2}
        line = {"custom_id": "x", "method": "POST", "url": "/v1/chat/completions", "body": body}
        done = until(client, start(client, [line, ""], "/v1/chat/completions"), "completed")
        (result,) = results(client, done.output_file_id)
        assert len(result["response"]["body"]["choices"]) == 2
        assert done.error_file_id is None

        # Interactive requests are answered while a batch runs; one that is not wanted is stopped.
        long = start(client, [request(n, max_tokens=200) for n in range(500)])
        until(client, long, "in_progress")
        with pytest.raises(openai.ConflictError):
            client.files.delete(long.input_file_id)
        answer = client.completions.create(model="demo", prompt="A", max_tokens=1)
        assert answer.usage.completion_tokens == 1
        cancelled = until(client, client.batches.cancel(long.id), "cancelled")
        assert cancelled.request_counts.completed < 500
        with pytest.raises(openai.ConflictError):
            client.batches.cancel(long.id)

        assert [b.id for b in client.batches.list(limit=2)][:2]
        assert {b.id for b in client.batches.list(limit=1)} >= {long.id, done.id, failed.id}
        assert client.files.delete(done.output_file_id).deleted
        for missing in (done.output_file_id, "file-..", "../../etc/passwd"):
            with pytest.raises((openai.NotFoundError, ValueError)):
                client.files.retrieve(missing)
        with pytest.raises(openai.NotFoundError):
            client.batches.create(
                input_file_id="file-none", endpoint="/v1/completions", completion_window="24h"
            )

        # The folder is one server's.
        with (
            pytest.raises(AssertionError, match="another server has it"),
            serving(tmp_path, "--batch-dir", tmp_path / "kept", **SETTINGS),
        ):
            pass
