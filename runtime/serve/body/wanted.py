"""What a body wants of its answers instead of the settings."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from runtime.engine import Model
from runtime.overrides import Overrides
from runtime.serve.body.schema import Sampling
from runtime.serve.errors import invalid


async def overrides_of(
    body: Sampling, model: Model, max_new: int | None, logprobs: int | None, least: int | None
) -> Overrides:
    """What a body wants instead of the settings. Raises ApiError."""
    if body.n_written > (body.n or 1) and logprobs is None:
        logprobs = 0  # the likeliest are wanted
    penalty, last_n = body.repetition_penalty, None
    if body.repeat_penalty is not None:
        last_n = 64 if body.repeat_last_n is None else max(0, body.repeat_last_n)
        penalty = body.repeat_penalty if body.repeat_last_n != 0 else None
    biases = tuple(_biases(body, model))
    named = {
        "logit_bias": [token for token, _ in biases],
        "allowed_token_ids": body.allowed_token_ids or (),
        "stop_token_ids": body.stop_token_ids or (),
    }
    for name, tokens in named.items():
        if not all(0 <= token < model.n_vocab for token in tokens):
            raise invalid(f"{name}: there are {model.n_vocab} token ids, 0 on", name)
    sampling = {
        "temperature": body.temperature,
        "top_k": None if body.top_k is None else max(0, body.top_k),
        "top_p": None if body.top_p is None else max(1e-6, body.top_p),
        "min_p": body.min_p,
        "repetition_penalty": penalty,
        "penalty_last_n": last_n,
        "presence_penalty": body.presence_penalty,
        "frequency_penalty": body.frequency_penalty,
        "logit_bias": biases,
        "allowed_token_ids": tuple(named["allowed_token_ids"]),
        "bad_words": tuple(_bad_words(body.bad_words or (), model)),
        "min_new_tokens": least,
        "max_new_tokens": max_new,
        "stop": None if body.stop is None else body.stops,
        "stop_token_ids": tuple(named["stop_token_ids"]),
        "include_stop": body.include_stop_str_in_output,
        "show_special": body.skip_special_tokens is False,
        "ignore_end": body.ignore_eos,
        "logprobs": logprobs,
    }
    given = {name: value for name, value in sampling.items() if value is not None}
    return Overrides(given, constraint=await body.compiled(model))


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
