"""From the engine's updates to OpenAI's JSON: a whole response, or the chunks of a stream."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import Any, Protocol

from runtime.answers import clean
from runtime.engine import Choice, Completion, Update
from runtime.serve.asking import Task
from runtime.serve.schema import StreamOptions
from runtime.serve.service import Service
from runtime.serve.tokens import chat_logprobs, legacy_logprobs, text_of

JsonDict = dict[str, Any]


class Shape(Protocol):
    """How a kind of response looks; a choice is an entry of its `choices`."""

    whole_object: str
    chunk_object: str

    def whole(self, task: Task, index: int, completion: Completion) -> JsonDict:
        """The choice of a whole response."""

    def opening(self, task: Task, index: int) -> JsonDict | None:
        """The choice of a stream's first chunk, if there is one before any text."""

    def delta(self, task: Task, index: int, update: Update) -> JsonDict:
        """The choice of a chunk."""

    def last(self, task: Task, index: int, completion: Completion) -> JsonDict:
        """The choice of the chunk that says why the text ends."""


class ChatShape:
    """Of /v1/chat/completions."""

    whole_object = "chat.completion"
    chunk_object = "chat.completion.chunk"

    def whole(self, task: Task, index: int, completion: Completion) -> JsonDict:
        text = _cleaned(task, completion)
        choice = self._choice(index, completion.finish_reason)
        choice["message"] = {"role": "assistant", "content": text, "refusal": None}
        if task.logprobs:
            choice["logprobs"] = chat_logprobs(task.served.engine.model, completion.scores)
        if text != completion.text:
            choice["raw"] = completion.text
        return choice

    def opening(self, task: Task, index: int) -> JsonDict | None:
        return {**self._choice(index), "delta": {"role": "assistant", "content": ""}}

    def delta(self, task: Task, index: int, update: Update) -> JsonDict:
        choice = {**self._choice(index), "delta": {"content": update.text}}
        if update.scores:
            choice["logprobs"] = chat_logprobs(task.served.engine.model, update.scores)
        return choice

    def last(self, task: Task, index: int, completion: Completion) -> JsonDict:
        choice = {**self._choice(index, completion.finish_reason), "delta": {}}
        text = _cleaned(task, completion)
        if text != completion.text:
            choice["cleaned"] = text
        return choice

    def _choice(self, index: int, reason: str | None = None) -> JsonDict:
        return {"index": index, "finish_reason": reason, "logprobs": None}


class CompletionShape:
    """Of /v1/completions."""

    whole_object = chunk_object = "text_completion"

    def whole(self, task: Task, index: int, completion: Completion) -> JsonDict:
        model, prompt = task.served.engine.model, task.prompts[index // task.n]
        echoed = text_of(model, prompt) if task.echo else ""
        choice = self._choice(index, echoed + completion.text, completion.finish_reason)
        if task.logprobs:
            scores: list[Choice | None] = [*completion.scores]
            if task.echo:
                scores = [None, *completion.prompt_scores, *scores]
            choice["logprobs"] = legacy_logprobs(model, scores, prompt[0])
        return choice

    def opening(self, task: Task, index: int) -> JsonDict | None:
        if not task.echo:
            return None
        prompt = task.prompts[index // task.n]
        return self._choice(index, text_of(task.served.engine.model, prompt))

    def delta(self, task: Task, index: int, update: Update) -> JsonDict:
        choice = self._choice(index, update.text)
        if update.scores:
            choice["logprobs"] = legacy_logprobs(task.served.engine.model, update.scores)
        return choice

    def last(self, task: Task, index: int, completion: Completion) -> JsonDict:
        return self._choice(index, "", completion.finish_reason)

    def _choice(self, index: int, text: str, reason: str | None = None) -> JsonDict:
        return {"index": index, "text": text, "finish_reason": reason, "logprobs": None}


async def whole(service: Service, task: Task, shape: Shape, limited: bool = True) -> JsonDict:
    """Run a task; the whole response. Raises ApiError.

    Args:
        limited: it counts for the queue's limit.
    """
    completions = [_computed(task)] * len(task.requests)
    if task.computed is None:
        async with service.running(task.served, task.requests, limited) as updates:
            async for index, update in updates:
                if update.completion is not None:
                    completions[index] = update.completion
    choices = [shape.whole(task, *item) for item in enumerate(completions)]
    usage = _usage(task, sum(len(completion.tokens) for completion in completions))
    return {**_head(task, shape.whole_object), "choices": choices, "usage": usage}


async def chunks(
    service: Service, task: Task, shape: Shape, options: StreamOptions | None
) -> AsyncGenerator[JsonDict, None]:
    """Run a task; the chunks of its stream. Raises ApiError."""
    options = options or StreamOptions()
    head = _head(task, shape.chunk_object)
    opened: set[int] = set()
    n_new = 0

    def chunk(choice: JsonDict) -> JsonDict:
        made = {**head, "choices": [choice]}
        if options.continuous_usage_stats:
            made["usage"] = _usage(task, n_new)
        elif options.include_usage:
            made["usage"] = None
        return made

    def of(index: int, update: Update) -> list[JsonDict]:
        made = []
        if index not in opened:
            opened.add(index)
            made.append(shape.opening(task, index))
        if update.text or update.scores:
            made.append(shape.delta(task, index, update))
        if update.completion is not None:
            made.append(shape.last(task, index, update.completion))
        return [chunk(choice) for choice in made if choice is not None]

    if task.computed is not None:
        for index in range(len(task.requests)):
            for made in of(index, Update(index, task.computed, completion=_computed(task))):
                yield made
    else:
        n_of = [0] * len(task.requests)
        async with service.running(task.served, task.requests) as updates:
            async for index, update in updates:
                ended = update.completion
                n_of[index] = n_of[index] + 1 if ended is None else len(ended.tokens)
                n_new = sum(n_of)
                for made in of(index, update):
                    yield made
    if options.include_usage:
        yield {**head, "choices": [], "usage": _usage(task, n_new)}


def _head(task: Task, kind: str) -> JsonDict:
    served = task.served
    return {
        "id": task.id,
        "object": kind,
        "created": task.created,
        "model": task.model,
        "system_fingerprint": None,
        "route": {
            "model": served.id,
            "adapter": served.root.name if served.adapter else None,
            "computed": task.computed is not None,
            "passages": task.passages,
        },
    }


def _usage(task: Task, n_new: int) -> dict[str, int]:
    n_prompt = sum(map(len, task.prompts))
    return {
        "prompt_tokens": n_prompt,
        "completion_tokens": n_new,
        "total_tokens": n_prompt + n_new,
    }


def _computed(task: Task) -> Completion:
    """An answer that no model wrote."""
    return Completion(-1, [], task.computed or "", "stop")


def _cleaned(task: Task, completion: Completion) -> str:
    if not task.clean or task.computed is not None:
        return completion.text
    cut = completion.finish_reason == "length"
    return clean(completion.text, task.question, cut, task.opens_thinking)
