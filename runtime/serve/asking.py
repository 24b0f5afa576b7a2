"""From the body of a request to what the engine has to write, or to answers known at once."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

from runtime.engine import Model
from runtime.overrides import Overrides
from runtime.prompts import with_bos
from runtime.questions import Question, clean_text, parse_one
from runtime.serve.body.schema import ChatBody, CompletionBody, Sampling
from runtime.serve.body.wanted import overrides_of
from runtime.serve.catalog import Served
from runtime.serve.chat.conversations import is_question
from runtime.serve.chat.messages import form_for_tools, turns_of
from runtime.serve.chat.usage import Turn
from runtime.serve.errors import ApiError, invalid
from runtime.serve.service import Service
from runtime.serve.tools.formats import Form
from runtime.serve.tools.grammar import constraint_for
from runtime.serve.tools.reader import Reader
from runtime.way import Answer, Asked, Prompt

MOST_REQUESTS = 4096  # prompts times choices
# Texts shorter than this are tokenized at once, longer ones in a thread.
_SHORT = 20_000


@dataclass(frozen=True)
class Task:
    """What a body asks for, ready to run."""

    id: str  # of the response
    model: str  # the name that was asked for
    served: Served
    # Those of the first prompt, then those of the next; to be written by the engine of `served`,
    # or answered already.
    choices: list[Answer | Asked]
    n: int = 1  # choices of each prompt
    shown: int = 1  # how many of them are returned, the likeliest
    echo: bool = False
    logprobs: bool = False
    prompt_logprobs: bool = False
    reader: Callable[[], Reader] | None = None  # makes one, where an answer may have calls
    function_call: bool = False  # show a call in its older form
    created: int = field(default_factory=lambda: int(time.time()))

    @property
    def asked(self) -> list[Asked]:
        """The choices that the engine has to write."""
        return [choice for choice in self.choices if isinstance(choice, Asked)]

    @property
    def most_new(self) -> int:
        """Most tokens of an answer that the engine has to write."""
        return max((each.request.params.max_new_tokens for each in self.asked), default=0)

    def prompt(self, index: int) -> list[int]:
        """Token ids of the prompt of a choice that the engine has to write."""
        choice = self.choices[index]
        return choice.prompt.tokens if isinstance(choice, Asked) else []

    @property
    def n_prompt(self) -> int:
        """Tokens of all prompts that the engine gets, each counted once."""
        tokens = {asked.index // self.n: len(asked.prompt.tokens) for asked in self.asked}
        return sum(tokens.values())


async def completion_task(service: Service, body: CompletionBody, key: str | None = None) -> Task:
    """What a body of /v1/completions asks for. Raises ApiError.

    Where the body has no seed, random draws depend on `key`; None is chance.
    """
    served = service.catalog.find(body.model, body.subject)
    model, prompts = served.engine.model, body.prompts
    if sum(map(len, prompts)) > _SHORT:
        tokens = await asyncio.to_thread(_tokens, model, prompts, body.add_special_tokens)
    else:
        tokens = _tokens(model, prompts, body.add_special_tokens)
    n = body.n_written
    if len(tokens) * n > MOST_REQUESTS:
        raise invalid(f"prompts times n is over {MOST_REQUESTS}", "prompt")
    scored = bool(body.echo) and body.logprobs is not None
    if scored and body.stream:
        raise invalid("echo with logprobs is not streamed", "stream")
    overrides = replace(
        await overrides_of(body, model, body.max_tokens, body.logprobs, least=body.min_tokens or 0),
        clean=False,
        declared=False,
    )
    _check(service, served, body, overrides, tokens)
    id_ = f"cmpl-{secrets.token_hex(12)}"
    choices: list[Answer | Asked] = []
    for draws in _draws(service, body, key, len(tokens) * n):
        prompt = Prompt(tokens[len(choices) // n])
        asked = _asked(service, served, Question(id_, draws=draws), prompt, overrides, len(choices))
        if scored or body.prompt_logprobs is not None:
            asked = _scored(asked, body)
        choices.append(asked)
    return Task(
        *(id_, body.model, served, choices, n),
        shown=body.n or 1,
        echo=bool(body.echo),
        logprobs=body.logprobs is not None,
        prompt_logprobs=body.prompt_logprobs is not None,
    )


async def chat_task(service: Service, body: ChatBody, key: str | None = None) -> Task:
    """What a body of /v1/chat/completions asks for. Raises ApiError. `key` as above."""
    served = service.catalog.find(body.model, body.subject)
    offer = body.offer
    if offer or any(message.calls for message in body.messages):
        turns, form = await asyncio.to_thread(_turns, served, body)
    else:
        turns, form = turns_of(body.messages, served), None
    max_new = body.max_completion_tokens or body.max_tokens
    logprobs = (body.top_logprobs or 0) if body.logprobs else None
    scored = body.prompt_logprobs is not None
    # A call may be short.
    least = 0 if offer and body.min_tokens is None else body.min_tokens
    overrides = replace(
        await overrides_of(body, served.engine.model, max_new, logprobs, least),
        # Cleaning does not know calls.
        clean=False if offer and body.clean is None else body.clean,
        declared=offer is None,
        compute=logprobs is None and not scored,  # what is computed has no tokens
        # What is kept of an answer does not say which stop string ended it.
        cache=_is_repeatable(service, body, key) and not scored and not body.stops,
    )
    if offer and form:
        constraint = await constraint_for(offer, form, served.engine.model, overrides.constraint)
        overrides = replace(overrides, constraint=constraint)
    if body.clean and overrides.constraint:
        raise invalid("an answer of a given form is never cleaned: leave clean out", "clean")
    id_, n = f"chatcmpl-{secrets.token_hex(12)}", body.n_written
    draws = _draws(service, body, key, n)
    if served.subject and is_question(turns) and not offer and body.usage.is_usual:
        record = {"questionID": id_, "subject": served.subject, "question": turns[0][1]}
        _check(service, served, body, overrides)
        choices = await asyncio.to_thread(
            _prepared,
            service,
            [replace(parse_one(record), draws=each) for each in draws],
            overrides,
        )
    else:
        tools = [tool.shown() for tool in offer.tools] if offer else []
        prompt = await asyncio.to_thread(
            served.conversations.prompt, turns, served.subject, tools, body.usage
        )
        _check(service, served, body, overrides, [prompt.tokens])
        if max_new is None and served.subject is None:  # as long as the context allows
            longest = {"max_new_tokens": served.context - len(prompt.tokens)}
            overrides = replace(overrides, sampling={**overrides.sampling, **longest})
        question = Question(id_, served.subject or "", clean_text(turns[-1][1]))
        choices = [
            _asked(service, served, replace(question, draws=each), prompt, overrides, index)
            for index, each in enumerate(draws)
        ]
    if scored:
        choices = [_scored(each, body) if isinstance(each, Asked) else each for each in choices]
    return Task(
        *(id_, body.model, served, choices, n),
        shown=body.n or 1,
        logprobs=bool(body.logprobs),
        prompt_logprobs=scored,
        reader=partial(Reader, form, tuple(offer.schemas)) if offer and form else None,
        function_call=bool(body.functions),
    )


def _turns(served: Served, body: ChatBody) -> tuple[list[Turn], Form | None]:
    """The turns of a conversation, and how tools are called if any may be. Raises ApiError."""
    return turns_of(body.messages, served), form_for_tools(served) if body.offer else None


def _prepared(
    service: Service, questions: list[Question], overrides: Overrides
) -> list[Answer | Asked]:
    """The same question once for each choice, prepared as in a list."""
    choices = list(service.way.prepare(questions, overrides=overrides))
    for choice in choices:
        if isinstance(choice, Answer) and choice.problem:
            raise invalid(choice.problem, "messages")
    return choices


def _asked(
    service: Service,
    served: Served,
    question: Question,
    prompt: Prompt,
    overrides: Overrides,
    index: int,
) -> Asked:
    path, adapter, subject = served.engine.model.path, served.adapter, served.subject
    return service.way.prepare_prompt(question, prompt, path, adapter, subject, overrides, index)


def _scored(asked: Asked, body: Sampling) -> Asked:
    """The same, and the scores of the prompt's tokens are wanted, too."""
    scored = replace(asked.request, score_from=1, score_top=body.prompt_logprobs)
    return replace(asked, request=scored)


def _tokens(
    model: Model, prompts: Sequence[str] | Sequence[list[int]], add_special: bool
) -> list[list[int]]:
    """Token ids of prompts. A text is the whole prompt, so "<|im_end|>" in it is special."""
    found = []
    for prompt in prompts:
        if isinstance(prompt, str):
            tokens = model.tokenize(prompt, special=True)
            prompt = with_bos(model, tokens) if add_special else tokens
            if not prompt:
                raise invalid("the prompt is empty", "prompt")
        elif max(prompt) >= model.n_vocab:
            raise invalid(f"there are {model.n_vocab} token ids, 0 on", "prompt")
        found.append(prompt)
    return found


def _check(
    service: Service,
    served: Served,
    body: Sampling,
    overrides: Overrides,
    prompts: Sequence[Sequence[int]] = (),
) -> None:
    """Refuse what cannot be asked. Raises ApiError."""
    longest = service.way.params(served.subject, overrides).max_new_tokens
    if body.min_tokens is not None and body.min_tokens > longest:
        raise ApiError(
            400, f"min_tokens is {body.min_tokens}, over max_tokens {longest}", "min_tokens"
        )
    n_prompt = max(map(len, prompts), default=0)
    if n_prompt >= served.context:
        raise ApiError(
            400,
            # OpenAI's words first: litellm knows the case by them alone.
            f"This model's maximum context length is {served.context} tokens, prompt and answer"
            f" together, but the prompt has {n_prompt} (MAX_INPUT_TOKENS and MAX_NEW_TOKENS of"
            " the server)",
            "messages" if "messages" in type(body).model_fields else "prompt",
            "context_length_exceeded",
        )


def _draws(service: Service, body: Sampling, key: str | None, count: int) -> list[str]:
    """What the random draws of each choice depend on.

    The first choice of a batch's line draws as a question with its id does in a list.
    """
    if body.seed is not None:
        text = f"seed {body.seed}"
    elif key is not None:
        text = f"{service.settings.seed} {key!r}"
    else:
        text = secrets.token_hex(8)
    return [f"{text} {choice}" if choice else text for choice in range(count)]


def _is_repeatable(service: Service, body: Sampling, key: str | None) -> bool:
    """Whether the same request has the same answer, so that it is worth keeping."""
    temperature = service.settings.temperature if body.temperature is None else body.temperature
    return temperature == 0 or body.seed is not None or key is not None
