"""Answers that get longer than their slots, which have room for the usual ones at first."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from runtime.engine import Completion, Engine, EngineOptions, Request, SamplingParams
from runtime.engine.generation import Status
from tests.test_open_engine import completions

LONG = SamplingParams(max_new_tokens=40, min_new_tokens=40)
SHORT = SamplingParams(max_new_tokens=4)


@pytest.fixture(scope="module")
def engine(shallow_model: Path) -> Iterator[Engine]:
    """Room for two usual answers, or for a long one; arithmetic does not depend on which."""
    options: dict[str, Any] = {"slots": 2, "cells_per_slot": 512, "batch_invariant": True}
    with Engine.load(shallow_model, EngineOptions(**options)) as engine:
        cell = engine.model.cell_values * 2
    options |= {"cache_bytes": 3 * 256 * cell, "usual_cells": 256}
    with Engine.load(shallow_model, EngineOptions(**options)) as engine:
        assert (engine.layout.slots, engine.layout.cells) == (2, 256)
        yield engine


def request(engine: Engine, text: str, params: SamplingParams = LONG, **more: Any) -> Request:
    """One whose long answer does not fit into a slot of 256 cells, though its beginning does."""
    prompt = (engine.model.tokenize(text) * 200)[:215]
    return Request(prompt, params, reserve=10, **more)


def told(found: list[Completion]) -> list[tuple[list[int], str]]:
    return [(completion.tokens, completion.finish_reason) for completion in found]


def test_long_answers_begin_together_and_are_those_that_each_has_alone(engine: Engine) -> None:
    requests = [request(engine, text) for text in ("Once upon a time", "The sea is")]
    alone = [told(list(engine.generate([each])))[0] for each in requests]
    engine.stats.reset()
    indices = [engine.add(each) for each in requests]
    while engine.stats.new_tokens < 30:
        engine.step()
    assert engine.n_running == 2
    ended = completions(engine)
    assert told([ended[index] for index in indices]) == alone
    assert engine.stats.suspensions
    assert not engine.has_work


def test_others_get_their_turn_beside_a_long_answer(engine: Engine) -> None:
    long = [engine.add(request(engine, text, streamed=True)) for text in ("A", "A list of words")]
    short = []
    while engine.has_work and not engine.stats.suspensions:
        engine.step()
    short = [engine.add(request(engine, "Hello", SHORT)) for _ in range(3)]
    ended = completions(engine)
    assert sorted(ended) == sorted([*long, *short])
    assert all(len(ended[index].tokens) == 40 for index in long)


def test_an_answer_that_waits_to_go_on_can_be_aborted(engine: Engine) -> None:
    engine.stats.reset()
    indices = [engine.add(request(engine, text)) for text in ("One, two,", "Red, green,")]
    while not engine.stats.suspensions:
        engine.step()
    waiting = [g for g in engine._generations.values() if g.status is not Status.RUNNING]
    assert waiting
    for generation in waiting:
        aborted = engine.abort(generation.index)
        assert aborted is not None
        assert len(aborted.tokens) > 20
    ended = completions(engine)
    assert len(ended) + len(waiting) == len(indices)
    assert not engine.has_work


def test_background_answers_grow_too(engine: Engine) -> None:
    requests = [request(engine, text, background=True) for text in ("Monday,", "January,")]
    alone = [told(list(engine.generate([each])))[0] for each in requests]
    indices = [engine.add(each) for each in requests]
    ended = completions(engine)
    assert told([ended[index] for index in indices]) == alone
