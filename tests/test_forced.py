"""Tokens that a grammar forces: computed several at once, and no answer is changed by it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from runtime.engine import Completion, Constraint, Engine, EngineOptions, Request, SamplingParams
from runtime.engine.generation import Generation
from runtime.engine.scheduler import Scheduler
from runtime.engine.sizing import Layout
from runtime.engine.step import Decode, Prefill, Step
from runtime.engine.waiting import WaitingRoom

CHAT = "<|im_start|>user\n{}<|im_end|>\n<|im_start|>assistant\n"
COLD = SamplingParams(max_new_tokens=48)
HOT = replace(COLD, temperature=1.2)


def person(number: int) -> dict[str, Any]:
    """A schema with long keys that all must be there."""
    fields = {
        f"full_name_of_person_number_{number}": {"type": "string", "maxLength": 8},
        "lives_in_the_same_place_as_before": {"type": "boolean"},
    }
    names = list(fields)
    schema = {"type": "object", "properties": fields, "required": names}
    return {**schema, "additionalProperties": False}


@pytest.fixture(scope="module")
def exact(shallow_model: Path) -> Iterator[Engine]:
    """An engine whose arithmetic does not depend on what is computed together."""
    options = EngineOptions(slots=4, cells_per_slot=400, batch_invariant=True)
    with Engine.load(shallow_model, options) as engine:
        yield engine


def request(engine: Engine, number: int, params: SamplingParams, **more: Any) -> Request:
    prompt = engine.model.tokenize(CHAT.format(f"Describe person {number}."), special=True)
    grammar = engine.model.grammars.compile(Constraint.schema(person(number)))
    return replace(Request(prompt, params, seed=number, grammar=grammar), **more)


def kinds(engine: Engine) -> list[Request]:
    """Answers that end in every way, cold and hot, and some without a grammar."""
    cut = [replace(HOT, max_new_tokens=n) for n in (3, 5, 8, 13)]
    stopped = [replace(COLD, stop=("of_person",)), replace(HOT, stop=("same", "number"))]
    params = [COLD, HOT, *cut, *stopped, replace(COLD, min_new_tokens=40, ignore_end=True)]
    made = [request(engine, number, each) for number, each in enumerate(params)]
    free = [replace(each, grammar=None) for each in made[:2]]
    named = replace(HOT, bad_words=((3,),), stop_token_ids=(5,), logit_bias=((7, 1.0),))
    return [*made, *free, request(engine, 20, named)]


def complete(engine: Engine, requests: Sequence[Request]) -> list[Completion]:
    found = sorted(engine.generate(requests), key=lambda completion: completion.index)
    assert not [completion.error for completion in found if completion.error]
    return found


def told(completions: Sequence[Completion]) -> list[tuple[list[int], str, str]]:
    return [(each.tokens, each.text, each.finish_reason) for each in completions]


def test_answers_are_those_of_steps_of_their_own(
    exact: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    requests = kinds(exact)
    exact.stats.reset()
    at_once, calls = told(complete(exact, requests)), exact.stats.decode_calls
    alone = [told(complete(exact, [each]))[0] for each in requests[:4]]
    monkeypatch.setattr("runtime.engine.grammars.Matcher.forced", lambda matcher: [])
    exact.stats.reset()
    one_by_one, more_calls = told(complete(exact, requests)), exact.stats.decode_calls
    assert at_once == one_by_one
    assert alone == one_by_one[:4]
    assert calls < more_calls


def test_scores_change_no_answer(exact: Engine) -> None:
    requests = kinds(exact)
    scored = [replace(each, params=replace(each.params, logprobs=2)) for each in requests]
    with_scores = complete(exact, scored)
    assert told(with_scores) == told(complete(exact, requests))
    for completion in with_scores:
        assert [choice.token for choice in completion.scores] == completion.tokens


def test_an_answer_alone_takes_fewer_calls_than_it_has_tokens(exact: Engine) -> None:
    exact.stats.reset()
    (completion,) = complete(exact, [request(exact, 1, COLD)])
    assert exact.stats.decode_calls < 0.8 * len(completion.tokens)
    assert exact.stats.new_tokens == len(completion.tokens)


def test_updates_count_all_tokens(exact: Engine) -> None:
    exact.add(request(exact, 1, HOT, streamed=True))
    exact.add(request(exact, 2, COLD))
    updates = []
    while exact.has_work:
        updates += exact.step()
    ends = [update.completion for update in updates if update.completion]
    assert len(ends) == 2
    for end in ends:
        mine = [update for update in updates if update.index == end.index]
        assert sum(update.n_tokens for update in mine) == len(end.tokens)
        assert "".join(update.text for update in mine) == end.text
        assert max(update.n_tokens for update in mine) > 1


@pytest.mark.parametrize("n_tokens", [4, 9, 48])
def test_what_is_kept_of_an_answer_is_what_was_computed(exact: Engine, n_tokens: int) -> None:
    """Also where an answer ends within forced tokens, which nothing has computed."""
    first = request(exact, 3, replace(HOT, max_new_tokens=n_tokens), keep=True)
    (answer,) = complete(exact, [first])
    more = Request([*first.prompt, *answer.tokens, *exact.model.tokenize(" And now")], COLD)
    expected = told(complete(exact, [more]))
    exact._slots.sharing.saved.clear()
    assert complete(exact, [first])
    (again,) = complete(exact, [replace(more, keep=True)])
    assert again.n_restored >= len(first.prompt)
    assert told([again]) == expected


def test_a_background_answer_gives_way_within_forced_tokens(exact: Engine) -> None:
    background = [request(exact, n, COLD, background=True) for n in range(4)]
    expected = told(complete(exact, background))
    indices = [exact.add(each) for each in background]
    ended: dict[int, Completion] = {}
    others = 0
    while exact.has_work:
        for update in exact.step():
            if update.completion:
                ended[update.index] = update.completion
        if others < 6 and any(g.n_forced for g in exact._slots.scheduler.held):
            others += 1
            exact.add(Request(exact.model.tokenize("Hello"), SamplingParams(max_new_tokens=2)))
    assert others
    assert exact.stats.suspensions
    assert told([ended[index] for index in indices]) == expected


# The scheduler alone


def running(*n_forced: int) -> Scheduler:
    """Answers that run, with so many forced tokens each."""
    s = Scheduler(Layout(8, 2, 256), 64, WaitingRoom(patience=100), call_cost=4)
    for index in range(len(n_forced)):
        s.add(Generation(index, Request([1] * 8)))
    while isinstance(step := s.schedule(), Prefill):
        s.update(step)
    for generation, n in zip(sorted(s.held, key=lambda g: g.slot), n_forced, strict=True):
        generation.tokens, generation.n_forced = [1] * (1 + n), n
    return s


def shown(step: Step | None) -> tuple[int, list[int], list[int]]:
    """Of a decode step: its length, the slots that are in it, and those that are sampled."""
    assert isinstance(step, Decode)
    return step.length, [g.slot for g in step.generations], [g.slot for g in step.sampled]


def test_forced_tokens_get_a_call_where_it_has_more_tokens_than_a_usual_one() -> None:
    assert shown(running(5).schedule()) == (8, [0], [0])
    assert shown(running(0, 0, 5, 0).schedule()) == (8, [2], [2])
    assert shown(running(0, 1, 0, 2).schedule()) == (1, [0, 1, 2, 3], [0, 2])
    assert shown(running(2, 2, 2, 0).schedule()) == (4, [0, 1, 2], [0, 1, 2])


def test_the_others_go_on_between_two_such_calls() -> None:
    s = running(7, 0)
    for _ in range(3):
        step = s.schedule()
        assert shown(step)[1] == [0]
        s.update(step)
        s._running[0].tokens += [1] * 8
        s._running[0].n_forced = 7
        step = s.schedule()
        assert shown(step) == (1, [0, 1], [1])
        s.update(step)
        assert s._running[0].n_forced == 6


def test_many_forced_tokens_go_in_pieces() -> None:
    s = running(100)
    lengths = []
    while (step := s.schedule()) and s._running[0].n_forced:
        lengths.append(shown(step)[0])
        s.update(step)
    assert lengths == [64, 40]
    assert shown(step)[2] == [0]


def test_padding_stays_within_the_slot() -> None:
    s = running(6)
    generation = s._running[0]
    generation.tokens = [1] * (256 - 8)
    step = s.schedule()
    assert shown(step)[0] == 1
