"""`python -m benchmarks.peers`: this pipeline beside other ways to answer the same questions.

Every contender runs in its own process, on the same GGUF file, prompts, threads and limits, greedy,
and cannot end an answer early, so that all write the same number of tokens. Figures are medians
over rounds; each round has another order. Loading is timed separately.

Results are collected in `<out>/results.json`: a call with `--only` or `--rounds 1` adds to those of
earlier calls. Runs of another build are dropped.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from runtime.common.command import parser_for, run

_PROJECT_DIR = Path(__file__).resolve().parents[1]


def main(argv: list[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    parser = parser_for(__doc__)
    add = parser.add_argument
    add("--model", default="demo", help="a GGUF file, or demo (default)")
    add("--questions", type=Path, nargs="+", help="files with questions, taken in turn")
    add("--count", type=int, help="how many (default: 128 for the demo, else 32)")
    add("--slots", type=int, help="at once (default: 16 for the demo, else 32)")
    add("--rounds", type=int, default=3, help="0 only shows earlier results (default: 3)")
    add("--only", nargs="+", default=[], metavar="NAME", help="these contenders alone")
    add("--skip", nargs="+", default=[], metavar="NAME", help="all but these")
    add("--fresh", action="store_true", help="forget earlier results in --out")
    add("--out", type=Path, required=True, help="folder for results.json, table.md, peers.png")
    add(
        "--peers-python",
        type=Path,
        default=_PROJECT_DIR / ".venv-peers" / "bin" / "python",
        help="Python with the peers' packages (default: that of make bench-peers)",
    )
    return run(_compare, parser.parse_args(argv), "stopped; finished runs are kept")


def _compare(arguments: argparse.Namespace) -> int:
    from benchmarks.race import compare

    compare(arguments)
    return 0


if __name__ == "__main__":
    sys.exit(main())
