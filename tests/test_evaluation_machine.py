"""What a run runs on."""

from __future__ import annotations

import os
import re
import sys
from types import SimpleNamespace

import pytest

from evaluation import machine


def test_the_machine_is_told_without_its_name() -> None:
    assert re.fullmatch(r".+, \d+ cores, \d+ GiB, .+", machine.describe())
    assert os.uname().nodename not in machine.describe()


def test_gpus_belong_to_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    nvml = SimpleNamespace(
        nvmlInit=lambda: None,
        nvmlDeviceGetCount=lambda: 2,
        nvmlDeviceGetHandleByIndex=lambda index: index,
        nvmlDeviceGetName=lambda gpu: "NVIDIA T4",
        nvmlDeviceGetMemoryInfo=lambda gpu: SimpleNamespace(used=100 + gpu),
    )
    monkeypatch.setitem(sys.modules, "pynvml", nvml)
    machine._gpus.cache_clear()
    assert machine.describe().endswith(", 2 x NVIDIA T4")
    assert machine.gpu_memory() == 201
    machine._gpus.cache_clear()
