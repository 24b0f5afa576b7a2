"""Subject → the files that answer it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from runtime.files.adapters import as_gguf, in_folder, usable
from runtime.files.bases import base_name, find_model, usual_types
from runtime.files.manifest import Entry, ModelFiles
from runtime.settings import Settings

_FLOATS = ("F32", "F16", "BF16")


@dataclass(frozen=True)
class Route:
    """What answers a subject: a model file, and an adapter on it or none."""

    model: Path
    adapter: Path | None = None

    @property
    def adapter_name(self) -> str | None:
        """The name under which the adapter is loaded; None for the bare model."""
        return str(self.adapter) if self.adapter else None


def plan_routes(settings: Settings, files: ModelFiles | None = None) -> dict[str, Route]:
    """Subject → the files that answer it.

    Makes the demo model if it is asked for, and converts PEFT folders to GGUF, each once.

    A subject is served by, in this order: its own setting's adapter, its merged file, its
    adapter, the adapter of `PEFT_ADAPTER_PATH`, whatever serves the fallback, the bare base.

    Raises:
        SetupError: names every file that was looked for and what makes them, or that is not
            what the manifest says.
    """
    files = files or ModelFiles()
    folder, subjects = settings.models_dir, settings.subjects
    exported = _exported(settings, files)
    own = {s: usable(settings.peft_adapters.get(s), subjects[s].setting) for s in subjects}
    found: dict[str, Path] = {}
    if settings.adapters_base_dir is not None:
        base = base_name(settings.model_name)
        found = in_folder(settings.adapters_base_dir, subjects, base, files)
    common = usable(settings.peft_adapter_path, "PEFT_ADAPTER_PATH")
    used: list[Entry] = []
    bare: Path | None = None

    def on_base(adapter: Path | None) -> Route:
        nonlocal bare
        if bare is None:
            bare = find_model(settings, exported.get(("base", None)))
            listed = files.listed(folder).get(bare.name) if bare.parent == folder else None
            used.extend([listed] if listed else [])
        return Route(bare, adapter)

    def specific(subject: str) -> Route | None:
        merged, adapter = exported.get(("merged", subject)), exported.get(("adapter", subject))
        if own[subject]:
            return on_base(own[subject])
        if merged:
            used.append(merged)
            return Route(folder / merged.path)
        if adapter:
            used.append(adapter)
            return on_base(folder / adapter.path)
        other = found.get(subject) or common
        return on_base(other) if other else None

    fallback = specific(subjects.fallback)
    routes = {subject: specific(subject) or fallback for subject in subjects}
    planned = {subject: route or on_base(None) for subject, route in routes.items()}
    files.verify(folder, used)
    made = {  # subjects may share an adapter
        route: Route(route.model, as_gguf(route.adapter, route.model, settings))
        for route in dict.fromkeys(planned.values())
    }
    return {subject: made[route] for subject, route in planned.items()}


def _exported(settings: Settings, files: ModelFiles) -> dict[tuple[str, str | None], Entry]:
    """What the manifest of `MODELS_DIR` lists for `MODEL_NAME`, by role and subject.

    Where it has several types, the usual one of `USE_4BIT` comes first, then any other
    quantized type, or float type if `USE_4BIT=0`.
    """
    name, usual = base_name(settings.model_name).casefold(), usual_types(settings)
    entries = [
        entry
        for entry in files.listed(settings.models_dir).values()
        if entry.base.casefold() == name
    ]
    fit = [e for e in entries if (e.quantization not in _FLOATS) == settings.use_4bit]
    fit.sort(key=lambda e: usual.index(e.quantization) if e.quantization in usual else len(usual))
    adapters = [e for e in entries if e.role == "adapter"]
    return {(e.role, e.subject): e for e in [*adapters, *reversed(fit)]}


def describe(routes: Mapping[str, Route]) -> str:
    """The table of routes, a line each."""
    width = max(map(len, routes))
    return "\n".join(
        f"{subject:<{width}} → {route.model.name}"
        + (f" + {route.adapter.name}" if route.adapter else "")
        for subject, route in routes.items()
    )
