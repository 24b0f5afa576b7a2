"""What each rule of the judge of algebra is for."""

from __future__ import annotations

import re

import pytest

from evaluation.judges import math_text
from evaluation.judges.math_text import EXAMPLES, MARKUP, PROSE, Rule

RULES = [*MARKUP, *PROSE]


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.before)
def test_a_rule_does_what_its_example_says(rule: Rule) -> None:
    assert rule.before != rule.after
    assert rule.apply(rule.before) == rule.after


@pytest.mark.parametrize(("pattern", "text", "found", "other"), EXAMPLES)
def test_an_expression_finds_what_it_is_for(
    pattern: re.Pattern[str], text: str, found: str, other: str
) -> None:
    match = pattern.search(text)
    assert match
    assert match[0] == found
    assert not pattern.search(other)


def test_no_expression_is_without_an_example() -> None:
    named = [value for value in vars(math_text).values() if isinstance(value, re.Pattern)]
    public = {id(value) for name, value in vars(math_text).items() if name[0] != "_"}
    assert {id(p) for p in named if id(p) in public} == {id(pattern) for pattern, *_ in EXAMPLES}
    in_tables = [value for value in vars(math_text).values() if isinstance(value, tuple)]
    rules = [rule for table in in_tables for rule in table if isinstance(rule, Rule)]
    assert {rule.before for rule in rules} <= {rule.before for rule in RULES}
