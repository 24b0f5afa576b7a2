"""The routes of /v1/responses: a chat, asked and answered in another form."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse

from runtime.serve.answering import ChatShape, chunks
from runtime.serve.asking import Task, chat_task
from runtime.serve.errors import ApiError
from runtime.serve.hangups import EventStream, HangUpError, unless_gone
from runtime.serve.response_events import Events, messages_said
from runtime.serve.response_store import ResponseStore
from runtime.serve.responses import ResponseBody, chat_body, messages_of, renamed
from runtime.serve.schema import StreamOptions
from runtime.serve.service import Service

JsonDict = dict[str, Any]


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
            raise renamed(error) from None
        made = _events(service, task, body, messages, store)
        if body.stream:
            return EventStream(made, named=True)
        try:
            return JSONResponse(await unless_gone(request.receive, _last(made)))
        except HangUpError:
            return Response(status_code=499)

    @app.get("/v1/responses/{id_}")
    async def retrieve(id_: str) -> JsonDict:
        return store.find(id_).response

    @app.delete("/v1/responses/{id_}")
    async def delete(id_: str) -> JsonDict:
        store.delete(id_)
        return {"id": id_, "object": "response", "deleted": True}


async def _events(
    service: Service,
    task: Task,
    body: ResponseBody,
    messages: list[JsonDict],
    store: ResponseStore,
) -> AsyncGenerator[JsonDict | None, None]:
    """The events of a response, which is stored at its end if that is wanted. Raises ApiError.

    An error after the first event is an event.
    """
    events, begun = Events(body), False
    options = StreamOptions(include_usage=True)
    try:
        async with aclosing(chunks(service, task, ChatShape(), options)) as made:
            async for chunk in made:
                if not begun:
                    begun = True
                    for event in events.begin():
                        yield event
                if chunk is not None:
                    for event in events.add(chunk):
                        yield event
    except ApiError as error:
        if not begun or not body.stream:
            raise
        yield events.fail(error)
        return
    for event in events.finish():
        yield event
    if body.store is not False:
        store.keep(events.response, [*messages, *messages_said(events.response)])


async def _last(events: AsyncGenerator[JsonDict | None, None]) -> JsonDict:
    """The response at the end of its events."""
    last: JsonDict = {}
    async with aclosing(events) as made:
        async for event in made:
            last = event or last
    response: JsonDict = last["response"]
    return response
