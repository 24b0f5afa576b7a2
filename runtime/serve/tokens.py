"""Tokens and their log-probabilities as OpenAI's clients read them, and /tokenize and the like."""

from __future__ import annotations

import codecs
from collections.abc import Sequence
from typing import Any

from runtime.engine import Choice, Model
from runtime.prompts import with_bos
from runtime.questions import clean_text
from runtime.serve.body.schema import DetokenizeBody, TokenizeBody
from runtime.serve.catalog import Served
from runtime.serve.chat.conversations import is_question
from runtime.serve.chat.messages import turns_of
from runtime.way import Way

# JSON has no infinity; OpenAI writes this for a token that cannot be.
_NEVER = -9999.0


def token_text(model: Model, token: int) -> str:
    """A token's text; bytes that are no character alone look like "bytes:\\xe4"."""
    piece = model.piece(token, special=True)
    try:
        return piece.decode()
    except UnicodeDecodeError:
        return "bytes:" + "".join(f"\\x{byte:02x}" for byte in piece)


def text_of(model: Model, tokens: Sequence[int]) -> str:
    """The text of tokens, special ones with their names."""
    return b"".join(model.piece(token, special=True) for token in tokens).decode("utf-8", "replace")


def _finite(logprob: float) -> float:
    return max(_NEVER, logprob)


def chat_logprobs(model: Model, scores: Sequence[Choice]) -> dict[str, Any]:
    """A chat choice's `logprobs`."""

    def entry(token: int, logprob: float) -> dict[str, Any]:
        piece = list(model.piece(token, special=True))
        return {"token": token_text(model, token), "logprob": _finite(logprob), "bytes": piece}

    return {
        "content": [
            {
                **entry(choice.token, choice.logprob),
                "top_logprobs": [entry(token, logprob) for token, logprob in choice.top],
            }
            for choice in scores
        ],
        "refusal": None,
    }


class Offsets:
    """Counts where each token of a text begins in it, in characters."""

    def __init__(self) -> None:
        self._at = 0
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def add(self, piece: bytes) -> int:
        """Where the next token begins; one within a character begins where that character does."""
        at = self._at
        self._at += len(self._decoder.decode(piece))
        return at


def legacy_logprobs(
    model: Model,
    scores: Sequence[Choice | None],
    first: int | None = None,
    offsets: Offsets | None = None,
) -> dict[str, Any]:
    """A completion choice's `logprobs`.

    `top_logprobs` has the token itself too, with the very same number, so that clients can see
    whether it was the likeliest. A prompt's `first` token has no log-probability: its score is
    None. In a stream `offsets` count on from the tokens before.
    """
    texts: list[str] = []
    logprobs: list[float | None] = []
    tops: list[dict[str, float] | None] = []
    offsets, begins = offsets or Offsets(), []
    for choice in scores:
        token = choice.token if choice is not None else first
        text = token_text(model, token) if token is not None else ""
        texts.append(text)
        begins.append(offsets.add(model.piece(token, special=True) if token is not None else b""))
        if choice is None:
            logprobs.append(None)
            tops.append(None)
            continue
        logprobs.append(_finite(choice.logprob))
        top: dict[str, float] = {}
        # The likeliest last: were two texts the same, it would be the one that is kept.
        for other, logprob in [(choice.token, choice.logprob), *reversed(choice.top)]:
            top[token_text(model, other)] = _finite(logprob)
        tops.append(dict(sorted(top.items(), key=lambda item: -item[1])))
    return {
        "tokens": texts,
        "token_logprobs": logprobs,
        "top_logprobs": tops,
        "text_offset": begins,
    }


def prompt_logprobs(
    model: Model, scores: Sequence[Choice]
) -> list[dict[str, dict[str, Any]] | None]:
    """vLLM's `prompt_logprobs`: for each token of a prompt, it and its rivals by token id.

    `scores` are those of all tokens but the first, which has no log-probability.
    """

    def entry(token: int, logprob: float, rank: int) -> dict[str, Any]:
        text = token_text(model, token)
        return {"logprob": _finite(logprob), "rank": rank, "decoded_token": text}

    return [
        None,
        *(
            {
                str(choice.token): entry(choice.token, choice.logprob, choice.rank),
                **{
                    str(token): entry(token, logprob, rank)
                    for rank, (token, logprob) in enumerate(choice.top, 1)
                },
            }
            for choice in scores
        ),
    ]


def tokenize(way: Way, served: Served, body: TokenizeBody) -> dict[str, Any]:
    """The response of /tokenize. Raises ApiError."""
    model = served.engine.model
    if body.messages is not None:
        turns = turns_of(body.messages, served)
        if served.subject and is_question(turns):
            tokens = way.prompt(served.subject, clean_text(turns[0][1])).tokens
        else:
            tokens = served.conversations.prompt(turns, served.subject).tokens
    else:
        tokens = model.tokenize(body.prompt or "", special=True)
        tokens = with_bos(model, tokens) if body.add_special_tokens else tokens
    texts = [token_text(model, token) for token in tokens] if body.return_token_strs else None
    return {
        "tokens": tokens,
        "count": len(tokens),
        "max_model_len": served.context,
        "token_strs": texts,
    }


def detokenize(served: Served, body: DetokenizeBody) -> dict[str, Any]:
    """The response of /detokenize."""
    model = served.engine.model
    return {"prompt": text_of(model, [t for t in body.tokens if t < model.n_vocab])}


def tokenizer_info(served: Served) -> dict[str, Any]:
    """The response of /tokenizer_info, with what lm-evaluation-harness asks for."""
    model = served.engine.model
    eos = model.special_text("eos") or None
    return {
        "tokenizer_class": "llama.cpp",
        "model_max_length": served.context,
        "vocab_size": model.n_vocab,
        "bos_token": model.special_text("bos") or None,
        "eos_token": eos,
        "pad_token": eos,
        "add_bos_token": model.bos_to_add is not None,
        "chat_template": model.chat_template,
    }
