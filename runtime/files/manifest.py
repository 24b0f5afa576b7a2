"""models/manifest.json: what each GGUF file is, what it was made from, and its SHA-256."""

from __future__ import annotations

import fcntl
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from runtime.common.atomic import replacing
from runtime.common.errors import SetupError
from runtime.common.files import read_bytes
from runtime.common.hashing import sha256

FILE_NAME = "manifest.json"
# Increased when `convert` makes other files of the same inputs, so that they are exported again.
CONVERSION = 4

Role = Literal["base", "merged", "adapter"]  # merged: base and adapter in one


class Entry(BaseModel):
    """One file."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    path: str  # relative to the manifest's folder
    role: Role
    base: str  # name of the base model, such as "Qwen3-1.7B"
    subject: str | None = None  # that it answers; None for a base
    quantization: str  # llama.cpp's name of the type, such as "Q4_K_M"
    size: int  # of the file, in bytes
    sha256: str
    adapter: str | None = None  # the PEFT folder it was made from
    training: dict[str, Any] | None = None  # of the adapter, from its training.json
    importance: str | None = None  # SHA-256 of the importance matrix it was quantized with
    inputs: str  # fingerprint of everything it was made from; the same inputs are exported once
    made_with: dict[str, str]  # versions of the packages that made it


class Manifest(BaseModel):
    """All files of a folder."""

    model_config = ConfigDict(extra="forbid")

    version: Literal[1] = 1
    files: list[Entry] = []

    @classmethod
    def load(cls, folder: Path) -> Manifest:
        """The manifest of a folder; empty if there is none.

        Raises:
            SetupError: it cannot be read or is not a manifest.
        """
        path = folder / FILE_NAME
        try:
            return cls.model_validate_json(read_bytes(path))
        except FileNotFoundError:
            return cls()
        except (OSError, ValidationError) as error:
            problem = str(error).replace("\n", " ")
            raise SetupError(
                f"{path}: not a manifest ({problem}); delete it and export again"
            ) from None

    def save(self, folder: Path) -> None:
        """Write it whole or not at all. Raises OSError."""
        with replacing(folder / FILE_NAME) as partial:
            partial.write_text(self.model_dump_json(indent=2, exclude_none=True) + "\n", "utf-8")

    @classmethod
    def add(cls, folder: Path, entry: Entry) -> None:
        """Add an entry to a folder's manifest, one writer at a time.

        It replaces one with the same path, and what served its subject in the other way: a
        subject has a merged file or an adapter, whichever was made last.
        """
        with (folder / f".{FILE_NAME}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            manifest = cls.load(folder)
            kept = [e for e in manifest.files if e.path != entry.path and not _gives_way(e, entry)]
            manifest.files = sorted([*kept, entry], key=lambda e: e.path)
            manifest.save(folder)

    def find(self, path: str) -> Entry | None:
        """The entry of a path, or None."""
        return next((entry for entry in self.files if entry.path == path), None)


def _gives_way(old: Entry, new: Entry) -> bool:
    same = (old.base, old.subject) == (new.base, new.subject)
    return same and {old.role, new.role} == {"merged", "adapter"}


def problem_with(folder: Path, entry: Entry) -> str:
    """What is wrong with the file of an entry, or ""."""
    path = folder / entry.path
    if not path.is_file():
        return f"{path}: missing, though {FILE_NAME} lists it"
    size = path.stat().st_size
    if size != entry.size:
        return f"{path}: {size} bytes, but {FILE_NAME} says {entry.size}: truncated or replaced"
    if sha256(path) != entry.sha256:
        return f"{path}: altered since {FILE_NAME} was written (its SHA-256 differs)"
    return ""


class ModelFiles:
    """GGUF files as the manifests of their folders describe them; each manifest is read once.

    Open one for each load, and pass it on.
    """

    def __init__(self) -> None:
        self._listed: dict[Path, dict[str, Entry]] = {}
        self._verified: dict[Path, str] = {}

    def listed(self, folder: Path) -> Mapping[str, Entry]:
        """The entries of a folder's manifest, by file name; none without a manifest.

        Raises:
            SetupError: the manifest cannot be read.
        """
        if folder not in self._listed:
            self._listed[folder] = {entry.path: entry for entry in Manifest.load(folder).files}
        return self._listed[folder]

    def verify(self, folder: Path, entries: Iterable[Entry]) -> None:
        """Check files against their entries, several at a time and each once.

        Raises:
            SetupError: names every file that is missing, truncated or altered.
        """
        unknown = {folder / e.path: e for e in entries if folder / e.path not in self._verified}
        with ThreadPoolExecutor() as pool:
            found = pool.map(lambda entry: problem_with(folder, entry), unknown.values())
            problems = list(filter(None, found))
        if problems:
            raise SetupError("\n".join([*problems, "export again (python -m convert.export_gguf)"]))
        self._verified |= {path: entry.sha256 for path, entry in unknown.items()}

    def identity(self, path: Path) -> str:
        """A text that differs for different files, and after a change of the file.

        The SHA-256 of its manifest if `verify` checked it, else path, size and time of change,
        since hashing gigabytes would take too long.

        Raises:
            OSError: there is no such file.
        """
        if path in self._verified:
            return self._verified[path]
        status = path.stat()
        return f"{path.resolve()} {status.st_size} {status.st_mtime_ns}"
