"""Tensors of a running computation, read from llama.cpp's memory."""

from __future__ import annotations

from typing import Any

import llama_cpp as llama
import numpy as np
import pytest

from runtime.engine import Context, Engine, EngineError, ggml
from runtime.engine.batch import Batch
from runtime.engine.calls import Callbacks


def test_products_of_a_computation_have_names_and_inputs(engine: Engine) -> None:
    """The key and query matrices of a layer are multiplied with the same rows."""
    seen: dict[str, np.ndarray] = {}

    def look(address: int, ask: bool, _: Any) -> bool:
        found = ggml.multiplication(address)
        if found is None:
            return not ask
        if not ask and ".weight" in found.weight:
            seen[found.weight] = found.input().copy()
        return True

    callbacks = Callbacks()
    callback = callbacks.wrap(llama.ggml_backend_sched_eval_callback, look, failed=True)
    context = Context(engine.model, 1, 0, 256, 2, eval_callback=callback)
    context.run(Batch(5).fill([500, 501, 502, 503, 504], np.arange(5), 0, 1))
    context.close()
    callbacks.check()
    query, key = (seen[f"blk.0.attn_{part}.weight"] for part in "qk")
    assert query.shape == (5, 576)
    assert query.dtype == np.float32
    assert np.isfinite(query).all()
    assert query.any(axis=1).all()
    np.testing.assert_array_equal(query, key)
    assert (seen["blk.1.attn_q.weight"] != query).any()


def test_another_layout_of_tensors_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    lib = ggml.library()
    real = lib.ggml_op_name
    ggml.library.cache_clear()
    try:
        with monkeypatch.context() as patched:
            patched.setattr(ggml, "Tensor", _other_tensor())
            with pytest.raises(EngineError, match="unknown layout"):
                ggml.multiplication(0)
    finally:
        ggml.library.cache_clear()
    assert ggml.library().ggml_op_name is real


def _other_tensor() -> Any:
    """As if a field had been put in before the others."""
    import ctypes

    fields = [("new", ctypes.c_int64), *ggml.Tensor._fields_]
    return type("Tensor", (ctypes.Structure,), {"_fields_": fields})
