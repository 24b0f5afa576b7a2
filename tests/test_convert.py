"""Checkpoints as GGUF files say what transformers says."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from convert.checkpoint import CheckpointSource
from convert.errors import ConvertError
from convert.rope import rope_of
from convert.safetensors import Type, from_f32, to_f32
from convert.sources import open_source
from convert.writing import own_type, write_model
from runtime.files.bases import base_name
from tests.checkpoints import (
    CONFIGS,
    TOLERANCE,
    UNTIED,
    error,
    gguf_logits,
    peft_logits,
    refused,
    rewrite_json,
    rewrite_tensors,
    save_checkpoint,
    tolerance,
)


def has_head(path: Path) -> bool:
    return any(tensor.name == "output.weight" for tensor in gguf.GGUFReader(path).tensors)


# --- checkpoints -----------------------------------------------------------------


@pytest.mark.parametrize("tied", [True, False], ids=["tied", "untied"])
@pytest.mark.parametrize("kind", [kind for kind in CONFIGS if kind not in UNTIED])
def test_logits_are_those_of_transformers(
    tmp_path: Path, tokenizer: Any, kind: str, tied: bool
) -> None:
    folder = save_checkpoint(tmp_path / kind, kind, tokenizer, tied)
    write_model(open_source(folder), tmp_path / "out.gguf", "F32")
    assert has_head(tmp_path / "out.gguf") != tied
    expected = peft_logits(folder, None)
    assert error(gguf_logits(tmp_path / "out.gguf"), expected) < tolerance(kind)


LLAMA3 = {"rope_type": "llama3", "factor": 8.0, "rope_theta": 5e5, "low_freq_factor": 1.0} | {
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}
YARN = {"rope_type": "yarn", "factor": 4.0, "rope_theta": 1e4} | {
    "original_max_position_embeddings": 128,
}
DYNAMIC = {"rope_type": "dynamic", "factor": 2.0, "rope_theta": 1e4}


@pytest.mark.parametrize(
    "rope",
    [
        {"rope_type": "linear", "factor": 2.0, "rope_theta": 1e4},
        {"rope_type": "yarn", "factor": 4.0, "rope_theta": 1e4}
        | {"original_max_position_embeddings": 128},
        {"rope_type": "yarn", "factor": 4.0, "rope_theta": 1e4, "attention_factor": 1.5}
        | {"original_max_position_embeddings": 128, "beta_fast": 32.0, "beta_slow": 1.0},
        {"rope_type": "yarn", "factor": 4.0, "rope_theta": 1e4, "mscale": 1.0}
        | {"original_max_position_embeddings": 128, "mscale_all_dim": 0.5},
        {"rope_type": "yarn", "factor": 4.0, "rope_theta": 1e4, "mscale": 0.7}
        | {"original_max_position_embeddings": 128},
        LLAMA3,
    ],
    ids=lambda rope: rope["rope_type"],
)
def test_rope_scaling(tmp_path: Path, tokenizer: Any, rope: dict[str, Any]) -> None:
    folder = save_checkpoint(tmp_path / "c", "llama", tokenizer, rope_parameters=rope)
    write_model(open_source(folder), tmp_path / "out.gguf", "F32")
    expected = peft_logits(folder, None)
    assert error(gguf_logits(tmp_path / "out.gguf"), expected) < TOLERANCE


@pytest.mark.parametrize(
    "biases", [["attention_bias"], ["mlp_bias"], ["attention_bias", "mlp_bias"]]
)
def test_biases_of_llama(tmp_path: Path, tokenizer: Any, biases: list[str]) -> None:
    options = dict.fromkeys(biases, True)
    folder = save_checkpoint(tmp_path / "c", "llama", tokenizer, bias=0.3, **options)
    write_model(open_source(folder), tmp_path / "out.gguf", "F32")
    assert error(gguf_logits(tmp_path / "out.gguf"), peft_logits(folder, None)) < TOLERANCE


@pytest.mark.parametrize("kind", [kind for kind in CONFIGS if kind not in UNTIED])
def test_a_head_that_differs_from_the_embedding_is_kept_whatever_the_config_says(
    tmp_path: Path, tokenizer: Any, kind: str
) -> None:
    folder = save_checkpoint(tmp_path / "c", kind, tokenizer, tied=False)
    expected = peft_logits(folder, None)
    rewrite_json(folder / "config.json", tie_word_embeddings=True)  # as merging tools leave it
    write_model(open_source(folder), tmp_path / "out.gguf", "F32")
    assert error(gguf_logits(tmp_path / "out.gguf"), expected) < tolerance(kind)
    assert error(peft_logits(folder, None), expected) < tolerance(kind), (
        "transformers keeps it as well"
    )


def test_a_head_that_is_the_embedding_is_not_stored_twice(tmp_path: Path, tokenizer: Any) -> None:
    folder = save_checkpoint(tmp_path / "c", "qwen3", tokenizer)
    rewrite_tensors(
        folder / "model.safetensors",
        lambda t: t | {"lm_head.weight": t["model.embed_tokens.weight"].clone()},
    )
    write_model(open_source(folder), tmp_path / "out.gguf", "F32")
    assert not has_head(tmp_path / "out.gguf")
    assert error(gguf_logits(tmp_path / "out.gguf"), peft_logits(folder, None)) < TOLERANCE


@pytest.mark.parametrize("shards", [1, 2])
def test_weights_that_torch_saved(
    tmp_path: Path, checkpoints: dict[str, Path], shards: int
) -> None:
    folder = shutil.copytree(checkpoints["qwen3"], tmp_path / "c")
    weights = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    if shards == 1:
        torch.save(weights, folder / "pytorch_model.bin")
    else:
        files = {name: f"pytorch_model-{n % 2}.bin" for n, name in enumerate(weights)}
        for file in set(files.values()):
            torch.save({n: w for n, w in weights.items() if files[n] == file}, folder / file)
        index = folder / "pytorch_model.bin.index.json"
        index.write_text(json.dumps({"weight_map": files}))
    write_model(open_source(folder), tmp_path / "out.gguf", "F32")
    expected = peft_logits(checkpoints["qwen3"], None)
    assert error(gguf_logits(tmp_path / "out.gguf"), expected) < TOLERANCE


@pytest.mark.parametrize("name", ["F32", "F16", "BF16"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16], ids=str)
def test_every_float_type_from_every_float_type(
    tmp_path: Path, tokenizer: Any, dtype: torch.dtype, name: str
) -> None:
    folder = save_checkpoint(tmp_path / "c", "qwen3", tokenizer, dtype=dtype)
    source = open_source(folder)
    assert (
        own_type(source)
        == {"float32": "F32", "float16": "F16", "bfloat16": "BF16"}[
            str(dtype).removeprefix("torch.")
        ]
    )
    write_model(source, tmp_path / "out.gguf", name)
    weights = load_file(folder / "model.safetensors")
    wanted = {"F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}[name]
    for tensor in gguf.GGUFReader(tmp_path / "out.gguf").tensors:
        if tensor.name == "blk.1.ffn_up.weight":
            assert tensor.tensor_type.name == name
            expected = weights["model.layers.1.mlp.up_proj.weight"].to(wanted).view(torch.uint8)
            assert np.array_equal(np.asarray(tensor.data).view(np.uint8), expected.numpy())
        if tensor.name.endswith("_norm.weight"):
            assert tensor.tensor_type.name == "F32"


def test_a_sharded_checkpoint_is_the_same(
    tmp_path: Path, tokenizer: Any, checkpoints: dict[str, Path]
) -> None:
    sharded = save_checkpoint(tmp_path / "s", "qwen3", tokenizer, max_shard_size="200KB")
    assert len(list(sharded.glob("*.safetensors"))) > 1
    for folder, out in ((sharded, "s.gguf"), (checkpoints["qwen3"], "w.gguf")):
        write_model(open_source(folder, "same"), tmp_path / out, "F32")
    assert np.array_equal(gguf_logits(tmp_path / "s.gguf"), gguf_logits(tmp_path / "w.gguf"))


def test_bf16_is_rounded_as_torch_rounds() -> None:
    bits = np.random.default_rng(0).integers(0, 2**32, 100_000, dtype=np.uint32)
    values = bits.view(np.float32)
    values = values[np.isfinite(values)]
    expected = torch.from_numpy(values).to(torch.bfloat16).view(torch.uint16).numpy()
    assert np.array_equal(from_f32(values, Type.BF16), expected)
    assert np.array_equal(
        to_f32(expected, Type.BF16), torch.from_numpy(expected).view(torch.bfloat16).float().numpy()
    )


# --- what is refused -------------------------------------------------------------


SLIDING = {"use_sliding_window": True, "sliding_window": 32, "max_window_layers": 0}


@pytest.mark.parametrize(
    ("kind", "options", "message"),
    [
        ("qwen3", {"attention_bias": True}, "attention_bias=True: llama.cpp's qwen3 has no bias"),
        ("qwen2", {"head_dim": 32}, "head_dim=32: llama.cpp's qwen2 needs hidden_size /"),
        ("qwen3", {"hidden_act": "gelu"}, "hidden_act='gelu': llama.cpp computes silu for qwen3"),
        ("qwen2", {"hidden_act": "relu"}, "hidden_act='relu'"),
        ("llama", {"hidden_act": "gelu_pytorch_tanh"}, "hidden_act='gelu_pytorch_tanh'"),
        ("qwen3", SLIDING, "sliding_window=32: llama.cpp's qwen3 has no sliding window"),
        ("qwen2", SLIDING, "sliding_window=32"),
        ("qwen3", {"rope_parameters": LLAMA3}, "config.json: RoPE scaling"),
        ("llama", {"rope_parameters": DYNAMIC}, "'dynamic'} is not supported"),
        (
            "llama",
            {"rope_parameters": YARN | {"beta_fast": 16.0}},
            "yarn with beta_fast=16.0 is not",
        ),
        ("qwen3", {"rope_parameters": YARN | {"beta_slow": 2.0}}, "yarn with beta_slow=2.0 is not"),
    ],
    ids=lambda value: "" if isinstance(value, dict) else str(value)[:30],
)
def test_what_llama_cpp_would_not_compute_is_refused_by_key(
    tmp_path: Path, tokenizer: Any, kind: str, options: dict[str, Any], message: str
) -> None:
    said = refused(save_checkpoint(tmp_path / "c", kind, tokenizer, **options))
    assert message in said
    assert str(tmp_path / "c" / "config.json") in said


def test_swish_is_silu_and_a_window_longer_than_the_context_is_none(
    tmp_path: Path, tokenizer: Any
) -> None:
    options = SLIDING | {"sliding_window": 512, "hidden_act": "swish"}
    folder = save_checkpoint(tmp_path / "c", "qwen2", tokenizer, **options)
    write_model(open_source(folder), tmp_path / "out.gguf", "F32")
    assert error(gguf_logits(tmp_path / "out.gguf"), peft_logits(folder, None)) < TOLERANCE


Change = Callable[[dict[str, torch.Tensor]], dict[str, torch.Tensor]]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda t: t | {"model.layers.0.self_attn.q_proj.bias": torch.ones(64)},
            "blk.0.attn_q.bias is in the checkpoint, but by config.json the model has no such",
        ),
        (lambda t: t | {"model.layers.0.extra.weight": torch.ones(4, 64)}, "has no place in"),
        (
            lambda t: {n: w for n, w in t.items() if "norm" not in n},
            "has no tensor for output_norm",
        ),
    ],
)
def test_tensors_that_contradict_the_config_are_named(
    tmp_path: Path, checkpoints: dict[str, Path], change: Change, message: str
) -> None:
    folder = shutil.copytree(checkpoints["llama"], tmp_path / "c")
    rewrite_tensors(folder / "model.safetensors", change)
    assert message in refused(folder)


@pytest.mark.parametrize(
    ("value", "type_"), [(np.nan, "F32"), (np.nan, "BF16"), (np.inf, "BF16"), (1e6, "F16")]
)
def test_values_that_are_not_finite_or_do_not_fit_are_named(
    tmp_path: Path, tokenizer: Any, value: float, type_: str
) -> None:
    folder = save_checkpoint(tmp_path / "c", "qwen3", tokenizer)

    def spoil(tensors: dict[str, torch.Tensor]) -> None:
        tensors["model.layers.1.mlp.up_proj.weight"][5, 5] = value

    rewrite_tensors(folder / "model.safetensors", spoil)
    with pytest.raises(ConvertError, match=r"blk\.1\.ffn_up\.weight: NaN or infinite values"):
        write_model(open_source(folder), tmp_path / "out.gguf", type_)
    assert not (tmp_path / "out.gguf").exists()


def test_an_adapter_given_as_a_base_is_named(tmp_path: Path, checkpoints: dict[str, Path]) -> None:
    for file in ("adapter_config.json", "config.json"):  # some tools put both into it
        shutil.copy(checkpoints["qwen3"] / "config.json", tmp_path / file)
        assert "an adapter, not a base; pass it with --lora" in refused(tmp_path)


def test_a_folder_that_is_no_checkpoint_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConvertError, match=r"none: no such file or folder"):
        open_source(tmp_path / "none")
    with pytest.raises(ConvertError, match=r"config\.json: no such file"):
        open_source(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "gpt2"}))
    with pytest.raises(ConvertError, match=r"architecture .* is not supported, only Qwen3"):
        open_source(tmp_path)


ROPE = {"rope_type": "default", "rope_theta": 5e4}


def test_rope_parameters_by_type_of_layer_are_taken_where_all_layers_have_the_same(
    tmp_path: Path, checkpoints: dict[str, Path]
) -> None:
    folder = shutil.copytree(checkpoints["qwen3"], tmp_path / "c")
    rewrite_json(folder / "config.json", rope_parameters=ROPE)
    expected = peft_logits(folder, None)
    source = open_source(folder)
    assert isinstance(source, CheckpointSource)
    types = ["full_attention"] * 2
    path = folder / "config.json"
    nested = {"full_attention": ROPE, "sliding_attention": ROPE | {"rope_theta": 1e4}}
    config = source.config | {"rope_parameters": nested, "layer_types": types}
    config.pop("rope_theta", None)
    assert rope_of(config, path)["rope_theta"] == 5e4
    with pytest.raises(ConvertError, match=r"config\.json: rope_parameters differ between types"):
        rope_of(config | {"layer_types": ["full_attention", "sliding_attention"]}, path)
    write_model(source, tmp_path / "out.gguf", "F32")
    assert error(gguf_logits(tmp_path / "out.gguf"), expected) < TOLERANCE


# In place of which transformers may take a default.
DEFAULTS = (None, [], 0, True, 1.5, -1, {"a": 1})
WRONG = ["x", -1, 0, 1.5, True, [], {"a": 1}, None, 10**20]


@pytest.mark.parametrize(
    "key",
    [
        *("architectures", "num_hidden_layers", "num_attention_heads", "num_key_value_heads"),
        *("head_dim", "hidden_size", "intermediate_size", "vocab_size", "rms_norm_eps"),
        *("max_position_embeddings", "rope_parameters", "layer_types", "bos_token_id"),
    ],
)
def test_a_value_of_a_wrong_type_in_the_config_is_named(
    tmp_path: Path, checkpoints: dict[str, Path], key: str
) -> None:
    folder = shutil.copytree(checkpoints["qwen3"], tmp_path / "c")
    for value in WRONG:
        rewrite_json(folder / "config.json", **{key: value})
        problem = problem_with(folder)
        assert str(folder) in problem or value in DEFAULTS, (value, problem)


def problem_with(folder: Path) -> str:
    """Why a checkpoint is refused, or ""."""
    try:
        write_model(open_source(folder), folder / "out.gguf", "F32")
    except ConvertError as error:
        return str(error)
    return ""


def test_a_model_in_parts_is_read_whole_from_any_of_them(
    tmp_path: Path, checkpoints: dict[str, Path]
) -> None:
    whole = tmp_path / "whole.gguf"
    write_model(open_source(checkpoints["llama"]), whole, "F32")
    parts = [tmp_path / f"m-0000{n}-of-00002.gguf" for n in (1, 2)]
    split(whole, parts)
    for part in parts:
        source = open_source(part)
        assert (source.name, source.files()) == ("m", parts)
        write_model(source, tmp_path / "out.gguf", "F32")
        assert np.array_equal(gguf_logits(tmp_path / "out.gguf"), gguf_logits(whole))
    assert base_name(str(parts[0])) == "m"
    parts[0].rename(tmp_path / "other.gguf")
    with pytest.raises(ConvertError, match=r"parts; m-00001-of-00002\.gguf is missing"):
        open_source(parts[1])
    with pytest.raises(ConvertError, match="one of 2 parts of a model, but not named like one"):
        open_source(tmp_path / "other.gguf")


def split(path: Path, parts: list[Path]) -> None:
    """What llama-gguf-split does: metadata in the first part, tensors in all."""
    reader = gguf.GGUFReader(path)
    half = len(reader.tensors) // 2
    for number, (part, tensors) in enumerate(
        zip(parts, (reader.tensors[:half], reader.tensors[half:]), strict=True)
    ):
        writer = gguf.GGUFWriter(part, "llama")
        if number:
            writer.kv_data[0].clear()
        else:
            for key, field in reader.fields.items():
                if not key.startswith("GGUF.") and key != "general.architecture":
                    kind, *inner = field.types
                    writer.add_key_value(key, field.contents(), kind, inner[-1] if inner else None)
        writer.add_uint16("split.no", number)
        writer.add_uint16("split.count", 2)
        writer.add_int32("split.tensors.count", len(reader.tensors))
        for tensor in tensors:
            writer.add_tensor(tensor.name, np.asarray(tensor.data))
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
