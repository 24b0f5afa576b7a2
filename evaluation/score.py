"""The contest's arithmetic.

Accuracy without guessing is 60 % of the score, latency 40 %, each as a share of the best run's:

    score = 0.6 * accuracy / best accuracy + 0.4 * best latency / latency

A run is barred if its accuracy is under the gate, if the pipeline failed, or if the contest would
not accept its output: it scores 0, and other runs are not compared with it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from evaluation.errors import EvaluationError
from evaluation.records import Interval, Latency, Result, Run, Summary
from runtime.common.intervals import bootstrap

GATE = 0.1
ACCURACY_WEIGHT = 0.6
LATENCY_WEIGHT = 0.4
_PAIRED_RESAMPLES = 2_000
_PERCENTILES = (2.5, 97.5)
_SEED = 0
# Answers of pipelines that know satisfy hardly any other question than their own.
_GUESSED = 0.05
# In this order; others come after them.
_DIFFICULTIES = ["easy", "medium", "hard"]


def interval(correct: Sequence[bool]) -> Interval:
    """The share of what is right with its percentile bootstrap interval."""
    right, n = sum(correct), len(correct)
    low, high = bootstrap(right, n)
    return Interval(mean=right / n, low=low, high=high, n=n)


def credited(credits: Sequence[float]) -> Interval:
    """The mean of credits, each 0.0 to 1.0, with its percentile bootstrap interval."""
    mean = sum(credits) / len(credits)
    low, high = np.percentile(_resampled(np.array([credits])), _PERCENTILES)
    return Interval(mean=mean, low=min(mean, low), high=max(mean, high), n=len(credits))


def _resampled(credits: np.ndarray) -> np.ndarray:
    """Means of (runs, questions), shape (resamples, runs); the same questions for all runs."""
    n = credits.shape[1]
    counts = np.random.default_rng(_SEED).multinomial(n, np.full(n, 1 / n), _PAIRED_RESAMPLES)
    means: np.ndarray = counts @ credits.T / n
    return means


def guessing(summary: Summary) -> str:
    """A warning if answers of a run satisfy other questions than their own, else ""."""
    shares = {s: share for s, share in summary.guessed.items() if share > _GUESSED}
    if not shares:
        return ""
    told = ", ".join(f"{share:.0%} in {s}" for s, share in shares.items())
    return f"its answers satisfy other questions of their kind as well: {told}"


def accuracies(results: Sequence[Result], part: str) -> dict[str, Interval]:
    """Accuracy for each value of "subject" or "difficulty"; results without one are left out."""
    parts: dict[str, list[bool]] = {}
    for result in results:
        value = getattr(result, part)
        if value is not None:
            parts.setdefault(value, []).append(result.correct)
    return {value: interval(correct) for value, correct in sorted(parts.items(), key=_order)}


def _order(part: tuple[str, object]) -> tuple[int, str]:
    name = part[0]
    return (_DIFFICULTIES.index(name) if name in _DIFFICULTIES else len(_DIFFICULTIES), name)


def latency(run: Run) -> Latency | None:
    """Speed of the one call; None if it never ended."""
    total = run.call_seconds
    if total is None:
        return None
    ready = run.answer_seconds
    return Latency(
        total=total,
        per_question=total / len(run.answers),
        p50=float(np.percentile(ready, 50)) if ready else None,
        p95=float(np.percentile(ready, 95)) if ready else None,
        tokens_per_second=_over(run.stats.get("new_tokens"), total),
        prefill_share=_share(run.stats.get("prefill_seconds"), total),
        decode_share=_share(run.stats.get("decode_seconds"), total),
        other_cores=_other_cores(run),
    )


# The system counts CPU time in hundredths of a second: so much is noise.
_CPU_NOISE = 0.1
# Of a core: what any desktop or server does beside.
_DISTURBING = 0.1


def _other_cores(run: Run) -> float | None:
    others = run.other_cpu_seconds
    if others is None or not run.call_seconds:
        return None
    return 0.0 if others < _CPU_NOISE else others / run.call_seconds


def disturbance(summary: Summary) -> str:
    """A warning if other programs used the CPU during the call, else ""."""
    cores = summary.latency and summary.latency.other_cores
    if not cores or cores < _DISTURBING:
        return ""
    return f"other programs kept {cores:.1f} cores busy during the call"


def _over(part: float | None, total: float) -> float | None:
    return None if part is None else part / total


def _share(part: float | None, total: float) -> float | None:
    """None as well for impossible figures: they are the pipeline's own."""
    return None if part is None or not 0 <= part <= total else part / total


def barred(summary: Summary) -> str:
    """Why a run scores nothing, or ""."""
    if summary.failure:
        return summary.failure
    if summary.violations:
        n = len(summary.violations)
        return summary.violations[0] + (f" (and {n - 1} more)" if n > 1 else "")
    if summary.latency is None:
        return "the call never ended"
    if not summary.gated:
        return ""
    which = "accuracy" if summary.accuracy.mean < GATE else "accuracy without guessing"
    return f"{which} is under {GATE:.0%}"


@dataclass(frozen=True)
class Standing:
    """A run among others; shares and scores are 0.0 to 1.0.

    Attributes:
        barred: why the run scores nothing, or "".
        accuracy_share: accuracy / best accuracy, both without guessing; `latency_share` is best
            latency / latency.
        low, high: 95 % bootstrap interval of the score. Questions are resampled, the same for
            all runs; each latency was measured once and is used as it is.
    """

    summary: Summary
    barred: str
    accuracy_share: float
    latency_share: float
    score: float
    low: float
    high: float


def standings(runs: Sequence[tuple[Summary, Sequence[float]]]) -> list[Standing]:
    """The contest's leaderboard, best first.

    Args:
        runs: each with what its answers count, 0.0 to 1.0, the same questions in all.

    Raises:
        EvaluationError: runs that cannot be compared.
    """
    refuse_incomparable([summary for summary, _ in runs])
    reasons = [barred(summary) for summary, _ in runs]
    fit = np.array([not reason for reason in reasons])
    credits = np.array([answers for _, answers in runs], dtype=float)  # runs x questions
    seconds = np.array([s.latency.total if s.latency else np.inf for s, _ in runs])
    latency_share = np.zeros(len(runs))
    latency_share[fit] = seconds[fit].min(initial=np.inf) / seconds[fit]
    accuracy_share, score = _scores(credits.mean(axis=1), latency_share, fit)
    _, resampled = _scores(_resampled(credits), latency_share, fit)
    low, high = np.percentile(resampled, _PERCENTILES, axis=0)
    columns = (accuracy_share, latency_share, score, low, high)
    rows = [
        Standing(summary, reasons[row], *(float(column[row]) for column in columns))
        for row, (summary, _) in enumerate(runs)
    ]
    return sorted(rows, key=lambda row: (-row.score, -row.summary.counted.mean))


def _scores(
    accuracy: np.ndarray, latency_share: np.ndarray, fit: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """(accuracy shares, scores) from accuracies, shape (..., runs); 0 under the gate."""
    fit = fit & (accuracy >= GATE)
    best = np.max(np.where(fit, accuracy, 0.0), axis=-1, keepdims=True, initial=0.0)
    share = np.where(fit, accuracy / np.where(best > 0, best, 1.0), 0.0)
    score = ACCURACY_WEIGHT * share + LATENCY_WEIGHT * np.where(fit, latency_share, 0.0)
    return share, score


def refuse_incomparable(summaries: Iterable[Summary]) -> None:
    """Raises EvaluationError unless questions, judge and machine are the same in all."""
    first, *others = summaries
    for other in others:
        if problem := difference(first, other):
            raise EvaluationError(f"{first.name} and {other.name} cannot be compared: {problem}")


def difference(one: Summary, other: Summary) -> str:
    """Why two runs cannot be compared, and what to do about it; or ""."""
    asked = [(each.questions_sha256, each.accuracy.n) for each in (one, other)]
    if asked[0] != asked[1]:
        return (
            f"they answered different questions ({one.questions} and {other.questions}, or"
            " another version of the file): run both with the same file"
        )
    if one.judge != other.judge:
        return f"they were judged by {one.judge} and {other.judge}: use the same judge for both"
    if one.machine != other.machine:
        return (
            f"they ran on different machines ({one.machine}; {other.machine}), whose speeds"
            " are not comparable: run both on the same one"
        )
    return ""
