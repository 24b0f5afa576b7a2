"""A Hugging Face checkpoint as a base model."""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterable, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import gguf
import numpy as np

from convert.architectures import ARCHITECTURES
from convert.base import EMBEDDING, HEAD, Source, SourceTensor
from convert.errors import ConvertError
from convert.rope import add_rope, rope_factors, rope_of
from convert.safetensors import Type
from convert.stored import read_tensors
from convert.tokenizer import add_tokenizer, added_tokens, chat_template, tokenizer_config
from runtime.common.files import read_json

log = logging.getLogger(__name__)

# Files with weights, in transformers' order of preference.
_WEIGHTS = ("model.safetensors", "pytorch_model.bin")
# Rows that are compared at a time.
_ROWS = 4096


class CheckpointSource(Source):
    """A folder saved by transformers: config.json, weights, tokenizer.

    Raises:
        ConvertError: a key or tensor is missing, contradicts another, or would be computed
            differently by llama.cpp.
    """

    def __init__(self, folder: Path, name: str | None) -> None:
        self.path = folder
        self.name = name or folder.resolve().name
        self.config = _load_config(folder)
        path = folder / "config.json"
        listed = self.config.get("architectures")
        architecture = listed[0] if isinstance(listed, list) and listed else "none"
        if not isinstance(architecture, str) or architecture not in ARCHITECTURES:
            raise ConvertError(
                f"{path}: architecture {architecture} is not supported, only"
                f" {', '.join(ARCHITECTURES)}"
            )
        _check_numbers(path, self.config)
        if self.config.get("quantization_config"):
            raise ConvertError(
                f"{folder}: the checkpoint is quantized already; give the 16-bit one"
            )
        self.architecture = ARCHITECTURES[architecture]
        problem = self.architecture.problem_with(self.config)
        if problem:
            raise ConvertError(f"{path}: {problem}")
        self.n_layers = self.config["num_hidden_layers"]
        self.n_head = self.config["num_attention_heads"]
        self.n_head_kv = self.config.get("num_key_value_heads") or self.n_head
        by_layer = self.architecture.windows == "computed"
        self._rope = rope_of(self.config, path, "full_attention" if by_layer else None)
        self._rope_factors = rope_factors(
            self._rope, self._head_dim, self.architecture.rope_types, path
        )
        self._parts = _find_parts(folder)
        self.tensors = dict(self._find_tensors())
        self._check_shapes()
        self._drop_head_that_is_the_embedding()

    def files(self) -> list[Path]:
        small = ["config.json", "generation_config.json", "tokenizer.json"]
        small += ["tokenizer_config.json", "chat_template.jinja", "chat_template.json"]
        small += ["merges.txt", "README.md"]
        return [*self._parts, *(p for n in small if (p := self.path / n).is_file())]

    @cached_property
    def _tokenizer_config(self) -> dict[str, Any]:
        return tokenizer_config(self.path)

    @cached_property
    def chat_template(self) -> Any:
        return chat_template(self.path, self._tokenizer_config)

    @cached_property
    def added_tokens(self) -> Collection[str]:
        return set(added_tokens(self.path))

    @property
    def _head_dim(self) -> int:
        return int(self.config.get("head_dim") or self.config["hidden_size"] // self.n_head)

    def _check_shapes(self) -> None:
        """Raise ConvertError for a tensor that is missing or contradicts config.json."""
        wanted = dict(self._wanted_shapes())
        for name, shape in wanted.items():
            tensor = self.tensors.get(name)
            if tensor is None:
                raise ConvertError(f"{self.path}: the checkpoint has no tensor for {name}")
            if tensor.shape != shape:
                raise ConvertError(
                    f"{self.path}: {name} has shape {tensor.shape}, but by config.json it has"
                    f" {shape}"
                )
        others = {HEAD, *self._rope_factors}  # there may be a head despite tie_word_embeddings
        unknown = next((name for name in self.tensors if name not in wanted.keys() | others), None)
        if unknown:  # transformers would ignore it, llama.cpp would use it
            raise ConvertError(
                f"{self.path}: {unknown} is in the checkpoint, but by config.json the model has no"
                " such tensor"
            )

    def _wanted_shapes(self) -> Iterable[tuple[str, tuple[int, ...]]]:
        vocab, hidden, head = self.config["vocab_size"], self.config["hidden_size"], self._head_dim
        yield EMBEDDING, (vocab, hidden)
        yield "output_norm.weight", (hidden,)
        if not self.config.get("tie_word_embeddings"):
            yield HEAD, (vocab, hidden)
        layer = self.architecture.layer_shapes(
            {
                "hidden": hidden,
                "head": head,
                "query": self.n_head * head,
                "key": self.n_head_kv * head,
                "feed_forward": self.config["intermediate_size"],
            }
        )
        biased = self.architecture.biased(self.config)
        for number in range(self.n_layers):
            for name, shape in layer.items():
                yield f"blk.{number}.{name}.weight", shape
            for name in biased:
                yield f"blk.{number}.{name}.bias", layer[name][:1]

    def _find_tensors(self) -> Iterable[tuple[str, SourceTensor]]:
        for own, factors in self._rope_factors.items():
            yield own, SourceTensor(own, factors.shape, Type.F32, lambda factors=factors: factors)  # type: ignore[misc]
        names = gguf.get_tensor_name_map(self.architecture.gguf, self.n_layers)
        for part in self._parts:
            for stored in read_tensors(part).values():
                name = names.get_name(stored.name, try_suffixes=(".weight", ".bias"))
                if name is None:
                    raise ConvertError(
                        f"{part}: tensor {stored.name} has no place in a"
                        f" {self.architecture.gguf_name} model"
                    )
                yield name, self.as_gguf(name, stored)

    def _drop_head_that_is_the_embedding(self) -> None:
        """Drop the output head of a tied model if it equals the embedding.

        A head that differs is kept despite tie_word_embeddings, as transformers 5 and llama.cpp's
        converter do: merging tools write such checkpoints.
        """
        if not self.config.get("tie_word_embeddings") or HEAD not in self.tensors:
            return
        embedding, head = self.tensors[EMBEDDING], self.tensors[HEAD]
        if embedding.shape != head.shape:
            raise ConvertError(
                f"{self.path}: {HEAD} has shape {head.shape}, but by config.json it has"
                f" {embedding.shape}"
            )
        ours, theirs = embedding.read(), head.read()
        if embedding.type == head.type and all(
            np.array_equal(ours[n : n + _ROWS], theirs[n : n + _ROWS])
            for n in range(0, len(ours), _ROWS)
        ):
            del self.tensors[HEAD]

    def add_metadata(self, writer: gguf.GGUFWriter, file_type: int, finetune: str | None) -> None:
        n_parameters, *shared = writer.get_total_parameter_count()
        metadata = gguf.Metadata.load(None, self.path, None, n_parameters)
        metadata.name = metadata.name or self.name
        if metadata.size_label is None and n_parameters > 0:
            metadata.size_label = gguf.size_label(n_parameters, *shared)
        if finetune:
            metadata.finetune = finetune
        writer.add_type(gguf.GGUFType.MODEL)
        metadata.set_gguf_meta_model(writer)
        self._add_parameters(writer)
        writer.add_file_type(file_type)
        writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
        config = self._tokenizer_config if self.architecture.vocabulary_details else None
        add_tokenizer(writer, self.path, self.config["vocab_size"], self.chat_template, config)

    def _add_parameters(self, writer: gguf.GGUFWriter) -> None:
        config = self.config
        writer.add_block_count(self.n_layers)
        longest = self.architecture.context_length(config)
        if longest < config["max_position_embeddings"]:
            log.warning(
                "%s: the exported model has a context of %d tokens instead of %d: llama.cpp would"
                " compute longer texts differently (sliding_window, longrope)",
                self.path,
                longest,
                config["max_position_embeddings"],
            )
        writer.add_context_length(longest)
        writer.add_embedding_length(config["hidden_size"])
        writer.add_feed_forward_length(config["intermediate_size"])
        writer.add_head_count(self.n_head)
        writer.add_head_count_kv(self.n_head_kv)
        writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
        for key, method in self.architecture.numbers.items():
            getattr(writer, method)(float(config[key]))
        if self.architecture.metadata is not None:
            self.architecture.metadata(writer, config)
        add_rope(
            writer,
            self._rope,
            self.architecture.rope_types,
            config["max_position_embeddings"],
            self.path / "config.json",
        )
        if config.get("head_dim") is not None:
            writer.add_key_length(config["head_dim"])
            writer.add_value_length(config["head_dim"])
        if self.architecture.vocabulary_details:
            writer.add_vocab_size(config["vocab_size"])
            writer.add_rope_dimension_count(self._head_dim)


def _load_config(folder: Path) -> dict[str, Any]:
    from transformers import AutoConfig

    if (folder / "adapter_config.json").is_file() and not any(
        (folder / name).exists()
        for weights in _WEIGHTS
        for name in (weights, f"{weights}.index.json")
    ):
        raise ConvertError(
            f"{folder}: an adapter, not a base; pass it with --lora, and the model that it was"
            " trained on with --base"
        )
    if not (folder / "config.json").is_file():
        raise ConvertError(f"{folder}/config.json: no such file; is this a checkpoint's folder?")
    try:
        config = AutoConfig.from_pretrained(folder, local_files_only=True)
    except Exception as error:  # transformers raises many kinds of errors for wrong values
        raise ConvertError(f"{folder}/config.json: cannot be read ({error})") from None
    return dict(config.to_dict())


# Keys of config.json with whole numbers above 0, and those of them that may be missing.
_SIZES = (
    *("num_hidden_layers", "num_attention_heads", "hidden_size", "intermediate_size"),
    *("vocab_size", "max_position_embeddings"),
)
_OPTIONAL_SIZES = ("num_key_value_heads", "head_dim", "sliding_window")
_MOST = 1 << 31


def _check_numbers(path: Path, config: Mapping[str, Any]) -> None:
    """Raise ConvertError for a value of config.json that is not of its type."""
    for key in (*_SIZES, *_OPTIONAL_SIZES):
        value = config.get(key)
        if value is None and key in _OPTIONAL_SIZES:
            continue
        if isinstance(value, bool) or not isinstance(value, int) or not 0 < value < _MOST:
            raise ConvertError(f"{path}: {key} is {value!r}, not a whole number above 0")
    epsilon = config.get("rms_norm_eps")
    if isinstance(epsilon, bool) or not isinstance(epsilon, (int, float)) or not 0 <= epsilon < 1:
        raise ConvertError(f"{path}: rms_norm_eps is {epsilon!r}, not a number from 0 to 1")
    types = config.get("layer_types")
    if types is not None and not (
        isinstance(types, list) and all(isinstance(each, str) for each in types)
    ):
        raise ConvertError(f"{path}: layer_types is {types!r}, not a list of names")
    heads, keys = config["num_attention_heads"], config.get("num_key_value_heads")
    size = config.get("head_dim") or config["hidden_size"] // heads
    if heads % (keys or heads) or size < 2 or size % 2:
        raise ConvertError(
            f"{path}: {heads} heads of size {size}, {keys} for keys and values: no valid model"
        )


def _find_parts(folder: Path) -> list[Path]:
    """The files with a checkpoint's weights, in the order of their names."""
    for name in _WEIGHTS:
        index = folder / f"{name}.index.json"
        if index.is_file():
            return _indexed(folder, index)
        if (folder / name).is_file():
            return [folder / name]
    raise ConvertError(
        f"{folder}: no {' or '.join(_WEIGHTS)}; load a checkpoint in another format with"
        " transformers and save it"
    )


def _indexed(folder: Path, index: Path) -> list[Path]:
    try:
        names = sorted(set(read_json(index)["weight_map"].values()))
    except (OSError, ValueError, KeyError, AttributeError, TypeError) as error:
        raise ConvertError(f"{index}: not an index of weights ({error})") from None
    missing = [name for name in names if not (folder / name).is_file()]
    if missing:
        raise ConvertError(f"{folder}: files in {index.name} are missing: {missing}")
    return [folder / name for name in names]
