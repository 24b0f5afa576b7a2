"""Runs work in steps and records finished ones in a folder: a killed run continues from there."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Self

from runtime.common.child import command_of
from runtime.common.errors import UserError
from runtime.common.journal import Journal
from runtime.common.lock import locked

_FILE = "steps.jsonl"
_TICK = 10.0  # seconds of work that a kill may leave unrecorded
_PATIENCE = 30.0  # seconds for processes of a killed run to end
_PR_SET_PDEATHSIG = 1


class Steps:
    """The steps of a run in a folder, for one process at a time.

    Args:
        folder: made if it is not there.
        given: what the results depend on, by name. Once a step is finished, a run continues only
            with the same values.

    Raises:
        UserError: the folder is in use, or its run was started with other values.
        OSError: the folder cannot be written.
    """

    def __init__(self, folder: Path, given: Mapping[str, Any]) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._lock = locked(folder, _PATIENCE)
        self._journal = Journal(folder / _FILE)
        self._results: dict[str, Any] = {}
        self.seconds: dict[str, float] = {}
        before = None
        for _, entry in self._journal.entries():
            if "given" in entry:
                before = entry["given"]
            elif "result" in entry:
                self._results[entry["step"]] = entry["result"]
            self._add(entry.get("step"), entry.get("seconds", 0.0))
        other = [name for name in given if before is None or given[name] != before.get(name)]
        if other and not self._results:  # nothing was made from the values before
            self._journal.append({"given": dict(given)})
        elif other:
            self.close()
            raise UserError(
                f"{folder}: was started with another {', '.join(other)}; choose another --out, or"
                " delete the folder"
            )

    def run(
        self,
        step: str,
        module: str,
        *arguments: Sequence[str | Path],
        settings: Mapping[str, str] = {},
    ) -> None:
        """Run a command of this project, unless it has finished before.

        Args:
            step: its name among the steps.
            module: of `python -m`; `arguments` are lists of its arguments.
            settings: environment variables beside those of this process.

        Raises:
            UserError: it failed and printed why.
            KeyboardInterrupt: it was stopped.
        """
        if step in self._results:
            return
        command, environment = command_of(module, *(str(e) for part in arguments for e in part))
        print("$", *(f"{name}={value}" for name, value in settings.items()), end=" ")
        print("python", *command[2:], flush=True)
        process = subprocess.Popen(
            command,
            env={**environment, **settings},
            # If this process is killed, no other run starts while its child still works.
            pass_fds=[self._lock.fileno()],
            preexec_fn=partial(_end_with, os.getpid()),
        )
        try:
            status = self._watched(step, process)
        finally:
            if process.poll() is None:
                process.terminate()
                process.wait()
        if status == 128 + signal.SIGINT:
            raise KeyboardInterrupt
        if status:
            raise UserError(f"python -m {module} ended with status {status}; see above")
        self._finish(step, command)

    def _watched(self, step: str, process: subprocess.Popen[bytes]) -> int:
        """The exit status of a process; its time is recorded as it runs."""
        while True:
            started = time.monotonic()
            try:
                return process.wait(timeout=_TICK)
            except subprocess.TimeoutExpired:
                pass
            finally:
                self._account(step, time.monotonic() - started)

    def do(self, step: str, work: Callable[[], Any]) -> Any:
        """The result of some work, a JSON value; or that of an earlier run."""
        if step not in self._results:
            started = time.monotonic()
            result = work()
            self._account(step, time.monotonic() - started)
            self._finish(step, result)
        return self._results[step]

    def _account(self, step: str, seconds: float) -> None:
        self._journal.append({"step": step, "seconds": round(seconds, 3)})
        self._add(step, seconds)

    def _add(self, step: str | None, seconds: float) -> None:
        if step is not None:
            self.seconds[step] = self.seconds.get(step, 0.0) + seconds

    def _finish(self, step: str, result: Any) -> None:
        self._journal.append({"step": step, "result": result})
        self._results[step] = result

    def close(self) -> None:
        """Release the folder for other processes."""
        self._journal.close()
        self._lock.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _end_with(parent: int) -> None:
    """In a started process: make Linux end it when its parent is killed."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != parent:  # killed before the call
            os._exit(1)
