"""Prepares a corpus for training: split, with passages, tokenized in the prompts of serving."""

from __future__ import annotations

import logging
import statistics
from dataclasses import asdict, dataclass
from pathlib import Path

from runtime.common.hashing import fingerprint, sha256
from runtime.prompts import frame, tokenized_frame
from runtime.retrieval import Index
from runtime.subjects import Subjects
from training.base import Base
from training.corpus import read_corpus, split
from training.errors import TrainingError
from training.examples import Example, make_examples
from training.informed import with_passages
from training.options import Options

log = logging.getLogger(__name__)

# Increased when the same options get another meaning, so that old adapters are trained again.
_FORMAT = 1
# Tokens of an answer that has no steps.
_BRIEF = 8


@dataclass(frozen=True)
class Plan:
    """What to train an adapter on.

    Attributes:
        subject: the subject of the adapter.
        data: its corpus.
        options: how to train.
        skip_bad: skip bad records; otherwise refuse the corpus.
        knowledge: knowledge base; each question is also trained on with passages from it.
        top_k: most passages that are shown.
    """

    subject: str
    data: Path
    options: Options
    skip_bad: bool = True
    knowledge: Index | None = None
    top_k: int = 3


@dataclass(frozen=True)
class Lesson:
    """A corpus, split and tokenized.

    Attributes:
        plan: its inputs.
        head: token ids at the beginning of every prompt.
        train, held_out: examples for training and for evaluation.
        informed: how many training examples have passages.
        solved: how many have the solution before the answer.
        data_sha256: hash of the corpus.
        inputs: fingerprint of everything that the adapter depends on.
    """

    plan: Plan
    head: list[int]
    train: list[Example]
    held_out: list[Example]
    informed: int
    solved: int
    data_sha256: str
    inputs: str


def prepare(plan: Plan, base: Base, subjects: Subjects) -> Lesson:
    """Read, split and tokenize a corpus for a base.

    Raises:
        TrainingError, SetupError: the corpus is missing or bad, or the base cannot be used.
    """
    options, knowledge, subject = plan.options, plan.knowledge, plan.subject
    train, held_out = split(read_corpus(plan.data, plan.skip_bad), options.holdout, options.seed)
    if knowledge:
        train = with_passages(train, knowledge, plan.top_k)
        held_out = with_passages(held_out, knowledge, plan.top_k)
    with base.tokenizer() as tokenizer:
        tokens = tokenized_frame(tokenizer, subject, subjects)
        examples, held = (
            make_examples(pairs, tokenizer, tokens, options.max_tokens)
            for pairs in (train, held_out)
        )
        template = frame(tokenizer.chat_template, subjects[subject].instruction)
    if not examples:
        raise TrainingError(f"{plan.data}: every answer is longer than --max-tokens allows")
    length = statistics.median(len(example.answer) for example in examples)
    if subjects[subject].length > 1 and length <= _BRIEF:
        log.warning(
            '%s: short answers and no "solution"; a small model that learns to answer %s without'
            " steps loses most right answers (docs/training.md)",
            plan.data,
            subject,
        )
    data_sha256 = sha256(plan.data)
    parts = [_FORMAT, base.fingerprint, data_sha256, plan.skip_bad, asdict(options)]
    parts += [subject, template.head, template.tail, template.end]
    parts += [knowledge.base_sha256, plan.top_k] if knowledge else []
    parts += ["solutions"] if any(pair.solution for pair in train + held_out) else []
    return Lesson(
        plan=plan,
        head=tokens.head,
        train=examples,
        held_out=held,
        informed=sum(bool(pair.passages) for pair in train),
        solved=sum(bool(pair.solution) for pair in train),
        data_sha256=data_sha256,
        inputs=fingerprint(parts),
    )
