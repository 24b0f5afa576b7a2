"""How often the judges disagree with a person, as docs/judges.md says.

Whoever changes the judges may read the pairs where `kept_back` is false. The others, on questions
of their own, are only counted: do not look at which of them fail, or the figure means nothing any
more.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from evaluation.judges import judge
from evaluation.records import Item
from runtime.settings import PROJECT_DIR

FOLDER = Path(__file__).parent
PAGE = (PROJECT_DIR / "docs" / "judges.md").read_text(encoding="utf-8")
# A row of the page: the list, pairs to read or kept back, how many, too kind, too strict, share.
ROW = re.compile(
    r"^\| list (\d+) \| (to read|kept back) \| (\d+) \| (\d+) \| (\d+) \| (\S+) % \|$", re.M
)
ROWS = [match.groups() for match in ROW.finditer(PAGE)]


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


@pytest.mark.parametrize(("number", "half", "n", "kind", "strict", "share"), ROWS)
def test_the_judges_disagree_with_a_person_as_often_as_the_page_says(
    number: str, half: str, n: str, kind: str, strict: str, share: str
) -> None:
    rows = load(int(number), half == "kept back")
    wrong = [row for row in rows if verdict(row) is not row["right"]]
    too_strict = sum(row["right"] for row in wrong)
    found = (len(rows), len(wrong) - too_strict, too_strict, f"{len(wrong) / len(rows):.1%}")
    assert found == (int(n), int(kind), int(strict), f"{share}%")


def test_the_page_has_every_list() -> None:
    halves = {
        (path.stem.rpartition("_")[2], "kept back" if row["kept_back"] else "to read")
        for path in FOLDER.glob("judge_pairs_*.jsonl")
        for row in map(json.loads, path.read_text(encoding="utf-8").splitlines())
    }
    assert {(number, half) for number, half, *_ in ROWS} == halves
