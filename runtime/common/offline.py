"""Keeps this project and the libraries that it calls off the network.

The guard is an audit hook (PEP 578): Python reports every connection and every name lookup
to it before it is made. A hook cannot be removed, so it is installed once, with the first
guard, and checks whether a guard is active. It sees only this process and Python's own
sockets, not child processes or C code that opens sockets itself. The stack tells who
connects, so what a library does in another thread is stopped only by "process".
"""

from __future__ import annotations

import ipaddress
import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any, Literal

from runtime.common import PACKAGES

Mode = Literal["on", "process", "off"]

# Our own code, recognized by its path: names such as "runtime" are not unique.
_PROJECT_DIR = Path(__file__).resolve().parents[2]
_OURS = tuple(f"{_PROJECT_DIR / name}{os.sep}" for name in PACKAGES)
# Libraries that would fetch models on their own.
GUARDED_LIBRARIES = frozenset(
    ["llama_cpp", "gguf", "transformers", "huggingface_hub", "datasets", "peft"]
    + ["tokenizers", "accelerate", "safetensors", "torch"]
)
# Audit events that name a host, and where in their arguments.
_HOST_ARGUMENT = {
    "socket.connect": 1,
    "socket.sendto": 1,
    "socket.sendmsg": 1,
    "socket.getaddrinfo": 0,
    "socket.gethostbyname": 0,
    "socket.gethostbyaddr": 0,
    "socket.getnameinfo": 0,
}
_OFFLINE_VARIABLES = ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "HF_DATASETS_OFFLINE")

# A guard that is dropped ends when the garbage collector finds it. That may happen anywhere, also
# here: so the lock can be taken twice, and what to do is decided after each change.
_lock = threading.RLock()
_active: list[Mode] = []  # modes of the guards now held
_before: dict[str, Any] = {}  # what the first guard found and the last puts back
_installed = False


class OfflineError(ConnectionError):
    """A connection was stopped by the offline guard."""


@contextmanager
def guard(mode: Mode) -> Iterator[None]:
    """Hold the guard: "on" blocks this project and `GUARDED_LIBRARIES`, "process"
    everything, "off" nothing.

    Meanwhile the Hugging Face libraries are in offline mode. Connections to this machine
    itself (loopback addresses, Unix sockets) are let through.
    """
    if mode == "off":
        yield
        return
    _begin(mode)
    try:
        yield
    finally:
        _end(mode)


def _begin(mode: Mode) -> None:
    global _installed
    with _lock:
        if not _installed:
            sys.addaudithook(_hook)
            _installed = True
        _active.append(mode)
        if not _before:
            _before["variables"] = {name: os.environ.get(name) for name in _OFFLINE_VARIABLES}
            os.environ.update(dict.fromkeys(_OFFLINE_VARIABLES, "1"))
            # huggingface_hub reads its variable on import only; tell it if that is past.
            constants = sys.modules.get("huggingface_hub.constants")
            if constants is not None:
                _before["hub"] = constants.HF_HUB_OFFLINE
                constants.HF_HUB_OFFLINE = True  # type: ignore[attr-defined]


def _end(mode: Mode) -> None:
    with _lock:
        _active.remove(mode)
        if _active or not _before:
            return
        variables = _before.pop("variables")
        for name, value in variables.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
        constants = sys.modules.get("huggingface_hub.constants")
        if constants is not None:  # if it was imported meanwhile, it read our variable
            wanted = (variables["HF_HUB_OFFLINE"] or "").upper() in ("1", "ON", "YES", "TRUE")
            constants.HF_HUB_OFFLINE = _before.pop("hub", wanted)  # type: ignore[attr-defined]


def _hook(event: str, args: tuple[Any, ...]) -> None:
    if event not in _HOST_ARGUMENT or not _active:
        return
    address = args[_HOST_ARGUMENT[event]]
    # Only addresses of the internet are (host, port, ...): others, such as the path of a
    # Unix socket, do not leave the machine.
    named = event.startswith("socket.get") and event != "socket.getnameinfo"
    host = address if named else address[0] if isinstance(address, tuple) and address else None
    if isinstance(host, (bytes, bytearray)):
        host = host.decode("ascii", "replace")
    if not isinstance(host, str) or _is_local(host):
        return
    if "process" in _active or _called_by_guarded(sys._getframe(1)):
        raise OfflineError(
            f"the offline guard stopped a connection to {host!r}: answering needs no network."
            " OFFLINE_GUARD=off turns the guard off."
        )


def _is_local(host: str) -> bool:
    if host.lower() in ("", "localhost"):
        return True
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return False
    if isinstance(address, ipaddress.IPv6Address):
        address = address.ipv4_mapped or address
    return address.is_loopback or address.is_unspecified


def _called_by_guarded(frame: FrameType | None) -> bool:
    while frame is not None:
        library = str(frame.f_globals.get("__name__", "")).partition(".")[0]
        if library == "logging":  # the caller decides where log lines go
            return False
        if library in GUARDED_LIBRARIES or frame.f_code.co_filename.startswith(_OURS):
            return True
        frame = frame.f_back
    return False
