"""The subjects of questions: declared in a TOML file, and listed nowhere else.

    fallback = "general"

    [physics]
    instruction = "You are a helpful assistant. Answer the physics question."
    names = ["phys", "物理"]

docs/subjects.md describes the file. Ours, `DEFAULT_FILE`, is beside this module.
"""

from __future__ import annotations

import re
import tomllib
import unicodedata
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Self

from runtime.common.constraint import Constraint, ConstraintError
from runtime.common.errors import SetupError
from runtime.common.files import read_text

DEFAULT_FILE = Path(__file__).with_name("subjects.toml")

# Tools that may answer a subject's questions in place of the model: exact algebra (`algebra`).
TOOLS = ("algebra",)
# Ways to judge the answers to a subject's questions (`evaluation.judges`).
JUDGES = ("facts", "math", "chinese")

# Names become parts of file names, settings and options of command lines.
_NAME = re.compile(r"[a-z][a-z0-9_]*")
_SETTING = re.compile(r"[A-Z][A-Z0-9_]*")
_FALLBACK = "fallback"
_FORMS = {
    "choices": "must be a list of texts",
    "pattern": "must be a text, a regular expression",
    "schema": "must be a JSON schema as a table, or the path of a file that has one",
}
_KEYS = ("instruction", "names", "setting", "length", "tool", "judge", *_FORMS)
# What files written before "setting" call it.
_OLD_SETTING = "knob"
# The longest answers that a subject may have, as multiples of MAX_NEW_TOKENS.
_MOST_LENGTH = 16


@dataclass(frozen=True)
class Subject:
    """One subject."""

    name: str  # as in file names, such as "history"
    instruction: str  # the system message before each question
    names: tuple[str, ...]  # others that questions may use
    setting: str  # the one that names its adapter, such as "PEFT_ADAPTER_HISTORY"
    length: float = 1.0  # factor by which its answers may exceed MAX_NEW_TOKENS
    tool: str | None = None  # the one of `TOOLS` that is tried before the model
    judge: str = JUDGES[0]  # the one of `JUDGES` for its answers
    constraint: Constraint | None = None  # what its answers must look like

    @property
    def is_computed(self) -> bool:
        """Whether the exact tool may answer; a form is the model's to keep."""
        return self.tool == "algebra" and self.constraint is None


@dataclass(frozen=True)
class Subjects(Mapping[str, Subject]):
    """All subjects by name, in the order of the file.

    `fallback` is the name of the subject for questions of undeclared subjects; `file` is where
    they are declared, for error messages.
    """

    declared: tuple[Subject, ...]
    fallback: str
    file: Path

    @classmethod
    def load(cls, file: Path = DEFAULT_FILE) -> Self:
        """Read the subjects that a file declares.

        Raises:
            SetupError: names the file, and the table and key that are wrong or missing.
        """
        try:
            tables = tomllib.loads(read_text(file))
        except OSError as error:
            raise SetupError(f"{file}: cannot be read ({error.strerror})") from None
        except (ValueError, RecursionError) as error:
            raise SetupError(f"{file}: not valid TOML in UTF-8 ({error})") from None
        fallback = tables.pop(_FALLBACK, None)
        try:
            subjects = tuple(_subject(name, table, file) for name, table in tables.items())
            _refuse_shared(subjects)
            if not isinstance(fallback, str) or fallback not in tables:
                raise _WrongError(
                    f"{_FALLBACK} must name the subject that takes all other questions, at the top"
                    f' of the file: {_FALLBACK} = "{next(iter(tables), "general")}"'
                )
        except _WrongError as error:
            raise SetupError(f"{file}: {error}") from None
        return cls(subjects, fallback, file)

    def knows(self, name: str) -> bool:
        """Whether a name is one of a declared subject's names."""
        return _normalize(name) in self._by_spelling

    def check(self, name: str, source: str) -> None:
        """Refuse a name, given by `source` such as an option, that is not exactly a subject's.

        Raises:
            SetupError: there is no such subject.
        """
        if name not in self._by_name:
            raise SetupError(
                f"{source} {name}: no such subject in {self.file}, which declares {', '.join(self)}"
            )

    def of(self, name: str) -> Subject:
        """The subject with a name that a question gives; the fallback if there is none."""
        return self._by_spelling.get(_normalize(name), self[self.fallback])

    @cached_property
    def _by_name(self) -> dict[str, Subject]:
        return {subject.name: subject for subject in self.declared}

    @cached_property
    def _by_spelling(self) -> dict[str, Subject]:
        return {
            _normalize(name): subject
            for subject in self.declared
            for name in (subject.name, *subject.names)
        }

    def __getitem__(self, name: str) -> Subject:
        return self._by_name[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._by_name)

    def __len__(self) -> int:
        return len(self.declared)


class _WrongError(Exception):
    """What is wrong with a declaration."""


def _subject(name: str, table: Any, file: Path) -> Subject:
    """Raises _WrongError."""
    if not isinstance(table, dict):
        raise _WrongError(
            f"{name} is not a table: a subject is [name] with its keys below; {_FALLBACK} is the"
            " only key outside"
        )
    where = f"[{name}]"
    if not _NAME.fullmatch(name):
        raise _WrongError(
            f"{where}: a subject's name is made of a-z, 0-9 and _, and begins with a letter"
            " (any other spelling can be one of its names = [...])"
        )
    for key in table:
        if key not in (*_KEYS, _OLD_SETTING):
            raise _WrongError(f"{where} {key}: no such key; there are {', '.join(_KEYS)}")
    instruction, names = table.get("instruction"), table.get("names", [])
    if not isinstance(instruction, str) or not instruction.strip():
        raise _WrongError(f"{where} instruction: must be a text, the system message")
    if not isinstance(names, list) or not all(isinstance(n, str) and _normalize(n) for n in names):
        raise _WrongError(f"{where} names: must be a list of texts with a letter or digit in each")
    if "setting" in table and _OLD_SETTING in table:
        raise _WrongError(f"{where} {_OLD_SETTING}: the old name of setting; give one of the two")
    setting = table.get("setting", table.get(_OLD_SETTING, f"PEFT_ADAPTER_{name.upper()}"))
    if not isinstance(setting, str) or not _SETTING.fullmatch(setting):
        raise _WrongError(
            f"{where} setting: must be made of A-Z, 0-9 and _, as PEFT_ADAPTER_PHYSICS"
        )
    length = table.get("length", 1.0)
    if type(length) not in (int, float) or not 0 < length <= _MOST_LENGTH:
        raise _WrongError(f"{where} length: must be a number over 0, at most {_MOST_LENGTH}")
    tool, judge = table.get("tool"), table.get("judge", JUDGES[0])
    for key, value, allowed in (("tool", tool, TOOLS), ("judge", judge, JUDGES)):
        if value is not None and value not in allowed:
            raise _WrongError(f"{where} {key}: must be one of {', '.join(allowed)}")
    constraint = _constraint(where, table, file)
    return Subject(name, instruction, tuple(names), setting, length, tool, judge, constraint)


def _constraint(where: str, table: dict[str, Any], file: Path) -> Constraint | None:
    """The form of a subject's answers, if it declares one. Raises _WrongError."""
    given = [key for key in _FORMS if key in table]
    if not given:
        return None
    if len(given) > 1:
        raise _WrongError(f"{where} {given[1]}: give one of {', '.join(given)}")
    key, value = given[0], table[given[0]]
    try:
        match key, value:
            case "choices", list():
                constraint = Constraint.choices(value)
            case "pattern", str():
                constraint = Constraint.pattern(value)
            case "schema", dict():
                constraint = Constraint.schema(value)
            case "schema", str():
                constraint = Constraint.schema(read_text(file.parent / value))
            case _:
                raise _WrongError(f"{where} {key}: {_FORMS[key]}")
        from runtime.engine.grammars import check

        check(constraint)
    except (ConstraintError, ValueError) as error:
        raise _WrongError(f"{where} {key}: {error}") from None
    except OSError as error:
        raise _WrongError(
            f"{where} {key}: {file.parent / value}: cannot be read ({error.strerror})"
        ) from None
    return constraint


def _refuse_shared(subjects: tuple[Subject, ...]) -> None:
    """Raises _WrongError for a name or setting that two subjects have."""
    owner: dict[str, str] = {}
    for subject in subjects:
        for name in (subject.name, *subject.names):
            other = owner.setdefault(_normalize(name), subject.name)
            if other != subject.name:
                raise _WrongError(f"[{subject.name}] names: {name!r} is also a name of [{other}]")
        other = owner.setdefault(subject.setting, subject.name)
        if other != subject.name:
            raise _WrongError(
                f"[{subject.name}] setting: {subject.setting} is also the setting of [{other}]"
            )


def _normalize(name: str) -> str:
    """A name without case, width, spaces and hyphens, which do not distinguish names."""
    folded = unicodedata.normalize("NFKC", name).casefold()
    return "".join(c for c in folded if c.isalnum())
