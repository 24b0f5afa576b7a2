"""How often the judges disagree with a person, on pairs that were written without reading them.

The lists were written before the judges were changed, and without looking at their rules. Whoever
changes the judges may read the pairs where `kept_back` is false. The others, on questions of their
own, are only counted: do not look at which of them fail, or the figure means nothing any more.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from evaluation.judges import judge
from evaluation.records import Item

FOLDER = Path(__file__).parent
# By list and whether kept back, the share of pairs on which the judges disagreed when they were
# last changed, with some room. List 4 was written while they were changed.
MOST = {(2, False): 0.07, (2, True): 0.21, (3, False): 0.04, (3, True): 0.12, (4, False): 0.07}
MOST |= {(5, False): 0.12, (5, True): 0.16}


def load(number: int, kept_back: bool) -> list[dict[str, Any]]:
    path = FOLDER / f"judge_pairs_{number}.jsonl"
    rows = map(json.loads, path.read_text(encoding="utf-8").splitlines())
    return [row for row in rows if row["kept_back"] is kept_back]


def verdict(row: dict[str, Any]) -> bool:
    item = Item(
        row["question"],
        row["subject"],
        row["question"],
        tuple(row["references"]),
        tuple(row.get("choices", ())),
    )
    return judge(item, row["answer"]).correct


def disagreements(number: int, kept_back: bool) -> tuple[int, int, int]:
    """How many pairs there are, and how often the judges are too kind and too strict."""
    rows = load(number, kept_back)
    wrong = [row for row in rows if verdict(row) is not row["right"]]
    strict = sum(row["right"] for row in wrong)
    return len(rows), len(wrong) - strict, strict


@pytest.mark.parametrize(("number", "kept_back"), MOST)
def test_the_judges_agree_with_a_person(number: int, kept_back: bool) -> None:
    n, kind, strict = disagreements(number, kept_back)
    print(f"of {n} pairs the judges are too kind on {kind} and too strict on {strict}")
    assert n >= 100
    assert (kind + strict) / n <= MOST[number, kept_back]
