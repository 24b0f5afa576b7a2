"""Every handle of llama.cpp's is freed, and freed once."""

from __future__ import annotations

import gc
from pathlib import Path
from typing import Any

import psutil
import pytest

from runtime import loadPipeline
from runtime.engine import Engine, EngineError, EngineOptions, Model, Request, SamplingParams
from tests.conftest import LORAS, small_settings
from tests.ggufs import write_adapter


@pytest.mark.slow
def test_loading_and_closing_again_and_again_leaves_memory_flat(tmp_path: Path) -> None:
    adapter = write_adapter(tmp_path / "a-lora-history.gguf")
    settings = small_settings(peft_adapter_history=adapter, max_new_tokens=4, batch_size=2)
    questions = [{"questionID": s, "subject": s, "question": "Why?"} for s in ("history", "x")]
    process = psutil.Process()
    resident = []
    for _ in range(7):
        with loadPipeline(settings) as pipeline:
            pipeline(questions)
        gc.collect()
        resident.append(process.memory_info().rss)
    # One model that is not freed would be 90 MB a time.
    assert resident[-1] - resident[3] < 40 * 2**20, [r // 2**20 for r in resident]


def test_what_is_dropped_without_closing_is_freed_at_once(demo_model: Path, tmp_path: Path) -> None:
    """Without a collection: nothing of it is in a cycle of references."""
    adapters = {name: write_adapter(tmp_path / f"{name}.gguf") for name in "ab"}
    gc.collect()
    gc.disable()
    try:
        options = EngineOptions(slots=2, cells_per_slot=256, shortlist=4)
        engine = Engine.load(demo_model, options, adapters)
        handles = [engine.model._handle._finalizer, engine.context._handle._finalizer]
        few = SamplingParams(max_new_tokens=4)
        list(engine.generate([Request([500] * 9, few, adapter=name) for name in ("a", "b", None)]))
        with pytest.raises(EngineError):
            engine.load_adapter("c", demo_model)
        handles.append(engine.context._handle._finalizer)
        assert handles[0].alive
        assert handles[2].alive
        del engine
        assert not any(handle.alive for handle in handles)
    finally:
        gc.enable()


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


@pytest.mark.parametrize("kind", ["bare", "adapters", "tool and cache"])
def test_a_dropped_pipeline_frees_its_models_at_once(
    demo_model: Path, tmp_path: Path, kind: str
) -> None:
    """Without a collection, as above; `del` is enough to have the memory back."""
    options: dict[str, Any] = {
        "bare": {},
        "adapters": {"adapters_base_dir": LORAS},
        "tool and cache": {"algebra_tool": "exact", "answer_cache": tmp_path / "cache"},
    }[kind]
    subjects = ("history", "geography", "algebra")
    asked = [{"questionID": s, "subject": s, "question": "Why is 2 + 2 = 4?"} for s in subjects]
    mine = set(psutil.Process().children())
    gc.collect()
    gc.disable()
    try:
        pipeline = loadPipeline(small_settings(max_new_tokens=4, batch_size=2, **options))
        pipeline(asked)
        engines = list(pipeline.engines.values())
        handles = [e.model._handle._finalizer for e in engines]
        handles += [e.context._handle._finalizer for e in engines]
        assert all(handle.alive for handle in handles)
        del engines, pipeline
        assert not any(handle.alive for handle in handles)
        assert set(psutil.Process().children()) <= mine, "the tool's process has ended too"
    finally:
        gc.enable()
