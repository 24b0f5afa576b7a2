"""What a judge model has said, kept on disk, so that no question is paid for twice."""

from __future__ import annotations

from pathlib import Path

from runtime.common.journal import Journal


class ReplyCache:
    """Replies by key, in a journal. Each is on disk as soon as it is put.

    Args:
        path: the file; it and its folder are made when first needed. None keeps nothing.

    Raises:
        UserError: the file is of another kind.
        OSError: it cannot be read.
    """

    def __init__(self, path: Path | None) -> None:
        self.path = path
        self._replies: dict[str, str] = {}
        self._journal: Journal | None = None
        if path is not None and path.exists():
            self._journal = Journal(path)
            for _, entry in self._journal.entries():
                if isinstance(entry, dict):
                    key, reply = entry.get("key"), entry.get("reply")
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
        if self._journal is None:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._journal = Journal(self.path)
        self._journal.append({"key": key, "reply": reply})
