"""Files and batches as JSON in a folder: whole or not there, whatever kills the server.

FOLDER/files/ID.json      what a file is          FOLDER/files/ID.data      its content
FOLDER/batches/ID.json    a batch's state         FOLDER/batches/ID.journal its answers so far
"""

from __future__ import annotations

import json
import logging
import os
import re
import secrets
import shutil
import time
from collections.abc import Collection
from pathlib import Path
from typing import Any, BinaryIO

from runtime.common.atomic import replacing
from runtime.common.errors import SetupError, UserError
from runtime.common.lock import locked
from runtime.serve.errors import ApiError

log = logging.getLogger(__name__)

JsonDict = dict[str, Any]

# What the records of files and batches have at least.
_FILE: dict[str, type] = {"id": str, "created_at": int, "purpose": str}
_BATCH: dict[str, type] = {
    "id": str,
    "created_at": int,
    "status": str,
    "endpoint": str,
    "input_file_id": str,
    "request_counts": dict,
}
_ID = re.compile(r"(?:file|batch)[-_][A-Za-z0-9_-]{1,80}")


class Store:
    """A folder of files and batches, made if it is not there, for one server at a time.

    Files without a time of their own expire after `days`; 0 is never.

    Raises:
        SetupError: it cannot be written, or another server has it.
    """

    def __init__(self, folder: Path, days: float = 0.0) -> None:
        self._seconds = days * 86400
        self._files, self._batches = folder / "files", folder / "batches"
        try:
            for each in (self._files, self._batches):
                each.mkdir(parents=True, exist_ok=True)
            self._lock = locked(folder)
        except OSError as error:
            raise SetupError(f"--batch-dir {folder}: {error.strerror}") from None
        except UserError:
            raise SetupError(f"--batch-dir {folder}: another server has it") from None
        self._remove_leftovers()

    def close(self) -> None:
        """Let another server have the folder."""
        self._lock.close()

    # Files

    def add_file(
        self, source: BinaryIO, name: str, purpose: str, id_: str = "", seconds: float | None = None
    ) -> JsonDict:
        """Keep a file; returns what it is, in OpenAI's form. The same id replaces it.

        An `id_` of "" makes one. It expires after `seconds`; None is the store's time.
        """
        id_ = id_ or f"file-{secrets.token_hex(12)}"
        with replacing(self._files / f"{id_}.data") as partial, partial.open("wb") as file:
            shutil.copyfileobj(source, file, 1 << 20)
            file.flush()
            os.fsync(file.fileno())
        now, seconds = int(time.time()), seconds or self._seconds
        entry = {
            "id": id_,
            "object": "file",
            "bytes": self.content(id_).stat().st_size,
            "created_at": now,
            "expires_at": now + int(seconds) if seconds else None,
            "filename": name[:255],
            "purpose": purpose,
            "status": "processed",
        }
        try:
            _write(self._files / f"{id_}.json", entry)
        except OSError:
            if not (self._files / f"{id_}.json").exists():  # or the content would stay forever
                self.content(id_).unlink(missing_ok=True)
            raise
        return entry

    def file(self, id_: str) -> JsonDict:
        """What a file is. Raises ApiError 404."""
        entry = _read(self._files, id_, "file")
        if _is_expired(entry):
            raise ApiError(404, f"file {id_} has expired", code="not_found")
        return entry

    def content(self, id_: str) -> Path:
        """The path of its content."""
        return self._files / f"{id_}.data"

    def files(self) -> list[JsonDict]:
        """All files, the newest first."""
        return [entry for entry in _all(self._files) if not _is_expired(entry)]

    def delete_file(self, id_: str) -> None:
        """Raises ApiError 404."""
        self.file(id_)
        self._delete(id_)

    def delete_expired(self, needed: Collection[str]) -> None:
        """Delete the files that have expired, but for those that are needed."""
        for entry in _all(self._files):
            if _is_expired(entry) and entry["id"] not in needed:
                self._delete(entry["id"])

    def _delete(self, id_: str) -> None:
        (self._files / f"{id_}.json").unlink(missing_ok=True)
        self.content(id_).unlink(missing_ok=True)

    def _remove_leftovers(self) -> None:
        """Remove what a kill left half written, or half deleted."""
        for folder in (self._files, self._batches):
            for path in folder.glob(".*"):
                path.unlink(missing_ok=True)
        for path in self._files.glob("*.data"):
            if not path.with_suffix(".json").exists():
                path.unlink(missing_ok=True)

    # Batches

    def batch(self, id_: str) -> JsonDict:
        """A batch's state, in OpenAI's form. Raises ApiError 404."""
        return _read(self._batches, id_, "batch")

    def write_batch(self, batch: JsonDict) -> None:
        _write(self._batches / f"{batch['id']}.json", batch)

    def journal(self, id_: str) -> Path:
        """Where a batch's answers are kept until it is done."""
        return self._batches / f"{id_}.journal"

    def batches(self) -> list[JsonDict]:
        """All batches, the newest first."""
        return _all(self._batches)


def page(entries: list[JsonDict], after: str | None, limit: int) -> JsonDict:
    """A part of a list, as OpenAI's clients ask for it."""
    if after is not None:
        places = [place for place, entry in enumerate(entries) if entry["id"] == after]
        entries = entries[places[0] + 1 :] if places else []
    shown = entries[:limit]
    return {
        "object": "list",
        "data": shown,
        "first_id": shown[0]["id"] if shown else None,
        "last_id": shown[-1]["id"] if shown else None,
        "has_more": len(entries) > len(shown),
    }


def _is_expired(entry: JsonDict) -> bool:
    return bool(entry.get("expires_at")) and entry["expires_at"] <= time.time()


def _write(path: Path, entry: JsonDict) -> None:
    with replacing(path) as partial:
        partial.write_text(json.dumps(entry), "utf-8")


def _read(folder: Path, id_: str, kind: str) -> JsonDict:
    path = folder / f"{id_}.json"
    try:
        if not _ID.fullmatch(id_):
            raise FileNotFoundError(id_)
        return _entry(path)
    except FileNotFoundError:
        raise ApiError(404, f"there is no {kind} {id_[:100]!r}", code="not_found") from None
    except (OSError, ValueError) as error:
        raise ApiError(500, f"{path.name} cannot be read: {error}", code="damaged") from None


def _all(folder: Path) -> list[JsonDict]:
    """All entries, the newest first; those that cannot be read are logged and left aside."""
    entries = []
    for path in folder.glob("[!.]*.json"):
        try:
            entries.append(_entry(path))
        except FileNotFoundError:  # deleted meanwhile
            continue
        except (OSError, ValueError) as error:
            log.warning("%s is left aside, it cannot be read: %s", path, error)
    return sorted(entries, key=lambda entry: (-entry["created_at"], entry["id"]))


def _entry(path: Path) -> JsonDict:
    """What a file says. Raises OSError, and ValueError for what is not a file or batch."""
    entry = json.loads(path.read_text("utf-8"))
    wanted = _FILE if path.parent.name == "files" else _BATCH
    if not isinstance(entry, dict) or any(
        not isinstance(entry.get(name), kind) for name, kind in wanted.items()
    ):
        raise ValueError("it is not the record of a file or a batch")
    return entry
