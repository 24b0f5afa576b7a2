"""What holds in a process that was forked from one that had loaded something."""

from __future__ import annotations

import os


class Maker:
    """The process that made something which no process forked from it can use."""

    def __init__(self) -> None:
        self._pid = os.getpid()

    @property
    def is_here(self) -> bool:
        """Whether this is that process."""
        return os.getpid() == self._pid

    def why_refused(self, what: str) -> str:
        """An error's message, or "" in the process that made it."""
        if self.is_here:
            return ""
        return (
            f"{what} was loaded in process {self._pid}, of which this one is a fork, and threads"
            " are not forked: load it in each process (gunicorn without --preload,"
            " multiprocessing with the start method spawn)"
        )
