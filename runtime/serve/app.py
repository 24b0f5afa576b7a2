"""The routes of the server."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.middleware.cors import CORSMiddleware
from fastapi.responses import JSONResponse

from runtime import __version__
from runtime.engine import library
from runtime.pipeline import Pipeline
from runtime.serve import adapters, errors, tokens
from runtime.serve.answering import ChatShape, CompletionShape, Shape, chunks, whole
from runtime.serve.anthropic import routes as anthropic_routes
from runtime.serve.asking import Task, chat_task, completion_task
from runtime.serve.batches import routes as batch_routes
from runtime.serve.batches.runner import Batches
from runtime.serve.batches.store import Store
from runtime.serve.body.schema import (
    ChatBody,
    CompletionBody,
    DetokenizeBody,
    Sampling,
    TokenizeBody,
)
from runtime.serve.catalog import AUTO, Served
from runtime.serve.errors import ApiError
from runtime.serve.metrics import CONTENT_TYPE
from runtime.serve.options import Options
from runtime.serve.page import page
from runtime.serve.responses import routes as response_routes
from runtime.serve.service import Service
from runtime.serve.web.connections import log_briefly
from runtime.serve.web.hangups import EventStream, HangUpError, unless_gone
from runtime.serve.web.keys import Keys
from runtime.serve.web.limits import Gate
from runtime.serve.web.requests import RequestIds

log = logging.getLogger(__name__)


def make_app(
    pipeline: Pipeline, options: Options, keys: Keys | None = None, store: Store | None = None
) -> FastAPI:
    """The ASGI application over a loaded pipeline, which nothing else may use meanwhile.

    Without `keys` and `store` it makes those of the options; the store is closed at the end.

    Raises:
        SetupError: the options cannot be followed.
    """
    service = Service(pipeline, options)
    if store is None and options.batch_dir:
        store = Store(options.batch_dir, options.file_days)
    batches = Batches(service, store) if store else None

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        log_briefly(asyncio.get_running_loop())
        service.start()
        if batches is not None:
            batches.start()
        yield
        if batches is not None:
            await batches.stop()
        await service.stop()

    app = FastAPI(
        title="subject-lora-serve",
        version=__version__,
        lifespan=lifespan,
        docs_url=None,  # they would load scripts from the network
        redoc_url=None,
    )
    app.add_middleware(
        Gate,
        keys=keys or Keys(options.api_key, options.api_keys_file),
        body=int(options.body_mb * 2**20),
        upload=int(options.file_mb * 2**20),
        patience=min(options.deadline, 120.0),
    )
    if options.allowed_origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=options.allowed_origins,
            allow_methods=["*"],
            allow_headers=["*"],
            expose_headers=["x-request-id", "retry-after"],
        )
    app.add_middleware(
        RequestIds, access_log=options.access_log, responded=service.metrics.responded
    )
    app.state.service = service
    errors.install(app)
    _add_answers(app, service)
    response_routes.add(app, service)
    anthropic_routes.add(app, service)
    _add_models(app, service)
    _add_house(app, service, batches)
    batch_routes.add(app, batches)
    adapters.add_routes(app, service, allowed=options.runtime_adapters)
    return app


def _add_answers(app: FastAPI, service: Service) -> None:
    async def answer(request: Request, body: Sampling, task: Task, shape: Shape) -> Response:
        if body.stream:
            return EventStream(chunks(service, task, shape, body.stream_options))
        try:
            return JSONResponse(await unless_gone(request.receive, whole(service, task, shape)))
        except HangUpError:
            return Response(status_code=499)

    @app.post("/v1/chat/completions", response_model=None)
    async def chat(request: Request, body: ChatBody) -> Response:
        return await answer(request, body, await chat_task(service, body), ChatShape())

    @app.post("/v1/completions", response_model=None)
    async def complete(request: Request, body: CompletionBody) -> Response:
        return await answer(request, body, await completion_task(service, body), CompletionShape())

    @app.post("/v1/embeddings", include_in_schema=False)
    async def embed() -> Response:
        raise ApiError(
            400,
            "this server generates text and has no embeddings: run an embedding model beside it,"
            " for example with llama-server --embeddings, and send /v1/embeddings there",
            code="not_served",
        )


def _add_models(app: FastAPI, service: Service) -> None:
    catalog = service.catalog

    def served(model: str | None) -> Served:
        name = model or (catalog.base.id if catalog.base else AUTO)
        return catalog.find(name)

    @app.get("/v1/models")
    async def models() -> dict[str, Any]:
        return {"object": "list", "data": catalog.listing()}

    @app.get("/v1/models/{name:path}")
    async def model(name: str) -> dict[str, Any]:
        return catalog.entry(name)

    @app.post("/tokenize")
    def tokenize(body: TokenizeBody) -> dict[str, Any]:
        return tokens.tokenize(service.way, served(body.model), body)

    @app.post("/detokenize")
    def detokenize(body: DetokenizeBody) -> dict[str, Any]:
        return tokens.detokenize(served(body.model), body)

    @app.get("/tokenizer_info")
    async def tokenizer_info() -> dict[str, Any]:
        return tokens.tokenizer_info(served(None))


def _add_house(app: FastAPI, service: Service, batches: Batches | None) -> None:
    @app.get("/", include_in_schema=False)
    async def ask() -> Response:
        return page()

    @app.get("/health")
    @app.get("/ping", include_in_schema=False)
    async def health() -> dict[str, Any]:
        if service.worker.failure:
            raise ApiError(503, f"the engine has failed: {service.worker.failure}")
        if batches is not None and batches.failure:
            raise ApiError(503, f"no batch runs: {batches.failure}")
        load = service.load
        return {"status": "ok", "running": load.running, "waiting": load.waiting}

    @app.get("/version")
    async def version() -> dict[str, str]:
        return {"version": __version__, "llama_cpp_python": library.version()}

    @app.get("/metrics", include_in_schema=False)
    async def metrics() -> Response:
        catalog = service.catalog
        names = [n for n in catalog.names() if n != AUTO and catalog.find(n).adapter]
        return Response(service.metrics.text(names, time.time()), media_type=CONTENT_TYPE)
