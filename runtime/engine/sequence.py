"""What goes in (`Request`), what comes out (`Completion`), and the work between (`Sequence`)."""

from __future__ import annotations

from collections.abc import Sequence as Tokens
from dataclasses import dataclass, field
from typing import Literal

from runtime.engine.sampling import SamplingParams

FinishReason = Literal["stop", "length", "error"]


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
    """

    prompt: Tokens[int]
    params: SamplingParams = field(default_factory=SamplingParams)
    seed: int = 0
    adapter: str | None = None
    group: str = ""


@dataclass(frozen=True)
class Completion:
    """What became of `requests[index]`.

    Attributes:
        index: place of the request in the list given to `Engine.generate`.
        tokens: generated token ids, without the end-of-generation token.
        text: their text, cut before the first stop string.
        finish_reason: "stop" (end-of-generation token or stop string), "length"
            (`max_new_tokens` reached or the slot full) or "error".
        error: what went wrong, for finish_reason "error".
    """

    index: int
    tokens: list[int]
    text: str
    finish_reason: FinishReason
    error: str = ""


@dataclass(eq=False)
class Sequence:
    """A request on its way through the engine.

    `n_cached` counts the tokens whose keys and values lie in the slot's cache; the
    prompt from there on is still to be prefilled.
    """

    index: int
    request: Request
    n_prefix: int = 0
    n_cached: int = 0
    slot: int = -1
    tokens: list[int] = field(default_factory=list)

    @property
    def n_prompt(self) -> int:
        return len(self.request.prompt)

    @property
    def n_to_prefill(self) -> int:
        return self.n_prompt - self.n_cached


def common_prefix(prompts: Tokens[Tokens[int]]) -> tuple[int, ...]:
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
