"""What a request may demand of its answer's form. Light: imports neither numpy nor llama.cpp."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Self

from runtime.common.errors import UserError

# Of a constraint's text: more is refused before anything is compiled.
MOST_CHARACTERS = 200_000
MOST_CHOICES = 10_000
# Of an object or list in a schema: the work of compiling grows with the square of it.
MOST_ENTRIES = 1_000

Kind = Literal["schema", "pattern", "choices", "grammar"]


class ConstraintError(UserError):
    """A constraint that cannot be used; the message says why."""


@dataclass(frozen=True)
class Constraint:
    """The form that an answer must have; equal constraints are compiled once.

    Make one with the class methods, which raise ConstraintError for what cannot be a constraint.
    `runtime.engine.grammars` compiles it for a model's vocabulary.
    """

    kind: Kind
    text: str  # a JSON schema, a regular expression, a JSON list of texts, or a grammar

    def __post_init__(self) -> None:
        if len(self.text) > MOST_CHARACTERS:
            raise ConstraintError(
                f"the {self.kind} has {len(self.text)} characters; at most {MOST_CHARACTERS} are"
                " accepted"
            )
        if not self.text:
            raise ConstraintError(f"the {self.kind} is empty")
        try:
            self.text.encode()
        except UnicodeEncodeError:
            raise ConstraintError(f"the {self.kind} has half a character in it") from None

    @classmethod
    def schema(cls, schema: Mapping[str, Any] | bool | str) -> Self:
        """JSON that a JSON schema, parsed or as text, allows; properties come in its order."""
        if isinstance(schema, str):
            if len(schema) > MOST_CHARACTERS:
                return cls("schema", schema)  # refused, before it is parsed
            try:
                schema = json.loads(schema)
            except RecursionError:
                raise ConstraintError("the schema is nested too deeply") from None
            except ValueError as error:
                raise ConstraintError(f"the schema is not valid JSON ({error})") from None
        if schema is False:
            raise ConstraintError("the schema false allows nothing")
        if schema is True:
            schema = {}
        if not isinstance(schema, Mapping):
            raise ConstraintError("the schema must be an object")
        made = cls("schema", _json(schema, "schema"))
        if (most := _most_entries(schema)) > MOST_ENTRIES:
            raise ConstraintError(
                f"the schema has {most} entries in one place; at most {MOST_ENTRIES} are accepted,"
                f" and {MOST_CHOICES} in enum"
            )
        return made

    @classmethod
    def json_object(cls) -> Self:
        """Any JSON object."""
        return cls("schema", '{"type": "object"}')

    @classmethod
    def pattern(cls, pattern: str) -> Self:
        """Text that a regular expression matches as a whole (syntax of Rust's `regex`)."""
        return cls("pattern", pattern)

    @classmethod
    def choices(cls, choices: Sequence[str]) -> Self:
        """One of some texts."""
        if not choices or not all(isinstance(choice, str) and choice for choice in choices):
            raise ConstraintError("choices must be texts that are not empty, at least one")
        if len(choices) > MOST_CHOICES:
            raise ConstraintError(f"{len(choices)} choices; at most {MOST_CHOICES} are accepted")
        return cls("choices", _json(list(dict.fromkeys(choices)), "choices"))

    @classmethod
    def grammar(cls, grammar: str) -> Self:
        """Text that a grammar in GBNF or Lark's syntax derives."""
        return cls("grammar", grammar)


def _most_entries(schema: Any) -> int:
    """The most entries that an object or list in a schema has."""
    most, left = 0, [schema]
    while left:
        value = left.pop()
        if isinstance(value, Mapping):
            left += [v for key, v in value.items() if key != "enum" or not _is_short(v)]
        elif isinstance(value, list):
            left += value
        else:
            continue
        most = max(most, len(value))
    return most


def _is_short(values: Any) -> bool:
    return isinstance(values, list) and len(values) <= MOST_CHOICES


def _json(value: Any, kind: Kind) -> str:
    try:
        return json.dumps(value, ensure_ascii=False, allow_nan=False)
    except RecursionError:
        raise ConstraintError(f"the {kind} is nested too deeply") from None
    except (TypeError, ValueError) as error:
        raise ConstraintError(f"the {kind} is not JSON ({error})") from None
