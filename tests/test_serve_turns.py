"""Whose turn it is: interactive requests before batches, and one client after another."""

from __future__ import annotations

import asyncio
import json
import re
from pathlib import Path
from typing import Any

from runtime import Pipeline
from runtime.serve.turns import Turns
from tests.serving import serve_here

ASK = {"model": "demo", "prompt": "A", "max_tokens": 1, "ignore_eos": True}


def test_clients_take_turns() -> None:
    passed: list[str] = []
    turns: Turns[str] = Turns(2, passed.append)
    for number in range(4):
        turns.add("a", f"a{number}")
    assert not turns.add("b", "b0")
    turns.add("b", "b1")
    turns.add("c", "c0")
    assert (passed, len(turns)) == (["a0", "a1"], 5)
    for _ in range(5):
        turns.end(passed[-2])
    assert passed == ["a0", "a1", "a2", "b0", "c0", "a3", "b1"]
    assert len(turns) == 0


def test_what_is_not_wanted_any_more_gets_no_turn() -> None:
    passed: list[str] = []
    turns: Turns[str] = Turns(1, passed.append)
    for name in ("a", "b", "c"):
        turns.add(name, f"{name}0")
    turns.end("b0")
    turns.end("a0")
    assert passed == ["a0", "c0"]
    assert len(turns) == 0


def test_a_body_with_many_prompts_does_not_keep_others_waiting(
    pipeline: Pipeline, tmp_path: Path
) -> None:
    keys = tmp_path / "keys"
    keys.write_text("one\ntwo\n")

    async def test(client: Any) -> None:
        def post(key: str, **more: Any) -> Any:
            headers = {"Authorization": f"Bearer {key}"}
            return client.post("/v1/completions", json={**ASK, **more}, headers=headers)

        many = asyncio.create_task(post("one", prompt=["A"] * 100, max_tokens=10))
        health: dict[str, int] = {"running": 0}
        while health["running"] < 8:
            await asyncio.sleep(0.01)
            health = (await client.get("/health")).json()
        assert health["waiting"] > 60
        for _ in range(3):
            assert (await post("two")).status_code == 200
        assert not many.done()
        assert len((await many).json()["choices"]) == 100

    serve_here(pipeline, test, api_keys_file=keys)


def metric(text: str, name: str) -> float:
    found = re.search(rf"^{re.escape(name)}(?:\{{[^}}]*\}})? (\S+)$", text, re.MULTILINE)
    assert found, name
    return float(found[1])


def test_a_batch_gives_way_and_loses_nothing(pipeline: Pipeline, tmp_path: Path) -> None:
    lines = [
        {
            "custom_id": str(number),
            "method": "POST",
            "url": "/v1/completions",
            "body": {**ASK, "prompt": f"{number} and", "max_tokens": 30},
        }
        for number in range(30)
    ]

    async def run(client: Any, interruptions: int) -> dict[str, str]:
        text = "\n".join(map(json.dumps, lines)).encode()
        files = {"file": ("b.jsonl", text)}
        sent = (await client.post("/v1/files", files=files, data={"purpose": "batch"})).json()
        body = {"input_file_id": sent["id"], "endpoint": "/v1/completions"}
        state = (await client.post("/v1/batches", json=body)).json()
        while state["status"] != "completed":
            await asyncio.sleep(0.01)
            health = (await client.get("/health")).json()
            if interruptions and health["running"] >= 8:
                interruptions -= 1
                now = (await client.get(f"/v1/batches/{state['id']}")).json()
                before = now["request_counts"]["completed"]
                answer = await client.post("/v1/completions", json={**ASK, "max_tokens": 3})
                assert answer.json()["usage"]["completion_tokens"] == 3
                after = (await client.get(f"/v1/batches/{state['id']}")).json()
                # The time of a few steps: of 30 tokens each, no more than the first lines end.
                assert after["request_counts"]["completed"] - before <= 16
            state = (await client.get(f"/v1/batches/{state['id']}")).json()
        assert state["request_counts"] == {"total": 30, "completed": 30, "failed": 0}
        content = (await client.get(f"/v1/files/{state['output_file_id']}/content")).text
        results = [json.loads(line) for line in content.splitlines()]
        return {
            result["custom_id"]: result["response"]["body"]["choices"][0]["text"]
            for result in results
        }

    async def test(client: Any) -> None:
        alone = await run(client, 0)
        text = (await client.get("/metrics")).text
        assert metric(text, "vllm:num_preemptions_total") == 0
        interrupted = await run(client, 3)
        text = (await client.get("/metrics")).text
        assert metric(text, "vllm:num_preemptions_total") > 0
        same = sum(alone[id_] == interrupted[id_] for id_ in alone)
        assert same >= 25  # but where two candidates are equal up to rounding

    serve_here(pipeline, test, batch_dir=tmp_path)
