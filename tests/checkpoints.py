"""Tiny checkpoints with random weights, and LoRA adapters for them, as transformers and peft
save them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, PeftModel, get_peft_model
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
    LlamaConfig,
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen3Config,
)

from tests.conftest import SAMPLES

CONFIGS: dict[str, Any] = {"qwen3": Qwen3Config, "qwen2": Qwen2Config, "llama": LlamaConfig}
QWEN_SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
CHAT_TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def _split(name: str) -> Any:
    """A pre-tokenizer as models of that kind have it, by llama.cpp's name."""
    if name == "gpt-2":
        return pre_tokenizers.ByteLevel(add_prefix_space=False)
    if name == "smollm":
        digits = pre_tokenizers.Digits(individual_digits=True)
        return pre_tokenizers.Sequence([digits, _split("gpt-2")])
    pattern = {"qwen2": QWEN_SPLIT, "llama-bpe": QWEN_SPLIT.replace(r"|\p{N}|", r"|\p{N}{1,3}|")}
    return pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(pattern[name]), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )


def tiny_tokenizer(split: str = "qwen2") -> PreTrainedTokenizerFast:
    """A byte-level BPE tokenizer with 1,000 tokens that splits words as Qwen's or others do."""
    tokenizer = Tokenizer(models.BPE(ignore_merges=split == "llama-bpe"))
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
    folder: Path, kind: str, tokenizer: Any, tied: bool = True, **options: Any
) -> Path:
    """A model with two layers and its tokenizer; `dtype` and config keys may be given."""
    torch.manual_seed(0)
    dtype = options.pop("dtype", torch.float32)
    shard = options.pop("max_shard_size", "1GB")
    config = CONFIGS[kind](
        vocab_size=len(tokenizer) + 24,
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=512,
        tie_word_embeddings=tied,
        initializer_range=0.1,
        **({"head_dim": 32} if kind == "qwen3" else {}),
        **options,
    )
    model = AutoModelForCausalLM.from_config(config).to(dtype)
    model.save_pretrained(folder, max_shard_size=shard)
    tokenizer.save_pretrained(folder)
    return folder


def save_lora(folder: Path, base: Path, gguf_file: str | None = None, **options: Any) -> PeftModel:
    """A LoRA adapter with random weights on all linear layers; the model it was made on."""
    torch.manual_seed(1)
    spread = options.pop("spread", 0.1)
    model = AutoModelForCausalLM.from_pretrained(base, gguf_file=gguf_file, dtype=torch.float32)
    settings = {"r": 4, "lora_alpha": 8, "target_modules": "all-linear", **options}
    adapted = get_peft_model(model, LoraConfig(task_type="CAUSAL_LM", **settings))
    for name, parameter in adapted.named_parameters():
        if "lora_B" in name or "lora_embedding_A" in name:
            torch.nn.init.normal_(parameter, std=spread)
        if "magnitude" in name:
            parameter.data *= 1.1
        if "modules_to_save" in name:
            torch.nn.init.normal_(parameter, std=spread)
    adapted.save_pretrained(folder)
    return adapted.eval()


def rewrite_config(lora: Path, **changes: Any) -> Path:
    """Change adapter_config.json."""
    path = lora / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    return lora
