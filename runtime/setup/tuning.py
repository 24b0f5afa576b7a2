"""What `python -m runtime.tune` found for a model on this machine, and where it is noted.

`MODELS_DIR/tuning.json` has an entry for each model file, CPU and build of llama.cpp: a file
that changes, or is carried to another machine, is served with the defaults again.
"""

from __future__ import annotations

import hashlib
import logging
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from runtime.common.errors import SetupError
from runtime.common.files import read_json, write_json
from runtime.common.machine import cpu_name
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
    build = describe_build()
    return f"{physical_cores()} cores of {cpu_name()}; {build.compiler}, {build.openmp}"


def tuned(settings: Settings, model: Path, files: ModelFiles) -> Settings:
    """The settings, tuned for a model file where the user has not set them.

    A note that cannot be used is logged, and the settings stay as they are.
    """
    path = settings.models_dir / FILE_NAME
    entry = _read(path).get(_key(model, files), {})
    try:
        if not isinstance(entry, dict):
            raise ValueError("the entry is not an object")
        values = entry.get("settings", entry.get("knobs", {}))  # "knobs" in notes of old versions
        if not isinstance(values, dict):
            raise ValueError("the entry's settings are not an object")
        new = {n: values[n] for n in TUNED if n in values and n not in settings.model_fields_set}
        checked = Settings.model_validate({**dict(settings), **new})
    except ValidationError as error:
        (first, *_) = error.errors()
        name = str(first["loc"][0]).upper()
        return _unused(settings, path, model, f"{name}={first['input']!r:.60}: {first['msg']}")
    except ValueError as error:
        return _unused(settings, path, model, str(error))
    if not new:
        return settings
    shown = " ".join(f"{name.upper()}={getattr(checked, name)}" for name in sorted(new))
    log.info("%s: tuned: %s", model.name, shown)
    return settings.model_copy(update={name: getattr(checked, name) for name in new})


def _unused(settings: Settings, path: Path, model: Path, problem: str) -> Settings:
    log.warning(
        "%s: not used for %s: %s; run python -m runtime.tune again", path, model.name, problem
    )
    return settings


def keep(
    folder: Path, model: Path, values: dict[str, Any], measured: dict[str, Any], files: ModelFiles
) -> Path:
    """Note what was found for a model file; returns the file of notes in `folder` (`MODELS_DIR`).

    `values` are by the names of settings in `TUNED`, and `measured` is for people to read.

    Raises:
        SetupError: it cannot be written.
    """
    path = folder / FILE_NAME
    entry = {"model": model.name, "machine": machine(), "settings": values, "measured": measured}
    try:
        write_json(path, _read(path) | {_key(model, files): entry})
    except OSError as error:
        raise SetupError(f"{path}: cannot be written ({error.strerror})") from None
    return path


def _key(model: Path, files: ModelFiles) -> str:
    parts = f"{files.identity(model)}\n{machine()}\n{describe_build().digest}"
    return hashlib.sha256(parts.encode()).hexdigest()[:32]


def _read(path: Path) -> dict[str, Any]:
    """All entries; none where the file cannot be used, which is logged."""
    try:
        entries = read_json(path)
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        log.warning("%s cannot be read, so nothing in it is used: %s", path, error)
        return {}
    if not isinstance(entries, dict):
        log.warning("%s is not what runtime.tune writes: nothing in it is used", path)
        return {}
    return entries
