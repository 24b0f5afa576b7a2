"""`python -m benchmarks`: the pipeline, one question at a time, and llama.cpp's ceiling."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from runtime.common.command import parser_for, run


def main(argv: list[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    parser = parser_for(__doc__)
    parser.add_argument("--model", default="demo", help="MODEL_NAME (default: demo)")
    parser.add_argument(
        "--questions", type=Path, nargs="+", default=[], help="JSON Lines (default: the samples)"
    )
    parser.add_argument("--count", type=int, default=128, help="of questions (default: 128)")
    parser.add_argument("--slots", type=int, default=16, help="BATCH_SIZE (default: 16)")
    parser.add_argument("--new-tokens", type=int, default=64, help="longest answer (default: 64)")
    parser.add_argument("--rounds", type=int, default=3, help="rounds (default: 3)")
    parser.add_argument("--picture", type=Path, help="write a bar chart to this PNG file")
    return run(_measure, parser.parse_args(argv), "stopped")


def _measure(arguments: argparse.Namespace) -> int:
    from benchmarks.throughput import measure, picture, report

    rounds = measure(arguments)
    print(report(rounds))
    if arguments.picture:
        picture(rounds, arguments.picture)
    return 0


if __name__ == "__main__":
    sys.exit(main())
