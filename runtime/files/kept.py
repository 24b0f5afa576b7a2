"""Completions kept on disk between runs, so that a question asked before needs no model.

A SQLite file: one row a completion, by a hash of everything that its text depends on. Each is
written for good as it comes, so that a killed run keeps what it had, and several processes may
share the file. What has not been asked for longest goes first when the file is full.
"""

from __future__ import annotations

import hashlib
import logging
import sqlite3
import threading
import time
from collections.abc import Iterable, Mapping
from pathlib import Path

from runtime.common.errors import SetupError
from runtime.engine import EngineOptions, Request
from runtime.engine.library import version
from runtime.files.manifest import ModelFiles
from runtime.files.routes import Route

log = logging.getLogger(__name__)

# Of another form than this, a file is begun anew.
_VERSION = 1
# One of so many rows goes when the file is full.
_SHARE = 8
# How long to wait for another process that writes, in seconds.
_PATIENCE = 5.0


class KeptCompletions:
    """Completions by what was asked; threads and processes may share a file.

    A file that fails later costs nothing but its use: it is logged, and nothing is found.

    Args:
        path: the file; made if it is not there.
        most_bytes: how large it may grow, in bytes of text.

    Raises:
        SetupError: it is not a file of completions, or cannot be written.
    """

    def __init__(self, path: Path, most_bytes: int = 256 * 2**20) -> None:
        self._path = path
        self._most_bytes = most_bytes
        self._lock = threading.Lock()
        try:
            # Threads take turns, by the lock.
            self._database = sqlite3.connect(
                path, timeout=_PATIENCE, isolation_level=None, check_same_thread=False
            )
            self._prepare()
        except sqlite3.Error as error:
            raise SetupError(
                f"ANSWER_CACHE={path}: cannot be used as a file of answers ({error})"
            ) from None

    def close(self) -> None:
        """Close the file. A second call does nothing."""
        with self._lock:
            self._database.close()

    def find(self, key: bytes) -> tuple[str, str] | None:
        """(text, finish reason) of a completion that is kept, else None."""
        try:
            with self._lock:
                row = self._database.execute(
                    "UPDATE completions SET used = ? WHERE key = ? RETURNING text, reason",
                    (time.time(), key),
                ).fetchall()
        except sqlite3.Error as error:
            log.warning("%s cannot be read: %s", self._path, error)
            return None
        return (str(row[0][0]), str(row[0][1])) if row else None

    def keep(self, key: bytes, text: str, reason: str) -> None:
        """Keep a completion; it survives a kill from here on."""
        try:
            with self._lock:
                self._database.execute(
                    "INSERT OR REPLACE INTO completions VALUES (?, ?, ?, ?)",
                    (key, text, reason, time.time()),
                )
                self._trim()
        except (sqlite3.Error, UnicodeEncodeError) as error:
            log.warning("%s: an answer could not be kept: %s", self._path, error)

    def _prepare(self) -> None:
        run = self._database.execute
        run("PRAGMA journal_mode = WAL")
        run("PRAGMA synchronous = NORMAL")
        version = self._number("PRAGMA user_version")
        tables = self._number("SELECT count(*) FROM sqlite_master")
        if tables and version != _VERSION:
            raise sqlite3.DatabaseError(
                f"version {version} instead of {_VERSION}; delete it to begin anew"
            )
        run(
            "CREATE TABLE IF NOT EXISTS completions"
            " (key BLOB PRIMARY KEY, text TEXT, reason TEXT, used REAL)"
        )
        run("CREATE INDEX IF NOT EXISTS by_use ON completions (used)")
        run(f"PRAGMA user_version = {_VERSION}")

    def _trim(self) -> None:
        page = self._number("PRAGMA page_size")
        while True:
            pages = self._number("PRAGMA page_count") - self._number("PRAGMA freelist_count")
            if pages * page <= self._most_bytes:
                return
            gone = self._database.execute(
                "DELETE FROM completions WHERE key IN"
                " (SELECT key FROM completions ORDER BY used LIMIT ?)",
                (self._number("SELECT count(*) FROM completions") // _SHARE + 1,),
            )
            if not gone.rowcount:
                return

    def _number(self, query: str) -> int:
        # All rows are fetched: a statement left open would keep the file as it was.
        return int(self._database.execute(query).fetchall()[0][0])


class Keys:
    """Hashes of all that the text of a completion depends on.

    Args:
        routes: all of them; their files are identified once.
        options: how each model's engine runs.
        files: tells files apart.
    """

    def __init__(
        self,
        routes: Iterable[Route],
        options: Mapping[Path, EngineOptions],
        files: ModelFiles,
    ) -> None:
        self._about = {}
        for route in set(routes):
            runs = options[route.model]
            paths = [route.model, *([route.adapter] if route.adapter else [])]
            self._about[route] = (
                version(),
                runs.cache_type,
                runs.flash_attention,
                *map(files.identity, paths),
            )

    def of(self, route: Route, request: Request) -> bytes:
        """The hash of a request; requests with the same one get the same completion."""
        # At temperature 0 nothing is drawn.
        seed = request.seed if request.params.temperature > 0 else None
        parts = (self._about[route], list(request.prompt), request.params, seed)
        return hashlib.sha256(repr(parts).encode("utf-8", "replace")).digest()
