"""Finds adapters by setting and by name in folders, and has PEFT folders converted to GGUF."""

from __future__ import annotations

import hashlib
import logging
import subprocess
from contextlib import suppress
from pathlib import Path

from runtime.common.atomic import replacing
from runtime.common.child import command_of
from runtime.common.errors import SetupError
from runtime.common.files import read_json
from runtime.common.hashing import fingerprint, sha256
from runtime.files.bases import base_name
from runtime.files.manifest import CONVERSION, Manifest, ModelFiles, problem_with
from runtime.settings import Settings
from runtime.subjects import Subjects

log = logging.getLogger(__name__)

# Adapters converted from PEFT folders are kept in this folder of MODELS_DIR.
_CONVERTED = ".adapters"


def usable(path: Path | None, setting: str) -> Path | None:
    """The path that a setting gives, checked to be a file or a PEFT folder. Raises SetupError."""
    if path is None or is_peft(path) or path.is_file():
        return path
    if path.is_dir():
        what = "no PEFT folder (it has no adapter_config.json)"
    else:
        what = "not a file" if path.exists() else "no such file"
    raise SetupError(f"{setting}={path}: {what}")


def in_folder(
    folder: Path,
    subjects: Subjects,
    base: str,
    files: ModelFiles,
    *,
    named: str = "ADAPTERS_BASE_DIR=",
    instead: str = "",
    peft_only: bool = False,
) -> dict[str, Path]:
    """The adapters `*-lora-<subject>` in a folder that are for a base, by subject.

    GGUF adapters come before PEFT folders. Of those that the folder's manifest lists, the ones
    for other bases are ignored; of PEFT folders, those trained on the base come first.

    Args:
        base: name of the base, as in manifests.
        named: how the user named the folder, for errors: a setting or an option, up to its value.
        instead: how to choose among several adapters of a subject; by default its setting.
        peft_only: ignore GGUF adapters.

    Raises:
        SetupError: no such folder, several adapters for a subject, or a file that is not what
            the manifest says.
    """
    if not folder.is_dir():
        raise SetupError(f"{named}{folder}: no such folder")
    try:
        paths = sorted(folder.iterdir())
    except OSError as error:
        raise SetupError(f"{named}{folder}: cannot be read ({error.strerror})") from None
    listed = files.listed(folder)
    ggufs: dict[str, list[Path]] = {}
    pefts: dict[str, list[Path]] = {}
    for path in paths:
        entry = listed.get(path.name)
        if is_peft(path):
            pefts.setdefault(_subject_of(path.name), []).append(path)
        elif path.suffix == ".gguf" and path.is_file() and (not entry or _is(entry.base, base)):
            ggufs.setdefault(_subject_of(path.stem), []).append(path)
    if unknown := sorted({*ggufs, *pefts} - {"", *subjects}):
        log.warning(
            "%s%s: adapters for %s are ignored: %s has no such subject",
            named,
            folder,
            ", ".join(unknown),
            subjects.file,
        )
    found = {}
    for name, subject in subjects.items():
        folders = pefts.get(name, [])
        several = [] if peft_only else ggufs.get(name, [])
        several = several or [p for p in folders if _is(trained_on(p), base)] or folders
        if len(several) > 1:
            names = ", ".join(path.name for path in several)
            raise SetupError(
                f"{named}{folder}: several adapters for {name} ({names}); choose one with"
                f" {instead or subject.setting}"
            )
        if several:
            found[name] = several[0]
    files.verify(folder, [listed[path.name] for path in found.values() if path.name in listed])
    return found


def _subject_of(name: str) -> str:
    """The subject in the name of an adapter, *-lora-<subject>, or ""."""
    _, lora, subject = name.casefold().rpartition("-lora-")
    return subject if lora else ""


def _is(named: str | None, base: str) -> bool:
    return named is not None and base_name(named).casefold() == base.casefold()


def trained_on(peft_folder: Path) -> str | None:
    """The base that a PEFT folder names, or None."""
    try:
        return str(read_json(peft_folder / "adapter_config.json")["base_model_name_or_path"])
    except (OSError, ValueError, KeyError, TypeError):
        return None  # converting it will say what is wrong


def is_peft(path: Path) -> bool:
    """Whether a path is a folder with a PEFT adapter."""
    return (path / "adapter_config.json").is_file()


def as_gguf(adapter: Path | None, model: Path, settings: Settings) -> Path | None:
    """A GGUF adapter as it is; a PEFT folder converted, once.

    `python -m convert.export_gguf --adapter-file` converts it (docs/exporting.md), in a process of
    its own: a damaged folder or a lack of memory must not end the server, and this package imports
    nothing of `convert`.

    Kept is what was converted from the same files, so that a start needs neither the extra nor
    the time.

    Raises:
        SetupError: it cannot be read or converted.
    """
    if adapter is None or adapter.is_file():
        return adapter
    folder = settings.models_dir / _CONVERTED
    key = f"{adapter.resolve()}\n{model.resolve()}"
    name = f"{adapter.name}-{hashlib.sha256(key.encode()).hexdigest()[:8]}.gguf"
    made_of = _made_of(adapter, model)
    record = folder / f"{name}.made-of"
    if record.is_file() and record.read_text("utf-8") == made_of:
        entry = Manifest.load(folder).find(name)
        if entry is not None and not problem_with(folder, entry):
            return folder / name
    options = ["--base", str(model), "--lora", str(adapter)]
    options += ["--output", str(folder), "--adapter-file", name]
    command, environment = command_of("convert.export_gguf", *options)
    log.info("converting %s", adapter)
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    if done.returncode == 0:
        with suppress(OSError), replacing(record) as partial:  # it would be converted again
            partial.write_text(made_of, "utf-8")
        return folder / name
    said = (done.stderr.strip() or done.stdout.strip()).splitlines() or ["no reason given"]
    raise SetupError(
        f"{adapter}: this PEFT folder could not be converted to a GGUF adapter: {said[-1]}\n"
        "Converting needs the extra: pip install 'subject-lora-serve[convert]'; or give a GGUF"
        " adapter, made with\n"
        f"  python -m convert.export_gguf --base BASE --lora {adapter} --subject SUBJECT"
        " --mode adapter"
    )


def _made_of(adapter: Path, model: Path) -> str:
    """A fingerprint of a PEFT folder and of the state of its base, which may be gigabytes."""
    try:
        files = [sha256(path) for path in sorted(adapter.glob("adapter_*")) if path.is_file()]
        base = model.stat()
        return fingerprint([CONVERSION, base.st_size, base.st_mtime_ns, files])
    except OSError as error:
        raise SetupError(f"{error.filename}: cannot be read ({error.strerror})") from None
