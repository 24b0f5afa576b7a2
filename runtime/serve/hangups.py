"""Responses that end their work when the client hangs up, and streams of events (SSE)."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncGenerator, Awaitable
from contextlib import aclosing, suppress
from typing import Any, TypeVar

from fastapi.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from runtime.serve.errors import ApiError, as_event, respond

log = logging.getLogger(__name__)

T = TypeVar("T")


class HangUpError(Exception):
    """The client has closed the connection, so no answer is needed."""


async def unless_gone(receive: Receive, work: Awaitable[T]) -> T:
    """What `work` returns; it is cancelled when the client hangs up.

    Args:
        receive: of the request, whose body has been read.

    Raises:
        HangUpError: the client hung up.
    """
    task = asyncio.ensure_future(work)
    watcher = asyncio.ensure_future(_hung_up(receive))
    try:
        await asyncio.wait({task, watcher}, return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            raise HangUpError
        return task.result()
    finally:
        for each in (task, watcher):
            if not each.done():
                each.cancel()
                with suppress(asyncio.CancelledError):
                    await each


async def _hung_up(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def _nothing() -> AsyncGenerator[bytes, None]:
    return
    yield b""


class EventStream(StreamingResponse):
    """Chunks as server-sent events, with [DONE] at the end.

    What goes wrong before the first chunk is an error response with its own status; later it is
    an event. When the client hangs up the chunks' generator is closed.
    """

    media_type = "text/event-stream"

    def __init__(self, chunks: AsyncGenerator[dict[str, Any], None]) -> None:
        headers = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}
        super().__init__(_nothing(), headers=headers)  # sent by `_run`
        self._chunks = chunks

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        with suppress(HangUpError):
            await unless_gone(receive, self._run(scope, receive, send))

    async def _run(self, scope: Scope, receive: Receive, send: Send) -> None:
        begun = False

        async def event(data: bytes, more: bool = True) -> None:
            nonlocal begun
            if not begun:
                begun = True
                head = {"status": self.status_code, "headers": self.raw_headers}
                await send({"type": "http.response.start", **head})
            await send({"type": "http.response.body", "body": data, "more_body": more})

        async with aclosing(self._chunks) as chunks:
            try:
                async for chunk in chunks:
                    await event(b"data: " + json.dumps(chunk).encode() + b"\n\n")
            except ApiError as error:
                if not begun:
                    await respond(error)(scope, receive, send)
                    return
                await event(as_event(error))
            except Exception as error:
                log.exception("a stream failed")
                if not begun:
                    raise
                await event(as_event(ApiError(500, f"{type(error).__name__} in the server")))
            await event(b"data: [DONE]\n\n", more=False)
