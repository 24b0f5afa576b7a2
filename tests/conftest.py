"""The real demo model, made once, and engines and pipelines on it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from runtime import Pipeline, Settings, loadPipeline
from runtime.engine import Engine, EngineOptions
from runtime.files import demo
from runtime.settings import PROJECT_DIR

SAMPLES = PROJECT_DIR / "data" / "sample_questions.jsonl"


@pytest.fixture(autouse=True, scope="session")
def _plain_environment() -> Iterator[None]:
    """Knobs set in the shell do not reach the tests."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        for name in Settings.model_fields:
            monkeypatch.delenv(name.upper(), raising=False)
        yield


@pytest.fixture(scope="session")
def demo_model() -> Path:
    """The demo model's GGUF file."""
    return demo.ensure(PROJECT_DIR / "models")


@pytest.fixture(scope="session")
def engine(demo_model: Path) -> Iterator[Engine]:
    """An engine with 4 slots of 512 tokens."""
    with Engine.load(demo_model, EngineOptions(slots=4, cells_per_slot=512)) as engine:
        yield engine


def small_settings(**overrides: object) -> Settings:
    """The demo model, greedy, with short answers and few slots."""
    values: dict[str, object] = {
        "model_name": "demo",
        "batch_size": 8,
        "max_new_tokens": 24,
        "min_new_tokens": 0,
        "max_input_tokens": 256,
        "temperature": 0.0,
        "offline_guard": "off",  # tests of the guard hold their own
    }
    return Settings.load(**(values | overrides))


@pytest.fixture(scope="session")
def pipeline(demo_model: Path) -> Iterator[Pipeline]:
    """A pipeline with `small_settings`."""
    with loadPipeline(small_settings()) as pipeline:
        yield pipeline
