"""Fingerprints of files and of what they were made of."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from runtime.common.files import open_regular


def sha256(path: Path) -> str:
    """SHA-256 of a regular file, in hex. Raises OSError."""
    with open_regular(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def fingerprint(parts: Any) -> str:
    """SHA-256 of a JSON value, in hex; the order of keys does not matter."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()
