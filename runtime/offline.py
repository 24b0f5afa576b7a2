"""Keeps this project and the libraries that it calls off the network.

The guard is an audit hook (PEP 578): Python reports every connection to it before it is
made. A hook cannot be removed, so it is installed once, with the first guard, and looks
whether a guard is active.
"""

from __future__ import annotations

import ipaddress
import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any, Literal

Mode = Literal["on", "process", "off"]

# Packages whose code may not connect: ours, and those that would fetch models on their own.
GUARDED = frozenset(
    ["runtime", "inferencePipeline", "convert", "training", "evaluation", "llama_cpp", "gguf"]
    + ["transformers", "huggingface_hub", "datasets", "peft", "tokenizers", "accelerate", "torch"]
)
_EVENTS = frozenset({"socket.connect", "socket.sendto", "socket.sendmsg", "socket.getaddrinfo"})
_OFFLINE_VARIABLES = ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "HF_DATASETS_OFFLINE")

_lock = threading.Lock()
_active: list[Mode] = []  # modes of the guards now held
_installed = False


class OfflineError(ConnectionError):
    """A connection was stopped by the offline guard."""


@contextmanager
def guard(mode: Mode) -> Iterator[None]:
    """Hold the guard: "on" stops `GUARDED` packages, "process" everybody, "off" nobody.

    Meanwhile the Hugging Face libraries are in offline mode. Connections to this machine
    itself (loopback addresses, Unix sockets) are let through.
    """
    if mode == "off":
        yield
        return
    _install()
    before = {name: os.environ.get(name) for name in _OFFLINE_VARIABLES}
    with _lock:
        _active.append(mode)
        os.environ.update(dict.fromkeys(_OFFLINE_VARIABLES, "1"))
        hub_before = _set_hub_offline(True)
    try:
        yield
    finally:
        with _lock:
            _active.remove(mode)
            if not _active:
                _set_hub_offline(hub_before)
                for name, value in before.items():
                    if value is None:
                        os.environ.pop(name, None)
                    else:
                        os.environ[name] = value


def _set_hub_offline(offline: bool) -> bool:
    """huggingface_hub reads its variable on import only; tell it if that is past."""
    constants = sys.modules.get("huggingface_hub.constants")
    if constants is None:
        return False
    before = bool(getattr(constants, "HF_HUB_OFFLINE", False))
    constants.HF_HUB_OFFLINE = offline  # type: ignore[attr-defined]
    return before


def _install() -> None:
    global _installed
    with _lock:
        if not _installed:
            sys.addaudithook(_hook)
            _installed = True


def _hook(event: str, args: tuple[Any, ...]) -> None:
    if event not in _EVENTS or not _active:
        return
    address = args[0] if event == "socket.getaddrinfo" else args[1]
    host = address[0] if isinstance(address, tuple) and address else address
    if not isinstance(host, (str, bytes)) or _is_local(host, event):
        return
    if "process" in _active or _called_by_guarded(sys._getframe(1)):
        shown = host.decode("ascii", "replace") if isinstance(host, bytes) else host
        raise OfflineError(
            f"the offline guard stopped a connection to {shown!r}: answering needs no network."
            " OFFLINE_GUARD=off turns the guard off."
        )


def _is_local(host: str | bytes, event: str) -> bool:
    if isinstance(host, bytes):
        host = host.decode("ascii", "replace")
    if host in ("", "localhost") or (
        event != "socket.getaddrinfo" and host.startswith(("/", "\0"))
    ):
        return True
    try:
        address = ipaddress.ip_address(host.split("%")[0])
    except ValueError:
        return False
    return address.is_loopback or address.is_unspecified


def _called_by_guarded(frame: FrameType | None) -> bool:
    while frame is not None:
        if str(frame.f_globals.get("__name__", "")).partition(".")[0] in GUARDED:
            return True
        frame = frame.f_back
    return False
