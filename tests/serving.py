"""A server process on the demo, for tests."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from runtime.settings import PROJECT_DIR, all_settings

LORAS = PROJECT_DIR / "loras"
_STARTING = 120.0


@dataclass(frozen=True)
class Server:
    """A running server: its address, its process, and where its log lies."""

    url: str
    process: subprocess.Popen[bytes]
    log: Path

    @property
    def address(self) -> tuple[str, int]:
        host, port = self.url.removeprefix("http://").split(":")
        return host, int(port)

    def kill(self) -> None:
        """As `kill -9` does."""
        self.process.kill()
        self.process.wait()

    def stop(self) -> int:
        """Ask it to stop; the exit status."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(60)


@contextmanager
def serving(folder: Path, *arguments: str | Path, **environment: str) -> Iterator[Server]:
    """A server on any free port, with few short slots, greedy; killed at the end.

    Args:
        folder: where its log goes.
        arguments: of the command line.
        environment: further settings.
    """
    known = {setting.name for setting in all_settings()}
    plain = {name: value for name, value in os.environ.items() if name not in known}
    settings = {
        "MODEL_NAME": "demo",
        "ADAPTERS_BASE_DIR": str(LORAS),
        "BATCH_SIZE": "8",
        "MAX_NEW_TOKENS": "24",
        "MIN_NEW_TOKENS": "0",
        "MAX_INPUT_TOKENS": "256",
        "TEMPERATURE": "0",
        "NUM_THREADS": "1",
    }
    log = folder / f"server-{time.monotonic_ns()}.log"
    command = [sys.executable, "-m", "runtime.serve", "--port", "0", *map(str, arguments)]
    with log.open("wb") as stderr:
        process = subprocess.Popen(
            command, cwd=PROJECT_DIR, env={**plain, **settings, **environment}, stderr=stderr
        )
    try:
        yield Server(_address(process, log), process, log)
    finally:
        process.kill()
        process.wait()


def _address(process: subprocess.Popen[bytes], log: Path) -> str:
    """Where it serves, once it does."""
    end = time.monotonic() + _STARTING
    while time.monotonic() < end:
        said = log.read_text("utf-8", "replace")
        found = re.search(r"serving on (http://\S+)", said)
        if found:
            host, port = found[1].removeprefix("http://").split(":")
            try:
                socket.create_connection((host, int(port)), timeout=1).close()
                return found[1]
            except OSError:
                pass
        if process.poll() is not None:
            break
        time.sleep(0.05)
    raise AssertionError(f"the server did not start:\n{log.read_text('utf-8', 'replace')}")
