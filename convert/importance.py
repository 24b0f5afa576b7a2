"""`python -m convert.importance`: compute an importance matrix for quantizing.

python -m convert.importance MODEL.gguf --text FILE [FILE ...] --output FILE
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from runtime.common.command import parser_for, run


def main(argv: list[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    parser = parser_for(__doc__)
    parser.add_argument("model", type=Path, help="a GGUF file, preferably in a float type")
    parser.add_argument("--text", type=Path, nargs="+", required=True, help="calibration text")
    parser.add_argument("--output", type=Path, required=True, help="file to write")
    parser.add_argument("--chunks", type=int, default=200, help="chunks at most (default: 200)")
    return run(_save, parser.parse_args(argv), "stopped; nothing was written")


def _save(arguments: argparse.Namespace) -> int:
    from convert.imatrix import compute

    importance = compute(arguments.model, arguments.text, arguments.chunks)
    importance.save(arguments.output)
    print(f"{arguments.output}: {len(importance.sums)} weights, {importance.chunks} chunks")
    return 0


if __name__ == "__main__":
    sys.exit(main())
