"""Ctrl-C to a command, and how soon it ends."""

from __future__ import annotations

import resource
import signal
import subprocess

import psutil


def interrupt(process: subprocess.Popen[str]) -> tuple[str, float]:
    """What a command says on stderr until it has ended, and the CPU seconds until then.

    The clock would count what other programs do meanwhile; it only bounds the wait.
    """
    used = sum(psutil.Process(process.pid).cpu_times()[:4])  # with its children's
    before = _children()
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    return said, _children() - before - used


def _children() -> float:
    """CPU seconds of the children that have ended."""
    ended = resource.getrusage(resource.RUSAGE_CHILDREN)
    return ended.ru_utime + ended.ru_stime
