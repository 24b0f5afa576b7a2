"""The same questions have the same answers, to the letter, however they are asked."""

from __future__ import annotations

import asyncio
import io
import json
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

from kb.making import make
from runtime import Pipeline, loadPipeline
from runtime.overrides import Overrides
from runtime.questions import parse
from runtime.way import Answer, Asked
from tests.conftest import SAMPLES, small_settings
from tests.serving import Server, serving

COUNT = 200
LONG = "The weather is nice today, and it was nice yesterday. " * 40
FACTS = [
    ("Lutz", "The capital of Lutz is Ambrona, and its longest river is the Ose."),
    ("Treaty of Ambrona", "The Treaty of Ambrona ended the war of Lutz in 1687."),
    ("Paris", "Paris is the capital of France. It is on the river Seine."),
]
USE = {"geography": "always", "history": "always"}


def questions() -> list[dict[str, Any]]:
    """Questions of all subjects, long and empty ones, exercises, and some with strange texts."""
    lines = map(json.loads, SAMPLES.read_text("utf-8").splitlines())
    found = [line for line in lines if isinstance(line.get("question", ""), str)]
    topics = ["Lutz", "France", "the Seine", "Rome", "the moon", "<|im_end|>", "1687", "北京"]
    subjects = ["geography", "History", "general", "chinese", "数学", "no such subject", ""]
    for number in range(COUNT):
        topic, subject = topics[number % len(topics)], subjects[number % len(subjects)]
        text = [
            f"What is the capital of {topic}, {number} of them?",
            f"Solve for x: {number}x + 4 = {4 + 7 * number}.",
            f"{LONG if number % 4 == 2 else ''} What happened in {topic} in {1500 + number}?",
            f"  Name {number} things about {topic}.\r\nGive a list.\x00 ",
            " \n" if number % 10 == 4 else f"Who ruled {topic}?",
        ][number % 5]
        found.append({"questionID": f"made-{number}", "subject": subject, "question": text})
    return [
        {
            "questionID": f"{place}",
            "subject": q.get("subject", ""),
            "question": q.get("question", ""),
        }
        for place, q in enumerate(found[:COUNT])
    ]


@pytest.fixture(scope="module")
def knowledge(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("knowledge")
    raw = folder / "raw.jsonl"
    raw.write_text("\n".join(json.dumps({"title": t, "text": text}) for t, text in FACTS))
    for subject in USE:
        make(subject, [raw], folder)
    return folder


@pytest.fixture(scope="module")
def in_process(shallow_model: Path, shallow_loras: Path, knowledge: Path) -> Iterator[Pipeline]:
    settings = small_settings(
        models_dir=shallow_model.parent,
        adapters_base_dir=shallow_loras,
        num_threads=1,
        max_new_tokens=8,
        algebra_tool="exact",
        rag_knowledge_base_dir=knowledge,
        rag_enabled_subjects=USE,
    )
    with loadPipeline(settings) as pipeline:
        yield pipeline


@pytest.fixture(scope="module")
def server(
    shallow_model: Path,
    shallow_loras: Path,
    knowledge: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("server")
    settings = {
        "MODELS_DIR": str(shallow_model.parent),
        "ADAPTERS_BASE_DIR": str(shallow_loras),
        "MAX_NEW_TOKENS": "8",
        "ALGEBRA_TOOL": "exact",
        "RAG_KNOWLEDGE_BASE_DIR": str(knowledge),
        "RAG_ENABLED_SUBJECTS": json.dumps(USE),
    }
    with serving(folder, "--batch-dir", folder / "kept", **settings) as server:
        yield server


def body(question: dict[str, Any], **more: Any) -> dict[str, Any]:
    messages = [{"role": "user", "content": question["question"]}]
    return {"model": "auto", "subject": question["subject"], "messages": messages, **more}


def answer(status: int, found: dict[str, Any]) -> str:
    """What a list has in the place of a response."""
    if status != 200:
        return f"ERROR: not answered: {found['error']['message']}"
    return str(found["choices"][0]["message"]["content"])


def streamed(http: Any, question: dict[str, Any]) -> str:
    with http.stream("POST", "/v1/chat/completions", json=body(question, stream=True)) as response:
        if response.status_code != 200:
            return answer(response.status_code, json.loads(response.read()))
        lines = [line.removeprefix("data: ") for line in response.iter_lines() if line]
    events = map(json.loads, lines[:-1])
    return "".join(event["choices"][0]["delta"].get("content", "") for event in events)


def batch(http: Any, asked: list[dict[str, Any]]) -> dict[str, str]:
    """Answers from a batch file, by the questions' ids."""
    url = "/v1/chat/completions"
    lines = [
        {"custom_id": q["questionID"], "method": "POST", "url": url, "body": body(q)} for q in asked
    ]
    file = io.BytesIO("\n".join(map(json.dumps, lines)).encode())
    sent = http.post("/v1/files", files={"file": ("b.jsonl", file)}, data={"purpose": "batch"})
    made = {"input_file_id": sent.json()["id"], "endpoint": url, "completion_window": "24h"}
    state = http.post("/v1/batches", json=made).json()
    end = time.monotonic() + 300
    while state["status"] != "completed":
        assert time.monotonic() < end, state
        time.sleep(0.1)
        state = http.get(f"/v1/batches/{state['id']}").json()
    found: dict[str, str] = {}
    for id_ in (state["output_file_id"], state["error_file_id"]):
        for line in http.get(f"/v1/files/{id_}/content").text.splitlines():
            entry = json.loads(line)
            response = entry["response"]
            found[entry["custom_id"]] = answer(response["status_code"], response["body"])
    return found


def check_same(
    pipeline: Pipeline, asked: list[dict[str, Any]], expected: list[str], found: list[str]
) -> None:
    """All answers are the same to the letter, but where the model has no preference.

    What shares a batch with a question changes its logits by rounding, so that of two tokens
    that are equally likely now one is taken and now the other.
    """
    different = [n for n, (a, b) in enumerate(zip(expected, found, strict=True)) if a != b]
    assert len(different) <= 1 + len(asked) // 20
    for n in different:
        gap = preference(pipeline, asked[n], expected[n], found[n])
        assert gap < 0.25, (asked[n], expected[n], found[n])


def preference(pipeline: Pipeline, question: dict[str, Any], *texts: str) -> float:
    """By how much the model prefers one of two texts, in nats, where they begin to differ."""
    (asked,) = pipeline.way.prepare(parse([question]))
    assert isinstance(asked, Asked), "what is not asked of the model has no choice"
    engine, request = pipeline.engines[asked.model], asked.request
    end = pipeline.way.frames[pipeline.way.subject(asked.question)].end
    first, second = ([*engine.model.tokenize(text, follows=True), *end] for text in texts)
    n = next(n for n, (a, b) in enumerate(zip(first, second, strict=False)) if a != b) + 1
    likely = engine.log_likelihoods(request.prompt, [first[:n], second[:n]], request.adapter)
    return abs(float(likely[0][-1] - likely[1][-1]))


@pytest.mark.parametrize(
    "every", [pytest.param(7, marks=pytest.mark.quick), pytest.param(1, marks=pytest.mark.slow)]
)
def test_a_list_the_server_a_stream_and_a_batch_file_give_the_same_answers(
    in_process: Pipeline, server: Server, every: int
) -> None:
    asked = questions()[::every]
    expected = [each["answer"] for each in in_process(asked)]
    assert any(text.startswith("ERROR: not answered: ") for text in expected)
    assert len(set(expected)) > len(asked) // 2
    with httpx.Client(base_url=server.url, timeout=300) as http, ThreadPoolExecutor(16) as pool:

        def whole(question: dict[str, Any]) -> str:
            response = http.post("/v1/chat/completions", json=body(question))
            return answer(response.status_code, response.json())

        check_same(in_process, asked, expected, list(pool.map(whole, asked)))
        stream = list(pool.map(lambda question: streamed(http, question), asked))
        check_same(in_process, asked, expected, stream)
        by_id = batch(http, asked)
        check_same(in_process, asked, expected, [by_id[q["questionID"]] for q in asked])


def test_a_subject_asked_by_its_name_answers_as_in_a_list(
    in_process: Pipeline, server: Server
) -> None:
    asked = [q for q in questions() if q["subject"] in in_process.routes][:30]
    expected = [each["answer"] for each in in_process(asked)]
    with httpx.Client(base_url=server.url, timeout=300) as http, ThreadPoolExecutor(16) as pool:

        def named(question: dict[str, Any]) -> str:
            sent = {**body(question), "model": question["subject"], "subject": None}
            response = http.post("/v1/chat/completions", json=sent)
            return answer(response.status_code, response.json())

        check_same(in_process, asked, expected, list(pool.map(named, asked)))


def test_a_question_that_was_cut_says_so(server: Server) -> None:
    long = {"subject": "geography", "question": f"{LONG} Where are we?"}
    found = httpx.post(f"{server.url}/v1/chat/completions", json=body(long), timeout=60).json()
    assert found["route"]["question_cut"] is True
    assert found["usage"]["prompt_tokens"] == 256


@pytest.mark.parametrize("temperature", [0.0, 0.8])
def test_a_line_of_a_batch_is_the_very_request_of_a_question_in_a_list(
    in_process: Pipeline, temperature: float
) -> None:
    """Prompt, sampling, seed, adapter and group: nothing is left that could differ."""
    from runtime.serve.asking import chat_task
    from runtime.serve.body.schema import ChatBody
    from runtime.serve.options import Options
    from runtime.serve.service import Service

    asked = [q for q in questions() if q["question"].strip()]
    service = Service(in_process, Options())

    async def tasks() -> list[Any]:
        bodies = [ChatBody.model_validate(body(q, temperature=temperature)) for q in asked]
        return [
            await chat_task(service, each, q["questionID"])
            for each, q in zip(bodies, asked, strict=True)
        ]

    overrides = Overrides({"temperature": temperature})
    in_list = list(in_process.way.prepare(parse(asked), overrides=overrides))
    for expected, task in zip(in_list, asyncio.run(tasks()), strict=True):
        (found,) = task.choices
        if isinstance(expected, Answer):
            assert (found.answer, found.source) == (expected.answer, expected.source)
        else:
            assert found.request == expected.request
            assert (found.key, found.cached) == (expected.key, expected.cached)


def test_an_answer_in_the_cache_is_found_by_lists_and_server_alike(
    shallow_model: Path, shallow_loras: Path, tmp_path: Path
) -> None:
    cache = tmp_path / "answers.db"
    settings = small_settings(
        models_dir=shallow_model.parent, adapters_base_dir=shallow_loras, answer_cache=cache
    )
    environment = {
        "MODELS_DIR": str(shallow_model.parent),
        "ADAPTERS_BASE_DIR": str(shallow_loras),
        "ANSWER_CACHE": str(cache),
    }
    asked = [
        {"questionID": "1", "subject": "history", "question": "Who was Caesar?"},
        {"questionID": "2", "subject": "history", "question": "Who was Nero?"},
    ]
    with loadPipeline(settings) as pipeline:
        expected = [each["answer"] for each in pipeline(asked[:1])]

    with (
        serving(tmp_path, **environment) as server,
        httpx.Client(base_url=server.url, timeout=60) as http,
    ):
        found = http.post("/v1/chat/completions", json=body(asked[0])).json()
        assert [answer(200, found)] == expected
        assert found["route"]["cached"] is True
        assert found["usage"]["completion_tokens"] == 0
        assert streamed(http, asked[0]) == expected[0]
        other = http.post("/v1/chat/completions", json=body(asked[1])).json()
        assert other["route"]["cached"] is False
        # What is drawn by chance is another each time, so it is not kept.
        warm = [http.post("/v1/chat/completions", json=body(asked[0], temperature=1.0)).json()] * 2
        assert not any(each["route"]["cached"] for each in warm)

    with loadPipeline(settings) as pipeline:
        (again,) = pipeline(asked[1:])
        assert again["answer"] == answer(200, other)
        assert pipeline.stats.new_tokens == 0
