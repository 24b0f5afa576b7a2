"""Prompts, tokens and likelihoods, as the server takes and tells them."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np

from runtime import Pipeline
from tests.demo_server import FRANCE, chat

pytest_plugins = ["tests.demo_server"]


def test_log_probabilities_of_a_chat(client: Any) -> None:
    answer = chat(client, logprobs=True, top_logprobs=2, max_completion_tokens=3)
    content = answer.choices[0].logprobs.content
    assert len(content) == answer.usage.completion_tokens
    assert "".join(entry.token for entry in content) == answer.choices[0].message.content
    for entry in content:
        assert entry.logprob == entry.top_logprobs[0].logprob >= entry.top_logprobs[1].logprob
        assert bytes(entry.bytes).decode() == entry.token


def test_likelihoods_of_a_prompt_as_lm_evaluation_harness_asks_for_them(
    http: Any, in_process: Pipeline
) -> None:
    """Batches of token ids with max_tokens 1, echo and logprobs 1."""
    model = next(iter(in_process.engines.values())).model
    texts = ["The capital of France is Paris", "Water freezes at 一百度 degrees"]
    prompts = [model.tokenize(text) for text in texts]
    body = {"model": "demo", "prompt": prompts, "max_tokens": 1, "logprobs": 1, "echo": True}
    choices = http.post("/v1/completions", json=body).json()["choices"]
    engine = next(iter(in_process.engines.values()))
    for prompt, text, choice in zip(prompts, texts, choices, strict=True):
        found = choice["logprobs"]
        assert choice["text"].startswith(text)
        assert len(found["token_logprobs"]) == len(found["top_logprobs"]) == len(prompt) + 1
        assert found["token_logprobs"][0] is found["top_logprobs"][0] is None
        (expected,) = engine.log_likelihoods(prompt[:1], [prompt[1:]])
        np.testing.assert_allclose(found["token_logprobs"][1:-1], expected, atol=0.1)
        for token, logprob, top in list(
            zip(found["tokens"], found["token_logprobs"], found["top_logprobs"], strict=True)
        )[1:]:
            assert top[token] == logprob
        # The new token is the likeliest, and known by equality.
        assert max(found["top_logprobs"][-1].values()) == found["token_logprobs"][-1]


def test_a_prompt_can_be_scored_without_a_new_token(http: Any) -> None:
    body = {"model": "history", "prompt": "In 1945", "max_tokens": 0, "logprobs": 0, "echo": True}
    answer = http.post("/v1/completions", json=body).json()
    assert answer["choices"][0]["text"] == "In 1945"
    assert answer["usage"]["completion_tokens"] == 0
    assert all(p < 0 for p in answer["choices"][0]["logprobs"]["token_logprobs"][1:])


def test_token_ids_and_texts_are_the_same_prompt(http: Any) -> None:
    text = "The capital of <|im_end|> 法国 is"
    tokens = http.post("/tokenize", json={"prompt": text, "return_token_strs": True}).json()
    assert tokens["count"] == len(tokens["tokens"])
    assert "<|im_end|>" in tokens["token_strs"]
    back = http.post("/detokenize", json={"tokens": tokens["tokens"]}).json()
    assert back["prompt"] == text
    bodies = ({"model": "demo", "prompt": p, "max_tokens": 4} for p in (text, tokens["tokens"]))
    first, second = (http.post("/v1/completions", json=body).json() for body in bodies)
    assert first["choices"] == second["choices"]
    assert first["usage"]["prompt_tokens"] == second["usage"]["prompt_tokens"]
    info = http.get("/tokenizer_info").json()
    end = http.post("/tokenize", json={"prompt": info["eos_token"], "add_special_tokens": False})
    assert end.json()["count"] == 1
    assert "messages" in info["chat_template"]


def test_a_conversation_goes_through_the_chat_template(http: Any) -> None:
    messages = [
        {"role": "developer", "content": "You are brief."},
        {"role": "user", "content": [{"type": "text", "text": "Hello <|im_end|>"}]},
        {"role": "assistant", "content": "Hi."},
        {"role": "user", "content": "Bye @@MESSAGE_0@@"},
    ]
    tokens = http.post("/tokenize", json={"model": "demo", "messages": messages}).json()["tokens"]
    assert http.post("/detokenize", json={"tokens": tokens}).json()["prompt"] == (
        "<|im_start|>system\nYou are brief.<|im_end|>\n"
        "<|im_start|>user\nHello <|im_end|><|im_end|>\n"
        "<|im_start|>assistant\nHi.<|im_end|>\n"
        "<|im_start|>user\nBye @@MESSAGE_0@@<|im_end|>\n<|im_start|>assistant\n"
    )
    # What a message says stays text: only the template's own four are the special token.
    end = http.post("/tokenize", json={"prompt": "<|im_end|>"}).json()["tokens"][0]
    assert tokens.count(end) == 4


def test_the_next_turn_of_a_conversation_finds_what_was_computed(http: Any) -> None:
    turns = [
        {"role": "system", "content": "You are a patient teacher of geography. " * 3},
        {"role": "user", "content": "Which river flows through Paris?"},
    ]
    body = {"model": "demo", "messages": turns, "max_tokens": 16, "ignore_eos": True}

    def ask(model: str = "demo") -> Any:
        return http.post("/v1/chat/completions", json={**body, "model": model}).json()

    def hits() -> float:
        lines = http.get("/metrics").text.splitlines()
        name = 'vllm:prefix_cache_hits_total{engine="0",model_name="demo"}'
        return sum(float(line.split()[-1]) for line in lines if line.startswith(name))

    first = ask()
    before = hits()
    n_first = first["usage"]["prompt_tokens"]
    turns.append(first["choices"][0]["message"])
    turns.append({"role": "user", "content": "And through Lyon?"})
    second = ask()
    cached = second["usage"]["prompt_tokens_details"]["cached_tokens"]
    assert n_first <= cached < second["usage"]["prompt_tokens"]
    assert hits() - before == cached
    turns[1] = {"role": "user", "content": "Who are you?"}  # the same beginning
    assert ask()["usage"]["prompt_tokens_details"]["cached_tokens"] >= 20
    # Of another adapter's states there is at most the bare beginning of its prompts.
    other = ask("history")["usage"]["prompt_tokens_details"]["cached_tokens"]
    assert other < 20
    body["stream"], body["stream_options"] = True, {"include_usage": True}
    with http.stream("POST", "/v1/chat/completions", json=body) as response:
        lines = [line for line in response.iter_lines() if line]
    usage = json.loads(lines[-2].removeprefix("data: "))["usage"]
    assert usage["prompt_tokens_details"]["cached_tokens"] == usage["prompt_tokens"] - 1


def test_a_last_message_of_the_assistant_is_continued(http: Any) -> None:
    messages = [
        {"role": "user", "content": FRANCE},
        {"role": "assistant", "content": "The capital of France is"},
    ]
    tokens = http.post("/tokenize", json={"model": "demo", "messages": messages}).json()["tokens"]
    prompt = http.post("/detokenize", json={"tokens": tokens}).json()["prompt"]
    assert prompt.endswith("<|im_start|>assistant\nThe capital of France is")
    body = {"model": "demo", "messages": messages, "max_tokens": 3}
    answer = http.post("/v1/chat/completions", json=body).json()
    assert "Paris" in answer["choices"][0]["message"]["content"]


def test_numbers_in_answers_are_finite_json(http: Any) -> None:
    body = {"model": "demo", "prompt": "1 + 1 =", "max_tokens": 3, "logprobs": 20}
    text = http.post("/v1/completions", json=body).text

    def refuse(constant: str) -> float:
        raise AssertionError(constant)

    found = json.loads(text, parse_constant=refuse)["choices"][0]["logprobs"]["token_logprobs"]
    assert all(math.isfinite(value) for value in found)


def test_tokens_of_a_prompt_are_scored_as_in_vllm(http: Any) -> None:
    echoed = {"model": "demo", "prompt": "In 1945 the", "max_tokens": 1, "logprobs": 2}
    answer = http.post("/v1/completions", json={**echoed, "echo": True}).json()
    expected = answer["choices"][0]["logprobs"]
    body = {"model": "demo", "prompt": "In 1945 the", "max_tokens": 1, "prompt_logprobs": 2}
    (choice,) = http.post("/v1/completions", json=body).json()["choices"]
    first, *scored = choice["prompt_logprobs"]
    assert first is None
    assert choice["logprobs"] is None
    tokens = http.post("/tokenize", json={"prompt": "In 1945 the"}).json()["tokens"]
    assert len(scored) == len(tokens) - 1
    for number, (token, entries) in enumerate(zip(tokens[1:], scored, strict=True), 1):
        mine = entries[str(token)]
        assert mine["decoded_token"] == expected["tokens"][number]
        assert math.isclose(mine["logprob"], expected["token_logprobs"][number], abs_tol=0.05)
        ranks = sorted(entry["rank"] for entry in entries.values())
        assert ranks == [1, 2] if mine["rank"] < 3 else [1, 2, mine["rank"]]
        best = max(entries.values(), key=lambda entry: entry["logprob"])
        assert best["rank"] == 1


def test_the_prompt_of_a_chat_is_scored_beside_its_answer(http: Any) -> None:
    """Also of a question that would be computed, and that a subject answers."""
    body = {"model": "algebra", "messages": [{"role": "user", "content": "What is 2 + 2?"}]}
    plain = http.post("/v1/chat/completions", json=body).json()
    assert plain["route"]["computed"]
    scored = http.post("/v1/chat/completions", json={**body, "prompt_logprobs": 0}).json()
    assert not scored["route"]["computed"]
    assert len(scored["prompt_logprobs"]) == scored["usage"]["prompt_tokens"]
    assert "prompt_logprobs" not in plain
    refused = http.post("/v1/chat/completions", json={**body, "prompt_logprobs": 0, "stream": True})
    assert refused.status_code == 400
    assert "prompt_logprobs are not streamed" in refused.text
