"""The judges by rules: no network, no model, always the same verdict."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

from evaluation.judges import chinese, choice, facts, math, yes_no
from evaluation.judges.text import has_han, is_refusal, spelled
from evaluation.records import Item, Verdict
from runtime.subjects import Subjects

# What a pipeline answers where it could not.
_ERROR = "error:"


def judge(item: Item, answer: str) -> Verdict:
    """Judge an answer by what its question needs.

    Questions with choices are judged by choice, those whose answer is yes or no by that, and all
    others as their subject wants it: by value ("math"), by character ("chinese") or as facts.
    """
    if not item.choices and (choices := choice.shown(item.question)):
        item = replace(item, choices=choices)
    return settled(item, answer) or _judge(item, answer)


def settled(item: Item, answer: str) -> Verdict | None:
    """The verdict on an answer that no judge need look at, or None.

    An empty answer, an error and a refusal are wrong; one that equals a reference is right.
    """
    said = _plain(answer)
    if not said:
        return Verdict(False, 0.0, "empty", "the answer is empty")
    if any(said == _plain(reference) for reference in item.references):
        return Verdict(True, 1.0, "equal", "equals a reference")
    if said.startswith(_ERROR):
        return Verdict(False, 0.0, "error", "the pipeline could not answer")
    if is_refusal(answer):
        return Verdict(False, 0.0, "refusal", "the answer declines to answer")
    return None


def _judge(item: Item, answer: str) -> Verdict:
    kind = item.judge or _usual_subjects().of(item.subject).judge
    if item.choices:
        return choice.judge(item, answer, _judge)
    wanted = {yes_no.decides(reference) for reference in item.references}
    if len(wanted) == 1 and (yes := wanted.pop()) is not None:
        return yes_no.judge(item, answer, yes)
    if kind == "math":
        return math.judge(item, answer)
    if kind == "chinese" or any(map(has_han, item.references)):
        return chinese.judge(item, answer)
    return facts.judge(item, answer)


@cache
def _usual_subjects() -> Subjects:
    return Subjects.load()


def _plain(text: str) -> str:
    """A text in its one spelling, white space single, without a full stop at its end."""
    words = " ".join(spelled(text).split())
    return words.rstrip(".。 ") or words
