"""Requests come and go while the engine runs: `add`, `step`, `abort`."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from runtime.engine import (
    Completion,
    Engine,
    EngineError,
    EngineOptions,
    Model,
    Request,
    SamplingParams,
    Update,
)
from tests.ggufs import write_adapter

FOUR = SamplingParams(min_new_tokens=4, max_new_tokens=4)
TRACED = SamplingParams(min_new_tokens=6, max_new_tokens=6, logprobs=2)
# Batches of another shape add the same numbers in another order; over hundreds of tokens that
# moves log-probabilities by up to this much, and the likeliest two may swap.
NOISE = 0.4


@pytest.fixture(scope="module")
def engine(shallow_engine: Engine) -> Engine:
    """What is answered does not matter here."""
    return shallow_engine


def run(engine: Engine) -> dict[int, list[Update]]:
    """Step until there is no work; the updates of each request."""
    updates: dict[int, list[Update]] = {}
    while engine.has_work:
        for update in engine.step():
            updates.setdefault(update.index, []).append(update)
    return updates


def completions(engine: Engine) -> dict[int, Completion]:
    last = {index: updates[-1].completion for index, updates in run(engine).items()}
    return {index: completion for index, completion in last.items() if completion}


def alike(ours: Completion, theirs: Completion) -> bool:
    """Whether two completions are equal up to the first near-tie."""
    for a, b in zip(ours.scores, theirs.scores, strict=True):
        if abs(a.top[0][1] - b.top[0][1]) > NOISE:
            return False
        if a.token != b.token:
            return bool(b.top[0][1] - b.top[1][1] < NOISE)
    return True


def words(engine: Engine, text: str) -> list[int]:
    return engine.model.tokenize(text)


def test_a_late_comer_joins_and_changes_no_answer(engine: Engine) -> None:
    params = SamplingParams(min_new_tokens=12, max_new_tokens=12)
    first = Request(words(engine, "The capital of France is"), params)
    late = Request(words(engine, "Water freezes at"), params)
    alone = [next(engine.generate([request])).tokens for request in (first, late)]
    a = engine.add(first)
    for _ in range(4):
        engine.step()
    b = engine.add(late)
    ended = completions(engine)
    assert [ended[a].tokens, ended[b].tokens] == alone


def test_updates_add_up_to_the_text(engine: Engine) -> None:
    params = SamplingParams(min_new_tokens=20, max_new_tokens=20)
    index = engine.add(Request(words(engine, "北京 is 中文, and \u00e9 is"), params))
    updates = run(engine)[index]
    assert len(updates) == 20
    completion = updates[-1].completion
    assert completion is not None
    assert "".join(update.text for update in updates) == completion.text


def test_a_requests_tag_comes_back_with_all_that_becomes_of_it(engine: Engine) -> None:
    """Tags are compared by identity here: the engine neither copies nor hashes them."""
    prompt = words(engine, "Count to ten:")
    tags = [[], {}, object(), [], None]
    requests = [Request(prompt, FOUR, tag=tag) for tag in tags]
    numbers = [engine.add(request) for request in requests]
    aborted = engine.abort(numbers[2])
    assert aborted is not None
    assert aborted.tag is tags[2]
    for index, updates in run(engine).items():
        tag = tags[numbers.index(index)]
        assert len(updates) == 4
        assert all(update.tag is tag for update in updates)
        assert updates[-1].completion is not None
        assert updates[-1].completion.tag is tag
    refused = Request([], FOUR, tag=tags[0])
    for completion in engine.generate([requests[0], refused, requests[1]]):
        assert completion.tag is tags[[0, 0, 1][completion.index]]
        assert (completion.finish_reason == "error") == (completion.index == 1)
    assert requests[0] == Request(prompt, FOUR)
    hash(Request((1, 2), FOUR, tag=[]))


def test_what_may_become_a_stop_string_is_held_back(engine: Engine) -> None:
    prompt = words(engine, "The capital of France is")
    (whole,) = engine.generate([Request(prompt, SamplingParams(max_new_tokens=16))])
    stop = whole.text[6:14]
    index = engine.add(Request(prompt, SamplingParams(max_new_tokens=16, stop=(stop,))))
    shown = ""
    for update in run(engine)[index]:
        shown += update.text
        assert whole.text.startswith(shown)
    assert shown == whole.text[: whole.text.index(stop)]


def test_log_probabilities_of_new_tokens(engine: Engine) -> None:
    params = SamplingParams(max_new_tokens=5, min_new_tokens=5, logprobs=3)
    prompt = words(engine, "The capital of France is")
    (completion,) = engine.generate([Request(prompt, params)])
    assert [choice.token for choice in completion.scores] == completion.tokens
    for choice in completion.scores:
        assert choice.logprob <= 0
        assert choice.top[0][1] >= choice.top[1][1] >= choice.top[2][1]
        assert choice.top[0] == (choice.token, choice.logprob)  # greedy takes the likeliest
    (likelihoods,) = engine.log_likelihoods(prompt, [completion.tokens])
    np.testing.assert_allclose([c.logprob for c in completion.scores], likelihoods, atol=0.05)


def test_a_prompts_own_tokens_are_scored(engine: Engine) -> None:
    prompt = words(engine, "The capital of France is Paris")
    request = Request(prompt, SamplingParams(max_new_tokens=1, logprobs=1), score_from=1)
    (completion,) = engine.generate([request])
    assert [choice.token for choice in completion.prompt_scores] == list(prompt[1:])
    (tail,) = engine.log_likelihoods(prompt[:3], [prompt[3:]])
    np.testing.assert_allclose(
        [choice.logprob for choice in completion.prompt_scores[2:]], tail, atol=0.05
    )
    assert len(completion.tokens) == 1


def test_an_end_of_generation_token_can_be_ignored(engine: Engine) -> None:
    params = SamplingParams(max_new_tokens=60, ignore_end=True)
    request = Request(engine.model.tokenize("Hi.<|im_end|>", special=True), params)
    (completion,) = engine.generate([request])
    assert len(completion.tokens) == 60
    assert completion.finish_reason == "length"


def test_abort_ends_a_request_wherever_it_is(engine: Engine) -> None:
    indices = [engine.add(Request(words(engine, f"Count to {n}:"), FOUR)) for n in range(8)]
    arrived = engine.abort(indices[7])  # it has not even begun to wait
    engine.step()
    waiting, running = engine.abort(indices[6]), engine.abort(indices[0])
    ended = completions(engine)
    for completion in (arrived, waiting, running):
        assert completion is not None
        assert completion.finish_reason == "abort"
    assert sorted(ended) == indices[1:6]
    assert engine.abort(indices[1]) is None
    assert not engine.has_work


def test_a_request_that_cannot_be_served_is_refused_at_once(engine: Engine) -> None:
    with pytest.raises(EngineError, match="no tokens"):
        engine.add(Request([]))
    with pytest.raises(EngineError, match="score_from is 9, not 1 to 1"):
        engine.add(Request([5], score_from=9))
    assert not engine.has_work


def test_a_closed_engine_says_so(shallow_model: Path) -> None:
    engine = Engine.load(shallow_model, EngineOptions(slots=1, cells_per_slot=256))
    engine.add(Request([5]))
    engine.close()
    for use in (engine.step, lambda: engine.add(Request([5]))):
        with pytest.raises(EngineError, match="has been closed"):
            use()


def test_late_comers_find_the_prefix_of_those_before(engine: Engine) -> None:
    head = words(engine, "Once upon a time there was a king who had three daughters, and ")
    for n in range(2):
        engine.add(Request([*head, *words(engine, f"number {n}")], FOUR, group="tale"))
    run(engine)
    before = engine.stats.shared_tokens
    engine.add(Request([*head, *words(engine, "one more")], FOUR, group="tale"))
    run(engine)
    assert engine.stats.shared_tokens - before >= len(head) - 1


def test_saved_prefixes_stay_within_their_bound_where_the_engine_is_never_idle(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in a server, which steps it only while there is work."""
    saved = engine._slots.sharing.saved
    sizes = []
    monkeypatch.setattr(saved, "budget", 2 * 2**20)
    for n in range(12):
        head = words(engine, f"Story number {n}: " + "once upon a time " * 8)
        for end in ("A", "B"):
            engine.add(Request([*head, *words(engine, end)], FOUR, group=str(n)))
        run(engine)
        sizes.append(saved.nbytes)
    assert max(sizes) > 2**20
    assert max(sizes) <= 2 * 2**20
    assert sizes[-1] > 0


def test_an_engine_keeps_the_adapters_that_its_model_has(
    shallow_model: Path, tmp_path: Path
) -> None:
    files = {name: write_adapter(tmp_path / f"{name}.gguf") for name in "abc"}
    model = Model(shallow_model)
    model.load_adapter("a", files["a"])
    with Engine(model, EngineOptions(slots=2, cells_per_slot=256), {"b": files["b"]}) as engine:
        engine.load_adapter("c", files["c"])
        assert model.adapters == files
        engine.unload_adapter("a")
        assert list(model.adapters) == ["b", "c"]
        asked = [Request([500], FOUR, adapter=name) for name in "abc"]
        assert {c.index for c in engine.generate(asked) if c.finish_reason == "error"} == {0}


def test_what_prefixes_have_in_common_is_decoded_once(shallow_model: Path) -> None:
    with Engine.load(shallow_model, EngineOptions(slots=4, cells_per_slot=256)) as engine:
        common = words(engine, "A short beginning that many have:")
        heads = [[*common, *words(engine, f" {n}, and so on.")] for n in "ABCDE"]
        engine.share_prefixes([(None, head) for head in heads])
        assert engine.stats.prefill_tokens == sum(map(len, heads)) - 4 * len(common)
        shared = list(engine.generate([Request([*h, 5], FOUR) for h in heads]))
        assert engine.stats.shared_tokens == sum(map(len, heads))
    with Engine.load(shallow_model, EngineOptions(slots=1, cells_per_slot=256)) as engine:
        alone = list(engine.generate([Request([*h, 5], FOUR) for h in heads]))
    assert sorted(c.tokens for c in shared) == sorted(c.tokens for c in alone)


def test_the_cache_follows_what_requests_need(shallow_model: Path) -> None:
    """Long ones run in few slots, short ones in many, and no answer changes by it."""
    with Engine.load(shallow_model, EngineOptions(slots=8, cells_per_slot=1024)) as roomy:
        cell = int(roomy.model.cell_values * 2)
        short = [Request(words(roomy, f"Count to {n}:"), TRACED) for n in range(9)]
        long = [Request(words(roomy, "blue sky " * 150 + f"{n}:"), TRACED) for n in range(3)]
        expected = sorted(roomy.generate(short + long), key=_index)
    options = EngineOptions(slots=8, cells_per_slot=1024, cache_bytes=cell * 256 * 12)
    with Engine.load(shallow_model, options) as engine:
        assert (engine.layout.slots, engine.layout.cells) == (8, 256)
        longest = engine.generate(long)
        next(longest)
        assert (engine.layout.slots, engine.layout.cells) == (4, 512)
        longest.close()
        found = sorted(engine.generate(short + long), key=_index)
        assert all(map(alike, found, expected))
        found = sorted(engine.generate(short), key=_index)
        assert (engine.layout.slots, engine.layout.cells) == (8, 256)
        assert all(map(alike, found, expected))
        before = engine.stats.resizes
        list(engine.generate(short))
        assert engine.stats.resizes == before  # kept when not needed


def _index(completion: Completion) -> int:
    return completion.index


def test_a_long_late_comer_waits_for_room_and_costs_no_other(shallow_model: Path) -> None:
    options = EngineOptions(slots=4, cells_per_slot=1024)
    with Engine.load(shallow_model, options) as roomy:
        short = [Request(words(roomy, f"Count to {n}:"), TRACED) for n in range(4)]
        long = Request(words(roomy, "blue sky " * 150), TRACED)
        expected = [next(roomy.generate([request])) for request in [*short, long]]
        cell = int(roomy.model.cell_values * 2)
    options = EngineOptions(slots=4, cells_per_slot=1024, cache_bytes=cell * 256 * 6)
    with Engine.load(shallow_model, options) as engine:
        indices = [engine.add(request) for request in short]
        for _ in range(4):
            engine.step()
        indices.append(engine.add(long))
        ended = completions(engine)
        assert all(map(alike, (ended[index] for index in indices), expected))


@pytest.fixture(scope="module")
def adapted(shallow_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Engine:
    folder = tmp_path_factory.mktemp("adapters")
    adapters = {
        name: write_adapter(folder / f"{name}.gguf", scale=scale)
        for name, scale in [("weak", 0.5), ("strong", 4.0)]
    }
    options = EngineOptions(slots=3, cells_per_slot=256, patience=4)
    return Engine.load(shallow_model, options, adapters)


@pytest.mark.slow
@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    actions=st.lists(
        st.one_of(
            st.tuples(
                st.just("add"),
                st.integers(1, 60),
                st.integers(1, 6),
                st.sampled_from([None, "weak", "strong"]),
            ),
            st.tuples(st.just("step"), st.integers(1, 4)),
            st.tuples(st.just("abort"), st.integers(0, 30)),
        ),
        max_size=30,
    )
)
def test_every_request_ends_exactly_once_whatever_comes_and_goes(
    adapted: Engine, actions: list[tuple[object, ...]]
) -> None:
    ended: list[int] = []
    added: list[int] = []

    def step() -> None:
        ended.extend(update.index for update in adapted.step() if update.completion)

    for action in actions:
        match action:
            case ("add", int(length), int(new), adapter):
                params = SamplingParams(max_new_tokens=new)
                prompt = [500 + n % 7 for n in range(length)]
                assert adapter is None or isinstance(adapter, str)
                added.append(adapted.add(Request(prompt, params, adapter=adapter)))
            case ("step", int(times)):
                for _ in range(times):
                    step()
            case ("abort", int(place)) if place < len(added):
                completion = adapted.abort(added[place])
                if completion is not None:
                    ended.append(completion.index)
    while adapted.has_work:
        step()
    assert sorted(ended) == added
    assert len(adapted._slots.scheduler.free_slots()) == adapted.layout.sequences


def test_requests_of_a_list_may_be_overtaken_more_often_than_those_of_clients(
    adapted: Engine, shallow_model: Path, tmp_path: Path
) -> None:
    def patience(engine: Engine) -> tuple[int, int]:
        running = engine.generate([Request([500], FOUR)] * 2)
        next(running)
        in_list = engine._slots.waiting.patience
        running.close()
        return in_list, engine._slots.waiting.patience

    assert patience(adapted) == (4, 4)  # as it was asked
    with Engine.load(shallow_model, EngineOptions(slots=3, cells_per_slot=256)) as engine:
        assert patience(engine) == (24, 6)
        engine.load_adapter("a", write_adapter(tmp_path / "a.gguf"))
        assert patience(engine) == (24, 24)  # the bare model and it take turns
        engine.load_adapter("b", write_adapter(tmp_path / "b.gguf"))
        assert patience(engine) == (24, 6)  # now they share calls
