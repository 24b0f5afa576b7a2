"""`python -m benchmarks.training_memory`: what steps of training take of a GPU, and how long.

The rows of docs/training.md: each loads the base anew, adapts it and trains on batches of questions
of the same length. Peak memory is what torch's allocator had at most, allocated and reserved; CUDA
itself takes about 1 GB more.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from runtime.common.command import run

_PROJECT_DIR = Path(__file__).resolve().parents[1]


def main(argv: list[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.training_memory",
        description=__doc__.partition(": ")[2].split("\n")[0],
    )
    add = parser.add_argument
    add("--model", default="demo", help="as for training.finetune (default: demo)")
    add("--tokens", type=int, default=80, help="of each question and answer (default: 80)")
    add(
        "--data",
        type=Path,
        default=_PROJECT_DIR / "data" / "corpora" / "history.jsonl",
        help="corpus (default: the demo's of history)",
    )
    return run(_measure, parser.parse_args(argv), "stopped")


def _measure(arguments: argparse.Namespace) -> int:
    from benchmarks.training_steps import measure

    measure(arguments)
    return 0


if __name__ == "__main__":
    sys.exit(main())
