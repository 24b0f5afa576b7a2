"""LoRA adapters, merged or as GGUF adapters, say what peft says: all kinds that peft makes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gguf
import pytest

from convert.errors import ConvertError
from convert.lora import Adapter
from convert.sources import open_source
from convert.writing import write_model
from tests.checkpoints import (
    TOLERANCE,
    Base,
    adapter_logits,
    error,
    gguf_logits,
    merged_logits,
    save_checkpoint,
    save_lora,
    tiny_tokenizer,
    torch_logits,
)

TARGETS = ["q_proj", "v_proj", "down_proj"]
LORAS: dict[str, dict[str, Any]] = {
    "plain": {},
    "rslora": {"use_rslora": True},
    "patterns": {"rank_pattern": {"q_proj": 2}, "alpha_pattern": {"layers.1.mlp.up_proj": 32}},
    "some modules": {"target_modules": ["q_proj", "v_proj"], "lora_dropout": 0.1},
    "by pattern": {"target_modules": r".*layers\.1\..*_proj"},
}


@pytest.mark.parametrize("options", LORAS.values(), ids=LORAS)
@pytest.mark.parametrize("kind", ["qwen3", "qwen2", "llama"])
def test_merged_and_adapter_say_what_peft_says(
    tmp_path: Path, bases: dict[str, Base], kind: str, options: dict[str, Any]
) -> None:
    base = bases[kind]
    peft = save_lora(tmp_path / "lora", base.folder, **options)
    expected, merged = torch_logits(peft), torch_logits(peft.merge_and_unload())
    assert error(base.logits, expected) > 100 * TOLERANCE, "the adapter does something"
    assert error(merged_logits(base, tmp_path / "lora"), merged) < TOLERANCE
    assert error(adapter_logits(base, tmp_path / "lora"), expected) < TOLERANCE


KINDS: dict[str, tuple[str, dict[str, Any]]] = {
    # Names of modules, as adapter_config.json has them.
    "one layer": ("qwen3", {"layers_to_transform": [1]}),
    "one layer, by its pattern": ("qwen3", {"layers_to_transform": 1, "layers_pattern": "layers"}),
    "all but some": ("qwen3", {"exclude_modules": ["layers.0.self_attn.q_proj"]}),
    "all but a pattern": ("qwen3", {"exclude_modules": r".*layers\.1.*"}),
    "fan_in_fan_out": ("qwen3", {"fan_in_fan_out": True}),
    "bias where there is none": ("llama", {"bias": "all"}),
    "from SVD": ("qwen3", {"init_lora_weights": "orthogonal"}),
    # The embedding and the output head of a base that has both.
    "embedding": ("qwen2", {"target_modules": ["embed_tokens", "q_proj"]}),
    "head": ("qwen2", {"target_modules": ["lm_head", "q_proj"]}),
    "embedding and head": ("qwen2", {"target_modules": ["embed_tokens", "lm_head"]}),
    # Copies of the base's own weights beside the matrices.
    "embedding saved": ("qwen3", {"saving": {"save_embedding_layers": True}}),
    "embedding and head saved": ("qwen2", {"saving": {"save_embedding_layers": True}}),
}


@pytest.mark.parametrize("kind", KINDS)
def test_kinds_of_adapters(tmp_path: Path, bases: dict[str, Base], kind: str) -> None:
    base, options = bases[KINDS[kind][0]], {"target_modules": TARGETS, **KINDS[kind][1]}
    expected = torch_logits(save_lora(tmp_path / "lora", base.folder, **options))
    assert error(base.logits, expected) > 100 * TOLERANCE, "the adapter does something"
    assert error(merged_logits(base, tmp_path / "lora"), expected) < TOLERANCE
    assert error(adapter_logits(base, tmp_path / "lora"), expected) < TOLERANCE


TIED = {"ensure_weight_tying": True}
MERGED_ONLY: dict[str, tuple[str, dict[str, Any]]] = {
    "DoRA": ("llama", {"use_dora": True}),
    "biases": ("qwen2", {"bias": "all"}),
    "biases of adapted layers": ("llama with biases", {"bias": "lora_only"}),
    "all biases, rows reordered": ("llama with biases", {"bias": "all"}),
    "norms": ("qwen3", {"modules_to_save": ["norm"]}),  # the end of a name: all of them
    "one kind of norms": ("llama", {"modules_to_save": ["input_layernorm"]}),
    "saved, rows reordered": ("llama", {"modules_to_save": ["q_proj"]}),
    "saved and adapted": ("qwen3", {"modules_to_save": ["v_proj"]}),
    "a layer's attention": ("llama", {"modules_to_save": ["layers.0.self_attn"]}),
    "head": ("qwen2", {"modules_to_save": ["lm_head"]}),
    "head of a tied base": ("qwen3", {"modules_to_save": ["lm_head"]}),
    "embedding of a tied base": ("qwen3", {"modules_to_save": ["embed_tokens"]}),
    "both of a tied base": ("qwen3", {"modules_to_save": ["embed_tokens", "lm_head"]}),
    "both, kept tied": ("qwen3", {"modules_to_save": ["embed_tokens", "lm_head"], **TIED}),
    "head, kept tied": ("qwen3", {"modules_to_save": ["lm_head"], **TIED}),
    "LoRA on a tied embedding": ("qwen3", {"target_modules": ["embed_tokens", "q_proj"]}),
    "LoRA on a tied head": ("llama", {"target_modules": ["lm_head", "q_proj"]}),
    "LoRA on both": ("qwen3", {"target_modules": ["embed_tokens", "lm_head"]}),
    "LoRA on both, kept tied": ("qwen3", {"target_modules": ["embed_tokens", "lm_head"], **TIED}),
    "LoRA on the head, kept tied": ("llama", {"target_modules": ["lm_head", "q_proj"], **TIED}),
    "DoRA on a tied head": ("qwen3", {"target_modules": ["lm_head"], "use_dora": True}),
}


@pytest.mark.parametrize("kind", MERGED_ONLY)
def test_more_than_lora_can_be_merged_but_is_no_adapter(
    tmp_path: Path, bases: dict[str, Base], kind: str
) -> None:
    base = bases[MERGED_ONLY[kind][0]]
    options = {"target_modules": TARGETS, **MERGED_ONLY[kind][1]}
    expected = torch_logits(save_lora(tmp_path / "lora", base.folder, **options))
    assert error(base.logits, expected) > 100 * TOLERANCE, "the adapter does something"
    assert error(merged_logits(base, tmp_path / "lora"), expected) < TOLERANCE
    with pytest.raises(ConvertError, match=r"cannot be a GGUF adapter; merge it instead"):
        adapter_logits(base, tmp_path / "lora")
    assert not (tmp_path / "adapter.gguf").exists()


@pytest.mark.parametrize("kind", ["qwen3", "qwen2", "llama"])
def test_a_gguf_file_is_as_good_a_base(tmp_path: Path, bases: dict[str, Base], kind: str) -> None:
    base = bases[kind]
    peft = save_lora(tmp_path / "lora", base.folder)
    source = open_source(base.gguf)
    adapter = Adapter(tmp_path / "lora", source)
    write_model(source, tmp_path / "merged.gguf", "F32", adapter, "history")
    assert error(gguf_logits(tmp_path / "merged.gguf"), torch_logits(peft)) < TOLERANCE
    ours, theirs = (gguf.GGUFReader(p).fields for p in (tmp_path / "merged.gguf", base.gguf))
    changed = {k for k in ours if k not in theirs or ours[k].contents() != theirs[k].contents()}
    assert changed - {"GGUF.kv_count"} == {"general.finetune"}


@pytest.mark.parametrize("saved", ["embed_tokens", "lm_head"])
def test_a_tied_gguf_file_gets_a_head_of_its_own(
    tmp_path: Path, bases: dict[str, Base], saved: str
) -> None:
    peft = save_lora(tmp_path / "lora", bases["qwen3"].folder, modules_to_save=[saved])
    source = open_source(bases["qwen3"].gguf)
    write_model(source, tmp_path / "m.gguf", "F32", Adapter(tmp_path / "lora", source))
    assert error(gguf_logits(tmp_path / "m.gguf"), torch_logits(peft)) < TOLERANCE


def test_factors_of_llama_3s_rotation_are_no_part_of_an_adapter(tmp_path: Path) -> None:
    rope = {"rope_type": "llama3", "factor": 8.0, "rope_theta": 5e5, "low_freq_factor": 1.0} | {
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 64,
    }
    folder = save_checkpoint(tmp_path / "c", "llama", tiny_tokenizer(), rope_parameters=rope)
    write_model(open_source(folder), tmp_path / "c.gguf", "F32")
    base = Base(folder, tmp_path / "c.gguf", gguf_logits(tmp_path / "c.gguf"))
    expected = torch_logits(save_lora(tmp_path / "lora", folder))
    assert error(merged_logits(base, tmp_path / "lora"), expected) < TOLERANCE
    assert error(adapter_logits(base, tmp_path / "lora"), expected) < TOLERANCE
