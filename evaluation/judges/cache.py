"""What a judge model has said, kept on disk, so that no question is paid for twice."""

from __future__ import annotations

import json
from pathlib import Path


class ReplyCache:
    """Replies by key, in a file of JSON Lines that is only ever appended to.

    Each reply is on disk as soon as it is put. A damaged line, such as a kill in the middle
    of writing leaves, counts as not there.

    Args:
        path: the file; it and its folder are made when first needed. None keeps nothing.

    Raises:
        OSError: the file cannot be read.
    """

    def __init__(self, path: Path | None) -> None:
        self.path = path
        self._replies: dict[str, str] = {}
        if path is not None and path.exists():
            for line in path.read_bytes().splitlines():
                self._load(line)

    def _load(self, line: bytes) -> None:
        try:
            entry = json.loads(line)
            key, reply = entry["key"], entry["reply"]
        except (ValueError, KeyError, TypeError):
            return
        if isinstance(key, str) and isinstance(reply, str):
            self._replies[key] = reply

    def get(self, key: str) -> str | None:
        """The reply that was put under a key, or None."""
        return self._replies.get(key)

    def put(self, key: str, reply: str) -> None:
        """Keep a reply. Raises OSError if it cannot be written."""
        self._replies[key] = reply
        if self.path is None:
            return
        self.path.parent.mkdir(parents=True, exist_ok=True)
        line = json.dumps({"key": key, "reply": reply}).encode() + b"\n"
        with self.path.open("ab+") as file:
            # A line that was cut short must not swallow the next one.
            if file.tell():
                file.seek(-1, 2)
                line = line if file.read(1) == b"\n" else b"\n" + line
            file.write(line)
