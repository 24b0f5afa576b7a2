"""Background requests: all others go before them, and they lose nothing by it."""

from __future__ import annotations

import random
import threading
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.engine import Completion, Engine, EngineOptions, Request, SamplingParams
from runtime.engine.context import Context
from runtime.engine.generation import Generation
from runtime.engine.scheduler import Scheduler
from runtime.engine.sizing import Layout
from runtime.engine.step import Decode, Prefill
from runtime.engine.waiting import WaitingRoom
from tests.ggufs import write_adapter
from tests.test_open_engine import alike, completions

TRACED = SamplingParams(min_new_tokens=16, max_new_tokens=16, logprobs=2)
WORDS = ["red", "green", "blue", "white", "black", "grey", "brown", "pink"]


@pytest.fixture(scope="module")
def engine(shallow_engine: Engine) -> Engine:
    """What is answered does not matter here."""
    return shallow_engine


def prompts(engine: Engine, count: int) -> list[list[int]]:
    return [
        engine.model.tokenize(f"My favourite colour is {WORDS[n % 8]}, " * 3)[n:]
        for n in range(count)
    ]


def alone(engine: Engine, requests: list[Request]) -> list[Completion]:
    """Their completions where nothing interrupts them."""
    return sorted(engine.generate(requests), key=lambda completion: completion.index)


def steps_to_first(engine: Engine, request: Request) -> int:
    """Steps from when a request is added to its first token."""
    index = engine.add(request)
    for n in range(1, 100):
        if any(update.index == index for update in engine.step()):
            return n
    raise AssertionError("no token")


@pytest.mark.parametrize("before", [1, 3, 12])
def test_an_interactive_request_waits_for_no_background_one(engine: Engine, before: int) -> None:
    """Whether those prefill or decode, with all slots taken; and they go on where they were."""
    background = [Request(p, TRACED, background=True) for p in prompts(engine, 9)]
    expected = alone(engine, background)
    indices = [engine.add(request) for request in background]
    for _ in range(before):
        engine.step()
    first = Request(engine.model.tokenize("Once upon a time"), SamplingParams(max_new_tokens=3))
    assert steps_to_first(engine, first) <= 2
    engine.stats.reset()
    ended = completions(engine)
    assert all(map(alike, (ended[index] for index in indices), expected))
    # Nothing is computed twice.
    assert engine.stats.prefill_tokens <= sum(len(request.prompt) for request in background)
    assert not engine.has_work


def test_prompts_of_the_background_do_not_hold_up_answers(demo_model: Path) -> None:
    options = EngineOptions(slots=4, cells_per_slot=512, stream_gap=0.001)
    with Engine.load(demo_model, options) as engine:
        params = SamplingParams(min_new_tokens=10, max_new_tokens=10)
        index = engine.add(Request(engine.model.tokenize("Once upon a time"), params))
        engine.step()
        prompt = engine.model.tokenize("a long day in the country " * 80)[:300]
        for first in range(3):
            engine.add(Request([first + 50, *prompt], TRACED, background=True))
        steps = [index in {update.index for update in engine.step()} for _ in range(20)]
        # Of two steps one is the answer's, until it ends.
        assert sum(steps) == 9
        assert steps.index(True) <= 2


def test_an_adapter_of_its_own_is_not_waited_for(demo_model: Path, tmp_path: Path) -> None:
    """Where adapters take turns, all background requests of another one give way."""
    adapter = {"other": write_adapter(tmp_path / "other.gguf")}
    options = EngineOptions(slots=4, cells_per_slot=256, mix_adapters=False)
    with Engine.load(demo_model, options, adapter) as engine:
        background = [Request(p, TRACED, background=True) for p in prompts(engine, 6)]
        expected = alone(engine, background)
        indices = [engine.add(request) for request in background]
        for _ in range(6):
            engine.step()
        prompt = engine.model.tokenize("Once upon a time")
        first = Request(prompt, SamplingParams(max_new_tokens=3), adapter="other")
        assert steps_to_first(engine, first) <= 2
        ended = completions(engine)
        assert all(map(alike, (ended[index] for index in indices), expected))


def test_a_longer_one_gets_room_at_once(demo_model: Path) -> None:
    options = EngineOptions(slots=4, cells_per_slot=1024)
    with Engine.load(demo_model, options) as roomy:
        cell = int(roomy.model.cell_values * 2)
    options = replace(options, cache_bytes=cell * 256 * 6)
    with Engine.load(demo_model, options) as engine:
        background = [Request(p, TRACED, background=True) for p in prompts(engine, 4)]
        expected = alone(engine, background)
        indices = [engine.add(request) for request in background]
        for _ in range(6):
            engine.step()
        long = Request(engine.model.tokenize("blue sky " * 150), SamplingParams(max_new_tokens=2))
        assert steps_to_first(engine, long) <= 3
        ended = completions(engine)
        assert all(map(alike, (ended[index] for index in indices), expected))


def test_a_step_that_runs_for_the_background_is_given_up(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A long prefill is stopped as soon as `give_way` is called; alone it is run again."""
    tokens = engine.model.tokenize("a long day in the country " * 80)[:400]
    request = Request(tokens, replace(TRACED, max_new_tokens=2, min_new_tokens=2), background=True)
    expected = next(engine.generate([request]))
    decode, n_calls = Context._decode, 0

    def slow(self: Context, batch: object) -> int:
        nonlocal n_calls
        n_calls += 1
        if n_calls == 1:
            threading.Timer(0.02, engine.give_way).start()
        return decode(self, batch)  # type: ignore[arg-type]

    monkeypatch.setattr(Context, "_decode", slow)
    index, before = engine.add(request), engine.stats.prefill_tokens
    assert engine.step() == []
    assert (n_calls, engine.stats.prefill_tokens) == (1, before), "it ran to its end"
    ended = completions(engine)
    assert alike(ended[index], expected)


def test_a_step_that_is_not_run_changes_nothing(engine: Engine) -> None:
    """Also one that moves generations to other slots."""
    background = [
        Request(prompt, replace(TRACED, max_new_tokens=n, min_new_tokens=n), background=True)
        for n, prompt in zip((3, 9, 4, 12, 5, 7, 6, 8, 3), prompts(engine, 9), strict=True)
    ]
    expected = alone(engine, background)
    indices = [engine.add(request) for request in background]
    ended = {}
    for number in range(10_000):
        if number % 3 != 0:
            engine.give_way()
        ended |= {u.index: u.completion for u in engine.step() if u.completion}
        if not engine.has_work:
            break
    assert all(map(alike, (ended[index] for index in indices), expected))


def test_a_step_for_others_is_not_given_up(engine: Engine) -> None:
    engine.add(Request(engine.model.tokenize("Once upon a time"), SamplingParams(max_new_tokens=2)))
    engine.give_way()
    assert engine.step()
    completions(engine)


def test_one_that_is_suspended_can_be_ended(engine: Engine) -> None:
    background = [Request(p, TRACED, background=True) for p in prompts(engine, 8)]
    indices = [engine.add(request) for request in background]
    for _ in range(8):
        engine.step()
    for prompt in prompts(engine, 6):
        engine.add(Request(prompt, SamplingParams(min_new_tokens=9, max_new_tokens=9)))
    engine.step()
    assert engine.stats.suspensions
    for index in indices:
        assert engine.abort(index) is not None
    assert len(completions(engine)) == 6
    assert len(engine._slots.scheduler.free_slots()) == engine.layout.sequences


@given(
    arrivals=st.lists(st.tuples(st.integers(1, 90), st.booleans()), max_size=40),
    n_slots=st.integers(1, 9),
    n_staging=st.integers(1, 4),
    seed=st.integers(0, 2**16),
)
def test_every_one_is_served_and_the_others_first(
    arrivals: list[tuple[int, bool]], n_slots: int, n_staging: int, seed: int
) -> None:
    """Whole runs of the scheduler, with arrivals at random moments."""
    random_ = random.Random(seed)
    s = Scheduler(Layout(n_slots, n_staging, 10_000), 64, WaitingRoom(patience=8), call_cost=4)
    todo = [
        Generation(index, Request([1] * length, background=background))
        for index, (length, background) in enumerate(arrivals)
    ]
    left = {generation.index: random_.randrange(1, 6) for generation in todo}
    finished: list[int] = []
    while True:
        while todo and (random_.random() < 0.3 or not s.held):
            s.add(todo.pop(0))
        for generation in s.in_the_way():
            assert generation.request.background
            s.suspend(generation)
        while s.admit():
            pass
        n_first = sum(not generation.request.background for generation in s.held)
        # An interactive request waits for its like alone.
        assert not s.waiting.n_first or s.is_prefilling_first or n_first >= n_slots
        step = s.schedule()
        if step is None:
            assert not todo
            break
        slots = [generation.slot for generation in step.generations]
        assert len(set(slots)) == len(slots)
        if isinstance(step, Prefill):
            assert slots == list(range(slots[0], slots[0] + len(slots)))
            assert (
                not any(g.request.background for g in step.generations) or not s.is_prefilling_first
            )
            s.update(step)
            ready = [g for g in step.generations if not g.n_to_prefill]
        else:
            assert isinstance(step, Decode)
            ready = list(step.generations)
        for generation in ready:
            generation.tokens.append(1)
            if len(generation.tokens) > left[generation.index]:
                s.finish(generation)
                finished.append(generation.index)
    assert sorted(finished) == list(range(len(arrivals)))
    assert not s.held
    assert not len(s.waiting)
