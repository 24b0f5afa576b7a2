"""The demo's corpora."""

from __future__ import annotations

import json
from pathlib import Path

CORPORA = Path(__file__).resolve().parent.parent / "data" / "corpora"
SUBJECTS = ("algebra", "geography", "history", "chinese", "general")


def records(subject: str) -> list[dict[str, str]]:
    lines = (CORPORA / f"{subject}.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]
