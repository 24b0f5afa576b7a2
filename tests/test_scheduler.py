"""The scheduler alone: who gets which slot when, and in what shape. No model."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.engine.scheduler import Decode, Prefill, Scheduler, padded
from runtime.engine.sequence import Request, Sequence


def sequences(*lengths: int) -> list[Sequence]:
    return [Sequence(index, Request(list(range(n)))) for index, n in enumerate(lengths)]


def scheduler(n_slots: int = 4, n_staging: int = 2, max_tokens: int = 64) -> Scheduler:
    return Scheduler(n_slots, n_staging, max_tokens, call_cost=4)


def prefill(s: Scheduler, step: Prefill) -> None:
    """What the engine does with a prefill step."""
    for sequence in step.sequences:
        s.prefilled(sequence, min(step.length, sequence.n_to_prefill))


def run_to_decode(s: Scheduler) -> Decode:
    while isinstance(step := s.next_step(), Prefill):
        prefill(s, step)
    assert isinstance(step, Decode)
    return step


def test_rows_are_padded_to_a_multiple_of_four_but_for_one_and_two() -> None:
    assert [padded(n) for n in (1, 2, 3, 4, 5, 8, 15)] == [1, 2, 4, 4, 8, 8, 16]


def test_nothing_to_do() -> None:
    assert scheduler().next_step() is None


def test_prompts_of_like_length_are_prefilled_together_longest_first() -> None:
    s = scheduler()
    s.add(sequences(10, 30, 12, 12))
    first = s.next_step()
    assert isinstance(first, Prefill)
    assert [q.n_prompt for q in first.sequences] == [30]
    prefill(s, first)
    second = s.next_step()
    assert isinstance(second, Prefill)
    assert [q.n_prompt for q in second.sequences] == [12, 12, 10]
    assert second.length == 12
    assert [q.slot for q in second.sequences] == [1, 2, 3]


def test_a_prefill_call_has_a_multiple_of_four_rows() -> None:
    s = scheduler()
    s.add(sequences(13))
    step = s.next_step()
    assert isinstance(step, Prefill)
    assert step.length == 16


def test_a_prefill_call_stays_within_max_tokens_and_a_long_prompt_goes_in_pieces() -> None:
    s = scheduler(max_tokens=64)
    (sequence,) = added = sequences(150)
    s.add(added)
    lengths = []
    while isinstance(step := s.next_step(), Prefill):
        lengths.append(step.length)
        prefill(s, step)
    assert lengths == [64, 64, 24]
    assert sequence.n_to_prefill == 0


def test_a_cached_prefix_is_not_prefilled_again() -> None:
    s = scheduler()
    (sequence,) = added = sequences(20)
    sequence.n_prefix = sequence.n_cached = 12
    s.add(added)
    step = s.next_step()
    assert isinstance(step, Prefill)
    assert step.length == 8


def test_the_next_prompts_are_prefilled_together_behind_the_running_ones() -> None:
    s = scheduler(n_slots=2, n_staging=2)
    a, b, c, d, e, f = added = sequences(8, 8, 8, 8, 8, 8)
    s.add(added)
    decode = run_to_decode(s)
    assert decode.sequences == [a, b]
    assert (c.slot, d.slot, e.slot) == (2, 3, -1)
    s.finish(a)
    decode = s.next_step()
    assert isinstance(decode, Decode)
    assert decode.moves == [(c, 2, 0)]
    assert decode.sequences == [c, b]
    s.finish(b)
    decode = s.next_step()
    assert isinstance(decode, Decode)
    assert decode.sequences == [c, d]
    s.finish(c)  # nothing is staged now: the last two are prefilled in one call
    step = s.next_step()
    assert isinstance(step, Prefill)
    assert step.sequences == [e, f]
    assert [q.slot for q in step.sequences] == [2, 3]


def test_when_slots_run_empty_the_running_sequences_move_together() -> None:
    s = scheduler(n_slots=8, n_staging=1)
    added = sequences(*[8] * 8)
    s.add(added)
    run_to_decode(s)
    for index in (0, 2, 4, 5):
        s.finish(added[index])
    decode = s.next_step()
    assert isinstance(decode, Decode)
    assert [q.slot for q in decode.sequences] == [0, 1, 2, 3]
    assert decode.idle_slots == []
    assert {(source, target) for _, source, target in decode.moves} == {(7, 0), (6, 2)}


def test_idle_slots_fill_a_decode_step_up_to_a_multiple_of_four() -> None:
    s = scheduler(n_slots=4)
    added = sequences(8, 8, 8, 8)
    s.add(added)
    run_to_decode(s)
    s.finish(added[1])
    decode = s.next_step()
    assert isinstance(decode, Decode)
    assert decode.idle_slots == [1]
    assert decode.moves == []


def test_a_sequence_that_ends_with_its_first_token_is_taken_out_wherever_it_is() -> None:
    s = scheduler(n_slots=1, n_staging=1)
    a, b, c = added = sequences(8, 8, 8)
    s.add(added)
    step = s.next_step()
    assert isinstance(step, Prefill)
    prefill(s, step)
    s.finish(a)
    s.finish(b)
    step = s.next_step()
    assert isinstance(step, Prefill)
    assert step.sequences == [c]


@given(
    lengths=st.lists(st.integers(1, 90), max_size=40),
    n_slots=st.integers(1, 9),
    n_staging=st.integers(1, 4),
    seed=st.integers(0, 2**16),
)
def test_every_sequence_is_served_and_no_slot_is_ever_shared(
    lengths: list[int], n_slots: int, n_staging: int, seed: int
) -> None:
    """A whole run with answers of random length, against llama.cpp's rules."""
    random_ = random.Random(seed)
    s = Scheduler(n_slots, n_staging, max_tokens=64)
    added = sequences(*lengths)
    left = {sequence.index: random_.randrange(6) for sequence in added}
    cached: dict[int, Sequence] = {}  # slot → whose cache lies there
    finished: list[int] = []
    s.add(added)

    def sampled(sequence: Sequence) -> None:
        left[sequence.index] -= 1
        if left[sequence.index] < 0:
            s.finish(sequence)
            del cached[sequence.slot]
            finished.append(sequence.index)

    while (step := s.next_step()) is not None:
        slots = [sequence.slot for sequence in step.sequences]
        if isinstance(step, Prefill):
            assert slots == list(range(slots[0], slots[0] + len(slots)))
            assert len(slots) * step.length <= 64
            for sequence in step.sequences:
                assert cached.setdefault(sequence.slot, sequence) is sequence
            prefill(s, step)
            ready = [q for q in step.sequences if q.n_to_prefill == 0]
        else:
            for sequence, source, target in step.moves:
                assert target not in cached
                assert cached.pop(source) is sequence
                cached[target] = sequence
            rows = sorted(slots + step.idle_slots)
            assert rows == list(range(len(rows)))
            assert rows[-1] < n_slots
            assert not set(step.idle_slots) & set(cached)
            assert all(cached[q.slot] is q for q in step.sequences)
            # Nobody waits while a slot is free.
            assert len(slots) == n_slots or sum(n >= 0 for n in left.values()) == len(slots)
            ready = step.sequences
        for sequence in list(ready):
            sampled(sequence)
    assert sorted(finished) == list(range(len(lengths)))
    assert not cached


@pytest.mark.parametrize("n_slots", [1, 3, 16])
def test_one_question_takes_one_row(n_slots: int) -> None:
    s = scheduler(n_slots=n_slots)
    s.add(sequences(5))
    decode = run_to_decode(s)
    assert len(decode.sequences) + len(decode.idle_slots) == 1
