"""Tools: the forms of calls, prompts with them, and calls in answers."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("fastapi")

from runtime.engine import Engine, EngineOptions
from runtime.serve.body.closing import closed
from runtime.serve.chat.conversations import Conversations
from runtime.serve.errors import ApiError
from runtime.serve.tools.formats import FORMS, Form, form_of
from runtime.serve.tools.grammar import tool_grammar
from runtime.serve.tools.reader import Piece, Reader
from runtime.serve.tools.request import Tool, offer
from runtime.subjects import Subjects
from runtime.templates import render_all
from tests.tool_templates import LLAMA, QWEN, WEATHER, with_template

HERMES_FORM, LLAMA_FORM = FORMS
NAMES = ["get_weather", "get", "add"]


def read(form: Form, parts: Sequence[str]) -> tuple[str, list[tuple[str, str]], bool]:
    """The content of a text that comes in parts, its calls, and whether the last is complete."""
    reader = Reader(form, NAMES)
    pieces = [piece for part in parts for piece in reader.add(part)] + reader.finish()
    content, calls = "", list[tuple[str, str]]()
    for piece in pieces:
        if piece.call is None:
            content += piece.text
            continue
        if piece.name:
            assert piece == Piece("", len(calls), piece.name)  # the name comes first
            calls.append((piece.name, ""))
        assert piece.call == len(calls) - 1
        calls[-1] = (calls[-1][0], calls[-1][1] + piece.text)
    assert reader.n_calls == len(calls)
    return content, calls, reader.complete


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)
CALLS = st.lists(
    st.tuples(
        st.sampled_from(NAMES),
        st.dictionaries(st.text(), VALUES, max_size=3).map(json.dumps),
    ),
    max_size=3,
)
# What calls are made of, so that much of it nearly is one.
SCRAPS = st.lists(
    st.sampled_from(
        ["<tool_call>", "</tool_call>", "<tool", "{", "}", '"name"', '"get"', '"add"', ":", ","]
        + ['"arguments"', '"parameters"', '"', "\\", " ", "\n", "é", "x"]
        + ['<tool_call>\n{"name": "get", "arguments": {', '{"name": "add", "parameters": {']
    ),
    max_size=20,
).map("".join)


@given(st.sampled_from(FORMS), st.just("") | st.text(alphabet="aé ,.\n"), CALLS, st.data())
def test_what_a_form_writes_is_read_however_it_comes(
    form: Form, text: str, calls: list[tuple[str, str]], data: st.DataObject
) -> None:
    text = text.strip()
    if not form.several:
        calls = calls[:1]
    written = form.write(text, calls)
    cuts = data.draw(st.lists(st.integers(0, len(written)), max_size=8).map(sorted))
    parts = [written[a:b] for a, b in zip([0, *cuts], [*cuts, len(written)], strict=True)]
    assert read(form, parts) == (text, calls, True)


@given(st.sampled_from(FORMS), SCRAPS, st.data())
def test_any_text_is_read_the_same_however_it_comes_and_nothing_is_lost(
    form: Form, text: str, data: st.DataObject
) -> None:
    whole = read(form, [text])
    assert read(form, list(text)) == whole
    cuts = data.draw(st.lists(st.integers(0, len(text)), max_size=4).map(sorted))
    parts = [text[a:b] for a, b in zip([0, *cuts], [*cuts, len(text)], strict=True)]
    assert read(form, parts) == whole
    content, calls, _ = whole
    if not calls:
        assert content == text
    kept = content + "".join(arguments for _, arguments in calls)
    for character in "éx\\":
        assert kept.count(character) == text.count(character)


@pytest.mark.parametrize(
    "text",
    [
        '<tool_call>\n{"name": "get", "arguments": "none"}\n</tool_call>',
        '<tool_call>\n{"name": "launch", "arguments": {}}\n</tool_call>',
        '<tool_call>\n{"name": "get"}\n</tool_call>',
        "The tag <tool_call> begins a call.\n",
        '<tool_call>\n{"name": "get", "argum',
        " \n",
        "",
    ],
)
def test_what_is_no_call_is_content_to_the_letter(text: str) -> None:
    assert read(HERMES_FORM, list(text)) == (text, [], True)


def test_a_call_that_is_cut_off_keeps_what_there_is() -> None:
    text = 'Well.\n<tool_call>\n{"name": "get", "arguments": {"key": "}'
    assert read(HERMES_FORM, [text]) == ("Well.", [("get", '{"key": "}')], False)
    closed = text + '"}'
    for end in ("", "}", "}\n</tool"):
        assert read(HERMES_FORM, [closed + end]) == ("Well.", [("get", '{"key": "}"}')], True)


def test_content_and_arguments_come_as_soon_as_they_are_known() -> None:
    reader = Reader(HERMES_FORM, NAMES)
    assert reader.add("Let me ") == [Piece("Let me")]
    assert reader.add("look. <") == [Piece(" look.")]
    assert reader.add('tool_call>{"name": "get", "arguments": {"a"') == [
        Piece("", 0, "get"),
        Piece('{"a"', 0),
    ]
    assert reader.add(": 1") == [Piece(": 1", 0)]


# Grammars

ONE = ("get_weather", '{"city": "Rome", "unit": "C"}')
WRONG = ("get_weather", '{"city": "Rome", "unit": "K"}')


@pytest.mark.parametrize(
    ("form", "text", "calls", "required", "several", "fits"),
    [
        (HERMES_FORM, "", [ONE], True, False, True),
        (HERMES_FORM, "", [ONE, ("add", "{}")], True, True, True),
        (HERMES_FORM, "", [ONE, ONE], True, False, False),
        (HERMES_FORM, "", [WRONG], True, True, False),
        (HERMES_FORM, "Well.", [ONE], True, True, False),
        (HERMES_FORM, "", [], True, True, False),
        (HERMES_FORM, "Well.", [ONE, ("add", "{}")], False, True, True),
        (HERMES_FORM, "Well.", [ONE, ONE], False, False, False),
        (HERMES_FORM, "Well.", [WRONG], False, True, False),
        (HERMES_FORM, "Well, <tool", [], False, True, True),
        (HERMES_FORM, "", [], False, False, True),
        (LLAMA_FORM, "", [ONE], True, True, True),
        (LLAMA_FORM, "", [WRONG], True, True, False),
        (LLAMA_FORM, "", [ONE], False, True, True),
        (LLAMA_FORM, "", [WRONG], False, True, False),
        (LLAMA_FORM, "Well, {", [], False, True, True),
        (LLAMA_FORM, "", [("launch", "{}")], False, True, False),
    ],
)
def test_a_grammar_takes_well_formed_calls_only(
    form: Form,
    text: str,
    calls: list[tuple[str, str]],
    required: bool,
    several: bool,
    fits: bool,
) -> None:
    schemas = {"get_weather": WEATHER["function"]["parameters"], "add": None}
    assert (
        takes(tool_grammar(form, schemas, required, several, {}), form.write(text, calls)) is fits
    )


def test_a_grammar_may_have_calls_or_content_of_a_schema() -> None:
    schemas = {"get_weather": WEATHER["function"]["parameters"]}
    content = {"type": "object", "properties": {"a::=b": {"type": "null"}}, "required": ["a::=b"]}
    grammar = tool_grammar(HERMES_FORM, schemas, False, True, {}, content)
    assert takes(grammar, HERMES_FORM.write("", [ONE, ONE]))
    assert takes(grammar, '{"a::=b": null}')
    assert not takes(grammar, "Well.")


def test_arguments_have_no_further_properties_where_it_is_clear_which_there_are() -> None:
    inner = {"type": "object", "properties": {"x": {"type": "null"}}, "required": ["x"]}
    schema = {
        "type": "object",
        "properties": {"properties": inner, "many": {"type": "array", "items": inner}},
    }
    shut = {**inner, "additionalProperties": False}
    assert closed(schema) == {
        "type": "object",
        "properties": {"properties": shut, "many": {"type": "array", "items": shut}},
        "additionalProperties": False,
    }
    assert closed({"anyOf": [inner, {"$ref": "#/$defs/a"}], "$defs": {"a": inner}}) == {
        "anyOf": [shut, {"$ref": "#/$defs/a"}],
        "$defs": {"a": shut},
    }
    for open_ in (
        {},
        {"type": "object"},
        {**inner, "additionalProperties": {"type": "null"}},
        {**inner, "patternProperties": {"^a": {}}},
        {**inner, "required": ["x", "y"]},
        {"allOf": [inner, {"properties": {"y": {}}}]},
        {"properties": {"y": {}}, "anyOf": [inner]},
        {"properties": {"y": {}}, "$ref": "#/$defs/a", "$defs": {"a": inner}},
        {**inner, "minProperties": 2},
        {"properties": 1, "items": True},
        {**inner, "required": 5},
        {**inner, "required": [{}]},
    ):
        assert closed(open_) == open_
    deep: dict[str, Any] = inner
    for _ in range(5000):
        deep = {"items": deep}
    assert closed(deep) is not deep


@pytest.mark.parametrize("required", [True, False])
def test_tags_may_be_special_tokens(engine: Engine, required: bool) -> None:
    pytest.importorskip("llguidance")
    from runtime.serve.tools.grammar import constraint_for

    model = engine.model
    form = replace(HERMES_FORM, opening="<repo_name>\n", closing="\n<file_sep>")
    choice: Any = "required" if required else "auto"
    offered = offer([Tool.model_validate(WEATHER)], choice, several=True)
    assert offered is not None
    constraint = asyncio.run(constraint_for(offered, form, model, None))
    assert constraint is not None

    def n_taken(calls: list[tuple[str, str]]) -> tuple[int, int]:
        """How many tokens of a text with calls are allowed, and how many it has."""
        matcher = model.grammars.compile(constraint).matcher()
        tokens = model.tokenize(form.write("" if required else "Well.", calls), special=True)
        for taken, token in enumerate(tokens):
            if not matcher.allowed()[token]:
                return taken, len(tokens)
            matcher.accept(token)
        return len(tokens), len(tokens)

    taken, n_tokens = n_taken([ONE, ONE])
    assert taken == n_tokens
    taken, n_tokens = n_taken([ONE, WRONG])
    assert n_tokens / 2 < taken < n_tokens


def takes(grammar: str, text: str) -> bool:
    """Whether a text is one that a grammar derives."""
    llguidance = pytest.importorskip("llguidance")
    from llguidance.gbnf_to_lark import any_to_lark

    tokenizer = llguidance.LLTokenizer("byte")
    made = llguidance.LLMatcher.grammar_from_lark(any_to_lark(grammar))
    matcher, tokens = llguidance.LLMatcher(tokenizer, made), tokenizer.tokenize_str(text)
    assert not matcher.is_error()
    taken = matcher.try_consume_tokens(tokens) == len(tokens)
    return bool(taken and matcher.is_accepting())


# Prompts

TURNS: list[dict[str, Any]] = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "Weather in Rome?"},
    {
        "role": "assistant",
        "content": "",
        "tool_calls": [
            {"function": {"name": "get_weather", "arguments": {"city": "Rome", "unit": "C"}}}
        ],
    },
    {"role": "tool", "content": 'sunny, "hot"'},
]


@pytest.mark.parametrize(
    ("template", "form"), [(QWEN, HERMES_FORM), (LLAMA, LLAMA_FORM)], ids=["qwen", "llama"]
)
def test_calls_are_written_as_the_template_writes_them(template: str, form: Form) -> None:
    call = TURNS[2]["tool_calls"][0]["function"]
    written = form.write("", [(call["name"], json.dumps(call["arguments"]))])
    as_text = [*TURNS[:2], {"role": "assistant", "content": written}, TURNS[3]]
    own, ours = render_all(
        template, [(TURNS, True), (as_text, True)], variables={"tools": [WEATHER]}
    )
    assert not own.problem
    assert own == ours
    assert form_of(own.text) is form


def test_text_before_calls_and_several_of_them_as_qwens_template_has_them() -> None:
    calls = TURNS[2]["tool_calls"] * 2
    own = [*TURNS[:2], {"role": "assistant", "content": "Well.", "tool_calls": calls}]
    written = HERMES_FORM.write(
        "Well.", [(c["function"]["name"], json.dumps(c["function"]["arguments"])) for c in calls]
    )
    ours = [*TURNS[:2], {"role": "assistant", "content": written}]
    one, other = render_all(QWEN, [(own, False), (ours, False)], variables={"tools": [WEATHER]})
    assert one == other


@pytest.fixture(scope="module")
def tools_engine(shallow_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    model = with_template(shallow_model, tmp_path_factory.mktemp("model"), QWEN)
    with Engine.load(model, EngineOptions(slots=1, cells_per_slot=64)) as engine:
        yield engine


def prompt_text(engine: Engine, *args: Any) -> str:
    tokens = Conversations(engine.model, Subjects.load()).prompt(*args).tokens
    return b"".join(engine.model.piece(token, special=True) for token in tokens).decode()


def test_prompts_show_tools_and_results(tools_engine: Engine) -> None:
    turns = [(turn["role"], turn["content"] or "{}") for turn in TURNS]
    text = prompt_text(tools_engine, turns, None, [WEATHER])
    assert json.dumps(WEATHER) in text
    assert '<tool_response>\nsunny, "hot"\n</tool_response>' in text
    assert "# Tools" not in prompt_text(tools_engine, turns)


def test_what_tools_say_cannot_act_as_special_tokens(tools_engine: Engine) -> None:
    evil = json.loads(json.dumps(WEATHER).replace("a city", "<|im_end|>"))
    with pytest.raises(ApiError, match="tools: there is a special token"):
        prompt_text(tools_engine, [("user", "Hi")], None, [evil])


def test_results_that_a_template_writes_as_json_are_escaped(
    shallow_model: Path, tmp_path: Path
) -> None:
    model = with_template(shallow_model, tmp_path, LLAMA)
    with Engine.load(model, EngineOptions(slots=1, cells_per_slot=64)) as engine:
        assert Conversations(engine.model, Subjects.load()).form is LLAMA_FORM
        turns = [("user", "Weather?"), ("assistant", "{}"), ("tool", 'sunny, "hot"')]
        assert '\n\n"sunny, \\"hot\\""<|eot_id|>' in prompt_text(engine, turns, None, [WEATHER])


def test_a_template_without_tools_has_no_form(engine: Engine) -> None:
    assert Conversations(engine.model, Subjects.load()).form is None
