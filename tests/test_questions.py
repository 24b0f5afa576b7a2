"""Whatever comes in becomes a question; a bad one carries its problem, the others none."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime import SetupError
from runtime.questions import clean_text, parse, read_file

GOOD = {"questionID": "a", "subject": "history", "question": "Why?"}


def test_a_good_question() -> None:
    (question,) = parse([GOOD])
    assert (question.id, question.subject, question.text) == ("a", "history", "Why?")
    assert not question.problem
    assert not question.warning


@pytest.mark.parametrize(
    ("item", "problem"),
    [
        (5, "expected a dict, got int"),
        (None, "expected a dict, got NoneType"),
        ({"questionID": "a"}, 'it has no "question"'),
        ({"questionID": "a", "question": None}, 'it has no "question"'),
        ({"questionID": "a", "question": ["Why?"]}, "its question is a list, not a string"),
        ({"questionID": "a", "question": ""}, "the question is empty"),
        ({"questionID": "a", "question": " \n\t\x00 "}, "the question is empty"),
    ],
)
def test_what_cannot_be_answered_says_why_and_costs_no_other(item: Any, problem: str) -> None:
    before, bad, after = parse([GOOD, item, {**GOOD, "questionID": "b"}])
    assert bad.problem == problem
    assert not before.problem
    assert not after.problem


@pytest.mark.parametrize(
    ("item", "warning"),
    [
        ({"question": "Why?"}, "it has no questionID"),
        ({"questionID": 1, "subject": 7, "question": "Why?"}, "its subject is a int"),
    ],
)
def test_what_is_odd_is_answered_with_a_warning(item: Any, warning: str) -> None:
    (question,) = parse([item])
    assert question.text == "Why?"
    assert question.subject == ""
    assert warning in question.warning


def test_duplicate_ids_are_both_answered_and_noted() -> None:
    first, second = parse([GOOD, GOOD])
    assert not first.warning
    assert second.warning == "its questionID is not unique"
    assert second.text == "Why?"


@pytest.mark.parametrize("items", [None, 5, "text", {"questionID": "a"}, b"bytes"])
def test_what_is_no_list_is_a_type_error(items: Any) -> None:
    with pytest.raises(TypeError, match="expected a list of"):
        parse(items)


def test_any_iterable_of_records_will_do() -> None:
    assert len(parse(record for record in (GOOD, GOOD))) == 2
    assert parse([]) == []


def test_text_is_made_safe_for_tokenizers() -> None:
    assert clean_text("a\x00b\ud800c\r\nd\x9f ") == "a b?c\nd"


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda children: st.lists(children) | st.dictionaries(st.text(), children),
    max_leaves=5,
)


@given(
    st.lists(
        json_values
        | st.fixed_dictionaries(
            {}, optional=dict.fromkeys(["questionID", "subject", "question"], json_values)
        ),
        max_size=5,
    )
)
def test_no_record_makes_an_exception(items: list[Any]) -> None:
    questions = parse(items)
    assert len(questions) == len(items)
    for question in questions:
        assert bool(question.text) != bool(question.problem)
        question.text.encode("utf-8")


def test_a_broken_line_is_named_and_the_others_are_read(tmp_path: Path) -> None:
    path = tmp_path / "q.jsonl"
    lines = [json.dumps(GOOD).encode()] * 20
    lines[16] = b'{"questionID": "a", "question": '
    lines[18] = b'{"questionID": "\xff"}'
    path.write_bytes(b"\xef\xbb\xbf" + b"\n\n".join(lines) + b"\n")
    questions = read_file(path)
    assert len(questions) == 20
    assert questions[16].problem.startswith("line 33 is not JSON")
    assert questions[18].problem == "line 37 is not UTF-8"
    assert sum(not q.problem for q in questions) == 18


def test_a_json_list_is_read_too(tmp_path: Path) -> None:
    path = tmp_path / "q.json"
    path.write_text(json.dumps([GOOD]))
    assert parse([GOOD]) == read_file(path)
    path.write_text(json.dumps(GOOD))
    with pytest.raises(SetupError, match=r"q\.json: expected a JSON list, got a dict"):
        read_file(path)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(SetupError, match=r"no\.jsonl: cannot be read \(No such file"):
        read_file(tmp_path / "no.jsonl")


def test_utf_16_is_told_and_lines_may_end_as_on_any_system(tmp_path: Path) -> None:
    path = tmp_path / "q.jsonl"
    lines = [json.dumps({**GOOD, "questionID": n}) for n in range(3)]
    for ends in ("\n", "\r\n", "\r"):
        path.write_bytes(ends.join(["", *lines, ""]).encode("utf-8-sig"))
        assert [q.id for q in read_file(path)] == [0, 1, 2]
    for encoding in ("utf-16", "utf-16-le", "utf-16-be"):
        path.write_bytes("\n".join(lines).encode(encoding))
        with pytest.raises(SetupError, match=r"q\.jsonl: not UTF-8, but UTF-16.* iconv"):
            read_file(path)
