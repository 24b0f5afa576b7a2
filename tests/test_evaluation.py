"""What `python -m evaluation` promises to whoever scores a pipeline with it."""

from __future__ import annotations

import itertools
import json
import os
import re
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest
from markupsafe import escape

from evaluation import (
    compare,
    evaluate,
    gate,
    judging,
    machine,
    plots,
    protocol,
    questions,
    report,
    score,
)
from evaluation.__main__ import main
from evaluation.check import check
from evaluation.errors import EvaluationError
from evaluation.judging import Judge, Judging, Pair
from evaluation.records import Result, Run, Summary, Verdict
from evaluation.worker import as_plain
from runtime.common.errors import UserError
from runtime.questions import read_file
from runtime.settings import PROJECT_DIR
from tests.browser import CHROMIUM, browsing
from tests.conftest import SAMPLES

WORDS = ["apple", "banana", "cherry", "damson", "elder", "fig", "grape", "hazel", "iris", "kiwi"]
RECORDS: list[dict[str, Any]] = [
    {
        "questionID": f"q{n}",
        "subject": ["history", "geography"][n % 2],
        "question": f"Which fruit is number {n}?",
        "answer": word,
        "difficulty": "easy" if n < 5 else "hard",
    }
    for n, word in enumerate(WORDS)
]
IDS = [record["questionID"] for record in RECORDS]
GOOD = [{"questionID": f"q{n}", "answer": f"It is {word}."} for n, word in enumerate(WORDS)]

# The body of a call that knows all answers.
RIGHT = f"return {GOOD!r}"


def right_after(statements: str) -> str:
    """The body of a call that does something else first."""
    return f"{textwrap.dedent(statements).strip()}\n{RIGHT}"


def contains(pairs: Sequence[Pair]) -> list[Verdict]:
    """A judge that looks for a reference in the answer."""
    right = [any(r in answer for r in item.references) for item, answer in pairs]
    return [Verdict(each, float(each), "contains", "looked for it") for each in right]


def judging_by(judge: Judge, name: str = "contains") -> Judging:
    return Judging(name, lambda: nullcontext(judge))


def write_questions(folder: Path, records: Sequence[Any] = RECORDS, name: str = "q.jsonl") -> Path:
    path = folder / "questions" / name  # a folder of their own, as files saved there may be lost
    path.parent.mkdir(exist_ok=True)
    path.write_text("\n".join(map(json.dumps, records)), encoding="utf-8")
    return path


def write_pipeline(folder: Path, call: str, load: str = "", name: str = "entry.py") -> str:
    """A file with a pipeline whose call has this body; returns what --pipeline takes for it."""
    body = textwrap.indent(textwrap.dedent(call).strip(), " " * 8)
    setup = textwrap.indent(textwrap.dedent(load).strip() or "pass", " " * 4)
    path = folder / name
    path.write_text(
        "import ctypes, os, subprocess, sys, time\n\n"
        f"class Pipeline:\n    def __call__(self, questions):\n{body}\n\n"
        f"def loadPipeline():\n{setup}\n    return Pipeline()\n",
        encoding="utf-8",
    )
    return f"{path}:loadPipeline"


def plan(path: Path, call: str, load: str = "", **options: Any) -> evaluate.Plan:
    values: dict[str, Any] = {
        "questions": questions.read(write_questions(path)),
        "pipeline": write_pipeline(path, call, load),
        "folder": path / "report" / "run",
        "judging": judging_by(contains),
        "setup_timeout": 30.0,
        "timeout": 30.0,
    }
    return evaluate.Plan(**(values | options))


def score_of(path: Path, call: str, load: str = "", **options: Any) -> Summary:
    return evaluate.evaluate(plan(path, call, load, **options))


def run_of(
    path: Path,
    call: str,
    load: str = "",
    timeout: float = 30.0,
    hide: Sequence[Path] | None = (),
) -> Run:
    """A call without judging and report, which take longer than it."""
    pipeline = write_pipeline(path, call, load)
    return protocol.call(pipeline, RECORDS, path / "log", timeout, timeout, hide=hide)


# Whether a pipeline runs in namespaces of its own, which not all systems allow.
both_ways = pytest.mark.parametrize("hide", [(), None], ids=["namespaces", "none"])


ALL_RIGHT = [record["answer"] for record in GOOD]


def command_line(
    *arguments: str | Path, status: int = 0, **environment: str
) -> subprocess.CompletedProcess[str]:
    result = subprocess.run(
        [sys.executable, "-m", "evaluation", *map(str, arguments)],
        cwd=PROJECT_DIR,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
    )
    assert result.returncode == status, result.stderr
    return result


# What a run scores


def test_answers_from_the_references_are_100_percent_right(tmp_path: Path) -> None:
    summary = score_of(tmp_path, RIGHT)
    assert summary.accuracy.mean == 1
    assert (summary.failure, summary.violations, summary.gated) == ("", [], False)
    assert set(summary.by_subject) == {"history", "geography"}
    assert {name: each.n for name, each in summary.by_difficulty.items()} == {"easy": 5, "hard": 5}
    assert summary.by_judge == {"contains": 10}


def test_nonsense_is_under_the_gate_and_scores_nothing(tmp_path: Path) -> None:
    nonsense = 'return [dict(questionID=q["questionID"], answer="?") for q in questions]'
    summary = score_of(tmp_path, nonsense)
    assert summary.gated
    assert score.barred(summary) == "accuracy is under 10%"


def test_the_pipeline_is_given_no_answers(tmp_path: Path) -> None:
    told = """
        assert {tuple(q) for q in questions} == {("questionID", "subject", "question")}
    """
    assert score_of(tmp_path, right_after(told)).failure == ""


def test_what_the_pipeline_does_to_its_questions_changes_nothing(tmp_path: Path) -> None:
    call = right_after("questions[0].clear(); questions.clear()")
    assert run_of(tmp_path, call).answers == ALL_RIGHT


def test_loading_is_not_counted_and_the_call_is(tmp_path: Path) -> None:
    summary = score_of(tmp_path, right_after("time.sleep(0.3)"), "time.sleep(0.6)")
    assert summary.latency
    assert 0.3 <= summary.latency.total < 0.6 <= summary.setup_seconds
    assert summary.latency.per_question == pytest.approx(summary.latency.total / 10)


def test_peak_memory_is_seen_even_if_it_is_short(tmp_path: Path) -> None:
    call = right_after("bytearray(300 << 20).count(1)")
    assert 300 << 20 < run_of(tmp_path, call).peak_memory < 600 << 20


@pytest.mark.slow
def test_peak_memory_is_that_of_all_processes(tmp_path: Path) -> None:
    child = "import time; held = b'x' * (200 << 20); time.sleep(1)"
    call = right_after(f"subprocess.run([sys.executable, '-c', {child!r}])")
    assert run_of(tmp_path, call).peak_memory > 200 << 20


def test_what_a_pipeline_tells_of_itself_is_taken_over(tmp_path: Path) -> None:
    call = """
        time.sleep(0.1)
        self.answer_seconds = [0.01 * (n + 1) for n in range(len(questions))]
        self.stats = {"new_tokens": 500, "prefill_seconds": 0.02, "decode_seconds": 0.05}
    """
    latency = score.latency(run_of(tmp_path, right_after(call)))
    assert latency
    assert latency.p50 == pytest.approx(0.055)
    assert latency.p95 == pytest.approx(0.0955)
    assert latency.tokens_per_second == pytest.approx(500 / latency.total)
    assert latency.prefill_share == pytest.approx(0.02 / latency.total)


@pytest.mark.parametrize(
    "told", ["self.stats = 3; self.answer_seconds = 'x'", "self.answer_seconds = [1.0]"]
)
def test_what_it_tells_wrongly_is_passed_over(tmp_path: Path, told: str) -> None:
    latency = score.latency(run_of(tmp_path, right_after(told)))
    assert latency
    assert (latency.p50, latency.tokens_per_second) == (None, None)


def test_a_blank_question_is_asked_but_not_scored(tmp_path: Path) -> None:
    blank = {"questionID": "blank", "subject": "history", "question": " \n"}
    asked = questions.read(write_questions(tmp_path, [*RECORDS, blank], "more.jsonl"))
    call = """
        assert len(questions) == 11
        return [dict(questionID=q["questionID"], answer="apple") for q in questions]
    """
    assert score_of(tmp_path, call, questions=asked).accuracy.n == 10


# What a pipeline may do, and what is said of it


@both_ways
@pytest.mark.parametrize(
    ("call", "load", "failure"),
    [
        ("raise ValueError('no such\\nluck')", "", "the call raised ValueError: no such luck"),
        ("raise SystemExit(4)", "", "the call raised SystemExit: 4"),
        ("raise OSError('\\x1b[31m')", "", "the call raised OSError: \\x1b[31m"),
        ("pass", "raise KeyError('model')", "loadPipeline() raised KeyError: 'model'"),
        ("pass", "return 5", "loadPipeline() returned an int, which is not callable"),
        ("ctypes.string_at(0)", "", "crashed: SIGSEGV during the call"),
        ("os.abort()", "", "crashed: SIGABRT during the call"),
        ("os._exit(0)", "", "exited with status 0 during the call"),
        ("pass", "os._exit(7)", "exited with status 7 during loading"),
    ],
)
def test_a_failure_is_named_and_is_a_result(
    tmp_path: Path, call: str, load: str, failure: str, hide: Sequence[Path] | None
) -> None:
    run = run_of(tmp_path, call, load, hide=hide)
    assert run.failure == failure
    assert (set(run.answers), run.call_seconds) == ({None}, None)


def test_a_run_that_failed_scores_nothing_and_its_report_says_how(tmp_path: Path) -> None:
    summary = score_of(tmp_path, "raise ValueError('no such luck')")
    assert (summary.accuracy.mean, summary.latency, summary.gated) == (0, None, True)
    page = (tmp_path / "report/run/report.html").read_text(encoding="utf-8")
    assert "The pipeline failed: the call raised ValueError: no such luck" in page


def test_the_log_has_the_traceback(tmp_path: Path) -> None:
    run_of(tmp_path, "ctypes.string_at(0)")
    log = (tmp_path / "log").read_text()
    assert "Segmentation fault" in log
    assert "entry.py" in log


@both_ways
@pytest.mark.parametrize(
    ("call", "load", "failure"),
    [
        ("time.sleep(60)", "", "hung: the call did not end within 0.5 s"),
        ("pass", "time.sleep(60)", "hung: loading did not end within 0.5 s"),
    ],
)
def test_a_hang_is_ended(
    tmp_path: Path, call: str, load: str, failure: str, hide: Sequence[Path] | None
) -> None:
    started = time.monotonic()
    run = run_of(tmp_path, call, load, timeout=0.5, hide=hide)
    assert time.monotonic() - started < 10
    assert run.failure == failure
    assert "entry.py" in (tmp_path / "log").read_text()  # where it hung


def test_prints_of_the_pipeline_cost_nothing_and_are_kept(tmp_path: Path) -> None:
    call = "print('{\"stray\": 1}'); os.write(1, b'\\xff\\x00'); sys.stdout.close()"
    assert run_of(tmp_path, right_after(call)).answers == ALL_RIGHT
    assert b'{"stray": 1}' in (tmp_path / "log").read_bytes()


@both_ways
@pytest.mark.parametrize("options", ["", "start_new_session=True, env={}"])
def test_no_process_that_it_starts_outlives_it(
    tmp_path: Path, options: str, hide: Sequence[Path] | None
) -> None:
    seconds = f"300.{os.getpid()}"  # to find it by
    command = f"exec sleep {seconds}"
    call = f"""
        subprocess.Popen(["/bin/sh", "-c", {command!r}], {options})
        time.sleep(0.5)
    """
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE) as bystander:
        assert run_of(tmp_path, right_after(call), hide=hide).answers == ALL_RIGHT
        assert not sleeping(seconds)
        assert bystander.poll() is None  # which was not the pipeline's


def sleeping(seconds: str) -> list[int]:
    """Processes `sleep SECONDS`."""
    running = psutil.process_iter(["cmdline"])
    return [each.pid for each in running if (each.info["cmdline"] or [])[-1:] == [seconds]]


def test_a_thread_that_never_ends_does_not_hold_the_evaluation_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(protocol, "_GRACE", 0.5)
    call = "import threading; threading.Thread(target=time.sleep, args=[60]).start()"
    assert run_of(tmp_path, right_after(call)).answers == ALL_RIGHT


# What the contest takes


@pytest.mark.parametrize(
    ("output", "violation", "missing"),
    [
        (None, "the output is None, not a list", 10),
        (tuple(GOOD), "the output is a tuple, not a list", 10),
        (GOOD[:7], "too few answers: 7 came, 10 questions were asked", 3),
        ([*GOOD, GOOD[0]], "too many answers: 11 came, 10 questions were asked", 0),
        (
            [GOOD[1], GOOD[0], *GOOD[2:]],
            "the answers are in another order than the questions: 2 of 10 are not in their place",
            2,
        ),
        (
            [{"questionID": "other", "answer": ""}, *GOOD[1:]],
            "answer 1 (questionID 'q0') has another questionID: 'other'",
            1,
        ),
        (
            [{"questionID": 0, "answer": ""}, *GOOD[1:]],
            "answer 1 (questionID 'q0') has another questionID: 0",
            1,
        ),
        ([GOOD[0], None, *GOOD[2:]], "answer 2 (questionID 'q1') is None, not a dict", 1),
        ([{"questionID": "q0"}, *GOOD[1:]], "answer 1 (questionID 'q0') has no 'answer'", 1),
        (
            [{**GOOD[0], "score": 1}, *GOOD[1:]],
            "answer 1 (questionID 'q0') has a key too many: 'score'",
            1,
        ),
        (
            [*GOOD[:6], {"questionID": "q6", "answer": 42}, *GOOD[7:]],
            "answer 7 (questionID 'q6') is an int, not a string",
            1,
        ),
        (
            [{"questionID": "q0", "answer": "x" * 5001}, *GOOD[1:]],
            "answer 1 (questionID 'q0') is 5,001 characters long, 5,000 are allowed",
            1,
        ),
        (
            [{"questionID": id_, "answer": None} for id_ in IDS],
            "answer 1 (questionID 'q0') is None, not a string; 9 more like it, the last is"
            " answer 10 (questionID 'q9')",
            10,
        ),
        (
            [{"questionID": "q0", "answer": "\ud800"}, *GOOD[1:]],
            "answer 1 (questionID 'q0') has half of a surrogate pair, which is no character",
            1,
        ),
    ],
)
def test_every_violation_is_named_and_costs_only_the_answers_it_is_in(
    output: Any, violation: str, missing: int
) -> None:
    answers, violations = check(json.loads(json.dumps(as_plain(output))), IDS)
    assert violations == [violation]
    assert len(answers) == 10
    assert answers.count(None) == missing


def test_an_output_as_it_should_be_has_no_violations() -> None:
    assert check(GOOD, IDS) == ([record["answer"] for record in GOOD], [])
    longest = [{**GOOD[0], "answer": "x" * 5000}, *GOOD[1:]]
    assert check(longest, IDS)[1] == []


def test_a_run_with_a_violation_keeps_its_accuracy_but_scores_nothing(tmp_path: Path) -> None:
    summary = score_of(tmp_path, f"return {GOOD[:7]!r}")
    assert summary.accuracy.mean == 0.7
    assert score.barred(summary).startswith("too few answers")
    assert summary.by_judge == {"contains": 7, "none": 3}


def test_an_output_that_fights_back_is_not_listened_to(tmp_path: Path) -> None:
    call = """
        class Odd(dict):
            def keys(self):
                raise RuntimeError("no keys for you")
        return [Odd() for q in questions]
    """
    run = run_of(tmp_path, call)
    assert set(run.answers) == {None}
    (violation,) = run.violations
    assert violation.startswith("answer 1 (questionID 'q0') is a subclass of dict, not a dict")


# Which pipeline is meant


def test_a_pipeline_is_a_module_a_file_a_package_or_the_folder_of_an_entry(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package, entry = tmp_path / "pack", tmp_path / "entries" / "inferencePipeline"
    package.mkdir()
    entry.mkdir(parents=True)
    for folder in (package, entry):
        write_pipeline(folder, f"return {GOOD!r}", name="__init__.py")
    file = write_pipeline(tmp_path, f"return {GOOD!r}", name="one.py")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    for name in ["pack", package, entry.parent, file.removesuffix(":loadPipeline")]:
        run = protocol.call(f"{name}:loadPipeline", RECORDS, tmp_path / "log", 30, 30)
        assert run.answers == [record["answer"] for record in GOOD]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("no_such_package:loadPipeline", "there is no module no_such_package"),
        ("json:loadPipeline", "there is no function loadPipeline in json"),
        ("./no/folder:loadPipeline", "./no/folder: no such file or folder"),
        (f"{PROJECT_DIR / 'docs'}:loadPipeline", "no __init__.py and no inferencePipeline"),
    ],
)
def test_a_pipeline_that_is_not_there_is_bad_input(tmp_path: Path, name: str, message: str) -> None:
    with pytest.raises(EvaluationError, match=re.escape(message)):
        score_of(tmp_path, "", pipeline=name)
    assert not (tmp_path / "report/run/run.json").exists()


@pytest.mark.parametrize("name", ["v1.2.py", "json.py"])
def test_a_file_that_cannot_be_imported_by_its_name_is_refused(tmp_path: Path, name: str) -> None:
    pipeline = write_pipeline(tmp_path, RIGHT, name=name)
    with pytest.raises(EvaluationError, match=r"a module cannot be called .*; rename it"):
        score_of(tmp_path, "", pipeline=pipeline)


def test_a_module_that_the_pipeline_lacks_is_its_failure(tmp_path: Path) -> None:
    (tmp_path / "entry2.py").write_text("import no_such_module")
    summary = score_of(tmp_path, "", pipeline=f"{tmp_path / 'entry2.py'}:loadPipeline")
    assert summary.failure.startswith("importing it raised ModuleNotFoundError: No module named")


# Stopping and resuming


def leave_a_line(folder: Path, then: str = "") -> str:
    """The body of a call that can be seen to have been made."""
    return right_after(f"open({str(folder / 'calls')!r}, 'a').write('called ')\n{then}")


# Evaluates with a judge that takes its time; the pipeline leaves a word for each call.
SLOW = """
import sys, time
from pathlib import Path
from evaluation.evaluate import evaluate
from tests.test_evaluation import contains, judging_by, leave_a_line, plan

def slow(pairs):
    time.sleep(float(sys.argv[3]))
    return contains(pairs)

folder = Path(sys.argv[1])
call = leave_a_line(folder, f"time.sleep({sys.argv[2]})")
evaluate(plan(folder, call, judging=judging_by(slow)))
"""


def start_slow(folder: Path, call_seconds: float, judge_seconds: float) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-c", SLOW, str(folder), str(call_seconds), str(judge_seconds)],
        cwd=PROJECT_DIR,
        env={**os.environ, "PYTHONPATH": str(PROJECT_DIR)},
    )


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_killed_while_judging_it_resumes_without_another_call(tmp_path: Path) -> None:
    folder = tmp_path / "report/run"
    partial = folder / "results.jsonl.partial"
    process = start_slow(tmp_path, 0, 0.1)
    wait_for(lambda: partial.exists() and partial.read_text().count("{") >= 3)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (folder / "summary.json").exists()
    call = json.loads((folder / "run.json").read_text())["run"]
    with partial.open("a") as file:
        file.write('{"fingerprint": "cut sho')  # as a kill in the middle of a line leaves it
    kept = partial.read_text().count("{") - 1

    stopped = plan(tmp_path, leave_a_line(tmp_path))
    with pytest.raises(EvaluationError, match="go on from there with --resume, or delete it"):
        evaluate.evaluate(stopped)

    judged: list[Pair] = []

    def count(pairs: Sequence[Pair]) -> list[Verdict]:
        judged.extend(pairs)
        return contains(pairs)

    resumed = plan(tmp_path, "", judging=judging_by(count), resume=True)
    summary = evaluate.evaluate(resumed)
    assert len(judged) == 10 - kept
    assert summary.accuracy.mean == 1
    assert summary.latency
    assert summary.latency.total == call["call_seconds"]
    assert (tmp_path / "calls").read_text() == "called "
    names = {"pipeline.log", "results.jsonl", "summary.json", "report.html"}
    assert {path.name for path in folder.iterdir()} == names


def test_killed_during_the_call_it_leaves_no_process_and_calls_again(tmp_path: Path) -> None:
    process = start_slow(tmp_path, 300, 0)
    wait_for(lambda: (tmp_path / "calls").exists() and (tmp_path / "calls").stat().st_size > 0)
    worker = psutil.Process(process.pid).children()[0].pid
    process.send_signal(signal.SIGKILL)
    process.wait()
    wait_for(lambda: not _alive(worker))
    summary = score_of(tmp_path, RIGHT, resume=True)
    assert summary.accuracy.mean == 1


def test_verdicts_of_other_judges_are_not_kept(tmp_path: Path) -> None:
    def stop(pairs: Sequence[Pair]) -> list[Verdict]:
        if pairs[0][0].id == "q5":
            raise KeyboardInterrupt
        return contains(pairs)

    with pytest.raises(KeyboardInterrupt):
        score_of(tmp_path, RIGHT, judging=judging_by(stop))
    all_wrong = judging_by(lambda pairs: [Verdict(False, 0, "s", "") for _ in pairs], "strict")
    assert score_of(tmp_path, RIGHT, judging=all_wrong, resume=True).accuracy.mean == 0


def test_a_call_of_another_pipeline_is_not_gone_on_with(tmp_path: Path) -> None:
    def stop(pairs: Sequence[Pair]) -> list[Verdict]:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        score_of(tmp_path, RIGHT, judging=judging_by(stop))
    other = write_pipeline(tmp_path, RIGHT, name="other.py")
    with pytest.raises(EvaluationError, match="holds answers of another pipeline"):
        score_of(tmp_path, RIGHT, pipeline=other, resume=True)


def test_the_same_answers_judged_twice_give_the_same_score(tmp_path: Path) -> None:
    asked = plan(tmp_path, "").questions
    answers: list[str | None] = [
        record["answer"] if n % 3 else "?" for n, record in enumerate(GOOD)
    ]
    run = Run(answers=answers, call_seconds=1.0)
    judging = judging_by(contains)
    first, second = (evaluate.judge_all(asked, run, judging) for _ in range(2))
    assert first == second
    intervals = [score.interval([result.correct for result in each]) for each in (first, second)]
    assert intervals[0] == intervals[1]
    assert intervals[0].low < intervals[0].mean == 0.6 < intervals[0].high


# Comparing runs


def stored(
    folder: Path, name: str, right: int, seconds: float | None, **fields: Any
) -> tuple[Path, Summary]:
    """The files of a run that has `right` of 10 questions right, but for its page."""
    correct = [n < right for n in range(10)]
    results = [
        Result(
            questionID=n,
            subject="history",
            question="?",
            references=["x"],
            answer="",
            correct=each,
            score=float(each),
            judge="contains",
            reason="",
        )
        for n, each in enumerate(correct)
    ]
    values: dict[str, Any] = {
        "name": name,
        "pipeline": "a:loadPipeline",
        "questions": "q.jsonl",
        "questions_sha256": "0" * 64,
        "machine": "this one",
        "judge": "contains",
        "created": "2026-01-01T00:00:00+00:00",
        "accuracy": score.interval(correct),
        "by_subject": {"history": score.interval(correct)},
        "latency": score.latency(Run(answers=["x"] * 10, call_seconds=seconds)),
        "setup_seconds": 1.0,
        "peak_memory": 1,
        "gated": right < 1,
    }
    summary = Summary(**(values | fields))
    (folder / name).mkdir()
    # What a page takes, its plots above all, takes longer than all else.
    lines = [result.model_dump_json() for result in results]
    (folder / name / "results.jsonl").write_text("\n".join(lines), encoding="utf-8")
    (folder / name / "summary.json").write_text(summary.model_dump_json(), encoding="utf-8")
    return folder / name, summary


def test_the_leaderboard_follows_the_contests_arithmetic(tmp_path: Path) -> None:
    folders = [
        stored(tmp_path, "slow", 8, 4.0)[0],
        stored(tmp_path, "fast", 4, 1.0)[0],
        stored(tmp_path, "middle", 6, 2.0)[0],
        stored(tmp_path, "gated", 0, 0.1)[0],
        stored(tmp_path, "broken", 10, 0.1, violations=["too few answers"])[0],
        stored(tmp_path, "crashed", 0, None, failure="crashed: SIGSEGV")[0],
    ]
    standings = {row.summary.name: row for row in compare.read(folders)}
    assert standings["slow"].score == pytest.approx(0.6 * 1 + 0.4 * 1 / 4)  # 0.700
    assert standings["fast"].score == pytest.approx(0.6 * 4 / 8 + 0.4 * 1)  # 0.700
    assert standings["middle"].score == pytest.approx(0.6 * 6 / 8 + 0.4 * 1 / 2)  # 0.650
    for name in ("slow", "fast", "middle"):
        row = standings[name]
        assert row.low <= row.score <= row.high
    for name, reason in [
        ("gated", "accuracy is under 10%"),
        ("broken", "too few answers"),
        ("crashed", "crashed: SIGSEGV"),
    ]:
        row = standings[name]
        assert (row.score, row.low, row.high, row.barred) == (0, 0, 0, reason)


def test_a_run_alone_has_the_full_score(tmp_path: Path) -> None:
    (row,) = compare.read([stored(tmp_path, "one", 5, 3.0)[0]])
    assert row.score == 1


def test_where_all_are_barred_nobody_scores(tmp_path: Path) -> None:
    folders = [stored(tmp_path, name, 0, None, failure="hung")[0] for name in "ab"]
    assert [row.score for row in compare.read(folders)] == [0, 0]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"machine": "another"}, "they ran on different machines (this one; another)"),
        ({"questions_sha256": "1" * 64}, "they answered different questions"),
        ({"judge": "model x"}, "they were judged by contains and model x"),
    ],
)
def test_what_cannot_be_compared_is_refused(
    tmp_path: Path, fields: dict[str, str], message: str
) -> None:
    folders = [
        stored(tmp_path, "a", 5, 1.0)[0],
        stored(tmp_path, "b", 5, 1.0, **fields)[0],
    ]
    with pytest.raises(EvaluationError, match=re.escape(f"a and b cannot be compared: {message}")):
        compare.read(folders)


def test_compare_prints_the_leaderboard_and_writes_it(tmp_path: Path) -> None:
    folders = [stored(tmp_path, "a", 8, 4.0)[0], stored(tmp_path, "b", 8, 2.0)[0]]
    page = tmp_path / "compare.html"
    compared = command_line("compare", *folders, "--output", page, PYTHONIOENCODING="ascii")
    lines = compared.stdout.splitlines()  # of a screen that lacks the dash
    assert lines[1].split()[:3] == ["1", "b", "100.0"]
    assert lines[2].split()[:3] == ["2", "a", "80.0"]
    assert "Leaderboard" in page.read_text(encoding="utf-8")
    error = command_line("compare", tmp_path, status=1).stderr
    assert "give the folder of a finished report" in error


# The gate for CI


def test_the_gate_says_by_how_much_a_run_falls_short(tmp_path: Path) -> None:
    _, baseline = stored(tmp_path, "main", 8, 2.0)
    _, slower = stored(tmp_path, "slower", 5, 3.0)
    assert gate.shortfalls(slower, 0.5, 1.5, baseline) == []
    assert gate.shortfalls(slower, 0.6, 1.2, baseline) == [
        "accuracy 50.0% is 10.0 points under the 60.0% asked for",
        "the call took 3.00 s, 1.50 times the 2.00 s of main; 1.2 times (2.40 s) are allowed",
    ]
    _, broken = stored(tmp_path, "broken", 10, 1.0, violations=["too few answers"])
    assert gate.shortfalls(broken, 0.5, None, None) == ["too few answers"]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"machine": "another"}, "ran on another machine"),
        ({"questions_sha256": "1" * 64}, "answered other questions"),
    ],
)
def test_the_gate_refuses_a_baseline_from_elsewhere(
    tmp_path: Path, fields: dict[str, str], message: str
) -> None:
    _, baseline = stored(tmp_path, "main", 8, 2.0, **fields)
    _, run = stored(tmp_path, "run", 8, 2.0)
    with pytest.raises(EvaluationError, match=message):
        gate.shortfalls(run, None, 1.2, baseline)


# The report


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


# Files of questions


def test_references_may_be_one_or_several_in_lines_or_in_a_list(tmp_path: Path) -> None:
    records = [
        {"questionID": 1, "question": "?", "answers": ["x", "y"], "choices": ["x", "y", "z"]},
        {"questionID": 2, "subject": "Maths", "question": "?", "answer": "z"},
    ]
    (tmp_path / "q.json").write_text(json.dumps(records))
    lines = questions.read(write_questions(tmp_path, records))
    listed = questions.read(tmp_path / "q.json")
    assert lines.items == listed.items
    first, second = lines.items
    assert first
    assert second
    assert (first.references, first.choices, first.subject) == (
        ("x", "y"),
        ("x", "y", "z"),
        "general",
    )
    assert second.subject == "algebra"
    assert lines.records[0] == {"questionID": 1, "question": "?"}


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", "line 2: is not JSON"),
        ("[]", "line 2: expected an object, got a list"),
        ('{"question": "?", "answer": "x"}', '"questionID" must be a string or a whole number'),
        ('{"questionID": 1, "answer": "x"}', '"subject" and "question" must be strings'),
        ('{"questionID": 1, "question": "?"}', 'no right answer to compare with: add "answer"'),
        ('{"questionID": 1, "question": "?", "answers": []}', "no right answer to compare with"),
        ('{"questionID": 1, "question": "?", "answer": 5}', '"answer" must be a string'),
        ('{"questionID": 1, "question": "?", "answer": "x", "answers": []}', "keep one of them"),
        ('{"questionID": "q0", "question": "?", "answer": "x"}', "questionID is that of "),
        ('{"questionID": "\\ud800", "question": "?", "answer": "x"}', "half of a surrogate pair"),
        ('{"questionID": 1, "question": "?", "answer": "x", "choices": "x"}', '"choices" must be'),
        ('{"questionID": 1, "question": "?", "answer": "x", "difficulty": 3}', '"difficulty" must'),
    ],
)
def test_a_bad_record_is_named_with_its_line(tmp_path: Path, line: str, message: str) -> None:
    path = tmp_path / "q.jsonl"
    path.write_text(json.dumps(RECORDS[0]) + "\n" + line)
    with pytest.raises(UserError, match=re.escape(message)) as error:
        questions.read(path)
    assert f"{path}, line 2: " in str(error.value)


def test_several_files_are_read_as_one(tmp_path: Path) -> None:
    first = write_questions(tmp_path, RECORDS[:4], "a.jsonl")
    second = write_questions(tmp_path, RECORDS[4:], "b.jsonl")
    asked = questions.read(first, second)
    assert [record["questionID"] for record in asked.records] == IDS
    assert asked.name == "a.jsonl, b.jsonl"
    assert (
        len({asked.sha256, questions.read(first).sha256, questions.read(second, first).sha256}) == 3
    )
    again = write_questions(tmp_path, RECORDS[3:4], "c.jsonl")
    message = f"{again}, line 1: its questionID is that of {first}, line 4"
    with pytest.raises(EvaluationError, match=re.escape(message)):
        questions.read(first, again)


def test_a_file_without_questions_is_refused(tmp_path: Path) -> None:
    with pytest.raises(EvaluationError, match="no questions in it that could be scored"):
        questions.read(write_questions(tmp_path, []))
    with pytest.raises(UserError, match="cannot be read"):
        questions.read(tmp_path / "none.jsonl")


def test_the_sample_questions_have_references_and_serve_the_runtime_as_well() -> None:
    asked = questions.read(SAMPLES)
    assert sum(item is None for item in asked.items) == 1  # the one that is blank on purpose
    assert [q.id for q in read_file(SAMPLES)] == [r["questionID"] for r in asked.records]


# The command line


@pytest.mark.slow
def test_the_command_evaluates_judges_and_gates(tmp_path: Path) -> None:
    path, reports = write_questions(tmp_path), tmp_path / "report"
    right = write_pipeline(tmp_path, right_after("time.sleep(0.2)")).removesuffix(":loadPipeline")
    wrong = write_pipeline(tmp_path, f"time.sleep(1)\nreturn {GOOD[::-1]!r}", name="wrong.py")
    common: list[str | Path] = ["--questions", path, "--reports", reports]
    result = command_line(*common, "--pipeline", right, "--name", "main", "--min-accuracy", "0.9")
    assert re.search(r"accuracy +100.0 %", result.stdout)
    assert "%|" not in result.stderr  # no progress bar in a pipe
    against = ["--min-accuracy=0.3", "--max-slowdown=1.5", f"--baseline={reports / 'main'}"]
    result = command_line(*common, "--pipeline", wrong, *against, status=3)
    assert "gate: the answers are in another order than the questions: 10 of 10" in result.stderr
    assert "gate: accuracy 0.0% is 30.0 points under the 30.0% asked for" in result.stderr
    assert "gate: the call took 1.0" in result.stderr
    result = command_line("compare", reports / "main", reports / "wrong")
    assert result.stdout.splitlines()[1].split()[:3] == ["1", "main", "100.0"]


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (["--questions", "none.jsonl"], 1, "error: none.jsonl: cannot be read"),
        (["--questions", SAMPLES, "--max-slowdown", "2"], 1, "--baseline go together"),
        (["--questions", SAMPLES, "--name", "../x"], 2, "letters, digits"),
        (["--questions", SAMPLES, "--judge-budget", "-1"], 2, "must be 0 or more"),
        (["--questions", SAMPLES, "--judge", "model"], 1, "needs --judge-model URL or FILE.gguf"),
        (["compare", "no/report"], 1, "give the folder of a finished report"),
    ],
)
def test_what_cannot_be_done_is_said_in_a_line(
    capsys: pytest.CaptureFixture[str], arguments: list[Any], status: int, message: str
) -> None:
    assert _status(arguments) == status
    assert message in capsys.readouterr().err


def test_a_judge_model_is_named_and_opened_only_when_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Yes:
        """A model that finds everything right."""

        name = "yes"

        def __init__(self, path: Path, threads: int) -> None:
            opened.append(path)

        def __enter__(self) -> Yes:
            return self

        def __exit__(self, *_: object) -> None:
            pass

        def ask(self, rubric: str, prompts: Sequence[str]) -> Iterator[tuple[int, str]]:
            return ((n, "VERDICT: CORRECT") for n in range(len(prompts)))

    opened: list[Path] = []
    monkeypatch.setattr(judging, "LocalModel", Yes)
    (tmp_path / "judge.gguf").touch()
    cache = tmp_path / "replies.jsonl"
    by_model = judging.choose("model", str(tmp_path / "judge.gguf"), None, 100, cache)
    assert not opened
    call = 'return [dict(questionID=q["questionID"], answer="A fruit.") for q in questions]'
    summary = score_of(tmp_path, call, judging=by_model)
    assert len(opened) == 1
    assert summary.judge == "model judge.gguf, asked at most 100 times"
    assert (summary.accuracy.mean, summary.by_judge) == (1, {"model": 10})


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("model", "https://localhost/v1", None, None), "give the model's name by --judge-name"),
        (("model", "none.gguf", None, None), "neither a URL nor a file that is there"),
        (("cheap", None, None, 5), "need --judge model"),
    ],
)
def test_a_judge_model_that_cannot_be_is_refused(
    tmp_path: Path, arguments: tuple[Any, Any, Any, Any], message: str
) -> None:
    with pytest.raises(EvaluationError, match=re.escape(message)):
        judging.choose(*arguments, tmp_path / "replies.jsonl")


def test_the_machine_is_told_without_its_name() -> None:
    assert re.fullmatch(r".+, \d+ cores, \d+ GiB, .+", machine.describe())
    assert os.uname().nodename not in machine.describe()


def test_gpus_belong_to_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    nvml = SimpleNamespace(
        nvmlInit=lambda: None,
        nvmlDeviceGetCount=lambda: 2,
        nvmlDeviceGetHandleByIndex=lambda index: index,
        nvmlDeviceGetName=lambda gpu: "NVIDIA T4",
        nvmlDeviceGetMemoryInfo=lambda gpu: SimpleNamespace(used=100 + gpu),
    )
    monkeypatch.setitem(sys.modules, "pynvml", nvml)
    machine._gpus.cache_clear()
    assert machine.describe().endswith(", 2 x NVIDIA T4")
    assert machine.gpu_memory() == 201
    machine._gpus.cache_clear()


def test_memory_of_gpus_is_what_the_pipeline_adds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    used = iter([100, *[1000] * 10_000])
    monkeypatch.setattr(machine, "gpu_memory", lambda: next(used))
    assert run_of(tmp_path, right_after("time.sleep(0.5)")).peak_gpu_memory == 900


def _status(arguments: Sequence[str | Path]) -> int:
    try:
        return main([str(argument) for argument in arguments])
    except SystemExit as error:  # argparse's own
        return int(error.code or 0)


def _alive(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
