"""Prefixes that stay: what is kept of requests for those that begin alike."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runtime.engine import Completion, Engine, EngineOptions, Request, SamplingParams
from runtime.engine.prefixes import PrefixCache
from runtime.engine.sharing import MIN_SHARED, Sharing
from tests.ggufs import write_adapter
from tests.test_open_engine import alike, completions, words

LONG = SamplingParams(min_new_tokens=12, max_new_tokens=12, logprobs=2)
ONE = SamplingParams(min_new_tokens=1, max_new_tokens=1, logprobs=2)
TALE = "Once upon a time there was a king who had three daughters and no sons. " * 6
BUDGET = 3 * 2**20


@pytest.fixture(scope="module")
def keeping(shallow_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    """An engine whose cache follows what requests need, with an adapter."""
    adapter = write_adapter(tmp_path_factory.mktemp("adapter") / "strong.gguf", scale=4.0)
    options = EngineOptions(
        slots=3, cells_per_slot=768, cache_bytes=2**30, call_tokens=64, prefix_bytes=BUDGET
    )
    with Engine.load(shallow_model, options, {"strong": adapter}) as engine:
        yield engine


@pytest.fixture(autouse=True)
def _forget(keeping: Engine) -> None:
    keeping._slots.sharing.saved.clear()
    keeping.stats.reset()


def ask(engine: Engine, prompt: list[int], keep: bool = True, **more: object) -> Completion:
    """Run one request; its completion."""
    index = engine.add(Request(prompt, LONG, keep=keep, **more))  # type: ignore[arg-type]
    return completions(engine)[index]


def kept_bytes(engine: Engine) -> int:
    return engine._slots.sharing.saved.nbytes


# The store

_TOKENS = st.lists(st.integers(0, 2), min_size=1, max_size=6)


@given(
    kept=st.lists(_TOKENS, max_size=12),
    wanted=_TOKENS,
    longest=st.one_of(st.none(), st.integers(1, 6)),
)
def test_what_is_found_has_most_in_common_of_all_that_fit(
    kept: list[list[int]], wanted: list[int], longest: int | None
) -> None:
    prefixes = PrefixCache()
    for tokens in kept:
        prefixes.put("a", tokens, np.zeros(1, np.uint8))
        prefixes.put("b", [9, *tokens], np.zeros(1, np.uint8))

    def in_common(tokens: list[int]) -> int:
        pairs = [a == b for a, b in zip(tokens, wanted, strict=False)]
        return [*pairs, False].index(False)

    fitting = [tokens for tokens in kept if longest is None or len(tokens) <= longest]
    best = max(map(in_common, fitting), default=0)
    n, saved = prefixes.find("a", wanted, longest)
    assert n == best
    if best:
        assert saved is not None
        assert list(saved.tokens) in fitting
        assert in_common(list(saved.tokens)) == best
    else:
        assert saved is None
    assert prefixes.find("c", wanted) == (0, None)


@given(
    st.lists(st.tuples(_TOKENS, st.integers(1, 40), st.booleans()), max_size=30),
)
def test_kept_states_stay_within_their_bytes(puts: list[tuple[list[int], int, bool]]) -> None:
    prefixes = PrefixCache(budget=60)
    for tokens, n_bytes, forget in puts:
        assert prefixes.make_room("a", tokens, n_bytes)
        assert prefixes.nbytes + n_bytes <= 60
        prefixes.put("a", tokens, np.zeros(n_bytes, np.uint8), kept=True)
        assert prefixes.find("a", tokens)[0] == len(tokens)
        if forget:
            prefixes.forget("a")
            assert (len(prefixes), prefixes.nbytes) == (0, 0)
    before = len(prefixes)
    assert not prefixes.make_room("a", [7], 61)
    assert len(prefixes) == before


def test_a_conversation_takes_the_place_of_its_beginning() -> None:
    prefixes = PrefixCache()
    for tokens in ([1, 2], [1, 2, 3, 4], [1, 2, 9]):
        assert prefixes.make_room(None, tokens, 1)
        prefixes.put(None, tokens, np.zeros(1, np.uint8), kept=True)
    assert len(prefixes) == 2
    prefixes.put(None, [5], np.zeros(1, np.uint8))  # in common to several: stays
    assert prefixes.make_room(None, [5, 6], 1)
    assert len(prefixes) == 3


# The engine


def test_each_turn_of_a_conversation_computes_what_is_new_alone(keeping: Engine) -> None:
    prompt, question = words(keeping, TALE), words(keeping, " And what did she say to her father?")
    asked: list[tuple[list[int], Completion]] = []
    for turn in range(4):
        keeping.stats.reset()
        answer = ask(keeping, prompt)
        asked.append((prompt, answer))
        computed, restored = keeping.stats.prefill_tokens, keeping.stats.shared_tokens
        assert answer.n_restored == restored
        # Later the answer's last token, and the new question.
        assert computed == (1 + len(question) if turn else len(prompt))
        assert computed + restored == len(prompt)
        prompt = [*prompt, *answer.tokens, *question]
    assert len(keeping._slots.sharing.saved) == 1
    for prompt, answer in asked:
        keeping._slots.sharing.saved.clear()
        anew = ask(keeping, prompt, keep=False)
        assert anew.n_restored == 0
        assert alike(answer, anew)


def test_clients_with_one_beginning_that_come_while_it_is_computed_share_it(
    keeping: Engine,
) -> None:
    head = words(keeping, TALE)
    prompts = [[*head, *words(keeping, f" number {n}")] for n in range(6)]
    indices = [keeping.add(Request(prompts[0], LONG, keep=True))]
    keeping.step()
    assert keeping.n_running == 1
    indices += [keeping.add(Request(prompt, LONG, keep=True)) for prompt in prompts[1:]]
    ended = completions(keeping)
    assert keeping.stats.prefill_tokens <= len(prompts[0]) + 5 * 8
    assert [ended[index].n_restored >= len(head) for index in indices] == [False, *[True] * 5]
    keeping._slots.sharing.saved.clear()
    for index, prompt in zip(indices, prompts, strict=True):
        assert alike(ended[index], ask(keeping, prompt, keep=False))


def test_a_list_keeps_nothing_and_copies_nothing(
    keeping: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    def save(*_: object) -> None:
        raise AssertionError("a list's states are saved")

    monkeypatch.setattr(keeping._slots.runner, "save", save)
    prompts = [words(keeping, f"{n} {TALE}") for n in range(3)]
    assert len(list(keeping.generate([Request(prompt, LONG) for prompt in prompts]))) == 3
    assert len(keeping._slots.sharing.saved) == 0


def test_what_is_kept_is_of_its_adapter(keeping: Engine) -> None:
    prompt = words(keeping, TALE)
    ask(keeping, prompt)
    assert ask(keeping, prompt, adapter="strong").n_restored == 0
    assert ask(keeping, prompt, adapter="strong").n_restored == len(prompt) - 1


def test_kept_states_of_an_adapter_go_with_it(keeping: Engine, tmp_path: Path) -> None:
    prompt = words(keeping, TALE)
    for scale in (2.0, 8.0):
        path = write_adapter(tmp_path / f"{scale}.gguf", scale=scale)
        keeping.load_adapter("mine", path)
        first = ask(keeping, prompt, adapter="mine")
        assert first.n_restored == 0
        again = ask(keeping, prompt, adapter="mine")
        assert again.n_restored == len(prompt) - 1
        assert alike(again, first)
        ask(keeping, prompt)
        keeping.unload_adapter("mine")
    assert ask(keeping, prompt).n_restored == len(prompt) - 1  # the bare model's stayed


def test_what_an_aborted_request_has_computed_is_kept_once_its_prompt_is_complete(
    keeping: Engine,
) -> None:
    prompt = words(keeping, TALE)
    index = keeping.add(Request(prompt, LONG, keep=True))
    keeping.step()
    keeping.abort(index)
    assert len(keeping._slots.sharing.saved) == 0
    index = keeping.add(Request(prompt, LONG, keep=True))
    while keeping.stats.new_tokens < 11:
        keeping.step()
    ended = keeping.abort(index)
    assert ended is not None
    went_on = ask(keeping, [*prompt, *ended.tokens])
    assert went_on.n_restored == len(prompt) + len(ended.tokens) - 1


def test_a_step_that_fails_leaves_nothing_of_itself(
    keeping: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As it may leave numbers that are none."""
    prompt = words(keeping, "Hello there")  # too short to be kept before its answer
    index = keeping.add(Request(prompt, LONG, keep=True))
    keeping.step()
    with monkeypatch.context() as patch:
        patch.setattr(keeping._slots.runner, "run", lambda step: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            keeping.step()
    assert completions(keeping)[index].finish_reason == "error"
    assert len(keeping._slots.sharing.saved) == 0


def test_a_damaged_state_costs_time_alone(keeping: Engine) -> None:
    prompt = words(keeping, TALE)
    expected = ask(keeping, prompt)
    (saved,) = keeping._slots.sharing.saved._saved.values()
    saved.state = saved.state[: len(saved.state) // 2]
    answer = ask(keeping, prompt)
    assert answer.n_restored == 0
    assert alike(answer, expected)
    assert ask(keeping, prompt).n_restored == len(prompt) - 1


def test_a_copy_for_which_there_is_no_memory_costs_nothing(
    keeping: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    def save(slot: int) -> np.ndarray:
        raise MemoryError

    monkeypatch.setattr(keeping._slots.runner, "save", save)
    assert ask(keeping, words(keeping, TALE)).finish_reason == "length"
    assert len(keeping._slots.sharing.saved) == 0


def test_a_state_too_long_for_the_slots_of_now_is_not_put_into_one(keeping: Engine) -> None:
    long = words(keeping, TALE * 5)
    assert len(long) > 256
    ask(keeping, long)
    cells = keeping.layout.cells
    slots = keeping._slots
    slots._resize(slots.cache.layout_for(256, 3))
    assert keeping.layout.cells < len(long) < cells
    short = long[:100]
    answer = ask(keeping, short)
    assert answer.n_restored == 0
    assert ask(keeping, short).n_restored == len(short) - 1


def test_without_bytes_nothing_is_kept(keeping: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keeping._slots.sharing.saved, "budget", 0)
    prompt = words(keeping, TALE)
    ask(keeping, prompt)
    assert ask(keeping, prompt).n_restored == 0
    assert len(keeping._slots.sharing.saved) == 0


_ACTIONS = st.one_of(
    st.tuples(
        st.just("add"),
        st.integers(0, 3),  # which conversation goes on
        st.integers(1, 90),  # with so many tokens
        st.sampled_from([None, "strong"]),
        st.booleans(),
    ),
    st.tuples(st.just("step"), st.integers(1, 6)),
    st.tuples(st.just("abort"), st.integers(0, 20)),
)


@pytest.mark.slow
@settings(max_examples=25, deadline=None)
@given(actions=st.lists(_ACTIONS, max_size=25), budget=st.sampled_from([0, 2**19, BUDGET]))
def test_random_walks_over_kept_prefixes_change_no_answer_and_stay_within_their_bytes(
    keeping: Engine, actions: list[tuple[object, ...]], budget: int
) -> None:
    saved = keeping._slots.sharing.saved
    saved.clear()
    saved.budget = budget
    conversations = [[600 + n] for n in range(4)]
    added: dict[int, Request] = {}
    ended: dict[int, Completion] = {}

    def step() -> None:
        for update in keeping.step():
            if update.completion is not None:
                assert update.index not in ended
                ended[update.index] = update.completion
        assert saved.nbytes <= budget

    try:
        for action in actions:
            match action:
                case ("add", int(which), int(length), adapter, keep):
                    conversations[which] += [500 + n % 7 for n in range(length)]
                    prompt = conversations[which] = conversations[which][:600]
                    assert adapter is None or isinstance(adapter, str)
                    request = Request([*prompt], ONE, adapter=adapter, keep=bool(keep))
                    added[keeping.add(request)] = request
                case ("step", int(times)):
                    for _ in range(times):
                        step()
                case ("abort", int(place)) if place < len(added):
                    completion = keeping.abort([*added][place])
                    if completion is not None:
                        ended[completion.index] = completion
        while keeping.has_work:
            step()
        assert sorted(ended) == sorted(added)
        saved.clear()
        for index, request in list(added.items())[-3:]:
            if ended[index].finish_reason != "abort":
                keeping.add(Request(request.prompt, ONE, adapter=request.adapter))
                (anew,) = completions(keeping).values()
                saved.clear()
                assert alike(ended[index], anew)
    finally:
        saved.budget = BUDGET
    assert len(keeping._slots.scheduler.free_slots()) == keeping.layout.sequences


def test_too_short_beginnings_are_not_worth_a_copy(keeping: Engine) -> None:
    prompt = words(keeping, "Hello")
    assert len(prompt) < MIN_SHARED
    index = keeping.add(Request(prompt, ONE, keep=True))
    assert completions(keeping)[index].finish_reason == "length"
    assert len(keeping._slots.sharing.saved) == 0


@pytest.mark.parametrize("tile", [0, 64])
def test_a_few_new_tokens_after_a_long_beginning_are_computed_with_some_before_them(
    keeping: Engine, tile: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A tile of attention in all, where that is faster than the few alone."""
    monkeypatch.setattr(keeping._slots.sharing, "_tile", tile)
    prompt = words(keeping, TALE * 5)
    assert len(prompt) > 400
    ask(keeping, prompt)
    longer = [*prompt, *words(keeping, " And what did the youngest say to her father?" * 4)]
    assert 32 < len(longer) - len(prompt) < 64
    answer = ask(keeping, longer)
    n_kept = len(longer) - tile if tile else len(prompt)
    assert n_kept <= answer.n_restored <= n_kept + (0 if tile else 12)  # the answer may go on alike
    n_short = len(longer[:80])
    assert ask(keeping, longer[:80]).n_restored == n_short - 1  # after few it does not pay
    keeping._slots.sharing.saved.clear()
    assert alike(answer, ask(keeping, longer, keep=False))


@pytest.mark.parametrize(
    ("saved", "prompt", "restored"),
    [
        (1500, 1540, 1476),  # 64 are computed instead of 40
        (1500, 1564, 1500),  # as many as a tile are new
        (1500, 1501, 1500),  # one alone costs less than a tile
        (100, 140, 100),
        (200, 260, 200),
        (50, 60, 50),
    ],
)
def test_how_much_of_a_saved_beginning_is_worth_restoring(
    keeping: Engine, saved: int, prompt: int, restored: int
) -> None:
    sharing = Sharing(keeping._slots.runner, BUDGET, tile=64)
    assert sharing._worth_restoring(saved, prompt) == restored
