"""llama.cpp as a library: its log, its start, handles with one owner, a first check of files."""

from __future__ import annotations

import ctypes
import logging
import struct
import threading
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import llama_cpp as llama

from runtime.common.errors import UserError
from runtime.common.forks import Maker
from runtime.common.machine import cpus
from runtime.engine.calls import Callbacks, undisturbed

log = logging.getLogger(__name__)


class EngineError(UserError):
    """llama.cpp could not do something; the message says what and why."""


_log_lock = threading.Lock()
_log_before: Any = None
_captures: list[list[str]] = []
# llama.cpp's levels: 3 is a warning, 4 an error, 5 goes on with the line before.
_WARNING_LEVELS = (3, 4)
_CONTINUED = 5
_last_level = 0


def _collect(level: int, text: bytes, _: Any) -> None:
    global _last_level
    level = _last_level if level == _CONTINUED else level
    _last_level = level
    message = text.decode("utf-8", "replace").strip()
    if message:
        log.debug("llama.cpp: %s", message)
        if level in _WARNING_LEVELS:
            for lines in list(_captures):
                lines.append(message)


_log_callbacks = Callbacks()
_log_callback = _log_callbacks.wrap(llama.llama_log_callback, _collect)


@contextmanager
def captured_log() -> Iterator[list[str]]:
    """Collect llama.cpp's warnings and errors instead of printing them.

    The logger is global in llama.cpp: several captures at a time all get what it says, and after
    the last one the logger is what it was. Use it only in what is `undisturbed` or `abandonable`:
    llama.cpp calls Python back.
    """
    global _log_before
    lines: list[str] = []
    with _log_lock:
        if not _captures:
            before, user_data = llama.llama_log_callback(), ctypes.c_void_p()
            llama.llama_log_get(ctypes.byref(before), ctypes.byref(user_data))
            llama.llama_log_set(_log_callback, ctypes.c_void_p(0))
            _log_before = before, user_data
        _captures.append(lines)
    try:
        yield lines
    finally:
        with _log_lock:
            _captures[:] = [capture for capture in _captures if capture is not lines]
            if not _captures:
                llama.llama_log_set(*_log_before)
    _log_callbacks.check()


def with_log(lines: list[str]) -> str:
    """The last of the collected lines, to append to an error message."""
    return f" (llama.cpp: {'; '.join(lines[-3:])})" if lines else ""


@undisturbed
def start_backend() -> None:
    """Start llama.cpp; a second call does nothing."""
    # llama-cpp-python prints every line of llama.cpp's log unless a level is set.
    printer = logging.getLogger("llama-cpp-python")
    if printer.level == logging.NOTSET:
        printer.setLevel(logging.ERROR)
    # llama_backend_init is idempotent; freeing it would break other users of
    # llama.cpp in this process, so it is never freed.
    with captured_log():
        llama.llama_backend_init()


class Handle:
    """An object of llama.cpp with exactly one owner, in the process that made it."""

    def __init__(self, pointer: Any, free: Callable[[Any], None], *keep_alive: Any) -> None:
        self._pointer = pointer
        self._maker = maker = Maker()

        def end(pointer: Any, *_: Any) -> None:
            if maker.is_here:  # what a forked process has is a copy of it, without its threads
                free(pointer)

        # `keep_alive` is held by the finalizer, so that what this handle needs outlives it.
        self._finalizer = weakref.finalize(self, end, pointer, *keep_alive)

    @property
    def pointer(self) -> Any:
        """For llama.cpp; None once it is closed. Raises EngineError in a forked process."""
        if problem := self._maker.why_refused("this model"):
            raise EngineError(problem)
        return self._pointer

    @property
    def closed(self) -> bool:
        return not self._finalizer.alive

    def close(self) -> None:
        """Free it. A second call does nothing."""
        self._finalizer()
        self._pointer = None


def check_gguf(path: Path) -> None:
    """Refuse files that cannot be whole GGUF files before llama.cpp reads them.

    The magic, version and counts are those of the GGUF specification
    (github.com/ggml-org/ggml/blob/master/docs/gguf.md).
    """
    if not path.is_file():
        raise EngineError(f"{path}: no such file")
    size = path.stat().st_size
    with path.open("rb") as file:
        head = file.read(24)
    if len(head) < 24 or head[:4] != b"GGUF":
        raise EngineError(f"{path}: not a GGUF file ({size} bytes, starts with {head[:4]!r})")
    version, n_tensors, n_values = struct.unpack("<IQQ", head[4:])
    if version not in (2, 3):
        raise EngineError(f"{path}: GGUF version {version} is not supported, only 2 and 3")
    # Every tensor and every value takes at least this much; more means a broken header.
    if n_tensors * 24 + n_values * 12 > size:
        raise EngineError(f"{path}: broken GGUF header or truncated file ({size} bytes)")


def physical_cores() -> int:
    """Threads that can compute at once in this process (see `runtime.common.machine`)."""
    return cpus().cores
