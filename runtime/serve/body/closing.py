"""JSON schemas without the properties that they allow but do not name.

By the letter of JSON Schema an object may have any further properties unless its schema forbids
them. A small model that may go on with any property does so until it is cut off, which is not what
schemas made of classes mean. An object of the closed schema is one of the given schema, too.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

# Beside these, or where something is missing in `properties`, properties come from elsewhere.
_MORE = (
    *("additionalProperties", "patternProperties", "unevaluatedProperties", "propertyNames"),
    *("minProperties", "dependentRequired"),
)
_ELSEWHERE = ("$ref", "allOf", "anyOf", "oneOf", "not", "if", "dependentSchemas")
_OF_NAMES = ("properties", "$defs", "definitions")
_OF_LISTS = ("anyOf", "oneOf", "prefixItems")


def closed(schema: Mapping[str, Any]) -> dict[str, Any]:
    """The schema without further properties, wherever it is clear what its properties are.

    Schemas that combine others (`allOf`, or properties beside a `$ref`) are left as they are, and
    so are those that are nested too deeply for Python.
    """
    try:
        if not _combines(schema):
            return dict(_closed(schema))
    except RecursionError:
        pass
    return dict(schema)


def _combines(value: Any) -> bool:
    """Whether objects somewhere in a schema get their properties from several places."""
    if isinstance(value, list):
        return any(map(_combines, value))
    if not isinstance(value, Mapping):
        return False
    combined = "allOf" in value or ("properties" in value and any(k in value for k in _ELSEWHERE))
    return combined or any(map(_combines, value.values()))


def _closed(schema: Any) -> Any:
    if not isinstance(schema, Mapping):
        return schema
    made = dict(schema)
    for key, value in schema.items():
        if key in _OF_NAMES and isinstance(value, Mapping):
            made[key] = {name: _closed(inner) for name, inner in value.items()}
        elif key in _OF_LISTS and isinstance(value, list):
            made[key] = [_closed(inner) for inner in value]
        elif key in ("items", "additionalProperties"):
            made[key] = _closed(value)
    named, required = made.get("properties"), made.get("required", [])
    if isinstance(named, Mapping) and isinstance(required, list):
        missing = [name for name in required if not isinstance(name, str) or name not in named]
        if not missing and not any(key in made for key in _MORE):
            made["additionalProperties"] = False
    return made
