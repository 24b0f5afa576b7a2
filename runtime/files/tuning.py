"""What `python -m runtime.tune` found for a model on this machine, and where it is kept.

`MODELS_DIR/tuning.json` has an entry for each model file, CPU and build of llama.cpp: a file
that changes, or is carried to another machine, is served with the defaults again.
"""

from __future__ import annotations

import hashlib
import json
import logging
import platform
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from runtime.common.atomic import replacing
from runtime.common.errors import SetupError
from runtime.engine import describe_build, physical_cores
from runtime.files.manifest import ModelFiles
from runtime.settings import Settings

log = logging.getLogger(__name__)

FILE_NAME = "tuning.json"
# The settings that tuning may change, unless the user has set them. KV_CACHE_TYPE is not among
# them: it changes answers (lab/NOTES.md), and speed is no reason for that.
TUNED = ("batch_size", "num_threads", "prefill_tokens")


def machine() -> str:
    """The CPU and the build of llama.cpp, in words."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text(errors="replace").splitlines() if cpuinfo.is_file() else []
    names = {line.partition(":")[2].strip() for line in lines if line.startswith("model name")}
    cpu = ", ".join(sorted(names)) or platform.processor() or platform.machine()
    build = describe_build()
    return f"{physical_cores()} cores of {cpu}; {build.compiler}, {build.openmp}"


def tuned(settings: Settings, model: Path, files: ModelFiles) -> Settings:
    """The settings, tuned for a model file where the user has not set them."""
    entry = _read(settings.models_dir).get(_key(model, files), {})
    values = entry.get("settings", entry.get("knobs", {}))  # "knobs" is what older notes call them
    new = {
        name: values[name]
        for name in TUNED
        if name in values and name not in settings.model_fields_set
    }
    if not new:
        return settings
    try:
        checked = Settings.model_validate({**dict(settings), **new})
    except ValidationError as error:
        log.warning(
            "%s: not used for %s: %s; run python -m runtime.tune again",
            settings.models_dir / FILE_NAME,
            model.name,
            error.errors()[0]["msg"],
        )
        return settings
    log.info(
        "%s: tuned: %s", model.name, " ".join(f"{name.upper()}={new[name]}" for name in sorted(new))
    )
    return checked


def keep(
    folder: Path, model: Path, values: dict[str, Any], measured: dict[str, Any], files: ModelFiles
) -> Path:
    """Note what was found for a model file; where it is noted.

    Args:
        folder: `MODELS_DIR`.
        model: the GGUF file.
        values: by the names of settings in `TUNED`.
        measured: what the choice rests on, for people to read.
        files: tells model files apart.

    Raises:
        SetupError: the folder cannot be written.
    """
    path = folder / FILE_NAME
    entry = {"model": model.name, "machine": machine(), "settings": values, "measured": measured}
    try:
        with replacing(path) as partial:
            text = json.dumps(_read(folder) | {_key(model, files): entry}, indent=1)
            partial.write_text(text + "\n", "utf-8")
    except OSError as error:
        raise SetupError(f"{path}: cannot be written ({error.strerror})") from None
    return path


def _key(model: Path, files: ModelFiles) -> str:
    return hashlib.sha256(f"{files.identity(model)}\n{machine()}".encode()).hexdigest()[:32]


def _read(folder: Path) -> dict[str, Any]:
    path = folder / FILE_NAME
    try:
        entries = json.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        log.warning("%s cannot be read, so nothing in it is used: %s", path, error)
        return {}
    if not isinstance(entries, dict):
        log.warning("%s is not what runtime.tune writes: nothing in it is used", path)
        return {}
    return {key: entry for key, entry in entries.items() if isinstance(entry, dict)}
