"""`python -m evaluation`: score a pipeline as the contest does, or compare stored runs.

python -m evaluation --questions data/sample_questions.jsonl
python -m evaluation --questions Q.jsonl --pipeline other_package:loadPipeline --name theirs
python -m evaluation --questions Q.jsonl --name theirs --resume
python -m evaluation compare report/a report/b --output report/compare.html

A pipeline is package:function, path/to/file.py:function or path/to/folder:function. The report is
written to report/NAME/. Exit status: 0 evaluated, whatever the result; 1 bad input; 2 wrong
command line; 3 the run misses --min-accuracy or --max-slowdown (with either of them, also if the
pipeline failed or the contest would not accept its output); 130 stopped.
"""

from __future__ import annotations

import argparse
import math
import re
import sys
from collections.abc import Sequence
from pathlib import Path

from runtime.common.command import run


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    if given[:1] == ["compare"]:
        return run(_compare, _compare_parser().parse_args(given[1:]))
    options = _parser().parse_args(given)
    return run(_evaluate, options, "stopped; --resume keeps the answers if the call ended")


def _evaluate(options: argparse.Namespace) -> int:
    from evaluation import commands

    return commands.evaluate_pipeline(options)


def _compare(options: argparse.Namespace) -> int:
    from evaluation import commands

    return commands.compare_reports(options)


def _parser() -> argparse.ArgumentParser:
    assert __doc__
    parser = argparse.ArgumentParser(
        prog="python -m evaluation",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add(
        "--questions",
        type=Path,
        nargs="+",
        required=True,
        metavar="FILE",
        help="questions with right answers, JSON Lines",
    )
    add("--pipeline", default="inferencePipeline:loadPipeline", help="default: %(default)s")
    add("--name", type=_folder_name, help="name of the run; default: that of the pipeline")
    add("--reports", type=Path, default=Path("report"), help="where reports go: %(default)s/")
    add("--resume", action="store_true", help="continue a stopped evaluation")
    add("--timeout", type=_positive, default=3600.0, help="seconds for the call (%(default)g)")
    add("--setup-timeout", type=_positive, default=3600.0, help="seconds for loading (%(default)g)")
    add(
        "--hide",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="hide questions and reports from the pipeline, where the system allows it",
    )
    judges = parser.add_argument_group("judges")
    add = judges.add_argument
    kinds = ["rules", "model"]
    add("--judge", type=_judge, choices=kinds, help="default: a model if one is given, else rules")
    add(
        "--judge-model",
        metavar="URL|FILE",
        help="a model that judges: the URL of an OpenAI-compatible server, or a .gguf file",
    )
    add("--judge-name", help="name of the model on the server, if that has several")
    add("--judge-budget", type=_count, help="most prompts for the model")
    gates = parser.add_argument_group("gate")
    add = gates.add_argument
    add("--min-accuracy", type=_share, help="0.0 to 1.0; exit status 3 if it is less")
    add(
        "--max-slowdown",
        type=_positive,
        help="exit status 3 if the call takes more than this many times BASELINE's",
    )
    add("--baseline", type=Path, help="folder of a report from this machine")
    return parser


def _compare_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m evaluation compare", description="The leaderboard of stored runs."
    )
    parser.add_argument("reports", type=Path, nargs="+", help="folders of reports")
    parser.add_argument("--output", type=Path, help="write the leaderboard as a page too")
    return parser


def _judge(text: str) -> str:
    return "rules" if text == "cheap" else text  # the former name of the rules


def _folder_name(text: str) -> str:
    if not re.fullmatch(r"\w[\w.-]*", text):
        raise argparse.ArgumentTypeError("letters, digits, '.', '-' and '_' only")
    return text


def _positive(text: str) -> float:
    value = float(text)
    if not 0 < value < math.inf:
        raise argparse.ArgumentTypeError("must be over 0")
    return value


def _count(text: str) -> int:
    value = int(text)
    if value < 0:
        raise argparse.ArgumentTypeError("must be 0 or more")
    return value


def _share(text: str) -> float:
    value = float(text)
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError("must be from 0.0 to 1.0")
    return value


if __name__ == "__main__":
    sys.exit(main())
