"""The answer cache: completions kept on disk between runs, so that no model completes them again.

Stored by diskcache, an SQLite database in a folder: whatever was kept survives a kill, several
processes may share a folder, and what was used least recently goes first when it is full.
"""

from __future__ import annotations

import errno
import hashlib
import json
import logging
import sqlite3
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import diskcache

from runtime.common.errors import SetupError
from runtime.engine import EngineOptions, Request
from runtime.engine.library import version
from runtime.files.manifest import ModelFiles
from runtime.files.routes import Route

log = logging.getLogger(__name__)

# Increased when what is kept for a key changes, so that older completions are not found.
_FORMAT = 2
_MOST_BYTES = 256 * 2**20
# How long to wait for another process that writes, in seconds.
_PATIENCE = 5.0
_FAILURES = (sqlite3.Error, diskcache.Timeout, OSError)
# Failures at opening that do not come from a wrong path.
_PASSING = {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR}


class _TextOnly(diskcache.Disk):  # type: ignore[misc]
    """Values are text. Anything else in a database was not written here, and is not unpickled."""

    def fetch(self, mode: int, filename: str | None, value: Any, read: bool) -> str:
        """The text of a row. Raises OSError, which diskcache takes for a missing value."""
        if not isinstance(value, str):
            raise OSError("not text")
        return value


class AnswerCache:
    """Completions by what was asked; for any thread. The folder is made if it is not there.

    A cache that fails after it was opened, as on a full disk, never costs an answer: the failure
    is logged once, and the cache is not used any more.

    Raises:
        SetupError: `folder` is not a folder, or its database is not an answer cache.
    """

    def __init__(self, folder: Path, most_bytes: int = _MOST_BYTES) -> None:
        self._folder = folder
        self._cache: diskcache.Cache | None = None
        if folder.exists() and not folder.is_dir():
            raise SetupError(
                f"ANSWER_CACHE={folder}: not a folder. The cache was a single file in earlier"
                " versions: delete that, or name another path"
            )
        try:
            self._cache = diskcache.Cache(
                folder,
                timeout=_PATIENCE,
                disk=_TextOnly,
                disk_min_file_size=2**30,  # all values in the database
                size_limit=most_bytes,
                eviction_policy="least-recently-used",
            )
        except (sqlite3.Error, OSError) as error:
            code = getattr(error, "sqlite_errorcode", None)
            full = getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT)
            if not full and (code is None or code & 0xFF not in _PASSING):
                raise SetupError(f"ANSWER_CACHE={folder}: not an answer cache ({error})") from None
            self._give_up(error)

    def close(self) -> None:
        """Close the database. A second call does nothing."""
        if self._cache is not None:
            with suppress(*_FAILURES):
                self._cache.close()

    def find(self, key: bytes) -> tuple[str, str] | None:
        """(text, finish reason) of a completion that was kept, else None."""
        kept = self._try(lambda cache: cache.get(key))
        try:
            text, reason = json.loads(kept) if kept else (None, None)
        except ValueError:
            return None
        return (text, reason) if isinstance(text, str) and isinstance(reason, str) else None

    def keep(self, key: bytes, text: str, reason: str) -> None:
        """Keep a completion; it survives a kill from here on."""
        self._try(lambda cache: cache.set(key, json.dumps([text, reason])))

    def _try(self, use: Callable[[diskcache.Cache], Any]) -> Any:
        """What a use of the cache returns; None once the cache has failed."""
        cache = self._cache
        if cache is None:
            return None
        try:
            return use(cache)
        except _FAILURES as error:
            self._give_up(error)
            return None

    def _give_up(self, error: BaseException) -> None:
        reason = str(error) or f"locked by another process for {_PATIENCE:g} seconds"
        log.warning("ANSWER_CACHE=%s: not used from here on: %s", self._folder, reason)
        self.close()
        self._cache = None


class Keys:
    """Hashes of everything that the text of a completion depends on."""

    def __init__(
        self, routes: Iterable[Route], options: Mapping[Path, EngineOptions], files: ModelFiles
    ) -> None:
        self._about = {}
        for route in set(routes):
            runs = options[route.model]
            paths = [route.model, *([route.adapter] if route.adapter else [])]
            self._about[route] = (
                _FORMAT,
                version(),
                runs.cache_type,
                runs.flash_attention,
                *map(files.identity, paths),
            )

    def of(self, route: Route, request: Request) -> bytes:
        """The hash of a request; requests with the same one get the same completion."""
        # At temperature 0 nothing is drawn.
        seed = request.seed if request.params.temperature > 0 else None
        form = request.grammar and request.grammar.constraint
        parts = (self._about[route], list(request.prompt), request.params, seed, form)
        return hashlib.sha256(repr(parts).encode("utf-8", "replace")).digest()
