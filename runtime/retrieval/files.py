"""Paths of the files of a subject's knowledge, and the error of files that cannot be used."""

from __future__ import annotations

from pathlib import Path

from runtime.common.errors import SetupError

# Increased whenever tokens, fields or arrays change their meaning: old files are then refused, and
# so are gates, since a base states its format and so has another fingerprint.
FORMAT = 2


class KnowledgeError(SetupError):
    """A base, an index or a gate that cannot be used; names the file and what to do."""


def base_path(folder: Path, subject: str) -> Path:
    """The passages, one JSON record a line in a JSON object."""
    return folder / f"{subject}_knowledge_preprocessed.json"


def index_path(folder: Path, subject: str) -> Path:
    """The arrays that passages are found with."""
    return folder / f"{subject}_knowledge_index.npz"


def gate_path(folder: Path, subject: str) -> Path:
    """When passages are shown to the model, and the evidence for it."""
    return folder / f"{subject}_knowledge_gate.json"
