"""`python -m benchmarks.gpu`: this engine on a GPU, beside llama.cpp's own programs.

Measures for each number of slots: bare calls of `llama_decode`; `llama-batched-bench`; this engine
with as many prompts as slots, and with many more; `llama-server` with the same prompts over HTTP;
this engine with several adapters, and with several merged files. llama.cpp's programs are measured
if their paths are given. All answers are greedy and of fixed length. Memory is the decrease of the
cards' free memory.

Each figure is written to `<out>/gpu.json` at once; a table is printed at the end.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from runtime.common.command import parser_for, run


def main(argv: list[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    parser = parser_for(__doc__)
    add = parser.add_argument
    add("--model", type=Path, required=True, help="GGUF file")
    add("--out", type=Path, default=Path("report/gpu"), help="folder (default: report/gpu)")
    add("--slots", type=int, nargs="+", default=[1, 16, 48, 128])
    add("--count", type=int, default=500, help="prompts, at most twelve for each slot")
    add("--adapters", type=int, default=5, help="or merged files (default: 5)")
    add("--batched-bench", type=Path, help="llama.cpp's program llama-batched-bench")
    add("--llama-server", type=Path, help="llama.cpp's program llama-server")
    add("--what", nargs="+", default=["bare", "bench", "ours", "adapters", "server"])
    return run(_measure, parser.parse_args(argv), "stopped; finished measurements are kept")


def _measure(arguments: argparse.Namespace) -> int:
    from benchmarks.gpu_speed import measure

    measure(arguments)
    return 0


if __name__ == "__main__":
    sys.exit(main())
