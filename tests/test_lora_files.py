"""Files of adapters as they are found: read as peft reads them, or refused by name."""

from __future__ import annotations

import json
import logging
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from convert.errors import ConvertError
from convert.lora import Adapter
from convert.sources import open_source
from tests.checkpoints import (
    CHAT_TEMPLATE,
    TOLERANCE,
    Base,
    Tensors,
    error,
    merged_logits,
    peft_logits,
    rewrite_config,
    rewrite_json,
    rewrite_tensors,
    save_lora,
    tiny_tokenizer,
)

TARGETS = ["q_proj", "v_proj"]
Edit = Callable[[Tensors], Tensors]


@pytest.fixture(scope="module")
def made(bases: dict[str, Base], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("made") / "lora"
    save_lora(folder, bases["qwen3"].folder, target_modules=TARGETS)
    return folder


@pytest.fixture
def lora(tmp_path: Path, made: Path) -> Path:
    """An adapter for qwen3 that a test may change."""
    return shutil.copytree(made, tmp_path / "lora")


def refused(folder: Path, base: Path) -> str:
    with pytest.raises(ConvertError) as caught:
        Adapter(folder, open_source(base))
    return str(caught.value)


def name_all(tensors: Tensors, old: str, new: str) -> Tensors:
    return {name.replace(old, new): tensor for name, tensor in tensors.items()}


def with_norms(tensors: Tensors) -> Tensors:
    norms = {
        f"base_model.model.model.layers.{n}.{part}.weight": torch.rand(64) + 0.5
        for n in (0, 1)
        for part in ("input_layernorm", "post_attention_layernorm")
    }
    return tensors | norms | {"base_model.model.model.norm.weight": torch.rand(64) + 0.5}


def with_head(tensors: Tensors) -> Tensors:
    shape = (len(tiny_tokenizer()) + 24, 64)
    return tensors | {"base_model.model.lm_head.weight": torch.randn(shape) * 0.1}


AS_PEFT: dict[str, tuple[Edit, dict[str, Any]]] = {
    "the adapter's name in names": (lambda t: name_all(t, ".weight", ".default.weight"), {}),
    "norms, as mergekit extracts them": (with_norms, {}),
    "a head for a tied base": (with_head, {}),
    "buffers of old versions": (
        lambda t: t | {"base_model.model.model.rotary_emb.inv_freq": torch.zeros(16)},
        {},
    ),
    "types of different precision": (
        lambda t: {n: w.bfloat16() if "lora_A" in n else w.half() for n, w in t.items()},
        {},
    ),
    "more modules than matrices": (lambda t: t, {"target_modules": [*TARGETS, "up_proj"]}),
    "all-linear, not spelled out": (lambda t: t, {"target_modules": "all-linear"}),
    "alpha as a float": (lambda t: t, {"lora_alpha": 8.5}),
}


@pytest.mark.parametrize("kind", AS_PEFT)
def test_files_of_other_makers_say_what_peft_makes_of_them(
    tmp_path: Path, bases: dict[str, Base], lora: Path, kind: str
) -> None:
    edit, config = AS_PEFT[kind]
    rewrite_tensors(lora / "adapter_model.safetensors", edit)
    rewrite_config(lora, **config)
    expected = peft_logits(bases["qwen3"].folder, lora)
    assert error(bases["qwen3"].logits, expected) > 100 * TOLERANCE, "peft loads something"
    assert error(merged_logits(bases["qwen3"], lora), expected) < TOLERANCE


def by_columns(tensor: torch.Tensor) -> torch.Tensor:
    """The same numbers, stored column by column, as a parameter."""
    return torch.nn.Parameter(tensor.t().contiguous().t())


@pytest.mark.parametrize(
    "change", [lambda w: w, lambda w: w.bfloat16(), lambda w: w.half(), by_columns]
)
def test_a_file_that_torch_saved(bases: dict[str, Base], lora: Path, change: Any) -> None:
    tensors = load_file(lora / "adapter_model.safetensors")
    (lora / "adapter_model.safetensors").unlink()
    torch.save({n: change(w) for n, w in tensors.items()}, lora / "adapter_model.bin")
    expected = peft_logits(bases["qwen3"].folder, lora)
    assert error(merged_logits(bases["qwen3"], lora), expected) < TOLERANCE


class Evil:
    """Something that runs a command when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return os.system, (f"touch {self.path}",)


def test_a_file_that_torch_saved_can_run_nothing(
    tmp_path: Path, bases: dict[str, Base], lora: Path
) -> None:
    (lora / "adapter_model.safetensors").unlink()
    torch.save({"x": Evil(tmp_path / "ran")}, lora / "adapter_model.bin")
    said = refused(lora, bases["qwen3"].folder)
    assert "adapter_model.bin: not a file of tensors (it calls posix.system" in said
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"x": torch.zeros(2, dtype=torch.int8)}, "only F32, F16 and BF16 can be converted"),
        ({"x": 3}, "x is a int, not a tensor"),
        ([torch.zeros(2)], "it has a list, not tensors by name"),
    ],
)
def test_a_file_that_torch_saved_with_something_else_is_named(
    bases: dict[str, Base], lora: Path, content: Any, message: str
) -> None:
    (lora / "adapter_model.safetensors").unlink()
    path = lora / "adapter_model.bin"
    torch.save(content, path)
    assert message in refused(lora, bases["qwen3"].folder)
    torch.save(content, path, _use_new_zipfile_serialization=False)
    assert "written by torch before 1.6" in refused(lora, bases["qwen3"].folder)


NOT_LOADED: dict[str, tuple[Edit, dict[str, Any], str]] = {
    "no prefix": (
        lambda t: name_all(t, "base_model.model.", ""),
        {},
        "its name does not begin with base_model.model., so peft would not load it",
    ),
    "no such module": (
        lambda t: name_all(t, "base_model.model.model.", "base_model.model."),
        {},
        "has no module layers.0.",
    ),
    "not named by target_modules": (
        lambda t: t,
        {"target_modules": ["v_proj"]},
        "target_modules does not name its module, so peft would not load it",
    ),
    "not in these layers": (lambda t: t, {"layers_to_transform": [0]}, "does not name its module"),
    "torch.compile inside": (
        lambda t: name_all(t, "base_model.model.", "base_model.model._orig_mod."),
        {},
        "its name has _orig_mod in it, so peft would not load it",
    ),
    "torch.compile before": (
        lambda t: name_all(t, "base_model.model.", "_orig_mod.base_model.model."),
        {},
        "its name has _orig_mod in it, so peft would not load it",
    ),
    "FSDP": (
        lambda t: name_all(t, ".self_attn.", "._fsdp_wrapped_module.self_attn."),
        {},
        "its name has _fsdp_wrapped_module in it, so peft would not load it",
    ),
    "another adapter's name": (
        lambda t: name_all(t, ".weight", ".sft.weight"),
        {},
        "it belongs to an adapter called 'sft', so peft would not load it",
    ),
}


@pytest.mark.parametrize("kind", NOT_LOADED)
def test_what_peft_would_leave_out_is_refused_by_name(
    bases: dict[str, Base], lora: Path, kind: str
) -> None:
    before = peft_logits(bases["qwen3"].folder, lora)
    edit, config, message = NOT_LOADED[kind]
    rewrite_tensors(lora / "adapter_model.safetensors", edit)
    rewrite_config(lora, **config)
    assert error(peft_logits(bases["qwen3"].folder, lora), before) > 100 * TOLERANCE
    said = refused(lora, bases["qwen3"].folder)
    assert message in said
    assert "adapter_model.safetensors: tensor " in said


# --- what is refused -------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"r": 0}, "r is 0, not a whole number above 0"),
        ({"r": 4.5}, "r is 4.5, not a whole number above 0"),
        ({"lora_alpha": 10**400}, "0, not a number above 0"),
        ({"modules_to_save": "lm_head"}, "modules_to_save is 'lm_head', not a list of names"),
        ({"lora_alpha": "many"}, "lora_alpha is 'many'"),
        ({"peft_type": "IA3"}, "peft_type is 'IA3', not 'LORA'"),
        ({"init_lora_weights": "pissa"}, "changes the base's weights"),
        ({"init_lora_weights": "lora_ga"}, "changes the base's weights"),
        ({"trainable_token_indices": [5]}, "single trained tokens are not supported"),
        ({"lora_bias": True}, "biases of LoRA layers are not supported"),
        ({"r": 8}, "q_proj.lora_A.weight: A of shape (4, 64) and B of (128, 4) are not of rank 8"),
        ({"use_dora": True}, "its magnitude vector is missing"),
        ({"modules_to_save": ["mlp"]}, "modules_to_save names model.layers.0.mlp.gate_proj, but"),
        ({"target_modules": {"q_proj": 1}}, "target_modules is {'q_proj': 1}, not a list of names"),
        ({"target_modules": "*_proj"}, "target_modules: '*_proj' is not a valid pattern"),
        ({"rank_pattern": [4]}, "rank_pattern is [4], not numbers by module"),
        ({"alpha_pattern": {"q_proj": None}}, "alpha_pattern: q_proj is None, not a number above"),
        ({"rank_pattern": {"q_proj": "4"}}, "rank_pattern: q_proj is '4', not a whole number"),
        ({"layers_to_transform": ["a"]}, "layers_to_transform is ['a'], not numbers of layers"),
        ({"target_modules": r"(\w+\.?)+\."}, "takes more than 1 seconds: name the modules in"),
    ],
)
def test_an_adapter_config_that_cannot_be_exported_is_named(
    bases: dict[str, Base],
    lora: Path,
    monkeypatch: pytest.MonkeyPatch,
    changes: dict[str, Any],
    message: str,
) -> None:
    monkeypatch.setattr("convert.lora_config._PATTERN_SECONDS", 1)
    said = refused(rewrite_config(lora, **changes), bases["qwen3"].folder)
    assert message in said
    assert str(lora) in said


def with_tensor(name: str, value: torch.Tensor | None) -> Edit:
    """Replaces, adds or (None) removes a tensor."""
    full = f"base_model.model.{name}"

    def edit(tensors: Tensors) -> Tensors:
        rest = {n: w for n, w in tensors.items() if n != full}
        return rest if value is None else {full: value} | rest

    return edit


Q = "model.layers.0.self_attn.q_proj"
EMBEDDING = "model.embed_tokens"


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (with_tensor(f"{Q}.lora_B.weight", None), "its lora_B is missing"),
        (with_tensor(f"{Q}.lora_A.weight", torch.full((4, 64), torch.nan)), "it has NaN"),
        (with_tensor(f"{Q}.lora_A.weight", torch.zeros(4, 32)), "trained on another base?"),
        (with_tensor(f"{Q}.lora_A.weight", torch.zeros(0)), "it is empty, as DeepSpeed's ZeRO-3"),
        (with_tensor(f"{Q}.lora_A.default.weight", torch.zeros(4, 64)), "has it a second time"),
        (with_tensor(f"{Q}.base_layer.bias", torch.zeros(128)), "has no bias there"),
        (with_tensor(f"{Q}.weight", torch.zeros(128, 64)), "its module is adapted, so peft would"),
        (with_tensor(f"{Q}.lora_C", torch.zeros(1)), "neither a LoRA matrix nor a weight"),
        (with_tensor("model.norm.weight", torch.full((64,), torch.inf)), "it has NaN or infinite"),
        (with_tensor("model.layers.7.mlp.up_proj.lora_A.weight", torch.zeros(4, 64)), "no module"),
        (
            with_tensor(f"{EMBEDDING}.weight", torch.zeros(999, 64)),
            "if tokens were added for training, resize the base's embedding, save it with",
        ),
    ],
)
def test_a_tensor_that_does_not_fit_is_named(
    bases: dict[str, Base], lora: Path, edit: Edit, message: str
) -> None:
    rewrite_tensors(lora / "adapter_model.safetensors", edit)
    said = refused(lora, bases["qwen3"].folder)
    assert message in said
    assert "adapter_model.safetensors: tensor base_model.model.model." in said


def test_an_adapter_of_another_architecture_is_refused(bases: dict[str, Base], lora: Path) -> None:
    assert "trained on another base?" in refused(lora, bases["llama"].folder)


def test_an_adapter_of_mlx_is_told_from_one_of_peft(bases: dict[str, Base], lora: Path) -> None:
    config = {"fine_tune_type": "lora", "num_layers": 2, "lora_parameters": {"rank": 8}}
    (lora / "adapter_config.json").write_text(json.dumps(config))
    (lora / "adapter_model.safetensors").rename(lora / "adapters.safetensors")
    assert "an adapter of MLX" in refused(lora, bases["qwen3"].folder)


def test_a_folder_without_an_adapter_names_those_in_it(bases: dict[str, Base], lora: Path) -> None:
    shutil.copytree(lora, lora / "checkpoint-500")
    (lora / "adapter_config.json").unlink()
    said = refused(lora, bases["qwen3"].folder)
    assert "adapter_config.json: no such file; is it one of checkpoint-500 in it?" in said
    (lora / "checkpoint-500" / "adapter_model.safetensors").unlink()
    said = refused(lora / "checkpoint-500", bases["qwen3"].folder)
    assert "no adapter_model.safetensors or adapter_model.bin;" in said


@pytest.mark.parametrize(
    "name", ["adapter_config.json", "tokenizer_config.json", "tokenizer.json", "training.json"]
)
def test_json_that_is_nested_too_deeply_is_no_traceback(
    bases: dict[str, Base], lora: Path, name: str
) -> None:
    (lora / name).write_text("[" * 100_000)
    if name == "adapter_config.json":
        assert "adapter_config.json: cannot be read" in refused(lora, bases["qwen3"].folder)
    else:  # beside the adapter: remarked on at most
        assert Adapter(lora, open_source(bases["qwen3"].folder)).training() is None


def test_a_truncated_file_is_named(tmp_path: Path, bases: dict[str, Base], lora: Path) -> None:
    path = lora / "adapter_model.safetensors"
    whole, tensors = path.read_bytes(), load_file(path)
    for size in (0, 5, 100, len(whole) - 1):
        path.write_bytes(whole[:size])
        assert str(path) in refused(lora, bases["qwen3"].folder)
    path.unlink()
    path = lora / "adapter_model.bin"
    torch.save(tensors, path)
    whole = path.read_bytes()
    for size in (0, 5, 100, len(whole) - 1):
        path.write_bytes(whole[:size])
        assert str(path) in refused(lora, bases["qwen3"].folder)
    folder = shutil.copytree(bases["qwen3"].folder, tmp_path / "c")
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-10])
    with pytest.raises(ConvertError, match=r"model\.safetensors: truncated"):
        open_source(folder)


# --- what is remarked on ---------------------------------------------------------


def warnings(caplog: pytest.LogCaptureFixture, lora: Path, base: Path) -> str:
    caplog.clear()
    with caplog.at_level(logging.WARNING):
        Adapter(lora, open_source(base, "qwen3-base"))
    return caplog.text


def test_a_base_of_another_name_is_remarked_on_but_not_a_quantized_copy(
    caplog: pytest.LogCaptureFixture, bases: dict[str, Base], lora: Path
) -> None:
    for name, same in (
        ("me/Qwen3-base", True),
        ("unsloth/qwen3-base-unsloth-bnb-4bit", True),
        ("unsloth/qwen3-base-bnb-4bit", True),
        ("C:\\models\\Qwen3-base", True),
        ("C:\\models\\other", False),
        ("me/other", False),
    ):
        rewrite_config(lora, base_model_name_or_path=name)
        said = warnings(caplog, lora, bases["qwen3"].folder)
        assert (f"was trained on {name}; it is applied to qwen3-base" in said) != same


@pytest.mark.parametrize("kind", ["folder", "gguf"])
def test_a_tokenizer_beside_the_adapter_that_differs_from_the_bases_is_remarked_on(
    caplog: pytest.LogCaptureFixture, bases: dict[str, Base], lora: Path, kind: str
) -> None:
    rewrite_config(lora, base_model_name_or_path="qwen3-base")
    base: Path = getattr(bases["qwen3"], kind)
    tiny_tokenizer().save_pretrained(lora)
    assert warnings(caplog, lora, base) == ""
    (lora / "chat_template.jinja").write_text(CHAT_TEMPLATE + "!")
    assert "has another chat template than qwen3-base" in warnings(caplog, lora, base)
    (lora / "chat_template.jinja").unlink()
    tokens = json.loads((lora / "tokenizer.json").read_text("utf-8"))["added_tokens"]
    added = [*tokens, {"id": 950, "content": "<|tool|>"}]
    rewrite_json(lora / "tokenizer.json", added_tokens=added)
    said = warnings(caplog, lora, base)
    assert "has 1 tokens that qwen3-base does not have, such as '<|tool|>'" in said


def test_modules_without_matrices_are_remarked_on(
    caplog: pytest.LogCaptureFixture, bases: dict[str, Base], lora: Path
) -> None:
    rewrite_config(lora, target_modules=[*TARGETS, "up_proj"])
    said = warnings(caplog, lora, bases["qwen3"].folder)
    assert "the file has no matrices for 2 modules of target_modules" in said
    assert "model.layers.0.mlp.up_proj" in said
