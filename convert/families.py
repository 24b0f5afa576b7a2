"""Checks and metadata of single families of models, for their rows in `convert.architectures`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import gguf

Config = Mapping[str, Any]
AddMetadata = Callable[[gguf.GGUFWriter, Config], None]


def not_above_0(key: str, value: Any) -> str | None:
    """A message if a value is not a number above 0, else None."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value < 1e30:
        return f"{key} is {value!r}, not a number above 0"
    return None


def rope(config: Config) -> Mapping[str, Any]:
    """rope_parameters, or an empty mapping."""
    found = config.get("rope_parameters")
    return found if isinstance(found, Mapping) else {}


_NOPE_STEP = 4


def check_smollm3(config: Config) -> str | None:
    """SmolLM3: layers without rotation."""
    layers = range(config["num_hidden_layers"])
    rotated = config.get("no_rope_layers")
    if rotated != [int((layer + 1) % _NOPE_STEP != 0) for layer in layers]:
        return (
            f"no_rope_layers={rotated}: llama.cpp's smollm3 has no rotation in every"
            f" {_NOPE_STEP}th layer"
        )
    return None


def original_context(config: Config) -> int:
    """The context length up to which LongRoPE's short factors apply."""
    original = rope(config).get("original_max_position_embeddings")
    return int(original or config["original_max_position_embeddings"])


def _rotated(config: Config) -> int:
    """How many rows of a head of Phi-3 are rotated."""
    head = config["hidden_size"] // config["num_attention_heads"]
    return int(head * rope(config).get("partial_rotary_factor", 1.0))


def check_phi3(config: Config) -> str | None:
    """Phi-3 and Phi-4: rotation of part of a head."""
    part = rope(config).get("partial_rotary_factor", 1.0)
    if (problem := not_above_0("partial_rotary_factor", part)) is not None:
        return problem
    if part > 1 or _rotated(config) % 2 or not _rotated(config):
        return f"partial_rotary_factor={part}: not a part of a head of an even size"
    original = config.get("original_max_position_embeddings")
    if not isinstance(original, int) or original < 1:
        return f"original_max_position_embeddings is {original!r}, not a whole number above 0"
    return None


def add_phi3(writer: gguf.GGUFWriter, config: Config) -> None:
    """Phi-3 and Phi-4: rotation of part of a head."""
    writer.add_rope_dimension_count(_rotated(config))
    writer.add_rope_scaling_orig_ctx_len(original_context(config))
    writer.add_sliding_window(config.get("sliding_window") or 0)


def check_ministral3(config: Config) -> str | None:
    """Ministral 3: attention that is scaled by position."""
    return not_above_0("llama_4_scaling_beta", rope(config).get("llama_4_scaling_beta"))


def add_ministral3(writer: gguf.GGUFWriter, config: Config) -> None:
    """Ministral 3: attention that is scaled by position."""
    writer.add_attn_temperature_scale(rope(config)["llama_4_scaling_beta"])


_GEMMA3_STEP = 6
# llama.cpp recognizes the model with 27 billion parameters, whose attention has another scale, by
# this number of layers.
_GEMMA3_27B = 62


def check_gemma3(config: Config) -> str | None:
    """Gemma 3: sliding windows, and the scale of the attention."""
    scale, head = config.get("query_pre_attn_scalar"), config.get("head_dim")
    if config["num_hidden_layers"] == _GEMMA3_27B:
        head = config["hidden_size"] // config["num_attention_heads"]
    if scale != head:
        return f"query_pre_attn_scalar={scale}: llama.cpp's gemma3 computes with {head}"
    if not config.get("sliding_window"):
        return "sliding_window is not given"
    kinds = config.get("layer_types") or []
    if len(kinds) != config["num_hidden_layers"] or set(kinds) - set(_GEMMA3_KINDS):
        return f"layer_types={kinds}: not one of {', '.join(_GEMMA3_KINDS)} for each layer"
    sliding = rope(config).get("sliding_attention")
    if isinstance(sliding, Mapping) and sliding.get("rope_type", "default") != "default":
        return (
            f"rope_parameters: sliding_attention has {sliding['rope_type']!r}: llama.cpp's gemma3"
            " scales the rotation of the other layers only"
        )
    return None


_GEMMA3_KINDS = ("sliding_attention", "full_attention")


def add_gemma3(writer: gguf.GGUFWriter, config: Config) -> None:
    """Gemma 3: sliding windows, and the scale of the attention."""
    sliding = [kind == "sliding_attention" for kind in config["layer_types"]]
    if any(sliding):  # llama.cpp aborts if there is a window and no layer uses it
        writer.add_sliding_window(config["sliding_window"])
    if any(sliding) and sliding != [(n + 1) % _GEMMA3_STEP != 0 for n in range(len(sliding))]:
        writer.add_sliding_window_pattern(sliding)
    theta = rope(config).get("sliding_attention", {}).get("rope_theta")
    if theta is not None:
        writer.add_rope_freq_base_swa(float(theta))
    if config.get("final_logit_softcapping"):
        writer.add_final_logit_softcapping(float(config["final_logit_softcapping"]))
