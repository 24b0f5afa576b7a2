"""Functions of this project run in a process of their own, within limits of time and memory.

What may crash, take all memory or never end does so there. The process reads jobs and writes
results, both JSON, a line each; it starts with the first job and stays until it is closed.

This file is also the program of that process.
"""

from __future__ import annotations

import json
import os
import queue
import resource
import signal
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from math import ceil
from pathlib import Path
from typing import IO, Any, Self

# Seconds that starting Python and importing a module may take, on a slow disk.
_STARTING = 120.0
_LONGEST_SAID = 4000  # characters
_PROJECT = str(Path(__file__).resolve().parents[2])


@dataclass(frozen=True)
class Limits:
    """What a process may take from when it is ready, where the system can limit it."""

    cpu_seconds: int | None = None  # of computing, over all its jobs; it then ends with SIGXCPU
    memory: int | None = None  # bytes beyond Python and the module; allocating more fails


def command_of(module: str, *arguments: str) -> tuple[list[str], dict[str, str]]:
    """A command line that runs a module of this project, and the environment for it.

    The module is found wherever this package was imported from, and not in the current folder:
    files such as `convert.py` in it hide nothing.
    """
    path = os.pathsep.join(filter(None, [_PROJECT, os.environ.get("PYTHONPATH")]))
    command = [sys.executable or "python3", "-P", "-m", module, *arguments]
    return command, {**os.environ, "PYTHONPATH": path}


class ChildError(Exception):
    """There is no result."""


class NoChildError(ChildError):
    """No process can be started here, or none that gets as far as importing the module."""


class ChildEndedError(ChildError):
    """The process ended, or was ended, while it had a job.

    Attributes:
        status: its exit status, negative for a signal; None if it took too long.
        stage: what the function said last with `tell`, or "".
        said: the last line that it wrote to its standard error, or "".
    """

    def __init__(self, status: int | None, stage: str, said: str) -> None:
        super().__init__(f"exit status {status}" if status is not None else "took too long")
        self.status, self.stage, self.said = status, stage, said


class Child:
    """A process that runs one function for each job, one job after another.

    After a failure the next job starts a new process, and so does the first job after a fork:
    a forked process never shares one with its parent. Threads take turns.

    Args:
        function: "package.module:name"; it takes a JSON value and returns one.
        environment: variables to set beside those of this process.
        restarts: how many processes may follow the first.
    """

    def __init__(
        self,
        function: str,
        limits: Limits = Limits(),
        environment: Mapping[str, str] | None = None,
        restarts: int = 20,
    ) -> None:
        self._function, self._limits = function, limits
        self._environment = dict(environment or {})
        self._starts_left = 1 + restarts
        self._lock = threading.RLock()
        self._process: _Process | None = None
        _children.add(self)

    def start(self) -> None:
        """Start the process now and let it import its module meanwhile.

        Raises:
            NoChildError: no process can be started.
        """
        with self._lock:
            if self._process is None:
                if not self._starts_left:
                    raise NoChildError("it has ended too often")
                self._starts_left -= 1
                self._process = _Process(self._function, self._limits, self._environment)

    def ask(self, job: Any, seconds: float) -> Any:
        """The function's result for a job, a JSON value, in `seconds` from when it is ready.

        Raises:
            NoChildError: no process can be started.
            ChildEndedError: it crashed, exceeded a limit or took longer than `seconds`.
        """
        with self._lock:
            self.start()
            assert self._process is not None
            done = False
            try:
                result = self._process.ask(job, seconds)
                done = True
                return result
            finally:
                if not done:  # also after Ctrl-C: its result would answer the next job
                    self.close()

    def close(self) -> None:
        """End the process, if there is one; another job starts a new one."""
        with self._lock:
            if self._process is not None:
                self._process.end()
                self._process = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _forget(self) -> None:
        """In a forked process: the child is the parent's."""
        self._lock = threading.RLock()
        if self._process is not None:
            self._process.forget()
            self._process = None


_children: weakref.WeakSet[Child] = weakref.WeakSet()


def _forget_all() -> None:
    for child in list(_children):
        child._forget()


os.register_at_fork(after_in_child=_forget_all)


def call(
    function: str,
    job: Any,
    seconds: float,
    limits: Limits = Limits(),
    environment: Mapping[str, str] | None = None,
) -> Any:
    """The result of one job in a process that is ended after it; see `Child` and `Child.ask`."""
    with Child(function, limits, environment) as child:
        return child.ask(job, seconds)


class _Process:
    """One process, with a thread for each of its output pipes."""

    def __init__(self, function: str, limits: Limits, environment: dict[str, str]) -> None:
        # Run as a file, so that it works wherever this package was imported from.
        given = json.dumps({"function": function, "limits": asdict(limits)})
        command = [sys.executable or "python3", "-P", __file__, given]
        try:
            self._popen = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                env={**os.environ, **environment},
            )
        except OSError as error:
            raise NoChildError(str(error)) from None
        self._finalizer = weakref.finalize(self, _kill, self._popen)
        self._messages: queue.SimpleQueue[dict[str, Any] | None] = queue.SimpleQueue()
        self._said: list[str] = []
        self._ready = False
        self._readers = [
            threading.Thread(target=_read, args=(self._popen.stdout, self._messages), daemon=True),
            threading.Thread(target=_read_last, args=(self._popen.stderr, self._said), daemon=True),
        ]
        for reader in self._readers:
            reader.start()

    def ask(self, job: Any, seconds: float) -> Any:
        stage = ""
        if not self._ready:
            try:
                self._next(time.monotonic() + _STARTING, stage)
            except ChildEndedError as error:
                raise NoChildError(error.said or str(error)) from None
            self._ready = True
        deadline = time.monotonic() + seconds
        assert self._popen.stdin is not None
        with suppress(OSError):  # it has ended: reading says how
            self._popen.stdin.write(json.dumps(job).encode() + b"\n")
            self._popen.stdin.flush()
        while True:
            message = self._next(deadline, stage)
            if "result" in message:
                return message["result"]
            stage = message["stage"]

    def end(self) -> None:
        self._finalizer()

    def forget(self) -> None:
        self._finalizer.detach()
        if self._popen.stdin is not None:  # else it would not see its input end
            with suppress(OSError):
                self._popen.stdin.close()

    def _next(self, deadline: float, stage: str) -> dict[str, Any]:
        try:
            message = self._messages.get(timeout=max(0.0, deadline - time.monotonic()))
        except queue.Empty:
            raise ChildEndedError(None, stage, self._last_line()) from None
        if message is None:
            status = self._popen.wait()
            self._readers[1].join(1)
            raise ChildEndedError(status, stage, self._last_line())
        return message

    def _last_line(self) -> str:
        return self._said[-1] if self._said else ""


def _kill(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    with suppress(OSError):
        if process.stdin is not None:
            process.stdin.close()
    process.wait()


def _read(pipe: IO[bytes], messages: queue.SimpleQueue[dict[str, Any] | None]) -> None:
    """Pass messages on until the pipe ends; then None."""
    with pipe, suppress(ValueError):  # half a line
        for line in pipe:
            messages.put(json.loads(line))
    messages.put(None)


def _read_last(pipe: IO[bytes], said: list[str]) -> None:
    """Keep the last line that is not blank."""
    with pipe:
        for line in pipe:
            if line.strip():
                said[:] = [line.decode("utf-8", "replace").strip()[:_LONGEST_SAID]]


# What follows runs in the process itself.

_replies: IO[bytes] | None = None


def tell(stage: str) -> None:
    """Report what the function does next, for errors if the process ends there."""
    _send({"stage": stage})


def _send(message: dict[str, Any]) -> None:
    if _replies is not None:
        _replies.write(json.dumps(message).encode() + b"\n")
        _replies.flush()


def _serve(function: str, limits: Limits) -> None:
    global _replies
    _replies = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what libraries print must not look like a message
    parent = os.getppid()
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()
    module, _, name = function.partition(":")
    __import__(module)
    run = getattr(sys.modules[module], name)
    _limit(limits)
    _send({"stage": "ready"})
    for line in sys.stdin.buffer:
        _send({"result": run(json.loads(line))})


def _end_with(parent: int) -> None:
    """End this process soon after its parent, whatever it is computing."""
    while os.getppid() == parent:
        time.sleep(1)
    os._exit(1)


def _limit(limits: Limits) -> None:
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # reaching a limit is not a crash
    if limits.cpu_seconds is not None:
        lower(resource.RLIMIT_CPU, ceil(time.process_time()) + limits.cpu_seconds)
    if limits.memory is not None:
        limit_memory(limits.memory)


def limit_memory(memory: int) -> None:
    """Let this process take `memory` bytes more than it has, where the system tells that: Linux."""
    with suppress(OSError, ValueError):
        pages = int(Path("/proc/self/statm").read_text("ascii").split()[0])
        lower(resource.RLIMIT_AS, pages * resource.getpagesize() + memory)


def lower(limit: int, wanted: int) -> None:
    """Set a limit of this process (`resource.RLIMIT_...`), unless it is lower already."""
    soft, hard = resource.getrlimit(limit)
    others = [each for each in (soft, hard) if each != resource.RLIM_INFINITY]
    resource.setrlimit(limit, (min([wanted, *others]), hard))


def _main() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's
    # The module under its own name: `tell` must find the state that `_serve` sets.
    sys.path.insert(0, _PROJECT)
    from runtime.common import child

    given = json.loads(sys.argv[1])
    child._serve(given["function"], child.Limits(**given["limits"]))


if __name__ == "__main__":
    _main()
