"""The base model: a Hugging Face checkpoint or a GGUF file, seen as GGUF tensors.

Both kinds of source say what tensors the GGUF file will have, in its names and its order of
rows, and write its metadata; tensors are read one at a time.
"""

from __future__ import annotations

import json
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gguf
import numpy as np

from convert.errors import ConvertError
from convert.safetensors import StoredTensor, Type, read_index, to_f32
from convert.tokenizer import add_tokenizer

ARCHITECTURES = {
    "Qwen3ForCausalLM": gguf.MODEL_ARCH.QWEN3,
    "Qwen2ForCausalLM": gguf.MODEL_ARCH.QWEN2,
    "LlamaForCausalLM": gguf.MODEL_ARCH.LLAMA,
}
FLOATS = (Type.F32, Type.F16, Type.BF16)
# Buffers that some checkpoints carry and nobody needs.
_IGNORED = (".attention.masked_bias", ".attention.bias", ".rotary_emb.inv_freq")


@dataclass(frozen=True)
class SourceTensor:
    """A tensor of the GGUF file to be.

    Attributes:
        name: its GGUF name, such as "blk.0.attn_q.weight".
        shape: rows first, as numpy has it.
        type: how the source stores it.
        read: returns the data as stored: float32, float16, or uint16 with BF16's bits.
    """

    name: str
    shape: tuple[int, ...]
    type: Type
    read: Callable[[], np.ndarray]

    def read_f32(self) -> np.ndarray:
        """The data as float32, in an array of its own."""
        data = self.read()
        if self.type in FLOATS:
            return to_f32(data, self.type)
        return np.asarray(gguf.quants.dequantize(data, self.type), np.float32)


class Source(ABC):
    """A base model."""

    path: Path
    name: str
    arch: gguf.MODEL_ARCH
    n_layers: int
    n_head: int
    n_head_kv: int
    tensors: dict[str, SourceTensor]

    @abstractmethod
    def add_metadata(self, writer: gguf.GGUFWriter, file_type: int, finetune: str | None) -> None:
        """Write everything but the tensors; `finetune` names what was merged in."""

    @abstractmethod
    def files(self) -> list[Path]:
        """The files that the result depends on."""

    @property
    def tied(self) -> bool:
        """Whether the output head is the embedding."""
        return "output.weight" not in self.tensors

    def gguf_name(self, module: str) -> str | None:
        """GGUF tensor of a module such as "model.layers.0.mlp.up_proj", or None."""
        names = gguf.get_tensor_name_map(self.arch, self.n_layers)
        return names.get_name(f"{module}.weight", try_suffixes=(".weight",))

    def reorder_rows(self, name: str, rows: np.ndarray) -> np.ndarray:
        """Rows of a tensor as transformers has them, in the order of the GGUF file.

        Only llama differs: llama.cpp rotates neighbouring pairs of a head's rows where
        transformers rotates its halves, so the rows of query and key are interleaved.
        """
        heads = {"attn_q": self.n_head, "attn_k": self.n_head_kv}.get(name.split(".")[-2])
        if self.arch != gguf.MODEL_ARCH.LLAMA or heads is None:
            return rows
        halves = rows.reshape(heads, 2, rows.shape[0] // heads // 2, *rows.shape[1:])
        return halves.swapaxes(1, 2).reshape(rows.shape)


def open_source(path: Path, name: str | None = None) -> Source:
    """A checkpoint's folder or a GGUF file as a source.

    Args:
        path: a folder with config.json and safetensors files, or a .gguf file.
        name: what to call it; by default as the folder or file is called.

    Raises:
        ConvertError: it cannot be read, or its architecture is not supported.
    """
    if path.is_dir():
        return CheckpointSource(path, name)
    if path.is_file():
        return GgufSource(path, name)
    raise ConvertError(f"{path}: no such file or folder")


# --- Hugging Face checkpoint -----------------------------------------------------


class CheckpointSource(Source):
    """A folder as transformers saves it: config.json, safetensors, tokenizer."""

    def __init__(self, folder: Path, name: str | None = None) -> None:
        self.path = folder
        self.name = name or folder.resolve().name
        self.config = _load_config(folder)
        architecture = (self.config.get("architectures") or ["none"])[0]
        if architecture not in ARCHITECTURES:
            raise ConvertError(
                f"{folder}/config.json: architecture {architecture} is not supported, only"
                f" {', '.join(ARCHITECTURES)}"
            )
        if self.config.get("quantization_config"):
            raise ConvertError(
                f"{folder}: the checkpoint is quantized already; give the 16-bit one"
            )
        self.arch = ARCHITECTURES[architecture]
        self.n_layers = self.config["num_hidden_layers"]
        self.n_head = self.config["num_attention_heads"]
        self.n_head_kv = self.config.get("num_key_value_heads") or self.n_head
        self._parts = _find_parts(folder)
        self.tensors = dict(self._find_tensors())
        self._check_shapes()

    def files(self) -> list[Path]:
        small = ["config.json", "generation_config.json", "tokenizer.json"]
        small += ["tokenizer_config.json", "chat_template.jinja", "merges.txt", "README.md"]
        return [*self._parts, *(p for n in small if (p := self.path / n).is_file())]

    def _check_shapes(self) -> None:
        """Raise ConvertError for a tensor that is missing or contradicts config.json."""
        for name, shape in self._wanted_shapes():
            tensor = self.tensors.get(name)
            if tensor is None:
                raise ConvertError(f"{self.path}: the checkpoint has no tensor for {name}")
            if tensor.shape != shape:
                raise ConvertError(
                    f"{self.path}: {name} has shape {tensor.shape}, but by config.json it has"
                    f" {shape}"
                )

    def _wanted_shapes(self) -> Iterable[tuple[str, tuple[int, ...]]]:
        vocab, hidden = self.config["vocab_size"], self.config["hidden_size"]
        feed_forward, head = self.config["intermediate_size"], self._head_dim
        query, key = self.n_head * head, self.n_head_kv * head
        yield "token_embd.weight", (vocab, hidden)
        yield "output_norm.weight", (hidden,)
        if not self.config.get("tie_word_embeddings"):
            yield "output.weight", (vocab, hidden)
        layer: dict[str, tuple[int, ...]] = {
            "attn_norm": (hidden,),
            "attn_q": (query, hidden),
            "attn_k": (key, hidden),
            "attn_v": (key, hidden),
            "attn_output": (hidden, query),
            "ffn_norm": (hidden,),
            "ffn_gate": (feed_forward, hidden),
            "ffn_up": (feed_forward, hidden),
            "ffn_down": (hidden, feed_forward),
        }
        if self.arch == gguf.MODEL_ARCH.QWEN3:
            layer |= {"attn_q_norm": (head,), "attn_k_norm": (head,)}
        for number in range(self.n_layers):
            for name, shape in layer.items():
                yield f"blk.{number}.{name}.weight", shape

    def _find_tensors(self) -> Iterable[tuple[str, SourceTensor]]:
        factors = self._rope_factors()
        if factors is not None:
            shape = factors.shape
            yield (
                "rope_freqs.weight",
                SourceTensor("rope_freqs.weight", shape, Type.F32, lambda: factors),
            )
        names = gguf.get_tensor_name_map(self.arch, self.n_layers)
        for part in self._parts:
            for stored in read_index(part).values():
                if stored.name.endswith(_IGNORED):
                    continue
                name = names.get_name(stored.name, try_suffixes=(".weight", ".bias"))
                if name is None:
                    raise ConvertError(
                        f"{part}: tensor {stored.name} has no place in a {self.arch.name.lower()}"
                        " model"
                    )
                if name == "output.weight" and self.config.get("tie_word_embeddings"):
                    continue
                yield (
                    name,
                    SourceTensor(name, stored.shape, stored.type, self._reader(name, stored)),
                )

    def _reader(self, name: str, stored: StoredTensor) -> Callable[[], np.ndarray]:
        return lambda: self.reorder_rows(name, stored.read())

    @property
    def _rope(self) -> dict[str, Any]:
        rope = dict(self.config.get("rope_parameters") or self.config.get("rope_scaling") or {})
        for key in ("rope_theta", "original_max_position_embeddings"):
            if key in self.config:
                rope.setdefault(key, self.config[key])
        rope.setdefault("rope_type", rope.get("type"))
        return rope

    @property
    def _head_dim(self) -> int:
        return int(self.config.get("head_dim") or self.config["hidden_size"] // self.n_head)

    def _rope_factors(self) -> np.ndarray | None:
        """Llama 3's frequency factors (arXiv:2407.21783), float32 [head_dim / 2], or None."""
        rope = self._rope
        if self.arch != gguf.MODEL_ARCH.LLAMA or rope["rope_type"] != "llama3":
            return None
        dim = self._head_dim
        base = np.float32(rope.get("rope_theta", 10000.0))
        frequencies = 1.0 / base ** (np.arange(0, dim, 2, dtype=np.float32) / np.float32(dim))
        factor = rope.get("factor", 8.0)
        low, high = rope.get("low_freq_factor", 1.0), rope.get("high_freq_factor", 4.0)
        context = rope.get("original_max_position_embeddings", 8192)
        factors = []
        for frequency in frequencies:
            wavelength = 2 * math.pi / frequency
            if wavelength < context / high:
                factors.append(1.0)
            elif wavelength > context / low:
                factors.append(factor)
            else:
                smooth = (context / wavelength - low) / (high - low)
                factors.append(1 / ((1 - smooth) / factor + smooth))
        return np.array(factors, np.float32)

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
        add_tokenizer(writer, self.path, self.config["vocab_size"], self.arch)

    def _add_parameters(self, writer: gguf.GGUFWriter) -> None:
        config, rope = self.config, self._rope
        writer.add_block_count(self.n_layers)
        writer.add_context_length(config["max_position_embeddings"])
        writer.add_embedding_length(config["hidden_size"])
        writer.add_feed_forward_length(config["intermediate_size"])
        writer.add_head_count(self.n_head)
        writer.add_head_count_kv(self.n_head_kv)
        writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
        if rope.get("rope_theta") is not None:
            writer.add_rope_freq_base(rope["rope_theta"])
        self._add_rope_scaling(writer, rope)
        if config.get("head_dim") is not None:
            writer.add_key_length(config["head_dim"])
            writer.add_value_length(config["head_dim"])
        if self.arch == gguf.MODEL_ARCH.LLAMA:
            writer.add_vocab_size(config["vocab_size"])
            writer.add_rope_dimension_count(self._head_dim)

    def _add_rope_scaling(self, writer: gguf.GGUFWriter, rope: dict[str, Any]) -> None:
        kind = rope["rope_type"]
        if kind in (None, "default", "llama3"):  # llama3's factors are a tensor
            return
        factor = float(rope.get("factor") or 1.0)
        if kind == "linear":
            writer.add_rope_scaling_type(gguf.RopeScalingType.LINEAR)
            writer.add_rope_scaling_factor(factor)
        elif kind == "yarn" and rope.get("truncate", True):
            writer.add_rope_scaling_type(gguf.RopeScalingType.YARN)
            writer.add_rope_scaling_factor(factor)
            writer.add_rope_scaling_orig_ctx_len(rope["original_max_position_embeddings"])
            for key, add in {
                "extrapolation_factor": writer.add_rope_scaling_yarn_ext_factor,
                "attention_factor": writer.add_rope_scaling_yarn_attn_factor,
                "beta_fast": writer.add_rope_scaling_yarn_beta_fast,
                "beta_slow": writer.add_rope_scaling_yarn_beta_slow,
            }.items():
                if rope.get(key) is not None:
                    add(rope[key])
            if rope.get("attention_factor") is not None:
                # llama.cpp's own converter leaves it at the key above, which llama.cpp does not
                # heed; this one multiplies the factor that yarn has by default.
                default = 0.1 * math.log(factor) + 1.0
                writer.add_rope_scaling_attn_factors(rope["attention_factor"] / default)
        else:
            raise ConvertError(
                f"{self.path}/config.json: RoPE scaling {rope} is not supported, only default,"
                " linear, yarn (with truncate) and, for llama, llama3"
            )


def _load_config(folder: Path) -> dict[str, Any]:
    from transformers import AutoConfig

    if not (folder / "config.json").is_file():
        raise ConvertError(f"{folder}/config.json: no such file; is this a checkpoint's folder?")
    try:
        config = AutoConfig.from_pretrained(folder, local_files_only=True)
    except Exception as error:  # transformers has errors of its own for each wrong value
        raise ConvertError(f"{folder}/config.json: cannot be read ({error})") from None
    return dict(config.to_dict())


def _find_parts(folder: Path) -> list[Path]:
    """The safetensors files of a checkpoint, in the order of their names."""
    index = folder / "model.safetensors.index.json"
    if index.is_file():
        try:
            names = sorted(set(json.loads(index.read_text("utf-8"))["weight_map"].values()))
        except (ValueError, KeyError, AttributeError) as error:
            raise ConvertError(f"{index}: not an index of safetensors ({error})") from None
        missing = [name for name in names if not (folder / name).is_file()]
        if missing:
            raise ConvertError(f"{folder}: {index.name} names files that are missing: {missing}")
        return [folder / name for name in names]
    single = folder / "model.safetensors"
    if single.is_file():
        return [single]
    raise ConvertError(
        f"{folder}: no model.safetensors; a checkpoint in another format has to be loaded and"
        " saved once with transformers"
    )


# --- GGUF file -------------------------------------------------------------------


class GgufSource(Source):
    """A GGUF file of any type; quantized tensors are brought back to float32 where needed."""

    def __init__(self, path: Path, name: str | None = None) -> None:
        self.path = path
        self.name = name or path.stem
        try:
            self._reader = gguf.GGUFReader(path)
        except (OSError, ValueError, IndexError, KeyError) as error:
            raise ConvertError(f"{path}: not a whole GGUF file ({error})") from None
        kind = self.field("general.type") or "model"
        if kind != "model":
            raise ConvertError(f"{path}: this GGUF file is no model, but an {kind}")
        arch = self.field("general.architecture")
        known = {gguf.MODEL_ARCH_NAMES[a]: a for a in ARCHITECTURES.values()}
        if arch not in known:
            raise ConvertError(f"{path}: architecture {arch} is not supported, only {[*known]}")
        self.arch = known[arch]
        self.n_layers = int(self.field(f"{arch}.block_count"))
        self.n_head = int(self.field(f"{arch}.attention.head_count"))
        self.n_head_kv = int(self.field(f"{arch}.attention.head_count_kv") or self.n_head)
        self.tensors = {
            tensor.name: SourceTensor(
                tensor.name,
                tuple(int(n) for n in reversed(tensor.shape)),
                tensor.tensor_type,
                lambda tensor=tensor: _stored(tensor),  # type: ignore[misc]
            )
            for tensor in self._reader.tensors
        }

    def files(self) -> list[Path]:
        return [self.path]

    def field(self, key: str) -> Any:
        """A value of the metadata, or None."""
        field = self._reader.fields.get(key)
        return None if field is None else field.contents()

    def add_metadata(self, writer: gguf.GGUFWriter, file_type: int, finetune: str | None) -> None:
        ours = {"general.architecture", "general.file_type", "general.quantization_version"}
        ours |= {"general.alignment"}  # what is written here is aligned as usual
        for key, field in self._reader.fields.items():
            if key.startswith("GGUF.") or key in ours or (finetune and key == "general.finetune"):
                continue
            value_type, *inner = field.types
            writer.add_key_value(key, field.contents(), value_type, inner[-1] if inner else None)
        if finetune:
            writer.add_finetune(finetune)
        writer.add_file_type(file_type)
        writer.add_quantization_version(gguf.GGML_QUANT_VERSION)


def _stored(tensor: gguf.ReaderTensor) -> np.ndarray:
    """A tensor's data; for floats in its shape, for quantized types as rows of bytes."""
    data = np.asarray(tensor.data)
    return data.view(np.uint16) if tensor.tensor_type == Type.BF16 else data
