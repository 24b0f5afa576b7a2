"""Finds adapters by setting and in folders; has PEFT folders converted to GGUF."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
from hashlib import sha256
from pathlib import Path

from runtime.common.errors import SetupError
from runtime.files import manifest
from runtime.files.bases import base_name
from runtime.files.manifest import Manifest
from runtime.settings import PROJECT_DIR, Settings

log = logging.getLogger(__name__)

# Adapters converted from PEFT folders are kept in this folder of MODELS_DIR.
_CONVERTED = ".adapters"


def usable(path: Path | None, setting: str) -> Path | None:
    """The GGUF adapter or PEFT folder that a setting names, if it is one. Raises SetupError."""
    if path is None or _is_peft(path) or path.is_file():
        return path
    what = "no PEFT folder (it has no adapter_config.json)" if path.is_dir() else "no such file"
    raise SetupError(f"{setting}={path}: {what}")


def in_folder(settings: Settings, subject: str) -> Path | None:
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
            f" choose one with {settings.subjects[subject].setting}"
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


def as_gguf(adapter: Path | None, model: Path, settings: Settings) -> Path | None:
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
