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

    Attributes:
        generations: in order of slot.
        length: tokens of each.
        sampled: those of them that get their first token from this step.
        n_likeliest: how many of a row's likeliest tokens must be known; None is all.
    """

    generations: Sequence[Generation]
    length: int
    sampled: Sequence[Generation]
    n_likeliest: int | None = None


@dataclass(frozen=True)
class Decode:
    """Decode `length` tokens of each generation: those of its answer that are not decoded yet.

    More than one only where grammars have forced several; then slots are consecutive, and one with
    fewer tokens is padded.

    Attributes:
        generations: in order of slot.
        idle_slots: they get a token whose result is dropped. With the running ones they fill
            slots 0 to n without a gap. None where `length` is more than 1.
        moves: (generation, from slot, to slot), to be done first.
        sampled: those of the generations that get a new token from this step.
        n_likeliest: as in `Prefill`.
        length: tokens of each.
    """

    generations: Sequence[Generation]
    idle_slots: Sequence[int]
    moves: Sequence[tuple[Generation, int, int]]
    sampled: Sequence[Generation]
    n_likeliest: int | None = None
    length: int = 1


Step = Prefill | Decode


@dataclass(frozen=True)
class Result:
    """What a step computed.

    Attributes:
        rows: logits for each of `step.sampled`.
        prompt_scores: for each of `step.generations` those of its prompt's tokens that it asked
            for, as far as they are known from this step.
    """

    rows: Rows
    prompt_scores: Sequence[Sequence[Choice]]
