"""The frame of every command: messages, exit status, and stopping when asked to.

A command module imports only what `--help` needs; the rest is imported by the function that is
given to `run`, so that help works where an extra is missing and Ctrl-C works while importing.
"""

from __future__ import annotations

# First, so that Ctrl-C during the other imports leaves no traceback.
from runtime.common import early  # isort: skip

import argparse
import io
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any, Self, TypeVar

from runtime.common import atomic, extras
from runtime.common.errors import UserError

T = TypeVar("T")

_INTERRUPTED = early.INTERRUPTED
_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_PATIENCE = 0.7  # seconds that cleaning up may take after a signal


def parser_for(doc: str | None) -> argparse.ArgumentParser:
    """The parser of a command whose docstring begins "`python -m NAME ...`: what it does"."""
    usage, _, what = (doc or "").partition("\n")[0].partition("`: ")
    return argparse.ArgumentParser(
        prog=" ".join(usage.removeprefix("`").split()[:3]), description=what
    )


def run(
    command: Callable[[T], int],
    arguments: T,
    stopped: str = "stopped; no partial files were left",
    *,
    verbose: bool = False,
    terminated: int = early.INTERRUPTED,
) -> int:
    """Run a command and return its exit status.

    Errors that a user can mend are printed as one line, status 1. After SIGINT or SIGTERM
    `stopped` is printed, status 130 or, after SIGTERM, `terminated`. The process then ends within
    a second, even inside a call of llama.cpp or torch that Python cannot interrupt: temporary files
    of `runtime.common.atomic` are removed first.

    Args:
        command: gets `arguments` and returns the exit status.
        stopped: what is left after a signal, and how to continue.
        verbose: log debug messages too.
        terminated: the exit status after SIGTERM, which is how services are stopped.
    """
    _prepare_streams()
    logging.basicConfig(
        level=logging.DEBUG if verbose else logging.INFO,
        format="%(levelname)s: %(message)s",
        stream=sys.stderr,
    )
    logging.getLogger("gguf").setLevel(logging.WARNING)
    with _Interrupts(stopped, terminated) as interrupts:
        try:
            status = command(arguments)
            _flush()
        except KeyboardInterrupt:
            return interrupts.stop()
        except Exception as error:
            # A signal inside an import or a callback may come out as another error.
            return interrupts.stop() if interrupts.received else _failed(error)
        return interrupts.stop() if interrupts.received else status


def resumable(target: Path | None) -> str:
    """What to print after a signal where --resume continues `target`, unless it cannot."""
    if target is None or atomic.is_special(target):
        return "stopped"
    return "stopped; --resume continues from there"


def explain(error: Exception) -> str:
    """An error's message; that of the operating system with the file's name."""
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename or 'writing'}: {error.strerror}"
    return str(error)


def _failed(error: Exception) -> int:
    """Print an error that a user can mend and return the status; raise any other."""
    if isinstance(error, BrokenPipeError):  # the reader of our output has gone
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    if isinstance(error, ModuleNotFoundError):
        error = extras.explained(error)
    if not isinstance(error, (UserError, OSError, extras.MissingLibraryError)):
        raise error
    print(f"error: {explain(error)}", file=sys.stderr)
    return 1


def _flush() -> None:
    """Write what is buffered while a full disk or a closed pipe can still be reported."""
    try:
        sys.stdout.flush()
    except OSError as error:
        if not isinstance(error, BrokenPipeError):
            # What cannot be written would be tried again at exit.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            error.filename = "standard output"
        raise


def _prepare_streams() -> None:
    """Make the standard streams usable: none closed, and no character that stops the command."""
    for number in (0, 1, 2):
        try:
            os.fstat(number)
        except OSError:  # closed: the next file that is opened would get our messages
            os.open(os.devnull, os.O_RDWR)
    if sys.stdout is None:
        sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115, PTH123
    if sys.stderr is None:
        sys.stderr = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115, PTH123
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _flush_for(seconds: float) -> None:
    """Write what is buffered, unless that has to wait: for a pipe, or another thread's lock."""
    flushing = threading.Thread(target=sys.stdout.flush, daemon=True)
    flushing.start()
    flushing.join(seconds)


class _Interrupts:
    """Turns SIGINT and SIGTERM into KeyboardInterrupt, and ends a process that does not stop.

    Python runs signal handlers between two of its own instructions, so a long call in C delays
    them, and an exception in a callback from C is lost. Therefore a thread, told by the signal
    itself, waits for a moment and ends the process.
    """

    def __init__(self, stopped: str, terminated: int) -> None:
        self.received = False
        self._stopped, self._terminated = stopped, terminated
        self._status = _INTERRUPTED
        self._said = False
        self._before: dict[int, Any] = {}
        self._hook_before = sys.unraisablehook

    def __enter__(self) -> Self:
        if threading.current_thread() is not threading.main_thread():
            return self  # signals are the main thread's
        self._read_end, self._write_end = os.pipe()
        os.set_blocking(self._write_end, False)
        for number in _SIGNALS:
            if signal.getsignal(number) is not signal.SIG_IGN:  # as nohup asks for
                self._before[number] = signal.signal(number, self._handle)
        self._wakeup_before = signal.set_wakeup_fd(self._write_end, warn_on_full_buffer=False)
        self._hook_before, sys.unraisablehook = sys.unraisablehook, self._unraisable
        os.register_at_fork(after_in_child=self._forget)
        threading.Thread(target=self._watch, daemon=True, name="interrupts").start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if not self._before or self.received:  # the thread sees to it that the process ends
            return
        self._restore()
        self._before = {}
        os.write(self._write_end, b"\0")

    def stop(self) -> int:
        """Print the message; after a signal end the process, else return the exit status."""
        atomic.remove_unfinished()  # what a signal in the middle of removing left
        self._said = True
        print(self._stopped, file=sys.stderr, flush=True)
        if self.received:
            # Not through Python's own end: it would free what a call of llama.cpp that was left
            # alone is still using, and wait for threads.
            _flush_for(0.1)
            os._exit(self._status)
        return _INTERRUPTED

    def _handle(self, number: int, frame: FrameType | None) -> None:
        self.received = True
        if number == signal.SIGTERM:
            self._status = self._terminated
        for each in self._before:  # a second one would only disturb the cleaning up
            signal.signal(each, signal.SIG_IGN)
        raise KeyboardInterrupt

    def _unraisable(self, what: sys.UnraisableHookArgs) -> None:
        """Print no KeyboardInterrupt that a destructor lost: the watching thread ends us."""
        if not (self.received and what.exc_type is KeyboardInterrupt):
            self._hook_before(what)

    def _restore(self) -> None:
        sys.unraisablehook = self._hook_before
        signal.set_wakeup_fd(self._wakeup_before)
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _forget(self) -> None:
        """In a forked child: its signals must not end the parent."""
        if self._before:
            self._restore()
            self._before = {}

    def _watch(self) -> None:
        while (byte := os.read(self._read_end, 1)) != b"\0":
            if byte and byte[0] in _SIGNALS:
                if byte[0] == signal.SIGTERM:
                    self._status = self._terminated
                time.sleep(_PATIENCE)
                self._end()
        os.close(self._read_end)
        os.close(self._write_end)

    def _end(self) -> None:
        """End the process, whatever its main thread is doing."""
        atomic.remove_unfinished()
        _flush_for(0.1)
        if not self._said:
            os.write(2, f"{self._stopped}\n".encode())
        os._exit(self._status)
