"""Starts and stops the server: the socket first, then the pipeline, then uvicorn on both."""

from __future__ import annotations

import asyncio
import logging
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

import uvicorn

from runtime.common.errors import SetupError
from runtime.pipeline import loadPipeline
from runtime.serve.app import make_app
from runtime.serve.batches.store import Store
from runtime.serve.options import KEY_VARIABLE, Options
from runtime.serve.web.connections import PatientProtocol, allow_many
from runtime.serve.web.keys import Keys
from runtime.settings import Settings

log = logging.getLogger(__name__)

_BACKLOG = 128  # connections that asyncio accepts at once
# Seconds: longer than proxies keep an idle connection, nginx 60, so that they close it.
_KEEP_ALIVE = 75
# Seconds in which requests that are ended at a stop can send their error.
_LAST_WORDS = 3.0
_LOCAL = ("127.0.0.1", "localhost", "::1")


def run(options: Options, settings: Settings | None = None) -> int:
    """Serve until asked to stop (SIGTERM, Ctrl-C); returns the exit status.

    Raises:
        SetupError: the address cannot be listened on, or the pipeline cannot be set up.
        EngineError: a file that llama.cpp cannot load.
    """
    settings = settings or Settings.load()
    if options.max_model_len is not None:
        settings = settings.model_copy(update={"max_model_len": options.max_model_len})
    allow_many()
    keys = Keys(options.api_key, options.api_keys_file)
    if options.api_keys_file:
        signal.signal(signal.SIGHUP, lambda *_: keys.reload())
    PatientProtocol.unread = min(PatientProtocol.unread, options.deadline)
    store = Store(options.batch_dir, options.file_days) if options.batch_dir else None
    # Before the pipeline: it is slow to load, and its offline guard blocks looking up names.
    with _listening(options) as listener, loadPipeline(settings) as pipeline:
        if options.host not in _LOCAL and not keys:
            log.warning(
                "no API key set: anyone who can reach %s can use this server; %s sets one",
                options.host,
                KEY_VARIABLE,
            )
        app = make_app(pipeline, options, keys, store)
        config = uvicorn.Config(
            app,
            log_config=None,
            access_log=False,
            timeout_graceful_shutdown=round(options.grace + _LAST_WORDS),
            backlog=_BACKLOG,
            http=PatientProtocol,
            timeout_keep_alive=_KEEP_ALIVE,
            server_header=False,
        )
        host, port = listener.getsockname()[:2]
        shown = f"[{host}]" if ":" in host else host
        log.info("serving on http://%s:%d", shown, port)
        with _own_signals():
            _Server(config, options.grace, app.state.service.break_off).run(sockets=[listener])
    return 0


@contextmanager
def _own_signals() -> Iterator[None]:
    """Leave signals to uvicorn: `command.run` would end the process in less than a second."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    wakeup = signal.set_wakeup_fd(-1)
    try:
        yield
    finally:
        signal.set_wakeup_fd(wakeup)


class _Server(uvicorn.Server):
    """Ends with status 0 when asked to stop: uvicorn's own would raise the signal again.

    Running requests may take `grace` seconds; `break_off` then ends the rest.
    """

    def __init__(self, config: uvicorn.Config, grace: float, break_off: Callable[[], None]) -> None:
        super().__init__(config)
        self._grace, self._break_off = grace, break_off

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        asyncio.get_running_loop().call_later(self._grace, self._break_off)
        await super().shutdown(sockets)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        super().handle_exit(sig, frame)
        if sig == signal.SIGTERM and threading.current_thread() is threading.main_thread():
            self._captured_signals.clear()


def _listening(options: Options) -> socket.socket:
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            options.host, options.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listener = socket.socket(family, kind, protocol)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
    except OSError as error:
        raise SetupError(
            f"cannot listen on {options.host}:{options.port} ({error.strerror}): choose another"
            " with --host and --port"
        ) from None
    return listener
