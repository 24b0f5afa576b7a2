"""`python -m kb.preprocess`: makes a subject's knowledge base and index from raw files.

python -m kb.preprocess --subject history --input raw/*.md --out kb
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from runtime.common.command import parser_for, run


def main(argv: list[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    parser = parser_for(__doc__)
    parser.add_argument("--subject", required=True, help="the subject of the base")
    parser.add_argument(
        "--input",
        required=True,
        nargs="+",
        type=Path,
        metavar="RAW",
        help="files or folders of raw knowledge",
    )
    parser.add_argument("--out", type=Path, default=Path("kb"), help="folder (default: kb)")
    stopped = "stopped; nothing was written, and a base that was there is as it was"
    return run(_make, parser.parse_args(argv), stopped)


def _make(arguments: argparse.Namespace) -> int:
    from kb.making import make
    from runtime.retrieval.files import base_path, index_path
    from runtime.settings import declared_subjects

    declared_subjects().check(arguments.subject, "--subject")
    print(make(arguments.subject, arguments.input, arguments.out))
    for path in (base_path, index_path):
        print(path(arguments.out, arguments.subject))
    return 0


if __name__ == "__main__":
    sys.exit(main())
