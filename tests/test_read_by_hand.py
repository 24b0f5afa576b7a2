"""Where the judges by rules and a careful reading of 92 answers disagree: docs/judges.md.

The answers are the demo model's to the sample questions, bare ("base") and with its adapters.
"""

from __future__ import annotations

import json

from evaluation.judges import judge
from evaluation.questions import read
from runtime.settings import PROJECT_DIR
from tests.conftest import SAMPLES

READ = PROJECT_DIR / "tests" / "read_by_hand.jsonl"


def test_the_rules_disagree_with_a_careful_reading_where_the_docs_say() -> None:
    items = {item.id: item for item in read(SAMPLES).items if item is not None}
    answers = [json.loads(line) for line in READ.read_text("utf-8").splitlines()]
    assert len(answers) == 2 * len(items)
    table = (PROJECT_DIR / "docs" / "judges.md").read_text("utf-8")
    told = set()
    for read_answer in answers:
        verdict = judge(items[read_answer["questionID"]], read_answer["answer"])
        if verdict.correct != read_answer["right"]:
            told.add((read_answer["by"], read_answer["questionID"]))
            assert read_answer["answer"] in table, read_answer
    assert told == {("base", "sample-020")}
