"""`python -m lab.knowledge`: answers without passages, with passages always, and gated.

For each subject with a knowledge base, judged by the judges of `evaluation`. Without a gate file,
or with a gate that is "off", gated means without passages.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from evaluation.questions import read
from evaluation.score import ACCURACY_WEIGHT, LATENCY_WEIGHT, interval
from kb.comparing import Part, retrievals, ways
from runtime import Settings, loadPipeline
from runtime.common.command import parser_for, run
from runtime.common.intervals import sign_test

HEAD = (
    "| subject | passages | shown with | right | 95 % interval | against off | p | seconds"
    " | score |\n| --- | --- | --- | --- | --- | --- | --- | --- | --- |"
)


def main(argv: list[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    parser = parser_for(__doc__)
    parser.add_argument("--model", default="demo", help="MODEL_NAME (default: demo)")
    parser.add_argument("--adapters", type=Path, help="ADAPTERS_BASE_DIR")
    parser.add_argument("--kb", type=Path, default=Path("kb"), help="folder of bases and gates")
    parser.add_argument("--subjects", nargs="+", default=["geography", "history"])
    parser.add_argument(
        "--questions", type=Path, nargs="+", required=True, help="files with right answers"
    )
    parser.add_argument("--limit", type=int, help="at most this many questions of each subject")
    parser.add_argument("--new-tokens", type=int, default=32, help="longest answer (default: 32)")
    parser.add_argument("--slots", type=int, default=16, help="BATCH_SIZE (default: 16)")
    return run(_compare, parser.parse_args(argv), "stopped")


def _compare(arguments: argparse.Namespace) -> int:
    settings = Settings.load(
        model_name=arguments.model,
        adapters_base_dir=arguments.adapters,
        max_new_tokens=arguments.new_tokens,
        min_new_tokens=1,
        temperature=0.0,
        batch_size=arguments.slots,
    )
    items = [item for item in read(*arguments.questions).items if item is not None]
    print(HEAD, flush=True)
    with loadPipeline(settings) as pipeline:
        for subject in arguments.subjects:
            always, gated = retrievals(arguments.kb, subject, settings.rag_top_k)
            asked = [item for item in items if item.subject == subject][: arguments.limit]
            print("\n".join(rows(subject, *ways(pipeline, subject, asked, always, gated))))
            sys.stdout.flush()
    return 0


def rows(subject: str, found: dict[str, Part], let_through: int) -> list[str]:
    """A row below `HEAD` for each way; the contest's score counts "off" as the best run."""
    off = found["off"]
    lines = []
    for way, part in found.items():
        right = list(part.right.values())
        share = interval(right)
        gained, lost = map(len, part.against(off))
        before = sum(off.right.values())
        score = LATENCY_WEIGHT * off.processor / max(1e-9, part.processor)
        score += ACCURACY_WEIGHT * (sum(right) / before if before else 1.0)
        shown = {"off": 0, "always": len(right), "gated": let_through}[way]
        lines.append(
            f"| {subject} | {way} | {shown} of {len(right)} | {sum(right)} ({share.mean:.1%}) |"
            f" {share.low:.0%} to {share.high:.0%} | +{gained} −{lost} |"
            f" {sign_test(gained, lost):.3f} | {part.processor:.1f} | {score:.2f} |"
        )
    return lines


if __name__ == "__main__":
    sys.exit(main())
