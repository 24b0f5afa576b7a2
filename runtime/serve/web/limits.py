"""What is checked before the routes: the key, the size of bodies, and the time to send them."""

from __future__ import annotations

import asyncio
import time

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from runtime.serve.errors import ApiError, respond
from runtime.serve.turns import client
from runtime.serve.web.keys import Keys

# Without a key: that the server is alive, its load, and a page that holds no secret.
_OPEN = {"/", "/health", "/version", "/metrics", "/ping"}
_UPLOADS = "/v1/files"
# A body that is too large is read to its end, up to here, so that the client gets to read why.
_MOST_DRAINED = 256 * 2**20
_LONGEST_DRAIN = 10.0


class Gate:
    """Passes on requests that have a key, and a body within limits of size and time.

    With no keys all clients are admitted. `body` and `upload` (to /v1/files) are most bytes of
    one, which must come within `patience` seconds.
    """

    def __init__(self, app: ASGIApp, keys: Keys, body: int, upload: int, patience: float) -> None:
        self._app = app
        self._keys = keys
        self._body = body
        self._upload = upload
        self._patience = patience

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        if scope["method"] == "HEAD":  # as GET; the server that calls us leaves the body out
            scope = {**scope, "method": "GET"}
        headers = dict(scope["headers"])
        path = scope["path"]
        limit = self._upload if path == _UPLOADS else self._body
        body = _Body(receive, limit, self._patience)
        try:
            name = ""
            if self._keys and path not in _OPEN:
                key = headers.get(b"x-api-key")  # Anthropic's clients send this
                bearer = b"Bearer " + key if key is not None else b""
                name = self._check_key(headers.get(b"authorization", bearer))
            # Clients with one key for all of them are told apart by their addresses.
            address = (scope.get("client") or ("",))[0]
            client.set(name if len(self._keys) > 1 else address)
            length = headers.get(b"content-length", b"0")
            if length.isdigit() and int(length) > limit:
                raise _too_large(limit)
            encoding = headers.get(b"content-encoding", b"identity").decode("latin-1")
            if encoding.lower() != "identity":
                raise ApiError(415, f"Content-Encoding: {encoding} is not served: send it as it is")
        except ApiError as error:
            await self._refuse(error, headers, scope, body, send)
            return
        await self._app(scope, body.receive, send)

    def _check_key(self, given: bytes) -> str:
        scheme, _, key = given.partition(b" ")
        name = self._keys.find(key.strip()) if scheme.lower() == b"bearer" else None
        if name is None:
            raise ApiError(
                401,
                "the API key is missing or wrong: send it as 'Authorization: Bearer KEY'",
                code="invalid_api_key",
                headers={"WWW-Authenticate": "Bearer"},
            )
        return name

    async def _refuse(
        self, error: ApiError, headers: dict[bytes, bytes], scope: Scope, body: _Body, send: Send
    ) -> None:
        """Answer at once, and take in the rest of the body before the connection is closed."""
        error.headers = {**(error.headers or {}), "Connection": "close"}

        async def hold_end(message: Message) -> None:
            if message["type"] == "http.response.body":
                await send({**message, "more_body": True})
                waits = headers.get(b"expect", b"").lower() == b"100-continue"
                if not waits:  # else the body was never sent
                    await body.drain()
                await send({"type": "http.response.body", "body": b"", "more_body": False})
            else:
                await send(message)

        await respond(error, scope["path"])(scope, body.receive, hold_end)


class _Body:
    """A request's body, counted and timed while it comes in."""

    def __init__(self, receive: Receive, limit: int, patience: float) -> None:
        self._receive = receive
        self._limit = limit
        self._end = time.monotonic() + patience
        self._size = 0
        self._complete = False

    async def receive(self) -> Message:
        if self._complete:  # what comes now is that the client hangs up, sooner or later
            return await self._receive()
        try:
            message = await asyncio.wait_for(self._receive(), self._end - time.monotonic())
        except TimeoutError:
            raise ApiError(
                408, "the body did not come in time", headers={"Connection": "close"}
            ) from None
        self._note(message)
        if self._size > self._limit:
            await self.drain()
            raise _too_large(self._limit)
        return message

    async def drain(self) -> None:
        """Read the rest and throw it away, up to a limit."""
        try:
            async with asyncio.timeout(_LONGEST_DRAIN):
                while not self._complete and self._size < _MOST_DRAINED:
                    self._note(await self._receive())
        except TimeoutError:
            pass

    def _note(self, message: Message) -> None:
        self._size += len(message.get("body", b""))
        self._complete = message["type"] != "http.request" or not message.get("more_body", False)


def _too_large(limit: int) -> ApiError:
    return ApiError(
        413,
        f"the body is larger than {limit:,} bytes",
        code="body_too_large",
        headers={"Connection": "close"},
    )
