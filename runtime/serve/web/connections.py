"""Connections of clients: idle ones do not keep others out."""

from __future__ import annotations

import asyncio
import errno
import logging
import resource
import time
from typing import Any

from uvicorn.protocols.http.auto import AutoHTTPProtocol

log = logging.getLogger(__name__)

# Seconds in which the head of a request has to come, and between two log lines of a kind.
PATIENCE = 30.0
_QUIET = 10.0
# File descriptors left for files, children, and connections that are accepted meanwhile.
_OTHERS = 48


class PatientProtocol(AutoHTTPProtocol):  # type: ignore[valid-type, misc]
    """uvicorn's protocol, which alone would wait forever for the head of a request.

    A connection that sends none in time is closed, and so is one that reads nothing of what it is
    sent for `unread` seconds; where file descriptors run out, the oldest idle ones are closed.
    """

    unread = 60.0

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self._began = time.monotonic()
        self._waiting: asyncio.TimerHandle | None = None
        self._blocked: asyncio.TimerHandle | None = None
        self._wait()
        too_many = len(self.connections) - _most_connections()
        if too_many > 0:
            idle = [each for each in self.connections if each is not self and each.is_idle]
            for each in sorted(idle, key=lambda each: each._began)[:too_many]:
                self.connections.discard(each)
                each.transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_waiting()
        self._stop_blocked()
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        super().pause_writing()
        loop = asyncio.get_running_loop()
        self._blocked = loop.call_later(self.unread, self.transport.abort)

    def resume_writing(self) -> None:
        self._stop_blocked()
        super().resume_writing()

    def timeout_keep_alive_handler(self) -> None:
        if not self._abort_if_unread():
            super().timeout_keep_alive_handler()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if not self.is_idle:
            self._stop_waiting()
        elif self._waiting is None:  # the beginning of a further request
            self._wait()

    @property
    def is_idle(self) -> bool:
        """Whether no request has come whose answer is not sent."""
        return self.cycle is None or bool(self.cycle.response_complete)

    def _wait(self) -> None:
        loop = asyncio.get_running_loop()
        self._waiting = loop.call_later(PATIENCE, self._close_if_idle)

    def _stop_waiting(self) -> None:
        if self._waiting is not None:
            self._waiting.cancel()
            self._waiting = None

    def _close_if_idle(self) -> None:
        self._waiting = None
        if self.is_idle and not self._abort_if_unread() and not self.transport.is_closing():
            self.transport.close()

    def _stop_blocked(self) -> None:
        if self._blocked is not None:
            self._blocked.cancel()
            self._blocked = None

    def _abort_if_unread(self) -> bool:
        """Drop a connection whose client has not read everything: closing would wait for that."""
        unread = bool(self.transport.get_write_buffer_size())
        if unread:
            self.transport.abort()
        return unread


def allow_many() -> None:
    """Have as many file descriptors as this process may: each connection takes one."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    except (OSError, ValueError):
        log.debug("the limit of file descriptors stays", exc_info=True)


def log_briefly(loop: asyncio.AbstractEventLoop) -> None:
    """Log a lack of file descriptors in a line now and then, not in a traceback each time."""
    last = 0.0

    def handle(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        nonlocal last
        error = context.get("exception")
        if not isinstance(error, OSError) or error.errno not in (errno.EMFILE, errno.ENFILE):
            loop.default_exception_handler(context)
        elif time.monotonic() - last > _QUIET:
            last = time.monotonic()
            log.warning("too many connections: new ones wait (%s; see ulimit -n)", error.strerror)

    loop.set_exception_handler(handle)


def _most_connections() -> int:
    """Connections that there are file descriptors for, beside those that the server needs."""
    most, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return max(1, most - _OTHERS)
