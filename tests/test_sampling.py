"""Sampling picks what llama.cpp's own sampler chain would, with the same probabilities."""

from __future__ import annotations

import ctypes

import llama_cpp
import numpy as np
import pytest

from runtime.engine.sampling import SamplingParams, penalize, probabilities, sample, top_k_ids


def random_logits(rows: int, vocab: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, 3, (rows, vocab)).astype(np.float32)


def llama_probabilities(row: np.ndarray, params: SamplingParams) -> dict[int, float]:
    """Token id → probability after llama.cpp's top-k, top-p and temperature."""
    data = (llama_cpp.llama_token_data * len(row))(
        *[llama_cpp.llama_token_data(i, float(x), 0.0) for i, x in enumerate(row)]
    )
    candidates = llama_cpp.llama_token_data_array(data, len(row), -1, False)
    chain = llama_cpp.llama_sampler_chain_init(llama_cpp.llama_sampler_chain_default_params())
    add = llama_cpp.llama_sampler_chain_add
    add(chain, llama_cpp.llama_sampler_init_top_k(params.top_k))
    add(chain, llama_cpp.llama_sampler_init_top_p(params.top_p, 1))
    add(chain, llama_cpp.llama_sampler_init_temp(params.temperature))
    add(chain, llama_cpp.llama_sampler_init_dist(0))
    llama_cpp.llama_sampler_apply(chain, ctypes.byref(candidates))
    kept = {candidates.data[i].id: candidates.data[i].p for i in range(candidates.size)}
    llama_cpp.llama_sampler_free(chain)
    return kept


@pytest.mark.parametrize("top_k", [0, 1, 20, 500])
@pytest.mark.parametrize("top_p", [0.3, 0.9, 1.0])
@pytest.mark.parametrize("temperature", [0.2, 1.0, 3.0])
def test_probabilities_are_llama_cpps(top_k: int, top_p: float, temperature: float) -> None:
    params = SamplingParams(temperature=temperature, top_k=top_k, top_p=top_p)
    logits = random_logits(3, 1000)
    ids, p = probabilities(logits, params)
    for row in range(3):
        ours = {int(i): x for i, x in zip(ids[row], p[row], strict=True)}
        theirs = llama_probabilities(logits[row], params)
        # llama.cpp's float32 has no room for what is less likely than this.
        assert {i for i in ours if ours[i] > 1e-6} == {i for i in theirs if theirs[i] > 1e-6}
        for token, probability in theirs.items():
            assert ours[token] == pytest.approx(probability, abs=1e-5)


@pytest.mark.parametrize("vocab", [7, 64, 1000, 49152])
@pytest.mark.parametrize("k", [1, 5, 20])
def test_top_k_finds_the_largest(vocab: int, k: int) -> None:
    logits = random_logits(4, vocab)
    expected = np.argsort(-logits, axis=1, kind="stable")[:, :k]
    assert (top_k_ids(logits, k) == expected).all()


def test_temperature_0_takes_the_likeliest() -> None:
    logits = random_logits(5, 300)
    picked = sample(logits, SamplingParams(temperature=0), np.zeros(5))
    assert (picked == logits.argmax(axis=1)).all()


def test_draws_follow_the_probabilities() -> None:
    params = SamplingParams(temperature=1.0, top_k=4)
    logits = np.repeat(random_logits(1, 50), 20_000, axis=0)
    picked = sample(logits, params, np.random.default_rng(1).random(20_000))
    ids, p = probabilities(logits[:1], params)
    for token, probability in zip(ids[0], p[0], strict=True):
        assert (picked == token).mean() == pytest.approx(probability, abs=0.02)


@pytest.mark.parametrize("uniform", [0.0, 0.5, np.nextafter(1.0, 0.0)])
def test_any_draw_picks_a_token_that_is_allowed(uniform: float) -> None:
    params = SamplingParams(temperature=0.7, top_k=3, top_p=0.5)
    logits = random_logits(8, 100)
    ids, p = probabilities(logits, params)
    picked = sample(logits, params, np.full(8, uniform))
    for row in range(8):
        assert p[row][list(ids[row]).index(picked[row])] > 0


def test_repetition_penalty_divides_positive_and_multiplies_negative_logits() -> None:
    row = np.array([2.0, -2.0, 4.0, 1.0], np.float32)
    penalize(row, np.array([0, 1, 0]), 2.0)
    assert row.tolist() == [1.0, -4.0, 4.0, 1.0]
