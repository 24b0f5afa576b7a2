"""The supported families of models, one row each."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

import gguf

from convert.families import (
    AddMetadata,
    Config,
    add_gemma3,
    add_ministral3,
    add_phi3,
    check_gemma3,
    check_ministral3,
    check_phi3,
    check_smollm3,
    not_above_0,
    original_context,
    rope,
)

# Modules of each layer, as transformers names them.
_ATTENTION = ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj")
_HEAD_NORMS = ("self_attn.q_norm", "self_attn.k_norm")
_FEED_FORWARD = ("mlp.gate_proj", "mlp.up_proj", "mlp.down_proj")
_LAYER = ("input_layernorm", *_ATTENTION, "post_attention_layernorm", *_FEED_FORWARD)
_ATTENTION_IN = ("attn_q", "attn_k", "attn_v")
_BIASES: Mapping[str | None, tuple[str, ...]] = {
    "attention_bias": (*_ATTENTION_IN, "attn_output"),
    "mlp_bias": ("ffn_gate", "ffn_up", "ffn_down"),
}
# Shapes of a layer's tensors by GGUF name, rows first; `layer_shapes` gets the sizes.
_SHAPES: Mapping[str, tuple[str, ...]] = {
    "attn_norm": ("hidden",),
    "attn_q": ("query", "hidden"),
    "attn_k": ("key", "hidden"),
    "attn_v": ("key", "hidden"),
    "attn_qkv": ("query_key_value", "hidden"),
    "attn_q_norm": ("head",),
    "attn_k_norm": ("head",),
    "attn_output": ("hidden", "query"),
    "post_attention_norm": ("hidden",),
    "ffn_norm": ("hidden",),
    "ffn_gate": ("feed_forward", "hidden"),
    "ffn_up": ("feed_forward", "hidden"),
    "ffn_down": ("hidden", "feed_forward"),
    "post_ffw_norm": ("hidden",),
}
# transformers' names of the activations that llama.cpp computes.
_ACTIVATIONS = {"silu": ("silu", "swish"), "gelu": ("gelu_pytorch_tanh",)}

# What to do about layers that see only the last tokens of a prompt (sliding windows). llama.cpp
# computes them ("computed"), or not. If not, a model in which all layers have the same window is
# right in a context of that size ("limit context"); other configs with a window are "refused".
Windows = Literal["refused", "limit context", "computed"]


@dataclass(frozen=True)
class Architecture:
    """A family of models that llama.cpp computes as transformers does.

    Attributes:
        name: transformers' class, as config.json names it.
        gguf: llama.cpp's architecture.
        layer: the modules of a layer that have weights.
        shapes: shapes of a layer's tensors that differ from `_SHAPES`.
        interleaved_heads: whether llama.cpp rotates neighbouring pairs of a head's rows while
            transformers rotates its halves, so that rows of query and key are reordered.
        own_head_size: whether the head size may differ from hidden_size / heads.
        norm_offset: added to the weights of norms by transformers, but not by llama.cpp.
        activation: of the feed-forward layers, by llama.cpp's name.
        rope_types: the kinds of RoPE scaling that llama.cpp computes.
        partial_rotation: whether part of a head may stay unrotated.
        windows: how sliding windows are handled.
        vocabulary_details: whether the GGUF file has the size of the vocabulary, the size of the
            rotation and the space before a text.
        biases: GGUF tensors of a layer with a bias, by the key of config.json that enables it;
            those under None always have one.
        numbers: keys of config.json with numbers above 0 that are written to the GGUF file, and
            the method of gguf.GGUFWriter for each.
        refused: keys of config.json that llama.cpp does not support if they are set, and why.
        check: returns a problem with other values of config.json, or None.
        metadata: writes further values of config.json to the GGUF file.
    """

    name: str
    gguf: gguf.MODEL_ARCH
    layer: tuple[str, ...] = _LAYER
    shapes: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    interleaved_heads: bool = False
    own_head_size: bool = True
    norm_offset: float = 0.0
    activation: str = "silu"
    rope_types: tuple[str, ...] = ("default", "linear", "yarn")
    partial_rotation: bool = False
    windows: Windows = "refused"
    vocabulary_details: bool = False
    biases: Mapping[str | None, tuple[str, ...]] = field(default_factory=dict)
    numbers: Mapping[str, str] = field(default_factory=dict)
    refused: Mapping[str, str] = field(default_factory=dict)
    check: Callable[[Config], str | None] | None = None
    metadata: AddMetadata | None = None

    @property
    def gguf_name(self) -> str:
        """llama.cpp's name, such as "qwen3"."""
        return gguf.MODEL_ARCH_NAMES[self.gguf]

    def modules(self, n_layers: int) -> dict[str, str]:
        """transformers' names of modules, such as "model.layers.0.mlp.up_proj", and their GGUF
        tensors, such as "blk.0.ffn_up" (without ".weight")."""
        names = ["model.embed_tokens", "model.norm", "lm_head"]
        names += [f"model.layers.{n}.{part}" for n in range(n_layers) for part in self.layer]
        known = gguf.get_tensor_name_map(self.gguf, n_layers)
        return {name: found for name in names if (found := known.get_name(name)) is not None}

    def layer_shapes(self, sizes: Mapping[str, int]) -> dict[str, tuple[int, ...]]:
        """Shapes of the weights of a layer, by GGUF names such as "ffn_up".

        Args:
            sizes: "hidden"; "head", of one head; "query" and "key", of all heads; "feed_forward".
        """
        query, key = sizes["query"], sizes["key"]
        both = {"query_key_value": query + 2 * key, "gate_up": 2 * sizes["feed_forward"]}
        sizes = {**sizes, **both}
        known = gguf.get_tensor_name_map(self.gguf, 1)
        found = {}
        for part in self.layer:
            name = str(known.get_name(f"model.layers.0.{part}")).removeprefix("blk.0.")
            found[name] = tuple(sizes[size] for size in self.shapes.get(name, _SHAPES[name]))
        return found

    def biased(self, config: Config) -> list[str]:
        """GGUF tensors of a layer that have a bias with this config.json."""
        return [
            name
            for key, names in self.biases.items()
            if key is None or config.get(key)
            for name in names
        ]

    def context_length(self, config: Config) -> int:
        """The context in tokens for which llama.cpp computes the model correctly."""
        longest = int(config["max_position_embeddings"])
        if self.windows == "limit context":
            longest = min(longest, config.get("sliding_window") or longest)
        if rope(config).get("rope_type") == "longrope":
            # transformers uses other factors for longer prompts, llama.cpp for all prompts in a
            # longer context. The GGUF file has the factors of short prompts.
            longest = min(longest, int(original_context(config)))
        return longest

    def problem_with(self, config: Config) -> str | None:
        """The first value of config.json that llama.cpp does not support, and why; or None."""
        key = "hidden_act" if "hidden_act" in config else "hidden_activation"
        activation = config.get(key, "silu")
        if activation not in _ACTIVATIONS[self.activation]:
            return (
                f"{key}={activation!r}: llama.cpp computes {self.activation} for {self.gguf_name}"
            )
        for option, reason in self.refused.items():
            if config.get(option):
                return f"{option}={config[option]!r}: {reason}"
        for number in self.numbers:
            if (problem := not_above_0(number, config.get(number))) is not None:
                return problem
        head, heads = config.get("head_dim"), config["num_attention_heads"]
        if head and not self.own_head_size and head * heads != config["hidden_size"]:
            return (
                f"head_dim={head}: llama.cpp's {self.gguf_name} needs hidden_size /"
                f" num_attention_heads = {config['hidden_size']} / {heads}"
            )
        part = rope(config).get("partial_rotary_factor", 1.0)
        if part != 1 and not self.partial_rotation:
            return f"partial_rotary_factor={part}: llama.cpp's {self.gguf_name} rotates whole heads"
        window, longest = config.get("sliding_window"), config["max_position_embeddings"]
        sliding = "sliding_attention" in (config.get("layer_types") or [])
        if self.windows == "refused" and sliding and window and window < longest:
            return (
                f"sliding_window={window}: llama.cpp's {self.gguf_name} has no sliding window;"
                " only a checkpoint with use_sliding_window=false can be exported"
            )
        return self.check(config) if self.check is not None else None


_LLAMA = Architecture(
    "LlamaForCausalLM",
    gguf.MODEL_ARCH.LLAMA,
    interleaved_heads=True,
    rope_types=("default", "linear", "yarn", "llama3"),
    vocabulary_details=True,
    biases=_BIASES,
)
_MISTRAL = replace(_LLAMA, name="MistralForCausalLM", windows="limit context", biases={})

ARCHITECTURES = {
    row.name: row
    for row in (
        Architecture(
            "Qwen3ForCausalLM",
            gguf.MODEL_ARCH.QWEN3,
            layer=(*_LAYER, *_HEAD_NORMS),
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
        _LLAMA,
        _MISTRAL,
        replace(_MISTRAL, name="MinistralForCausalLM"),
        Architecture(
            "SmolLM3ForCausalLM",
            gguf.MODEL_ARCH.SMOLLM3,
            interleaved_heads=True,
            vocabulary_details=True,
            refused=dict.fromkeys(
                ("attention_bias", "mlp_bias"), "llama.cpp's smollm3 has no such biases"
            ),
            check=check_smollm3,
        ),
        replace(
            _LLAMA,
            name="GraniteForCausalLM",
            gguf=gguf.MODEL_ARCH.GRANITE,
            own_head_size=False,
            numbers={
                "attention_multiplier": "add_attention_scale",
                "embedding_multiplier": "add_embedding_scale",
                "residual_multiplier": "add_residual_scale",
                "logits_scaling": "add_logit_scale",
            },
        ),
        Architecture(
            "Phi3ForCausalLM",
            gguf.MODEL_ARCH.PHI3,
            layer=(
                *("input_layernorm", "self_attn.qkv_proj", "self_attn.o_proj"),
                *("post_attention_layernorm", "mlp.gate_up_proj", "mlp.down_proj"),
            ),
            shapes={"ffn_up": ("gate_up", "hidden")},
            own_head_size=False,
            rope_types=("default", "longrope"),
            partial_rotation=True,
            windows="limit context",
            check=check_phi3,
            metadata=add_phi3,
        ),
        Architecture(
            "Olmo2ForCausalLM",
            gguf.MODEL_ARCH.OLMO2,
            layer=(
                *(*_ATTENTION, *_HEAD_NORMS, "post_attention_layernorm"),
                *(*_FEED_FORWARD, "post_feedforward_layernorm"),
            ),
            shapes={"attn_q_norm": ("query",), "attn_k_norm": ("key",)},
            own_head_size=False,
            refused={
                "attention_bias": "llama.cpp's olmo2 has no such biases",
                "tie_word_embeddings": "llama.cpp's olmo2 needs an untied output head",
            },
        ),
        Architecture(
            "Gemma3ForCausalLM",
            gguf.MODEL_ARCH.GEMMA3,
            layer=(
                *(*_LAYER, *_HEAD_NORMS),
                *("pre_feedforward_layernorm", "post_feedforward_layernorm"),
            ),
            norm_offset=1.0,
            activation="gelu",
            rope_types=("default", "linear"),
            windows="computed",
            refused={
                "attention_bias": "llama.cpp's gemma3 has no such biases",
                "attn_logit_softcapping": "llama.cpp's gemma3 has no such cap",
                "use_bidirectional_attention": "only causal attention is supported",
            },
            check=check_gemma3,
            metadata=add_gemma3,
        ),
        Architecture(
            "Ministral3ForCausalLM",
            gguf.MODEL_ARCH.MISTRAL3,
            interleaved_heads=True,
            rope_types=("yarn",),
            windows="limit context",
            vocabulary_details=True,
            check=check_ministral3,
            metadata=add_ministral3,
        ),
    )
}
