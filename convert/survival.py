"""Measures how much of a merged adapter survives quantization.

Quantizing rounds weights to a grid, and an adapter changes them by less than one step. If the base
was never quantized, enough weights near the border between two steps cross it for the change to
survive on average. If the base was quantized before, its weights are on the grid already, and
nearly all changes are rounded away.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from gguf.quants import dequantize

from convert.base import FLOATS, SourceTensor
from convert.lora import Adapter
from convert.safetensors import to_f32
from convert.sources import open_source

# How many tensors are checked, spread over the model, and how many rows of each. If the change is a
# tenth of the quantization error, the share is known to about 0.01.
_TENSORS, _ROWS = 16, 256


def share_kept(adapter: Adapter, quantized: Path) -> float:
    """The share of an adapter's changes that is left in a quantized, merged file.

    With the base's weights W, the adapter's changes D and the quantized weights Q:
    <Q - W, D> / <D, D>, about 1 if the changes survive and 0 if they are lost. 1.0 for an adapter
    without LoRA matrices on tensors of the base.
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
