"""What a request changes of its logits, beside llama.cpp's samplers and vLLM's formulas."""

from __future__ import annotations

import ctypes
import itertools
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import llama_cpp
import numpy as np
import pytest

from runtime.engine import Completion, Engine, Request, SamplingParams
from runtime.engine import sampling as sampling_module
from runtime.engine.rows import Rows
from runtime.engine.sampling import NOTHING, Draw, choose, n_likeliest, probabilities

VOCAB = 300
PROMPT, WRITTEN = [1, 2, 3, 3, 4], [5, 5, 6, 1]
CHAT = "<|im_start|>user\n{}<|im_end|>\n<|im_start|>assistant\n"


def logits(seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, 3, VOCAB).astype(np.float32)


def adjusted(params: SamplingParams, **more: Any) -> np.ndarray:
    row = logits()
    draw = Draw(params, 0.5, prompt=PROMPT, written=WRITTEN, **more)
    sampling_module._adjust(row, draw)
    return row


def llama(row: np.ndarray, sampler: Any, accepted: Sequence[int] = ()) -> dict[int, float]:
    """Token → logit after one of llama.cpp's samplers, which has seen some tokens."""
    data = (llama_cpp.llama_token_data * len(row))(
        *[llama_cpp.llama_token_data(i, float(x), 0.0) for i, x in enumerate(row)]
    )
    candidates = llama_cpp.llama_token_data_array(data, len(row), -1, False)
    for token in accepted:
        llama_cpp.llama_sampler_accept(sampler, token)
    llama_cpp.llama_sampler_apply(sampler, ctypes.byref(candidates))
    kept = {candidates.data[i].id: candidates.data[i].logit for i in range(candidates.size)}
    llama_cpp.llama_sampler_free(sampler)
    return kept


@pytest.mark.parametrize("last_n", [0, 3, 6, 64])
def test_repetition_is_penalized_as_in_llama_cpp(last_n: int) -> None:
    ours = adjusted(SamplingParams(repetition_penalty=1.7, penalty_last_n=last_n))
    sampler = llama_cpp.llama_sampler_init_penalties(VOCAB, last_n or 1000, 1.7, 0.0, 0.0)
    theirs = llama(logits(), sampler, [*PROMPT, *WRITTEN])
    assert ours == pytest.approx([theirs[token] for token in range(VOCAB)], abs=1e-5)


def test_presence_and_frequency_are_subtracted_as_in_llama_cpp_for_what_was_written() -> None:
    ours = adjusted(SamplingParams(presence_penalty=0.7, frequency_penalty=-0.3))
    sampler = llama_cpp.llama_sampler_init_penalties(VOCAB, 64, 1.0, -0.3, 0.7)
    theirs = llama(logits(), sampler, WRITTEN)
    assert ours == pytest.approx([theirs[token] for token in range(VOCAB)], abs=1e-5)
    expected = logits()
    for token, count in ((5, 2), (6, 1), (1, 1)):  # OpenAI's formula
        expected[token] -= -0.3 * count + 0.7
    assert ours == pytest.approx(expected, abs=1e-5)


def test_biases_are_added_as_in_llama_cpp() -> None:
    biases = ((7, 2.5), (9, -100.0), (11, -np.inf), (7, 0.5))
    array = (llama_cpp.llama_logit_bias * 4)(*[llama_cpp.llama_logit_bias(*b) for b in biases])
    theirs = llama(logits(), llama_cpp.llama_sampler_init_logit_bias(VOCAB, 4, array))
    ours = adjusted(SamplingParams(logit_bias=biases))
    assert ours == pytest.approx([theirs[token] for token in range(VOCAB)], abs=1e-5)


@pytest.mark.parametrize("min_p", [0.01, 0.1, 0.9, 1.0])
@pytest.mark.parametrize("top_k", [0, 5])
def test_min_p_keeps_what_llama_cpp_keeps(min_p: float, top_k: int) -> None:
    row = logits()
    params = SamplingParams(temperature=1.3, min_p=min_p, top_k=top_k)
    ids, p = probabilities(row[None], params)
    theirs = llama(row, llama_cpp.llama_sampler_init_min_p(min_p, 1))
    best = set(np.argsort(-row)[: top_k or VOCAB].tolist())
    assert {int(i) for i, x in zip(ids[0], p[0], strict=True) if x > 0} == set(theirs) & best


def test_all_at_once_come_in_vllms_order() -> None:
    """vLLM's: what is allowed, bad words, biases; then repetition, frequency, presence."""
    params = SamplingParams(
        repetition_penalty=1.4,
        presence_penalty=0.5,
        frequency_penalty=0.25,
        logit_bias=((5, 3.0), (8, -2.0)),
        allowed_token_ids=tuple(range(20)),
        bad_words=((10,), (1, 11), (2, 12), (6, 1, 13)),
    )
    expected = logits()
    expected[20:] = -np.inf
    expected[[10, 11, 13]] = -np.inf  # what was written ends with 6, 1
    expected[5] += 3
    expected[8] -= 2
    for token in {*PROMPT, *WRITTEN}:
        expected[token] *= 1.4 if expected[token] <= 0 else 1 / 1.4
    for token, count in ((5, 2), (6, 1), (1, 1)):
        expected[token] -= 0.25 * count + 0.5
    assert adjusted(params) == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("params", [{}, {"temperature": 1.3}, {"temperature": 1, "top_k": 3}])
def test_a_token_that_a_grammar_allows_is_drawn_as_if_the_others_were_masked(
    params: dict[str, Any],
) -> None:
    wanted = SamplingParams(**params)
    allowed = np.zeros(VOCAB, bool)
    allowed[[3, 7, 50, 51, 120, 299]] = True
    rows = np.stack([logits(seed) for seed in range(20)])
    uniforms = np.random.default_rng(1).random(20)
    masked = np.where(allowed, rows, -np.inf).astype(np.float32)
    expected = sampling_module.sample(masked, wanted, uniforms).tolist()
    draws = [Draw(wanted, uniform, allowed=allowed) for uniform in uniforms]
    choices = choose(Rows(rows), draws, np.array([3]))
    assert [choice and choice.token for choice in choices] == expected


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_a_row_without_any_token_left_is_told_from_a_damaged_one(temperature: float) -> None:
    nothing = np.zeros(VOCAB, bool)
    params = SamplingParams(temperature=temperature)
    draws = [Draw(params, 0.3), Draw(params, 0.3, allowed=nothing), Draw(params, 0.3)]
    rows = np.stack([logits(0), logits(1), np.full(VOCAB, np.nan, np.float32)])
    good, none, damaged = choose(Rows(rows), draws, np.array([2]))
    assert good is not None
    assert good.token >= 0
    assert none == NOTHING
    assert damaged is None


@pytest.mark.parametrize(
    "change",
    [
        {"presence_penalty": 1.0},
        {"frequency_penalty": 1.0},
        {"logit_bias": ((0, 1.0),)},
        {"allowed_token_ids": (0,)},
        {"bad_words": ((0,),)},
        {"repetition_penalty": 1.1},
    ],
)
def test_what_changes_logits_needs_the_whole_row(change: dict[str, Any]) -> None:
    assert n_likeliest(SamplingParams()) == 1
    assert n_likeliest(SamplingParams(**change)) is None


# --- in the engine ---------------------------------------------------------------------


def ask(engine: Engine, text: str = "Count from one to ten.", **params: Any) -> Completion:
    prompt = engine.model.tokenize(CHAT.format(text), special=True)
    wanted = replace(SamplingParams(max_new_tokens=24), **params)
    (completion,) = engine.generate([Request(prompt, wanted)])
    return completion


def test_a_bias_forces_or_forbids_a_token(engine: Engine) -> None:
    plain = ask(engine)
    first, word = plain.tokens[0], engine.model.tokenize("zebra")[0]
    assert ask(engine, logit_bias=((first, -100.0),)).tokens[0] != first
    assert set(ask(engine, logit_bias=((word, 100.0),)).tokens) == {word}


def test_allowed_tokens_are_all_that_is_written(engine: Engine) -> None:
    allowed = tuple(engine.model.tokenize("a b c d e"))
    assert set(ask(engine, allowed_token_ids=allowed).tokens) <= set(allowed)


def test_bad_words_are_not_written(engine: Engine) -> None:
    plain = ask(engine)
    pair = tuple(plain.tokens[3:5])
    tokens = ask(engine, bad_words=(pair,)).tokens
    assert tokens[:4] == plain.tokens[:4]
    assert pair not in set(itertools.pairwise(tokens))


@pytest.mark.parametrize("penalty", ["presence_penalty", "frequency_penalty"])
def test_penalties_make_a_text_repeat_less(engine: Engine, penalty: str) -> None:
    plain = ask(engine, "Write the word la ten times.", max_new_tokens=40)
    lowered = ask(engine, "Write the word la ten times.", max_new_tokens=40, **{penalty: 2.0})
    assert len(set(lowered.tokens)) > len(set(plain.tokens))


@pytest.mark.parametrize("include", [False, True])
def test_a_stop_token_ends_the_text(engine: Engine, include: bool) -> None:
    plain = ask(engine)
    at = next(n for n, token in enumerate(plain.tokens) if n > 3 and token not in plain.tokens[:n])
    token = plain.tokens[at]
    ended = ask(engine, stop_token_ids=(token,), include_stop=include)
    assert ended.finish_reason == "stop"
    assert ended.tokens == plain.tokens[:at]
    shown = plain.tokens[: at + include]
    assert ended.text == b"".join(map(engine.model.piece, shown)).decode()
    later = ask(engine, stop_token_ids=(token,), min_new_tokens=at + 4)
    assert len(later.tokens) >= at + 4
    assert token not in later.tokens[: at + 4]


def test_a_stop_string_can_stay_in_the_text(engine: Engine) -> None:
    text = "What is the capital of France?"
    cut, kept = (ask(engine, text, stop=("Paris",), include_stop=i) for i in (False, True))
    assert kept.text == cut.text + "Paris"


def test_control_tokens_can_be_shown(engine: Engine) -> None:
    start = engine.model.tokenize("<|im_start|>", special=True)
    hidden, shown = (
        ask(engine, allowed_token_ids=tuple(start), max_new_tokens=2, show_special=show)
        for show in (False, True)
    )
    assert (hidden.text, shown.text) == ("", "<|im_start|><|im_start|>")


@pytest.mark.parametrize(
    "params",
    [
        {"logit_bias": ((10**6, 1.0),)},
        {"allowed_token_ids": (-1,)},
        {"stop_token_ids": (10**6,)},
        {"bad_words": ((10**6,),)},
        {"bad_words": ((),)},
    ],
)
def test_unknown_tokens_are_refused(engine: Engine, params: dict[str, Any]) -> None:
    completion = ask(engine, **params)
    assert completion.finish_reason == "error"
    assert completion.error in (
        "its parameters have a token id that the model does not know",
        "an empty bad word",
    )
