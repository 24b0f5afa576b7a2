"""Subject → the files that answer it, found before anything slow is done with them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from runtime.files import manifest
from runtime.files.adapters import as_gguf, in_folder, usable
from runtime.files.bases import DEMO, base_name, find_model, usual_types
from runtime.files.manifest import Entry, Manifest
from runtime.settings import Settings

_FLOATS = ("F32", "F16", "BF16")


@dataclass(frozen=True)
class Route:
    """What answers a subject: a model file, and an adapter on it or none."""

    model: Path
    adapter: Path | None = None


def plan_routes(settings: Settings) -> dict[str, Route]:
    """Subject → the files that answer it. The demo model is made if it is asked for.

    A subject is served by, in this order: its own setting's adapter, its merged file, its
    adapter, the adapter of `PEFT_ADAPTER_PATH`, whatever serves the fallback, the bare base.

    Raises:
        SetupError: names every file that was looked for and what makes them, or that is not
            what the manifest says.
    """
    folder = settings.models_dir
    exported = _exported(settings)
    subjects = settings.subjects
    own = {s: usable(settings.peft_adapters.get(s), subjects[s].setting) for s in subjects}
    found = {s: in_folder(settings, s) for s in subjects}
    common = usable(settings.peft_adapter_path, "PEFT_ADAPTER_PATH")
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

    fallback = specific(subjects.fallback)
    routes = {subject: specific(subject) or fallback for subject in subjects}
    planned = {subject: route or Route(bare()) for subject, route in routes.items()}
    manifest.verify(folder, {entry.path: entry for entry in used}.values())
    return {
        subject: Route(route.model, as_gguf(route.adapter, route.model, settings))
        for subject, route in planned.items()
    }


def _exported(settings: Settings) -> dict[tuple[str, str | None], Entry]:
    """What the manifest has for `MODEL_NAME`, by role and subject.

    Where it has several types, the usual one of `USE_4BIT` comes first, then any other
    quantized type, or float type if `USE_4BIT=0`.
    """
    name, usual = base_name(settings.model_name).casefold(), usual_types(settings)
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


def describe(routes: Mapping[str, Route]) -> str:
    """The table of routes, a line each."""
    width = max(map(len, routes))
    return "\n".join(
        f"{subject:<{width}} → {route.model.name}"
        + (f" + {route.adapter.name}" if route.adapter else "")
        for subject, route in routes.items()
    )
