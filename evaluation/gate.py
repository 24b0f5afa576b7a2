"""The gate for CI: decides whether a run passes."""

from __future__ import annotations

from evaluation import score
from evaluation.errors import EvaluationError
from evaluation.records import Summary


def shortfalls(
    summary: Summary,
    min_accuracy: float | None,
    max_slowdown: float | None,
    baseline: Summary | None,
) -> list[str]:
    """Reasons why a run does not pass, one line each; empty if it passes.

    A run whose pipeline failed, or whose output the contest would not accept, never passes.

    Args:
        min_accuracy: share from 0 to 1 that the accuracy without guessing must reach, or None.
        max_slowdown: how many times the baseline's seconds the call may take, or None.

    Raises:
        EvaluationError: the baseline cannot be compared with the run.
    """
    if baseline:
        refuse_incomparable(baseline, summary.questions_sha256, summary.machine)
    lines = []
    if summary.failure or summary.violations:
        lines.append(score.barred(summary))
    accuracy = summary.counted.mean
    if min_accuracy is not None and accuracy < min_accuracy:
        lines.append(
            f"accuracy {accuracy:.1%} is {100 * (min_accuracy - accuracy):.1f} points below the"
            f" required {min_accuracy:.1%}"
        )
    if max_slowdown is not None and baseline and baseline.latency and summary.latency:
        seconds, allowed = summary.latency.total, max_slowdown * baseline.latency.total
        if seconds > allowed:
            lines.append(
                f"the call took {seconds:.2f} s, {seconds / baseline.latency.total:.2f} times the"
                f" {baseline.latency.total:.2f} s of {baseline.name}; {max_slowdown:g} times"
                f" ({allowed:.2f} s) are allowed"
            )
    return lines


def doubts(summary: Summary, max_slowdown: float | None, baseline: Summary | None) -> list[str]:
    """Reasons why two latencies may not be comparable, one line each."""
    if max_slowdown is None or baseline is None:
        return []
    return [
        f"{run.name}: {found}, so its latency may be too long: evaluate it again on a quiet machine"
        for run in (summary, baseline)
        if (found := score.disturbance(run))
    ]


def refuse_incomparable(baseline: Summary, questions_sha256: str, machine: str) -> None:
    """Raise EvaluationError unless speeds can be compared with the baseline's."""
    if baseline.questions_sha256 != questions_sha256:
        raise EvaluationError(
            f"the baseline {baseline.name} answered other questions ({baseline.questions}, or"
            " another version of it): evaluate it again with this file"
        )
    if baseline.machine != machine:
        raise EvaluationError(
            f"the baseline {baseline.name} ran on another machine ({baseline.machine}; this is"
            f" {machine}): evaluate it again on this one"
        )
