"""Every handle of llama.cpp's is freed, and freed once."""

from __future__ import annotations

import gc
from pathlib import Path

import psutil
import pytest

from runtime import loadPipeline
from runtime.engine import Engine, EngineError, EngineOptions, Model
from tests.conftest import small_settings
from tests.ggufs import write_adapter


@pytest.mark.slow
def test_loading_and_closing_twenty_times_leaves_memory_flat(tmp_path: Path) -> None:
    adapter = write_adapter(tmp_path / "a-lora-history.gguf")
    settings = small_settings(peft_adapter_history=adapter, max_new_tokens=4, batch_size=2)
    questions = [{"questionID": s, "subject": s, "question": "Why?"} for s in ("history", "x")]
    process = psutil.Process()
    resident = []
    for _ in range(20):
        with loadPipeline(settings) as pipeline:
            pipeline(questions)
        gc.collect()
        resident.append(process.memory_info().rss)
    # One model that is not freed would be 90 MB a time.
    assert resident[-1] - resident[4] < 40 * 2**20, [r // 2**20 for r in resident]


def test_what_is_dropped_without_closing_is_freed(demo_model: Path) -> None:
    engine = Engine.load(demo_model, EngineOptions(slots=1, cells_per_slot=256))
    handles = [engine.model._handle._finalizer, engine.context._handle._finalizer]
    assert all(handle.alive for handle in handles)
    del engine
    gc.collect()
    assert not any(handle.alive for handle in handles)


def test_a_context_outlives_its_models_name(demo_model: Path) -> None:
    engine = Engine.load(demo_model, EngineOptions(slots=1, cells_per_slot=256))
    context = engine.context
    del engine
    gc.collect()
    assert not context.closed
    context.clear_all()
    context.close()


def test_closing_in_any_order(demo_model: Path, tmp_path: Path) -> None:
    engine = Engine.load(demo_model, EngineOptions(slots=1, cells_per_slot=256))
    engine.model.load_adapter("a", write_adapter(tmp_path / "a.gguf"))
    engine.model.close()
    engine.context.close()
    engine.close()
    for use in (lambda: engine.model.describe(), lambda: engine.context.clear(0)):
        with pytest.raises(EngineError, match="has been closed"):
            use()


def test_an_exception_in_the_progress_callback_stops_loading(demo_model: Path) -> None:
    def progress(share: float) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Model(demo_model, progress=progress)
