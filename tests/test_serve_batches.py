"""Files and batches, as OpenAI's client uses them, and through a kill."""

from __future__ import annotations

import asyncio
import errno
import io
import json
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import openai
import pytest

from runtime import Pipeline
from tests.serving import Server, serve_here, serving


@pytest.fixture
def small(shallow_model: Path) -> dict[str, str]:
    """Settings of a server."""
    return {"ADAPTERS_BASE_DIR": "", "MODELS_DIR": str(shallow_model.parent)}


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


def test_a_batch_goes_on_after_a_kill_and_loses_nothing(
    small: dict[str, str], tmp_path: Path
) -> None:
    lines = [request(number) for number in range(120)]
    lines[7]["body"]["max_tokens"] = "many"
    lines[9]["body"]["model"] = "gpt-4"
    kept = tmp_path / "kept"
    with serving(tmp_path, "--batch-dir", kept, **small) as server:
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
    with serving(tmp_path, "--batch-dir", kept, **small) as server:
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


def test_a_batchs_lines_and_scored_prompts_are_not_kept_for_requests_to_come(
    small: dict[str, str], tmp_path: Path
) -> None:
    prompt = "Once upon a time there was a king who had three daughters and no sons."
    with serving(tmp_path, "--batch-dir", tmp_path / "kept", **small) as server:
        client = connect(server)

        def cached(**more: Any) -> int:
            asked = client.completions.create(model="demo", prompt=prompt, max_tokens=8, **more)
            return int(asked.usage.prompt_tokens_details.cached_tokens)

        until(client, start(client, [request(1, prompt=prompt)]), "completed")
        cached(echo=True, logprobs=1)
        assert cached() == 0
        assert cached() > 8


def test_files_and_batches_as_the_client_manages_them(
    small: dict[str, str], tmp_path: Path
) -> None:
    with serving(tmp_path, "--batch-dir", tmp_path / "kept", **small) as server:
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
            serving(tmp_path, "--batch-dir", tmp_path / "kept", **small),
        ):
            pass


async def answer_batch(client: Any, lines: list[Any]) -> dict[str, Any]:
    """A batch's last state."""
    text = "\n".join(map(json.dumps, lines)).encode()
    sent = await client.post(
        "/v1/files", files={"file": ("b.jsonl", text)}, data={"purpose": "batch"}
    )
    body = {"endpoint": "/v1/completions", "completion_window": "24h"}
    made = await client.post("/v1/batches", json={**body, "input_file_id": sent.json()["id"]})
    state: dict[str, Any] = made.json()
    end = time.monotonic() + 60
    while state["status"] not in ("completed", "failed"):
        assert time.monotonic() < end, state
        await asyncio.sleep(0.05)
        state = (await client.get(f"/v1/batches/{state['id']}")).json()
    return state


def test_a_full_disk_costs_a_batch_nothing_but_time(
    pipeline: Pipeline, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from runtime.common.journal import Journal
    from runtime.serve.batches import runner
    from runtime.serve.batches.store import Store

    monkeypatch.setattr(runner, "_AGAIN", 0.02)
    failures = {"append": 5, "write_batch": 2, "add_file": 2}

    def filling(kind: type, name: str) -> None:
        write = getattr(kind, name)

        def failing(self: Any, *arguments: Any, **more: Any) -> Any:
            # The first file and state are a client's, who is told; the others are the runner's.
            mine = name == "append" or (self_is_runner and failures[name] > 0)
            if mine and failures[name] > 0:
                failures[name] -= 1
                raise OSError(errno.ENOSPC, "No space left on device", "a file")
            return write(self, *arguments, **more)

        monkeypatch.setattr(kind, name, failing)

    self_is_runner = False
    for kind, name in ((Journal, "append"), (Store, "write_batch"), (Store, "add_file")):
        filling(kind, name)

    async def test(client: Any) -> None:
        nonlocal self_is_runner
        original = runner.Batches._process

        async def process(self: Any, batch: Any) -> None:
            nonlocal self_is_runner
            self_is_runner = True
            await original(self, batch)

        monkeypatch.setattr(runner.Batches, "_process", process)
        lines = [request(number, max_tokens=2) for number in range(12)]
        lines[5]["body"]["model"] = "gpt-4"
        state = await answer_batch(client, lines)
        assert state["status"] == "completed"
        assert state["request_counts"] == {"total": 12, "completed": 11, "failed": 1}
        assert failures == {"append": 0, "write_batch": 0, "add_file": 0}
        found = [
            json.loads(line)["custom_id"]
            for id_ in (state["output_file_id"], state["error_file_id"])
            for line in (await client.get(f"/v1/files/{id_}/content")).text.splitlines()
        ]
        assert sorted(found) == sorted(f"id-{number}" for number in range(12))

    serve_here(pipeline, test, batch_dir=tmp_path)


def test_a_file_that_cannot_be_read_stops_no_batch(pipeline: Pipeline, tmp_path: Path) -> None:
    (tmp_path / "batches").mkdir()
    half = json.dumps({"id": "batch_d", "created_at": "today"})
    texts = ("batch_a", "{"), ("batch_b", "[]"), ("batch_c", "\xff"), ("batch_d", half)
    for name, text in texts:
        (tmp_path / "batches" / f"{name}.json").write_bytes(text.encode("latin-1"))

    async def test(client: Any) -> None:
        state = await answer_batch(client, [request(1, max_tokens=1)])
        assert state["status"] == "completed"
        assert (await client.get("/v1/batches/batch_a")).status_code == 500
        assert len((await client.get("/v1/batches")).json()["data"]) == 1

    serve_here(pipeline, test, batch_dir=tmp_path)


def test_a_runner_that_fails_is_told_by_health_and_goes_on(
    pipeline: Pipeline, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from runtime.serve.batches import runner
    from runtime.serve.batches.store import Store

    monkeypatch.setattr(runner, "_AGAIN", 0.02)
    working = Store.batches

    async def test(client: Any) -> None:
        assert (await client.get("/health")).status_code == 200
        monkeypatch.setattr(Store, "batches", broken)
        file = ("lines.jsonl", json.dumps(request(1, max_tokens=1)).encode())
        uploaded = await client.post("/v1/files", data={"purpose": "batch"}, files={"file": file})
        body = {"input_file_id": uploaded.json()["id"], "endpoint": "/v1/completions"}
        made = await client.post("/v1/batches", json={**body, "completion_window": "24h"})
        while (response := await client.get("/health")).status_code == 200:
            await asyncio.sleep(0.01)
        assert response.status_code == 503
        message = response.json()["error"]["message"]
        assert "no batch runs: ValueError: a broken folder" in message
        monkeypatch.setattr(Store, "batches", working)
        state = made.json()
        while state["status"] != "completed":
            await asyncio.sleep(0.02)
            state = (await client.get(f"/v1/batches/{state['id']}")).json()
        assert (await client.get("/health")).status_code == 200

    def broken(self: Any) -> Any:
        raise ValueError("a broken folder")

    serve_here(pipeline, test, batch_dir=tmp_path)


def test_the_lines_of_a_batch_have_no_deadline(pipeline: Pipeline, tmp_path: Path) -> None:
    from runtime.serve.service import Service

    async def test(client: Any) -> None:
        state = await answer_batch(client, [request(n, max_tokens=20) for n in range(12)])
        assert state["request_counts"] == {"total": 12, "completed": 12, "failed": 0}

    with pytest.MonkeyPatch.context() as patch:
        start_service = Service.start

        def hurried(self: Any) -> None:
            self.options = replace(self.options, deadline=0.001)
            start_service(self)

        patch.setattr(Service, "start", hurried)
        serve_here(pipeline, test, batch_dir=tmp_path)


def test_files_expire(pipeline: Pipeline, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from runtime.serve.batches import store

    now = time.time()
    monkeypatch.setattr(store.time, "time", lambda: now)

    async def test(client: Any) -> None:
        nonlocal now

        async def upload(**more: str) -> Any:
            file = ("lines.jsonl", json.dumps(request(1, max_tokens=1)).encode())
            form = {"purpose": "batch", **more}
            return await client.post("/v1/files", data=form, files={"file": file})

        expiry = {"expires_after[anchor]": "created_at", "expires_after[seconds]": "3600"}
        made = (await upload(**expiry)).json()
        assert made["expires_at"] == made["created_at"] + 3600
        kept = (await upload()).json()  # a day, as the option says
        assert kept["expires_at"] == kept["created_at"] + 86400
        wrong = await upload(**{**expiry, "expires_after[seconds]": "1"})
        assert wrong.status_code == 400
        assert "expires_after.seconds" in wrong.json()["error"]["message"]

        body = {"input_file_id": kept["id"], "endpoint": "/v1/completions"}
        after = {"anchor": "created_at", "seconds": 7200}
        state = (
            await client.post("/v1/batches", json={**body, "output_expires_after": after})
        ).json()
        while state["status"] != "completed":
            await asyncio.sleep(0.02)
            state = (await client.get(f"/v1/batches/{state['id']}")).json()
        output = state["output_file_id"]
        assert (await client.get(f"/v1/files/{output}")).status_code == 200
        now += 3601
        assert (await client.get(f"/v1/files/{made['id']}")).status_code == 404
        now += 3600
        assert (await client.get(f"/v1/files/{output}")).status_code == 404
        assert [file["id"] for file in (await client.get("/v1/files")).json()["data"]] == [
            kept["id"]
        ]
        await client.post("/v1/batches", json=body)  # the runner looks
        while len(list((tmp_path / "files").glob("file-*.data"))) > 2:
            await asyncio.sleep(0.02)

    serve_here(pipeline, test, batch_dir=tmp_path, file_days=1.0)
    (tmp_path / "files" / ".file-x.data.1234").touch()  # what kills leave
    (tmp_path / "files" / "file-y.data").touch()
    store.Store(tmp_path).close()
    left = {path.name for path in (tmp_path / "files").iterdir()}
    assert not left & {".file-x.data.1234", "file-y.data"}
