"""A server process on the demo, for tests."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

# Servers need these; where one is missing, `make test-fast` skips whoever imports this module.
import prometheus_client  # noqa: F401
import python_multipart  # noqa: F401
import uvicorn

from runtime import Pipeline
from runtime.serve.app import make_app
from runtime.serve.options import Options
from runtime.serve.web.connections import PatientProtocol
from runtime.settings import PROJECT_DIR, all_settings
from tests.conftest import LORAS

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
    """A server on any free port, as `small_settings`; killed at the end.

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
        "ALGEBRA_TOOL": "off",
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


def serve_here(
    pipeline: Pipeline, test: Callable[[httpx.AsyncClient], Awaitable[None]], **options: Any
) -> None:
    """Run an asynchronous test with a client of a server in this process.

    Args:
        options: of `runtime.serve.options.Options`.
    """

    async def run() -> None:
        app = make_app(pipeline, Options(**options))
        transport = httpx.ASGITransport(app)
        async with (
            app.router.lifespan_context(app),
            httpx.AsyncClient(transport=transport, base_url="http://here", timeout=60) as client,
        ):
            await test(client)

    asyncio.run(run())


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


@asynccontextmanager
async def patient_server(app: Any) -> AsyncIterator[tuple[uvicorn.Server, int]]:
    """The server's connections before any ASGI app, in this event loop: the server, its port."""
    config = uvicorn.Config(app, port=0, http=PatientProtocol, log_config=None, lifespan="off")
    server = uvicorn.Server(config)
    task = asyncio.create_task(server.serve())
    while not server.started:
        await asyncio.sleep(0.01)
    yield server, server.servers[0].sockets[0].getsockname()[1]
    server.should_exit = True
    await task
