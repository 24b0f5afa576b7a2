"""A PEFT LoRA folder: checked against its base, merged into it, or written as a GGUF adapter.

LoRA (arXiv:2106.09685) adds `scale * B @ A` to a weight; rsLoRA (arXiv:2312.03732) changes the
scale, DoRA (arXiv:2402.09353) renormalizes the rows of the sum.
"""

from __future__ import annotations

import json
import logging
import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gguf
import numpy as np

from convert.errors import ConvertError
from convert.safetensors import StoredTensor, Type, all_finite, from_f32, read_index
from convert.sources import Source, SourceTensor
from runtime.files.bases import base_name

log = logging.getLogger(__name__)

_PREFIX = "base_model.model."
_PART = re.compile(
    r"^(?P<module>.+)\.(?:lora_(?P<part>A|B)\.weight|lora_embedding_(?P<embedding>A|B)"
    r"|lora_(?P<magnitude>magnitude_vector)(?:\.weight)?)$"
)
# What an adapter_config.json may ask for that cannot be exported, and why.
_REFUSED = {
    "fan_in_fan_out": "transposed weights are not supported",
    "layer_replication": "the base's layers would have to be repeated",
    "lora_bias": "biases of LoRA layers are not supported",
    "alora_invocation_tokens": "an activated LoRA needs a runtime that knows it",
    "trainable_token_indices": "single trained tokens are not supported",
    "target_parameters": "LoRA on bare parameters is not supported",
}
# Ways to start training that change the base's weights, too.
_CHANGED_BASE = ("pissa", "olora", "loftq", "corda")


@dataclass(frozen=True)
class Delta:
    """What the adapter adds to one tensor: `scale * B @ A`.

    Attributes:
        name: the GGUF tensor.
        a: float32 [rank, columns].
        b: float32 [rows, rank], rows in GGUF order.
        scale: the factor.
        magnitude: DoRA's row norms, float32 [rows], or None.
    """

    name: str
    a: np.ndarray
    b: np.ndarray
    scale: float
    magnitude: np.ndarray | None = None

    def merge_into(self, weight: np.ndarray, rows: slice) -> np.ndarray:
        """Those rows of the merged weight; `weight` (float32, [len(rows), columns]) is changed."""
        weight += (self.scale * self.b[rows]) @ self.a
        if self.magnitude is not None:
            weight *= (self.magnitude[rows] / np.linalg.norm(weight, axis=1))[:, None]
        return weight


class Adapter:
    """A PEFT folder, checked against the base that it will be applied to.

    Attributes:
        deltas: what it adds, by GGUF tensor.
        replaced: tensors trained whole (`modules_to_save`), by GGUF tensor.
        rank, alpha: as in adapter_config.json.

    Raises:
        ConvertError: names the file and the key or tensor at fault.
    """

    def __init__(self, folder: Path, base: Source) -> None:
        self.folder = folder
        self.config = _read_config(folder)
        self.rank = int(self.config["r"])
        self.alpha = float(self.config["lora_alpha"])
        self._base = base
        self._weights = folder / "adapter_model.safetensors"
        if not self._weights.is_file():
            raise ConvertError(
                f"{self._weights}: no such file; an adapter in another format has to be loaded and"
                " saved once with peft"
            )
        self.deltas: dict[str, Delta] = {}
        self.replaced: dict[str, SourceTensor] = {}
        trained_on = self.config.get("base_model_name_or_path")
        if trained_on and base_name(trained_on).casefold() != base.name.casefold():
            log.warning("%s was trained on %s; it is applied to %s", folder, trained_on, base.name)
        self._read()
        if not self.deltas and not self.replaced:
            raise ConvertError(f"{self._weights}: no LoRA tensors in it")

    def files(self) -> list[Path]:
        return [self.folder / "adapter_config.json", self._weights]

    def training(self) -> dict[str, Any] | None:
        """What training.json says of how it was trained, if `training.finetune` made it."""
        try:
            card = json.loads((self.folder / "training.json").read_text("utf-8"))
        except (OSError, ValueError):
            return None
        return card if isinstance(card, dict) else None

    def _read(self) -> None:
        parts: dict[str, dict[str, StoredTensor]] = {}
        for key, stored in read_index(self._weights).items():
            name = key.removeprefix(_PREFIX)
            match = _PART.match(name)
            if match:
                part = match["part"] or match["embedding"] or match["magnitude"]
                parts.setdefault(match["module"], {})[part] = stored
            else:
                self._replace(name, stored)
        for module, found in parts.items():
            delta = self._delta(module, found)
            self.deltas[delta.name] = delta

    def _replace(self, name: str, stored: StoredTensor) -> None:
        saved = self.config.get("modules_to_save") or []
        module = name.removesuffix(".weight")
        copied = module.endswith(".base_layer")  # peft keeps an adapted embedding beside it
        module = module.removesuffix(".base_layer")
        if not copied and not any(module == m or module.endswith(f".{m}") for m in saved):
            raise self._fault(stored, "neither a LoRA matrix nor one of modules_to_save")
        target = self._target(module, stored)
        if stored.shape != self._base.tensors[target].shape:
            raise self._fault(
                stored, f"its shape {stored.shape} is not {self._base.tensors[target].shape}"
            )
        if copied:
            return
        self.replaced[target] = SourceTensor(
            target,
            stored.shape,
            stored.type,
            lambda: self._base.reorder_rows(target, stored.read()),
        )

    def _delta(self, module: str, found: dict[str, StoredTensor]) -> Delta:
        some = next(iter(found.values()))
        for part in ("A", "B"):
            if part not in found:
                raise self._fault(some, f"its lora_{part} is missing")
        target = self._target(module, some)
        a, b = found["A"].read_f32(), found["B"].read_f32()
        if ".lora_embedding_" in some.name:  # [rank, vocab] and [hidden, rank], for W transposed
            a, b = b.T, a.T
        rank = self._for_module("rank_pattern", module, self.rank)
        if a.ndim != 2 or b.ndim != 2 or a.shape[0] != rank or b.shape[1] != rank:
            raise self._fault(
                some, f"A of shape {a.shape} and B of {b.shape} are not of rank {rank}"
            )
        shape = self._base.tensors[target].shape
        if (b.shape[0], a.shape[1]) != shape:
            raise self._fault(
                some,
                f"it adds to a weight of shape {(b.shape[0], a.shape[1])}, but {target} of"
                f" {self._base.path} is {shape}: was the adapter trained on another base?",
            )
        for stored in found.values():
            if not np.isfinite(stored.read_f32()).all():
                raise self._fault(stored, "it has NaN or infinite values")
        magnitude = None
        if "magnitude_vector" in found:
            stored = found["magnitude_vector"]
            if stored.shape != shape[:1]:
                raise self._fault(stored, f"its shape {stored.shape} is not {shape[:1]}")
            magnitude = self._base.reorder_rows(target, stored.read_f32())
        elif self.config.get("use_dora"):
            raise self._fault(some, "use_dora is set, but its magnitude vector is missing")
        alpha = self._for_module("alpha_pattern", module, self.alpha)
        scale = alpha / (math.sqrt(rank) if self.config.get("use_rslora") else rank)
        return Delta(target, a, self._base.reorder_rows(target, b), scale, magnitude)

    def _target(self, module: str, stored: StoredTensor) -> str:
        name = self._base.gguf_name(module)
        if name == "output.weight" and self._base.tied:
            raise self._fault(
                stored, "the base ties its output head to the embedding, so it has no head to adapt"
            )
        if name == "token_embd.weight" and self._base.tied:
            raise self._fault(
                stored, "the base ties its output head to the embedding, so it would change both"
            )
        if name not in self._base.tensors:
            raise self._fault(stored, f"{self._base.path} has no such tensor")
        assert name is not None
        return name

    def _for_module(self, pattern: str, module: str, default: Any) -> Any:
        """PEFT's rank_pattern and alpha_pattern: names or regular expressions of modules."""
        for key, value in (self.config.get(pattern) or {}).items():
            if re.match(rf"(.*\.)?({key})$", module):
                return value
        return default

    def _fault(self, stored: StoredTensor, problem: str) -> ConvertError:
        return ConvertError(f"{stored.path}: tensor {stored.name}: {problem}")

    def add_to(self, writer: gguf.GGUFWriter, type_: Type) -> list[np.ndarray]:
        """Metadata and tensor infos of a GGUF adapter; returns the data in their order.

        Args:
            writer: of the file to be.
            type_: F32, F16 or BF16.

        Raises:
            ConvertError: the adapter is more than LoRA matrices, so it can only be merged, or
                has values too large for the type.
        """
        whole = next(iter(self.replaced), None) or next(
            (name for name, d in self.deltas.items() if d.magnitude is not None), None
        )
        if whole:
            kind = "modules_to_save" if self.replaced else "DoRA"
            raise ConvertError(
                f"{self.folder}: {kind} ({whole}) cannot be a GGUF adapter; merge it instead"
                " (--mode merge)"
            )
        data = []
        for name, delta in self.deltas.items():
            # llama.cpp scales by alpha / rank; what differs from that goes into B.
            factor = delta.scale / (self.alpha / len(delta.a))
            a, b = delta.a, delta.b if factor == 1 else np.float32(factor) * delta.b
            if name == "token_embd.weight":  # it looks rows up: A transposed, B as PEFT has it
                a, b = delta.b, (a if factor == 1 else np.float32(factor) * a).T
            for part, matrix in (("lora_a", a), ("lora_b", b)):
                matrix = from_f32(np.ascontiguousarray(matrix, np.float32), type_)
                if not all_finite(matrix, type_):
                    raise ConvertError(
                        f"{self.folder}: {name}.{part} has values too large for {type_.name}"
                    )
                writer.add_tensor_info(
                    f"{name}.{part}",
                    matrix.shape,
                    np.dtype(np.float32),
                    matrix.nbytes,
                    raw_dtype=type_,
                )
                data.append(matrix)
        n_parameters, *shared = writer.get_total_parameter_count()
        metadata = gguf.Metadata.load(None, self.folder, None, n_parameters)
        metadata.name = metadata.name or self.folder.resolve().name
        if metadata.size_label is None and n_parameters > 0:
            metadata.size_label = gguf.size_label(n_parameters, *shared)
        writer.add_type(gguf.GGUFType.ADAPTER)
        writer.add_string(gguf.Keys.Adapter.TYPE, "lora")
        metadata.set_gguf_meta_model(writer)
        writer.add_float32(gguf.Keys.Adapter.LORA_ALPHA, self.alpha)
        writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
        return data


def _read_config(folder: Path) -> dict[str, Any]:
    path = folder / "adapter_config.json"
    try:
        config = json.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        raise ConvertError(f"{path}: no such file; is this a PEFT folder?") from None
    except (OSError, ValueError) as error:
        raise ConvertError(f"{path}: cannot be read ({error})") from None
    if not isinstance(config, dict):
        raise ConvertError(f"{path}: expected a JSON object")
    if str(config.get("peft_type", "")).upper() != "LORA":
        raise ConvertError(f"{path}: peft_type is {config.get('peft_type')!r}, not 'LORA'")
    for key in ("r", "lora_alpha"):
        value = config.get(key)
        if isinstance(value, bool) or not isinstance(value, (int, float)) or value <= 0:
            raise ConvertError(f"{path}: {key} is {value!r}, not a number above 0")
    for key, why in _REFUSED.items():
        if config.get(key):
            raise ConvertError(f"{path}: {key}={config[key]!r}: {why}")
    if config.get("bias", "none") != "none":
        raise ConvertError(f"{path}: bias={config['bias']!r}: trained biases are not supported")
    start = config.get("init_lora_weights")
    if isinstance(start, str) and start.lower().startswith(_CHANGED_BASE):
        raise ConvertError(
            f"{path}: init_lora_weights={start!r} changes the base's weights as well; convert the"
            " adapter with peft's path_initial_model_for_weight_conversion first"
        )
    return config
