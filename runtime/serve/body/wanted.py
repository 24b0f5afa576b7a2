"""What a body wants of its answers other than the settings say."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

from runtime.engine import Model
from runtime.overrides import Overrides
from runtime.serve.body.schema import Sampling
from runtime.serve.errors import invalid


async def overrides_of(
    body: Sampling, model: Model, max_new: int | None, logprobs: int | None
) -> Overrides:
    """What a body wants other than the settings say. Raises ApiError."""
    if body.n_written > (body.n or 1) and logprobs is None:
        logprobs = 0  # the likeliest are wanted
    penalty = body.repetition_penalty
    if body.repeat_penalty is not None and body.repeat_last_n != 0:
        penalty = body.repeat_penalty
    return Overrides(
        temperature=body.temperature,
        top_k=None if body.top_k is None else max(0, body.top_k),
        top_p=None if body.top_p is None else max(1e-6, body.top_p),
        repetition_penalty=penalty,
        min_new_tokens=body.min_tokens,
        max_new_tokens=max_new,
        stop=None if body.stop is None else body.stops,
        ignore_end=body.ignore_eos,
        logprobs=logprobs,
        constraint=await body.compiled(model),
        more=_more(body, model),
    )


def _more(body: Sampling, model: Model) -> dict[str, Any]:
    """Further sampling parameters of a body, by name. Raises ApiError."""
    last_n = 64 if body.repeat_last_n is None else body.repeat_last_n
    wanted: dict[str, Any] = {
        "min_p": body.min_p,
        "penalty_last_n": max(0, last_n) if body.repeat_penalty is not None else None,
        "presence_penalty": body.presence_penalty,
        "frequency_penalty": body.frequency_penalty,
        "logit_bias": tuple(_biases(body, model)),
        "allowed_token_ids": tuple(body.allowed_token_ids or ()),
        "bad_words": tuple(_bad_words(body.bad_words or (), model)),
        "stop_token_ids": tuple(body.stop_token_ids or ()),
        "include_stop": body.include_stop_str_in_output,
        "show_special": body.skip_special_tokens is False,
    }
    named = {
        "logit_bias": [token for token, _ in wanted["logit_bias"]],
        "allowed_token_ids": wanted["allowed_token_ids"],
        "stop_token_ids": wanted["stop_token_ids"],
    }
    for name, tokens in named.items():
        if not all(0 <= token < model.n_vocab for token in tokens):
            raise invalid(f"{name}: there are {model.n_vocab} token ids, 0 on", name)
    return {name: value for name, value in wanted.items() if value}


def _biases(body: Sampling, model: Model) -> Iterator[tuple[int, float]]:
    given = body.logit_bias or ()
    if isinstance(given, dict):
        yield from ((int(token), bias) for token, bias in given.items())
        return
    for key, bias in given:
        if isinstance(key, bool | float) or bias is True or isinstance(bias, str):
            what = "logit_bias: pairs of a token id or text and a number or false"
            raise invalid(what, "logit_bias")
        for token in [key] if isinstance(key, int) else model.tokenize(key):
            yield token, -math.inf if bias is False else bias


def _bad_words(words: Sequence[str], model: Model) -> Iterator[tuple[int, ...]]:
    """The tokens of each word, as it begins a text and as it goes on after a blank."""
    for word in words:
        first = tuple(model.tokenize(word.lstrip() or word, follows=True))
        spaced = tuple(model.tokenize(" " + word.lstrip(), follows=True))
        yield first
        if spaced != first:
            yield spaced
