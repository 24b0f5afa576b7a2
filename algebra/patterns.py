"""The notation of `forms`, and pieces that both languages share."""

from __future__ import annotations

import re
from functools import partial

from algebra import builders
from algebra.phrases import NUMBER

_TOKEN = re.compile(r"\\.|\[(?:\\.|[^\]])*\]|\(\?P<\w+>|\(\?|[(<>]")
_REGEX = {"(": "(?:", "<": "(?:", ">": ")?"}
Form = tuple[re.Pattern[str], builders.Builder]


def table(text: str) -> list[Form]:
    """Forms as pairs of a pattern and a builder.

    Args:
        text: a line "builder name=value: pattern" for each form. The pattern is a regular
            expression in which <...> is optional and (...) does not capture. Its named groups and
            the values are the builder's arguments. A line goes on in the next if that is indented,
            after a space unless it ends with "|" or a backslash.
    """
    text = re.sub(r"\\\n {4}|(?<=\|)\n {4}", "", text)
    found: list[Form] = []
    for line in filter(None, re.sub(r"\n {4}", " ", text).splitlines()):
        head, pattern = line.split(": ", 1)
        name, *fixed = head.split()
        build = partial(getattr(builders, name), **dict(pair.split("=") for pair in fixed))
        regex = _TOKEN.sub(lambda match: _REGEX.get(match[0], match[0]), pattern)
        found.append((re.compile(regex, re.IGNORECASE), build))
    return found


def named(name: str) -> str:
    """A number that the builder gets as an argument of this name."""
    return rf"(?P<{name}>{NUMBER})"


A, B, D = (named(name) for name in "abd")
TERMS = rf"(?P<ns>{NUMBER}(, ?{NUMBER}){{2,14}})<,? ?\.\.\.,?|,>"
F = r"(?P<f>[fgh]) ?\((?P<x>[a-z])\) ?= ?"
F2 = r"(?P<f2>[fgh]) ?\((?P<at>[^()]+)\)"
MATRIX = r"(?P<m>\[ ?\[[^\[\]]+\](, ?\[[^\[\]]+\]){1,3} ?\])"
