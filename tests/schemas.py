"""Random JSON schemas of which any answer is finite and short."""

from __future__ import annotations

import random
from typing import Any

Schema = dict[str, Any]
_WORDS = ["name", "age", "städte", "items", "kind", "value", "ok", 'quote"d', "a b", "名"]


def random_schema(seed: int) -> Schema:
    """An object schema, the same for the same seed."""
    return _object(random.Random(seed), depth=3)


def _object(rng: random.Random, depth: int) -> Schema:
    names = rng.sample(_WORDS, rng.randint(1, 4))
    return {
        "type": "object",
        "properties": {name: _any(rng, depth - 1) for name in names},
        "required": [name for name in names if rng.random() < 0.7],
        "additionalProperties": False,
    }


def _any(rng: random.Random, depth: int) -> Schema:
    kinds = [_text, _integer, _number, _enum, _const, _plain, _pattern, _format]
    kinds += [_object, _array, _either, _either] if depth > 0 else []
    return rng.choice(kinds)(rng, depth)


def _text(rng: random.Random, _: int) -> Schema:
    least = rng.randint(0, 3)
    return {"type": "string", "minLength": least, "maxLength": least + rng.randint(0, 12)}


def _integer(rng: random.Random, _: int) -> Schema:
    least = rng.randint(-1000, 1000)
    schema = {"type": "integer", "minimum": least, "maximum": least + rng.randint(0, 5000)}
    if rng.random() < 0.3:
        schema |= {"minimum": 0, "maximum": 1000, "multipleOf": rng.choice([2, 5, 7])}
    return schema


def _number(rng: random.Random, _: int) -> Schema:
    least = rng.randint(-50, 50)
    return {"type": "number", "exclusiveMinimum": least, "maximum": least + rng.randint(1, 99)}


def _enum(rng: random.Random, _: int) -> Schema:
    return {"enum": rng.sample(["red", "green", 3, -1.5, None, True, "Ångström"], 3)}


def _const(rng: random.Random, _: int) -> Schema:
    return {"const": rng.choice(["fixed", 0, False, ["a", 1], {"k": "v"}])}


def _plain(rng: random.Random, _: int) -> Schema:
    return {"type": rng.choice(["boolean", "null", ["boolean", "null"]])}


def _pattern(rng: random.Random, _: int) -> Schema:
    return {"type": "string", "pattern": rng.choice([r"^[A-Z]{2}\d{4}$", r"^(ab|c)+x{0,3}$"])} | {
        "maxLength": 16
    }


def _format(rng: random.Random, _: int) -> Schema:
    return {"type": "string", "format": rng.choice(["date", "uuid", "ipv4"])}


def _array(rng: random.Random, depth: int) -> Schema:
    least = rng.randint(0, 2)
    schema = {"type": "array", "minItems": least, "maxItems": least + rng.randint(0, 2)}
    return schema | {"items": _any(rng, depth - 1)}


def _either(rng: random.Random, depth: int) -> Schema:
    return {"anyOf": [_any(rng, depth - 1), _any(rng, depth - 1)]}
