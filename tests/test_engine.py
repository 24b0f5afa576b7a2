"""The engine on the real demo model."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import runtime.engine
from runtime.engine import (
    Completion,
    Context,
    Engine,
    EngineError,
    EngineOptions,
    Request,
    SamplingParams,
)
from runtime.engine.batch import Batch
from runtime.engine.model import split_text
from runtime.engine.prefixes import PrefixCache
from runtime.engine.sharing import common_prefix

CHAT = (
    "<|im_start|>system\nAnswer the question in one short sentence.<|im_end|>\n"
    "<|im_start|>user\n{}<|im_end|>\n<|im_start|>assistant\n"
)


def prompt(engine: Engine, question: str) -> list[int]:
    return engine.model.tokenize(CHAT.format(question), special=True)


def complete(engine: Engine, requests: list[Request]) -> list[Completion]:
    return sorted(engine.generate(requests), key=lambda completion: completion.index)


def test_it_answers(engine: Engine) -> None:
    (completion,) = complete(engine, [Request(prompt(engine, "What is the capital of France?"))])
    assert "Paris" in completion.text


def test_an_answer_ends_with_the_end_of_generation_token(engine: Engine) -> None:
    (completion,) = complete(
        engine, [Request(prompt(engine, "In which year did the Second World War end?"))]
    )
    assert completion.finish_reason == "stop"
    assert completion.text.endswith(".")
    assert engine.model.end_tokens[0] not in completion.tokens


def test_more_requests_than_slots_are_all_completed(engine: Engine) -> None:
    questions = [f"Count to {n}." for n in range(2, 25)]
    params = SamplingParams(max_new_tokens=9)
    completions = complete(engine, [Request(prompt(engine, q), params) for q in questions])
    assert [c.index for c in completions] == list(range(23))
    assert all(c.text and len(c.tokens) <= 9 for c in completions)


def test_nothing_to_complete(engine: Engine) -> None:
    assert complete(engine, []) == []


def test_a_bad_request_costs_no_other(engine: Engine) -> None:
    params = SamplingParams(min_new_tokens=5, max_new_tokens=5)
    good = Request(prompt(engine, "Say hello."), params)
    bad = [
        Request([]),
        Request([10**6]),
        Request([-1]),
        Request([5] * 600),
        Request([5], SamplingParams(max_new_tokens=0)),
        Request([5], SamplingParams(stop=("",))),
        Request([5], adapter="nobody"),
    ]
    completions = complete(engine, [good, *bad, good])
    assert [c.finish_reason for c in completions] == ["length"] + ["error"] * 7 + ["length"]
    assert completions[0].tokens == completions[-1].tokens
    assert [c.error for c in completions[1:-1]] == [
        "the prompt has no tokens",
        "the prompt has a token id that the model does not know",
        "the prompt has a token id that the model does not know",
        "the prompt has 600 tokens and a slot takes 495",
        "max_new_tokens is below 1",
        "an empty stop string",
        "no adapter named 'nobody' is loaded",
    ]


def test_an_answer_that_fills_its_slot_ends_there(engine: Engine) -> None:
    request = Request([500] * 490, SamplingParams(max_new_tokens=10**6, min_new_tokens=10**6))
    (completion,) = complete(engine, [request])
    assert completion.finish_reason == "length"
    assert len(completion.tokens) == 512 - 490


def test_min_and_max_new_tokens(engine: Engine) -> None:
    params = SamplingParams(min_new_tokens=40, max_new_tokens=50)
    (completion,) = complete(engine, [Request(prompt(engine, "Say yes."), params)])
    assert 40 <= len(completion.tokens) <= 50


def test_a_stop_string_ends_the_text_and_is_cut(engine: Engine) -> None:
    tokens = prompt(engine, "What is the capital of France?")
    (whole,) = complete(engine, [Request(tokens)])
    (cut,) = complete(engine, [Request(tokens, SamplingParams(stop=("zzz", "Paris")))])
    assert cut.finish_reason == "stop"
    assert cut.text == whole.text[: whole.text.index("Paris")]


def test_repetition_penalty_changes_a_text_that_repeats(engine: Engine) -> None:
    tokens = prompt(engine, "Write the word la ten times.")
    params = [SamplingParams(max_new_tokens=48, repetition_penalty=p) for p in (1.0, 1.8)]
    plain, penalized = complete(engine, [Request(tokens, p) for p in params])
    assert len(set(penalized.tokens)) / len(penalized.tokens) > len(set(plain.tokens)) / len(
        plain.tokens
    )


def test_a_seed_gives_the_same_text_whatever_the_neighbours(engine: Engine) -> None:
    params = SamplingParams(temperature=1.0, top_k=50, max_new_tokens=12)
    tokens = prompt(engine, "Tell me a story.")
    (alone,) = complete(engine, [Request(tokens, params, seed=7)])
    crowd = complete(engine, [Request(tokens, params, seed=s) for s in (1, 2, 7, 3, 4, 5)])
    assert crowd[2].tokens == alone.tokens
    assert len({tuple(c.tokens) for c in crowd}) == 6


def test_the_common_prefix_is_decoded_once(engine: Engine) -> None:
    chat = CHAT.replace("Answer", "Please answer")  # begins like no other test's prompts
    questions = [
        engine.model.tokenize(chat.format(f"Is {w} a letter?"), special=True) for w in "ABC"
    ]
    shared = len(common_prefix(questions))
    assert shared > 8
    params = SamplingParams(max_new_tokens=4)
    engine.stats.reset()
    complete(engine, [Request(q, params, group="new") for q in questions])
    assert engine.stats.shared_tokens == 3 * shared
    begun = len(common_prefix([questions[0], prompt(engine, "?")]))  # saved by other tests
    computed = shared + sum(len(q) - shared for q in questions)
    assert computed - begun <= engine.stats.prefill_tokens <= computed
    engine.stats.reset()  # and kept for the next call
    complete(engine, [Request(questions[0], params)])
    assert engine.stats.shared_tokens == shared


def test_a_shared_prefix_does_not_change_the_answers(demo_model: Path) -> None:
    with Engine.load(demo_model, EngineOptions(slots=4, cells_per_slot=256)) as fresh:
        head = "You are a careful teacher who answers in one short sentence. "
        requests = [
            Request(prompt(fresh, head + q), SamplingParams(max_new_tokens=16))
            for q in ("What is rain?", "What is snow?", "What is wind?")
        ]
        together = complete(fresh, requests)
    for request, completion in zip(requests, together, strict=True):
        with Engine.load(demo_model, EngineOptions(slots=1, cells_per_slot=256)) as alone:
            (single,) = complete(alone, [request])
            assert alone.stats.shared_tokens == 0
        assert single.tokens[:8] == completion.tokens[:8]


def test_a_prompt_longer_than_a_call_is_prefilled_in_pieces(demo_model: Path) -> None:
    with Engine.load(demo_model, EngineOptions(slots=2, cells_per_slot=1500)) as engine:
        filler = "The sky is blue. " * 220
        long = prompt(engine, filler + "What is the capital of France?")
        assert len(long) > 2 * engine.context.max_tokens
        (completion,) = complete(engine, [Request(long, SamplingParams(max_new_tokens=24))])
        assert engine.stats.prefill_tokens == len(long)
    assert completion.finish_reason in ("stop", "length")
    assert completion.text


def test_completions_come_as_they_end(engine: Engine) -> None:
    long = Request(prompt(engine, "Count."), SamplingParams(min_new_tokens=30, max_new_tokens=30))
    short = Request(prompt(engine, "Count."), SamplingParams(max_new_tokens=2))
    assert [c.index for c in engine.generate([long, short])] == [1, 0]


def test_leaving_a_run_half_way_frees_the_engine(engine: Engine) -> None:
    params = SamplingParams(max_new_tokens=32)
    requests = [Request(prompt(engine, f"Count to {n}."), params) for n in range(8)]
    expected = complete(engine, requests[:1])
    running = engine.generate(requests)
    next(running)
    with pytest.raises(EngineError, match="busy"):
        next(engine.generate(requests))
    running.close()
    assert complete(engine, requests[:1]) == expected


def test_closing_in_the_middle_of_a_run_is_an_error_not_a_crash(demo_model: Path) -> None:
    engine = Engine.load(demo_model, EngineOptions(slots=2, cells_per_slot=256))
    requests = [Request(prompt(engine, f"Count to {n}.")) for n in range(8)]
    running = engine.generate(requests)
    next(running)
    engine.close()
    engine.close()
    with pytest.raises(EngineError, match="has been closed"):
        next(running)
    with pytest.raises(EngineError, match="has been closed"):
        next(engine.generate(requests))
    with pytest.raises(EngineError, match="has been closed"):
        engine.model.tokenize("Paris")


def test_a_step_that_fails_costs_only_its_own_requests(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    params = SamplingParams(min_new_tokens=6, max_new_tokens=6)
    requests = [Request(prompt(engine, f"Count to {n}."), params) for n in range(12)]
    expected = complete(engine, requests)
    run, calls = engine.context.run, iter(range(100))

    def failing(*args: Any, **kwargs: Any) -> Any:
        if next(calls) == 5:
            raise EngineError("no room")
        return run(*args, **kwargs)

    monkeypatch.setattr(engine.context, "run", failing)
    completions = complete(engine, requests)
    failed = [c.index for c in completions if c.finish_reason == "error"]
    assert 0 < len(failed) < len(requests)
    for ours, theirs in zip(completions, expected, strict=True):
        assert ours.index in failed or ours.tokens == theirs.tokens


def test_a_long_text_has_the_tokens_it_would_have_in_one_piece(engine: Engine) -> None:
    text = "The sky is blue,  and 中文 it is   wide. " * 300
    assert len(text) > 10_000
    assert "".join(split_text(text)) == text
    assert engine.model.tokenize(text) == engine.model._tokenize(text, special=False)


def test_pinned_prefixes_stay_and_others_give_way_to_newer_ones() -> None:
    prefixes = PrefixCache(budget=25)
    for n in range(3):
        prefixes.put(None, [n, n], np.zeros(10, np.uint8))
        if n == 0:
            prefixes.pin(None, [n, n])
    prefixes.find(None, [1, 1])
    prefixes.put(None, [3, 3], np.zeros(10, np.uint8))
    kept = [n for n in range(4) if prefixes.find(None, [n, n, 9])[0] == 2]
    assert kept == [0, 1, 3]
    assert prefixes.nbytes == 20
    prefixes.put(None, [4, 4], np.zeros(99, np.uint8))  # the newest stays until it was found
    assert prefixes.nbytes == 99
    prefixes.trim()
    assert prefixes.nbytes == 0
    assert prefixes.find(None, [0, 7])[0] == 1  # a part of it will do
    assert prefixes.find("other adapter", [0, 0]) == (0, None)


def test_common_prefix() -> None:
    assert common_prefix([[1, 2, 3, 4], [1, 2, 5], [1, 2, 3]]) == (1, 2)
    assert common_prefix([[1, 2], [1, 2]]) == (1,)
    assert common_prefix([[1, 2, 3]]) == (1, 2)
    assert common_prefix([]) == ()


def logits_of(engine: Engine, tokens: list[int]) -> np.ndarray:
    """The logits after each token, decoded in one call on a context of its own."""
    context = Context(engine.model, 1, 0, 256, threads=2)
    batch = Batch(len(tokens)).fill(tokens, np.arange(len(tokens)), 0, 1)
    logits = context.run(batch).logits.copy()
    context.close()
    return logits


def test_log_likelihoods_are_those_of_the_logits_token_by_token(engine: Engine) -> None:
    prompt = engine.model.tokenize("The capital of France is")
    answers = [engine.model.tokenize(text) for text in (" Paris", " Berlin, of course", " a")]
    found = engine.log_likelihoods(prompt, answers)
    for answer, likely in zip(answers, found, strict=True):
        whole = [*prompt, *answer]
        logits = logits_of(engine, whole[:-1])
        shifted = logits - logits.max(axis=1, keepdims=True)
        every = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
        rows = np.arange(len(prompt) - 1, len(whole) - 1)
        np.testing.assert_allclose(likely, every[rows, answer], atol=0.02)
    assert found[0].sum() > found[1].sum()
    (greedy,) = engine.generate([Request(prompt, SamplingParams(max_new_tokens=1))])
    likeliest, other = engine.log_likelihoods(prompt, [greedy.tokens, answers[2]])
    assert likeliest[0] >= other[0]


@pytest.mark.parametrize(
    ("prompt", "answer", "problem"),
    [
        ([], [1, 2], "no tokens"),
        ([1], [], "no tokens"),
        ([1], [10**9], "does not know"),
        ([1], [1] * 2000, "a slot takes"),
    ],
)
def test_what_has_no_likelihood_is_refused(
    engine: Engine, prompt: list[int], answer: list[int], problem: str
) -> None:
    with pytest.raises(EngineError, match=problem):
        engine.log_likelihoods(prompt, [answer])
    assert engine.log_likelihoods([1], [[2]])[0].shape == (1,)


def test_the_package_says_what_each_of_its_modules_is_for() -> None:
    assert runtime.engine.__doc__ is not None
    folder = Path(runtime.engine.__file__).parent
    modules = {path.stem for path in folder.glob("*.py")} - {"__init__"}
    named = set(re.findall(r"`(\w+)`", runtime.engine.__doc__))
    assert modules <= named
