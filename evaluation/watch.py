"""Measures the memory of a pipeline's processes, and the CPU time of other programs."""

from __future__ import annotations

import os
import time
from contextlib import suppress
from pathlib import Path

import psutil

from evaluation import machine
from evaluation.processes import Processes


class Watch:
    """Peak memory of a pipeline's processes, and CPU time of other programs during a call.

    Memory that several processes share is counted once (Linux's PSS) at each call of `look`; for a
    single process the peak is Linux's VmHWM. GPU memory is the increase since before the start, as
    other programs may use the GPU too.

    Attributes:
        peak: bytes.
        gpu_peak: bytes, or None without a GPU.

    Args:
        gpu_before: bytes of GPU memory in use before the pipeline started, or None.
    """

    def __init__(self, processes: Processes, gpu_before: int | None) -> None:
        self.peak = 0
        self.gpu_peak = None if gpu_before is None else 0
        self._processes = processes
        self._gpu_before = gpu_before or 0
        self._cpu_before = 0.0

    def look(self) -> float:
        """Measure now; returns the seconds that it took.

        It takes milliseconds, as all processes of the machine are looked through.
        """
        started = time.perf_counter()
        here = self._processes.of_the_pipeline()
        together = sum(map(_shared_bytes, here)) if len(here) > 1 else 0
        self.peak = max(self.peak, together, *map(_most_bytes, here))
        if self.gpu_peak is not None:
            used = (machine.gpu_memory() or 0) - self._gpu_before
            self.gpu_peak = max(self.gpu_peak, used)
        return time.perf_counter() - started

    def start(self) -> None:
        """The call begins."""
        self._cpu_before = self._cpu_of_others()

    def stop(self) -> float:
        """The call has ended; returns the CPU seconds of other programs during it.

        The system counts in hundredths of a second.
        """
        return max(0.0, self._cpu_of_others() - self._cpu_before)

    def _cpu_of_others(self) -> float:
        """CPU seconds of the whole machine without those of the pipeline and this process."""
        own = os.times()
        pipeline = sum(map(_cpu, self._processes.all()))
        return _busy() - pipeline - own.user - own.system


def _busy() -> float:
    """CPU seconds used since the system started, including stolen time."""
    times = psutil.cpu_times()
    # The time of guests is part of the user time.
    parts = ("user", "nice", "system", "irq", "softirq", "steal")
    return float(sum(getattr(times, part, 0.0) for part in parts))


def _cpu(process: psutil.Process) -> float:
    """CPU seconds of a process and of its children that have ended."""
    with suppress(psutil.Error):
        times = process.cpu_times()
        below = getattr(times, "children_user", 0.0) + getattr(times, "children_system", 0.0)
        return float(times.user + times.system + below)
    return 0.0


def _shared_bytes(process: psutil.Process) -> int:
    with suppress(psutil.Error):
        info = process.memory_full_info()
        return int(getattr(info, "pss", info.rss))
    return 0


def _most_bytes(process: psutil.Process) -> int:
    with suppress(OSError):
        for line in Path(f"/proc/{process.pid}/status").read_text(encoding="utf-8").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    with suppress(psutil.Error):
        return int(process.memory_info().rss)
    return 0
