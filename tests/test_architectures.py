"""Families beside Qwen and Llama: bases, adapters and merges say what transformers says."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import gguf
import pytest

from convert.errors import ConvertError
from convert.lora import Adapter
from convert.sources import open_source
from convert.writing import write_model
from runtime import loadPipeline
from tests.checkpoints import (
    CONFIGS,
    TOLERANCE,
    Base,
    adapter_logits,
    error,
    gguf_logits,
    merged_logits,
    peft_logits,
    save_checkpoint,
    save_lora,
    tiny_base,
    tiny_tokenizer,
    tolerance,
    torch_logits,
)
from tests.conftest import small_settings

NEW = [kind for kind in CONFIGS if kind not in ("qwen3", "qwen2", "llama")]


@functools.cache
def base_of(folder: Path, kind: str) -> Base:
    return tiny_base(folder, kind)


@pytest.fixture
def base(tmp_path_factory: pytest.TempPathFactory, kind: str) -> Base:
    return base_of(tmp_path_factory.getbasetemp() / "architectures", kind)


@pytest.mark.parametrize("kind", NEW)
def test_logits_are_those_of_transformers(base: Base, kind: str) -> None:
    assert error(base.logits, peft_logits(base.folder, None)) < tolerance(kind)


@pytest.mark.parametrize("kind", NEW)
def test_adapters_beside_the_base_and_merged_say_what_peft_says(
    tmp_path: Path, base: Base, kind: str
) -> None:
    peft = save_lora(tmp_path / "lora", base.folder)
    expected = torch_logits(peft)
    assert error(base.logits, expected) > 0.02, "the adapter does something"
    assert error(adapter_logits(base, tmp_path / "lora"), expected) < tolerance(kind)
    assert error(merged_logits(base, tmp_path / "lora"), expected) < tolerance(kind)


@pytest.mark.parametrize("kind", NEW)
def test_norms_and_embedding_that_were_trained_whole_are_merged(
    tmp_path: Path, base: Base, kind: str
) -> None:
    norms = ["post_attention_layernorm", "norm"]
    options: dict[str, Any] = {
        "modules_to_save": norms,
        "target_modules": ["o_proj", "embed_tokens"],
    }
    expected = torch_logits(save_lora(tmp_path / "lora", base.folder, **options))
    assert error(merged_logits(base, tmp_path / "lora"), expected) < tolerance(kind)


@pytest.mark.parametrize("kind", NEW)
def test_an_adapter_on_the_gguf_file(tmp_path: Path, base: Base, kind: str) -> None:
    expected = torch_logits(save_lora(tmp_path / "lora", base.folder))
    source = open_source(base.gguf)
    write_model(source, tmp_path / "merged.gguf", "F32", Adapter(tmp_path / "lora", source))
    assert error(gguf_logits(tmp_path / "merged.gguf"), expected) < tolerance(kind)


LONGROPE = {"rope_type": "longrope", "rope_theta": 1e4, "original_max_position_embeddings": 128}
LONGROPE |= {"short_factor": [1.0, 1.1, 1.3, 1.7], "long_factor": [2.0, 4.0, 8.0, 9.0]}
LONGROPE |= {"partial_rotary_factor": 0.5}
GEMMA_ROPE = {
    "full_attention": {"rope_type": "linear", "factor": 8.0, "rope_theta": 1e5},
    "sliding_attention": {"rope_type": "default", "rope_theta": 5e3},
}
LLAMA3 = {"rope_type": "llama3", "factor": 8.0, "rope_theta": 5e5, "low_freq_factor": 1.0}
LLAMA3 |= {"high_freq_factor": 4.0, "original_max_position_embeddings": 64}
PATTERN = ["full_attention", "sliding_attention"] * 2


@pytest.mark.parametrize(
    ("kind", "options", "context"),
    [
        ("mistral", {"sliding_window": 64}, 64),
        ("mistral", {"sliding_window": 4096, "rope_parameters": LLAMA3}, 512),
        ("granite", {"attention_bias": True, "mlp_bias": True, "bias": 0.3}, 512),
        ("granite", {"rope_parameters": LLAMA3}, 512),
        ("phi", {"sliding_window": 100}, 100),
        ("phi", {"original_max_position_embeddings": 128, "rope_parameters": LONGROPE}, 128),
        ("phi", {"rope_parameters": {"rope_theta": 1e4, "partial_rotary_factor": 0.75}}, 512),
        ("phi", {"tied": False}, 512),
        ("olmo2", {"rope_parameters": {"rope_type": "linear", "factor": 2.0, "rope_theta": 1e4}})
        + (512,),
        ("gemma3", {"rope_parameters": GEMMA_ROPE}, 512),
        ("gemma3", {"num_hidden_layers": 4, "layer_types": PATTERN}, 512),
        ("gemma3", {"num_hidden_layers": 2, "layer_types": ["full_attention"] * 2}, 512),
        ("gemma3", {"final_logit_softcapping": None, "tied": False}, 512),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, dict) else str(value),
)
def test_options_of_the_config(
    tmp_path: Path, kind: str, options: dict[str, Any], context: int
) -> None:
    made = tiny_base(tmp_path, kind, **options)
    assert error(made.logits, peft_logits(made.folder, None)) < tolerance(kind)
    field = next(
        f for key, f in gguf.GGUFReader(made.gguf).fields.items() if key.endswith("context_length")
    )
    assert field.contents() == context


@pytest.mark.parametrize(
    ("kind", "options", "message"),
    [
        ("mistral", {"hidden_act": "gelu"}, "hidden_act='gelu': llama.cpp computes silu"),
        ("smollm3", {"no_rope_layer_interval": 2}, "no_rope_layers=[1, 0, 1, 0, 1]: llama.cpp's"),
        ("smollm3", {"attention_bias": True}, "attention_bias=True: llama.cpp's smollm3 has no"),
        ("smollm3", {"mlp_bias": True}, "mlp_bias=True: llama.cpp's smollm3 has no"),
        ("smollm3", {"use_sliding_window": True, "sliding_window": 32}, "sliding_window=32"),
        (
            "smollm3",
            {"rope_parameters": LLAMA3},
            "'rope_type': 'llama3'} is not supported, only default, linear, yarn",
        ),
        ("granite", {"logits_scaling": 0.0}, "logits_scaling is 0.0, not a number above 0"),
        ("granite", {"residual_multiplier": -1.0}, "residual_multiplier is -1.0, not a number"),
        ("olmo2", {"tied": True}, "tie_word_embeddings=True: llama.cpp's olmo2 needs an untied"),
        ("olmo2", {"attention_bias": True}, "attention_bias=True: llama.cpp's olmo2 has no such"),
        ("gemma3", {"query_pre_attn_scalar": 64}, "query_pre_attn_scalar=64: llama.cpp's gemma3"),
        ("gemma3", {"attention_bias": True}, "attention_bias=True: llama.cpp's gemma3 has no"),
        ("gemma3", {"attn_logit_softcapping": 50.0}, "attn_logit_softcapping=50.0: llama.cpp's"),
        ("gemma3", {"hidden_activation": "silu"}, "hidden_activation='silu': llama.cpp computes"),
        ("gemma3", {"use_bidirectional_attention": True}, "use_bidirectional_attention=True"),
        (
            "gemma3",
            {"rope_parameters": GEMMA_ROPE | {"sliding_attention": GEMMA_ROPE["full_attention"]}},
            "rope_parameters: sliding_attention has 'linear'",
        ),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, dict) else str(value)[:20],
)
def test_what_llama_cpp_would_not_compute_is_refused_by_key(
    tmp_path: Path, kind: str, options: dict[str, Any], message: str
) -> None:
    folder = save_checkpoint(tmp_path / "c", kind, tiny_tokenizer(), **options)
    with pytest.raises(ConvertError) as caught:
        write_model(open_source(folder), tmp_path / "out.gguf", "F32")
    assert message in str(caught.value)
    assert str(folder / "config.json") in str(caught.value)


@pytest.mark.parametrize("kind", ["gemma3", "phi", "smollm3"])
def test_the_pipeline_answers_alike_alone_and_in_a_batch(
    tmp_path: Path, base: Base, kind: str
) -> None:
    """Questions that share a beginning are copied between slots, windows and all."""
    questions = [
        {"questionID": n, "subject": "history", "question": f"What is {'very ' * n}old?"}
        for n in range(5)
    ]
    values = {"model_name": str(base.gguf), "models_dir": tmp_path, "max_input_tokens": 256}
    with loadPipeline(small_settings(**values, batch_size=4)) as pipeline:
        together = [answer["answer"] for answer in pipeline(questions)]
        alone = [pipeline([question])[0]["answer"] for question in questions]
    assert together == alone
    assert all(together)


# --- fused modules ---------------------------------------------------------------


@pytest.mark.parametrize(
    "options",
    [
        {"target_modules": ["qkv_proj", "gate_up_proj"], "rank_pattern": {"qkv_proj": 2}},
        {"target_modules": r".*layers\.1\.(self_attn|mlp)\..*(qkv|down)_proj"},
        {"target_modules": ["qkv_proj"], "use_rslora": True, "layers_to_transform": [1]},
    ],
)
def test_adapters_on_fused_modules(tmp_path: Path, options: dict[str, Any]) -> None:
    base = base_of(tmp_path, "phi")
    expected = torch_logits(save_lora(tmp_path / "lora", base.folder, **options))
    assert error(base.logits, expected) > 0.02, "the adapter does something"
    assert error(adapter_logits(base, tmp_path / "lora"), expected) < TOLERANCE
    assert error(merged_logits(base, tmp_path / "lora"), expected) < TOLERANCE


def test_dora_on_fused_modules(tmp_path: Path) -> None:
    base = base_of(tmp_path, "phi")
    options: dict[str, Any] = {"target_modules": ["qkv_proj", "gate_up_proj"], "use_dora": True}
    expected = torch_logits(save_lora(tmp_path / "lora", base.folder, **options))
    assert error(merged_logits(base, tmp_path / "lora"), expected) < TOLERANCE


def test_an_adapter_of_a_base_that_was_split_for_training_is_refused_by_module(
    tmp_path: Path,
) -> None:
    """Unsloth and others train Phi-3 as a llama, with a matrix for each of q, k and v."""
    save_lora(tmp_path / "lora", base_of(tmp_path, "mistral").folder)
    base = open_source(base_of(tmp_path, "phi").folder)
    with pytest.raises(
        ConvertError, match=r"has no module model\.layers\.0\.|adds to a weight of shape"
    ):
        Adapter(tmp_path / "lora", base)
