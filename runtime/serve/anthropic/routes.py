"""The routes of Anthropic's /v1/messages."""

from __future__ import annotations

from fastapi import FastAPI, Request, Response

from runtime.serve.anthropic.body import NAMES, CountBody, MessagesBody, chat_body
from runtime.serve.anthropic.events import MessageEvents
from runtime.serve.asking import Task, chat_task
from runtime.serve.converted import renamed, respond
from runtime.serve.errors import MESSAGES, ApiError
from runtime.serve.service import Service


def add(app: FastAPI, service: Service) -> None:
    """Add the routes to an app."""

    async def task_of(request: Request, body: CountBody) -> Task:
        try:
            return await chat_task(service, chat_body(body, await request.json()))
        except ApiError as error:
            raise renamed(error, NAMES) from None

    @app.post(MESSAGES, response_model=None)
    async def create(request: Request, body: MessagesBody) -> Response:
        task = await task_of(request, body)
        events = MessageEvents(body.model, task.n_prompt)
        return await respond(request, service, task, events, bool(body.stream))

    @app.post(f"{MESSAGES}/count_tokens")
    async def count(request: Request, body: CountBody) -> dict[str, int]:
        return {"input_tokens": (await task_of(request, body)).n_prompt}
