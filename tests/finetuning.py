"""A tiny base, a corpus, and runs of `training.finetune` on them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from runtime.subjects import Subjects
from training.finetune import main

SUBJECTS = Subjects.load()
FAST = ["--batch_size", "4", "--learning_rate", "0.01", "--rank", "4"]
PLACES = ["Norway", "Chile", "Kenya", "Japan", "Cuba", "Peru", "Egypt", "India", "Laos", "Mali"]
RECORDS = [
    {"question": f"{verb} {place}{'?' * (n % 3 + 1)}", "answer": f"{place} is here"}
    for verb in ("Where is", "Please tell me where one finds the place that is called")
    for n, place in enumerate(PLACES)
]


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    return write(tmp_path / "corpus.jsonl", *RECORDS)


def write(path: Path, *records: Any) -> Path:
    lines = [record if isinstance(record, str) else json.dumps(record) for record in records]
    path.write_text("\n".join(lines) + "\n", "utf-8")
    return path


def finetune(tiny: Path, out: Path, *arguments: str | Path, status: int = 0) -> None:
    assert main([str(a) for a in ("--model", tiny, "--out", out, *FAST, *arguments)]) == status


def adapter(out: Path, subject: str = "geography") -> Path:
    return out / f"tiny-chat-lora-{subject}"


def weights(folder: Path) -> bytes:
    return (folder / "adapter_model.safetensors").read_bytes()


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()} if folder.exists() else set()


def command(tiny: Path, out: Path, corpus: Path, *more: str) -> list[str]:
    """What follows `python`."""
    arguments = ["-m", "training.finetune", "--model", tiny, "--out", out, *FAST, *more]
    arguments += ["--data_geography", corpus, "--epochs", "4", "--check_every", "3"]
    return [*map(str, arguments)]
