"""The models that clients can name: subjects, the bare base, `auto`, and loaded adapters."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from runtime.common.errors import SetupError
from runtime.engine import Engine
from runtime.files.routes import Route
from runtime.serve.chat.conversations import Conversations
from runtime.serve.errors import ApiError
from runtime.settings import Settings

AUTO = "auto"
MARGIN = 1  # tokens of a slot that are always left for an answer


@dataclass(frozen=True)
class Served:
    """A model as clients see it."""

    id: str
    engine: Engine
    conversations: Conversations
    root: Path  # the file of the adapter, or of the model
    adapter: str | None = None  # its name in the engine; None for the bare model
    subject: str | None = None  # that its questions have
    created: int = field(default_factory=lambda: int(time.time()))

    @property
    def context(self) -> int:
        """Most tokens of prompt and answer together."""
        return self.engine.max_prompt_tokens + MARGIN


class Catalog:
    """The models by name.

    Args:
        names: of the bare base, the first for answers; with none it is the settings'.

    Raises:
        SetupError: a name is taken, or there is no bare base.

    Attributes:
        base: the bare model, if there is one for all adapters.
        name: of the base, or of the settings' model.
    """

    def __init__(
        self,
        settings: Settings,
        routes: Mapping[str, Route],
        engines: Mapping[Path, Engine],
        names: Sequence[str] = (),
    ) -> None:
        self._subjects = settings.subjects
        conversations = {
            path: Conversations(engine.model, settings.subjects) for path, engine in engines.items()
        }
        self._served: dict[str, Served] = {}
        for subject in settings.subjects:
            route = routes[subject]
            self._served[subject] = Served(
                subject,
                engines[route.model],
                conversations[route.model],
                route.adapter or route.model,
                route.adapter_name,
                subject,
            )
        # A file that carries an adapter, or serves everything, is the bare model.
        bare = {route.model for route in routes.values() if route.adapter} or set(engines)
        self.base: Served | None = None
        if len(bare) == 1:
            (path,) = bare
            names = names or (settings.model_name,)
            self.base = Served(names[0], engines[path], conversations[path], path)
            for name in names:
                if name in self.names():
                    raise SetupError(f"--served-model-name {name}: a model has this name already")
                self._served[name] = self.base
        elif names:
            raise SetupError("--served-model-name: there is no bare base here, but several models")
        self.name = self.base.id if self.base else settings.model_name

    def find(self, name: str, subject: str | None = None) -> Served:
        """The model of that name; `auto` is the one of the subject. Raises ApiError 404."""
        if name == AUTO:
            return self._served[self._subjects.of(subject or "").name]
        served = self._served.get(name)
        if served is None:
            known = ", ".join(self.names())
            raise ApiError(
                404,
                f"there is no model {name[:100]!r}; there are {known}",
                "model",
                "model_not_found",
            )
        return served

    def names(self) -> list[str]:
        return [AUTO, *self._served]

    def add_adapter(self, name: str, path: Path) -> Served:
        """Have an adapter on the bare model served under a name. Raises ApiError."""
        if self.base is None:
            raise ApiError(400, "no bare model is served that adapters could be loaded on")
        if name in self.names():
            raise ApiError(400, f"there is a model {name!r} already", "lora_name")
        served = replace(self.base, id=name, adapter=name, root=path, created=int(time.time()))
        self._served[name] = served
        return served

    def remove_adapter(self, name: str) -> Served:
        """Forget a model that `add_adapter` added. Raises ApiError."""
        served = self._served.get(name)
        if served is None or served.adapter != name:
            raise ApiError(404, f"no adapter {name[:100]!r} has been loaded", "lora_name")
        return self._served.pop(name)

    def listing(self) -> list[dict[str, Any]]:
        """The models as /v1/models shows them, with vLLM's further fields."""
        return [self.entry(name) for name in self.names()]

    def entry(self, name: str) -> dict[str, Any]:
        """One of them. Raises ApiError 404."""
        served = self.find(name)
        parent = self.base.id if self.base and served is not self.base else None
        return {
            "id": name,
            "object": "model",
            "created": served.created,
            "owned_by": "subject-lora-serve",
            "root": AUTO if name == AUTO else served.root.name,
            "parent": parent,
            "max_model_len": served.context,
        }
