"""How much of a merged adapter survives quantization.

Quantizing rounds weights to a grid, and an adapter changes them by less than a step of it. Where
the base was never quantized, some weights are near the border between two steps, and enough of
those cross it for the change to survive on the whole. Where the base comes out of a quantized file
its weights are on the grid already, and nearly everything is rounded back.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from gguf.quants import dequantize

from convert.base import FLOATS, SourceTensor
from convert.lora import Adapter
from convert.safetensors import to_f32
from convert.sources import open_source

# Number of tensors that are checked, spread over the model, and of rows of each: where the change
# is a tenth of the error of quantizing, the share is known to about 0.01.
_TENSORS, _ROWS = 16, 256


def share_kept(adapter: Adapter, quantized: Path) -> float:
    """The share of what an adapter adds that is in a quantized file.

    With W the base's weights, D what the adapter adds and Q what was made of both:
    <Q - W, D> / <D, D>, about 1 if it survives and 0 if it is lost. 1.0 for an adapter without
    LoRA matrices on tensors of the base.

    Args:
        adapter: with its base.
        quantized: a GGUF file of the base with the adapter merged into it.
    """
    base, made = adapter.base.tensors, open_source(quantized).tensors
    names = [name for name in adapter.deltas if name in base and name not in adapter.replaced]
    kept = added = 0.0
    for name in names[:: max(1, len(names) // _TENSORS)]:
        before = _first_rows(base[name])
        change = adapter.deltas[name].merge_into(before.copy(), slice(0, _ROWS)) - before
        kept += float(np.vdot(_first_rows(made[name]) - before, change))
        added += float(np.vdot(change, change))
    return kept / added if added else 1.0


def _first_rows(tensor: SourceTensor) -> np.ndarray:
    rows = tensor.read()[:_ROWS]
    return to_f32(rows, tensor.type) if tensor.type in FLOATS else dequantize(rows, tensor.type)
