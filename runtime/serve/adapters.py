"""/v1/load_lora_adapter and /v1/unload_lora_adapter, as vLLM has them.

Off unless allowed: a client that may load adapters can make this machine read any file.
llama.cpp sizes a context for its adapters when it is made. So running requests are finished first,
then a new context is made, and requests that came meanwhile go on.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

from fastapi import FastAPI, Response

from runtime.common.errors import SetupError
from runtime.engine import Engine, EngineError
from runtime.files.adapters import as_gguf
from runtime.files.manifest import ModelFiles
from runtime.serve.body.schema import LoadAdapterBody, UnloadAdapterBody
from runtime.serve.catalog import Served
from runtime.serve.errors import ApiError
from runtime.serve.service import Service
from runtime.setup.trials import Trials

MOST_ADAPTERS = 64


def add_routes(app: FastAPI, service: Service, allowed: bool) -> None:
    """Add the routes; where they are not allowed they say so."""
    lock = asyncio.Lock()

    def refuse_unless_allowed() -> None:
        if not allowed:
            raise ApiError(
                403, "adapters cannot be changed: start the server with --runtime-adapters"
            )

    @app.post("/v1/load_lora_adapter", response_model=None)
    async def load(body: LoadAdapterBody) -> Response:
        refuse_unless_allowed()
        async with lock:
            path = await asyncio.to_thread(_checked, service, Path(body.lora_path))
            served = service.catalog.add_adapter(body.lora_name, path)
            try:
                await _change(service, served, lambda e: e.load_adapter(body.lora_name, path))
            except ApiError:
                service.catalog.remove_adapter(body.lora_name)
                raise
        return Response(f"Success: LoRA adapter '{body.lora_name}' added successfully.")

    @app.post("/v1/unload_lora_adapter", response_model=None)
    async def unload(body: UnloadAdapterBody) -> Response:
        refuse_unless_allowed()
        async with lock:
            served = service.catalog.remove_adapter(body.lora_name)
            await _change(service, served, lambda e: e.unload_adapter(body.lora_name))
        return Response(f"Success: LoRA adapter '{body.lora_name}' removed successfully.")


async def _change(service: Service, served: Served, change: Callable[[Engine], None]) -> None:
    future = service.worker.when_idle(lambda: change(served.engine))
    try:
        await asyncio.wrap_future(future)
    except EngineError as error:
        raise ApiError(400, str(error), "lora_path") from None


def _checked(service: Service, path: Path) -> Path:
    """The GGUF file of an adapter that is known not to crash llama.cpp. Raises ApiError."""
    base = service.catalog.base
    if base is None:
        raise ApiError(400, "no bare model is served that adapters could be loaded on")
    if len(service.catalog.names()) > MOST_ADAPTERS:
        raise ApiError(400, f"{MOST_ADAPTERS} models are served already", "lora_name")
    if not path.exists():
        raise ApiError(404, f"{path}: no such file or folder", "lora_path")
    model = base.engine.model.path
    try:
        adapter = as_gguf(path, model, service.settings) or path
        Trials(service.settings.models_dir, ModelFiles()).refuse_crashing(model, [adapter])
    except (SetupError, EngineError, OSError) as error:
        raise ApiError(400, str(error), "lora_path") from None
    return adapter
