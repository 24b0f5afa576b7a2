"""The pipe between the evaluation and the process of the pipeline under test: JSON, line by line.

What comes is stamped with this process's clock when its last byte is there. It is data from an
untrusted process: anything may come, at any time and of any size.
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

# A line of more bytes is no output of any pipeline.
_LONGEST = 256 << 20


class ChannelError(Exception):
    """What came is not a line of JSON; the message says what is wrong with it."""


@dataclass(frozen=True)
class Message:
    """A line that came, and when its end was there, by `time.perf_counter`; None at the end."""

    line: bytes | None
    at: float

    def json(self) -> Any:
        """What it says. Raises ChannelError."""
        line = self.line or b""
        if not line.endswith(b"\n"):
            long = len(line) >= _LONGEST
            raise ChannelError(f"over {_LONGEST >> 20} MiB of it" if long else "it breaks off")
        try:
            return json.loads(line)
        except (ValueError, RecursionError):  # UnicodeDecodeError is a ValueError
            raise ChannelError("it is no JSON") from None


class Channel:
    """This end of the pipe. A context manager: leaving it closes both ends that are here.

    Attributes:
        theirs: the other end, for the process to inherit; to be closed here once it has.
    """

    def __init__(self) -> None:
        self._ours, self.theirs = socket.socketpair()
        self._came: queue.SimpleQueue[Message] = queue.SimpleQueue()
        threading.Thread(target=self._read, daemon=True).start()

    def send(self, message: Any) -> float:
        """Send a message, not waiting until it is read; returns the time before its first byte."""
        data = json.dumps(message).encode() + b"\n"
        at = time.perf_counter()
        threading.Thread(target=self._send, args=[data], daemon=True).start()
        return at

    def receive(self, timeout: float) -> Message | None:
        """The next message, or None if none came within so many seconds."""
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
        with suppress(OSError):  # the process is gone, which is seen elsewhere
            self._ours.sendall(data)

    def _read(self) -> None:
        with suppress(OSError, ValueError), self._ours.makefile("rb") as file:
            while line := file.readline(_LONGEST):
                self._came.put(Message(line, time.perf_counter()))
        self._came.put(Message(None, time.perf_counter()))
