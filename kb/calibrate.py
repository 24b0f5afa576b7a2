"""`python -m kb.calibrate`: finds out when a subject's knowledge helps, and writes the gate."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from runtime.common.command import parser_for, run


def main(argv: list[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    parser = parser_for(__doc__)
    parser.epilog = (
        "Model, adapters and RAG_TOP_K are those of the environment, as in serving; answers are"
        " greedy."
    )
    parser.add_argument("--subject", required=True, help="the subject of the base")
    parser.add_argument(
        "--questions", required=True, nargs="+", type=Path, help="files with right answers"
    )
    parser.add_argument("--kb", type=Path, help="folder of the base (default: as in serving)")
    parser.add_argument("--limit", type=int, help="number of questions (default: all)")
    parser.add_argument(
        "--share", type=float, default=0.4, help="share of them to choose on (default: 0.4)"
    )
    parser.add_argument(
        "--most-luck",
        type=float,
        default=0.1,
        help="p-value that the gate may have on the others (default: 0.1)",
    )
    parser.add_argument(
        "--journal", type=Path, help="file that keeps answers, so that a stopped run can resume"
    )
    arguments = parser.parse_args(argv)
    stopped = "stopped; no gate was written"
    if arguments.journal:
        stopped += ", the same command continues from the answers in the journal"
    else:
        stopped += "; with --journal FILE a stopped run can resume"
    return run(_calibrate, arguments, stopped)


def _calibrate(arguments: argparse.Namespace) -> int:
    from evaluation.questions import read
    from kb.calibration import calibrate, describe
    from runtime import Settings, loadPipeline
    from runtime.common.errors import UserError
    from runtime.retrieval import Index

    settings = Settings.load(temperature=0.0, rag_enabled_subjects={})
    subject = arguments.subject
    settings.subjects.check(subject, "--subject")
    if not 0 < arguments.share < 1:
        raise UserError(f"--share {arguments.share}: must be between 0 and 1")
    if not 0 <= arguments.most_luck <= 1:
        raise UserError(f"--most-luck {arguments.most_luck}: must be from 0 to 1")
    if arguments.limit is not None and arguments.limit < 1:
        raise UserError(f"--limit {arguments.limit}: must be at least 1")
    questions = read(*arguments.questions)
    if arguments.limit:
        questions.items[arguments.limit :] = []
    folder = arguments.kb or settings.rag_knowledge_base_dir
    index = Index.load(folder, subject)
    with loadPipeline(settings) as pipeline:
        gate = calibrate(
            pipeline,
            index,
            subject,
            questions,
            arguments.share,
            arguments.most_luck,
            arguments.journal,
        )
    print(describe(gate))
    print(gate.save(folder))
    return 0


if __name__ == "__main__":
    sys.exit(main())
