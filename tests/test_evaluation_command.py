"""The command `python -m evaluation`."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from evaluation.__main__ import main
from tests.conftest import SAMPLES
from tests.evaluating import (
    GOOD,
    command_line,
    right_after,
    stored,
    write_pipeline,
    write_questions,
)


@pytest.mark.slow
def test_the_command_evaluates_judges_and_gates(tmp_path: Path) -> None:
    path, reports = write_questions(tmp_path), tmp_path / "report"
    right = write_pipeline(tmp_path, right_after("time.sleep(0.05)")).removesuffix(":loadPipeline")
    wrong = write_pipeline(tmp_path, f"time.sleep(1)\nreturn {GOOD[::-1]!r}", name="wrong.py")
    common: list[str | Path] = ["--questions", path, "--reports", reports]
    result = command_line(*common, "--pipeline", right, "--name", "main", "--min-accuracy", "0.9")
    assert re.search(r"accuracy +100.0 %", result.stdout)
    assert "%|" not in result.stderr  # no progress bar in a pipe
    against = ["--min-accuracy=0.3", "--max-slowdown=1.5", f"--baseline={reports / 'main'}"]
    result = command_line(*common, "--pipeline", wrong, *against, status=3)
    assert "gate: the answers are in another order than the questions: 10 of 10" in result.stderr
    assert "gate: accuracy 0.0% is 30.0 points below the required 30.0%" in result.stderr
    assert re.search(r"gate: the call took [1-9]", result.stderr)
    result = command_line("compare", reports / "main", reports / "wrong")
    assert result.stdout.splitlines()[1].split()[:3] == ["1", "main", "100.0"]


def test_compare_prints_the_leaderboard_and_writes_it(tmp_path: Path) -> None:
    folders = [stored(tmp_path, "a", 8, 4.0)[0], stored(tmp_path, "b", 8, 2.0)[0]]
    page = tmp_path / "compare.html"
    compared = command_line("compare", *folders, "--output", page, PYTHONIOENCODING="ascii")
    lines = compared.stdout.splitlines()  # of a screen that lacks the dash
    assert lines[1].split()[:3] == ["1", "b", "100.0"]
    assert lines[2].split()[:3] == ["2", "a", "80.0"]
    assert "Leaderboard" in page.read_text(encoding="utf-8")
    error = command_line("compare", tmp_path, status=1).stderr
    assert "pass the folder of a finished report" in error


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (["--questions", "none.jsonl"], 1, "error: none.jsonl: cannot be read"),
        (["--questions", SAMPLES, "--max-slowdown", "2"], 1, "--baseline go together"),
        (["--questions", SAMPLES, "--name", "../x"], 2, "letters, digits"),
        (["--questions", SAMPLES, "--judge-budget", "-1"], 2, "must be 0 or more"),
        (["--questions", SAMPLES, "--judge", "model"], 1, "needs --judge-model URL or FILE.gguf"),
        (["compare", "no/report"], 1, "pass the folder of a finished report"),
    ],
)
def test_what_cannot_be_done_is_said_in_a_line(
    capsys: pytest.CaptureFixture[str], arguments: list[Any], status: int, message: str
) -> None:
    assert status_of(arguments) == status
    assert message in capsys.readouterr().err


def status_of(arguments: Sequence[str | Path]) -> int:
    try:
        return main([str(argument) for argument in arguments])
    except SystemExit as error:  # argparse's own
        return int(error.code or 0)
