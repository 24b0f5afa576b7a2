"""Answers that somebody reads go on while the prompts of others are computed, in pieces."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.engine import Completion, Engine, EngineOptions, Request, SamplingParams
from runtime.engine.generation import Generation
from runtime.engine.pace import LEAST_TOKENS, Pace
from runtime.engine.scheduler import Scheduler
from runtime.engine.sizing import Layout
from runtime.engine.step import Decode, Prefill, Step
from runtime.engine.waiting import WaitingRoom
from tests.ggufs import write_adapter
from tests.test_open_engine import alike, words

GAP = 200.0
DECODE = 5.0  # seconds of a decode step; a prompt token takes one


class Clock:
    """A clock that only steps move."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now

    def pass_(self, step: Step) -> None:
        is_decode = isinstance(step, Decode)
        self.now += DECODE if is_decode else step.length * len(step.generations)


def tokens_of(step: Step) -> int:
    return step.length * len(step.generations) if isinstance(step, Prefill) else 0


# Pace alone


def prefill(length: int) -> Prefill:
    return Prefill([Generation(0, Request([1] * length))], length, [])


def test_pieces_fill_the_gap_that_the_decode_step_leaves() -> None:
    clock = Clock()
    pace = Pace(GAP, clock)

    def run(step: Step) -> None:
        started = clock()
        clock.pass_(step)
        pace.note(step, started)

    assert pace.most_tokens() == LEAST_TOKENS  # what a token costs is not known yet
    run(prefill(LEAST_TOKENS))
    run(Decode([], [], [], []))
    assert pace.most_tokens() == 192  # three times 64; 195 seconds are left
    run(prefill(60))
    assert pace.most_tokens() == 128
    run(prefill(80))
    assert pace.most_tokens() == 0
    run(Decode([], [], [], []))
    assert pace.most_tokens() == 192


def test_prompts_get_on_where_decode_steps_alone_take_longer_than_the_gap() -> None:
    clock = Clock()
    pace = Pace(DECODE / 2, clock)
    pace.note(prefill(8), clock() - 8)
    assert pace.most_tokens() == 0
    pace.note(Decode([], [], [], []), clock() - DECODE)
    assert pace.most_tokens() == LEAST_TOKENS


def test_without_a_gap_there_is_no_limit() -> None:
    assert Pace(0).most_tokens() is None


# The scheduler alone


@given(
    lengths=st.lists(st.integers(1, 200), min_size=1, max_size=20),
    n_slots=st.integers(1, 6),
    seed=st.integers(0, 2**16),
)
def test_while_an_answer_is_read_no_prompt_holds_it_up_and_all_are_served(
    lengths: list[int], n_slots: int, seed: int
) -> None:
    chance = random.Random(seed)
    s = Scheduler(Layout(n_slots, 2, 10_000), 64, WaitingRoom(patience=8), call_cost=4)
    clock = Clock()
    pace = Pace(GAP, clock)
    left: dict[int, int] = {}
    for index, n in enumerate(lengths):
        left[index] = chance.randrange(6)
        s.add(Generation(index, Request([7] * n, streamed=chance.random() < 0.5)))
    since_decode = 0
    while (step := s.schedule(pace.most_tokens() if s.is_watched else None)) is not None:
        watched = s.is_watched
        started = clock()
        clock.pass_(step)
        pace.note(step, started)
        since_decode = since_decode + tokens_of(step) if watched else 0
        ready = step.generations
        if isinstance(step, Prefill):
            assert since_decode <= GAP
            s.update(step)
            ready = [g for g in ready if not g.n_to_prefill]
        else:
            since_decode = 0
            rows = sorted([g.slot for g in step.generations] + list(step.idle_slots))
            assert rows == list(range(len(rows)))
            assert all(g.n_to_prefill == 0 for g in step.generations)
            half_done = {g.slot for g in s.held if g.n_to_prefill}
            assert not half_done & set(rows)
        for generation in list(ready):
            left[generation.index] -= 1
            if left[generation.index] < 0:
                s.finish(generation)
                del left[generation.index]
    assert not left


# The engine

PARAMS = SamplingParams(min_new_tokens=40, max_new_tokens=40, logprobs=2)
SHORT = SamplingParams(min_new_tokens=4, max_new_tokens=4, logprobs=2)


@pytest.fixture(scope="module")
def engine(shallow_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    adapter = write_adapter(tmp_path_factory.mktemp("adapter") / "strong.gguf", scale=4.0)
    options = EngineOptions(
        slots=6, cells_per_slot=768, cache_bytes=2**30, stream_gap=GAP, prefix_bytes=2**26
    )
    with Engine.load(shallow_model, options, {"strong": adapter}) as loaded:
        yield loaded


class Watched:
    """An engine whose clock is moved by its steps, and the steps that it ran."""

    def __init__(self, engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
        self.engine = engine
        self.steps: list[Step] = []
        clock = Clock()
        slots = engine._slots
        run = slots.runner.run
        monkeypatch.setattr(slots, "pace", Pace(engine.options.stream_gap, clock))

        def noted(step: Step) -> Any:
            result = run(step)
            self.steps.append(step)
            clock.pass_(step)
            return result

        monkeypatch.setattr(slots.runner, "run", noted)

    def complete(self) -> dict[int, Completion]:
        ended = {}
        while self.engine.has_work:
            for update in self.engine.step():
                if update.completion:
                    ended[update.index] = update.completion
        return ended

    def longest_gap(self, number: int) -> int:
        """Most prompt tokens between two tokens of a request, after its first."""
        longest = now = 0
        begun = False
        for step in self.steps:
            if any(g.index == number for g in step.sampled):
                longest, now, begun = max(longest, now), 0, True
            elif begun:
                now += tokens_of(step)
        return longest


@pytest.mark.parametrize("adapter", [None, "strong"])
@pytest.mark.parametrize("alike_beginnings", [True, False])
def test_a_stream_goes_on_while_long_prompts_come(
    engine: Engine, monkeypatch: pytest.MonkeyPatch, adapter: str | None, alike_beginnings: bool
) -> None:
    """Also where what they have in common is computed first, and the cache is divided anew."""
    saved = engine._slots.sharing.saved
    saved.clear()
    tale = words(engine, "Once upon a time there was a king who had three daughters. " * 30)[:320]
    heads = [tale if alike_beginnings else tale[n:] for n in range(4)]
    prompts = [[*head, *words(engine, f" The story number {n}:")] for n, head in enumerate(heads)]
    beginning = words(engine, "Count to one hundred:")
    reader = Request(beginning, PARAMS, adapter=adapter, streamed=True, keep=True)
    others = [Request(prompt, SHORT, adapter=adapter, keep=True) for prompt in prompts]
    watched = Watched(engine, monkeypatch)
    first = engine.add(reader)
    for _ in range(3):
        engine.step()
    numbers = [engine.add(request) for request in others]
    ended = watched.complete()
    computed = sum(map(tokens_of, watched.steps))
    if alike_beginnings:
        assert computed < 2 * len(tale)
    else:
        assert computed > 3.5 * len(tale)
    assert 0 < watched.longest_gap(first) <= GAP - DECODE
    monkeypatch.undo()
    saved.clear()
    for number, request in zip([first, *numbers], [reader, *others], strict=True):
        (alone,) = engine.generate([request])
        saved.clear()
        assert alike(ended[number], alone)


def test_where_nobody_reads_prompts_go_as_a_whole(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine._slots.sharing.saved.clear()
    watched = Watched(engine, monkeypatch)
    engine.add(Request(words(engine, "Count to one hundred:"), SHORT))
    engine.step()
    engine.add(Request(list(range(500, 900)), SHORT))
    watched.complete()
    assert [tokens_of(step) for step in watched.steps if tokens_of(step) > GAP] == [400]


def test_a_shared_beginning_whose_computation_fails_costs_no_answer(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    saved = engine._slots.sharing.saved
    saved.clear()
    head = list(range(400, 460))
    asked = [Request([*head, n, n], SHORT) for n in range(600, 603)]
    expected = [next(engine.generate([request])).tokens for request in asked]
    saved.clear()
    run = engine._slots.runner.run
    failed: list[Step] = []

    def fail_once(step: Step) -> Any:
        if not failed:
            failed.append(step)
            raise RuntimeError("no")
        return run(step)

    monkeypatch.setattr(engine._slots.runner, "run", fail_once)
    numbers = [engine.add(request) for request in asked]
    with pytest.raises(RuntimeError):
        engine.step()
    assert [g.index for g in failed[0].generations] == [-1]
    assert not saved
    ended: dict[int, Completion] = {}
    while engine.has_work:
        ended.update({u.index: u.completion for u in engine.step() if u.completion})
    assert [ended[number].tokens for number in numbers] == expected


def test_a_shared_beginning_is_dropped_with_the_last_that_waits_for_it(engine: Engine) -> None:
    saved = engine._slots.sharing.saved
    saved.clear()
    head = [n % 700 + 100 for n in range(650)]
    numbers = [engine.add(Request([*head, n], SHORT)) for n in range(2)]
    engine.step()
    for number in numbers:
        assert engine.abort(number) is not None
    assert not engine.has_work
    assert len(engine._slots.scheduler.free_slots()) == engine.layout.sequences
    assert not saved
    (again,) = engine.generate([Request([*head, 1], SHORT)])
    assert again.n_restored == 0
