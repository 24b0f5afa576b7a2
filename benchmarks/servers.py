"""Starts and stops servers for benchmarks."""

from __future__ import annotations

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

from benchmarks.common import plain_environment
from benchmarks.contenders.work import Work
from runtime.common.errors import SetupError
from runtime.settings import PROJECT_DIR, declared_subjects

_STARTING = 120.0  # seconds


@dataclass(frozen=True)
class Server:
    """A running server: its address (host and port) and process."""

    address: str
    process: psutil.Process

    def resident(self) -> int:
        """Resident bytes of the process and its children."""
        total = 0
        for process in [self.process, *self.process.children(recursive=True)]:
            try:
                total += process.memory_info().rss
            except psutil.NoSuchProcess:
                continue
        return total


@contextmanager
def started(command: Sequence[str | Path], environment: dict[str, str]) -> Iterator[Server]:
    """Start a server and read its address from stderr; stop it at the end. Raises SetupError."""
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
                    lines = text.strip().splitlines() or ["no output"]
                    raise SetupError(f"a server did not start: {lines[-1]}")
                time.sleep(0.1)
            time.sleep(1)  # the line is written just before the socket is ready
            yield Server(found[1], psutil.Process(process.pid))
        finally:
            process.terminate()
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def environment_for(work: Work, routes: dict[str, Path]) -> dict[str, str]:
    """The environment of `runtime.serve` for a work; `routes` has adapters by setting."""
    return {
        **plain_environment(),
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
    """The adapters of the subjects of some questions, by setting, in the order of settings.

    Raises:
        SetupError: a subject has no adapter, or several.
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
