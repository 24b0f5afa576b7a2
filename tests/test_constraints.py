"""Answers of a given form: always of that form, in any company, and the others as without it."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from runtime.engine import (
    Completion,
    Constraint,
    ConstraintError,
    Engine,
    EngineOptions,
    Model,
    Request,
    SamplingParams,
)
from tests.schemas import random_schema

pytest.importorskip("llguidance")
jsonschema = pytest.importorskip("jsonschema")

CHAT = "<|im_start|>user\n{}<|im_end|>\n<|im_start|>assistant\n"
PERSON = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "maxLength": 20},
        "age": {"type": "integer", "minimum": 0, "maximum": 150},
    },
    "required": ["name", "age"],
    "additionalProperties": False,
}
HOT = SamplingParams(temperature=1.5, max_new_tokens=400)
COLD = SamplingParams(max_new_tokens=60)


@pytest.fixture(scope="module")
def wide(demo_model: Path) -> Engine:
    with Engine.load(demo_model, EngineOptions(slots=16, cells_per_slot=512)) as engine:
        yield engine


def request(
    engine: Engine,
    constraint: Constraint | None,
    params: SamplingParams = COLD,
    text: str = "Tell me about a person.",
    **more: object,
) -> Request:
    grammar = constraint and engine.model.grammars.compile(constraint)
    prompt = engine.model.tokenize(CHAT.format(text), special=True)
    return replace(Request(prompt, params, grammar=grammar), **more)


def complete(engine: Engine, requests: list[Request]) -> list[Completion]:
    return sorted(engine.generate(requests), key=lambda completion: completion.index)


@pytest.mark.parametrize(
    "count",
    [pytest.param(24, marks=pytest.mark.quick), pytest.param(200, marks=pytest.mark.slow)],
)
def test_random_schemas_are_kept_to_at_high_temperature(wide: Engine, count: int) -> None:
    schemas = [random_schema(seed) for seed in range(count)]
    requests = [
        request(wide, Constraint.schema(schema), HOT, seed=seed)
        for seed, schema in enumerate(schemas)
    ]
    for schema, completion in zip(schemas, complete(wide, requests), strict=True):
        assert completion.finish_reason == "stop", (schema, completion)
        jsonschema.validate(json.loads(completion.text), schema)


def test_forms_share_a_step_with_free_rows_which_stay_as_they_are(engine: Engine) -> None:
    free = [request(engine, None, text=text) for text in ("Name a colour.", "Say hello.")]
    forms = [
        Constraint.schema(PERSON),
        Constraint.choices(["red", "green", "blue sky"]),
        Constraint.pattern(r"[A-Z][a-z]{2,5}, \d{3}"),
        Constraint.grammar('root ::= "(" root ")" | "x"'),
        Constraint.json_object(),
    ]
    alone = [completion.text for completion in complete(engine, free)]
    mixed = complete(engine, [*free, *[request(engine, form) for form in forms]])
    assert [completion.text for completion in mixed[:2]] == alone
    person, choice, pattern, grammar, anything = [completion.text for completion in mixed[2:]]
    jsonschema.validate(json.loads(person), PERSON)
    assert choice in ("red", "green", "blue sky")
    assert re.fullmatch(r"[A-Z][a-z]{2,5}, \d{3}", pattern)
    assert re.fullmatch(r"\(*x\)*", grammar)
    assert grammar.count("(") == grammar.count(")")
    assert anything.startswith("{")


def test_a_seed_gives_the_same_form_alone_and_in_company(engine: Engine) -> None:
    form = Constraint.schema(PERSON)
    one = request(engine, form, HOT, seed=5)
    (alone,) = complete(engine, [one])
    others = [request(engine, form, HOT, seed=seed) for seed in range(3)]
    assert complete(engine, [*others, one])[-1].text == alone.text
    assert len({completion.text for completion in complete(engine, others)}) == 3


def test_what_is_streamed_is_the_answer(engine: Engine) -> None:
    engine.add(request(engine, Constraint.schema(PERSON), HOT, seed=1))
    updates = []
    while engine.has_work:
        updates += engine.step()
    assert updates[-1].completion is not None
    assert "".join(update.text for update in updates) == updates[-1].completion.text


def test_a_form_ends_the_answer_whatever_the_parameters_say(engine: Engine) -> None:
    params = replace(COLD, min_new_tokens=30, ignore_end=True)
    (completion,) = complete(engine, [request(engine, Constraint.choices(["yes", "no"]), params)])
    assert completion.text in ("yes", "no")
    assert completion.finish_reason == "stop"
    assert len(completion.tokens) < 4


def test_min_new_tokens_holds_where_the_form_leaves_a_choice(engine: Engine) -> None:
    params = replace(COLD, min_new_tokens=12, max_new_tokens=30)
    (completion,) = complete(engine, [request(engine, Constraint.pattern("[a-z]+"), params)])
    assert re.fullmatch("[a-z]+", completion.text)
    assert len(completion.tokens) >= 12


def test_a_form_that_is_cut_off_says_so(engine: Engine) -> None:
    params = replace(COLD, max_new_tokens=5)
    (completion,) = complete(engine, [request(engine, Constraint.schema(PERSON), params)])
    assert completion.finish_reason == "length"
    assert completion.text.lstrip().startswith("{")


def test_a_stop_string_cuts_a_form(engine: Engine) -> None:
    params = replace(COLD, stop=("age",))
    (completion,) = complete(engine, [request(engine, Constraint.schema(PERSON), params)])
    assert completion.finish_reason == "stop"
    assert completion.text.endswith('"')


def test_where_nothing_is_allowed_that_answer_alone_ends_with_an_error(engine: Engine) -> None:
    comma = engine.model.tokenize(",")
    stuck = replace(COLD, allowed_token_ids=tuple(comma))
    requests = [
        request(engine, Constraint.choices(["yes"]), stuck),
        request(engine, Constraint.choices(["yes"])),
        request(engine, None),
    ]
    failed, answered, free = complete(engine, requests)
    assert (failed.finish_reason, failed.error) == (
        "error",
        "the request allows no token after 0 tokens",
    )
    assert answered.text == "yes"
    assert free.finish_reason != "error"


def test_log_probabilities_are_the_models_own(engine: Engine) -> None:
    params = replace(COLD, logprobs=1)
    (completion,) = complete(engine, [request(engine, Constraint.choices(["zebra"]), params)])
    assert completion.text == "zebra"
    assert completion.scores[0].logprob < completion.scores[0].top[0][1]


def test_a_grammar_for_another_vocabulary_is_refused(engine: Engine) -> None:
    one = request(engine, Constraint.choices(["yes"]))
    assert one.grammar is not None
    one.grammar.n_vocab -= 1
    try:
        (completion,) = complete(engine, [one])
    finally:
        one.grammar.n_vocab += 1
    assert completion.error == "its grammar was compiled for another vocabulary"


@pytest.mark.parametrize(
    ("make", "problem"),
    [
        (lambda: Constraint.schema("{"), "not valid JSON"),
        (lambda: Constraint.schema(False), "allows nothing"),
        (lambda: Constraint.schema("[1]"), "must be an object"),
        (lambda: Constraint.schema('{"a": ' * 9000 + "1" + "}" * 9000), "nested"),
        (lambda: Constraint.schema({"type": "strange"}), "strange"),
        (lambda: Constraint.schema({"not": {"type": "string"}}), "not"),
        (lambda: Constraint.schema({"$ref": "http://example.com/x"}), "example.com"),
        (lambda: Constraint.schema({"type": "string", "format": "no-such"}), "no-such"),
        (lambda: Constraint.schema({"anyOf": [{}] * 1001}), "1001 entries in one place"),
        (lambda: Constraint.schema({"enum": list(range(10_001))}), "10001 entries"),
        (lambda: Constraint.choices([]), "at least one"),
        (lambda: Constraint.choices(["a", ""]), "not empty"),
        (lambda: Constraint.choices(["x"] * 10_001), "10001 choices"),
        (lambda: Constraint.pattern("("), "pattern"),
        (lambda: Constraint.pattern("(?=a)b"), "look"),
        (lambda: Constraint.pattern("\ud800"), "half a character"),
        (lambda: Constraint.grammar("start: nobody"), "nobody"),
        (lambda: Constraint.grammar("x" * 200_001), "200001 characters"),
    ],
)
def test_what_cannot_be_a_form_is_refused_in_words(
    engine: Engine, make: object, problem: str
) -> None:
    assert callable(make)
    with pytest.raises(ConstraintError, match=re.escape(problem)):
        engine.model.grammars.compile(make())


def nested(schema: object, depth: int) -> object:
    for _ in range(depth):
        schema = {"type": "array", "items": schema}
    return schema


def doubled() -> dict[str, Any]:
    """2**30 objects, if references are followed one by one."""
    defs: dict[str, Any] = {
        f"d{n}": {"allOf": [{"$ref": f"#/$defs/d{n + 1}"}] * 2} for n in range(30)
    }
    return {"$defs": defs | {"d30": {"type": "object"}}, "$ref": "#/$defs/d0"}


def unions(depth: int) -> dict[str, Any]:
    schema: dict[str, Any] = {"type": "string"}
    for n in range(depth):
        schema = {"allOf": [{"anyOf": [schema, {"minLength": n}]}, {"anyOf": [schema, {}]}]}
    return schema


def rules(count: int) -> str:
    """A terminal of 2**count letters."""
    lines = [f"T{n}: T{n + 1} T{n + 1}\n" for n in range(count)]
    return f'start: T0\n{"".join(lines)}T{count}: "a"'


# What takes long, or much memory, or a deep stack, unless it is bounded.
HOSTILE: dict[str, Callable[[], Constraint]] = {
    "optional properties": lambda: Constraint.schema(
        {"type": "object", "properties": {f"p{n}": {"type": "string"} for n in range(1000)}}
    ),
    "deep": lambda: Constraint.schema(json.dumps(nested({}, 60))),
    "deeper": lambda: Constraint.schema(json.dumps(nested({}, 400))),
    "doubled": lambda: Constraint.schema(doubled()),
    "unions": lambda: Constraint.schema(unions(10)),
    "endless": lambda: Constraint.schema({"$ref": "#"}),
    "long text": lambda: Constraint.schema(
        {"type": "string", "minLength": 100_000, "maxLength": 1_000_000}
    ),
    "long list": lambda: Constraint.schema({"type": "array", "minItems": 1_000_000, "items": {}}),
    "repeats": lambda: Constraint.pattern("(((a{1,100}){1,100}){1,100}){1,100}"),
    "exponential": lambda: Constraint.pattern("(a|b)*a(a|b){400}"),
    "deep pattern": lambda: Constraint.pattern("(" * 50_000 + "a" + ")" * 50_000),
    "backtracking": lambda: Constraint.pattern("(.*a){200}"),
    "deep Lark": lambda: Constraint.grammar("start: " + "(" * 50_000 + '"a"' + ")" * 50_000),
    "deep GBNF": lambda: Constraint.grammar("root ::= " + "(" * 50_000 + '"a"' + ")" * 50_000),
    "ambiguous": lambda: Constraint.grammar('start: start start | "a" | start start start | ""'),
    "large terminal": lambda: Constraint.grammar(rules(40)),
    "many choices": lambda: Constraint.choices([f"{n:08d}" for n in range(10_000)]),
    "large": lambda: Constraint.schema({"enum": ["x" * 10_000_000]}),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_form_costs_little(engine: Engine, name: str) -> None:
    began = time.thread_time()
    try:
        one = request(engine, HOSTILE[name](), replace(HOT, max_new_tokens=20))
    except ConstraintError:
        assert time.thread_time() - began < 4
        return
    assert time.thread_time() - began < 4
    engine.stats.reset()
    (completion,) = complete(engine, [one])
    assert completion.finish_reason in ("stop", "length", "error")
    assert engine.stats.sampling_seconds < 4


def test_a_form_is_compiled_once(demo_model: Path) -> None:
    model = Model(demo_model)
    try:
        form = Constraint.schema(PERSON)
        assert not model.grammars.knows(form)
        first = model.grammars.compile(form)
        assert model.grammars.knows(form)
        assert model.grammars.compile(Constraint.schema(dict(PERSON))) is first
        for n in range(200):  # the oldest go
            model.grammars.compile(Constraint.choices([str(n)]))
        assert not model.grammars.knows(form)
    finally:
        model.close()
