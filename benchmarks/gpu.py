"""`python -m benchmarks.gpu`: this engine on a GPU, beside llama.cpp's own programs.

For each number of slots: bare calls of `llama_decode`, and of `llama-batched-bench` where its path
is given, this engine's generation with as many prompts as slots, this engine with many more prompts
than slots, and `llama-server` (where its path is given) with the same prompts over HTTP; this
engine with an adapter for each subject, and with a merged file for each. All greedy, no answer ends
early. Memory is what the card has less while the engine is there.

What was measured is in `<out>/gpu.json` after each figure, and a table of it is printed.
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
    add("--prompt-tokens", type=int, default=60, help="of a prompt, about (default: 60)")
    add("--new-tokens", type=int, default=128, help="of an answer (default: 128)")
    add("--adapters", type=int, default=5, help="or merged files (default: 5)")
    add("--batched-bench", type=Path, help="llama.cpp's program llama-batched-bench")
    add("--llama-server", type=Path, help="llama.cpp's program llama-server")
    add("--what", nargs="+", default=["bare", "bench", "ours", "adapters", "server"])
    add("--options", default="{}", help="of the engine, as JSON, for comparisons")
    return run(_measure, parser.parse_args(argv), "stopped; what was measured is kept")


def _measure(arguments: argparse.Namespace) -> int:
    from benchmarks.gpu_speed import measure

    measure(arguments)
    return 0


if __name__ == "__main__":
    sys.exit(main())
