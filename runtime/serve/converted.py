"""Chats in another API's form: asked by its body, answered by its events or a whole of them."""

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
    """The chat with these fields. Raises ApiError, by the names that they have in the body."""
    try:
        return ChatBody.model_validate(fields)
    except ValidationError as error:
        raise renamed(explain_invalid(error.errors()), names) from None


def renamed(error: ApiError, names: Mapping[str, str]) -> ApiError:
    """An error of a chat, naming the body's field by what `names` has for the chat's."""
    error.param = names.get(error.param or "", error.param)
    return error


class Events(Protocol):
    """Makes events of the chunks of a chat with one choice."""

    @property
    def answer(self) -> JsonDict:
        """The whole answer, as far as it has come."""

    def begin(self) -> Iterator[JsonDict]:
        """Before the first chunk."""

    def add(self, chunk: JsonDict) -> Iterator[JsonDict]:
        """Go on with a chunk."""

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
    """Run a chat; the response in the form of `events`. Raises ApiError.

    Args:
        stream: send the events, else the whole answer.
        ended: is called once the answer is complete.
    """

    async def run() -> None:
        async with aclosing(_events(service, task, events, ended)) as made:
            async for _ in made:
                pass

    if stream:
        return EventStream(_failing(_events(service, task, events, ended), events), named=True)
    try:
        await unless_gone(request.receive, run())
    except HangUpError:
        return Response(status_code=499)
    return JSONResponse(events.answer)


async def _events(
    service: Service, task: Task, events: Events, ended: Callable[[], None]
) -> AsyncGenerator[JsonDict, None]:
    begun = False
    made = chunks(service, task, ChatShape(), StreamOptions(include_usage=True))
    async with aclosing(made):
        async for chunk in made:
            if not begun:
                begun = True
                for event in events.begin():
                    yield event
            if chunk is not None:
                for event in events.add(chunk):
                    yield event
    for event in events.finish():
        yield event
    ended()


async def _failing(
    made: AsyncGenerator[JsonDict, None], events: Events
) -> AsyncGenerator[JsonDict | None, None]:
    """Events, the last of which says what went wrong, if something did after the first."""
    begun = False
    async with aclosing(made):
        try:
            async for event in made:
                begun = True
                yield event
        except ApiError as error:
            if not begun:
                raise
            yield events.fail(error)
