"""The evaluator's protocol: load a pipeline once, time one call of it, see what it did.

The pipeline runs in a process of its own (`worker`), so that whatever it does (crash, hang, leak,
print, exit) is a result. It is handed the questions with the call, and the clock of the call is
this process's: it starts before the questions are sent and stops when the whole output is here, as
plain data. What it may still do, docs/evaluation.md tells.
POSIX only: it needs process groups and signals.
"""

from __future__ import annotations

import ctypes
import os
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

import psutil
from pydantic import BaseModel, ConfigDict, FiniteFloat, NonNegativeFloat, ValidationError

from evaluation import machine
from evaluation.channel import Channel, ChannelError, Message
from evaluation.check import check
from evaluation.errors import EvaluationError
from evaluation.hiding import closed_to_others
from evaluation.records import Run
from evaluation.watch import Watch

# How often the process is looked at, in seconds. Looking costs the pipeline some speed.
_PERIOD = 0.2
# What the worker may take before it loads the pipeline.
_START = 60.0
# What a pipeline that has answered may take to end by itself.
_GRACE = 5.0
_PR_SET_CHILD_SUBREAPER = 36  # of Linux's prctl


class _Said(BaseModel):
    """What the worker may say; anything else is a failure of the pipeline."""

    model_config = ConfigDict(extra="forbid", strict=True)


_T = TypeVar("_T", bound=_Said)


class _Hidden(_Said):
    hidden: bool


class _Loaded(_Said):
    loaded: bool = False
    refused: str = ""
    failure: str = ""


class _Outcome(_Said):
    call: str
    output: Any = None
    failure: str = ""


class _Told(_Said):
    """What the pipeline tells of itself."""

    stats: dict[str, FiniteFloat] = {}
    answer_seconds: list[NonNegativeFloat] | None = None


class _FailedError(Exception):
    """The pipeline failed; the message says how."""


def call(
    pipeline: str,
    records: list[dict[str, Any]],
    log: Path,
    setup_timeout: float,
    timeout: float,
    tell: Callable[[str], None] = lambda stage: None,
    hide: Sequence[Path] = (),
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
        hide: files that shall be empty for it, where the system allows that.

    Raises:
        EvaluationError: there is no such pipeline.
    """
    gpu_before = machine.gpu_memory()
    found: dict[str, Any] = {}
    with log.open("wb") as output, _adopting() as others, Channel() as channel:
        tell("loading the pipeline")
        started = time.perf_counter()
        descriptor = channel.theirs.fileno()
        process = subprocess.Popen(
            # faulthandler says in the log where it crashed
            [
                *(sys.executable, "-X", "faulthandler", "-m", "evaluation.worker"),
                *(pipeline, str(descriptor)),
            ],
            stdin=subprocess.PIPE,
            stdout=output,
            stderr=subprocess.STDOUT,
            pass_fds=[descriptor],
            # Not a session: Linux shares the CPU out by session (autogroup), and the niceness
            # of the user's other jobs would no longer count.
            process_group=0,
        )
        channel.theirs.close()
        worker = _Worker(process, channel, Watch(process.pid, gpu_before))
        try:
            with closed_to_others():
                channel.send({"hide": [str(path.resolve()) for path in hide]})
                found["hidden"] = worker.says(_Hidden, "starting", _START)[0].hidden
                loaded, at = worker.says(_Loaded, "loading", setup_timeout)
                if loaded.refused:
                    raise EvaluationError(f"--pipeline {pipeline}: {_printable(loaded.refused)}")
                found["setup_seconds"] = at - started
                if loaded.failure or not loaded.loaded:
                    raise _FailedError(loaded.failure or "loading came to nothing")
                tell("answering")
                found |= worker.answers(records, timeout)
        except _FailedError as failure:
            found["failure"] = _printable(str(failure))
        finally:
            _kill(process, others)
    return Run(
        answers=found.pop("answers", [None] * len(records)),
        peak_memory=worker.watch.peak,
        peak_gpu_memory=worker.watch.gpu_peak,
        **found,
    )


class _Worker:
    """The process of the pipeline, as it is talked to.

    Attributes:
        watch: what it takes of the machine.
    """

    def __init__(self, process: subprocess.Popen[bytes], channel: Channel, watch: Watch) -> None:
        self.watch = watch
        self._process = process
        self._channel = channel

    def answers(self, records: list[dict[str, Any]], timeout: float) -> dict[str, Any]:
        """Ask all questions; returns fields of Run. Raises _FailedError."""
        found: dict[str, Any] = {}
        self.watch.start()
        # Nobody can answer who has not been asked: the code is drawn only now.
        code = secrets.token_hex(16)
        started = self._channel.send({"call": code, "questions": records})
        outcome, ended = self.says(_Outcome, "the call", timeout)
        found["other_cpu_seconds"] = self.watch.stop()
        self.watch.look()
        if outcome.call != code:
            raise _FailedError("it answered before it was asked")
        if outcome.failure:
            raise _FailedError(outcome.failure)
        found["call_seconds"] = ended - started
        ids = [record["questionID"] for record in records]
        found["answers"], found["violations"] = check(outcome.output, ids)
        found |= self._tells_of_itself(len(records))
        return found

    def _tells_of_itself(self, n_questions: int) -> dict[str, Any]:
        """What is good to know and has no say in the score; nothing where it makes no sense."""
        try:
            told, _ = self.says(_Told, "the call", _GRACE)
        except _FailedError:
            return {}
        self._channel.send({})
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(_GRACE)
        seconds = told.answer_seconds
        if seconds is not None and len(seconds) != n_questions:
            seconds = None
        return {"stats": told.stats, "answer_seconds": seconds}

    def says(self, kind: type[_T], stage: str, timeout: float) -> tuple[_T, float]:
        """What it says next, and when it was said. Raises _FailedError if it does not."""
        message = self._next(stage, timeout)
        if message.line is None:
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(1)
            raise _FailedError(_end(self._process.poll(), stage))
        try:
            return kind.model_validate(message.json()), message.at
        except (ChannelError, ValidationError) as problem:
            why = problem if isinstance(problem, ChannelError) else "it is not what was asked for"
            raise _FailedError(f"what came back of {stage} cannot be read: {why}") from None

    def _next(self, stage: str, timeout: float) -> Message:
        deadline = time.monotonic() + timeout
        while True:
            if message := self._channel.receive(_PERIOD):
                return message
            self.watch.look()
            if self._process.poll() is not None:  # while a fork of it may hold the pipe open
                last = self._channel.receive(_PERIOD)
                return last or Message(None, time.perf_counter())
            if time.monotonic() > deadline:
                _dump(self._process)
                raise _FailedError(f"hung: {stage} did not end within {timeout:g} s")


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


def _end(status: int | None, stage: str) -> str:
    """How a process ended that did not come to its end; None if it has merely fallen silent."""
    if status is None:
        return f"closed the pipe to the evaluation during {stage}"
    if status >= 0:
        return f"exited with status {status} during {stage}"
    name = signal.Signals(-status).name
    hint = " (killed from outside; for want of memory?)" if name == "SIGKILL" else ""
    return f"crashed: {name} during {stage}{hint}"


def _printable(text: str) -> str:
    """What came from the pipeline's process, as it may be shown on a terminal."""
    short = text if len(text) <= 400 else f"{text[:397]}..."
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in short)
