"""What a GPU is for: calls that report the likeliest tokens only.

They give the same answers as all logits do; that they do so is tested here on the CPU.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from runtime.engine import (
    Completion,
    Context,
    Engine,
    EngineError,
    EngineOptions,
    Model,
    Request,
    SamplingParams,
)
from runtime.engine.batch import Batch
from runtime.engine.rows import Rows

N_BEST = 40
GREEDY = SamplingParams(max_new_tokens=12, min_new_tokens=6)
DRAWN = SamplingParams(temperature=0.7, top_k=20, top_p=0.9, max_new_tokens=12, min_new_tokens=2)
# These need all logits.
UNLIMITED = SamplingParams(temperature=0.7, max_new_tokens=5)
REPORTED = SamplingParams(max_new_tokens=5, logprobs=2)
PENALIZED = SamplingParams(max_new_tokens=5, repetition_penalty=1.3)


def options(**changed: Any) -> EngineOptions:
    return EngineOptions(slots=4, cells_per_slot=256, **changed)


@pytest.fixture(scope="module")
def plain(shallow_model: Path) -> Iterator[Engine]:
    with Engine.load(shallow_model, options(shortlist=0)) as engine:
        yield engine


@pytest.fixture
def gpu_like(shallow_model: Path) -> Iterator[Engine]:
    with Engine.load(shallow_model, options(shortlist=N_BEST)) as engine:
        yield engine


def requests(engine: Engine, count: int, *params: SamplingParams) -> list[Request]:
    return [
        Request(engine.model.tokenize(f"Count to {n}:"), params[n % len(params)], seed=n)
        for n in range(count)
    ]


def complete(engine: Engine, asked: list[Request]) -> list[Completion]:
    return sorted(engine.generate(asked), key=lambda completion: completion.index)


# Rows


def test_rows_of_blocks_know_the_tokens_of_their_columns() -> None:
    rows = Rows(np.zeros((2, 6), np.float32), np.array([[0, 4], [1, 2]]), width=3)
    assert rows.tokens(np.array([5, 0])).tolist() == [14, 3]
    assert rows[[1]].tokens(np.array([4])).tolist() == [7]


def test_a_token_is_forbidden_where_its_block_is_there() -> None:
    rows = Rows(np.zeros((3, 6), np.float32), np.array([[0, 4], [1, 4], [1, 2]]), width=3)
    rows.forbid([0, 2], np.array([4, 12]))
    assert [np.flatnonzero(np.isinf(row)).tolist() for row in rows.logits] == [[3], [], [1]]


def test_in_whole_rows_column_and_token_are_the_same() -> None:
    rows = Rows(np.zeros((2, 6), np.float32))
    rows.forbid([1], np.array([0, 5]))
    assert np.flatnonzero(np.isinf(rows.logits)).tolist() == [6, 11]
    assert rows.tokens(np.array([3, 4])).tolist() == [3, 4]


# Contexts


def test_the_likeliest_tokens_are_there_with_their_logits(shallow_model: Path) -> None:
    model = Model(shallow_model)
    batch, token = Batch(64), np.arange(6) + 500
    plain, short = Context(model, 6, 0, 256, 2), Context(model, 6, 0, 256, 2, shortlist=N_BEST)
    batch.fill(token, 0, np.arange(6), 1)
    logits = plain.run(batch).logits
    rows = short.run(batch, n_best=N_BEST)
    assert rows.logits.shape[1] < model.n_vocab / 10
    columns = np.argsort(-rows.logits, axis=1)[:, :N_BEST]
    for place in range(N_BEST):
        tokens = rows.tokens(columns[:, place])
        found = rows.logits[np.arange(6), columns[:, place]]
        assert np.abs(found - -np.sort(-logits, axis=1)[:, place]).max() < 1e-4
        assert np.abs(found - logits[np.arange(6), tokens]).max() < 1e-4
    model.close()


def test_no_column_stands_for_a_token_beyond_the_vocabulary(shallow_model: Path) -> None:
    model = Model(shallow_model)
    context = Context(model, 1, 0, 256, 2, shortlist=10_000)  # all blocks but one
    batch = Batch(16).fill(500, 0, 0, 1)
    context.run(batch, n_best=10_000)
    context.clear(0)
    rows = context.run(batch, n_best=1)
    columns = np.flatnonzero(np.isfinite(rows.logits[0]))
    tokens = np.array([rows.tokens(columns[n : n + 1])[0] for n in range(len(columns))])
    assert tokens.max() < model.n_vocab
    assert (np.diff(tokens) > 0).all()
    model.close()


def test_all_logits_are_there_where_more_are_wanted_than_a_shortlist_has(
    shallow_model: Path,
) -> None:
    model = Model(shallow_model)
    context = Context(model, 1, 0, 256, 2, shortlist=N_BEST)
    batch = Batch(16).fill(500, 0, 0, 1)
    for wanted in (N_BEST + 1, None):
        context.run(batch, n_best=N_BEST)
        context.clear(0)
        assert context.run(batch, n_best=wanted).logits.shape == (1, model.n_vocab)
        context.clear(0)
    model.close()


# The engine


@pytest.mark.parametrize(
    "params",
    [(GREEDY,), (DRAWN,), (GREEDY, DRAWN), (DRAWN, UNLIMITED, REPORTED, PENALIZED)],
    ids=["greedy", "drawn", "both", "some need all logits"],
)
def test_answers_are_the_same(
    plain: Engine, gpu_like: Engine, params: tuple[SamplingParams, ...]
) -> None:
    asked = requests(plain, 11, *params)
    for ours, theirs in zip(complete(gpu_like, asked), complete(plain, asked), strict=True):
        assert (ours.tokens, ours.text) == (theirs.tokens, theirs.text)
        assert ours.finish_reason == theirs.finish_reason
        assert len(ours.scores) == len(theirs.scores)


def test_likelihoods_are_the_same(plain: Engine, gpu_like: Engine) -> None:
    prompt = plain.model.tokenize("The capital of France is")
    rivals = [plain.model.tokenize(text) for text in (" Paris", " London, I think")]
    list(gpu_like.generate(requests(plain, 3, GREEDY)))
    found = gpu_like.log_likelihoods(prompt, rivals)
    expected = plain.log_likelihoods(prompt, rivals)
    assert all(np.allclose(a, b, atol=1e-3) for a, b in zip(found, expected, strict=True))


def test_a_stop_string_ends_an_answer(plain: Engine, gpu_like: Engine) -> None:
    long = SamplingParams(max_new_tokens=40, ignore_end=True)
    text = complete(plain, requests(plain, 1, long))[0].text
    stopped = SamplingParams(max_new_tokens=40, ignore_end=True, stop=(text[20:26],))
    asked = requests(plain, 9, stopped, long)
    for ours, theirs in zip(complete(gpu_like, asked), complete(plain, asked), strict=True):
        assert (ours.text, ours.finish_reason) == (theirs.text, theirs.finish_reason)


def test_requests_come_and_go(plain: Engine, gpu_like: Engine) -> None:
    long = SamplingParams(max_new_tokens=30, ignore_end=True)
    asked = requests(plain, 6, long)
    expected = complete(plain, asked)
    first, second = (gpu_like.add(request) for request in asked[:2])
    done = {}
    for step in range(200):
        if step == 5:
            assert gpu_like.abort(first) is not None
        if step in (6, 9):
            gpu_like.add(asked[3 if step == 6 else 5])
        for update in gpu_like.step():
            if update.completion is not None:
                done[update.index] = update.completion
    assert not gpu_like.has_work
    assert [done[n].text for n in (second, 2, 3)] == [expected[n].text for n in (1, 3, 5)]


def test_an_engine_answers_after_all_were_aborted(plain: Engine, gpu_like: Engine) -> None:
    asked = requests(plain, 2, SamplingParams(max_new_tokens=30, ignore_end=True))
    numbers = [gpu_like.add(request) for request in asked]
    for _ in range(6):
        gpu_like.step()
    for number in numbers:
        gpu_like.abort(number)
    assert not gpu_like.has_work
    gpu_like.share_prefixes([(None, asked[0].prompt * 4)])
    assert complete(gpu_like, asked)[1].text == complete(plain, asked)[1].text


def test_a_step_that_fails_costs_only_its_own_requests(
    plain: Engine, gpu_like: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = requests(plain, 8, SamplingParams(max_new_tokens=10, ignore_end=True))
    run, calls = gpu_like.context.run, iter(range(1000))

    def failing(*args: Any, **kwargs: Any) -> Any:
        if next(calls) == 6:
            raise EngineError("no room")
        return run(*args, **kwargs)

    monkeypatch.setattr(gpu_like.context, "run", failing)
    completions = complete(gpu_like, asked)
    failed = [c.index for c in completions if c.finish_reason == "error"]
    assert 0 < len(failed) <= 4
    assert all(len(c.tokens) == 10 for c in completions if c.index not in failed)
