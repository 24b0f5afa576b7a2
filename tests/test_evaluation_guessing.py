"""A list of candidates as the answer to everything is right for most, and worth nothing."""

from __future__ import annotations

from evaluation import guessing, report, score
from evaluation.judges import judge
from evaluation.questions import read
from evaluation.records import Interval, Summary
from tests.conftest import SAMPLES

ITEMS = [item for item in read(SAMPLES).items if item is not None]


def summary(accuracy: float, guessed: float) -> Summary:
    share = Interval(mean=accuracy, low=0, high=1, n=10)
    return Summary(
        name="a", pipeline="a:loadPipeline", questions="q", questions_sha256="", machine="",
        judge="", created="", accuracy=share, by_subject={}, latency=None, setup_seconds=1,
        peak_memory=1, gated=False, guessed=guessed,
    )  # fmt: skip


def test_candidates_for_everything_are_worth_nothing() -> None:
    everything = " ".join(item.references[0] for item in ITEMS)
    pairs = [(item, everything) for item in ITEMS]
    accuracy = sum(judge(*pair).correct for pair in pairs) / len(pairs)
    assert accuracy > 0.5
    found = summary(accuracy, guessing.rate(pairs))
    without = score.without_guessing(found)
    assert without is not None
    assert without < 0.05
    assert "without guessing" in report.text(found)
    assert "of other questions too" in report.text(found)


def test_right_answers_satisfy_no_other_question() -> None:
    pairs = [(item, f"It is {item.references[0]}.") for item in ITEMS]
    assert guessing.rate(pairs) < 0.03


def test_it_is_nothing_without_open_questions() -> None:
    assert guessing.rate([]) == guessing.rate([(ITEMS[0], "4")]) == 0.0
    assert score.without_guessing(summary(0.5, 0.0)) is None
    assert score.without_guessing(summary(1.0, 1.0)) == 0.0
    assert "without guessing" not in report.text(summary(0.5, 0.01))
