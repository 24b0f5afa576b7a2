"""How a checkpoint stretches its rotary embedding to longer texts, in llama.cpp's words."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import gguf
import numpy as np

from convert.errors import ConvertError


def rope_of(config: Mapping[str, Any]) -> dict[str, Any]:
    """The rotary embedding's parameters out of config.json, from wherever a version of
    transformers puts them; "rope_type" is always there, and may be None."""
    rope = dict(config.get("rope_parameters") or config.get("rope_scaling") or {})
    for key in ("rope_theta", "original_max_position_embeddings"):
        if key in config:
            rope.setdefault(key, config[key])
    rope.setdefault("rope_type", rope.get("type"))
    return rope


def llama3_factors(rope: Mapping[str, Any], dim: int) -> np.ndarray:
    """Llama 3's frequency factors (arXiv:2407.21783) for heads of size `dim`, float32 [dim / 2]."""
    base = np.float32(rope.get("rope_theta", 10000.0))
    frequencies = 1.0 / base ** (np.arange(0, dim, 2, dtype=np.float32) / np.float32(dim))
    factor = rope.get("factor", 8.0)
    low, high = rope.get("low_freq_factor", 1.0), rope.get("high_freq_factor", 4.0)
    context = rope.get("original_max_position_embeddings", 8192)
    factors = []
    for frequency in frequencies:
        wavelength = 2 * math.pi / frequency
        if wavelength < context / high:
            factors.append(1.0)
        elif wavelength > context / low:
            factors.append(factor)
        else:
            smooth = (context / wavelength - low) / (high - low)
            factors.append(1 / ((1 - smooth) / factor + smooth))
    return np.array(factors, np.float32)


def add_rope(writer: gguf.GGUFWriter, rope: Mapping[str, Any], llama3: bool, path: Path) -> None:
    """Write base frequency and scaling.

    Args:
        writer: the GGUF file.
        rope: of `rope_of`.
        llama3: whether the file has Llama 3's factors as a tensor.
        path: config.json, to be named in errors.

    Raises:
        ConvertError: a scaling that llama.cpp does not know.
    """
    if rope.get("rope_theta") is not None:
        writer.add_rope_freq_base(rope["rope_theta"])
    kind = rope["rope_type"]
    if kind in (None, "default") or (kind == "llama3" and llama3):
        return
    factor = float(rope.get("factor") or 1.0)
    if kind == "linear":
        writer.add_rope_scaling_type(gguf.RopeScalingType.LINEAR)
        writer.add_rope_scaling_factor(factor)
    elif kind == "yarn" and rope.get("truncate", True):
        writer.add_rope_scaling_type(gguf.RopeScalingType.YARN)
        writer.add_rope_scaling_factor(factor)
        writer.add_rope_scaling_orig_ctx_len(rope["original_max_position_embeddings"])
        for key, add in {
            "extrapolation_factor": writer.add_rope_scaling_yarn_ext_factor,
            "attention_factor": writer.add_rope_scaling_yarn_attn_factor,
            "beta_fast": writer.add_rope_scaling_yarn_beta_fast,
            "beta_slow": writer.add_rope_scaling_yarn_beta_slow,
        }.items():
            if rope.get(key) is not None:
                add(rope[key])
        if rope.get("attention_factor") is not None:
            # llama.cpp's own converter leaves it at the key above, which llama.cpp does not
            # read; this one multiplies the factor that yarn has by default.
            default = 0.1 * math.log(factor) + 1.0
            writer.add_rope_scaling_attn_factors(rope["attention_factor"] / default)
    else:
        raise ConvertError(
            f"{path}: RoPE scaling {dict(rope)} is not supported, only default, linear, yarn (with"
            " truncate) and, for llama, llama3"
        )
