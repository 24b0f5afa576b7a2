"""`python -m lab.adapters`: what adapters change, on questions they were not trained on.

Answers the same questions without and with the adapters and reports for each subject: the shares
of answers that are right for a judge of `evaluation` and to the letter, the share of questions with
choices whose right choice is the likeliest, and the log-likelihood of the right answer.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from runtime.common.command import parser_for, run

if TYPE_CHECKING:
    from evaluation.records import Item
    from runtime import Pipeline


@dataclass(frozen=True)
class Outcome:
    """A pipeline's result on one question.

    Attributes:
        right: the judge accepted the answer.
        exact: the answer equals a reference except for case and punctuation.
        chosen: the right choice is the likeliest per byte; None without choices.
        likelihood: log-probability of the right answer, in nats.
    """

    right: bool
    exact: bool
    chosen: bool | None
    likelihood: float


def outcomes(pipeline: Pipeline, items: Sequence[Item]) -> list[Outcome]:
    """Answer and score every question."""
    from tqdm import tqdm

    from evaluation.judges import judge
    from evaluation.judges.text import tokens

    asked = [{"questionID": i.id, "subject": i.subject, "question": i.question} for i in items]
    answers = [answer["answer"] for answer in pipeline(asked)]
    found = []
    rows = zip(items, asked, answers, strict=True)
    for item, question, answer in tqdm(rows, total=len(items), unit="q", disable=None):
        reference = item.references[0]
        others = [choice for choice in item.choices if choice not in item.references]
        likely = pipeline.log_likelihoods(question, [reference, *others])
        # Per byte, or short choices would win; tokens depend on the model.
        rates = [x / len(t.encode()) for x, t in zip(likely, [reference, *others], strict=True)]
        found.append(
            Outcome(
                right=judge(item, answer).correct,
                exact=any(tokens(answer) == tokens(r) for r in item.references),
                chosen=rates[0] > max(rates[1:]) if others else None,
                likelihood=likely[0],
            )
        )
    return found


def report(items: Sequence[Item], before: list[Outcome], after: list[Outcome]) -> str:
    """Before and after for each subject, with the standard error of the paired difference."""
    from benchmarks.common import table

    forms = {"right": "{:.1%}", "exact": "{:.1%}", "chosen": "{:.1%}", "likelihood": "{:.2f}"}
    rows = []
    for subject in dict.fromkeys(item.subject for item in items):
        mine = [n for n, item in enumerate(items) if item.subject == subject]
        cells = [
            _cell([(getattr(before[n], name), getattr(after[n], name)) for n in mine], form)
            for name, form in forms.items()
        ]
        rows.append([subject, len(mine), *cells])
    return table(
        "subject | questions | judged right | exactly right | right choice likeliest"
        " | log-likelihood of the right answer",
        rows,
    )


def _cell(pairs: Sequence[tuple[float | None, float | None]], form: str) -> str:
    import numpy as np

    values = np.array([pair for pair in pairs if None not in pair], np.float64)
    if not len(values):
        return "no choices"
    before, after = values.mean(axis=0)
    error = (values[:, 1] - values[:, 0]).std() / np.sqrt(len(values))
    return f"{form.format(before)} → **{form.format(after)}** (± {form.format(error)})"


def main(argv: list[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    parser = parser_for(__doc__)
    parser.add_argument("--model", default="demo", help="MODEL_NAME (default: demo)")
    parser.add_argument(
        "--adapters", type=Path, default=Path("loras"), help="ADAPTERS_BASE_DIR (default: loras)"
    )
    parser.add_argument(
        "--questions", type=Path, nargs="+", required=True, help="files with right answers"
    )
    parser.add_argument("--new-tokens", type=int, default=48, help="longest answer (default: 48)")
    return run(_compare, parser.parse_args(argv), "stopped")


def _compare(arguments: argparse.Namespace) -> int:
    from evaluation.questions import read
    from runtime import Settings, loadPipeline

    items = [item for path in arguments.questions for item in read(path).items if item is not None]
    found = []
    for adapters in (None, arguments.adapters):
        settings = Settings.load(
            model_name=arguments.model,
            adapters_base_dir=adapters,
            max_new_tokens=arguments.new_tokens,
            min_new_tokens=1,
            temperature=0.0,
        )
        with loadPipeline(settings) as pipeline:
            found.append(outcomes(pipeline, items))
    print(report(items, *found))
    return 0


if __name__ == "__main__":
    sys.exit(main())
