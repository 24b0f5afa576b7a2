"""Finds base models and adapters on disk."""

from __future__ import annotations

from pathlib import Path

from convert.errors import ConvertError
from runtime.common.errors import SetupError
from runtime.files import demo
from runtime.files.adapters import trained_on
from runtime.files.bases import base_name
from runtime.settings import Settings
from runtime.subjects import Subjects


def find_base(name: str, settings: Settings, option: str = "--base") -> tuple[Path, str]:
    """Where a base lies, and what it is called.

    Args:
        name: a folder, a .gguf file, `demo`, or a hub id, which is looked for in
            `HF_CACHE_DIR` and in Hugging Face's usual cache, offline.
        settings: for `HF_CACHE_DIR`.
        option: of the command line, to be named in errors.

    Raises:
        ConvertError: names every place that was looked in.
    """
    if name == "demo":
        try:
            return demo.packaged_file(), base_name(name)
        except SetupError as error:
            raise ConvertError(str(error)) from None
    path = Path(name).expanduser()
    if path.exists():
        return path, base_name(str(path.resolve()))
    cache = settings.hf_cache_dir
    for folder in (cache / name, cache / base_name(name)):
        if (folder / "config.json").is_file():
            return folder, base_name(name)
    from huggingface_hub import constants, snapshot_download
    from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError

    caches = [str(cache), constants.HF_HUB_CACHE]
    for hub_cache in caches:
        try:
            found = snapshot_download(name, cache_dir=hub_cache, local_files_only=True)
            return Path(found), base_name(name)
        except (LocalEntryNotFoundError, HFValidationError, OSError):
            continue
    raise ConvertError(
        f"{option} {name}: no such folder or file, and not found in {', '.join(caches)} either"
        " (nothing is downloaded)"
    )


def find_adapters(folder: Path, base: str, subjects: Subjects) -> dict[str, Path]:
    """PEFT folders named `*-lora-<subject>`, by subject.

    Args:
        folder: where they lie.
        base: name of the base; of several for a subject, the one that was trained on it is taken.
        subjects: others than these are passed over.

    Raises:
        ConvertError: no such folder, none in it, or several for a subject.
    """
    if not folder.is_dir():
        raise ConvertError(f"--loras {folder}: no such folder")
    found: dict[str, list[Path]] = {}
    for path in sorted(folder.iterdir()):
        subject = path.name.casefold().rpartition("-lora-")[2]
        if subject in subjects and (path / "adapter_config.json").is_file():
            found.setdefault(subject, []).append(path)
    for subject, paths in found.items():
        known = {path: base_name(trained_on(path) or "").casefold() for path in paths}
        fitting = [path for path in paths if known[path] == base.casefold()] or paths
        if len(fitting) > 1:
            raise ConvertError(
                f"--loras {folder}: two adapters for {subject}: {fitting[0].name} and"
                f" {fitting[1].name}; choose with --lora and --subject"
            )
        found[subject] = fitting
    if not found:
        raise ConvertError(
            f"--loras {folder}: no PEFT folders named *-lora-<subject> in it"
            f" (subjects: {', '.join(subjects)})"
        )
    return {subject: paths[0] for subject, paths in found.items()}
