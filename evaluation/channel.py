"""The pipe between the evaluation and the process of the pipeline under test: lines of JSON.

Each message gets the time of this process's clock when its last byte arrives. Messages come from
an untrusted process: they may have any content and size and come at any time.
"""

from __future__ import annotations

import json
import queue
import socket
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Self

_LONGEST = 256 << 20  # bytes of a message


class ChannelError(Exception):
    """A message is not a line of JSON; the error says what is wrong with it."""


@dataclass(frozen=True)
class Message:
    """A line and the time of its arrival (`time.perf_counter`); the line is None at the end."""

    line: bytes | None
    at: float

    def json(self) -> Any:
        """The parsed line. Raises ChannelError."""
        line = self.line or b""
        if not line.endswith(b"\n"):
            long = len(line) >= _LONGEST
            raise ChannelError(f"it is over {_LONGEST >> 20} MiB" if long else "it is incomplete")
        try:
            return json.loads(line)
        except (ValueError, RecursionError):  # UnicodeDecodeError is a ValueError
            raise ChannelError("it is not JSON") from None


class Channel:
    """This end of the pipe. A context manager, which closes both ends.

    Attributes:
        theirs: the other end, for the process to inherit; close it here after that.
    """

    def __init__(self) -> None:
        self._ours, self.theirs = socket.socketpair()
        self._came: queue.SimpleQueue[Message] = queue.SimpleQueue()
        threading.Thread(target=self._read, daemon=True).start()

    def send(self, message: Any) -> float:
        """Send a message in the background; returns the time before its first byte."""
        data = json.dumps(message).encode() + b"\n"
        at = time.perf_counter()
        threading.Thread(target=self._send, args=[data], daemon=True).start()
        return at

    def receive(self, timeout: float) -> Message | None:
        """The next message, or None if none comes within `timeout` seconds."""
        with suppress(queue.Empty):
            return self._came.get(timeout=timeout)
        return None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        with suppress(OSError):
            self._ours.shutdown(socket.SHUT_RDWR)  # which ends both threads
        self._ours.close()
        self.theirs.close()

    def _send(self, data: bytes) -> None:
        with suppress(OSError):  # the process has ended, which is noticed elsewhere
            self._ours.sendall(data)

    def _read(self) -> None:
        with suppress(OSError, ValueError), self._ours.makefile("rb") as file:
            while line := file.readline(_LONGEST):
                self._came.put(Message(line, time.perf_counter()))
        self._came.put(Message(None, time.perf_counter()))
