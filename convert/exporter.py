"""Writes a base and its LoRA adapters as GGUF files and lists them in the manifest."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from convert.base import Source
from convert.errors import ConvertError
from convert.imatrix import Importance, compute
from convert.lora import Adapter
from convert.sources import open_source
from convert.survival import share_kept
from convert.writing import FLOAT_TYPES, own_type, write_adapter, write_model
from runtime.common.atomic import replacing, scratch
from runtime.common.command import explain
from runtime.common.errors import UserError
from runtime.common.hashing import fingerprint, sha256
from runtime.files.adapters import in_folder
from runtime.files.bases import find_base
from runtime.files.manifest import CONVERSION, Entry, Manifest, ModelFiles, Role, problem_with
from runtime.files.quantize import TYPES, quantize
from runtime.settings import Settings
from runtime.subjects import Subjects

log = logging.getLogger(__name__)

# A merged file that keeps a smaller share of its adapter's changes answers like the bare base.
_LEAST_KEPT = 0.5


@dataclass(frozen=True)
class Options:
    """How to export.

    Attributes:
        folder: for GGUF files and the manifest.
        fallback: the subject for questions of no other subject.
        type_name: llama.cpp's name of the quantization.
        importance: an importance matrix to quantize with, or None.
        calibration: text files to compute an importance matrix from, for each model; "{subject}"
            in their names stands for the subject, or for `fallback`.
        adapter_type: F32, F16 or BF16, for GGUF adapters.
        force: export files even if they are up to date.
    """

    folder: Path
    fallback: str
    type_name: str = "Q4_K_M"
    importance: Path | None = None
    calibration: tuple[str, ...] = ()
    adapter_type: str = "F32"
    force: bool = False

    def texts(self, subject: str | None) -> list[Path]:
        """The calibration text of a subject."""
        return [
            Path(name.replace("{subject}", subject or self.fallback)) for name in self.calibration
        ]


class Exporter:
    """Exports a base, bare or with adapters, and updates the manifest.

    Raises:
        ConvertError: an unknown type, or a base that cannot be read.
    """

    def __init__(self, base: Path, name: str, options: Options) -> None:
        if options.type_name not in TYPES:
            raise ConvertError(
                f"--type {options.type_name}: no such type; choose from {', '.join(TYPES)}"
            )
        self.options = options
        self.source: Source = open_source(base, name)
        self._hashes: dict[Path, str] = {}
        options.folder.mkdir(parents=True, exist_ok=True)

    def export_base(self) -> Path:
        """Export the bare base."""
        name = f"{self.source.name}-{self.options.type_name}.gguf"
        return self._export(name, "base", None, None, lambda path: self._write(path, None, None))

    def export_merged(self, lora: Path, subject: str) -> Path:
        """Export the base with an adapter merged into it."""
        adapter = Adapter(lora, self.source)
        name = f"{self.source.name}-{subject}-{self.options.type_name}.gguf"
        return self._export(
            name, "merged", subject, adapter, lambda path: self._write(path, adapter, subject)
        )

    def export_adapter(self, lora: Path, subject: str | None, name: str | None = None) -> Path:
        """Export the adapter alone; llama.cpp applies it to the base."""
        adapter = Adapter(lora, self.source)
        name = name or f"{self.source.name}-lora-{subject}.gguf"
        return self._export(
            name,
            "adapter",
            subject,
            adapter,
            lambda path: write_adapter(adapter, path, self.options.adapter_type),
        )

    def _export(
        self,
        name: str,
        role: Role,
        subject: str | None,
        adapter: Adapter | None,
        make: Callable[[Path], None],
    ) -> Path:
        """Make a file unless it is up to date, and add it to the manifest."""
        folder = self.options.folder
        target = folder / name
        if target.exists() and target.samefile(self.source.path):
            print(f"{target}: is the base itself, not changed")
            return target
        inputs = self._fingerprint(role, subject, adapter)
        known = Manifest.load(folder).find(name)
        if known and known.inputs == inputs and not self.options.force:
            problem = problem_with(folder, known)
            if not problem:
                print(f"{target}: up to date")
                return target
            log.warning("%s: exporting it again", problem)
        make(target)
        entry = Entry(
            path=name,
            role=role,
            base=self.source.name,
            subject=subject,
            quantization=self.options.adapter_type if role == "adapter" else self.options.type_name,
            size=target.stat().st_size,
            sha256=sha256(target),
            adapter=adapter.folder.name if adapter else None,
            training=adapter.training() if adapter else None,
            importance=self._importance_hash(target) if role != "adapter" else None,
            inputs=inputs,
            made_with=_versions(),
        )
        Manifest.add(folder, entry)
        print(f"{target}: {entry.size / 1e6:.0f} MB, {entry.quantization}")
        return target

    def _write(self, target: Path, adapter: Adapter | None, finetune: str | None) -> None:
        type_name = self.options.type_name
        if type_name in FLOAT_TYPES:
            write_model(self.source, target, type_name, adapter, finetune)
            return
        # The temporary float file is as large as the base; it is removed with this block.
        with replacing(target) as quantized, scratch(target) as whole:
            write_model(self.source, whole, own_type(self.source), adapter, finetune)
            means = None
            if self.options.importance or self.options.calibration:
                means = self._importance(whole, target, finetune).means()
            log.info("quantizing to %s", type_name)
            quantize(whole, quantized, type_name, importance=means)
            if adapter:
                self._tell_what_is_kept(adapter, quantized)

    def _tell_what_is_kept(self, adapter: Adapter, quantized: Path) -> None:
        kept = share_kept(adapter, quantized)
        what = f"{adapter.folder}: {self.options.type_name} keeps {kept:.0%} of its changes"
        if kept >= _LEAST_KEPT:
            log.info("%s", what)
        else:
            log.warning(
                "%s; the base was quantized before, so small changes are rounded away: serve it as"
                " an adapter (--mode adapter), or choose another --type",
                what,
            )

    def _importance(self, whole: Path, target: Path, subject: str | None) -> Importance:
        if self.options.importance:
            return Importance.load(self.options.importance)
        importance = compute(whole, self.options.texts(subject))
        importance.save(_importance_path(target))
        return importance

    def _importance_hash(self, target: Path) -> str | None:
        if self.options.type_name in FLOAT_TYPES:
            return None
        if self.options.importance:
            return sha256(self.options.importance)
        return sha256(_importance_path(target)) if self.options.calibration else None

    def _fingerprint(self, role: Role, subject: str | None, adapter: Adapter | None) -> str:
        options, source = self.options, self.source
        parts: dict[str, object] = {
            "format": CONVERSION,
            "role": role,
            "adapter": [self._hash(path) for path in adapter.files()] if adapter else None,
        }
        if role == "adapter" and not (adapter and adapter.replaced):
            # LoRA matrices depend only on the shapes of the base.
            shapes = {name: t.shape for name, t in source.tensors.items()}
            heads = [source.n_head, source.n_head_kv]
            parts["base"] = [source.architecture.gguf.name, heads, shapes]
        else:
            parts["base"] = [self._hash(path) for path in source.files()]
        if role == "adapter":
            parts["type"] = options.adapter_type
        else:
            parts["type"] = options.type_name
            parts["importance"] = options.importance and self._hash(options.importance)
            parts["calibration"] = [self._hash(path) for path in options.texts(subject)]
            parts["llama_cpp"] = _versions()["llama_cpp_python"]
        return fingerprint(parts)

    def _hash(self, path: Path) -> str:
        if path not in self._hashes:  # the base's files are large, and each export needs them
            self._hashes[path] = sha256(path)
        return self._hashes[path]


def _importance_path(target: Path) -> Path:
    return target.with_suffix(".imatrix.gguf")


def _versions() -> dict[str, str]:
    return {name: metadata.version(name) for name in ("llama_cpp_python", "gguf")}


def export(
    base: str,
    settings: Settings,
    options: Options,
    loras: Mapping[str, Path] | Path,
    merge: bool = True,
    with_base: bool = True,
) -> int:
    """Export a base and its adapters; returns how many adapters failed, each with a message.

    Args:
        base: a folder, a hub id on disk, a GGUF file or `demo`.
        loras: subject → PEFT folder, or a folder of PEFT folders `*-lora-<subject>`.
        merge: make a whole model for each subject, not a small adapter.
        with_base: with adapters, export the base too.

    Raises:
        UserError: the base or the folder of adapters cannot be used.
        OSError: a file cannot be written.
    """
    exporter = Exporter(*find_base(base, settings), options)
    if isinstance(loras, Path):
        loras = _adapters(loras, exporter.source.name, settings.subjects)
    failed = 0
    if not loras or (not merge and with_base):
        exporter.export_base()
    for subject, lora in loras.items():
        # If one adapter fails, the others are still exported.
        try:
            if merge:
                exporter.export_merged(lora, subject)
            else:
                exporter.export_adapter(lora, subject)
        except (UserError, OSError) as error:
            print(f"error: {subject}: {explain(error)}", file=sys.stderr)
            failed += 1
    roles = {(e.role, e.subject) for e in Manifest.load(options.folder).files}
    if with_base and not {("base", None), ("merged", options.fallback)} & roles:
        print(
            f"subjects without their own file need one for {options.fallback}, or the bare base:"
            f" python -m convert.export_gguf --base {base}"
        )
    return failed


def _adapters(folder: Path, base: str, subjects: Subjects) -> dict[str, Path]:
    found = in_folder(
        folder,
        subjects,
        base,
        ModelFiles(),
        named="--loras ",
        instead="--lora and --subject",
        peft_only=True,
    )
    if not found:
        raise ConvertError(
            f"--loras {folder}: no PEFT folders named *-lora-<subject> in it"
            f" (subjects: {', '.join(subjects)})"
        )
    return found
