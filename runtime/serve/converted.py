"""Chats in another API's form: asked by its body, answered by its events or all at once."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Iterator, Mapping
from contextlib import aclosing
from typing import Any, Protocol

from fastapi import Request, Response
from fastapi.responses import JSONResponse
from pydantic import ValidationError

from runtime.serve.answering import ChatShape, chunks
from runtime.serve.asking import Task
from runtime.serve.body.schema import ChatBody, StreamOptions
from runtime.serve.errors import ApiError, explain_invalid
from runtime.serve.service import Service
from runtime.serve.web.hangups import EventStream, HangUpError, unless_gone

JsonDict = dict[str, Any]


def chat_of(fields: JsonDict, names: Mapping[str, str]) -> ChatBody:
    """The chat with these fields. Raises ApiError, with the body's `names` of them."""
    try:
        return ChatBody.model_validate(fields)
    except ValidationError as error:
        raise renamed(explain_invalid(error.errors()), names) from None


def renamed(error: ApiError, names: Mapping[str, str]) -> ApiError:
    """An error of a chat with the field's name in the other API's body."""
    error.param = names.get(error.param or "", error.param)
    return error


class Events(Protocol):
    """Makes events of the chunks of a chat with one choice."""

    @property
    def answer(self) -> JsonDict:
        """The whole answer so far."""

    def begin(self) -> Iterator[JsonDict]:
        """Before the first chunk."""

    def add(self, chunk: JsonDict) -> Iterator[JsonDict]:
        """For a chunk."""

    def finish(self) -> Iterator[JsonDict]:
        """After the last chunk."""

    def fail(self, error: ApiError) -> JsonDict:
        """When the chat has failed after its first chunk."""


async def respond(
    request: Request,
    service: Service,
    task: Task,
    events: Events,
    stream: bool,
    ended: Callable[[], None] = lambda: None,
) -> Response:
    """Run a chat; the response in the form of `events`, whole or streamed. Raises ApiError.

    `ended` is called once the answer is complete.
    """

    made = _events(service, task, events, ended, stream)
    if stream:
        return EventStream(made, named=True)

    async def run() -> None:
        async with aclosing(made):
            async for _ in made:
                pass

    try:
        await unless_gone(request.receive, run())
    except HangUpError:
        return Response(status_code=499)
    return JSONResponse(events.answer)


async def _events(
    service: Service, task: Task, events: Events, ended: Callable[[], None], stream: bool
) -> AsyncGenerator[JsonDict | None, None]:
    """All events; an error after the first is the last event of a stream."""
    begun = False
    made = chunks(service, task, ChatShape(), StreamOptions(include_usage=True))
    try:
        async with aclosing(made):
            async for chunk in made:
                if not begun:
                    begun = True
                    for event in events.begin():
                        yield event
                if chunk is not None:
                    for event in events.add(chunk):
                        yield event
    except ApiError as error:
        if not (stream and begun):
            raise
        yield events.fail(error)
        return
    for event in events.finish():
        yield event
    ended()
