"""What becomes of a pipeline that is called: its time, its memory, its failures, its processes."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from evaluation import machine, protocol, score
from tests.evaluating import ALL_RIGHT, both_ways, right_after, run_of, score_of, sleeping


def test_the_pipeline_is_given_no_answers(tmp_path: Path) -> None:
    told = """
        assert {tuple(q) for q in questions} == {("questionID", "subject", "question")}
    """
    assert score_of(tmp_path, right_after(told)).failure == ""


def test_what_the_pipeline_does_to_its_questions_changes_nothing(tmp_path: Path) -> None:
    call = right_after("questions[0].clear(); questions.clear()")
    assert run_of(tmp_path, call).answers == ALL_RIGHT


def test_loading_is_not_counted_and_the_call_is(tmp_path: Path) -> None:
    summary = score_of(tmp_path, right_after("time.sleep(0.3)"), "time.sleep(1)")
    assert summary.latency
    assert 0.3 <= summary.latency.total < 1 <= summary.setup_seconds
    assert summary.latency.per_question == pytest.approx(summary.latency.total / 10)


def test_peak_memory_is_seen_even_if_it_is_short(tmp_path: Path) -> None:
    call = right_after("bytearray(300 << 20).count(1)")
    assert 300 << 20 < run_of(tmp_path, call).peak_memory < 600 << 20


@pytest.mark.slow
def test_peak_memory_is_that_of_all_processes(tmp_path: Path) -> None:
    child = "import time; held = b'x' * (200 << 20); time.sleep(1)"
    call = right_after(f"subprocess.run([sys.executable, '-c', {child!r}])")
    assert run_of(tmp_path, call).peak_memory > 200 << 20


def test_memory_of_gpus_is_what_the_pipeline_adds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    used = iter([100, *[1000] * 10_000])
    monkeypatch.setattr(machine, "gpu_memory", lambda: next(used))
    assert run_of(tmp_path, right_after("time.sleep(0.5)")).peak_gpu_memory == 900


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


def test_the_log_has_the_traceback(tmp_path: Path) -> None:
    run_of(tmp_path, "ctypes.string_at(0)")
    log = (tmp_path / "log").read_text()
    assert "Segmentation fault" in log
    assert "entry.py" in log


@both_ways
@pytest.mark.parametrize(
    ("call", "load", "failure"),
    [
        ("time.sleep(600)", "", "hung: the call did not end within 0.5 s"),
        ("pass", "time.sleep(600)", "hung: loading did not end within 0.5 s"),
    ],
)
def test_a_hang_is_ended(
    tmp_path: Path, call: str, load: str, failure: str, hide: Sequence[Path] | None
) -> None:
    started = time.monotonic()
    run = run_of(tmp_path, call, load, timeout=0.5, hide=hide)
    assert time.monotonic() - started < 120
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


def test_a_thread_that_never_ends_does_not_hold_the_evaluation_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(protocol, "_GRACE", 0.5)
    call = "import threading; threading.Thread(target=time.sleep, args=[60]).start()"
    assert run_of(tmp_path, right_after(call)).answers == ALL_RIGHT
