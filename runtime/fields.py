"""What the table in `runtime.settings` is made of: fields, types of values, errors in words."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, PlainValidator, ValidationError
from pydantic.fields import FieldInfo

from runtime.questions import shown

PROJECT_DIR = Path(__file__).resolve().parent.parent

# No system takes longer paths, or longer names in them; in bytes.
_LONGEST_PATH = 4096
_LONGEST_NAME = 255


def field(
    default: Any,
    allowed: str | tuple[int, int],
    meaning: str,
    *,
    contest: bool = False,
    contest_default: Any = None,
    **constraints: Any,
) -> Any:
    """A field of a settings class.

    Args:
        allowed: the allowed values in words, for the table and for errors; or the least and the
            most, in which case they are the constraint, too.
        contest: whether the contest's pipeline has this setting.
        contest_default: its default there, if it differs.
        constraints: as for pydantic's `Field`.
    """
    if not isinstance(allowed, str):
        least, most = allowed
        constraints |= {"ge": least, "le": most}
        allowed = f"{least} to {most}"
    theirs = default if contest_default is None else contest_default
    extra: dict[str, Any] = {"allowed": allowed, "contest": show(theirs) if contest else None}
    return Field(default, description=meaning, json_schema_extra=extra, **constraints)


def _extra(info: FieldInfo, key: str) -> Any:
    assert isinstance(info.json_schema_extra, dict)
    return info.json_schema_extra[key]


@dataclass(frozen=True)
class Setting:
    """A row of the table, as text; `contest` is the default there, None if it lacks the setting."""

    name: str
    default: str
    allowed: str
    meaning: str
    contest: str | None


def rows(fields: Mapping[str, FieldInfo], adapters: Mapping[str, str]) -> list[Setting]:
    """The table of a settings class, with a row per subject for its field `peft_adapters`.

    Args:
        fields: of the class; those without a meaning are not settings.
        adapters: setting of an adapter → the subject it is for.
    """
    table = []
    for name, info in fields.items():
        if not info.description:
            continue
        names = adapters if name == "peft_adapters" else {name.upper(): ""}
        for setting, subject in names.items():
            default = "" if subject else show(info.default)
            meaning = info.description.format(subject=subject) if subject else info.description
            allowed, contest = _extra(info, "allowed"), _extra(info, "contest")
            theirs = default if subject and contest is not None else contest
            table.append(Setting(setting, default, allowed, meaning, theirs))
    return table


def show(value: Any) -> str:
    """A setting's value as one would write it in the environment."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(int(value))
    if isinstance(value, (dict, tuple)):
        return json.dumps(value)
    if isinstance(value, Path) and value.is_relative_to(PROJECT_DIR):
        return str(value.relative_to(PROJECT_DIR))
    return str(value)


def explain(
    error: ValidationError,
    fields: Mapping[str, FieldInfo],
    names: Mapping[Any, str],
    gone: Mapping[str, str],
) -> str:
    """Each wrong setting in a line: its name, its value and what is allowed.

    Args:
        names: location in the class → name of the setting, where it is not the field's.
        gone: name of a field of earlier versions → what replaces it.
    """
    lines = []
    for problem in error.errors():
        field_name, *keys = problem["loc"]
        items = "".join(f"[{_quoted(key)}]" for key in keys)
        name = names.get(problem["loc"]) or f"{str(field_name).upper()[:80]}{items}"
        info = fields.get(str(field_name))
        if info is None:
            why = gone.get(str(field_name))
            lines.append(f"{name}: there is no such setting" + (f" any more: {why}" if why else ""))
            continue
        value, message = _quoted(problem["input"]), problem["msg"].removeprefix("Value error, ")
        lines.append(f"{name}={value} is not allowed: {_extra(info, 'allowed')}. ({message})")
    return "\n".join(lines)


def _quoted(value: Any) -> str:
    """A wrong value as Python writes it, shortened."""
    text = shown(value)
    return text if len(text) <= 100 else f"{text[:60]}...{text[-20:]}"


def from_json(value: Any) -> Any:
    """A text read as JSON; any other value as it is. Raises ValueError."""
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"not valid JSON ({error})") from None


def _usable_in_a_path(value: Any) -> Any:
    """The value, if the file system accepts it."""
    if isinstance(value, (str, Path)):
        raw = os.fsencode(value)
        if b"\0" in raw:
            raise ValueError("it has a NUL character in it")
        if len(raw) > _LONGEST_PATH:
            raise ValueError(f"it is longer than {_LONGEST_PATH} bytes")
        if any(len(name) > _LONGEST_NAME for name in raw.split(b"/")):
            raise ValueError(f"a name in it is longer than {_LONGEST_NAME} bytes")
    return value


def _zero_or_divisor(value: float) -> float:
    if 0 < value < 1e-6:
        raise ValueError("logits divided by it would be infinite")
    return value


def _true_false_or_always(value: Any) -> Any:
    if isinstance(value, bool) or value == "always":
        return value
    raise ValueError('it must be true, false or "always"')


def _not_program(value: Any) -> Any:
    if value == "program":
        raise ValueError("program is gone: it got fewer questions right than the model alone")
    return value


FilePath = Annotated[Path, BeforeValidator(_usable_in_a_path)]
FileName = Annotated[str, BeforeValidator(_usable_in_a_path)]
Temperature = Annotated[float, AfterValidator(_zero_or_divisor)]
Stop = Annotated[
    tuple[Annotated[str, Field(min_length=1, max_length=1000)], ...], BeforeValidator(from_json)
]
Uses = Annotated[
    dict[str, Annotated[bool | Literal["always"], PlainValidator(_true_false_or_always)]],
    BeforeValidator(from_json),
]
AlgebraTool = Annotated[Literal["off", "exact"], BeforeValidator(_not_program)]
