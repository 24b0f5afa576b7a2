"""Adapters as TRL, LLaMA-Factory, Axolotl, Unsloth and transformers write them.

Each is made with peft by the calls that these trainers make (their sources of August 2026), and
exported: right, or refused by name. TRL itself is in
`test_lora_trl`.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM

from convert.errors import ConvertError
from convert.lora import Adapter
from convert.sources import open_source
from tests.checkpoints import (
    TOLERANCE,
    Base,
    adapter_logits,
    error,
    merged_logits,
    rewrite_config,
    rewrite_tensors,
    save_lora,
    tiny_tokenizer,
    torch_logits,
)

LINEAR = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
# unsloth_zoo.peft_utils.get_peft_regex of a text model, as FastModel.get_peft_model asks for it.
UNSLOTH = (
    r"(?:.*?(?:vision|image|visual|patch|language|text).*?(?:self_attn|attention|attn|mixer|mlp|"
    r"feed_forward|ffn|dense|mixer).*?(?:q_proj|k_proj|v_proj|o_proj|gate_proj|up_proj|down_proj)"
    r")|(?:\bmodel\.layers\.[\d]{1,}\.(?:self_attn|attention|attn|mixer|mlp|feed_forward|ffn|dense|"
    r"mixer)\.(?:(?:q_proj|k_proj|v_proj|o_proj|gate_proj|up_proj|down_proj)))"
)
# What their calls give to LoraConfig, and the base.
WRITTEN: dict[str, tuple[str, dict[str, Any]]] = {
    "TRL": ("qwen3", {"target_modules": "all-linear", "bias": "none", "lora_dropout": 0.05}),
    "TRL with rsLoRA": ("llama", {"target_modules": ["q_proj", "v_proj"], "use_rslora": True}),
    "LLaMA-Factory": ("qwen3", {"target_modules": LINEAR, "inference_mode": False}),
    "LLaMA-Factory, expanded blocks": (
        "llama",
        {"target_modules": [f"model.layers.1.{m}" for m in ("self_attn.q_proj", "mlp.up_proj")]},
    ),
    "Axolotl": (
        "qwen2",
        {"target_modules": LINEAR, "target_parameters": [], "fan_in_fan_out": None},
    ),
    "Axolotl, some layers": (
        "qwen3",
        {"target_modules": LINEAR, "layers_to_transform": [0], "layers_pattern": "layers"},
    ),
    "Axolotl, ranks by module": (
        "qwen3",
        {"target_modules": LINEAR, "rank_pattern": {"model.layers.0.mlp.up_proj": 2}},
    ),
    "Unsloth": ("llama", {"target_modules": LINEAR, "loftq_config": {}, "use_rslora": False}),
    "Unsloth's FastModel": ("qwen3", {"target_modules": UNSLOTH, "loftq_config": {}}),
}
WHOLE = {"modules_to_save": ["embed_tokens", "lm_head"]}
# The same, with parts that only a merged model can have.
MERGED: dict[str, tuple[str, dict[str, Any]]] = {
    "TRL with DoRA": ("llama", {"target_modules": "all-linear", "use_dora": True}),
    "LLaMA-Factory with a vocabulary": ("qwen2", {"target_modules": LINEAR, **WHOLE}),
    "LLaMA-Factory with a tied one": ("qwen3", {"target_modules": LINEAR, **WHOLE}),
    "Axolotl, kept tied": (
        "qwen3",
        {"target_modules": LINEAR, "ensure_weight_tying": True, **WHOLE},
    ),
    "Unsloth, continued pretraining": ("llama", {"target_modules": LINEAR, **WHOLE}),
}


def beside(folder: Path, maker: str) -> None:
    """What a trainer leaves beside an adapter."""
    tiny_tokenizer().save_pretrained(folder)
    (folder / "README.md").write_text("---\nlibrary_name: peft\n---\n")
    torch.save({"lr": 1e-4}, folder / "training_args.bin")
    if maker.startswith("Unsloth"):
        mapping = {"base_model_class": "X", "parent_library": "x.y", "unsloth_fixed": True}
        name = "unsloth/tiny-unsloth-bnb-4bit"
        rewrite_config(folder, auto_mapping=mapping, base_model_name_or_path=name)
    if maker.startswith("LLaMA-Factory"):
        save_file({"v_head.summary.weight": torch.zeros(1, 64)}, folder / "value_head.safetensors")
        (folder / "trainer_log.jsonl").write_text("{}\n")


@pytest.mark.parametrize("kind", [*WRITTEN, *MERGED])
def test_what_a_trainer_writes_says_what_peft_says(
    tmp_path: Path, bases: dict[str, Base], kind: str
) -> None:
    name, options = (WRITTEN | MERGED)[kind]
    base, lora = bases[name], tmp_path / "lora"
    expected = torch_logits(save_lora(lora, base.folder, **options))
    beside(lora, kind)
    assert error(base.logits, expected) > 100 * TOLERANCE, "the adapter does something"
    assert error(merged_logits(base, lora), expected) < TOLERANCE
    if kind in WRITTEN:
        assert error(adapter_logits(base, lora), expected) < TOLERANCE


def test_an_adapter_that_transformers_itself_saved(
    tmp_path: Path, bases: dict[str, Base], monkeypatch: pytest.MonkeyPatch
) -> None:
    # It asks for a version of peft that is not released yet.
    monkeypatch.setattr("transformers.integrations.peft.check_peft_version", lambda **_: None)
    base, lora = bases["qwen3"], tmp_path / "lora"
    torch.manual_seed(1)
    model = AutoModelForCausalLM.from_pretrained(base.folder, dtype=torch.float32)
    model.add_adapter(LoraConfig(r=4, target_modules=LINEAR, init_lora_weights=False))
    expected = torch_logits(model.eval())
    model.save_pretrained(lora)
    assert error(merged_logits(base, lora), expected) < TOLERANCE
    assert error(adapter_logits(base, lora), expected) < TOLERANCE


def test_trls_reference_adapter_is_left_alone(tmp_path: Path, bases: dict[str, Base]) -> None:
    """Training a PeftModel on with DPO or GRPO adds one, saved in a folder of its own."""
    base, lora = bases["qwen3"], tmp_path / "lora"
    model = save_lora(tmp_path / "first", base.folder, target_modules=LINEAR)
    model.add_adapter("ref", model.peft_config["default"])
    expected = torch_logits(model.eval())
    model.save_pretrained(lora)
    assert (lora / "ref" / "adapter_config.json").is_file()
    assert error(merged_logits(base, lora), expected) < TOLERANCE


def test_pissa_by_llama_factory(tmp_path: Path, bases: dict[str, Base]) -> None:
    """Its callback (PissaConvertCallback) leaves four adapters, one of which fits the base."""
    base, lora = bases["qwen3"], tmp_path / "lora"
    model = AutoModelForCausalLM.from_pretrained(base.folder, dtype=torch.float32)
    config = LoraConfig(r=4, target_modules=LINEAR, init_lora_weights="pissa")
    model = get_peft_model(model, config)
    config = model.peft_config["default"]

    def save(name: str, **options: Any) -> None:
        config.init_lora_weights = "pissa" if options else True
        model.save_pretrained(lora / name, **options)
        config.init_lora_weights = "pissa"

    save("pissa_init")
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data += 0.05 * torch.randn_like(parameter)
    expected = torch_logits(model.eval())
    save("pissa_backup")
    initial = str(lora / "pissa_init")
    save("pissa_converted", path_initial_model_for_weight_conversion=initial)
    model.save_pretrained(lora)
    assert error(base.logits, expected) > 100 * TOLERANCE, "the adapter does something"
    assert error(merged_logits(base, lora / "pissa_converted"), expected) < TOLERANCE
    for folder in (lora / "pissa_init", lora / "pissa_backup"):
        assert f"export {lora / 'pissa_converted'}" in refused(folder, base)
    assert "init_lora_weights='pissa' changes the base's weights" in refused(lora, base)


def refused(folder: Path, base: Base) -> str:
    with pytest.raises(ConvertError) as caught:
        Adapter(folder, open_source(base.folder))
    assert str(folder) in str(caught.value)
    return str(caught.value)


def in_parts(lora: Path) -> None:
    """As Axolotl renames what it merges of FSDP's shards."""
    whole = lora / "adapter_model.safetensors"
    for n in (1, 2):
        shutil.copy(whole, lora / f"adapter_model-{n:05}-of-00002.safetensors")
    whole.unlink()


def with_trained_tokens(lora: Path) -> None:
    """As TRL's SFTTrainer where a chat template brings new tokens."""
    rewrite_config(lora, trainable_token_indices={"embed_tokens": [1, 2]})
    name = "base_model.model.model.embed_tokens.token_adapter.trainable_tokens_delta"
    rewrite_tensors(lora / "adapter_model.safetensors", lambda t: t | {name: torch.zeros(2, 64)})


def with_a_score(lora: Path) -> None:
    """As TRL's RewardTrainer: a classifier with one class."""
    rewrite_config(lora, task_type="SEQ_CLS", modules_to_save=["classifier", "score"])
    name = "base_model.model.score.weight"
    rewrite_tensors(lora / "adapter_model.safetensors", lambda t: t | {name: torch.zeros(1, 64)})


def of_experts(lora: Path) -> None:
    """As Unsloth and Axolotl train mixtures of experts."""
    rewrite_config(lora, target_parameters=["mlp.experts.gate_up_proj"])


REFUSED: dict[str, tuple[Callable[[Path], object], str]] = {
    "Axolotl, in shards": (in_parts, r"in 2 parts (adapter_model-00001-of-00002.safetensors"),
    "TRL, new tokens": (with_trained_tokens, "single trained tokens are not supported"),
    "TRL, a reward model": (with_a_score, "has no module score"),
    "Unsloth, experts": (of_experts, "LoRA on bare parameters is not supported"),
    "Axolotl, MoRA": (lambda lora: rewrite_config(lora, use_mora=True, mora_type=6), "MoRA"),
    "Axolotl, LoftQ": (
        lambda lora: rewrite_config(lora, init_lora_weights="loftq"),
        "changes the base's weights as well",
    ),
    "Axolotl, more layers": (
        lambda lora: rewrite_config(lora, layer_replication=[[0, 2], [1, 2]]),
        "the base's layers would have to be repeated",
    ),
    "LLaMA-Factory, OFT": (
        lambda lora: rewrite_config(lora, peft_type="OFT"),
        "peft_type is 'OFT'",
    ),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_what_cannot_be_exported_is_named(
    tmp_path: Path, bases: dict[str, Base], kind: str
) -> None:
    lora = tmp_path / "lora"
    save_lora(lora, bases["qwen3"].folder, target_modules=LINEAR)
    beside(lora, kind)
    change, message = REFUSED[kind]
    change(lora)
    assert message in refused(lora, bases["qwen3"])
