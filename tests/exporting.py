"""A tiny base with adapters, exports of them, and the routes made of what was exported."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from convert.export_gguf import main
from convert.sources import open_source
from convert.writing import write_model
from runtime import Settings
from runtime.files.routes import plan_routes
from tests.checkpoints import save_lora
from tests.conftest import small_settings


@pytest.fixture(scope="session")
def tiny_with_adapters(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with tiny-chat and adapters of it for history and general."""
    folder = tmp_path_factory.mktemp("exporting")
    shutil.copytree(tiny, folder / tiny.name)
    for subject in ("history", "general"):
        save_lora(folder / "loras" / f"tiny-chat-lora-{subject}", tiny)
    return folder


@pytest.fixture
def work(tiny_with_adapters: Path, tmp_path: Path) -> Path:
    """A copy of it that a test may change."""
    return shutil.copytree(tiny_with_adapters, tmp_path / "w")


def export(work: Path, *arguments: str | Path, status: int = 0) -> None:
    base = ["--base", work / "tiny-chat", "--output", work / "models"]
    assert main([str(a) for a in (*base, *arguments)]) == status


def settings(work: Path, **overrides: Any) -> Settings:
    values = {"model_name": "me/tiny-chat", "models_dir": work / "models"} | overrides
    return small_settings(**{"max_input_tokens": 128, "batch_size": 2} | values)


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def files(work: Path) -> set[str]:
    """What lies in the models folder, but for the lock that exports hold while they write."""
    folder = work / "models"
    return names(folder) - {".manifest.json.lock"} if folder.exists() else set()


def routes(work: Path, **overrides: Any) -> dict[str, tuple[str, str | None]]:
    planned = plan_routes(settings(work, **overrides))
    return {s: (r.model.name, r.adapter and r.adapter.name) for s, r in planned.items()}


@pytest.fixture(scope="session")
def gguf_base(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The base as a GGUF file, which a new process reads without loading transformers first."""
    path = tmp_path_factory.mktemp("gguf") / "tiny-chat.gguf"
    write_model(open_source(tiny), path, "F16")
    return path
