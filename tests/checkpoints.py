"""Tiny checkpoints with random weights, and LoRA adapters for them, as transformers and peft
save them; and what they predict in torch and in llama.cpp."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file
from tokenizers import (
    Regex,
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    trainers,
)
from transformers import (
    AutoModelForCausalLM,
    Gemma3TextConfig,
    GraniteConfig,
    LlamaConfig,
    Ministral3Config,
    MistralConfig,
    Olmo2Config,
    Phi3Config,
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen3Config,
    SmolLM3Config,
)

from convert.comparison import GgufModel
from convert.errors import ConvertError
from convert.lora import Adapter
from convert.sources import open_source
from convert.writing import write_adapter, write_model
from tests.conftest import SAMPLES

# What predictions are compared on.
TOKENS = list(range(300, 360))
# Largest difference of logits, as a share of the largest logit. The issue is 1e-3; seen 1e-6.
TOLERANCE = 1e-4
# llama.cpp looks gelu up in a table of 16-bit floats; seen 4e-4.
_TOLERANCES = {"gemma3": 1e-3}
CONFIGS: dict[str, Any] = {
    "qwen3": Qwen3Config,
    "qwen2": Qwen2Config,
    "llama": LlamaConfig,
    "mistral": MistralConfig,
    "smollm3": SmolLM3Config,
    "granite": GraniteConfig,
    "phi": Phi3Config,  # llama.cpp wants tokens of Phi-3 in a model that is called so
    "olmo2": Olmo2Config,
    "gemma3": Gemma3TextConfig,
    "ministral3": Ministral3Config,
}
_NO_IDS = dict.fromkeys(("bos_token_id", "eos_token_id", "pad_token_id"))
# What checkpoints of a kind have beside the sizes, so that what sets it apart shows.
OPTIONS: dict[str, dict[str, Any]] = {
    "qwen3": {"head_dim": 32},
    "mistral": {"head_dim": 32, "sliding_window": None},
    "smollm3": {"num_hidden_layers": 5, **_NO_IDS},  # every fourth is not rotated
    "granite": {
        "embedding_multiplier": 6.0,
        "logits_scaling": 3.0,
        "residual_multiplier": 0.3,
        "attention_multiplier": 0.1,
    },
    "phi": {"original_max_position_embeddings": 512, **_NO_IDS},
    "olmo2": _NO_IDS,
    # Every sixth layer sees the whole prompt, the others half of what is compared.
    "gemma3": {
        "num_hidden_layers": 7,
        "sliding_window": 32,
        "head_dim": 32,
        "query_pre_attn_scalar": 32,
        "final_logit_softcapping": 20.0,
        **_NO_IDS,
    },
    "ministral3": {
        "head_dim": 32,
        "rope_parameters": {
            "rope_type": "yarn",
            "rope_theta": 1e4,
            "factor": 16.0,
            "original_max_position_embeddings": 16,
            "beta_fast": 32.0,
            "beta_slow": 1.0,
            "mscale": 1.0,
            "mscale_all_dim": 1.0,
            "llama_4_scaling_beta": 0.1,
        },
        **_NO_IDS,
    },
}
# Those that llama.cpp computes with an output head of their own only.
UNTIED = {"olmo2"}
QWEN_SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
TEKKEN_SPLIT = (
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+"
    r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*"
    r"|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
GPT_4O_SPLIT = (
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+"
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
    r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*"
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
    r"|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
CHAT_TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def tolerance(kind: str) -> float:
    """Largest difference of logits for a kind of models, as a share of the largest logit."""
    return _TOLERANCES.get(kind, TOLERANCE)


def _split(name: str) -> Any:
    """A pre-tokenizer as models of that kind have it, by llama.cpp's name."""
    if name == "gpt-2":
        return pre_tokenizers.ByteLevel(add_prefix_space=False)
    if name == "smollm":
        digits = pre_tokenizers.Digits(individual_digits=True)
        return pre_tokenizers.Sequence([digits, _split("gpt-2")])
    threes = QWEN_SPLIT.replace(r"|\p{N}|", r"|\p{N}{1,3}|")
    pattern = {"qwen2": QWEN_SPLIT, "llama-bpe": threes, "dbrx": threes}
    pattern |= {"tekken": TEKKEN_SPLIT, "gpt-4o": GPT_4O_SPLIT}
    return pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(pattern[name]), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )


@functools.cache
def tiny_tokenizer(split: str = "qwen2") -> PreTrainedTokenizerFast:
    """A byte-level BPE tokenizer with 1,000 tokens that splits words as Qwen's or others do."""
    tokenizer = Tokenizer(models.BPE(ignore_merges=split in ("llama-bpe", "tekken")))
    tokenizer.pre_tokenizer = _split(split)
    tokenizer.decoder = decoders.ByteLevel()
    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    trainer = trainers.BpeTrainer(
        vocab_size=1000,
        special_tokens=special,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    lines = SAMPLES.read_text(encoding="utf-8").splitlines()
    tokenizer.train_from_iterator((json.loads(line)["question"] for line in lines), trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        chat_template=CHAT_TEMPLATE,
    )


def tiny_sentencepiece() -> PreTrainedTokenizerFast:
    """A tokenizer like Llama 2's: BPE on characters with byte fallback, "▁" for spaces."""
    special = ["<unk>", "<s>", "</s>"]
    bytes_ = [f"<0x{byte:02X}>" for byte in range(256)]
    trained = Tokenizer(models.BPE())
    trained.normalizer = normalizers.Sequence(
        [normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]
    )
    trained.pre_tokenizer = pre_tokenizers.Split("▁", "merged_with_next")
    trainer = trainers.BpeTrainer(vocab_size=600, special_tokens=special, show_progress=False)
    lines = SAMPLES.read_text(encoding="utf-8").splitlines()
    trained.train_from_iterator((json.loads(line)["question"] for line in lines), trainer)
    model = json.loads(trained.to_str())["model"]
    texts = sorted(model["vocab"], key=model["vocab"].__getitem__)[len(special) :]
    vocab = {text: id_ for id_, text in enumerate([*special, *bytes_, *texts])}
    merges = [tuple(merge) for merge in model["merges"]]
    tokenizer = Tokenizer(
        models.BPE(vocab, merges, unk_token="<unk>", fuse_unk=True, byte_fallback=True)
    )
    tokenizer.normalizer = trained.normalizer
    tokenizer.add_special_tokens(special)
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
        + [decoders.Strip(" ", 1, 0)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, unk_token="<unk>", bos_token="<s>", eos_token="</s>"
    )


def save_checkpoint(
    folder: Path, kind: str, tokenizer: Any, tied: bool | None = None, **options: Any
) -> Path:
    """A model with two layers or a few more and its tokenizer.

    `dtype`, keys of the config, and `bias` may be given.

    Biases are zero, as transformers makes them, or random with a spread of `bias`.
    """
    torch.manual_seed(0)
    bias = options.pop("bias", 0.0)
    dtype = options.pop("dtype", torch.float32)
    shard = options.pop("max_shard_size", "1GB")
    sizes = {
        "vocab_size": len(tokenizer) + 24,
        "hidden_size": 64,
        "intermediate_size": 128,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 512,
        "tie_word_embeddings": kind not in UNTIED if tied is None else tied,
        "initializer_range": 0.1,
        **OPTIONS.get(kind, {}),
    }
    config = CONFIGS[kind](**(sizes | options))
    model = AutoModelForCausalLM.from_config(config).to(dtype)
    for name, parameter in model.named_parameters():
        if bias and name.endswith(".bias"):
            torch.nn.init.normal_(parameter, std=bias)
        if "norm" in name:  # made as all ones or all zeros, which would hide that one is left out
            parameter.data += 0.2 * torch.randn_like(parameter)
    model.save_pretrained(folder, max_shard_size=shard)
    tokenizer.save_pretrained(folder)
    return folder


def save_lora(folder: Path, base: Path, gguf_file: str | None = None, **options: Any) -> PeftModel:
    """A LoRA adapter with random weights on all linear layers; the model it was made on.

    Options are LoraConfig's, `spread` of the random weights, and `saving`, for save_pretrained.
    """
    torch.manual_seed(1)
    spread = options.pop("spread", 0.1)
    model = AutoModelForCausalLM.from_pretrained(base, gguf_file=gguf_file, dtype=torch.float32)
    saving = options.pop("saving", {})
    settings = {"r": 4, "lora_alpha": 8, "target_modules": "all-linear", **options}
    adapted = get_peft_model(model, LoraConfig(task_type="CAUSAL_LM", **settings))
    for name, parameter in adapted.named_parameters():
        if "lora_B" in name or "lora_embedding_A" in name:
            torch.nn.init.normal_(parameter, std=spread)
        if "magnitude" in name:
            parameter.data *= 1.1
        if "modules_to_save" in name or (parameter.requires_grad and name.endswith(".bias")):
            torch.nn.init.normal_(parameter, std=spread)
    adapted.save_pretrained(folder, **saving)
    return adapted.eval()


def rewrite_config(lora: Path, **changes: Any) -> Path:
    """Change adapter_config.json."""
    rewrite_json(lora / "adapter_config.json", **changes)
    return lora


def rewrite_json(path: Path, **changes: Any) -> None:
    """Change keys of a file with a JSON object."""
    path.write_text(json.dumps(json.loads(path.read_text("utf-8")) | changes), "utf-8")


Tensors = dict[str, torch.Tensor]


def rewrite_tensors(path: Path, change: Callable[[Tensors], Tensors | None]) -> None:
    """Change the tensors of a safetensors file, in place or by returning others."""
    tensors = load_file(path)
    changed = change(tensors)
    save_file(tensors if changed is None else changed, path, metadata={"format": "pt"})


def torch_logits(model: Any) -> np.ndarray:
    """What a model in torch predicts for TOKENS, float32 [tokens, vocab]."""
    with torch.inference_mode():
        return np.asarray(model(torch.tensor([TOKENS])).logits[0].float().numpy())


def peft_logits(base: Path, lora: Path | None) -> np.ndarray:
    """What a base with an adapter, as peft loads it, predicts for TOKENS."""
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    return torch_logits((PeftModel.from_pretrained(model, lora) if lora else model).eval())


def gguf_logits(path: Path, adapter: Path | None = None) -> np.ndarray:
    """What a GGUF file, with a GGUF adapter or without, predicts for TOKENS."""
    model = GgufModel(path, adapter)
    try:
        return model(TOKENS)
    finally:
        model.close()


def refused(folder: Path) -> str:
    """What is said of a checkpoint that cannot be exported."""
    with pytest.raises(ConvertError) as caught:
        write_model(open_source(folder), folder / "out.gguf", "F32")
    assert not (folder / "out.gguf").exists()
    return str(caught.value)


def error(ours: np.ndarray, theirs: np.ndarray) -> float:
    """Largest difference of logits, as a share of the largest logit."""
    return float(np.abs(ours - theirs).max() / np.abs(theirs).max())


@dataclass(frozen=True)
class Base:
    """A tiny checkpoint, the GGUF file made of it, and what it predicts for TOKENS."""

    folder: Path
    gguf: Path
    logits: np.ndarray


def tiny_bases(folder: Path) -> dict[str, Base]:
    """A base of each architecture that most tests use, and a llama with biases."""
    options: dict[str, dict[str, Any]] = {
        "qwen3": {},
        "qwen2": {"tied": False, "bias": 0.3},
        "llama": {},
        "llama with biases": {"attention_bias": True, "mlp_bias": True, "bias": 0.3},
    }
    return {name: tiny_base(folder, name, **chosen) for name, chosen in options.items()}


def tiny_base(folder: Path, name: str, **options: Any) -> Base:
    """A base in a folder; the first word of its name is the kind."""
    kind = name.split(" ")[0]
    checkpoint = save_checkpoint(folder / name, kind, tiny_tokenizer(), **options)
    path = folder / f"{name}.gguf"
    write_model(open_source(checkpoint), path, "F32")
    return Base(checkpoint, path, gguf_logits(path))


def merged_logits(base: Base, lora: Path) -> np.ndarray:
    """What llama.cpp predicts with an adapter merged into its base."""
    source, path = open_source(base.folder), lora.parent / "merged.gguf"
    write_model(source, path, "F32", Adapter(lora, source))
    return gguf_logits(path)


def adapter_logits(base: Base, lora: Path) -> np.ndarray:
    """What llama.cpp predicts with an adapter beside its base."""
    path = lora.parent / "adapter.gguf"
    write_adapter(Adapter(lora, open_source(base.folder)), path)
    return gguf_logits(base.gguf, path)
