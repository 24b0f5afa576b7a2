"""Chooses a gate from questions that were answered with and without passages."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import inf, sqrt
from typing import Any

from runtime.common.intervals import sign_test

# No threshold lets through less than this share of the questions: it could not be proved.
_FEWEST_SHOWN = 0.04


@dataclass(frozen=True)
class Trial:
    """A question that was answered both ways.

    Attributes:
        features: the values that a gate may decide by.
        without, shown: whether the answer is right without passages, and with them.
    """

    features: Mapping[str, float]
    without: bool
    shown: bool


@dataclass(frozen=True)
class Candidate:
    """A gate, and its result on some questions.

    Attributes:
        feature, at_least: passages are shown where the feature has at least this value.
        most_words: words of passages that are shown, at most.
        questions, shown: how many questions there were, and how many it let through.
        gained: answers that were wrong without passages and right with them; `lost` the reverse.
    """

    feature: str
    at_least: float
    most_words: int
    questions: int
    shown: int
    gained: int
    lost: int

    @property
    def merit(self) -> float:
        """Answers gained minus those lost, minus one standard error of the difference."""
        return self.gained - self.lost - sqrt(self.gained + self.lost)

    @property
    def p(self) -> float:
        """The p-value of its gain: the exact one-sided sign test (McNemar)."""
        return sign_test(self.gained, self.lost)

    def record(self) -> dict[str, Any]:
        """As a JSON object, rounded."""
        return {
            "feature": self.feature,
            "at_least": None if self.at_least == -inf else round(self.at_least, 4),
            "most_words": self.most_words,
            "questions": self.questions,
            "shown": self.shown,
            "gained": self.gained,
            "lost": self.lost,
            "p": round(self.p, 4),
        }


def try_gate(feature: str, at_least: float, most_words: int, trials: Sequence[Trial]) -> Candidate:
    """What a gate does on questions; the feature "always" lets all of them through."""
    every = feature == "always"
    through = [trial for trial in trials if every or trial.features[feature] >= at_least]
    gained = sum(trial.shown and not trial.without for trial in through)
    lost = sum(trial.without and not trial.shown for trial in through)
    return Candidate(feature, at_least, most_words, len(trials), len(through), gained, lost)


def best_gates(
    features: Sequence[str], most_words: int, trials: Sequence[Trial]
) -> list[Candidate]:
    """The best threshold of each feature, by merit, and last, passages for every question.

    Of equal merit the threshold that lets fewest through is taken, because passages cost time.
    """
    found = []
    fewest = max(1, round(_FEWEST_SHOWN * len(trials)))
    for feature in features:
        values = sorted({trial.features[feature] for trial in trials}, reverse=True)
        tried = [try_gate(feature, value, most_words, trials) for value in values]
        allowed = [each for each in tried if each.shown >= fewest] or tried[-1:]
        if allowed:
            found.append(max(allowed, key=lambda each: each.merit))
    return [*found, try_gate("always", -inf, most_words, trials)]
