"""The contest's protocol: load a pipeline once, and time one call of it.

The pipeline runs in its own process (`worker.py`), so that whatever it does (crash, hang, leak,
print, exit) is a result. It gets the questions with the call. The time is measured in this process,
from before the questions are sent until the whole output has arrived as plain data.
docs/evaluation.md says what is hidden from it. POSIX only, for process groups and signals.
"""

from __future__ import annotations

import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

import psutil
from pydantic import BaseModel, ConfigDict, FiniteFloat, NonNegativeFloat, ValidationError

from evaluation import machine
from evaluation.channel import Channel, ChannelError, Message
from evaluation.check import check
from evaluation.errors import EvaluationError
from evaluation.hiding import CannotHideError, wrapper
from evaluation.processes import Processes
from evaluation.records import Run
from evaluation.watch import Watch

# In seconds. At least this is between two measurements, which slow the pipeline down a little.
_PERIOD = 0.2
# Of the time that measuring may take.
_SHARE = 0.02
# For the worker to start, before it loads the pipeline.
_START = 60.0
# For a pipeline to end after it has answered.
_GRACE = 5.0
_WORKER = Path(__file__).with_name("worker.py")


class _Reply(BaseModel):
    """A message of the worker; a message of another form is a failure of the pipeline."""

    model_config = ConfigDict(extra="forbid", strict=True)


_T = TypeVar("_T", bound=_Reply)


class _Started(_Reply):
    started: bool


class _Loaded(_Reply):
    loaded: bool = False
    refused: str = ""
    failure: str = ""


class _Outcome(_Reply):
    call: str
    output: Any = None
    failure: str = ""


class _OwnFigures(_Reply):
    """The pipeline's own figures."""

    stats: dict[str, FiniteFloat] = {}
    answer_seconds: list[NonNegativeFloat] | None = None
    sources: list[str] = []


class _FailedError(Exception):
    """The pipeline failed; the message says how."""


def call(
    pipeline: str,
    records: list[dict[str, Any]],
    log: Path,
    setup_timeout: float,
    timeout: float,
    tell: Callable[[str], None] = lambda stage: None,
    hide: Sequence[Path] | None = None,
) -> Run:
    """Load a pipeline and let it answer all questions in one call.

    When this returns, all its processes have ended.

    Args:
        pipeline: the place of its loadPipeline; see `evaluation.worker.find`.
        records: the questions that it gets.
        log: file for its output.
        setup_timeout, timeout: seconds for loading, and for the call.
        tell: called with each stage.
        hide: files and folders to hide from it, where the system allows it; None hides nothing.

    Raises:
        EvaluationError: there is no such pipeline, or its process could not be started.
    """
    gpu_before = machine.gpu_memory()
    around, why_not = _around(pipeline, hide)
    found: dict[str, Any] = {"hidden": not why_not, "why_not_hidden": why_not}
    with log.open("wb") as output, Channel() as channel:
        tell("loading the pipeline")
        started = time.perf_counter()
        descriptor = channel.theirs.fileno()
        process = subprocess.Popen(
            # -P: the pipeline must not import our modules beside the worker.
            # faulthandler writes the place of a crash to the log.
            [*around, sys.executable, "-P", "-X", "faulthandler", str(_WORKER)]
            + [pipeline, str(descriptor)],
            stdin=subprocess.PIPE,
            stdout=output,
            stderr=subprocess.STDOUT,
            pass_fds=[descriptor],
            # Not a session: Linux schedules by session (autogroup), so that the niceness of the
            # user's other jobs would have no effect.
            process_group=0,
        )
        channel.theirs.close()
        processes = Processes(process, wrapped=bool(around))
        worker = _Worker(process, processes, channel, Watch(processes, gpu_before))
        try:
            worker.starts(log)
            loaded, at = worker.reply(_Loaded, "loading", setup_timeout)
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
            processes.kill()
            assert process.stdin is not None
            process.stdin.close()
    return Run(
        answers=found.pop("answers", [None] * len(records)),
        peak_memory=worker.watch.peak,
        peak_gpu_memory=worker.watch.gpu_peak,
        **found,
    )


def _around(pipeline: str, hide: Sequence[Path] | None) -> tuple[list[str], str]:
    """(the wrapper of the worker's command, why nothing is hidden or "")."""
    if hide is None:
        return [], "hiding is off"
    place = pipeline.rpartition(":")[0]
    needed = [Path.cwd(), Path(sys.executable), _WORKER, *([Path(place)] if place else [])]
    try:
        return wrapper(hide, [path for path in needed if path.exists()]), ""
    except CannotHideError as reason:
        return [], str(reason)


class _Worker:
    """The pipeline's process and the messages to and from it.

    Attributes:
        watch: measures its memory and CPU time.
    """

    def __init__(
        self,
        process: subprocess.Popen[bytes],
        processes: Processes,
        channel: Channel,
        watch: Watch,
    ) -> None:
        self.watch = watch
        self._process = process
        self._processes = processes
        self._channel = channel

    def starts(self, log: Path) -> None:
        """Wait until the worker runs. Raises EvaluationError if it does not."""
        try:
            self.reply(_Started, "starting", _START)
        except _FailedError as failure:
            raise EvaluationError(
                f"the pipeline's process did not start ({failure}); see {log}"
            ) from None

    def answers(self, records: list[dict[str, Any]], timeout: float) -> dict[str, Any]:
        """Ask all questions; returns fields of Run. Raises _FailedError."""
        found: dict[str, Any] = {}
        self.watch.start()
        # Drawn only now, so that the pipeline cannot answer before it is asked.
        code = secrets.token_hex(16)
        started = self._channel.send({"call": code, "questions": records})
        outcome, ended = self.reply(_Outcome, "the call", timeout)
        found["other_cpu_seconds"] = self.watch.stop()
        self.watch.look()
        if outcome.call != code:
            raise _FailedError("it answered before it was asked")
        if outcome.failure:
            raise _FailedError(outcome.failure)
        found["call_seconds"] = ended - started
        ids = [record["questionID"] for record in records]
        found["answers"], found["violations"] = check(outcome.output, ids)
        found |= self._own_figures(len(records))
        return found

    def _own_figures(self, n_questions: int) -> dict[str, Any]:
        """The pipeline's own figures, which do not affect the score; {} if they are invalid."""
        try:
            told, _ = self.reply(_OwnFigures, "the call", _GRACE)
        except _FailedError:
            return {}
        self._channel.send({})
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(_GRACE)
        seconds = told.answer_seconds
        if seconds is not None and len(seconds) != n_questions:
            seconds = None
        return {"stats": told.stats, "answer_seconds": seconds, "sources": told.sources}

    def reply(self, kind: type[_T], stage: str, timeout: float) -> tuple[_T, float]:
        """The next message and its time. Raises _FailedError if it does not come."""
        message = self._next(stage, timeout)
        if message.line is None:
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(1)
            raise _FailedError(_end(self._process.poll(), stage))
        try:
            return kind.model_validate(message.json()), message.at
        except (ChannelError, ValidationError) as problem:
            why = problem if isinstance(problem, ChannelError) else "it has the wrong form"
            raise _FailedError(f"the result of {stage} cannot be read: {why}") from None

    def _next(self, stage: str, timeout: float) -> Message:
        deadline = time.monotonic() + timeout
        period = _PERIOD
        while True:
            if message := self._channel.receive(period):
                return message
            period = min(max(_PERIOD, self.watch.look() / _SHARE), 1.0)
            if self._process.poll() is not None:  # while a fork may hold the pipe open
                last = self._channel.receive(_PERIOD)
                return last or Message(None, time.perf_counter())
            if time.monotonic() > deadline:
                self._dump()
                raise _FailedError(f"hung: {stage} did not end within {timeout:g} s")

    def _dump(self) -> None:
        """Let faulthandler write to the log where the pipeline hangs; this ends it."""
        with suppress(psutil.Error, psutil.TimeoutExpired):
            if first := self._processes.first():
                first.send_signal(signal.SIGABRT)
                first.wait(1)


def _end(status: int | None, stage: str) -> str:
    """How a process ended early; `status` is None if it only closed the pipe."""
    if status is None:
        return f"closed the pipe to the evaluation during {stage}"
    try:  # a wrapper exits with 128 plus the signal's number
        name = signal.Signals(-status if status < 0 else status - 128).name
    except ValueError:
        return f"exited with status {status} during {stage}"
    hint = " (killed from outside; out of memory?)" if name == "SIGKILL" else ""
    return f"crashed: {name} during {stage}{hint}"


def _printable(text: str) -> str:
    """Text from the pipeline's process, safe to print on a terminal."""
    short = text if len(text) <= 400 else f"{text[:397]}..."
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in short)
