"""The scheduler alone: who gets which slot when, and in what shape. No model."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.engine.generation import Generation, Request, Status
from runtime.engine.profiles import padded
from runtime.engine.scheduler import Scheduler
from runtime.engine.sizing import Layout
from runtime.engine.step import Decode, Prefill
from runtime.engine.waiting import WaitingRoom


def generations(*lengths: int) -> list[Generation]:
    return [Generation(index, Request(list(range(n)))) for index, n in enumerate(lengths)]


def scheduler(n_slots: int = 4, n_staging: int = 2, max_tokens: int = 64) -> Scheduler:
    layout = Layout(n_slots, n_staging, 10_000)
    return Scheduler(layout, max_tokens, WaitingRoom(patience=100), call_cost=4)


def add(s: Scheduler, generations: list[Generation]) -> None:
    for generation in generations:
        s.add(generation)


def run_to_decode(s: Scheduler) -> Decode:
    while isinstance(step := s.schedule(), Prefill):
        s.update(step)
    assert isinstance(step, Decode)
    return step


def test_rows_are_padded_to_a_multiple_of_four_but_for_one_and_two() -> None:
    assert [padded(n) for n in (1, 2, 3, 4, 5, 8, 15)] == [1, 2, 4, 4, 8, 8, 16]


def test_nothing_to_do() -> None:
    assert scheduler().schedule() is None


def test_prompts_of_like_length_are_prefilled_together_longest_first() -> None:
    s = scheduler()
    add(s, generations(10, 30, 12, 12))
    first = s.schedule()
    assert isinstance(first, Prefill)
    assert [q.n_prompt for q in first.generations] == [30]
    s.update(first)
    second = s.schedule()
    assert isinstance(second, Prefill)
    assert [q.n_prompt for q in second.generations] == [12, 12, 10]
    assert second.length == 12
    assert [q.slot for q in second.generations] == [1, 2, 3]


def test_a_prefill_call_has_a_multiple_of_four_rows() -> None:
    s = scheduler()
    add(s, generations(13))
    step = s.schedule()
    assert isinstance(step, Prefill)
    assert step.length == 16


def test_a_prefill_call_stays_within_max_tokens_and_a_long_prompt_goes_in_pieces() -> None:
    s = scheduler(max_tokens=64)
    (generation,) = added = generations(150)
    add(s, added)
    lengths = []
    while isinstance(step := s.schedule(), Prefill):
        lengths.append(step.length)
        s.update(step)
    assert lengths == [64, 64, 24]
    assert generation.n_to_prefill == 0


@pytest.mark.parametrize(
    ("most", "length", "pieces"),
    [
        (128, 150, [86, 64]),
        (128, 210, [128, 82]),
        (128, 400, [128, 128, 80, 64]),
        (128, 64, [64]),
        (100, 110, [100, 10]),
    ],
)
def test_the_last_piece_of_a_long_prompt_fills_a_tile_of_attention(
    most: int, length: int, pieces: list[int]
) -> None:
    """Where the piece before it can spare what it lacks."""
    s = Scheduler(Layout(4, 2, 10_000), most, WaitingRoom(100), rows_at_once=1, tile=64)
    add(s, generations(length))
    found = []
    while isinstance(step := s.schedule(), Prefill):
        found.append(step.length)
        s.update(step)
    assert found == pieces


def test_a_cached_prefix_is_not_prefilled_again() -> None:
    s = scheduler()
    (generation,) = added = generations(20)
    generation.n_cached = 12
    add(s, added)
    step = s.schedule()
    assert isinstance(step, Prefill)
    assert step.length == 8


def test_the_next_prompts_are_prefilled_together_behind_the_running_ones() -> None:
    s = scheduler(n_slots=2, n_staging=2)
    a, b, c, d, e, f = added = generations(8, 8, 8, 8, 8, 8)
    add(s, added)
    decode = run_to_decode(s)
    assert decode.generations == [a, b]
    assert (c.slot, d.slot, e.slot) == (2, 3, -1)
    s.finish(a)
    decode = s.schedule()
    assert isinstance(decode, Decode)
    assert decode.moves == [(c, 2, 0)]
    assert decode.generations == [c, b]
    s.finish(b)
    decode = s.schedule()
    assert isinstance(decode, Decode)
    assert decode.generations == [c, d]
    s.finish(c)  # nothing is staged now: the last two are prefilled in one call
    step = s.schedule()
    assert isinstance(step, Prefill)
    assert step.generations == [e, f]
    assert [q.slot for q in step.generations] == [2, 3]


def test_when_slots_run_empty_the_running_generations_move_together() -> None:
    s = scheduler(n_slots=8, n_staging=1)
    added = generations(*[8] * 8)
    add(s, added)
    run_to_decode(s)
    for index in (0, 2, 4, 5):
        s.finish(added[index])
    decode = s.schedule()
    assert isinstance(decode, Decode)
    assert [q.slot for q in decode.generations] == [0, 1, 2, 3]
    assert decode.idle_slots == []
    assert {(source, target) for _, source, target in decode.moves} == {(7, 0), (6, 2)}


def test_idle_slots_fill_a_decode_step_up_to_a_multiple_of_four() -> None:
    s = scheduler(n_slots=4)
    added = generations(8, 8, 8, 8)
    add(s, added)
    run_to_decode(s)
    s.finish(added[1])
    decode = s.schedule()
    assert isinstance(decode, Decode)
    assert decode.idle_slots == [1]
    assert decode.moves == []


def test_a_generation_that_ends_with_its_first_token_is_taken_out_wherever_it_is() -> None:
    s = scheduler(n_slots=1, n_staging=1)
    a, b, c = added = generations(8, 8, 8)
    add(s, added)
    step = s.schedule()
    assert isinstance(step, Prefill)
    s.update(step)
    s.finish(a)
    s.finish(b)
    step = s.schedule()
    assert isinstance(step, Prefill)
    assert step.generations == [c]


@given(
    lengths=st.lists(st.integers(1, 90), max_size=40),
    n_slots=st.integers(1, 9),
    n_staging=st.integers(1, 4),
    seed=st.integers(0, 2**16),
)
def test_every_generation_is_served_and_no_slot_is_ever_shared(
    lengths: list[int], n_slots: int, n_staging: int, seed: int
) -> None:
    """A whole run with answers of random length, against llama.cpp's rules."""
    random_ = random.Random(seed)
    s = Scheduler(Layout(n_slots, n_staging, 10_000), 64, WaitingRoom(patience=100))
    added = generations(*lengths)
    left = {generation.index: random_.randrange(6) for generation in added}
    cached: dict[int, Generation] = {}  # slot → whose cache lies there
    finished: list[int] = []
    admitted: list[int] = []
    add(s, added)

    def sampled(generation: Generation) -> None:
        left[generation.index] -= 1
        if left[generation.index] < 0:
            s.finish(generation)
            del cached[generation.slot]
            finished.append(generation.index)

    while (step := s.schedule()) is not None:
        slots = [generation.slot for generation in step.generations]
        if isinstance(step, Prefill):
            assert slots == list(range(slots[0], slots[0] + len(slots)))
            assert len(slots) * step.length <= 64
            for generation in step.generations:
                assert cached.setdefault(generation.slot, generation) is generation
                if generation.index not in admitted:
                    admitted.append(generation.index)
            s.update(step)
            ready = [q for q in step.generations if q.n_to_prefill == 0]
        else:
            for generation, source, target in step.moves:
                assert target not in cached
                assert cached.pop(source) is generation
                cached[target] = generation
            rows = sorted(slots + step.idle_slots)
            assert rows == list(range(len(rows)))
            assert rows[-1] < n_slots
            assert not set(step.idle_slots) & set(cached)
            assert all(cached[q.slot] is q for q in step.generations)
            # Nobody waits while a slot is free.
            assert len(slots) == n_slots or sum(n >= 0 for n in left.values()) == len(slots)
            # Nobody who was prefilled is overtaken by one who was let in later.
            staged = [admitted.index(q.index) for q in s.held if q not in step.generations]
            assert all(admitted.index(q.index) < min(staged, default=99) for q in step.generations)
            ready = step.generations
        for generation in list(ready):
            sampled(generation)
    assert sorted(finished) == list(range(len(lengths)))
    assert not cached


def test_a_prompt_that_is_prefilled_is_not_overtaken_when_all_that_run_end_at_once() -> None:
    """Clients that ask again and again for answers of one length: all slots end in one step."""
    s = scheduler(n_slots=4, n_staging=2)
    add(s, generations(*[8] * 10))
    asked, left, finished = 10, {}, []
    for _ in range(100):
        step = s.schedule()
        if isinstance(step, Prefill):
            s.update(step)
            continue
        assert step is not None
        for generation in step.generations:
            left[generation.index] = left.get(generation.index, 5) - 1
            if not left[generation.index]:
                s.finish(generation)
                finished.append(generation.index)
                s.add(Generation(asked, Request(list(range(8)))))
                asked += 1
    assert len(finished) > 20
    assert finished == list(range(len(finished)))


@pytest.mark.parametrize("n_slots", [1, 3, 16])
def test_one_question_takes_one_row(n_slots: int) -> None:
    s = scheduler(n_slots=n_slots)
    add(s, generations(5))
    decode = run_to_decode(s)
    assert len(decode.generations) + len(decode.idle_slots) == 1


def test_where_adapters_are_mixed_no_step_has_a_single_row() -> None:
    s = scheduler()
    s.least_rows = 2
    add(s, generations(1))
    prefill = s.schedule()
    assert isinstance(prefill, Prefill)
    assert prefill.length == 2
    s.update(prefill)
    decode = s.schedule()
    assert isinstance(decode, Decode)
    assert len(decode.generations) + len(decode.idle_slots) == 2


def test_a_generation_knows_how_far_it_has_come() -> None:
    s = scheduler(n_slots=1, n_staging=1)
    a, b, c = added = generations(8, 8, 8)
    assert {g.status for g in added} == {Status.ARRIVED}
    add(s, added)
    assert {g.status for g in added} == {Status.WAITING}
    run_to_decode(s)
    assert [g.status for g in added] == [Status.RUNNING, Status.STAGED, Status.WAITING]
    for generation in (c, b, a):  # wherever each of them is
        s.finish(generation)
    assert {g.status for g in added} == {Status.ENDED}
    assert s.schedule() is None
    assert s.free_slots() == [0, 1]
