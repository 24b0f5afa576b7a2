"""What goes wrong, in OpenAI's JSON form: {"error": {message, type, param, code}}."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, HTTPException, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException as StarletteHTTPException

_TYPES = {
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    429: "rate_limit_error",
    504: "timeout_error",
}


class ApiError(HTTPException):
    """An answer that says what is wrong with a request, or with us.

    Args:
        status: of HTTP.
        message: what is wrong and what to do.
        param: the field of the body that it is about.
        code: a word that programs tell errors by.
        headers: of the response.
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

    def body(self) -> dict[str, Any]:
        """The response's JSON."""
        return error_body(self.status_code, str(self.detail), self.param, self.code)


def error_body(
    status: int, message: str, param: str | None = None, code: str | None = None
) -> dict[str, Any]:
    """An error as OpenAI's clients expect it."""
    kind = _TYPES.get(status, "invalid_request_error" if status < 500 else "server_error")
    return {"error": {"message": message, "type": kind, "param": param, "code": code}}


def explain_invalid(problems: Sequence[Any]) -> ApiError:
    """What pydantic found wrong with a body, as an error of status 400."""
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
    place = [str(part) for part in first["loc"] if part != "body"]
    message = str(first["msg"]).removeprefix("Value error, ")
    if not place:
        return ApiError(400, f"the body: {message}", code="invalid_value")
    more = len({tuple(p["loc"][:2]) for p in problems}) - 1
    rest = f" (and {more} more fields are wrong)" if more > 0 else ""
    return ApiError(400, f"{'.'.join(place)[:200]}: {message}{rest}", place[0], "invalid_value")


def respond(error: ApiError) -> JSONResponse:
    """The HTTP response of an error."""
    return JSONResponse(error.body(), error.status_code, error.headers)


def install(app: FastAPI) -> None:
    """Have every error of an app answered in this form."""

    @app.exception_handler(RequestValidationError)
    async def invalid(_: Request, error: RequestValidationError) -> JSONResponse:
        return respond(explain_invalid(error.errors()))

    @app.exception_handler(StarletteHTTPException)
    async def http(_: Request, error: StarletteHTTPException) -> JSONResponse:
        if isinstance(error, ApiError):
            return respond(error)
        message = str(error.detail)
        if error.status_code == 400 and "parsing the body" in message:
            message = "the body cannot be read: it must be JSON in UTF-8, not nested too deeply"
        elif error.status_code == 404:
            message = "there is no such address; the API is under /v1"
        return JSONResponse(
            error_body(error.status_code, message), error.status_code, error.headers
        )

    @app.exception_handler(Exception)
    async def unexpected(_: Request, error: Exception) -> JSONResponse:
        message = f"{HTTPStatus(500).phrase} ({type(error).__name__}); the server's log has more"
        return JSONResponse(error_body(500, message), 500)
