"""The evaluator's protocol: load a pipeline once, time one call of it, see what it did.

The pipeline runs in a process of its own, so that whatever it does (crash, hang, leak, print,
exit) is a result. That guards against accidents, not against malice: it may do what you may.
POSIX only: it needs process groups and signals.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil

from evaluation import machine
from evaluation.errors import EvaluationError
from evaluation.records import Run

# How often the process is looked at, in seconds. Looking costs the pipeline some speed.
_PERIOD = 0.2
# What a pipeline that has answered may take to end by itself.
_GRACE = 5.0
_PR_SET_CHILD_SUBREAPER = 36  # of Linux's prctl


def call(
    pipeline: str,
    records: list[dict[str, Any]],
    log: Path,
    setup_timeout: float,
    timeout: float,
    tell: Callable[[str], None] = lambda stage: None,
) -> Run:
    """Load a pipeline and have it answer all questions in one call.

    At the end every process below this one is killed that was not there before: no other
    thread of this program may start processes meanwhile.

    Args:
        pipeline: where its loadPipeline is; see `evaluation.worker.find`.
        records: what it is given.
        log: file for what it prints.
        setup_timeout: seconds it may take to load, and `timeout` those of the call.
        tell: called with what is being done now.

    Raises:
        EvaluationError: there is no such pipeline.
    """
    gpu_before = machine.gpu_memory()
    with tempfile.TemporaryDirectory() as name, log.open("wb") as output, _adopting() as others:
        folder = Path(name)
        (folder / "questions.json").write_text(json.dumps(records), encoding="utf-8")
        tell("loading the pipeline")
        process = subprocess.Popen(
            # faulthandler says in the log where it crashed
            [sys.executable, "-X", "faulthandler", "-m", "evaluation.worker", pipeline, name],
            stdin=subprocess.PIPE,
            stdout=output,
            stderr=subprocess.STDOUT,
            # Not a session: Linux shares the CPU out by session (autogroup), and the niceness
            # of the user's other jobs would no longer count.
            process_group=0,
        )
        memory = _Memory(process.pid, gpu_before)
        try:
            hung = _wait(process, folder, (setup_timeout, timeout), memory, tell)
        finally:
            _kill(process, others)
        loaded, done = _read(folder / "loaded.json"), _read(folder / "done.json")
    if refused := done.pop("refused", None):
        raise EvaluationError(f"--pipeline {pipeline}: {refused}")
    if not done:
        stage = "the call" if loaded else "loading"
        done = {**loaded, "failure": f"hung: {hung}" if hung else _end(process.returncode, stage)}
    answers = done.pop("answers", [None] * len(records))
    own_peak = done.pop("peak_memory", 0)
    return Run(
        answers=answers,
        peak_memory=max(own_peak, memory.peak),
        peak_gpu_memory=memory.gpu_peak,
        **done,
    )


def _wait(
    process: subprocess.Popen[bytes],
    folder: Path,
    timeouts: tuple[float, float],
    memory: _Memory,
    tell: Callable[[str], None],
) -> str:
    """Wait until it ends; returns what did not end in time, or ""."""
    what, allowed = "loading", timeouts[0]
    started = time.monotonic()
    while True:
        try:
            process.wait(_PERIOD)
            return ""
        except subprocess.TimeoutExpired:
            memory.look()
        if (folder / "done.json").exists():
            if what != "ending":
                what, allowed, started = "ending", _GRACE, time.monotonic()
        elif what == "loading" and (folder / "loaded.json").exists():
            what, allowed, started = "the call", timeouts[1], time.monotonic()
            tell("answering")
        if time.monotonic() - started > allowed:
            if what != "ending":
                _dump(process)
            return f"{what} did not end within {allowed:g} s"


def _dump(process: subprocess.Popen[bytes]) -> None:
    """Have faulthandler write into the log where a process hangs; this ends it."""
    process.send_signal(signal.SIGABRT)
    with suppress(subprocess.TimeoutExpired):
        process.wait(1)


@contextmanager
def _adopting() -> Iterator[set[psutil.Process]]:
    """Processes whose parent ends become this process's own meanwhile, so that none is lost.

    Gives the processes below this one that were there before. Only Linux can do so; elsewhere
    what leaves the process group of the pipeline and outlives its parent is not found.
    """
    linux = sys.platform == "linux"
    before = set(psutil.Process().children(recursive=True))
    if linux:
        ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    try:
        yield before
    finally:
        if linux:
            ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0)


def _kill(process: subprocess.Popen[bytes], others: set[psutil.Process]) -> None:
    """Kill the process with all that it started, be it in another session by now."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    for _ in range(5):  # what is killed may just have started another
        started = set(psutil.Process().children(recursive=True)) - others
        if not started:
            break
        for each in started:
            with suppress(psutil.Error):  # gone, or another user's
                each.kill()
        psutil.wait_procs(started, timeout=1)
    assert process.stdin is not None
    process.stdin.close()


def _end(status: int, stage: str) -> str:
    """How a process ended that did not come to its end."""
    if status >= 0:
        return f"exited with status {status} during {stage}"
    name = signal.Signals(-status).name
    hint = " (killed from outside; for want of memory?)" if name == "SIGKILL" else ""
    return f"crashed: {name} during {stage}{hint}"


def _read(path: Path) -> dict[str, Any]:
    if not path.exists():
        return {}
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return found


class _Memory:
    """Peak memory, in bytes, of a process and all below it, and of the GPUs.

    What several processes share is counted once (Linux's PSS). Of one process alone RSS is the
    same and costs nothing to ask. GPU memory is what has been added since before the start, as
    other programs may use the GPU too.
    """

    def __init__(self, pid: int, gpu_before: int | None) -> None:
        self.peak = 0
        self.gpu_peak = None if gpu_before is None else 0
        self._root = psutil.Process(pid)
        self._gpu_before = gpu_before or 0

    def look(self) -> None:
        try:
            tree = [self._root, *self._root.children(recursive=True)]
        except psutil.Error:
            return
        self.peak = max(self.peak, sum(_bytes(each, len(tree) > 1) for each in tree))
        if self.gpu_peak is not None:
            used = (machine.gpu_memory() or 0) - self._gpu_before
            self.gpu_peak = max(self.gpu_peak, used)


def _bytes(process: psutil.Process, shares: bool) -> int:
    try:
        if shares:
            info = process.memory_full_info()
            return int(getattr(info, "pss", info.rss))
        return int(process.memory_info().rss)
    except psutil.Error:
        return 0
