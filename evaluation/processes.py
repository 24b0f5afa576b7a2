"""Finds and kills the processes of a pipeline under test."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterable
from contextlib import suppress

import psutil


class Processes:
    """A started process and all below it.

    Args:
        started: the leader of its own process group.
        wrapped: whether it is `evaluation.hiding.wrapper` around the pipeline: its child is the
            init of a PID namespace, and all processes below that belong to the pipeline.
    """

    def __init__(self, started: subprocess.Popen[bytes], wrapped: bool) -> None:
        self._started = started
        self._top = psutil.Process(started.pid)
        self._wrapped = wrapped
        self._seen: set[psutil.Process] = set()

    def all(self) -> list[psutil.Process]:
        """The started process and all below it."""
        below = _below(self._top)
        self._seen.update(below)
        return [self._top, *below]

    def of_the_pipeline(self) -> list[psutil.Process]:
        """The pipeline's own processes."""
        if not self._wrapped:
            return self.all()
        return [each for init in _children(self._top) for each in _below(init)]

    def first(self) -> psutil.Process | None:
        """The pipeline's first process; None if it has ended."""
        if not self._wrapped:
            return self._top
        candidates = [each for init in _children(self._top) for each in _children(init)]
        return min(candidates, key=psutil.Process.create_time, default=None)

    def kill(self) -> None:
        """Kill all processes, and wait until they have ended.

        A PID namespace with all its processes ends with its init. Without a namespace, a process
        is missed if it left the process group and its parents ended before they were seen.
        """
        if self._wrapped and (inits := _children(self._top)):
            _kill_all(inits)  # and the started process ends when the namespace has
        else:
            self.all()
            with suppress(ProcessLookupError):
                os.killpg(self._started.pid, signal.SIGKILL)
            _kill_all(self._seen)
        self._started.wait()


def _kill_all(processes: Iterable[psutil.Process]) -> None:
    for each in processes:
        with suppress(psutil.Error):  # it has ended
            each.kill()
    psutil.wait_procs(processes, timeout=1)


def _children(process: psutil.Process) -> list[psutil.Process]:
    with suppress(psutil.Error):
        return process.children()
    return []


def _below(process: psutil.Process) -> list[psutil.Process]:
    with suppress(psutil.Error):
        return process.children(recursive=True)
    return []
