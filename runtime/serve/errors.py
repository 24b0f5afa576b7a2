"""What goes wrong, in the JSON of OpenAI's API, or of Anthropic's for its routes."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, HTTPException, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException as StarletteHTTPException

from runtime.common.command import explain
from runtime.common.files import NO_ROOM

log = logging.getLogger(__name__)

_TYPES = {
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    429: "rate_limit_error",
    504: "timeout_error",
}
# The paths of Anthropic's API begin with this.
MESSAGES = "/v1/messages"
_ANTHROPICS_TYPES = {**_TYPES, 413: "request_too_large", 503: "overloaded_error"}

# pydantic's words, and those of JSON for them.
_WORDS = {
    "Input should be": "must be",
    "Field required": "is missing",
    "List should have": "must have",
    "Dictionary should have": "must have",
    "String should": "must",
    " after validation": "",
    "a valid string": "a text",
    "a valid list": "a list",
    "a valid dictionary": "an object",
    "a valid integer": "a whole number",
    "a valid number": "a number",
    "a valid boolean": "true or false",
}


class ApiError(HTTPException):
    """A response that says what is wrong with a request or the server, and what to do.

    `param` is the field of the body that it is about, `code` a word for programs.
    """

    def __init__(
        self,
        status: int,
        message: str,
        param: str | None = None,
        code: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(status, message, dict(headers or {}))
        self.param = param
        self.code = code

    def body(self, path: str = "") -> dict[str, Any]:
        """The response's JSON, in the form of the API that has a route with this path."""
        status, message = self.status_code, str(self.detail)
        wrong = "invalid_request_error"
        if path.startswith(MESSAGES):
            kind = _ANTHROPICS_TYPES.get(status, wrong if status < 500 else "api_error")
            if self.param and self.param not in message:  # there is no other place for it
                message = f"{self.param}: {message}"
            return {"type": "error", "error": {"type": kind, "message": message}}
        kind = _TYPES.get(status, wrong if status < 500 else "server_error")
        about = {"param": self.param, "code": self.code}
        return {"error": {"message": message, "type": kind, **about}}


def invalid(message: str, param: str) -> ApiError:
    """An error of status 400: a field has a value that cannot be used."""
    return ApiError(400, message, param, "invalid_value")


def explain_invalid(problems: Sequence[Any], body: Any = None) -> ApiError:
    """What pydantic found wrong with a body, as an error of status 400.

    `problems` are from `ValidationError.errors()`; `body`, which was validated, tells names of
    fields from those of types.
    """
    first = problems[0]
    if first["type"] == "json_invalid":
        reason = first.get("ctx", {}).get("error", "")
        return ApiError(400, f"the body is not valid JSON: {reason}", code="invalid_json")
    if first["type"] == "not_served":
        return ApiError(400, first["msg"], first["ctx"]["field"], "not_served")
    if first["type"] == "model_attributes_type" and list(first["loc"]) in ([], ["body"]):
        return ApiError(
            400,
            "the body must be a JSON object, sent with Content-Type: application/json",
            code="invalid_json",
        )
    found = [(_place(problem["loc"], body), problem) for problem in problems]
    root = found[0][0][:1]
    # Where a value may be of several types, the problem with the nearest one is reported.
    mine = [(place, problem) for place, problem in found if place[:1] == root]
    nearest = max((len(place), _is_more(problem)) for place, problem in mine)
    place, best = next(each for each in mine if (len(each[0]), _is_more(each[1])) == nearest)
    rest = [problem for where, problem in mine if where == place and not _is_more(problem)]
    wrong = [best] if _is_more(best) else rest
    says, *others = dict.fromkeys(_words(problem) for problem in wrong)
    message = " or ".join([says, *(other.removeprefix("must be ") for other in others)])
    if not place:
        return ApiError(400, f"the body: {message}", code="invalid_value")
    given = best.get("input")
    if best["type"] != "missing" and (given is None or isinstance(given, (str, bool, int, float))):
        message += f", not {json.dumps(given)[:60]}"
    more = len({tuple(where[:1]) for where, _ in found}) - 1
    rest_of = f" (wrong fields besides: {more})" if more > 0 else ""
    field = ".".join(place)[:200]
    return invalid(f"{field}: {message}{rest_of}", place[0])


def _place(loc: Sequence[str | int], body: Any) -> list[str]:
    """The names of the fields that lead to a value; pydantic puts those of types between them."""
    place: list[str] = []
    for number, part in enumerate(part for part in loc if part != "body"):
        in_list = isinstance(body, list) and isinstance(part, int) and part < len(body)
        if in_list or (isinstance(body, dict) and part in body):
            body = body[part]
        elif number and not (isinstance(body, dict) and part == loc[-1]):
            continue
        place.append(str(part))
    return place


def _is_more(problem: Any) -> bool:
    """Whether a problem says more than that a value has another type."""
    return not str(problem["type"]).endswith("_type")


def _words(problem: Any) -> str:
    """A problem in a client's words, without validation and Python's types."""
    message = str(problem["msg"]).removeprefix("Value error, ").removesuffix(", not 0")
    message = message.partition(" or instance of ")[0]
    for theirs, ours in _WORDS.items():
        message = message.replace(theirs, ours)
    return message


def respond(error: ApiError, path: str) -> JSONResponse:
    """The HTTP response of an error on the route of a path."""
    return JSONResponse(error.body(path), error.status_code, error.headers)


def install(app: FastAPI) -> None:
    """Have every error of an app answered in this form."""

    @app.exception_handler(RequestValidationError)
    async def wrong_body(request: Request, error: RequestValidationError) -> JSONResponse:
        return respond(explain_invalid(error.errors(), error.body), request.url.path)

    @app.exception_handler(StarletteHTTPException)
    async def http(request: Request, error: StarletteHTTPException) -> JSONResponse:
        if isinstance(error, ApiError):
            return respond(error, request.url.path)
        message = str(error.detail)
        if error.status_code == 400 and "parsing the body" in message:
            message = "the body cannot be read: it must be JSON in UTF-8, not nested too deeply"
        elif error.status_code == 404:
            message = "there is no such address; the API is under /v1"
        known = ApiError(error.status_code, message, headers=error.headers)
        return respond(known, request.url.path)

    @app.exception_handler(OSError)
    async def no_room(request: Request, error: OSError) -> JSONResponse:
        if error.errno not in NO_ROOM:
            raise error
        log.error("%s", explain(error))
        message = "there is no room on the server's disk: try again when there is"
        return respond(ApiError(507, message, code="no_room"), request.url.path)

    @app.exception_handler(Exception)
    async def unexpected(request: Request, error: Exception) -> JSONResponse:
        message = f"{HTTPStatus(500).phrase} ({type(error).__name__}); the server's log has more"
        return respond(ApiError(500, message), request.url.path)
