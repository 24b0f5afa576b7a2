"""Servers for benchmarks: started for a work, and ended with a block."""

from __future__ import annotations

import os
import re
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from benchmarks.contenders.work import Work
from runtime.common.errors import SetupError
from runtime.settings import PROJECT_DIR, all_settings, declared_subjects

_STARTING = 120.0


@dataclass(frozen=True)
class Server:
    """A running server: host and port, and its process."""

    address: str
    process: psutil.Process

    def resident(self) -> int:
        """Bytes of memory of the process and those that it started."""
        total = 0
        for process in [self.process, *self.process.children(recursive=True)]:
            try:
                total += process.memory_info().rss
            except psutil.NoSuchProcess:
                continue
        return total


@contextmanager
def started(command: Sequence[str | Path], environment: dict[str, str]) -> Iterator[Server]:
    """A server that says where it serves, ended with the block. Raises SetupError."""
    with tempfile.TemporaryDirectory() as folder:
        said = Path(folder, "said")
        with said.open("wb") as stderr:
            process = subprocess.Popen(
                command, cwd=PROJECT_DIR, env=environment, stdin=subprocess.PIPE, stderr=stderr
            )
        try:
            end = time.monotonic() + _STARTING
            while True:
                text = said.read_text("utf-8", "replace")
                if found := re.search(r"serving on http://(\S+)", text):
                    break
                if process.poll() is not None or time.monotonic() > end:
                    lines = text.strip().splitlines() or ["it said nothing"]
                    raise SetupError(f"a server did not start: {lines[-1]}")
                time.sleep(0.1)
            time.sleep(1)  # it says so just before it does
            yield Server(found[1], psutil.Process(process.pid))
        finally:
            process.terminate()
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def environment_for(work: Work, routes: dict[str, Path]) -> dict[str, str]:
    """The environment of `runtime.serve` for a work; adapters by their subjects' settings."""
    own = {setting.name for setting in all_settings(declared_subjects())}
    plain = {name: value for name, value in os.environ.items() if name not in own}
    return {
        **plain,
        "MODEL_NAME": work.model,
        "BATCH_SIZE": str(work.slots),
        "NUM_THREADS": str(work.threads),
        "MAX_INPUT_TOKENS": str(work.cells - work.new_tokens),
        "MAX_NEW_TOKENS": str(work.new_tokens),
        "MIN_NEW_TOKENS": "0",
        "TEMPERATURE": "0",
        "DEVICE_MAP": "cpu",
        "ALGEBRA_TOOL": "off",
        **{setting: str(path) for setting, path in routes.items()},
    }


def find_adapters(folder: Path, questions: Sequence[dict[str, Any]]) -> dict[str, Path]:
    """The adapter of each subject that is asked, by its setting, in the order of settings.

    Raises:
        SetupError: a subject has none, or several.
    """
    declared = declared_subjects()
    asked = {declared.of(question["subject"]) for question in questions}
    found = {}
    for subject in sorted(asked, key=lambda subject: subject.setting):
        files = list(folder.glob(f"*-lora-{subject.name}.gguf"))
        if len(files) != 1:
            raise SetupError(f"{folder}: {len(files)} files *-lora-{subject.name}.gguf, not one")
        found[subject.setting] = files[0].resolve()
    return found
