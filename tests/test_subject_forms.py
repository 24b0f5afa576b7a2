"""Subjects declare what their answers look like; what is wrong names the file and the key."""

from __future__ import annotations

import json
import pickle
import re
import sys
from pathlib import Path

import pytest

from runtime import SetupError
from runtime.engine import Constraint
from runtime.subjects import Subjects

pytest.importorskip("llguidance")

SUBJECT = 'fallback = "a"\n[a]\ninstruction = "Answer."\n'


def load(folder: Path, text: str) -> Subjects:
    file = folder / "subjects.toml"
    file.write_text(SUBJECT + text, "utf-8")
    return Subjects.load(file)


def test_forms_are_read(tmp_path: Path) -> None:
    schema = {"type": "object", "properties": {"n": {"type": "integer"}}}
    (tmp_path / "n.json").write_text(json.dumps(schema))
    inline = 'schema = { type = "object", properties = { n = { type = "integer" } } }'
    for text, expected in {
        "": None,
        'choices = ["yes", "no"]': Constraint.choices(["yes", "no"]),
        'pattern = "[a-z]+"': Constraint.pattern("[a-z]+"),
        'schema = "n.json"': Constraint.schema(schema),
        inline: Constraint.schema(schema),
    }.items():
        subjects = load(tmp_path, text)
        assert subjects["a"].constraint == expected
        assert pickle.loads(pickle.dumps(subjects))["a"].constraint == expected
        assert subjects["a"].is_computed is False


def test_a_form_keeps_the_exact_tool_out(tmp_path: Path) -> None:
    assert load(tmp_path, 'tool = "algebra"')["a"].is_computed
    assert not load(tmp_path, 'tool = "algebra"\npattern = "x"')["a"].is_computed


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("choices = []", "[a] choices: choices must be texts"),
        ('choices = ["a", 3]', "[a] choices: choices must be texts"),
        ('choices = "yes"', "[a] choices: must be a list of texts"),
        ("pattern = 3", "[a] pattern: must be a text"),
        ('pattern = "("', "[a] pattern: the pattern cannot be used"),
        ("schema = []", "[a] schema: must be a JSON schema"),
        ('schema = { type = "strange" }', "[a] schema: the schema cannot be used: Invalid type"),
        ("schema = { not = {} }", "[a] schema: the schema cannot be used: Unimplemented keys"),
        ('schema = "none.json"', "none.json: cannot be read"),
        ('schema = "subjects.toml"', "[a] schema: the schema is not valid JSON"),
        ('choices = ["a"]\npattern = "b"', "[a] pattern: give one of choices, pattern"),
    ],
)
def test_what_is_wrong_names_file_and_key(tmp_path: Path, text: str, problem: str) -> None:
    with pytest.raises(SetupError, match=re.escape(problem)) as caught:
        load(tmp_path, text)
    assert str(caught.value).startswith(f"{tmp_path / 'subjects.toml'}: [a] ")


def test_without_the_library_the_extra_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "llguidance", None)
    with pytest.raises(SetupError, match=re.escape("pip install 'subject-lora-serve[constrain]'")):
        load(tmp_path, 'choices = ["a"]')
    assert load(tmp_path, "")["a"].constraint is None
