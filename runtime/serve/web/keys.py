"""The API keys that clients may use: one from the environment, and those of a file."""

from __future__ import annotations

import hashlib
import hmac
import logging
from pathlib import Path

from runtime.common.errors import SetupError

log = logging.getLogger(__name__)


class Keys:
    """Known keys, of which only digests are kept.

    The file has a key in each line; blank lines and those that begin with # are ignored.

    Raises:
        SetupError: the file cannot be read, or has no keys.
    """

    def __init__(self, key: str = "", file: Path | None = None) -> None:
        self._key = [_digest(key.encode())] if key else []
        self._file = file
        self._known = self._read()

    def __len__(self) -> int:
        return len(self._known)

    def reload(self) -> None:
        """Read the file again. If that fails, the keys of before stay, and the log says so."""
        try:
            self._known = self._read()
        except SetupError as error:
            log.error("%s: the API keys stay as they were", error)
        else:
            log.info("%d API keys", len(self._known))

    def find(self, key: bytes) -> str | None:
        """A name for a known key that does not reveal it; else None."""
        given = _digest(key)
        # All are compared, so that the time says nothing about any of them.
        found = [known for known in self._known if hmac.compare_digest(given, known)]
        return found[0].hex()[:16] if found else None

    def _read(self) -> list[bytes]:
        if self._file is None:
            return self._key
        try:
            lines = self._file.read_text("utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
            raise SetupError(f"--api-keys-file {self._file}: {reason}") from None
        keys = [line.strip() for line in lines]
        found = [_digest(key.encode()) for key in keys if key and not key.startswith("#")]
        if not found:
            raise SetupError(f"--api-keys-file {self._file}: it has no keys")
        return list(dict.fromkeys([*self._key, *found]))


def _digest(key: bytes) -> bytes:
    return hashlib.sha256(key).digest()
