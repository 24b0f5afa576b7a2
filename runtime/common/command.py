"""What the commands share: how errors become an exit status."""

from __future__ import annotations

import argparse
import logging
import signal
import sys
from collections.abc import Callable

from runtime.common.errors import UserError


def run(
    command: Callable[[argparse.Namespace], int],
    arguments: argparse.Namespace,
    stopped: str = "stopped; nothing half written is left",
) -> int:
    """Run a command; what it raises for bad input is printed in a line. Returns the status.

    Args:
        command: gets `arguments` and returns the exit status.
        arguments: the parsed command line.
        stopped: what to say after Ctrl-C or SIGTERM.
    """
    logging.basicConfig(level=logging.INFO, format="%(levelname)s: %(message)s", stream=sys.stderr)
    logging.getLogger("gguf").setLevel(logging.WARNING)
    # Asked to end, clean up as after Ctrl-C.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        return command(arguments)
    except (UserError, OSError) as error:
        print(f"error: {explain(error)}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(stopped, file=sys.stderr)
        return 130


def explain(error: Exception) -> str:
    """An error in words; one of the operating system's with the file it is about."""
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename or 'writing'}: {error.strerror}"
    return str(error)
