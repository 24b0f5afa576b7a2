"""An id in each response, and a line in the log for each request if it is wanted."""

from __future__ import annotations

import logging
import re
import secrets
import time
from collections.abc import Callable

from starlette.types import ASGIApp, Message, Receive, Scope, Send

log = logging.getLogger(__name__)

_HEADER = b"x-request-id"
_ID = re.compile(rb"[!-~]{1,128}")


class RequestIds:
    """Gives each response the header x-request-id: the request's own, or a new one.

    When a response has ended `responded` is called with the method, the route's path and the
    status.
    """

    def __init__(
        self, app: ASGIApp, access_log: bool, responded: Callable[[str, str, str], None]
    ) -> None:
        self._app = app
        self._access_log = access_log
        self._responded = responded

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        given = dict(scope["headers"]).get(_HEADER, b"")
        id_ = given if _ID.fullmatch(given) else secrets.token_hex(16).encode()
        began, status = time.perf_counter(), "-"

        async def send_with_id(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message = {**message, "headers": [*message.get("headers", ()), (_HEADER, id_)]}
            await send(message)

        try:
            await self._app(scope, receive, send_with_id)
        finally:
            handler = getattr(scope.get("route"), "path", "none")
            self._responded(scope["method"], handler, str(status))
            if self._access_log:
                client = (scope.get("client") or ("-",))[0]
                # As it was sent: decoded, a path may hold line breaks. Without the query.
                path = scope.get("raw_path", b"-").decode("ascii", "backslashreplace")
                took = time.perf_counter() - began
                method = scope["method"]
                log.info("%s %s %s %s %.3fs %s", client, method, path, status, took, id_.decode())
