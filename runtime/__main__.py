"""`python -m runtime`: answer a file of questions.

python -m runtime --input questions.jsonl --output answers.jsonl
python -m runtime --input questions.jsonl --output answers.jsonl --resume
python -m runtime --show-settings
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from runtime.common import command

if TYPE_CHECKING:
    from runtime.pipeline import Pipeline

# (subject, question), answered when no file is given.
_BUILT_IN = (
    ("algebra", "Solve for x: 3x + 4 = 19."),
    ("geography", "What is the capital of France?"),
    ("history", "In which year did World War II end?"),
    ("chinese", "中国的首都是哪里？"),
    ("general", "Which gas do plants take from the air?"),
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    options = _parser().parse_args(arguments)
    return command.run(
        _print_settings if options.show_settings else _answer,
        options,
        stopped=command.resumable(None if options.show_settings else options.output),
        verbose=options.verbose,
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m runtime", description=__doc__.split("\n")[0])
    parser.add_argument(
        "--input", type=Path, help="questions, JSON Lines; without it a small built-in batch"
    )
    parser.add_argument("--output", type=Path, help="file for the answers, JSON Lines")
    parser.add_argument(
        "--resume", action="store_true", help="go on with what a stopped run left beside OUTPUT"
    )
    parser.add_argument(
        "--show-settings", action="store_true", help="print every setting with its value, and stop"
    )
    parser.add_argument("--verbose", action="store_true", help="log llama.cpp's own messages too")
    return parser


def _print_settings(_: argparse.Namespace) -> int:
    """The settings with the values now in force, * where not the default; llama.cpp's build."""
    from runtime.engine import describe_build
    from runtime.fields import show
    from runtime.settings import Settings, all_settings

    settings = Settings.load()
    for setting in all_settings(settings.subjects):
        value = show(settings.value_of(setting.name))
        mark = " " if value == setting.default else "*"
        meaning = re.sub(r"\[\w+\]\((\S+?)\)", r"docs/\1", setting.meaning)  # links of the page
        print(f"{mark} {setting.name}={value}\n      {meaning} ({setting.allowed})")
    print(f"llama.cpp: {describe_build()}")
    return 0


def _answer(options: argparse.Namespace) -> int:
    from runtime.answer_file import answer_questions, questions_of
    from runtime.pipeline import loadPipeline
    from runtime.questions import Question
    from runtime.settings import Settings

    settings = Settings.load()
    source, target = options.input, options.output
    if source is None:
        numbered = enumerate(_BUILT_IN, start=1)
        questions = [Question(f"built-in-{n}", subject, text) for n, (subject, text) in numbered]
    else:
        questions = questions_of(source, target)
    answer_questions(
        questions, target, options.resume, settings, lambda: loadPipeline(settings), _speed
    )
    return 0


def _speed(pipeline: Pipeline, seconds: float) -> str:
    """For the line of the speed."""
    stats = pipeline.stats
    return (
        f", {stats.new_tokens / seconds:.0f} new tokens/s; prefill {stats.prefill_seconds:.1f} s,"
        f" decode {stats.decode_seconds:.1f} s"
    )


if __name__ == "__main__":
    sys.exit(main())
