"""One request from first to last: what is asked, the work on it, and what becomes of it."""

from __future__ import annotations

import codecs
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from runtime.engine.sampling import Choice, Draw, SamplingParams, n_likeliest
from runtime.engine.sizing import cells_needed

FinishReason = Literal["stop", "length", "error", "abort"]


@dataclass(frozen=True)
class Request:
    """One prompt to complete.

    Attributes:
        prompt: token ids, at least one.
        params: how to sample and when to stop.
        seed: what this request draws its random numbers from; the same seed gives
            the same draws whatever else is in the batch.
        adapter: name of an adapter loaded into the model, or None for the bare model.
        group: requests with the same group and adapter have the longest common
            prefix of their prompts decoded once and shared.
        score_from: also report the log-probabilities of the prompt's own tokens from this
            place on (at least 1: nothing comes before the first). With it `max_new_tokens`
            may be 0.
        tag: any object of the caller's; it comes back on this request's updates and completion.
            The engine does not look at it, and requests are compared without it.
    """

    prompt: Sequence[int]
    params: SamplingParams = field(default_factory=SamplingParams)
    seed: int = 0
    adapter: str | None = None
    group: str = ""
    score_from: int | None = None
    tag: Any = field(default=None, compare=False)


@dataclass(frozen=True)
class Completion:
    """What became of a request.

    Attributes:
        index: the number that `Engine.add` gave the request; from `Engine.generate`, its
            place in the list.
        tokens: generated token ids, without the end-of-generation token.
        text: their text, cut before the first stop string.
        finish_reason: "stop" (end-of-generation token or stop string), "length"
            (`max_new_tokens` reached or the slot full), "abort" or "error".
        error: what went wrong, for finish_reason "error".
        scores: for each of `tokens` its log-probability and its likeliest rivals, where
            `SamplingParams.logprobs` asked for them.
        prompt_scores: the same for the prompt's tokens from `Request.score_from` on.
        tag: the request's.
    """

    index: int
    tokens: list[int]
    text: str
    finish_reason: FinishReason
    error: str = ""
    scores: list[Choice] = field(default_factory=list)
    prompt_scores: list[Choice] = field(default_factory=list)
    tag: Any = field(default=None, compare=False)


@dataclass(frozen=True)
class Update:
    """What one step added to a request.

    Attributes:
        index: the number that `Engine.add` gave the request.
        text: text that is new; what may yet turn out to be part of a stop string or of a
            character is held back until it is known.
        scores: of the tokens that are new, where asked for.
        completion: the whole, with the last update.
        tag: the request's.
    """

    index: int
    text: str = ""
    scores: tuple[Choice, ...] = ()
    completion: Completion | None = None
    tag: Any = field(default=None, compare=False)


@dataclass(eq=False)
class Generation:
    """A request on its way through the engine.

    Attributes:
        n_cached: tokens whose keys and values lie in the slot's cache; the prompt from
            there on is still to be prefilled.
        prefix: a saved cache that begins with the prompt's first `n_cached` tokens, until it
            has been restored into the slot.
        slot: where it is held, -1 while it waits.
        n_likeliest: of how many of a row's likeliest tokens it draws; None is all of them.
        tokens: generated so far.
    """

    index: int
    request: Request
    n_cached: int = 0
    prefix: np.ndarray | None = None
    slot: int = -1
    tokens: list[int] = field(default_factory=list)
    scores: list[Choice] = field(default_factory=list)
    prompt_scores: list[Choice] = field(default_factory=list)

    def __post_init__(self) -> None:
        scored = self.request.score_from is not None
        self.n_likeliest = None if scored else n_likeliest(self.request.params)
        self._random = np.random.default_rng(self.request.seed)
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._text = ""
        self._n_shown = 0  # characters that updates have shown
        self._n_scores_shown = 0

    @property
    def n_prompt(self) -> int:
        return len(self.request.prompt)

    @property
    def n_to_prefill(self) -> int:
        return self.n_prompt - self.n_cached

    @property
    def cells(self) -> int:
        """Cells of a slot's cache that it may come to need."""
        return cells_needed(self.n_prompt, self.request.params.max_new_tokens)

    @property
    def n_shareable(self) -> int:
        """How long a prefix of the prompt may come from elsewhere: logits after it are wanted."""
        scored = self.request.score_from
        return self.n_prompt - 1 if scored is None else min(self.n_prompt, scored) - 1

    def draw(self) -> Draw:
        """How its next token is to be drawn; each call takes the next random number."""
        params = self.request.params
        penalized = params.repetition_penalty != 1.0
        return Draw(
            params,
            uniform=float(self._random.random()),
            may_end=len(self.tokens) >= params.min_new_tokens and not params.ignore_end,
            seen=[*self.request.prompt, *self.tokens] if penalized else (),
        )

    def accept(self, choice: Choice, is_end: bool, piece: bytes, cells: int) -> FinishReason | None:
        """Append a token; returns why the generation ends with it, or None if it goes on.

        Args:
            choice: the token, and its log-probability if that was asked for.
            is_end: it is an end-of-generation token.
            piece: the bytes it stands for.
            cells: how many tokens fit a slot.
        """
        params = self.request.params
        if is_end and not params.ignore_end:
            self._text += self._decoder.decode(b"", final=True)
            return "stop"
        self.tokens.append(choice.token)
        if params.logprobs is not None:
            self.scores.append(choice)
        before = len(self._text)
        self._text += self._decoder.decode(piece)
        found = [
            at
            for stop in params.stop
            if (at := self._text.find(stop, max(0, before - len(stop)))) >= 0
        ]
        if found:
            self._text = self._text[: min(found)]
            return "stop"
        full = self.n_prompt + len(self.tokens) >= cells
        return "length" if full or len(self.tokens) >= params.max_new_tokens else None

    def update(self, completion: Completion | None = None) -> Update:
        """What is new since the last update."""
        end = len(self._text) if completion else len(self._text) - self._n_held_back()
        text = self._text[self._n_shown : end]
        scores = tuple(self.scores[self._n_scores_shown :])
        self._n_shown += len(text)
        self._n_scores_shown = len(self.scores)
        return Update(self.index, text, scores, completion, self.request.tag)

    def _n_held_back(self) -> int:
        """Characters at the end of the text with which a stop string may begin."""
        return max(
            (
                n
                for stop in self.request.params.stop
                for n in range(1, len(stop))
                if self._text.endswith(stop[:n])
            ),
            default=0,
        )

    def complete(self, reason: FinishReason, error: str = "") -> Completion:
        return Completion(
            self.index,
            self.tokens,
            self._text,
            reason,
            error,
            self.scores,
            self.prompt_scores,
            self.request.tag,
        )


def common_prefix(prompts: Sequence[Sequence[int]]) -> tuple[int, ...]:
    """The longest common prefix of the prompts, leaving each at least one token of its own."""
    if not prompts:
        return ()
    # The smallest and the largest in lexicographic order differ first where any two do.
    first, last = list(min(prompts, key=tuple)), list(max(prompts, key=tuple))
    n = 0
    limit = min(map(len, prompts)) - 1
    while n < limit and first[n] == last[n]:
        n += 1
    return tuple(first[:n])
