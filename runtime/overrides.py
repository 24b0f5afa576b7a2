"""What a caller wants of an answer other than the settings and the subject say."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from runtime.engine import Constraint, SamplingParams
from runtime.settings import Settings

T = TypeVar("T")


@dataclass(frozen=True)
class Overrides:
    """What a caller wants other than the settings say; None leaves a setting as it is.

    Attributes:
        ignore_end: go on after end-of-generation tokens too.
        logprobs: report each token's log-probability and this many rivals; such a completion
            is neither taken from the answer cache nor kept there.
        clean: clean the answer; None cleans the answers of subjects.
        compute: let the exact tool answer what it can.
        cache: use the answer cache.
        constraint: what the answer must look like. Such an answer is the model's, to the letter:
            neither computed nor cleaned.
        declared: without a constraint, the one that the subject declares holds.
        more: further fields of `SamplingParams`, by name.
    """

    temperature: float | None = None
    top_k: int | None = None
    top_p: float | None = None
    repetition_penalty: float | None = None
    min_new_tokens: int | None = None
    max_new_tokens: int | None = None
    stop: tuple[str, ...] | None = None
    ignore_end: bool = False
    logprobs: int | None = None
    clean: bool | None = None
    compute: bool = True
    cache: bool = True
    constraint: Constraint | None = None
    declared: bool = True
    more: Mapping[str, Any] = field(default_factory=dict)

    def form(self, settings: Settings, subject: str | None) -> Constraint | None:
        """What the answer must look like; a subject of None is the bare model."""
        if self.constraint or not subject or not self.declared:
            return self.constraint
        return settings.subjects[subject].constraint

    def params(self, settings: Settings, subject: str | None) -> SamplingParams:
        """How tokens are picked, and when to stop.

        Args:
            settings: hold where nothing else is wanted.
            subject: None is the bare model, whose answers may be as short as they are.
        """
        longest = _either(self.max_new_tokens, settings.longest_answer_of(subject))
        # A form says itself when an answer may end.
        free = subject is not None and self.form(settings, subject) is None
        least = _either(self.min_new_tokens, settings.min_new_tokens if free else 0)
        return SamplingParams(
            temperature=_either(self.temperature, settings.temperature),
            top_k=_either(self.top_k, settings.top_k),
            top_p=_either(self.top_p, min(settings.top_p, settings.top_p_cap)),
            repetition_penalty=_either(self.repetition_penalty, settings.repetition_penalty),
            min_new_tokens=min(least, longest),
            max_new_tokens=longest,
            stop=_either(self.stop, settings.stop),
            ignore_end=self.ignore_end,
            logprobs=self.logprobs,
            **self.more,
        )


AS_SET = Overrides()


def _either(wanted: T | None, otherwise: T) -> T:
    return otherwise if wanted is None else wanted
