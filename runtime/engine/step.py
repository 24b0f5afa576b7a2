"""A step: one llama.cpp call with all that it needs, from the scheduler to the runner."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from runtime.engine.generation import Generation
from runtime.engine.rows import Rows
from runtime.engine.sampling import Choice


@dataclass(frozen=True)
class Prefill:
    """Decode `length` prompt tokens of each generation, in consecutive slots.

    One with fewer tokens left is padded; one with more goes on in a later step.
    """

    generations: Sequence[Generation]  # in order of slot
    length: int
    sampled: Sequence[Generation]  # those of them that get their first token from this step
    n_likeliest: int | None = None  # of a row's likeliest tokens that must be known; None is all


@dataclass(frozen=True)
class Decode:
    """Decode `length` tokens of each generation: those of its answer that are not decoded yet.

    More than one only where grammars have forced several; then slots are consecutive, and one with
    fewer tokens is padded.
    """

    generations: Sequence[Generation]  # in order of slot
    # They get a token whose result is dropped, and fill slots 0 to n with the running ones. None
    # where `length` is more than 1.
    idle_slots: Sequence[int]
    moves: Sequence[tuple[Generation, int, int]]  # (generation, from slot, to slot), done first
    sampled: Sequence[Generation]  # those of the generations that get a new token from this step
    n_likeliest: int | None = None  # as in `Prefill`
    length: int = 1


Step = Prefill | Decode


@dataclass(frozen=True)
class Result:
    """What a step computed."""

    rows: Rows  # logits for each of `step.sampled`
    # For each of `step.generations` the scores of its prompt's tokens, if it asked for them, that
    # are known from this step.
    prompt_scores: Sequence[Sequence[Choice]]
