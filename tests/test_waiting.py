"""Whose turn it is: nobody is overtaken for ever, neighbours are alike. No model."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.engine.generation import Generation, Request
from runtime.engine.sampling import SamplingParams
from runtime.engine.sizing import cells_needed
from runtime.engine.waiting import WaitingRoom

ANY = 10_000  # cells of a slot that has room for any of these


def generation(index: int, length: int = 5, adapter: str | None = None) -> Generation:
    return Generation(index, Request([1] * length, adapter=adapter))


def room(patience: int, *generations: Generation, shared: bool = False) -> WaitingRoom:
    waiting = WaitingRoom(patience, shared)
    for one in generations:
        waiting.add(one)
    return waiting


def order(waiting: WaitingRoom) -> list[int]:
    """Who is served when each ends before the next begins."""
    taken = []
    while (one := waiting.take([], ANY)) is not None:
        taken.append(one.index)
    return taken


def test_the_longest_go_first() -> None:
    lengths = [5, 30, 7, 30]
    waiting = room(100, *(generation(i, n) for i, n in enumerate(lengths)))
    assert order(waiting) == [1, 3, 2, 0]


def test_without_patience_they_go_in_the_order_they_came() -> None:
    waiting = room(0, *(generation(i, n) for i, n in enumerate([5, 30, 7, 30])))
    assert order(waiting) == [0, 1, 2, 3]


def test_one_that_was_overtaken_often_enough_is_next() -> None:
    waiting = room(2, *(generation(i, n) for i, n in enumerate([5, 6, 7, 8, 9])))
    assert order(waiting) == [2, 1, 0, 4, 3]


def test_adapters_do_not_mix_and_the_one_that_runs_goes_on() -> None:
    a, b, c = generation(0, adapter="a"), generation(1, 90, "b"), generation(2, adapter="a")
    waiting = room(10, a, b, c)
    running = [generation(9, adapter="a")]
    assert [waiting.take(running, ANY) for _ in range(3)] == [a, c, None]
    assert waiting.take([], ANY) is b


def test_another_adapter_gets_its_turn_after_so_many() -> None:
    old = generation(0, adapter="b")
    waiting = room(3, old, *(generation(i, adapter="a") for i in range(1, 9)))
    running = [generation(9, adapter="a")]
    taken = [waiting.take(running, ANY) for _ in range(4)]
    assert [one.index for one in taken if one] == [1, 2, 3]
    assert taken[3] is None  # those that run must end first
    assert waiting.take([], ANY) is old


def test_shared_adapters_are_served_together() -> None:
    waiting = room(10, generation(0, adapter="a"), generation(1, adapter="b"), shared=True)
    assert order(waiting) == [0, 1]


def test_for_one_that_does_not_fit_the_others_wait_too() -> None:
    waiting = room(10, generation(0, 9), generation(1, 5))
    assert waiting.take([], cells_needed(8, SamplingParams().max_new_tokens)) is None
    assert len(waiting) == 2


def test_one_that_is_gone_is_not_served() -> None:
    first, second = generation(0), generation(1)
    waiting = room(10, first, second)
    waiting.remove(first)
    assert order(waiting) == [1]


def test_patience_is_not_negative() -> None:
    with pytest.raises(ValueError, match="patience"):
        WaitingRoom(-1)


@given(
    arrivals=st.lists(
        st.tuples(st.integers(1, 50), st.sampled_from([None, "a", "b"])), max_size=40
    ),
    patience=st.integers(0, 12),
    n_slots=st.integers(1, 6),
    data=st.data(),
)
def test_nobody_is_overtaken_by_more_than_patience(
    arrivals: list[tuple[int, str | None]], patience: int, n_slots: int, data: st.DataObject
) -> None:
    """Arrivals, ends and departures in any order, while slots are filled whenever possible."""
    waiting = WaitingRoom(patience)
    todo = [generation(i, n, adapter) for i, (n, adapter) in enumerate(arrivals)]
    present: dict[int, int] = {}  # who waits → how many later ones went first
    running: list[Generation] = []
    served: list[int] = []
    while todo or present or running:
        action = data.draw(st.sampled_from(["arrive", "end"]))
        if todo and action == "arrive":
            new = todo.pop(0)
            waiting.add(new)
            present[new.index] = 0
        elif running:
            running.pop(data.draw(st.integers(0, len(running) - 1)))
        while len(running) < n_slots and (one := waiting.take(running, ANY)):
            assert all(one.request.adapter == other.request.adapter for other in running)
            del present[one.index]
            for index in present:
                present[index] += index < one.index
            assert all(count <= patience for count in present.values())
            running.append(one)
            served.append(one.index)
        assert running or not present, "nothing runs although somebody waits"
    assert sorted(served) == list(range(len(arrivals)))
