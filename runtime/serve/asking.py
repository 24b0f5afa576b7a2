"""From a body to what the engine is to run."""

from __future__ import annotations

import asyncio
import hashlib
import secrets
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from runtime.engine import Model, Request, SamplingParams
from runtime.pipeline import Pipeline
from runtime.questions import clean_text
from runtime.serve.catalog import Served
from runtime.serve.errors import ApiError
from runtime.serve.schema import ChatBody, CompletionBody, Message, Sampling
from runtime.serve.service import Service
from runtime.settings import Settings

MOST_REQUESTS = 4096  # prompts times choices
# Texts shorter than this are tokenized at once, longer ones in a thread.
_SHORT = 20_000


@dataclass(frozen=True)
class Task:
    """What a body asks for, ready to run.

    Attributes:
        id: of the response.
        model: the name that was asked for.
        prompts: token ids of each prompt.
        requests: `n` for each prompt, one prompt's after the other's.
        question: with `clean`, what the answers are to.
        opens_thinking: the prompts end inside a think block.
        passages: how many texts of a knowledge base there were for the question.
        computed: the answer, where no model was needed.
    """

    id: str
    model: str
    served: Served
    prompts: list[list[int]]
    requests: list[Request]
    n: int = 1
    echo: bool = False
    logprobs: bool = False
    clean: bool = False
    question: str = ""
    opens_thinking: bool = False
    passages: int = 0
    computed: str | None = None
    created: int = field(default_factory=lambda: int(time.time()))


async def completion_task(service: Service, body: CompletionBody, key: str | None = None) -> Task:
    """What a body of /v1/completions asks for. Raises ApiError.

    Args:
        key: what the draws depend on where the body has no seed; None is chance.
    """
    served = service.catalog.find(body.model, body.subject)
    model, prompts = served.engine.model, body.prompts
    if sum(map(len, prompts)) > _SHORT:
        tokens = await asyncio.to_thread(_tokens, model, prompts, body.add_special_tokens)
    else:
        tokens = _tokens(model, prompts, body.add_special_tokens)
    n, max_new = body.n or 1, body.max_tokens
    if len(tokens) * n > MOST_REQUESTS:
        raise ApiError(400, f"prompts times n is over {MOST_REQUESTS}", "prompt", "invalid_value")
    scored = bool(body.echo) and body.logprobs is not None
    if scored and body.stream:
        raise ApiError(400, "echo with logprobs is not streamed", "stream", "invalid_value")
    requests = []
    for place, prompt in enumerate(tokens):
        params = _params(body, service.settings, served, len(prompt), max_new, 0, body.logprobs)
        for choice in range(n):
            seed = _seed(service.settings, body.seed, key, place * n + choice)
            group = served.subject or ""
            score_from = 1 if scored else None
            requests.append(Request(prompt, params, seed, served.adapter, group, score_from))
    return Task(
        f"cmpl-{secrets.token_hex(12)}",
        body.model,
        served,
        tokens,
        requests,
        n,
        bool(body.echo),
        body.logprobs is not None,
    )


async def chat_task(service: Service, body: ChatBody, key: str | None = None) -> Task:
    """What a body of /v1/chat/completions asks for. Raises ApiError. `key` as above."""
    served = service.catalog.find(body.model, body.subject)
    turns = [(_role(message), message.text) for message in body.messages]
    settings, question = service.settings, clean_text(turns[-1][1])
    computed: str | None = None
    passages: Sequence[str] = ()
    if served.auto and served.subject and len(turns) == 1 and not body.logprobs:
        computed, passages = await asyncio.to_thread(
            _beside_the_model, service.pipeline, served.subject, question
        )
    prompt = await asyncio.to_thread(
        served.conversations.prompt, turns, served.subject, passages, settings.max_input_tokens
    )
    max_new = body.max_completion_tokens or body.max_tokens
    logprobs = (body.top_logprobs or 0) if body.logprobs else None
    least = settings.min_new_tokens if served.subject else 0
    params = _params(body, settings, served, len(prompt.tokens), max_new, least, logprobs)
    n = body.n or 1
    requests = [
        Request(
            prompt.tokens,
            params,
            _seed(settings, body.seed, key, choice),
            served.adapter,
            "\n".join([served.subject or "", *passages]),
        )
        for choice in range(n)
    ]
    return Task(
        f"chatcmpl-{secrets.token_hex(12)}",
        body.model,
        served,
        [prompt.tokens],
        requests,
        n,
        logprobs=bool(body.logprobs),
        clean=served.auto if body.clean is None else body.clean,
        question=question,
        opens_thinking=prompt.opens_thinking,
        passages=len(passages),
        computed=computed,
    )


def _beside_the_model(
    pipeline: Pipeline, subject: str, question: str
) -> tuple[str | None, Sequence[str]]:
    """What the pipeline has for a question: an answer that was computed, or texts to show."""
    computed = pipeline.computed_answer(subject, question)
    return computed, () if computed else pipeline.passages(subject, question)


def _role(message: Message) -> str:
    return "system" if message.role == "developer" else message.role


def with_bos(model: Model, tokens: list[int]) -> list[int]:
    """Tokens with the begin-of-sequence token before them, if the vocabulary wants it."""
    bos = model.bos_to_add
    return tokens if bos is None or tokens[:1] == [bos] else [bos, *tokens]


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
                raise ApiError(400, "the prompt is empty", "prompt", "invalid_value")
        elif max(prompt) >= model.n_vocab:
            raise ApiError(
                400, f"there are {model.n_vocab} token ids, 0 on", "prompt", "invalid_value"
            )
        found.append(prompt)
    return found


def _params(
    body: Sampling,
    settings: Settings,
    served: Served,
    n_prompt: int,
    max_new: int | None,
    least: int,
    logprobs: int | None,
) -> SamplingParams:
    """How to sample; what the body leaves out is as in the settings."""
    room = served.context - n_prompt
    if room < 1:
        raise ApiError(
            400,
            # OpenAI's words first: litellm knows the case by them alone.
            f"This model's maximum context length is {served.context} tokens, prompt and answer"
            f" together, but the prompt has {n_prompt} (MAX_INPUT_TOKENS and MAX_NEW_TOKENS of"
            " the server)",
            "messages" if "messages" in type(body).model_fields else "prompt",
            "context_length_exceeded",
        )
    wanted = settings.longest_answer_of(served.subject) if max_new is None else max_new
    longest = min(wanted, room)
    if body.min_tokens is not None:
        if body.min_tokens > wanted:
            raise ApiError(
                400, f"min_tokens is {body.min_tokens}, over max_tokens {wanted}", "min_tokens"
            )
        least = body.min_tokens
    top_k = settings.top_k if body.top_k is None else max(0, body.top_k)
    top_p = min(settings.top_p, settings.top_p_cap) if body.top_p is None else body.top_p
    penalty = body.repetition_penalty
    return SamplingParams(
        settings.temperature if body.temperature is None else body.temperature,
        top_k,
        max(1e-6, top_p),
        settings.repetition_penalty if penalty is None else penalty,
        min(least, longest),
        longest,
        settings.stop if body.stop is None else body.stops,
        body.ignore_eos,
        logprobs,
    )


def _seed(settings: Settings, seed: int | None, key: str | None, choice: int) -> int:
    """What a choice draws from. The first of a batch's line draws as the pipeline's question
    of that id does."""
    if seed is not None:
        text = f"seed {seed}"
    elif key is not None:
        text = f"{settings.seed} {key!r}"
    else:
        return secrets.randbits(64)
    text += f" {choice}" if choice else ""
    return int.from_bytes(hashlib.blake2b(text.encode("utf-8", "replace"), digest_size=8).digest())
