"""Folders that one run at a time may use."""

from __future__ import annotations

import fcntl
import time
from pathlib import Path
from typing import IO

from runtime.common.errors import UserError


def locked(folder: Path, patience: float = 0.0) -> IO[str]:
    """Lock a folder until the file that this returns is closed or its processes have ended.

    Args:
        folder: gets a file `.lock`, which stays there.
        patience: seconds to wait for the run that has it.

    Raises:
        UserError: another run is using the folder.
        OSError: the folder cannot be written.
    """
    lock = (folder / ".lock").open("w")
    deadline = time.monotonic() + patience
    while True:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return lock
        except BlockingIOError:
            if time.monotonic() > deadline:
                lock.close()
                raise UserError(f"{folder}: another run is using it") from None
            time.sleep(0.1)
        except OSError:  # some network file systems have no locks
            return lock
