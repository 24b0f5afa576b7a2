"""What a caller wants instead of what the settings and the subject say."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from runtime.engine import Constraint, SamplingParams
from runtime.settings import Settings


@dataclass(frozen=True)
class Overrides:
    """What a caller wants instead of the settings."""

    # Fields of `SamplingParams` by name. A completion with "logprobs" is neither taken from the
    # answer cache nor kept there.
    sampling: Mapping[str, Any] = field(default_factory=dict)
    clean: bool | None = None  # clean the answer; None cleans the answers of subjects
    compute: bool = True  # let the exact tool answer what it can
    cache: bool = True  # use the answer cache
    # What the answer must look like. Such an answer is neither computed nor cleaned.
    constraint: Constraint | None = None
    declared: bool = True  # without a constraint, use the one that the subject declares

    def form(self, settings: Settings, subject: str | None) -> Constraint | None:
        """What the answer must look like; a subject of None is the bare model."""
        if self.constraint or not subject or not self.declared:
            return self.constraint
        return settings.subjects[subject].constraint

    def params(self, settings: Settings, subject: str | None) -> SamplingParams:
        """How tokens are picked, and when to stop; a subject of None is the bare model."""
        # A form says itself when an answer may end.
        free = subject is not None and self.form(settings, subject) is None
        wanted = {
            "temperature": settings.temperature,
            "top_k": settings.top_k,
            "top_p": min(settings.top_p, settings.top_p_cap),
            "repetition_penalty": settings.repetition_penalty,
            "min_new_tokens": settings.min_new_tokens if free else 0,
            "max_new_tokens": settings.longest_answer_of(subject),
            "stop": settings.stop,
            **self.sampling,
        }
        least = min(wanted.pop("min_new_tokens"), wanted["max_new_tokens"])
        return SamplingParams(**wanted, min_new_tokens=least)


AS_SET = Overrides()
