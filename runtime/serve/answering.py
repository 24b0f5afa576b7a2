"""From the engine's updates to OpenAI's JSON: a whole response, or the chunks of a stream."""

from __future__ import annotations

import secrets
from collections.abc import AsyncGenerator, Mapping, Sequence
from typing import Any, NamedTuple, Self

from runtime.engine import Choice, Completion
from runtime.serve.asking import Task
from runtime.serve.body.schema import StreamOptions
from runtime.serve.service import Service
from runtime.serve.tokens import Offsets, chat_logprobs, legacy_logprobs, prompt_logprobs, text_of
from runtime.serve.tools.reader import Piece, Reader
from runtime.way import Answer, Asked

JsonDict = dict[str, Any]


class Ended(NamedTuple):
    """An answer, and the completion that it was made of."""

    answer: Answer
    completion: Completion

    @classmethod
    def at_once(cls, answer: Answer) -> Self:
        """An answer that the model was not asked for now."""
        return cls(answer, Completion(-1, [], answer.answer, "length" if answer.cut else "stop"))

    @property
    def raw(self) -> dict[str, str]:
        """What the model wrote, where the answer is something else."""
        text = self.completion.text
        return {} if text == self.answer.answer else {"raw": text}


class ChatShape:
    """How a response of /v1/chat/completions looks; one for each. Its methods make entries of
    `choices`: of a whole response, or of the first, a further, and the last chunk of a stream.
    """

    whole_object = "chat.completion"
    chunk_object = "chat.completion.chunk"

    def __init__(self) -> None:
        self._readers: dict[int, Reader] = {}  # of streamed choices that may have calls

    def whole(self, task: Task, index: int, ended: Ended) -> JsonDict:
        reason: str = ended.completion.finish_reason
        said: JsonDict = {"content": ended.answer.answer}
        if task.reader is not None:
            reader = task.reader()
            said = openai_form([*reader.add(ended.answer.answer), *reader.finish()])
            reason = _reason(task, reader, reason)
        choice = self._choice(index, reason, ended.completion.stopped_by)
        calls = said.get("tool_calls", ())
        content = None if calls else ""
        for call in calls:
            del call["index"]
        said = {"role": "assistant", "content": content, "refusal": None, **said}
        choice["message"] = _in_form(task, said)
        if task.logprobs:
            choice["logprobs"] = chat_logprobs(task.served.engine.model, ended.completion.scores)
        return {**choice, **ended.raw}

    def beside(self, task: Task, ended: Ended) -> JsonDict:
        """What a whole response has beside its choices, of which `ended` is one."""
        return _prompt_logprobs(task, ended)

    def opening(self, task: Task, index: int) -> JsonDict | None:
        return {**self._choice(index), "delta": {"role": "assistant", "content": ""}}

    def delta(
        self, task: Task, index: int, text: str, scores: Sequence[Choice], offsets: Offsets
    ) -> JsonDict | None:
        delta: JsonDict = {"content": text}
        if task.reader is not None:
            reader = self._readers.setdefault(index, task.reader())
            delta = _in_form(task, openai_form(reader.add(text)))
            if not delta and not scores:
                return None
        choice = {**self._choice(index), "delta": delta}
        if scores:
            choice["logprobs"] = chat_logprobs(task.served.engine.model, scores)
        return choice

    def last(self, task: Task, index: int, ended: Ended) -> JsonDict:
        reason: str = ended.completion.finish_reason
        delta: JsonDict = {}
        if reader := self._readers.get(index):
            delta = _in_form(task, openai_form(reader.finish()))
            reason = _reason(task, reader, reason)
        choice = self._choice(index, reason, ended.completion.stopped_by)
        return {**choice, "delta": delta, **ended.raw}

    def _choice(
        self, index: int, reason: str | None = None, stop: str | int | None = None
    ) -> JsonDict:
        """What all choices have; `stop_reason` is vLLM's: the stop string or token that it met."""
        return {"index": index, "finish_reason": reason, "stop_reason": stop, "logprobs": None}


def openai_form(pieces: Sequence[Piece]) -> JsonDict:
    """Pieces of an answer as the `delta` of a chunk; with all pieces, as a message."""
    said: JsonDict = {}
    calls: dict[int, JsonDict] = {}
    for piece in pieces:
        if piece.call is None:
            said["content"] = said.get("content", "") + piece.text
            continue
        call = calls.setdefault(piece.call, {"index": piece.call, "function": {"arguments": ""}})
        if piece.name:
            call |= {"id": f"call_{secrets.token_hex(12)}", "type": "function"}
            call["function"] = {"name": piece.name, "arguments": ""}
        call["function"]["arguments"] += piece.text
    return {**said, "tool_calls": list(calls.values())} if calls else said


def _in_form(task: Task, said: JsonDict) -> JsonDict:
    """A delta or message with its call as `function_call`, where the body has that form."""
    if not task.function_call or not (calls := said.pop("tool_calls", ())):
        return said
    return {**said, "function_call": calls[0]["function"]}


def _reason(task: Task, reader: Reader, reason: str) -> str:
    """Why an answer ended, whose last call may be what it ended with."""
    if reason == "stop" and reader.n_calls and reader.complete:
        return "function_call" if task.function_call else "tool_calls"
    return reason


def _prompt_logprobs(task: Task, ended: Ended) -> JsonDict:
    if not task.prompt_logprobs:
        return {}
    model = task.served.engine.model
    return {"prompt_logprobs": prompt_logprobs(model, ended.completion.prompt_scores)}


class CompletionShape:
    """The same for /v1/completions."""

    whole_object = chunk_object = "text_completion"

    def whole(self, task: Task, index: int, ended: Ended) -> JsonDict:
        model, completion, prompt = task.served.engine.model, ended.completion, task.prompt(index)
        echoed = text_of(model, prompt) if task.echo else ""
        choice = self._choice(index, echoed + completion.text, completion)
        if task.logprobs:
            scores: list[Choice | None] = [*completion.scores]
            if task.echo:
                scores = [None, *completion.prompt_scores, *scores]
            choice["logprobs"] = legacy_logprobs(model, scores, prompt[0])
        return {**choice, **_prompt_logprobs(task, ended)}

    def beside(self, task: Task, ended: Ended) -> JsonDict:
        return {}

    def opening(self, task: Task, index: int) -> JsonDict | None:
        if not task.echo:
            return None
        return self._choice(index, text_of(task.served.engine.model, task.prompt(index)))

    def delta(
        self, task: Task, index: int, text: str, scores: Sequence[Choice], offsets: Offsets
    ) -> JsonDict:
        choice = self._choice(index, text)
        if scores:
            model = task.served.engine.model
            choice["logprobs"] = legacy_logprobs(model, scores, offsets=offsets)
        return choice

    def last(self, task: Task, index: int, ended: Ended) -> JsonDict:
        return self._choice(index, "", ended.completion)

    def _choice(self, index: int, text: str, completion: Completion | None = None) -> JsonDict:
        reason = completion.finish_reason if completion else None
        stop = completion.stopped_by if completion else None
        ended = {"finish_reason": reason, "stop_reason": stop}
        return {"index": index, "text": text, **ended, "logprobs": None}


Shape = ChatShape | CompletionShape


async def whole(service: Service, task: Task, shape: Shape, limited: bool = True) -> JsonDict:
    """Run a task; the whole response. Raises ApiError. `limited`: as for `Service.running`."""
    ended = {a.index: Ended.at_once(a) for a in task.choices if isinstance(a, Answer)}
    if task.asked:
        service.metrics.asked(task.n, task.most_new)
        async with service.running(task.served, task.asked, limited) as updates:
            async for asked, update in updates:
                if update is not None and (completion := update.completion):
                    answer = await service.finish(asked, completion)
                    ended[asked.index] = Ended(answer, completion)
    choices = [
        {**shape.whole(task, index, ended[index]), "index": place}
        for place, index in enumerate(_shown(task, ended))
    ]
    n_new = sum(len(each.completion.tokens) for each in ended.values())
    usage = _usage(task, n_new, {index: each.completion for index, each in ended.items()})
    beside = shape.beside(task, ended[0])
    return {**_head(task, shape.whole_object), "choices": choices, "usage": usage, **beside}


def _shown(task: Task, ended: Mapping[int, Ended]) -> list[int]:
    """The choices to return: of each prompt the likeliest by token, or all in order."""

    def likelihood(index: int) -> float:
        scores = ended[index].completion.scores
        return sum(score.logprob for score in scores) / max(1, len(scores))

    shown: list[int] = []
    for first in range(0, len(ended), task.n):
        indices = range(first, first + task.n)
        if task.shown < task.n:
            shown += sorted(indices, key=likelihood, reverse=True)[: task.shown]
        else:
            shown += indices
    return shown


async def chunks(
    service: Service, task: Task, shape: Shape, options: StreamOptions | None
) -> AsyncGenerator[JsonDict | None, None]:
    """Run a task; the chunks of its stream. Raises ApiError.

    None comes once the engine has accepted all requests. Put together, the texts of a choice's
    chunks are the text of the whole response.
    """
    options = options or StreamOptions()
    head = _head(task, shape.chunk_object)
    opened: set[int] = set()
    offsets = [Offsets() for _ in task.choices]
    completions: dict[int, Completion] = {}
    n_new = 0

    def chunk(choice: JsonDict) -> JsonDict:
        made = {**head, "choices": [choice]}
        if options.continuous_usage_stats:
            made["usage"] = _usage(task, n_new, completions)
        elif options.include_usage:
            made["usage"] = None
        return made

    def of(
        index: int, text: str, scores: Sequence[Choice] = (), ended: Ended | None = None
    ) -> list[JsonDict]:
        made = []
        if index not in opened:
            opened.add(index)
            made.append(shape.opening(task, index))
        if text or scores:
            made.append(shape.delta(task, index, text, scores, offsets[index]))
        if ended is not None:
            made.append(shape.last(task, index, ended))
        return [chunk(choice) for choice in made if choice is not None]

    for choice in task.choices:
        if isinstance(choice, Answer):
            for made in of(choice.index, choice.answer, ended=Ended.at_once(choice)):
                yield made
    if task.asked:
        n_of, n_waiting = [0] * len(task.choices), len(task.asked)
        cleaners = {asked.index: asked.cleaner() for asked in task.asked}
        service.metrics.asked(task.n, task.most_new)
        async with service.running(task.served, task.asked, streamed=True) as updates:
            async for asked, update in updates:
                if update is None:
                    n_waiting -= 1
                    if not n_waiting:
                        yield None
                    continue
                index, ended = asked.index, None
                text = cleaners[index].add(update.text)
                n_of[index] += update.n_tokens
                if completion := update.completion:
                    n_of[index] = len(completion.tokens)
                    completions[index] = completion
                    ended = Ended(await service.finish(asked, completion), completion)
                    text += cleaners[index].finish(ended.answer.cut)
                n_new = sum(n_of)
                for made in of(index, text, update.scores, ended):
                    yield made
    if options.include_usage:
        yield {**head, "choices": [], "usage": _usage(task, n_new, completions)}


def _head(task: Task, kind: str) -> JsonDict:
    served, first = task.served, task.choices[0]
    source = first.source if isinstance(first, Answer) else ""
    return {
        "id": task.id,
        "object": kind,
        "created": task.created,
        "model": task.model,
        "system_fingerprint": None,
        "route": {
            "model": served.id,
            "adapter": served.root.name if served.adapter else None,
            "computed": source == "computed",
            "cached": source == "cached",
            "passages": first.passages if isinstance(first, Asked) else 0,
            "question_cut": isinstance(first, Asked) and first.prompt.cut,
        },
    }


def _usage(task: Task, n_new: int, ended: Mapping[int, Completion]) -> JsonDict:
    """A response's `usage`, with `n_new` tokens of all choices.

    Of a prompt with several choices, as many tokens count as cached as were found for each that
    has `ended`.
    """
    cached: dict[int, int] = {}
    for index, completion in ended.items():
        prompt, n = index // task.n, completion.n_restored
        cached[prompt] = min(n, cached.get(prompt, n))
    return {
        "prompt_tokens": task.n_prompt,
        "prompt_tokens_details": {"cached_tokens": sum(cached.values())},
        "completion_tokens": n_new,
        "total_tokens": task.n_prompt + n_new,
    }
