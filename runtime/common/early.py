"""Ctrl-C while one of this project's commands is being imported or has ended: no traceback."""

from __future__ import annotations

import atexit
import os
import signal
import sys
from contextlib import suppress
from types import FrameType

from runtime.common import PACKAGES

INTERRUPTED = 130  # the exit status


def _is_our_command() -> bool:
    """Whether Python was started as `python -m` with a module of this project."""
    _, *options = sys.orig_argv
    module = options[options.index("-m") + 1] if "-m" in options[:-1] else ""
    return module.partition(".")[0] in PACKAGES


def _end(number: int, frame: FrameType | None) -> None:
    os.write(2, b"stopped\n")
    os._exit(INTERRUPTED)


if _is_our_command() and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
    with suppress(ValueError):  # not in the main thread
        signal.signal(signal.SIGINT, _end)  # until `command.run` takes over, and after it
        # Python ends with the default handler, and could be killed while it frees modules.
        atexit.register(signal.signal, signal.SIGINT, signal.SIG_IGN)
