"""What a caller wants instead of what the settings and the subject say."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from runtime.engine import Constraint, SamplingParams
from runtime.settings import Settings

T = TypeVar("T")


@dataclass(frozen=True)
class Overrides:
    """What a caller wants instead of the settings; None leaves a setting as it is."""

    temperature: float | None = None
    top_k: int | None = None
    top_p: float | None = None
    repetition_penalty: float | None = None
    min_new_tokens: int | None = None
    max_new_tokens: int | None = None
    stop: tuple[str, ...] | None = None
    ignore_end: bool = False  # go on after end-of-generation tokens too
    # Report each token's log-probability and this many rivals; such a completion is neither taken
    # from the answer cache nor kept there.
    logprobs: int | None = None
    clean: bool | None = None  # clean the answer; None cleans the answers of subjects
    compute: bool = True  # let the exact tool answer what it can
    cache: bool = True  # use the answer cache
    # What the answer must look like. Such an answer is neither computed nor cleaned.
    constraint: Constraint | None = None
    declared: bool = True  # without a constraint, use the one that the subject declares
    more: Mapping[str, Any] = field(default_factory=dict)  # further fields of `SamplingParams`

    def form(self, settings: Settings, subject: str | None) -> Constraint | None:
        """What the answer must look like; a subject of None is the bare model."""
        if self.constraint or not subject or not self.declared:
            return self.constraint
        return settings.subjects[subject].constraint

    def params(self, settings: Settings, subject: str | None) -> SamplingParams:
        """How tokens are picked, and when to stop; a subject of None is the bare model."""
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
