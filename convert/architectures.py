"""What sets one supported family of models apart from the others: a row for each."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import gguf

# Modules of each layer, as transformers names them, that all supported families have.
_LAYER = (
    "input_layernorm",
    "self_attn.q_proj",
    "self_attn.k_proj",
    "self_attn.v_proj",
    "self_attn.o_proj",
    "post_attention_layernorm",
    "mlp.gate_proj",
    "mlp.up_proj",
    "mlp.down_proj",
)
_ATTENTION_IN = ("attn_q", "attn_k", "attn_v")


@dataclass(frozen=True)
class Architecture:
    """A family of models that llama.cpp computes as transformers does.

    Attributes:
        name: transformers' class, as config.json names it.
        gguf: llama.cpp's architecture.
        head_norms: whether queries and keys are normalized head by head.
        interleaved_heads: whether llama.cpp rotates neighbouring pairs of a head's rows where
            transformers rotates its halves, so that rows of query and key change their order.
        own_head_size: whether a head may have another size than hidden_size / heads.
        rope_factors: whether llama.cpp takes Llama 3's frequency factors.
        vocabulary_details: whether size of the vocabulary and of the rotation, and the space
            before a text, are written into the GGUF file.
        biases: GGUF tensors of a layer that have a bias, by the key of config.json that says so;
            those under None always have one.
        refused: keys of config.json that llama.cpp cannot follow where they are set, and why.
    """

    name: str
    gguf: gguf.MODEL_ARCH
    head_norms: bool = False
    interleaved_heads: bool = False
    own_head_size: bool = True
    rope_factors: bool = False
    vocabulary_details: bool = False
    biases: Mapping[str | None, tuple[str, ...]] = field(default_factory=dict)
    refused: Mapping[str, str] = field(default_factory=dict)

    @property
    def gguf_name(self) -> str:
        """llama.cpp's name, such as "qwen3"."""
        return gguf.MODEL_ARCH_NAMES[self.gguf]

    def modules(self, n_layers: int) -> dict[str, str]:
        """Names of modules in transformers, such as "model.layers.0.mlp.up_proj", with the GGUF
        tensors that they become, such as "blk.0.ffn_up" (without ".weight")."""
        layer = _LAYER + (("self_attn.q_norm", "self_attn.k_norm") if self.head_norms else ())
        names = ["model.embed_tokens", "model.norm", "lm_head"]
        names += [f"model.layers.{number}.{part}" for number in range(n_layers) for part in layer]
        known = gguf.get_tensor_name_map(self.gguf, n_layers)
        return {name: found for name in names if (found := known.get_name(name)) is not None}

    def biased(self, config: Mapping[str, Any]) -> list[str]:
        """GGUF tensors of a layer that have a bias in a model of this config.json."""
        return [
            name
            for key, names in self.biases.items()
            if key is None or config.get(key)
            for name in names
        ]

    def problem_with(self, config: Mapping[str, Any]) -> str | None:
        """The first key of config.json that llama.cpp would not follow, and why; or None."""
        activation = config.get("hidden_act", "silu")
        if activation not in ("silu", "swish"):  # two names for one function
            return f"hidden_act={activation!r}: llama.cpp computes silu for {self.gguf_name}"
        for key, why in self.refused.items():
            if config.get(key):
                return f"{key}={config[key]!r}: {why}"
        head, heads = config.get("head_dim"), config["num_attention_heads"]
        if head and not self.own_head_size and head * heads != config["hidden_size"]:
            return (
                f"head_dim={head}: llama.cpp's {self.gguf_name} wants hidden_size /"
                f" num_attention_heads = {config['hidden_size']} / {heads}"
            )
        window, longest = config.get("sliding_window"), config["max_position_embeddings"]
        sliding = "sliding_attention" in (config.get("layer_types") or [])
        if sliding and window and window < longest:
            return (
                f"sliding_window={window}: llama.cpp's {self.gguf_name} lets every layer see the"
                " whole prompt; only a checkpoint with use_sliding_window=false can be exported"
            )
        return None


ARCHITECTURES = {
    row.name: row
    for row in (
        Architecture(
            "Qwen3ForCausalLM",
            gguf.MODEL_ARCH.QWEN3,
            head_norms=True,
            refused={
                "attention_bias": "llama.cpp's qwen3 has no bias on the output of the attention"
            },
        ),
        Architecture(
            "Qwen2ForCausalLM",
            gguf.MODEL_ARCH.QWEN2,
            own_head_size=False,
            biases={None: _ATTENTION_IN},
        ),
        Architecture(
            "LlamaForCausalLM",
            gguf.MODEL_ARCH.LLAMA,
            interleaved_heads=True,
            rope_factors=True,
            vocabulary_details=True,
            biases={
                "attention_bias": (*_ATTENTION_IN, "attn_output"),
                "mlp_bias": ("ffn_gate", "ffn_up", "ffn_down"),
            },
        ),
    )
}
