"""`python -m runtime`: answer a file of questions.

python -m runtime --input questions.jsonl --output answers.jsonl
python -m runtime --input questions.jsonl --output answers.jsonl --resume
python -m runtime --show-settings
"""

from __future__ import annotations

import argparse
import hashlib
import io
import json
import logging
import os
import sys
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self, TextIO

from tqdm import tqdm

from runtime.common.atomic import replacing
from runtime.common.errors import SetupError
from runtime.engine import EngineError, describe_build
from runtime.fields import show
from runtime.pipeline import Answer, Pipeline, loadPipeline
from runtime.questions import Question, parse, read_file
from runtime.settings import Settings, all_settings

# Settings that do not change what an answer says: a stopped run may go on with others.
_IRRELEVANT = {
    "answer_cache",
    "batch_size",
    "device_map",
    "n_gpu_layers",
    "num_threads",
    "offline_guard",
    "prefill_tokens",
    "subjects_file",  # what it declares counts
}

# Answered when no file is given.
BUILT_IN = [
    {
        "questionID": "built-in-1",
        "subject": "algebra",
        "question": "Solve for x: 3x + 4 = 19.",
    },
    {
        "questionID": "built-in-2",
        "subject": "geography",
        "question": "What is the capital of France?",
    },
    {
        "questionID": "built-in-3",
        "subject": "history",
        "question": "In which year did World War II end?",
    },
    {"questionID": "built-in-4", "subject": "chinese", "question": "中国的首都是哪里？"},
    {
        "questionID": "built-in-5",
        "subject": "general",
        "question": "Which gas do plants take from the air?",
    },
]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    options = _parser().parse_args(arguments)
    logging.basicConfig(
        level=logging.DEBUG if options.verbose else logging.INFO,
        format="%(levelname)s: %(message)s",
        stream=sys.stderr,
    )
    for stream in (sys.stdout, sys.stderr):  # a screen that lacks a character is no reason to stop
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    try:
        if options.show_settings:
            print_settings(Settings.load())
            return 0
        return answer_file(options.input, options.output, options.resume)
    except (SetupError, EngineError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except BrokenPipeError:  # whoever read our output has gone
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except OSError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("stopped; --resume goes on from there", file=sys.stderr)
        return 130


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


def print_settings(settings: Settings) -> None:
    """Print the settings and their values, * where not the default, and the build of llama.cpp."""
    for setting in all_settings(settings.subjects):
        value = show(settings.value_of(setting.name))
        mark = " " if value == setting.default else "*"
        print(f"{mark} {setting.name}={value}\n      {setting.meaning} ({setting.allowed})")
    print(f"llama.cpp: {describe_build()}")


def answer_file(source: Path | None, target: Path | None, resume: bool) -> int:
    """Answer the questions in `source`, to the screen and to `target`; the exit status."""
    settings = Settings.load()
    if source is not None and target is not None and source.resolve() == target.resolve():
        raise SetupError(f"--output {target} is the file of the questions; choose another")
    questions = parse(BUILT_IN) if source is None else read_file(source)
    if not questions:
        raise SetupError(f"{source}: no questions in it")
    if target is None:
        with loadPipeline(settings) as pipeline:
            answer_all(pipeline, questions, list(range(len(questions))))
        return 0
    with Journal(target, questions, settings, resume) as journal:
        todo = [index for index in range(len(questions)) if index not in journal.answers]
        if journal.answers:
            print(f"{len(journal.answers)} answers kept from {journal.path}", file=sys.stderr)
        if todo:
            with loadPipeline(settings) as pipeline:
                answer_all(pipeline, questions, todo, journal)
        journal.finish()
    print(f"answers are in {target}", file=sys.stderr)
    return 0


def answer_all(
    pipeline: Pipeline,
    questions: list[Question],
    todo: list[int],
    journal: Journal | None = None,
) -> None:
    """Answer `questions[i]` for i in `todo`, with a progress bar on a terminal."""
    started = time.perf_counter()
    failed = 0
    cut: Counter[str] = Counter()
    with tqdm(total=len(todo), unit="q", disable=None, file=sys.stderr) as bar:
        for answer in pipeline.stream([questions[index] for index in todo]):
            index = todo[answer.index]
            if journal:
                journal.write(index, answer)
            failed += bool(answer.problem)
            subject = questions[index].subject or pipeline.settings.subjects.fallback
            if answer.cut:
                cut[pipeline.settings.subjects.of(subject).name] += 1
            tqdm.write(f"[{answer.question_id}] {subject}: {answer.answer}\n", file=sys.stdout)
            tokens = pipeline.stats.new_tokens / (time.perf_counter() - started)
            bar.set_postfix_str(f"{tokens:.0f} tokens/s", refresh=False)
            bar.update()
    seconds = time.perf_counter() - started
    stats = pipeline.stats
    print(
        f"{len(todo)} questions in {seconds:.1f} s: {len(todo) / seconds:.1f} questions/s,"
        f" {stats.new_tokens / seconds:.0f} new tokens/s;"
        f" prefill {stats.prefill_seconds:.1f} s, decode {stats.decode_seconds:.1f} s",
        file=sys.stderr,
    )
    if failed:
        print(f"{failed} could not be answered: see the lines with ERROR above", file=sys.stderr)
    if cut:
        subjects = ", ".join(f"{subject} {n}" for subject, n in cut.items())
        limit = f"MAX_NEW_TOKENS={pipeline.settings.max_new_tokens}"
        print(
            f"{cut.total()} were cut off and may lack their result ({subjects}): {limit} is the"
            " limit, times what a subject has as its length",
            file=sys.stderr,
        )


class Journal:
    """Answers on their way into a file: `FILE.partial` grows, `FILE` appears whole.

    Each line of the partial file has the place of its question and a fingerprint of
    question and settings, so that `resume` keeps an answer only where both are still the
    same. What could not be answered is not kept: a resumed run tries again.

    Raises:
        SetupError: the file cannot be written, or a partial file is there and `resume`
            was not asked for.
    """

    def __init__(
        self, target: Path, questions: list[Question], settings: Settings, resume: bool
    ) -> None:
        self.target = target
        self.path = target.with_name(target.name + ".partial")
        self.questions = questions
        self.answers: dict[int, dict[str, Any]] = {}
        self._settings = settings.model_dump_json(exclude=_IRRELEVANT)
        self._subjects = settings.subjects
        if target.is_dir():
            raise SetupError(f"{target} is a folder; give the name of a file")
        if self.path.exists() and not resume:
            raise SetupError(
                f"{self.path} holds the answers of a run that did not finish:"
                " go on from there with --resume, or delete it"
            )
        try:
            self._file: TextIO = self.path.open("a+", encoding="utf-8", errors="replace")
            self._read()
            if self._file.tell():
                self._file.write("\n")  # after a line that a kill cut short
        except OSError as error:
            raise SetupError(f"{self.path}: cannot be written ({error.strerror})") from None

    def write(self, index: int, answer: Answer) -> None:
        """Keep an answer; it survives a kill from here on."""
        self.answers[index] = answer.record()
        if not answer.problem:
            line = {"index": index, "fingerprint": self._fingerprint(index), **answer.record()}
            self._file.write(_to_json(line) + "\n")
            self._file.flush()

    def finish(self) -> None:
        """Put all answers into the target in the order of the questions."""
        with replacing(self.target) as partial, partial.open("w", encoding="utf-8") as file:
            for index in range(len(self.questions)):
                file.write(_to_json(self.answers[index]) + "\n")
        self._file.close()
        self.path.unlink()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()
        if self.path.exists() and not self.path.stat().st_size:
            self.path.unlink()

    def _read(self) -> None:
        self._file.seek(0)
        for line in self._file.read().split("\n"):
            try:
                entry = json.loads(line)
                index, fingerprint = entry.pop("index"), entry.pop("fingerprint")
            except (ValueError, KeyError, AttributeError, TypeError):
                continue  # blank, or cut short by a kill
            if index in range(len(self.questions)) and fingerprint == self._fingerprint(index):
                self.answers[index] = entry

    def _fingerprint(self, index: int) -> str:
        question = self.questions[index]
        subject = self._subjects.of(question.subject)
        about = (subject.name, subject.instruction, subject.tool, self._settings)
        text = repr((question.key, question.subject, question.text, *about))
        return hashlib.blake2b(text.encode("utf-8", "replace"), digest_size=8).hexdigest()


def _to_json(record: dict[str, Any]) -> str:
    # A questionID may be anything that JSON has; lone surrogates in it stay escaped.
    try:
        text = json.dumps(record, ensure_ascii=False)
        text.encode("utf-8")
    except UnicodeEncodeError:
        text = json.dumps(record)
    return text


if __name__ == "__main__":
    sys.exit(main())
