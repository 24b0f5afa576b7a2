"""The server, as OpenAI's own client and plain HTTP see it."""

from __future__ import annotations

import asyncio
import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import openai
import pytest

from kb.making import make
from runtime import Pipeline, loadPipeline
from tests.conftest import LORAS, SAMPLES, small_settings
from tests.demo_server import FRANCE, chat
from tests.serving import Server, serving

pytest_plugins = ["tests.demo_server"]


def test_subjects_and_the_bare_base_are_models(client: Any) -> None:
    models = {model.id: model for model in client.models.list()}
    assert set(models) == {
        *("auto", "algebra", "geography", "history", "chinese", "general", "demo")
    }
    assert models["history"].parent == "demo"
    assert client.models.retrieve("history").root.endswith("lora-history.gguf")
    with pytest.raises(openai.NotFoundError, match="there are auto, algebra"):
        chat(client, model="gpt-4")


def test_answers_are_those_of_the_pipeline(client: Any, in_process: Pipeline) -> None:
    lines = map(json.loads, SAMPLES.read_text("utf-8").splitlines())
    questions = [line for line in lines if line.get("question") and "subject" in line][:12]
    expected = [answer["answer"] for answer in in_process(questions)]

    def ask(question: dict[str, str]) -> str:
        body = {"subject": question["subject"]}
        answer = chat(client, question["question"], "auto", extra_body=body)
        return str(answer.choices[0].message.content)

    with ThreadPoolExecutor(12) as pool:
        assert list(pool.map(ask, questions)) == expected


def test_exercises_are_computed_and_the_response_says_who_answered(client: Any) -> None:
    pytest.importorskip("sympy")
    answer = chat(
        client, "Solve for x: 3x + 4 = 19.", "auto", extra_body={"subject": "Mathematics"}
    )
    assert answer.choices[0].message.content == "3x = 15, so x = 5."
    assert answer.route == {
        "model": "algebra",
        "adapter": "SmolLM2-135M-Instruct-lora-algebra.gguf",
        "computed": True,
        "cached": False,
        "passages": 0,
        "question_cut": False,
    }
    assert answer.usage.completion_tokens == 0
    named = chat(client, "Solve for x: 3x + 4 = 19.", "algebra")
    assert named.choices[0].message.content == answer.choices[0].message.content
    other = chat(client, model="auto", extra_body={"subject": "astrology"})
    assert other.route["model"] == "general"


def test_a_subject_shows_the_passages_that_the_pipeline_shows(
    demo_model: Path, tmp_path: Path
) -> None:
    raw = tmp_path / "raw.jsonl"
    raw.write_text(json.dumps({"title": "Lutz", "text": "The capital of Lutz is Ambrona."}))
    make("geography", [raw], tmp_path)
    question = "What is the capital of Lutz?"
    asked = {"questionID": "1", "subject": "geography", "question": question}
    use = {"geography": "always"}
    with loadPipeline(
        small_settings(
            adapters_base_dir=LORAS,
            num_threads=1,
            rag_knowledge_base_dir=tmp_path,
            rag_enabled_subjects=use,
        )
    ) as pipeline:
        (expected,) = pipeline([asked])
    environment = {"RAG_KNOWLEDGE_BASE_DIR": str(tmp_path), "RAG_ENABLED_SUBJECTS": json.dumps(use)}
    with serving(tmp_path, **environment) as server:
        client = openai.OpenAI(base_url=f"{server.url}/v1", api_key="any", max_retries=0)
        shown = chat(client, question, "auto", extra_body={"subject": "geography"})
        assert shown.choices[0].message.content == expected["answer"]
        assert shown.route["passages"] == 1
        named = chat(client, question, "geography")
        assert named.choices[0].message.content == expected["answer"]
        bare = chat(client, question, "demo")  # the model as it is
        assert bare.route["passages"] == 0
        assert bare.usage.prompt_tokens < shown.usage.prompt_tokens


def test_a_stream_says_the_same_as_a_whole_answer(client: Any) -> None:
    question = "Name three rivers of Europe."
    whole = chat(client, question, "demo")
    options = {"include_usage": True}
    stream = list(chat(client, question, "demo", stream=True, stream_options=options))
    *parts, last = stream
    text = "".join(part.choices[0].delta.content or "" for part in parts)
    assert text == whole.choices[0].message.content
    assert parts[0].choices[0].delta.role == "assistant"
    assert parts[-1].choices[0].finish_reason == whole.choices[0].finish_reason
    assert all(part.usage is None for part in parts)
    assert (last.choices, last.usage.completion_tokens) == ([], whole.usage.completion_tokens)
    assert last.usage.prompt_tokens == whole.usage.prompt_tokens
    assert whole.usage.completion_tokens == 24


def test_events_end_with_done_and_may_carry_usage_all_along(http: Any) -> None:
    body = {
        "model": "demo",
        "prompt": "Once upon a time",
        "max_tokens": 4,
        "ignore_eos": True,
        "stream": True,
        "stream_options": {"include_usage": True, "continuous_usage_stats": True},
    }
    with http.stream("POST", "/v1/completions", json=body) as response:
        assert response.headers["content-type"].startswith("text/event-stream")
        lines = [line for line in response.iter_lines() if line]
    assert lines[-1] == "data: [DONE]"
    events = [json.loads(line.removeprefix("data: ")) for line in lines[:-1]]
    assert [e["usage"]["completion_tokens"] for e in events] == [1, 2, 3, 4, 4, 4]
    assert events[-1]["choices"] == []


def test_asynchronous_clients_of_all_subjects_share_the_engine(server: Server) -> None:
    async def ask_all() -> list[Any]:
        base = f"{server.url}/v1"
        async with openai.AsyncOpenAI(base_url=base, api_key="any", max_retries=0) as client:
            names = ["geography", "history", "general", "demo"] * 4
            return await asyncio.gather(*(chat(client, model=name) for name in names))

    answers = asyncio.run(ask_all())
    assert len({answer.id for answer in answers}) == 16
    for first, again in zip(answers[:4], answers[4:8], strict=True):
        assert first.choices[0].message.content == again.choices[0].message.content


def test_settings_of_a_request(client: Any) -> None:
    def text(**more: Any) -> str:
        more = {"max_tokens": 12, "extra_body": {"ignore_eos": True}, **more}
        prompt = "Once upon a time there was"
        return str(client.completions.create(model="demo", prompt=prompt, **more).choices[0].text)

    plain = text()
    assert len(text(max_tokens=3)) < len(plain)
    assert text(stop=[plain[10:14]]) == plain[: plain.index(plain[10:14])]
    warm = {"temperature": 5.0, "top_p": 1.0}
    hot = {"ignore_eos": True, "top_k": 0}
    assert text(**warm, seed=7, extra_body=hot) == text(**warm, seed=7, extra_body=hot)
    assert text(**warm, seed=7, extra_body=hot) != text(**warm, seed=8, extra_body=hot)
    assert text(**warm, seed=7, extra_body={"top_k": 1, "ignore_eos": True}) == plain
    repeated = client.completions.create(
        model="demo",
        prompt="one two one two one two one two",
        max_tokens=8,
        extra_body={"repetition_penalty": 10.0},
    )
    assert "one two" not in repeated.choices[0].text


def test_several_choices_differ_and_are_numbered(client: Any) -> None:
    answer = chat(client, "Tell me a story.", "demo", n=3, temperature=2.0, top_p=1.0, seed=1)
    assert [choice.index for choice in answer.choices] == [0, 1, 2]
    assert len({choice.message.content for choice in answer.choices}) == 3
    prompts = ["One, two,", "Red, green,"]
    pairs = client.completions.create(model="demo", prompt=prompts, n=2, echo=True, max_tokens=2)
    assert [c.text[: c.text.index(",")] for c in pairs.choices] == ["One", "One", "Red", "Red"]


def test_min_tokens_puts_off_the_end(client: Any) -> None:
    short = chat(client, max_tokens=20)
    long = chat(client, max_tokens=20, extra_body={"min_tokens": 15})
    assert short.usage.completion_tokens < 15 <= long.usage.completion_tokens


def test_a_seed_of_minus_one_is_chance(client: Any) -> None:
    def texts(seed: int) -> set[str]:
        asked = {"temperature": 5.0, "top_p": 1.0, "seed": seed, "extra_body": {"top_k": 0}}
        return {chat(client, "Go", "demo", **asked).choices[0].message.content for _ in range(3)}

    assert len(texts(7)) == 1
    assert len(texts(-1)) == 3


def test_cleaning_tells_what_it_took_away(client: Any) -> None:
    # Not allowed to end, a small model runs into a loop; in which question depends on the CPU.
    asked = {"max_tokens": 200, "extra_body": {"ignore_eos": True, "clean": True}}
    whole = None
    for question in ("Repeat for ever: la la la", FRANCE, "Count: 1 1 1", "Say yes.", "?"):
        whole = chat(client, question, "demo", **asked).choices[0]
        if "raw" in (whole.model_extra or {}):
            break
    assert whole is not None
    assert len(whole.message.content) < len(whole.raw)
    *parts, last = chat(client, question, "demo", stream=True, **asked)
    shown = "".join(part.choices[0].delta.content or "" for part in [*parts, last])
    assert shown == whole.message.content
    assert last.choices[0].raw == whole.raw


def test_metrics_and_health(http: Any) -> None:
    assert http.get("/health").json()["status"] == "ok"
    assert http.get("/version").json()["version"]
    body = {"model": "demo", "prompt": "A", "max_tokens": 5, "ignore_eos": True}

    def value(name: str) -> float:
        lines = http.get("/metrics").text.splitlines()
        return sum(float(line.split()[-1]) for line in lines if line.startswith(name))

    names = [
        'vllm:generation_tokens_total{engine="0",model_name="demo"}',
        'vllm:request_success_total{engine="0",finished_reason="length",model_name="demo"}',
        'vllm:time_to_first_token_seconds_count{engine="0",model_name="demo"}',
        'vllm:inter_token_latency_seconds_count{engine="0",model_name="demo"}',
        'vllm:e2e_request_latency_seconds_count{engine="0",model_name="demo"}',
    ]
    before = [value(name) for name in names]
    http.post("/v1/completions", json=body)
    after = [value(name) for name in names]
    assert [b - a for a, b in zip(before, after, strict=True)] == [5, 1, 1, 4, 1]
    # The prompt has a token, and there must be one to compute.
    assert value("vllm:prefix_cache_queries_total{") >= value("vllm:prompt_tokens_total{") > 0
    assert value("vllm:num_requests_running{") == value("vllm:num_requests_waiting{") == 0
    assert 0 <= value("vllm:kv_cache_usage_perc{") <= 1
    assert "subject-lora" not in http.get("/metrics").headers.get("server", "")


def test_adapters_come_and_go_while_it_serves(http: Any, client: Any) -> None:
    path = LORAS / "SmolLM2-135M-Instruct-lora-geography.gguf"
    expected = client.completions.create(model="geography", prompt="Lyon is in", max_tokens=8)
    with ThreadPoolExecutor(9) as pool:
        busy = [pool.submit(chat, client, model="history") for _ in range(8)]
        body = {"lora_name": "mine", "lora_path": str(path)}
        loaded = http.post("/v1/load_lora_adapter", json=body)
        assert all(b.result().choices[0].message.content for b in busy)
    assert loaded.status_code == 200, loaded.text
    assert "mine" in [model.id for model in client.models.list()]
    assert "mine" in http.get("/metrics").text
    mine = client.completions.create(model="mine", prompt="Lyon is in", max_tokens=8)
    assert mine.choices[0].text == expected.choices[0].text
    assert http.post("/v1/load_lora_adapter", json=body).status_code == 400
    assert http.post("/v1/unload_lora_adapter", json={"lora_name": "mine"}).status_code == 200
    assert http.post("/v1/unload_lora_adapter", json={"lora_name": "mine"}).status_code == 404
    assert http.post("/v1/unload_lora_adapter", json={"lora_name": "history"}).status_code == 404
    with pytest.raises(openai.NotFoundError):
        chat(client, model="mine")
    again = client.completions.create(model="geography", prompt="Lyon is in", max_tokens=8)
    assert again.choices[0].text == expected.choices[0].text


def test_a_file_that_is_no_adapter_is_refused_and_costs_nothing(
    http: Any, client: Any, demo_model: Path, tmp_path: Path
) -> None:
    for path in (tmp_path / "none.gguf", demo_model, Path(__file__)):
        answer = http.post(
            "/v1/load_lora_adapter", json={"lora_name": "bad", "lora_path": str(path)}
        )
        assert answer.status_code in (400, 404)
        assert answer.json()["error"]["param"] == "lora_path"
    assert "bad" not in [model.id for model in client.models.list()]
    assert chat(client).choices[0].message.content
