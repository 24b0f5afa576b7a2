"""Converts a checkpoint's scaling of rotary embeddings (RoPE) to llama.cpp's parameters."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import gguf
import numpy as np

from convert.errors import ConvertError

# Fixed in llama.cpp.
_BETA_FAST, _BETA_SLOW = 32.0, 1.0


def rope_of(config: Mapping[str, Any], path: Path, layers: str | None = None) -> dict[str, Any]:
    """The RoPE parameters of a config.json of any version of transformers.

    Args:
        config: of config.json.
        path: the file, for errors.
        layers: a type of layers, if llama.cpp has parameters for each type.

    Returns:
        The parameters by transformers' names; "rope_type" is always there, and may be None.

    Raises:
        ConvertError: a value is not of its type, or layers of different types have different
            parameters.
    """
    rope = config.get("rope_parameters") or config.get("rope_scaling") or {}
    if not isinstance(rope, Mapping):
        raise ConvertError(f"{path}: rope_parameters is {rope!r}, not an object")
    rope = dict(rope)
    nested = {key: value for key, value in rope.items() if isinstance(value, Mapping)}
    if nested:
        used = {layers} if layers else set(config.get("layer_types") or nested)
        used &= nested.keys()
        kinds = [nested[key] for key in sorted(used)]
        if not kinds or any(kind != kinds[0] for kind in kinds):
            raise ConvertError(
                f"{path}: rope_parameters differ between types of layers ({', '.join(nested)}):"
                " llama.cpp uses the same for all layers of this architecture"
            )
        rope = dict(kinds[0])
    for key in ("rope_theta", "original_max_position_embeddings"):
        if key in config:
            rope.setdefault(key, config[key])
    rope.setdefault("rope_type", rope.get("type"))
    for key, value in rope.items():
        wrong = isinstance(value, bool) or not isinstance(value, (int, float))
        if key in _NUMBERS and value is not None and (wrong or not 0 < value < math.inf):
            raise ConvertError(f"{path}: rope_parameters: {key} is {value!r}, not a number above 0")
    return rope


_NUMBERS = {
    *("rope_theta", "factor", "original_max_position_embeddings", "low_freq_factor"),
    *("high_freq_factor", "attention_factor", "beta_fast", "beta_slow", "mscale"),
    *("mscale_all_dim", "extrapolation_factor"),
}


def rope_factors(
    rope: Mapping[str, Any], dim: int, supported: Collection[str], path: Path
) -> dict[str, np.ndarray]:
    """The divisors of the frequencies, as GGUF tensors by name, float32.

    Args:
        rope: of `rope_of`.
        dim: size of a head.
        supported: the kinds of scaling that llama.cpp computes for the model's architecture.
        path: config.json, for errors.

    Raises:
        ConvertError: factors are missing or not numbers.
    """
    kind = rope["rope_type"]
    if kind == "llama3" and kind in supported:
        return {"rope_freqs.weight": _llama3_factors(rope, dim)}
    if kind != "longrope" or kind not in supported:
        return {}
    wanted = int(dim * rope.get("partial_rotary_factor", 1.0)) // 2
    factors = rope.get("short_factor")
    if (
        not isinstance(factors, list)
        or len(factors) != wanted
        or not all(type(each) in (int, float) and 0 < each < math.inf for each in factors)
    ):
        raise ConvertError(f"{path}: rope_parameters: short_factor is not {wanted} numbers above 0")
    # In a long context llama.cpp uses the long factors for all prompts, transformers only for long
    # prompts. The exported context is short, so that the short factors are right.
    short = np.array(factors, np.float32)
    return {"rope_factors_long.weight": short, "rope_factors_short.weight": short}


def _llama3_factors(rope: Mapping[str, Any], dim: int) -> np.ndarray:
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


def add_rope(
    writer: gguf.GGUFWriter,
    rope: Mapping[str, Any],
    supported: Collection[str],
    longest: int,
    path: Path,
) -> None:
    """Write the base frequency and the scaling.

    Args:
        writer: the GGUF file.
        rope: of `rope_of`.
        supported: the kinds of scaling that llama.cpp computes for the model's architecture; the
            factors of llama3 are a tensor.
        longest: max_position_embeddings.
        path: config.json, for errors.

    Raises:
        ConvertError: a scaling that llama.cpp does not know.
    """
    if rope.get("rope_theta") is not None:
        writer.add_rope_freq_base(rope["rope_theta"])
    kind = rope["rope_type"]
    if kind is None or (kind in ("default", "llama3") and kind in supported):
        return
    if kind == "longrope" and kind in supported:
        writer.add_rope_scaling_attn_factors(_longrope_magnitude(rope, longest))
        return
    factor = float(rope.get("factor") or 1.0)
    if kind == "linear" and kind in supported:
        writer.add_rope_scaling_type(gguf.RopeScalingType.LINEAR)
        writer.add_rope_scaling_factor(factor)
    elif kind == "yarn" and kind in supported and rope.get("truncate", True):
        _add_yarn(writer, rope, factor, path)
    else:
        raise ConvertError(
            f"{path}: RoPE scaling {dict(rope)} is not supported, only {', '.join(supported)} (yarn"
            " with truncate)"
        )


def _add_yarn(writer: gguf.GGUFWriter, rope: Mapping[str, Any], factor: float, path: Path) -> None:
    """YaRN (arXiv:2309.00071) as transformers computes it."""
    for key, default in (("beta_fast", _BETA_FAST), ("beta_slow", _BETA_SLOW)):
        if rope.get(key) not in (None, default):
            raise ConvertError(
                f"{path}: RoPE scaling yarn with {key}={rope[key]} is not supported: llama.cpp"
                f" computes it with {default:g}"
            )
    context = rope.get("original_max_position_embeddings")
    if context is None:
        raise ConvertError(f"{path}: RoPE scaling yarn lacks original_max_position_embeddings")
    writer.add_rope_scaling_type(gguf.RopeScalingType.YARN)
    writer.add_rope_scaling_factor(factor)
    writer.add_rope_scaling_orig_ctx_len(int(context))
    default = _magnitude(factor)
    attention = rope.get("attention_factor")
    if attention is not None:
        writer.add_rope_scaling_yarn_attn_factor(attention)
    elif rope.get("mscale") and rope.get("mscale_all_dim"):
        attention = _magnitude(factor, rope["mscale"]) / _magnitude(factor, rope["mscale_all_dim"])
    if attention is not None:
        # llama.cpp's own converter writes only the key above, which llama.cpp does not read; this
        # key multiplies yarn's default factor.
        writer.add_rope_scaling_attn_factors(attention / default)


def _longrope_magnitude(rope: Mapping[str, Any], longest: int) -> float:
    """The factor of sines and cosines in LongRoPE (arXiv:2402.13753)."""
    given = rope.get("attention_factor")
    if given is not None:
        return float(given)
    original = rope["original_max_position_embeddings"]
    factor = rope.get("factor") or longest / original
    return math.sqrt(1 + math.log(factor) / math.log(original)) if factor > 1 else 1.0


def _magnitude(factor: float, mscale: float = 1.0) -> float:
    return 0.1 * mscale * math.log(factor) + 1.0 if factor > 1 else 1.0
