"""adapter_config.json of a PEFT LoRA folder: checks it, and finds the modules that it names.

Names are matched as peft matches them (peft/tuners/tuners_utils.py, check_target_module_exists,
and peft/utils/other.py, _set_trainable and get_pattern_key).
"""

from __future__ import annotations

import math
import re
import sys
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from convert.errors import ConvertError
from runtime.common import child
from runtime.common.files import read_json

# Settings that cannot be exported, and why. (fan_in_fan_out is not one of them: for the linear
# layers of the supported models peft turns it off.)
_REFUSED = {
    "layer_replication": "the base's layers would have to be repeated",
    "lora_bias": "biases of LoRA layers are not supported",
    "alora_invocation_tokens": "an activated LoRA needs a runtime that knows it",
    "trainable_token_indices": "single trained tokens are not supported",
    "target_parameters": "LoRA on bare parameters is not supported",
    "use_qalora": "the pooled inputs of QALoRA are not supported",
    "use_bdlora": "block-diagonal matrices are not supported",
    "arrow_config": "routing between adapters is not supported",
    "kasa_config": "KaSA changes the base's weights as well",
    "monteclora_config": "the sampled matrices of MonteCLoRA are not supported",
    "use_mora": "the square matrices of MoRA (a fork of peft) are not supported",
}
# The other settings of peft 0.21. A later peft may add some that change what is computed.
_KNOWN = _REFUSED.keys() | {
    *("task_type", "peft_type", "auto_mapping", "peft_version", "base_model_name_or_path"),
    *("revision", "inference_mode", "r", "target_modules", "exclude_modules", "lora_alpha"),
    *("lora_dropout", "fan_in_fan_out", "bias", "use_rslora", "modules_to_save"),
    *("init_lora_weights", "layers_to_transform", "layers_pattern", "rank_pattern"),
    *("alpha_pattern", "megatron_config", "megatron_core", "loftq_config", "eva_config"),
    *("corda_config", "lora_ga_config", "use_dora", "velora_config", "qalora_group_size"),
    *("runtime_config", "ensure_weight_tying"),
}
# Initializations that also change the base's weights.
_CHANGED_BASE = ("pissa", "olora", "loftq", "corda", "lora_ga")
# What peft adapts in most families if target_modules is missing.
_DEFAULT_TARGETS = ("q_proj", "v_proj")
# Characters that repeat a part of a pattern, so that matching may take forever.
_SLOW = frozenset("*+{")
_PATTERN_SECONDS = 5
_SIZES: dict[str, type[int] | type[float]] = {"r": int, "lora_alpha": float}
_NUMBERS = {int: "a whole number above 0", float: "a number above 0"}
_LINEAR = re.compile(r"(^|.*\.)(self_attn|mlp)\.\w+_proj$")


@dataclass(frozen=True)
class LoraConfig:
    """An adapter_config.json.

    Attributes:
        path: the file.
        values: its contents.
        rank, alpha: its r and lora_alpha.
    """

    path: Path
    values: Mapping[str, Any]
    rank: int
    alpha: float

    @classmethod
    def read(cls, folder: Path) -> LoraConfig:
        """Read and check the file in a PEFT folder.

        Raises:
            ConvertError: a key is wrong or cannot be exported.
        """
        path = folder / "adapter_config.json"
        values = _read(path)
        _check(path, values)
        return cls(path, values, int(values["r"]), float(values["lora_alpha"]))

    def check_patterns(self, modules: Collection[str]) -> None:
        """Refuse regular expressions that take forever to match.

        Python cannot interrupt a match, so all patterns are tried in a child process first.

        Args:
            modules: names that will be matched.

        Raises:
            ConvertError: the patterns take too long.
        """
        patterns = [pattern for _, pattern in _patterns(self.values)]
        if not any(set(pattern) & _SLOW for pattern in patterns):
            return
        job = {"values": self.values, "rank": self.rank, "alpha": self.alpha}
        limits = child.Limits(cpu_seconds=_PATTERN_SECONDS)
        try:
            child.call(
                "convert.lora_config:match_all",
                job | {"modules": list(modules)},
                12 * _PATTERN_SECONDS,
                limits,
            )
        except child.NoChildError:
            return
        except child.ChildEndedError:
            raise ConvertError(
                f"{self.path}: matching its patterns ({', '.join(patterns)[:200]}) takes"
                f" more than {_PATTERN_SECONDS} seconds: name the modules in target_modules"
            ) from None

    def unknown_keys(self) -> list[str]:
        """Keys with a value that this version does not know and so ignores."""
        return [key for key, value in self.values.items() if value and key not in _KNOWN]

    def targets(self, module: str) -> bool:
        """Whether peft adapts a module, such as "model.layers.0.mlp.up_proj"."""
        if _is_named(self.values.get("exclude_modules"), module):
            return False
        if any(re.match(rf"(^|.*\.){saved}($|\..*)", module) for saved in self._saved):
            return False
        wanted = self.values.get("target_modules") or _DEFAULT_TARGETS
        if isinstance(wanted, str) and wanted.lower() == "all-linear":
            return bool(_LINEAR.match(module))
        if isinstance(wanted, str) or module in wanted:
            return _is_named(wanted, module)
        return _is_named(wanted, module) and self._is_in_layers(module)

    def saves(self, module: str) -> bool:
        """Whether peft trains a whole copy of a module or of one around it, by the name's end."""
        parts = module.split(".")
        around = [".".join(parts[:n]) for n in range(1, len(parts) + 1)]
        return any(name.endswith(saved) for name in around for saved in self._saved)

    def rank_of(self, module: str) -> int:
        """The rank of a module's matrices."""
        return int(self._for_module("rank_pattern", module, self.rank))

    def scale_of(self, module: str) -> float:
        """The factor of B @ A (rsLoRA: arXiv:2312.03732)."""
        rank = self.rank_of(module)
        alpha = float(self._for_module("alpha_pattern", module, self.alpha))
        return alpha / (math.sqrt(rank) if self.values.get("use_rslora") else rank)

    @property
    def keeps_tied(self) -> bool:
        """Whether a tied output head follows the embedding (ensure_weight_tying)."""
        return bool(self.values.get("ensure_weight_tying"))

    @property
    def _saved(self) -> list[str]:
        return self.values.get("modules_to_save") or []

    def _for_module(self, pattern: str, module: str, default: float) -> Any:
        for key, value in (self.values.get(pattern) or {}).items():
            if re.match(rf"(.*\.)?({key})$", module):
                return value
        return default

    def _is_in_layers(self, module: str) -> bool:
        layers = self.values.get("layers_to_transform")
        if layers is None or layers == []:
            return True
        patterns = self.values.get("layers_pattern") or [r"[^.]*"]
        patterns = [patterns] if isinstance(patterns, str) else patterns
        found = (re.match(rf"(?:^|.*?\.){p}\.(?P<number>\d+)\.", module) for p in patterns)
        match = next((m for m in found if m), None)
        return match is not None and int(match["number"]) in (
            [layers] if isinstance(layers, int) else layers
        )


def _patterns(values: Mapping[str, Any]) -> list[tuple[str, str]]:
    """The regular expressions of an adapter_config.json, with their keys."""
    named = [(key, values.get(key)) for key in ("target_modules", "exclude_modules")]
    found = [(key, value) for key, value in named if isinstance(value, str)]
    for key in ("rank_pattern", "alpha_pattern", "modules_to_save", "layers_pattern"):
        given = values.get(key) or ()
        found += [(key, each) for each in ([given] if isinstance(given, str) else given)]
    return found


def match_all(job: dict[str, Any]) -> None:
    """Match all patterns with all names, in a child process."""
    config = LoraConfig(Path(), job["values"], job["rank"], job["alpha"])
    for module in job["modules"]:
        config.targets(module)
        config.saves(module)
        config.rank_of(module)
        config.scale_of(module)


def _is_named(names: str | list[str] | tuple[str, ...] | None, module: str) -> bool:
    """Whether a pattern matches a module, or a list has its name or the end of its name."""
    if isinstance(names, str):
        return bool(names) and re.fullmatch(names, module) is not None
    return any(module == name or module.endswith(f".{name}") for name in names or ())


def _read(path: Path) -> dict[str, Any]:
    try:
        values = read_json(path)
    except FileNotFoundError:
        deeper = sorted(p.parent.name for p in path.parent.glob("*/adapter_config.json"))
        where = f"is it one of {', '.join(deeper)} in it?" if deeper else "is this a PEFT folder?"
        raise ConvertError(f"{path}: no such file; {where}") from None
    except (OSError, ValueError) as error:
        raise ConvertError(f"{path}: cannot be read ({error})") from None
    if not isinstance(values, dict):
        raise ConvertError(f"{path}: expected a JSON object")
    return values


def _check(path: Path, values: dict[str, Any]) -> None:
    if "peft_type" not in values and "fine_tune_type" in values:
        raise ConvertError(
            f"{path}: an adapter of MLX (fine_tune_type), not of peft; merge it into its base with"
            " mlx_lm.fuse --de-quantize and export the result as a checkpoint"
        )
    if str(values.get("peft_type", "")).upper() != "LORA":
        raise ConvertError(f"{path}: peft_type is {values.get('peft_type')!r}, not 'LORA'")
    for key, kind in _SIZES.items():
        if not _is_size(values.get(key), kind):
            raise ConvertError(f"{path}: {key} is {values.get(key)!r}, not {_NUMBERS[kind]}")
    for key, why in _REFUSED.items():
        if values.get(key):
            raise ConvertError(f"{path}: {key}={values[key]!r}: {why}")
    start = values.get("init_lora_weights")
    if isinstance(start, str) and start.lower().startswith(_CHANGED_BASE):
        raise ConvertError(
            f"{path}: init_lora_weights={start!r} changes the base's weights as well; convert the"
            " adapter with peft's path_initial_model_for_weight_conversion first"
        )
    texts = ("target_modules", "exclude_modules", "modules_to_save", "layers_pattern")
    for key in texts:
        value = values.get(key)
        is_list = isinstance(value, list) and all(isinstance(v, str) for v in value)
        is_pattern = isinstance(value, str) and key != "modules_to_save"
        if value is not None and not is_list and not is_pattern:
            raise ConvertError(f"{path}: {key} is {value!r}, not a list of names")
    for key in ("rank_pattern", "alpha_pattern"):
        by_module = values.get(key) or {}
        if not isinstance(by_module, dict):
            raise ConvertError(f"{path}: {key} is {by_module!r}, not numbers by module")
        kind = int if key == "rank_pattern" else float
        for module, value in by_module.items():
            if not _is_size(value, kind):
                raise ConvertError(f"{path}: {key}: {module} is {value!r}, not {_NUMBERS[kind]}")
    layers = values.get("layers_to_transform")
    if layers is not None and not all(
        isinstance(each, int) for each in (layers if isinstance(layers, list) else [layers])
    ):
        raise ConvertError(f"{path}: layers_to_transform is {layers!r}, not numbers of layers")
    _check_patterns(path, values)


def _is_size(value: Any, kind: type[int] | type[float]) -> bool:
    """Whether a value is a number above 0, and a whole one if `kind` is int."""
    if isinstance(value, bool) or not isinstance(value, (int, kind)):
        return False
    return 0 < value <= sys.float_info.max


def _check_patterns(path: Path, values: dict[str, Any]) -> None:
    """Raise ConvertError for an invalid regular expression."""
    for key, pattern in _patterns(values):
        try:
            re.compile(pattern)
        except re.error as error:
            raise ConvertError(
                f"{path}: {key}: {pattern!r} is not a valid pattern ({error})"
            ) from None
