"""One answer to all questions is right for many of them, and counts nothing."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from evaluation import compare, evaluate, guessing, report, score
from evaluation.judges import judge
from evaluation.questions import read
from evaluation.records import Item, Result, Run, Summary
from tests.conftest import SAMPLES
from tests.evaluating import plan, stored

QUESTIONS = read(SAMPLES)
ITEMS = [item for item in QUESTIONS.items if item is not None]
EVERYTHING = " ".join(dict.fromkeys(item.references[0] for item in ITEMS))


def results_of(tmp_path: Path, answers: list[str]) -> tuple[Summary, list[Result]]:
    """What an evaluation makes of answers to the sample questions."""
    each = iter(answers)
    whole: list[str | None] = [item and next(each) for item in QUESTIONS.items]
    run = Run(answers=whole, call_seconds=1.0)
    asked = plan(tmp_path, "", questions=QUESTIONS)
    results = evaluate.judge_all(QUESTIONS, run, asked.judging)
    results = [
        result.model_copy(update={"correct": judge(item, result.answer).correct})
        for item, result in zip(ITEMS, results, strict=True)
    ]
    results, guessed = evaluate.without_guessing(QUESTIONS, results)
    call = evaluate.Call(
        pipeline="a:loadPipeline", questions_sha256="0", machine="m", created="2026", run=run
    )
    return evaluate.summarize(asked, call, results, guessed), results


def test_all_candidates_as_the_answer_to_everything_count_nothing(tmp_path: Path) -> None:
    summary, results = results_of(tmp_path, [EVERYTHING] * len(ITEMS))
    assert summary.accuracy.mean > 0.2
    assert summary.counted.mean < 0.05
    assert summary.gated
    assert score.barred(summary) == "accuracy without guessing is under 10%"
    for told in (report.text(summary), report.html(summary, results, [])):
        assert "satisfy other questions of their kind as well" in told
        assert "without guessing" in told


def test_right_answers_lose_nothing(tmp_path: Path) -> None:
    summary, _ = results_of(tmp_path, [f"It is {item.references[0]}." for item in ITEMS])
    assert summary.accuracy.mean > 0.9
    assert summary.accuracy.mean - summary.counted.mean < 0.02
    assert score.guessing(summary) == ""


def items(references: list[str], subject: str = "history") -> list[Item]:
    return [Item(n, subject, f"What is number {n}?", (r,)) for n, r in enumerate(references)]


@pytest.mark.parametrize("answer", ["7", "3 or 4", "It is 5."])
def test_a_constant_knows_exactly_nothing_though_answers_repeat(answer: str) -> None:
    numbers = [str(random.Random(0).randrange(10)) for _ in range(3)] + list("0123456789") * 4
    pairs = [(item, answer) for item in items(numbers)]
    assert guessing.measure(pairs)["history"].known == pytest.approx(
        0.0 if any(judge(*pair).correct for pair in pairs) else 1.0
    )


def test_a_constant_knows_exactly_nothing_where_a_reference_says_more_than_another() -> None:
    asked = items(["1945", "May 8, 1945", "1812", "1066", "1492", "1215"])
    assert judge(asked[0], "May 8, 1945").correct
    assert [judge(item, "1945").correct for item in asked[:2]] == [True, False]
    assert guessing.measure([(item, "1945") for item in asked])["history"].known == 0


def test_a_list_for_each_kind_knows_nothing() -> None:
    years = [str(year) for year in range(1900, 1940)]
    names = [f"name{chr(97 + n % 26)}{chr(97 + n // 26)}" for n in range(40)]
    asked = items(years) + items(names)
    lists = [" ".join(years)] * 40 + [" ".join(names)] * 40
    found = guessing.measure(list(zip(asked, lists, strict=True)))["history"]
    assert found.others > 0.9
    assert found.known < 0.05


def test_half_knowledge_and_half_guessing_is_half() -> None:
    names = [f"name{chr(97 + n % 26)}{chr(97 + n // 26)}" for n in range(60)]
    everything = " ".join(names)
    mixed = [name if n % 2 else everything for n, name in enumerate(names)]
    found = guessing.measure(list(zip(items(names), mixed, strict=True)))["history"]
    assert found.others == pytest.approx(0.5, abs=0.02)
    assert found.known == pytest.approx(0.5, abs=0.02)


def test_yes_and_no_and_lettered_choices_are_not_compared() -> None:
    yes = [Item(n, "history", f"Is it {n}?", ("Yes",)) for n in range(10)]
    shown = "Which? A) one B) two"
    choice = [Item(n, "history", shown, ("one",), ("one", "two")) for n in range(10, 20)]
    assert guessing.measure([(item, "Yes") for item in yes]) == {}
    assert guessing.measure([(item, "A") for item in choice]) == {}
    hidden = [Item(n, "history", f"Which {n}?", (f"w{n}",), (f"w{n}", "z")) for n in range(30, 40)]
    assert guessing.measure([(item, item.references[0]) for item in hidden])["history"].known == 1


def test_a_single_question_has_nothing_to_compare() -> None:
    assert guessing.measure([]) == guessing.measure([(items(["x"])[0], "x")]) == {}


def test_the_leaderboard_goes_by_what_is_known(tmp_path: Path) -> None:
    guesser, _ = stored(tmp_path, "guesser", 9, 1.0, credit=0.2, guessed={"history": 0.8})
    honest, _ = stored(tmp_path, "honest", 6, 1.0, credit=1.0)
    standings = compare.read([guesser, honest])
    assert [row.summary.name for row in standings] == ["honest", "guesser"]
    assert standings[1].accuracy_share == pytest.approx(9 * 0.2 / 6)
    told = compare.text(standings)
    assert "guesser: its answers satisfy other questions of their kind as well: 80%" in told
    assert "honest: its" not in told


def test_a_report_of_an_earlier_version_counts_its_accuracy(tmp_path: Path) -> None:
    folder, _ = stored(tmp_path, "old", 6, 1.0)
    (folder / "summary.json").write_text(
        report.read_summary(folder)
        .model_dump_json(exclude={"without_guessing"})
        .replace('"guessed":{}', '"guessed":0.01')
    )
    (row,) = compare.read([folder])
    assert row.summary.counted.mean == 0.6
