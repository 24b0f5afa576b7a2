"""Responses that end their work when the client hangs up, and streams of events (SSE)."""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable
from contextlib import aclosing, asynccontextmanager, suppress
from typing import Any, TypeVar

from fastapi.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from runtime.serve.errors import ApiError, respond

log = logging.getLogger(__name__)

T = TypeVar("T")

# Seconds without a chunk after which a stream sends a comment: proxies cut silent ones at 60.
SILENCE = 10.0


class HangUpError(Exception):
    """The client has closed the connection, so no answer is needed."""


async def unless_gone(receive: Receive, work: Awaitable[T]) -> T:
    """What `work` returns; it is cancelled when the client of `receive` hangs up.

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


class EventStream(StreamingResponse):
    """Chunks as server-sent events: `named` by their "type", or with [DONE] at the end.

    Status and headers are sent with the first item, which may be None: no chunk yet, but the
    request is accepted. What goes wrong before is an error response with its own status; later
    it is an event. While nothing comes, a comment every few seconds keeps the connection open.
    When the client hangs up the chunks' generator is closed.
    """

    media_type = "text/event-stream"

    def __init__(
        self, chunks: AsyncGenerator[dict[str, Any] | None, None], named: bool = False
    ) -> None:
        headers = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}
        super().__init__((), headers=headers)  # `_run` sends the chunks
        self._chunks = chunks
        self._end = b"" if named else b"data: [DONE]\n\n"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        with suppress(HangUpError):
            await unless_gone(receive, self._run(scope, receive, send))

    async def _run(self, scope: Scope, receive: Receive, send: Send) -> None:
        body = _Body(send, {"status": self.status_code, "headers": self.raw_headers})
        async with aclosing(self._chunks) as chunks, body.kept_alive():
            try:
                async for chunk in chunks:
                    await body.send(b"" if chunk is None else _event(chunk))
            except ApiError as error:
                if not body.begun:
                    await body.stay_silent()
                    await respond(error, scope["path"])(scope, receive, send)
                    return
                await body.send(_event(error.body(scope["path"])))
            except Exception as error:
                log.exception("a stream failed")
                if not body.begun:
                    raise
                failure = ApiError(500, f"{type(error).__name__} in the server")
                await body.send(_event(failure.body(scope["path"])))
            await body.send(self._end, more=False)


class _Body:
    """The head and body of a stream, with a comment where nothing comes for long."""

    def __init__(self, send: Send, head: dict[str, Any]) -> None:
        self.begun = False
        self._send = send
        self._head = head
        self._turn = asyncio.Lock()  # between chunks and comments
        self._last = time.monotonic()
        self._comments: asyncio.Task[None] | None = None

    async def send(self, data: bytes, more: bool = True) -> None:
        """Send data, after the head if it has not been sent. No data sends the head alone."""
        async with self._turn:
            await self._write(data, more)

    @asynccontextmanager
    async def kept_alive(self) -> AsyncIterator[None]:
        """Send comments in the block while nothing else is sent."""
        self._comments = asyncio.create_task(self._comment())
        try:
            yield
        finally:
            await self.stay_silent()

    async def stay_silent(self) -> None:
        """Send no more comments."""
        if self._comments is not None:
            self._comments.cancel()
            await asyncio.wait({self._comments})

    async def _comment(self) -> None:
        while True:
            await asyncio.sleep(SILENCE - self._silent)
            async with self._turn:
                if self._silent >= SILENCE:  # still, after the turn of another
                    await self._write(b": waiting\n\n", True)

    @property
    def _silent(self) -> float:
        return time.monotonic() - self._last

    async def _write(self, data: bytes, more: bool) -> None:
        if not self.begun:
            self.begun = True
            await self._send({"type": "http.response.start", **self._head})
        if data or not more:
            await self._send({"type": "http.response.body", "body": data, "more_body": more})
        self._last = time.monotonic()


def _event(data: dict[str, Any]) -> bytes:
    name = f"event: {data['type']}\n" if "type" in data else ""
    return f"{name}data: {json.dumps(data)}\n\n".encode()
