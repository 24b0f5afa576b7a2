"""`python -m benchmarks.load`: many clients of all subjects at once, against `runtime.serve`.

First one `pipeline(list)` answers the questions. Then many clients ask the server over HTTP, each
again as soon as it has its answer: this gives lost, doubled and mixed-up answers, the server's
memory, and its throughput compared with the list's. Then requests arrive at random, at shares of
the list's throughput: this gives the time to the first token. With --peers-python (`make
bench-peers` makes one), llama-server's engine behind its own HTTP server, with adapters chosen by
request, does the same; then both servers take turns of a minute, because a machine's speed changes
over such a long run.

All get the same prompts as token ids, the same GGUF adapters, slots and threads, and write the
same number of tokens, greedy. Questions repeat; both servers may find prompts in their caches.
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
    add("--clients", type=int, default=64, help="at once (default: 64)")
    add("--minutes", type=float, default=10, help="that they ask, the peer 3 at most (default: 10)")
    add("--rate-seconds", type=float, default=60, help="for each rate (default: 60)")
    add("--turns", type=int, default=3, help="a minute for each server (default: 3)")
    add("--peers-python", type=Path, help="Python with xllamacpp, for llama-server's engine")
    add("--out", type=Path, required=True, help="folder for results.json, table.md, load.png")
    return run(_measure, parser.parse_args(argv), "stopped")


def _measure(arguments: argparse.Namespace) -> int:
    from benchmarks.clients import measure

    measure(arguments)
    return 0


if __name__ == "__main__":
    sys.exit(main())
