"""Finds out when a subject's knowledge helps, and chooses its gate.

Some of the questions are answered with and without passages, and the gate that gains the most
answers is chosen. It is tested on the others: unless it gains more answers there than chance would
explain, the gate is "off".
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from evaluation.judges import judge
from evaluation.questions import Questions
from evaluation.records import Item
from kb.asking import Asker, Said
from kb.choosing import Candidate, Trial, best_gates, try_gate
from runtime import Pipeline
from runtime.common.errors import UserError
from runtime.retrieval import Gate, Index
from runtime.retrieval.search import FEATURES, LONG, SHORT, Found, find

log = logging.getLogger(__name__)

# Features that need the model's own answers, so a second pass: measured for the evidence only.
SECOND_PASS = ("doubt", "likelihood")
# Fewer questions prove nothing.
FEWEST = 20


def calibrate(
    pipeline: Pipeline,
    index: Index,
    subject: str,
    questions: Questions,
    share: float = 0.4,
    most_luck: float = 0.1,
    journal: Path | None = None,
) -> Gate:
    """The gate for a subject's base, chosen on a part of some questions and proved on the rest.

    Args:
        pipeline: answers the questions; its knowledge is not used, its settings are.
        index: the base.
        questions: those of the subject are asked.
        share: share of the questions that the gate is chosen on.
        most_luck: the p-value that a gate may have on the others.
        journal: file that keeps answers, so that a stopped calibration can resume.

    Raises:
        UserError: too few questions of the subject, or one that cannot be answered.
    """
    items = [item for item in questions.items if item is not None and item.subject == subject]
    if len(items) < FEWEST:
        raise UserError(
            f"{questions.name}: {len(items)} questions of {subject}; {FEWEST} are needed, and a"
            " gate that gains a few answers in a hundred is proved by some hundreds"
        )
    asker = Asker(pipeline, journal)
    top_k = pipeline.settings.rag_top_k
    ordered = sorted(items, key=lambda item: hashlib.blake2b(item.question.encode()).digest())
    n = max(1, round(share * len(ordered)))
    choosing, proving = ordered[:n], ordered[n:]
    candidates, right_always = [], {}
    for words in (SHORT, LONG):  # of equal merit the first is taken: it costs less
        found = [find(index, item.question, top_k, words) for item in choosing]
        trials = _trials(asker, choosing, found)
        candidates += best_gates([*FEATURES, *SECOND_PASS], words, trials)
        right_always[str(words)] = sum(trial.shown for trial in trials)
    usable = [each for each in candidates if each.feature not in SECOND_PASS]
    best = max(usable, key=lambda each: each.merit)
    proof = None
    if best.merit > 0:
        proof = _prove(asker, index, top_k, best, proving)
    mode: Literal["off", "always", "threshold"] = "off"
    if proof is not None and proof.p <= most_luck:
        mode = "always" if best.feature == "always" else "threshold"
    route = pipeline.routes[subject]
    evidence: dict[str, Any] = {
        "questions": questions.name,
        "questions_sha256": questions.sha256,
        "longest_answer": pipeline.settings.longest_answer_of(subject),
        "chosen_on": {
            "questions": n,
            "right_without": sum(trial.without for trial in trials),
            "right_always": right_always,
            "candidates": [each.record() for each in candidates],
            "best": best.record() if best.merit > 0 else None,
        },
        "proved_on": proof.record() if proof else None,
        "most_luck": most_luck,
    }
    return Gate(
        subject=subject,
        base_sha256=index.base_sha256,
        mode=mode,
        feature=best.feature if mode == "threshold" else "",
        at_least=best.at_least if mode == "threshold" else 0.0,
        most_words=SHORT if mode == "off" else best.most_words,
        model=route.model.name,
        adapter=route.adapter.name if route.adapter else "",
        top_k=top_k,
        evidence=evidence,
    )


def _trials(asker: Asker, items: Sequence[Item], found: Sequence[Found]) -> list[Trial]:
    """Answer questions without passages, and with those found for them."""
    without = asker.ask(items, [()] * len(items))
    shown = asker.ask(items, [each.passages for each in found])
    return [
        Trial(
            features={**each.features, **_second_pass(bare, informed)},
            without=judge(item, bare.answer).correct,
            shown=judge(item, informed.answer).correct,
        )
        for item, each, bare, informed in zip(items, found, without, shown, strict=True)
    ]


def _second_pass(bare: Said, informed: Said) -> dict[str, float]:
    """How unsure the model is without passages (doubt), and how much surer with them."""
    return {"doubt": bare.doubt, "likelihood": informed.sureness - bare.sureness}


def _prove(
    asker: Asker, index: Index, top_k: int, gate: Candidate, items: Sequence[Item]
) -> Candidate:
    """Try a gate on other questions; only those that it lets through are answered."""
    found = [find(index, item.question, top_k, gate.most_words) for item in items]
    through = [
        n
        for n, each in enumerate(found)
        if gate.feature == "always" or each.features[gate.feature] >= gate.at_least
    ]
    trials = _trials(asker, [items[n] for n in through], [found[n] for n in through])
    tried = try_gate(gate.feature, gate.at_least, gate.most_words, trials)
    return replace(tried, questions=len(items))


def describe(gate: Gate) -> str:
    """The evidence of a gate, as a table and a sentence."""
    evidence = gate.evidence
    chosen, proof = evidence["chosen_on"], evidence["proved_on"]
    always = " or ".join(f"{n} with {words} words" for words, n in chosen["right_always"].items())
    lines = [
        f"chosen on {chosen['questions']} questions: {chosen['right_without']} right without"
        f" passages, {always} of passages for all",
        "",
        "| shown where | is at least | words | questions | gained | lost |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for each in chosen["candidates"]:
        at_least = "" if each["at_least"] is None else f"{each['at_least']:.3g}"
        lines.append(
            f"| {each['feature']} | {at_least} | {each['most_words']} | {each['shown']} |"
            f" {each['gained']} | {each['lost']} |"
        )
    lines.append("")
    if proof is None:
        lines.append("no gate gains more answers than it loses beyond chance")
    else:
        lines.append(
            f"proved on {proof['questions']} others: {proof['feature']} lets through"
            f" {proof['shown']}, gains {proof['gained']} and loses {proof['lost']}"
            f" (p = {proof['p']:.3f}, at most {evidence['most_luck']} is allowed)"
        )
    return "\n".join([*lines, f"{gate.subject}: {gate}"])
