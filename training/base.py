"""Loads the base model that adapters are trained on."""

from __future__ import annotations

import hashlib
import importlib.util
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from convert.torch_model import load_torch_model
from runtime.common.hashing import sha256
from runtime.engine import Model
from runtime.files.bases import find_base
from runtime.prompts import Tokenizer
from runtime.settings import Settings
from training.errors import TrainingError
from training.options import Options
from training.tokenizer import CheckpointTokenizer

log = logging.getLogger(__name__)

# Files of a checkpoint that affect training.
_PARTS = (".safetensors", ".json", ".jinja", ".txt", ".model")


@dataclass(frozen=True)
class Base:
    """A base model on disk.

    Attributes:
        path: a checkpoint's folder or a GGUF file.
        name: used in file names, such as "Qwen3-1.7B".
        asked: the name that the user gave.
    """

    path: Path
    name: str
    asked: str

    @classmethod
    def find(cls, asked: str, settings: Settings) -> Base:
        """Find a base by folder, hub id, GGUF file or `demo`, offline.

        `demo` is the quantized file that is served, so the adapter fits its 4-bit weights.

        Raises:
            SetupError: not found (the message has every place that was searched), or the demo
                model cannot be made.
        """
        return cls(*find_base(asked, settings, "--model", served=True), asked)

    @cached_property  # the files may be large, and every subject needs it
    def fingerprint(self) -> str:
        """SHA-256 over all files that affect training, in hex."""
        files = [self.path]
        if self.path.is_dir():
            files = sorted(p for p in self.path.iterdir() if p.suffix in _PARTS)
        lines = [f"{path.name} {sha256(path)}" for path in files]
        return hashlib.sha256("\n".join(lines).encode()).hexdigest()

    @contextmanager
    def tokenizer(self) -> Iterator[Tokenizer]:
        """The tokenizer for its prompts; for a GGUF file that of llama.cpp."""
        if self.path.is_dir():
            yield CheckpointTokenizer(self.path)
            return
        model = Model(self.path)
        try:
            yield model
        finally:
            model.close()

    def load(self, options: Options, use_cpu: bool) -> Any:
        """The model in transformers, ready for an adapter.

        Raises:
            ConvertError: it cannot be loaded.
            TrainingError: 4 bits are not possible here.
        """
        dtype = compute_dtype(options, use_cpu)
        keywords: dict[str, Any] = {"dtype": dtype}
        four_bit = in_four_bits(options, use_cpu, self.path.is_file())
        if four_bit:
            keywords |= {"quantization_config": _four_bit_config(dtype), "device_map": {"": 0}}
        log.info("loading %s%s", self.path, " in 4 bits" if four_bit else "")
        model = load_torch_model(self.path, **keywords)
        if four_bit:
            from peft import prepare_model_for_kbit_training

            model = prepare_model_for_kbit_training(
                model, use_gradient_checkpointing=options.gradient_checkpointing
            )
        return model


def choose_device(device_map: str) -> bool:
    """Choose the CPU or one GPU, that of DEVICE_MAP or the first; returns whether it is the CPU.

    The Trainer uses every GPU that it sees, so CUDA_VISIBLE_DEVICES is set to one.

    Raises:
        TrainingError: DEVICE_MAP names a GPU that does not exist.
    """
    if device_map == "cpu":
        return True
    number = int(device_map.partition(":")[2] or 0)
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    shown = visible.split(",") if visible is not None else [str(n) for n in range(number + 1)]
    # Set before torch asks the driver, which reads it only once.
    os.environ["CUDA_VISIBLE_DEVICES"] = shown[number].strip() if number < len(shown) else ""
    if torch.cuda.is_available():
        return False
    if device_map == "auto":
        return True
    raise TrainingError(
        f"DEVICE_MAP={device_map}: torch finds no such GPU (nvidia-smi -L lists all GPUs;"
        " CUDA_VISIBLE_DEVICES may hide some); DEVICE_MAP=cpu or auto trains on the CPU"
    )


def compute_dtype(options: Options, use_cpu: bool) -> torch.dtype:
    """The data type of the base's weights and of the computation."""
    if options.precision != "auto":
        return torch.bfloat16 if options.precision == "bfloat16" else torch.float32
    on_gpu = not use_cpu and torch.cuda.is_bf16_supported()
    return torch.bfloat16 if on_gpu else torch.float32


def in_four_bits(options: Options, use_cpu: bool, is_gguf: bool) -> bool:
    """Whether the base is loaded in 4 bits.

    Raises:
        TrainingError: `four_bit` is on, but not possible here.
    """
    missing = ""
    if use_cpu:
        missing = "needs a CUDA GPU"
    elif is_gguf:
        missing = "needs a checkpoint; a GGUF base is loaded in full"
    elif importlib.util.find_spec("bitsandbytes") is None:
        missing = "needs the package bitsandbytes (pip install bitsandbytes)"
    if options.four_bit == "on" and missing:
        raise TrainingError(f"--four-bit on {missing}")
    return options.four_bit != "off" and not missing


def _four_bit_config(dtype: torch.dtype) -> Any:
    """As in QLoRA (arXiv:2305.14314): NF4 with double quantization."""
    from transformers import BitsAndBytesConfig

    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=dtype,
    )
