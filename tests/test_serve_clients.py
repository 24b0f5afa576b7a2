"""Other people's clients, unchanged, against the server: `make test-clients` has them all.

OpenAI's own is in test_serve.py and test_serve_batches.py. Each of these is skipped where its
package is not installed.
"""

from __future__ import annotations

import asyncio
import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from runtime import Pipeline, loadPipeline
from tests.conftest import LORAS, small_settings
from tests.serving import Server, serving

FRANCE = "What is the capital of France?"
QUESTIONS = [
    FRANCE,
    "Which river flows through Cairo?",
    "Name an ocean.",
]
# (context, choices, the right one)
CHOICES: list[tuple[str, list[str], int]] = [
    ("The capital of France is", ["Paris", "Berlin", "a river"], 0),
    ("Water freezes at zero", ["bananas", "degrees"], 1),
    ("One, two, three,", ["green", "four", "four five"], 1),
]


@pytest.fixture(scope="module")
def server(demo_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving(tmp_path_factory.mktemp("server")) as server:
        yield server


@pytest.fixture(scope="module")
def in_process(demo_model: Path) -> Iterator[Pipeline]:
    """The same pipeline without a server."""
    with loadPipeline(small_settings(adapters_base_dir=LORAS, num_threads=1)) as pipeline:
        yield pipeline


@pytest.fixture(scope="module")
def expected(in_process: Pipeline) -> list[str]:
    """What the pipeline answers to the questions."""
    asked = [
        {"questionID": str(number), "subject": "geography", "question": question}
        for number, question in enumerate(QUESTIONS)
    ]
    return [answer["answer"] for answer in in_process(asked)]


def needs(package: str) -> pytest.MarkDecorator:
    return pytest.mark.skipif(
        importlib.util.find_spec(package) is None,
        reason=f"{package} is not installed: make test-clients",
    )


def run(command: list[str], folder: Path, **environment: str) -> str:
    """What a command says, which must succeed; nothing is fetched from the network."""
    offline = {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1", "HF_HOME": str(folder / "hf")}
    done = subprocess.run(
        [sys.executable, *command],
        cwd=folder,
        env={**os.environ, **offline, **environment},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def evaluate(folder: Path, task: dict[str, Any], lines: list[dict[str, Any]], *args: str) -> Any:
    """lm-evaluation-harness on a task of our own: its scores, and each question's record."""
    (folder / "data.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    common = {
        "task": "own",
        "dataset_path": "json",
        "dataset_kwargs": {"data_files": {"test": str(folder / "data.jsonl")}},
        "test_split": "test",
    }
    # JSON is YAML too.
    (folder / "own.yaml").write_text(json.dumps(common | task))
    run(
        ["-m", "lm_eval", "run", *args, "--tasks", "own", "--include_path", str(folder)]
        + ["--output_path", str(folder / "out"), "--log_samples"],
        folder,
        OPENAI_API_KEY="any",
    )
    (scores,) = (folder / "out").rglob("results_*.json")
    (samples,) = (folder / "out").rglob("samples_own_*.jsonl")
    records = [json.loads(line) for line in samples.read_text().splitlines()]
    return json.loads(scores.read_text())["results"]["own"], sorted(
        records, key=lambda record: record["doc_id"]
    )


@needs("lm_eval")
@pytest.mark.slow
@pytest.mark.parametrize("model", ["demo", "geography"])
def test_lm_evaluation_harness_finds_the_engines_own_likelihoods(
    server: Server, in_process: Pipeline, tmp_path: Path, model: str
) -> None:
    """`local-completions` with the server's tokenizer: token ids, echo and logprobs."""
    task = {
        "output_type": "multiple_choice",
        "doc_to_text": "context",
        "doc_to_choice": "choices",
        "doc_to_target": "right",
        "metric_list": [{"metric": "acc"}],
    }
    lines = [{"context": c, "choices": choices, "right": r} for c, choices, r in CHOICES]
    arguments = {
        "model": model,
        "base_url": f"{server.url}/v1/completions",
        "tokenizer_backend": "remote",
        "num_concurrent": "2",
        "max_length": "256",
    }
    joined = ",".join(f"{name}={value}" for name, value in arguments.items())
    scores, records = evaluate(
        tmp_path, task, lines, "--model", "local-completions", "--model_args", joined
    )
    (engine,) = in_process.engines.values()
    adapter = None if model == "demo" else in_process.routes[model].adapter_name
    right = 0
    for (context, choices, answer), record in zip(CHOICES, records, strict=True):
        prompt = engine.model.tokenize(context)
        sums = []
        for choice in choices:
            tokens = engine.model.tokenize(f"{context} {choice}")
            assert tokens[: len(prompt)] == prompt
            (found,) = engine.log_likelihoods(prompt, [tokens[len(prompt) :]], adapter)
            sums.append(float(found.sum()))
        given = [float(response[0]) for response in record["filtered_resps"]]
        # The same but for the rounding of other batches.
        assert given == pytest.approx(sums, abs=0.15)
        right += max(range(len(sums)), key=sums.__getitem__) == answer
    assert scores["acc,none"] == pytest.approx(right / len(CHOICES))


@needs("lm_eval")
@pytest.mark.slow
def test_lm_evaluation_harness_gets_the_pipelines_answers_in_chat(
    server: Server, expected: list[str], tmp_path: Path
) -> None:
    """`local-chat-completions`, each answer compared with the pipeline's."""
    task = {
        "output_type": "generate_until",
        "doc_to_text": "question",
        "doc_to_target": "answer",
        "generation_kwargs": {"until": ["@@@@"], "max_gen_toks": 24, "temperature": 0},
        "metric_list": [{"metric": "exact_match"}],
    }
    lines = [{"question": q, "answer": a} for q, a in zip(QUESTIONS, expected, strict=True)]
    lines.append({"question": QUESTIONS[0], "answer": "something else"})
    model = f"model=geography,base_url={server.url}/v1/chat/completions,num_concurrent=2"
    scores, records = evaluate(
        tmp_path,
        task,
        lines,
        *("--model", "local-chat-completions", "--model_args", model, "--apply_chat_template"),
    )
    given = [record["filtered_resps"][0] for record in records]
    assert given == [*expected, expected[0]]
    assert scores["exact_match,none"] == pytest.approx(len(QUESTIONS) / len(lines))


@needs("litellm")
def test_litellm(server: Server, expected: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LITELLM_LOCAL_MODEL_COST_MAP", "True")  # else it is fetched
    import litellm

    where = {"api_base": f"{server.url}/v1", "api_key": "any", "num_retries": 0}
    asked: dict[str, Any] = {
        "model": "openai/geography",
        "messages": [{"role": "user", "content": FRANCE}],
        "temperature": 0,
        **where,
    }
    whole = litellm.completion(**asked)
    assert whole.choices[0].message.content == expected[0]
    assert whole.usage.total_tokens == whole.usage.prompt_tokens + whole.usage.completion_tokens
    parts = list(litellm.completion(**asked, stream=True, stream_options={"include_usage": True}))
    texts = [part.choices[0].delta.content or "" for part in parts if part.choices]
    assert "".join(texts) == expected[0]
    assert [p.usage.completion_tokens for p in parts if getattr(p, "usage", None)] == [
        whole.usage.completion_tokens
    ]
    scored = litellm.completion(**asked, logprobs=True, top_logprobs=2)
    assert "".join(e.token for e in scored.choices[0].logprobs.content) == expected[0]
    text = litellm.text_completion(
        model="text-completion-openai/demo", prompt="One, two, three,", max_tokens=4, **where
    )
    assert text.usage.completion_tokens == 4
    with pytest.raises(litellm.NotFoundError, match="there is no model"):
        litellm.completion(**{**asked, "model": "openai/gpt-4"})
    # A single question to a subject would lose its middle.
    too_long = {"model": "openai/demo", "messages": [{"role": "user", "content": "a b " * 500}]}
    with pytest.raises(litellm.ContextWindowExceededError):
        litellm.completion(**{**asked, **too_long})


@needs("langchain_openai")
def test_langchain(server: Server, expected: list[str]) -> None:
    from langchain_openai import ChatOpenAI, OpenAI

    where: dict[str, Any] = {"base_url": f"{server.url}/v1", "api_key": "any", "max_retries": 0}
    chat = ChatOpenAI(model="geography", temperature=0, **where)
    whole = chat.invoke(FRANCE)
    assert whole.content == expected[0]
    assert whole.usage_metadata is not None
    parts = list(chat.stream(FRANCE, stream_usage=True))
    assert "".join(str(part.content) for part in parts) == expected[0]
    used = [part.usage_metadata for part in parts if part.usage_metadata]
    assert [u["output_tokens"] for u in used] == [whole.usage_metadata["output_tokens"]]
    assert [a.content for a in chat.batch(list(QUESTIONS))] == expected
    assert asyncio.run(chat.ainvoke(QUESTIONS[1])).content == expected[1]
    turns = [("system", "Be brief."), ("human", "Hi"), ("ai", "Hello."), ("human", "Bye")]
    assert chat.invoke(turns, logprobs=True).response_metadata["logprobs"]["content"]
    assert OpenAI(model="demo", max_tokens=4, **where).invoke("One, two, three,")


@needs("llm")
def test_llm_of_the_command_line(server: Server, expected: list[str], tmp_path: Path) -> None:
    entry = {
        "model_id": "geo",
        "model_name": "geography",
        "api_base": f"{server.url}/v1",
        "api_key_name": "geo",
    }
    (tmp_path / "extra-openai-models.yaml").write_text(json.dumps([entry]))
    (tmp_path / "keys.json").write_text('{"geo": "any"}')
    command = ["-m", "llm", "-m", "geo", "-o", "temperature", "0"]
    for more in ([], ["--no-stream"]):
        said = run([*command, *more, FRANCE], tmp_path, LLM_USER_PATH=str(tmp_path))
        assert said.removesuffix("\n") == expected[0]
    log = run(["-m", "llm", "logs", "--json"], tmp_path, LLM_USER_PATH=str(tmp_path))
    assert {entry["output_tokens"] for entry in json.loads(log)} != {None}


@needs("guidellm")
def test_guidellms_benchmark(server: Server, tmp_path: Path) -> None:
    lines = [{"prompt": question, "output_tokens_count": 8} for question in QUESTIONS * 2]
    (tmp_path / "asked.jsonl").write_text("\n".join(map(json.dumps, lines)) + "\n")
    run(
        ["-m", "guidellm", "run", "--disable-console-interactive"]
        + ["--backend", f"kind=openai_http,target={server.url},model=geography"]
        + ["--profile", "kind=concurrent,streams=3"]
        + ["--constraint", f"kind=max_requests,count={len(lines)}"]
        + ["--data", "kind=json_file,path=asked.jsonl"]
        + ["--output", "kind=json,path=measured.json"],
        tmp_path,
    )
    (measured,) = json.loads((tmp_path / "measured.json").read_text())["benchmarks"]
    requests = measured["requests"]
    assert (requests["errored"], requests["incomplete"]) == ([], [])
    assert len(requests["successful"]) == len(lines)
    for request in requests["successful"]:
        assert request["output_tokens"] == 8
        assert request["prompt_tokens"] > 8
        assert 0 < request["time_to_first_token_ms"] <= 1000 * request["request_latency"]
