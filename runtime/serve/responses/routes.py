"""The routes of /v1/responses."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI, Request, Response

from runtime.serve.asking import chat_task
from runtime.serve.converted import renamed, respond
from runtime.serve.errors import ApiError
from runtime.serve.responses.body import NAMES, ResponseBody, chat_body, messages_of
from runtime.serve.responses.events import ResponseEvents, messages_said
from runtime.serve.responses.store import ResponseStore
from runtime.serve.service import Service


def add(app: FastAPI, service: Service) -> None:
    """Add the routes to an app."""
    store = ResponseStore()

    @app.post("/v1/responses", response_model=None)
    async def create(request: Request, body: ResponseBody) -> Response:
        messages = messages_of(body)
        if body.previous_response_id is not None:
            before = store.find(body.previous_response_id, "previous_response_id")
            messages = [*before.messages, *messages]
        chat = chat_body(body, await request.json(), messages)
        try:
            task = await chat_task(service, chat)
        except ApiError as error:
            raise renamed(error, NAMES) from None
        events = ResponseEvents(body)

        def keep() -> None:
            if body.store is not False:
                store.keep(events.answer, [*messages, *messages_said(events.answer)])

        return await respond(request, service, task, events, bool(body.stream), keep)

    @app.get("/v1/responses/{id_}")
    async def retrieve(id_: str) -> dict[str, Any]:
        return store.find(id_).response

    @app.delete("/v1/responses/{id_}")
    async def delete(id_: str) -> dict[str, Any]:
        store.delete(id_)
        return {"id": id_, "object": "response", "deleted": True}
