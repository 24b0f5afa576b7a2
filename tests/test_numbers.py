"""Logits that are not numbers are told by file, and cost no other request."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest

from runtime.engine import (
    Completion,
    Engine,
    EngineError,
    EngineOptions,
    Request,
    SamplingParams,
)
from runtime.engine.rows import Rows
from tests.ggufs import write_adapter
from tests.test_mixing import LINEAR, VOCAB, write_model
from tests.test_mixing import write_adapter as write_small_adapter

OPTIONS = EngineOptions(slots=2, cells_per_slot=64)


@pytest.fixture(scope="module")
def engine(shallow_engine: Engine) -> Engine:
    """What is answered does not matter here."""
    return shallow_engine


def damage(path: Path, tensor: str, value: float) -> Path:
    """Overwrite the first value of a tensor, or with 0 all of them."""
    (found,) = [t for t in gguf.GGUFReader(path).tensors if t.name == tensor]
    dtype = {0: np.float32, 1: np.float16}[int(found.tensor_type)]
    raw = bytearray(path.read_bytes())
    n = int(found.n_elements) if value == 0 else 1
    new = np.full(n, value, dtype).tobytes()
    raw[found.data_offset : found.data_offset + len(new)] = new
    path.write_bytes(raw)
    return path


def tensor_of(path: Path, ending: str) -> str:
    return next(t.name for t in gguf.GGUFReader(path).tensors if t.name.endswith(ending))


def test_a_nan_in_an_adapter_is_an_error_of_loading(demo_model: Path, tmp_path: Path) -> None:
    good = write_adapter(tmp_path / "good.gguf")
    bad = write_adapter(tmp_path / "bad.gguf")
    damage(bad, tensor_of(bad, "lora_b"), float("nan"))
    for adapters in ({"bad": bad}, {"good": good, "bad": bad}):
        with pytest.raises(EngineError, match=r"bad\.gguf: damaged: .*adapter 'bad'.* not numbers"):
            Engine.load(demo_model, OPTIONS, adapters)
    with Engine.load(demo_model, OPTIONS, {"good": good}) as engine:
        with pytest.raises(EngineError, match=r"bad\.gguf: damaged"):
            engine.load_adapter("bad", bad)
        assert list(engine.model.adapters) == ["good"]
        (completion,) = engine.generate([Request([500], adapter="good")])
        assert completion.finish_reason != "error"


@pytest.mark.parametrize("value", [float("nan"), 0.0])
def test_a_model_whose_logits_are_no_numbers_is_refused(tmp_path: Path, value: float) -> None:
    """0 in all of the last norm makes all logits alike."""
    model = write_model(tmp_path / "model.gguf")
    Engine.load(model, OPTIONS).close()
    damage(model, "output_norm.weight", value)
    with pytest.raises(EngineError, match=r"model\.gguf: damaged: .*the model are not numbers"):
        Engine.load(model, OPTIONS)


@pytest.mark.parametrize(
    "params",
    [
        SamplingParams(max_new_tokens=12),
        SamplingParams(temperature=1.0, top_k=9, max_new_tokens=12),
    ],
)
@pytest.mark.parametrize("kind", ["all", "one", "alike"])
def test_rows_that_are_not_numbers_end_their_own_requests_alone(
    engine: Engine, monkeypatch: pytest.MonkeyPatch, kind: str, params: SamplingParams
) -> None:
    requests = [Request(engine.model.tokenize(f"Count to {n}."), params) for n in range(3)]
    expected = completed(engine, requests)
    run, calls = engine.context.run, iter(range(1000))

    def damaged(*args: Any, **kwargs: Any) -> Rows:
        rows = run(*args, **kwargs)
        if next(calls) == 4 and len(rows) > 1:
            logits = rows.logits.copy()
            logits[1, slice(None) if kind != "one" else 7] = 0 if kind == "alike" else np.nan
            return Rows(logits)
        return rows

    monkeypatch.setattr(engine.context, "run", damaged)
    found = completed(engine, requests)
    wrong = [c for c in found if c.finish_reason == "error"]
    assert len(wrong) == 1
    assert str(engine.model.path) in wrong[0].error
    for ours, theirs in zip(found, expected, strict=True):
        assert ours.finish_reason == "error" or ours.tokens == theirs.tokens


@pytest.mark.parametrize("what", ["model", "adapter"])
def test_a_nan_anywhere_is_told_or_changes_nothing(tmp_path: Path, what: str) -> None:
    """32 random places: what is answered without an error is what the whole file answers."""
    model = write_model(tmp_path / "model.gguf")
    adapter = write_small_adapter(tmp_path / "adapter.gguf", 4, tuple(LINEAR), seed=1)
    path = model if what == "model" else adapter
    whole, data = path.read_bytes(), gguf.GGUFReader(path).data_offset
    random_ = random.Random(what)
    params = SamplingParams(min_new_tokens=4, max_new_tokens=4)
    requests = [
        Request([random_.randrange(1, VOCAB) for _ in range(6)], params, n, adapter)
        for n, adapter in enumerate([None, "adapter"] * 2)
    ]

    def answers() -> list[Completion]:
        with Engine.load(model, OPTIONS, {"adapter": adapter}) as engine:
            return completed(engine, requests)

    expected = [completion.tokens for completion in answers()]
    told = 0
    for _ in range(32):
        at = data + 4 * random_.randrange((len(whole) - data) // 4)
        path.write_bytes(whole[:at] + np.float32(np.nan).tobytes() + whole[at + 4 :])
        try:
            found = answers()
        except EngineError as error:
            told += f"{path}: damaged" in str(error)
            continue
        for ours, theirs in zip(found, expected, strict=True):
            assert (
                str(path) in ours.error
                if ours.finish_reason == "error"
                else (ours.tokens == theirs)
            )
    assert told > 16


def completed(engine: Engine, requests: list[Request]) -> list[Completion]:
    return sorted(engine.generate(requests), key=lambda completion: completion.index)


def test_scores_that_are_not_numbers_are_an_error(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = engine.context.run

    def damaged(*args: Any, **kwargs: Any) -> Rows:
        rows = run(*args, **kwargs)
        return Rows(np.full_like(rows.logits, np.nan))

    monkeypatch.setattr(engine.context, "run", damaged)
    with pytest.raises(EngineError, match="not numbers"):
        engine.log_likelihoods([500, 501], [[502]])
