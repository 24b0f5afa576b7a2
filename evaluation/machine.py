"""Describes the machine, and measures GPU memory."""

from __future__ import annotations

import importlib
import os
from collections import Counter
from functools import cache
from typing import Any

import psutil

from runtime.common.machine import cpu_name


def describe() -> str:
    """CPU, cores, memory and GPU, such as "AMD EPYC 9B45, 2 cores, 8 GiB, no GPU"."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    memory = round(psutil.virtual_memory().total / 2**30)
    return (
        f"{' '.join(cpu_name().split())}, {cores} cores, {memory} GiB, {_gpu_names() or 'no GPU'}"
    )


def gpu_memory() -> int | None:
    """Bytes in use on all GPUs, by any process; None without a GPU or nvidia-ml-py.

    The whole GPU is measured, because the driver's process ids are not valid in a container.
    """
    nvml, gpus = _gpus()
    return sum(int(nvml.nvmlDeviceGetMemoryInfo(gpu).used) for gpu in gpus) if gpus else None


def _gpu_names() -> str:
    nvml, gpus = _gpus()
    names = Counter(nvml.nvmlDeviceGetName(gpu) for gpu in gpus)
    return ", ".join(f"{n} x {name}" if n > 1 else name for name, n in names.items())


@cache
def _gpus() -> tuple[Any, list[Any]]:
    """NVIDIA's library and its GPUs; None and no GPUs if either is missing."""
    try:
        nvml: Any = importlib.import_module("pynvml")
        nvml.nvmlInit()
        n = nvml.nvmlDeviceGetCount()
        return nvml, [nvml.nvmlDeviceGetHandleByIndex(index) for index in range(n)]
    except Exception:  # no package, driver or permission
        return None, []
