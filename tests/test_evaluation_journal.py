"""Stopping an evaluation and going on with it."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NoReturn

import psutil
import pytest

from evaluation import evaluate, report
from evaluation.errors import EvaluationError
from evaluation.judging import Pair
from evaluation.records import Verdict
from runtime.common.errors import UserError
from runtime.common.journal import Journal
from runtime.settings import PROJECT_DIR
from tests.evaluating import (
    RIGHT,
    contains,
    judging_by,
    plan,
    right_after,
    score_of,
    sleeping,
    write_pipeline,
    write_questions,
)
from tests.stopping import interrupt


def leave_a_line(folder: Path, then: str = "") -> str:
    """The body of a call that can be seen to have been made."""
    return right_after(f"open({str(folder / 'calls')!r}, 'a').write('called ')\n{then}")


# Evaluates with a judge that takes its time; the pipeline leaves a word for each call.
SLOW = """
import sys, time
from pathlib import Path
from evaluation.evaluate import evaluate
from tests.evaluating import contains, judging_by, plan
from tests.test_evaluation_journal import leave_a_line

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
    deadline = time.monotonic() + 300
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

    same = leave_a_line(tmp_path, "time.sleep(0)")
    stopped = plan(tmp_path, same)
    with pytest.raises(EvaluationError, match="continue it with --resume, or delete"):
        evaluate.evaluate(stopped)

    judged: list[Pair] = []

    def count(pairs: Sequence[Pair]) -> list[Verdict]:
        judged.extend(pairs)
        return contains(pairs)

    resumed = plan(tmp_path, same, judging=judging_by(count), resume=True)
    summary = evaluate.evaluate(resumed)
    assert len(judged) == 10 - kept
    assert summary.accuracy.mean == 1
    assert summary.latency
    assert summary.latency.total == call["call_seconds"]
    assert (tmp_path / "calls").read_text() == "called "
    names = {".lock", "pipeline.log", "results.jsonl", "summary.json", "report.html"}
    assert {path.name for path in folder.iterdir()} == names


def test_killed_during_the_call_it_leaves_no_process_and_calls_again(tmp_path: Path) -> None:
    process = start_slow(tmp_path, 300, 0)
    wait_for(lambda: (tmp_path / "calls").exists() and (tmp_path / "calls").stat().st_size > 0)
    worker = psutil.Process(process.pid).children()[0].pid
    process.send_signal(signal.SIGKILL)
    process.wait()
    wait_for(lambda: not is_alive(worker))
    summary = score_of(tmp_path, RIGHT, resume=True)
    assert summary.accuracy.mean == 1


def is_alive(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def stop(pairs: Sequence[Pair]) -> list[Verdict]:
    """A judge that is interrupted after half of the answers."""
    if pairs[0][0].id == "q5":
        raise KeyboardInterrupt
    return contains(pairs)


def test_a_folder_is_for_one_evaluation_at_a_time(tmp_path: Path) -> None:
    process = start_slow(tmp_path, 0, 30)
    wait_for((tmp_path / "report/run/run.json").exists)
    with pytest.raises(UserError, match="another run is using it"):
        score_of(tmp_path, RIGHT, resume=True)
    assert (tmp_path / "report/run/results.jsonl.partial").exists()
    process.kill()
    process.wait()
    same = leave_a_line(tmp_path, "time.sleep(0)")
    assert score_of(tmp_path, same, judging=judging_by(contains), resume=True).accuracy.mean == 1


def test_verdicts_of_other_judges_are_not_kept(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        score_of(tmp_path, RIGHT, judging=judging_by(stop))
    all_wrong = judging_by(lambda pairs: [Verdict(False, 0, "s", "") for _ in pairs], "strict")
    assert score_of(tmp_path, RIGHT, judging=all_wrong, resume=True).accuracy.mean == 0


def test_a_call_of_another_pipeline_is_not_continued(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        score_of(tmp_path, RIGHT, judging=judging_by(stop))
    other = write_pipeline(tmp_path, RIGHT, name="other.py")
    with pytest.raises(EvaluationError, match="has answers of another pipeline"):
        score_of(tmp_path, RIGHT, pipeline=other, resume=True)


@pytest.mark.parametrize("changed", ["entry.py", "helper.py"])
def test_a_call_from_before_the_sources_changed_is_not_continued(
    tmp_path: Path, changed: str
) -> None:
    (tmp_path / "helper.py").write_text("ANSWER = 1\n")
    with pytest.raises(KeyboardInterrupt):
        score_of(tmp_path, RIGHT, load="import helper", judging=judging_by(stop))
    path = tmp_path / "report/run/run.json"
    sources = [str(tmp_path / "entry.py"), str(tmp_path / "helper.py")]
    assert list(json.loads(path.read_text())["sources"]) == sources
    call = right_after("'changed'") if changed == "entry.py" else RIGHT
    (tmp_path / "helper.py").write_text(
        "ANSWER = 2\n" if changed == "helper.py" else "ANSWER = 1\n"
    )
    with pytest.raises(
        EvaluationError, match=rf"answers from before \S+{changed} changed: delete it"
    ):
        score_of(tmp_path, call, load="import helper", resume=True)
    kept = json.loads(path.read_text())
    path.write_text(json.dumps({name: kept[name] for name in kept if name != "sources"}))
    assert score_of(tmp_path, call, load="import helper", resume=True)  # of an earlier version


def test_only_verdicts_of_this_evaluation_are_believed(tmp_path: Path) -> None:
    """Not what a pipeline or an editor wrote among them, or of answers to another call."""
    call = 'return [dict(questionID=q["questionID"], answer="?") for q in questions]'
    with pytest.raises(KeyboardInterrupt):
        score_of(tmp_path, call, judging=judging_by(stop))
    partial = tmp_path / "report/run/results.jsonl.partial"
    entries = [json.loads(line) for line in partial.read_text().splitlines()]
    assert len(entries) == 5
    made_right = [{**entry, "correct": True, "score": 1.0} for entry in entries]
    broken = [{**entry, "correct": "perhaps"} for entry in entries]
    partial.write_text("\n".join(map(json.dumps, [*made_right, [1], *broken])) + "\n")
    assert score_of(tmp_path, call, resume=True).accuracy.mean == 0


@pytest.mark.parametrize("damage", ["{", '{"answers": []}', None])
def test_a_damaged_call_is_told(tmp_path: Path, damage: str | None) -> None:
    with pytest.raises(KeyboardInterrupt):
        score_of(tmp_path, RIGHT, judging=judging_by(stop))
    path = tmp_path / "report/run/run.json"
    call = json.loads(path.read_text())
    call["run"]["answers"].pop()
    path.write_text(damage or json.dumps(call))
    with pytest.raises(EvaluationError, match=r"run\.json is damaged: delete it"):
        score_of(tmp_path, RIGHT, resume=True)


def full(path: Path) -> OSError:
    return OSError(errno.ENOSPC, "No space left on device", str(path))


def test_a_full_disk_while_judging_costs_no_result(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def append(self: Journal, record: object) -> NoReturn:
        raise full(self.path)

    monkeypatch.setattr(Journal, "append", append)
    assert score_of(tmp_path, RIGHT).accuracy.mean == 1
    (warning,) = [record.getMessage() for record in caplog.records]
    assert "results.jsonl.partial: No space left on device; --resume will repeat" in warning


def test_a_full_disk_while_reporting_keeps_the_answers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def write(folder: Path, *_: object) -> NoReturn:
        raise full(folder / "results.jsonl")

    with monkeypatch.context() as patch:
        patch.setattr(report, "write", write)
        with pytest.raises(EvaluationError, match=r"results\.jsonl: No space left .*--resume"):
            score_of(tmp_path, leave_a_line(tmp_path))
    assert score_of(tmp_path, leave_a_line(tmp_path), resume=True).accuracy.mean == 1
    assert (tmp_path / "calls").read_text() == "called "


@pytest.mark.parametrize("where", ["loading", "the call"])
def test_an_interrupted_evaluation_stops_at_once_and_says_how_to_continue(
    tmp_path: Path, where: str
) -> None:
    nap = f"300.{os.getpid()}"
    wait = f"print('waiting', flush=True); subprocess.run(['sleep', '{nap}'])"
    pipeline = write_pipeline(tmp_path, wait) if where == "the call" else ""
    pipeline = pipeline or write_pipeline(tmp_path, "pass", wait)
    questions = write_questions(tmp_path)
    command = [sys.executable, "-m", "evaluation", "--questions", str(questions)]
    command += ["--pipeline", pipeline, "--reports", str(tmp_path / "report")]
    log = tmp_path / "report/entry/pipeline.log"
    with subprocess.Popen(command, cwd=PROJECT_DIR, stderr=subprocess.PIPE, text=True) as process:
        wait_for(lambda: log.exists() and "waiting" in log.read_text())
        said, seconds = interrupt(process)
    assert process.returncode == 130
    assert seconds < 2
    assert said.splitlines()[-1] == "stopped; --resume keeps the answers if the call ended"
    wait_for(lambda: not sleeping(nap))
