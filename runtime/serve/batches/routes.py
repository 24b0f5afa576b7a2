"""The routes of /v1/files and /v1/batches."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any

from fastapi import FastAPI, Query, Request, Response
from fastapi.responses import FileResponse
from pydantic import ValidationError
from starlette.datastructures import FormData, UploadFile

from runtime.serve.batches.runner import Batches
from runtime.serve.batches.store import page
from runtime.serve.body.schema import BatchBody, Expiry
from runtime.serve.errors import ApiError, explain_invalid

_EXPIRY = {name: f"expires_after[{name}]" for name in ("anchor", "seconds")}
Limit = Annotated[int, Query(ge=1, le=10_000)]


def add(app: FastAPI, kept: Batches | None) -> None:
    """Add the routes; without batches they say how to have them."""

    def batches() -> Batches:
        if kept is None:
            raise ApiError(501, "files and batches are off: start the server with --batch-dir")
        return kept

    @app.post("/v1/files")
    async def upload(request: Request) -> dict[str, Any]:
        store = batches().store
        if not request.headers.get("content-type", "").startswith("multipart/form-data"):
            raise ApiError(400, "a file comes as multipart/form-data", "file")
        async with request.form(max_files=1, max_fields=20) as form:
            file, purpose = form.get("file"), form.get("purpose")
            if not isinstance(file, UploadFile):
                raise ApiError(400, "there is no file in the field file", "file")
            if purpose != "batch":
                raise ApiError(400, "only purpose=batch is served", "purpose")
            expiry = _expiry(form)
            name = file.filename or "file.jsonl"
            return await asyncio.to_thread(
                store.add_file, file.file, name, purpose, seconds=expiry.seconds if expiry else None
            )

    @app.get("/v1/files")
    def files(
        after: str | None = None, limit: Limit = 10_000, purpose: str | None = None
    ) -> dict[str, Any]:
        found = [f for f in batches().store.files() if purpose in (None, f["purpose"])]
        return page(found, after, limit)

    @app.get("/v1/files/{file_id}")
    def file(file_id: str) -> dict[str, Any]:
        return batches().store.file(file_id)

    @app.get("/v1/files/{file_id}/content", response_model=None)
    def content(file_id: str) -> Response:
        store = batches().store
        entry = store.file(file_id)
        return FileResponse(store.content(entry["id"]), media_type="application/jsonl")

    @app.delete("/v1/files/{file_id}")
    async def delete(file_id: str) -> dict[str, Any]:
        batches().delete_file(file_id)
        return {"id": file_id, "object": "file", "deleted": True}

    @app.post("/v1/batches")
    async def create(body: BatchBody) -> dict[str, Any]:
        return batches().add(body)

    @app.get("/v1/batches")
    async def listing(after: str | None = None, limit: Limit = 20) -> dict[str, Any]:
        return page(batches().listing(), after, limit)

    @app.get("/v1/batches/{batch_id}")
    async def batch(batch_id: str) -> dict[str, Any]:
        return batches().find(batch_id)

    @app.post("/v1/batches/{batch_id}/cancel")
    async def cancel(batch_id: str) -> dict[str, Any]:
        return batches().cancel(batch_id)


def _expiry(form: FormData) -> Expiry | None:
    """What the fields expires_after[anchor] and expires_after[seconds] say. Raises ApiError."""
    given = {name: form[field] for name, field in _EXPIRY.items() if field in form}
    if not given:
        return None
    try:
        return Expiry.model_validate(given, strict=False)
    except ValidationError as error:
        raise explain_invalid(
            [{**each, "loc": ("expires_after", *each["loc"])} for each in error.errors()],
            {"expires_after": given},
        ) from None
