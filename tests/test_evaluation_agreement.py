"""How far a judge model and the rules agree, and where they differ."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from evaluation import report
from evaluation.agreement import agreement
from evaluation.judging import Pair
from evaluation.records import Result, Verdict
from tests.evaluating import RIGHT, judging_by, score_of


def verdicts(both: int, model: int, rules: int, neither: int) -> list[tuple[bool, bool]]:
    kinds = [(True, True), (True, False), (False, True), (False, False)]
    counts = (both, model, rules, neither)
    return [kind for kind, n in zip(kinds, counts, strict=True) for _ in range(n)]


def test_kappa_is_cohens() -> None:
    found = agreement(verdicts(20, 5, 10, 15))  # the example of Wikipedia
    assert found is not None
    assert (found.n, found.agree) == (50, 35)
    assert found.kappa == pytest.approx(0.4)
    assert found.low is not None
    assert found.high is not None
    assert 0.1 < found.low < 0.4 < found.high < 0.7


@pytest.mark.parametrize(
    ("counts", "kappa"),
    [((5, 0, 0, 5), 1.0), ((0, 5, 5, 0), -1.0), ((4, 4, 4, 4), 0.0), ((8, 0, 0, 0), None)],
)
def test_kappa_at_its_ends(counts: tuple[int, int, int, int], kappa: float | None) -> None:
    found = agreement(verdicts(*counts))
    assert found is not None
    assert found.kappa == kappa


@pytest.mark.parametrize("n", range(1, 20))
def test_a_model_that_always_says_the_same_has_a_kappa_of_0(n: int) -> None:
    found = agreement(verdicts(0, 0, n, 7))
    assert found is not None
    assert (f"{found.kappa}", f"{found.low}", f"{found.high}") == ("0.0", "0.0", "0.0")


def test_without_a_judge_model_there_is_none() -> None:
    assert agreement([]) is None


def test_a_report_shows_where_model_and_rules_differ(tmp_path: Path) -> None:
    def model(pairs: Sequence[Pair]) -> list[Verdict]:
        return [
            Verdict(item.id != "q3", float(item.id != "q3"), "model", "the model says so")
            for item, _ in pairs
        ]

    summary = score_of(tmp_path, RIGHT, judging=judging_by(model, "model m"))
    assert summary.agreement is not None
    assert (summary.agreement.n, summary.agreement.agree) == (10, 9)
    assert "they agree on 9 of 10 answers" in report.text(summary)
    assert "judged by model m: 10 by model" in report.text(summary)
    folder = tmp_path / "report" / "run"
    lines = (folder / "results.jsonl").read_text(encoding="utf-8").splitlines()
    results = [Result.model_validate_json(line) for line in lines]
    assert [r.questionID for r in results if r.rules != r.correct] == ["q3"]
    page = (folder / "report.html").read_text(encoding="utf-8")
    differing = page.partition("Where the judge model and the rules differ")[2]
    differing = differing.partition("<h2>Wrong answers")[0]
    assert differing.count("<article>") == 1
    assert "the model says so" in differing
    assert "rules: right" in differing


def test_verdicts_of_the_rules_alone_are_compared_with_nothing(tmp_path: Path) -> None:
    summary = score_of(tmp_path, RIGHT)
    assert summary.agreement is None
    assert "kappa" not in report.text(summary)
