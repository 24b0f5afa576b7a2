"""The report of a run, and the leaderboard."""

from __future__ import annotations

import itertools
import json
import re
from pathlib import Path

import pytest
from markupsafe import escape

from evaluation import compare, gate, plots, questions, report, score
from evaluation.records import Result, Run, Summary
from tests.browser import CHROMIUM, browsing
from tests.evaluating import IDS, RECORDS, RIGHT, right_after, score_of, stored, write_questions


def test_a_run_that_failed_scores_nothing_and_its_report_says_how(tmp_path: Path) -> None:
    summary = score_of(tmp_path, "raise ValueError('no such luck')")
    assert (summary.accuracy.mean, summary.latency, summary.gated) == (0, None, True)
    page = (tmp_path / "report/run/report.html").read_text(encoding="utf-8")
    assert "The pipeline failed: the call raised ValueError: no such luck" in page


def test_the_page_needs_nothing_else_and_escapes_what_comes_from_outside(tmp_path: Path) -> None:
    nasty = '<script>alert("x")</script><img src="http://example.com/x.png">'
    asked = [{**record, "question": f"{record['question']} {nasty}"} for record in RECORDS]
    call = f'return [dict(questionID=q["questionID"], answer={nasty!r}) for q in questions]'
    path = write_questions(tmp_path, asked, "nasty.jsonl")
    score_of(tmp_path, call, questions=questions.read(path))
    page = (tmp_path / "report/run/report.html").read_text(encoding="utf-8")
    assert "<script" not in page
    assert "<img" not in page
    escaped = str(escape(nasty))
    assert escaped in page
    rest = page.replace(escaped, "")
    assert not re.search(r"""(?:src|href)\s*=\s*(?!["']#)|https?:|url\((?!#)|@import""", rest)


def test_the_page_shows_plots_that_describe_themselves(tmp_path: Path) -> None:
    score_of(tmp_path, RIGHT, folder=tmp_path / "report" / "first")
    call = "self.stats = {'prefill_seconds': 0.0, 'decode_seconds': 0.0}"
    score_of(tmp_path, right_after(call))
    page = (tmp_path / "report/run/report.html").read_text(encoding="utf-8")
    labels = re.findall(r'<svg role="img" aria-label="([^:]+): ([^"]+)"', page)
    assert [title for title, _ in labels] == [
        "Accuracy against latency",
        "Accuracy per subject",
        "Accuracy per difficulty",
        "Length of answers",
        "Where the time goes",
    ]
    assert "first 100% in" in labels[0][1]
    assert labels[1][1] == "geography 100%; history 100%"


def test_runs_are_numbered_in_the_plot_and_named_in_the_table(tmp_path: Path) -> None:
    names = ["a-name-of-a-run-as-long-as-a-branch-with-all-that-was-tried-in-it", "b", "c"]
    folders = [stored(tmp_path, name, 8 - n, 4.0)[0] for n, name in enumerate(names)]
    compare.write(tmp_path / "page.html", compare.read(folders))
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    table, plot = page.split("</table>")
    for rank, name in enumerate(names, start=1):
        assert re.search(rf">{rank}</td><td[^>]*>{name}<", table)
        assert f"{name}</text>" not in plot
        assert f">{rank}</text>" in plot


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here")
@pytest.mark.parametrize("width", [1280, 390])
def test_names_and_numbers_have_room_on_a_screen(tmp_path: Path, width: int) -> None:
    """Five runs that are as good and as fast as each other, under long names, in a browser."""
    name = "qwen3-1.7b-merged-q4_k_m-with-all-that-was-tried-{}"
    folders = [stored(tmp_path, name.format(n), 8, 4 + n / 50)[0] for n in range(5)]
    page = tmp_path / "page.html"
    compare.write(page, compare.read(folders))
    with browsing(tmp_path) as tab:
        tab.resize(width, 900)
        tab.call("Page.navigate", url=page.as_uri())
        tab.until("document.readyState === 'complete' && !!document.querySelector('svg')")
        assert tab.evaluate("document.documentElement.scrollWidth") <= width
        table = "document.querySelector('table').getBoundingClientRect()"
        assert tab.evaluate(f"{table}.right") <= width
        boxes = tab.evaluate(
            "[...document.querySelector('svg').querySelectorAll('text')].map(text => {"
            " const box = text.getBoundingClientRect();"
            " return [box.left, box.top, box.right, box.bottom]; })"
        )
    assert len(boxes) > 10
    for a, b in itertools.combinations(boxes, 2):
        assert a[2] <= b[0] or b[2] <= a[0] or a[3] <= b[1] or b[3] <= a[1], (a, b)


def test_numbers_of_runs_that_lie_on_each_other_do_not() -> None:
    places: list[tuple[float, float]] = []
    for _ in range(5):
        places.append(plots._free((0.5, 0.8), places))
    xs = [x for x, _ in places]
    assert all(b - a >= plots._NUMBER_WIDTH - 1e-9 for a, b in itertools.pairwise(sorted(xs)))


def test_a_latency_says_when_other_programs_used_the_cpu(tmp_path: Path) -> None:
    def run(name: str, others: float) -> tuple[Path, Summary]:
        told = Run(answers=["x"] * 10, call_seconds=2.0, other_cpu_seconds=others)
        return stored(tmp_path, name, 8, 2.0, latency=score.latency(told))

    (quiet, calm), (noisy, disturbed) = run("quiet", 0.05), run("noisy", 3.0)
    told = "noisy: other programs kept 1.5 cores busy during the call"
    standings = compare.read([quiet, noisy])
    assert told in compare.text(standings)
    assert "quiet: other" not in compare.text(standings)
    assert "other programs kept 1.5 cores busy" in report.text(disturbed)
    lines = (quiet / "results.jsonl").read_text(encoding="utf-8").splitlines()
    results = [Result.model_validate_json(line) for line in lines]
    assert "noisy: other programs" in report.html(calm, results, [(disturbed, [True] * 10)])
    (warning,) = gate.doubts(disturbed, 1.2, calm)
    assert warning.startswith(told)
    assert gate.doubts(calm, 1.2, calm) == gate.doubts(disturbed, None, None) == []
    assert gate.shortfalls(disturbed, None, 1.2, calm) == []  # it warns, and decides nothing


def test_a_difficulty_may_be_called_anything(tmp_path: Path) -> None:
    named = r"$\frac{ <b>"  # as a formula it would be a broken one
    records = [{**record, "difficulty": f"{named}$"} for record in RECORDS]
    asked = questions.read(write_questions(tmp_path, records, "named.jsonl"))
    score_of(tmp_path, RIGHT, questions=asked)
    page = (tmp_path / "report/run/report.html").read_text(encoding="utf-8")
    assert f"{escape(named)}$ (10)</text>" in page


def test_a_long_answer_is_shown_by_its_beginning(tmp_path: Path) -> None:
    call = 'return [dict(questionID=q["questionID"], answer="long " * 200) for q in questions]'
    score_of(tmp_path, call)
    page = (tmp_path / "report/run/report.html").read_text(encoding="utf-8")
    assert page.count("<details>") == 10
    assert "all 1000" in page


def test_results_have_a_line_for_each_question_that_is_scored(tmp_path: Path) -> None:
    score_of(tmp_path, RIGHT)
    lines = (tmp_path / "report/run/results.jsonl").read_text(encoding="utf-8").splitlines()
    assert [json.loads(line)["questionID"] for line in lines] == IDS
    assert json.loads(lines[0])["references"] == ["apple"]
