"""A PEFT LoRA folder, checked against the base that it will be applied to.

LoRA (arXiv:2106.09685) adds `scale * B @ A` to a weight; DoRA (arXiv:2402.09353) renormalizes the
rows of the sum. Tensors are applied as by peft; one that peft would silently ignore is an error.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from convert.base import EMBEDDING, HEAD, Source, SourceTensor
from convert.errors import ConvertError
from convert.lora_config import LoraConfig
from convert.lora_weights import fault, find_weights, read_weights
from convert.remarks import remarks
from convert.safetensors import StoredTensor, from_f32
from runtime.common.files import read_json

log = logging.getLogger(__name__)

_PART = re.compile(
    r"^(?P<module>.+)\.(?:lora_(?P<part>A|B)\.weight|lora_embedding_(?P<embedding>A|B)"
    r"|lora_(?P<magnitude>magnitude_vector)(?:\.weight)?)$"
)
_WHOLE = re.compile(r"^(?P<module>.+?)(?P<below>\.base_layer)?\.(?P<kind>weight|bias)$")
_TIED = _EMBEDDING_MODULE, _HEAD_MODULE = "model.embed_tokens", "lm_head"


@dataclass(frozen=True)
class Delta:
    """The change to one tensor: `scale * B @ A`.

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
        """Merge into some rows, `weight` (float32 [len(rows), columns]), in place."""
        weight += (self.scale * self.b[rows]) @ self.a
        if self.magnitude is not None:
            weight *= (self.magnitude[rows] / np.linalg.norm(weight, axis=1))[:, None]
        return weight


class Adapter:
    """A PEFT folder, checked against the base that it will be applied to.

    Attributes:
        folder: the PEFT folder.
        config: its adapter_config.json.
        base: the base that it will be applied to.
        deltas: changes by GGUF tensor.
        replaced: tensors that replace those of the base, by GGUF tensor.

    Raises:
        ConvertError: the message names the file and the key or tensor.
    """

    def __init__(self, folder: Path, base: Source) -> None:
        self.folder = folder
        self.config = LoraConfig.read(folder)
        self.base = base
        self.config.check_patterns(base.modules)
        self._weights = find_weights(folder)
        self.deltas: dict[str, Delta] = {}
        self.replaced: dict[str, SourceTensor] = {}
        for remark in remarks(folder, self.config, base):
            log.warning("%s", remark)
        self._read()
        if not self.deltas and not self.replaced:
            raise ConvertError(f"{self._weights}: no LoRA tensors in it")

    def files(self) -> list[Path]:
        return [self.config.path, self._weights]

    def training(self) -> dict[str, Any] | None:
        """The contents of training.json, if `training.finetune` made the adapter."""
        try:
            card = read_json(self.folder / "training.json")
        except (OSError, ValueError):
            return None
        return card if isinstance(card, dict) else None

    @cached_property
    def unties(self) -> bool:
        """Whether merging this into a tied base makes a separate output head necessary."""
        changed = self.deltas.keys() | self.replaced.keys()
        return self.base.tied and HEAD in changed

    def changes(self) -> Iterator[str]:
        """GGUF tensors that were trained whole, without copies of the base's own weights (peft
        saves such beside adapted embeddings)."""
        for name, ours in self.replaced.items():
            theirs = self.base.tensors.get(EMBEDDING if name == HEAD else name)
            if theirs is None or not _same(ours, self.base.tensors.get(name, theirs)):
                yield name

    def _read(self) -> None:
        parts: dict[str, dict[str, StoredTensor]] = {}
        whole: dict[str, StoredTensor] = {}
        for name, stored in read_weights(self._weights).items():
            match = _PART.match(name)
            if match:
                part = match["part"] or match["embedding"] or match["magnitude"]
                self._check_loaded(match["module"], stored, bool(match["embedding"]))
                parts.setdefault(match["module"], {})[part] = stored
            else:
                self._add_whole(name, stored)
                whole[name] = stored
        for module, found in parts.items():
            delta = self._delta(module, found)
            self.deltas[delta.name] = delta
        self._check_missing(parts.keys(), whole.keys())
        if self.base.tied:
            self._share_embedding()

    def _check_loaded(self, module: str, stored: StoredTensor, is_embedding: bool) -> None:
        """Raise ConvertError for a LoRA matrix that peft would ignore."""
        self._target(module, stored)
        if not self._adapts(module):
            raise fault(
                stored, "target_modules does not name its module, so peft would not load it"
            )
        if is_embedding != (module == _EMBEDDING_MODULE) and "magnitude" not in stored.name:
            raise fault(
                stored, "lora_embedding_A and _B are for the embedding, lora_A and _B for the rest"
            )

    def _add_whole(self, name: str, stored: StoredTensor) -> None:
        """Add a tensor that replaces the base's: of modules_to_save, a trained bias or norm, or
        the base's own weight, which peft saves below an adapted embedding."""
        match = _WHOLE.match(name)
        if not match:
            raise fault(stored, "neither a LoRA matrix nor a weight or bias of the base")
        module, kind = match["module"], match["kind"]
        target = self._target(module, stored).removesuffix("weight") + kind
        is_adapted = self._adapts(module)
        if bool(match["below"]) != is_adapted:
            where = "" if is_adapted else "not "
            raise fault(
                stored,
                f"its module is {where}adapted, so peft would look for it as"
                f" {module}{'.base_layer' if is_adapted else ''}.{kind} and not load it",
            )
        like = self.base.tensors.get(EMBEDDING if target == HEAD and self.base.tied else target)
        if like is None:
            raise fault(stored, f"{self.base.path} has no {kind} there, so it has no place")
        if stored.shape != like.shape:
            hint = ""
            if target in (EMBEDDING, HEAD):
                hint = (
                    "; if tokens were added for training, resize the base's embedding, save it"
                    " with the adapter's tokenizer, and export that base"
                )
            raise fault(stored, f"its shape {stored.shape} is not {like.shape}{hint}")
        _finite(stored)
        self.replaced[target] = self.base.as_gguf(target, stored)

    def _delta(self, module: str, found: dict[str, StoredTensor]) -> Delta:
        some = next(iter(found.values()))
        for part in ("A", "B"):
            if part not in found:
                raise fault(some, f"its lora_{part} is missing")
            if 0 in found[part].shape:
                raise fault(
                    found[part],
                    "it is empty, as DeepSpeed's ZeRO-3 saves it: gather the weights and save it",
                )
        target = self._target(module, some)
        shapes = [found["A"].shape, found["B"].shape]
        if module == _EMBEDDING_MODULE:  # [rank, vocab] and [hidden, rank], for W transposed
            shapes = [shape[::-1] for shape in reversed(shapes)]
        shape_a, shape_b = shapes
        rank = self.config.rank_of(module)
        if len(shape_a) != 2 or len(shape_b) != 2 or shape_a[0] != rank or shape_b[1] != rank:
            raise fault(some, f"A of shape {shape_a} and B of {shape_b} are not of rank {rank}")
        shape = self.base.tensors[EMBEDDING if target == HEAD and self.base.tied else target].shape
        if (shape_b[0], shape_a[1]) != shape:
            raise fault(
                some,
                f"it adds to a weight of shape {(shape_b[0], shape_a[1])}, but {target} of"
                f" {self.base.path} is {shape}: was the adapter trained on another base?",
            )
        a, b = _finite(found["A"]), _finite(found["B"])
        if module == _EMBEDDING_MODULE:
            a, b = b.T, a.T
        magnitude = None
        if "magnitude_vector" in found:
            if module == _EMBEDDING_MODULE:
                raise fault(found["magnitude_vector"], "DoRA on the embedding is not supported")
            stored = found["magnitude_vector"]
            if stored.shape != shape[:1]:
                raise fault(stored, f"its shape {stored.shape} is not {shape[:1]}")
            magnitude = self.base.reorder_rows(target, _finite(stored))
        elif self.config.values.get("use_dora"):
            raise fault(some, "use_dora is set, but its magnitude vector is missing")
        scale = self.config.scale_of(module)
        return Delta(target, a, self.base.reorder_rows(target, b), scale, magnitude)

    def _check_missing(self, adapted: Collection[str], whole: Collection[str]) -> None:
        """Report what the config names and the file does not have."""
        # A head that stays tied need not be in the file: it equals the embedding.
        modules = [m for m in self.base.modules if m != _HEAD_MODULE or not self._keeps_tied]
        for module in modules:
            if self.config.saves(module) and f"{module}.weight" not in whole:
                raise ConvertError(
                    f"{self._weights}: modules_to_save names {module}, but it is not in the file"
                )
        lacking = [m for m in modules if self._adapts(m) and m not in adapted]
        if lacking:
            log.warning(
                "%s: the file has no matrices for %d modules of target_modules, such as %s; they"
                " stay as in the base",
                self._weights,
                len(lacking),
                lacking[0],
            )

    def _adapts(self, module: str) -> bool:
        """Whether peft adapts a module of this base."""
        if self._keeps_tied and module in _TIED:
            return any(self.config.targets(name) for name in _TIED)
        return self.config.targets(module)

    @property
    def _keeps_tied(self) -> bool:
        return self.base.tied and self.config.keeps_tied

    def _share_embedding(self) -> None:
        """Apply changes to a tied base's embedding and head as peft's model does.

        A weight in the file replaces both; the head's is copied last. With ensure_weight_tying the
        matrices, or the trained copy, also apply to both; without it each has its own.
        """
        own = {
            name: self.config.saves(module) and not self._keeps_tied
            for name, module in zip((EMBEDDING, HEAD), _TIED, strict=True)
        }
        shared = next(
            (self.replaced[n] for n in (HEAD, EMBEDDING) if n in self.replaced and not own[n]), None
        )
        for name in (EMBEDDING, HEAD):
            if not own[name]:
                self.replaced.pop(name, None)
        if shared is not None and not own[EMBEDDING]:
            self.replaced[EMBEDDING] = replace(shared, name=EMBEDDING)
        if self._keeps_tied:
            if HEAD in self.deltas:
                self.deltas[EMBEDDING] = replace(self.deltas.pop(HEAD), name=EMBEDDING)
        elif not own[HEAD] and (own[EMBEDDING] or {EMBEDDING, HEAD} & self.deltas.keys()):
            # The head keeps the old embedding, or has its own matrices.
            self.replaced[HEAD] = replace(shared or self.base.tensors[EMBEDDING], name=HEAD)

    def _target(self, module: str, stored: StoredTensor) -> str:
        name = self.base.modules.get(module)
        if name is None:
            raise fault(stored, f"{self.base.path} has no module {module}")
        return f"{name}.weight"


def _finite(stored: StoredTensor) -> np.ndarray:
    """A tensor as float32. Raises ConvertError for NaN and infinite values."""
    data = stored.read_f32()
    if not np.isfinite(data).all():
        raise fault(stored, "it has NaN or infinite values")
    return data


def _same(ours: SourceTensor, theirs: SourceTensor) -> bool:
    """Whether two tensors are equal, possibly stored with different precision."""
    if ours.shape != theirs.shape:
        return False
    a, b = ours.read_f32(), theirs.read_f32()
    return np.array_equal(a, b) or any(
        np.array_equal(from_f32(a, type_), from_f32(b, type_)) for type_ in (ours.type, theirs.type)
    )
