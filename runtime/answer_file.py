"""A file of questions in, a file of answers out; a stopped run can be resumed."""

from __future__ import annotations

import hashlib
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Protocol, Self, TypeVar

from tqdm import tqdm

from runtime.common.atomic import is_special, replacing
from runtime.common.errors import SetupError
from runtime.common.journal import Journal, to_json
from runtime.questions import Question, read_file
from runtime.settings import Settings
from runtime.way import Answer

# Settings that do not change what an answer says: a run may be resumed with others.
_IRRELEVANT = {
    "answer_cache",
    "batch_size",
    "device_map",
    "n_gpu_layers",
    "num_threads",
    "offline_guard",
    "prefill_tokens",
    "subjects_file",  # a question's own subject counts
}


class Answerer(Protocol):
    """What answers questions, such as a pipeline."""

    def stream(self, questions: Any) -> Iterator[Answer]:
        """Answers as soon as each is ready; `index` is the place in `questions`."""


A = TypeVar("A", bound=Answerer)


def questions_of(source: Path, target: Path | None) -> list[Question]:
    """The questions in a file, for answers that go to `target`.

    Raises:
        SetupError: the file cannot be read, has no questions, or is `target` itself.
    """
    if target is not None and source.resolve() == target.resolve():
        raise SetupError(f"--output {target} is the file of the questions; choose another")
    questions = read_file(source)
    if not questions:
        raise SetupError(f"{source}: no questions in it")
    return questions


def answer_questions(
    questions: Sequence[Question],
    target: Path | None,
    resume: bool,
    settings: Settings,
    load: Callable[[], AbstractContextManager[A]],
    describe: Callable[[A, float], str],
    show: bool = True,
) -> None:
    """Answer questions, with a progress bar on a terminal.

    Args:
        target: a file for the answers, in the order of the questions; None only shows them.
        resume: keep the answers of a stopped run.
        load: makes the answerer, when there is something to answer.
        describe: what to add to the line of the speed, from the answerer and the seconds taken.
        show: print the answers.

    Raises:
        SetupError: `target` cannot be used, or has an unfinished run that is not resumed.
        OSError: an answer cannot be written; those before are kept.
    """
    with Answers(target, questions, settings, resume) as answers:
        if answers.done:
            print(f"{len(answers.done)} answers kept from {answers.path}", file=sys.stderr)
        todo = [index for index in range(len(questions)) if index not in answers.done]
        if todo:
            with load() as answerer:
                _answer(answerer, todo, answers, describe, show)
        answers.finish()
    if target is not None:
        print(f"answers are in {target}", file=sys.stderr)


def _answer(
    answerer: A,
    todo: Sequence[int],
    answers: Answers,
    describe: Callable[[A, float], str],
    show: bool,
) -> None:
    """Answer the questions at some places."""
    questions, settings = answers.questions, answers.settings
    started = time.perf_counter()
    failed = 0
    cut: Counter[str] = Counter()
    with tqdm(total=len(todo), unit="q", disable=None, file=sys.stderr) as bar:
        for answer in answerer.stream([questions[index] for index in todo]):
            index = todo[answer.index]
            answers.write(index, answer)
            failed += bool(answer.problem)
            name = questions[index].subject or settings.subjects.fallback
            if answer.cut:
                cut[settings.subjects.of(name).name] += 1
            if show:
                tqdm.write(f"[{answer.question_id}] {name}: {answer.answer}\n", file=sys.stdout)
            bar.update()
    seconds = time.perf_counter() - started
    print(
        f"{len(todo)} questions in {seconds:.1f} s: {len(todo) / seconds:.1f} questions/s"
        f"{describe(answerer, seconds)}",
        file=sys.stderr,
    )
    if failed:
        print(f'{failed} could not be answered: their answers begin with "ERROR"', file=sys.stderr)
    if cut:
        subjects = ", ".join(f"{subject} {n}" for subject, n in cut.items())
        print(
            f"{cut.total()} were cut off and may lack their result ({subjects}): the limit is"
            f" MAX_NEW_TOKENS={settings.max_new_tokens} times the subject's length",
            file=sys.stderr,
        )


class Answers:
    """Answers on their way into a file: `FILE.partial` (`path`) grows, `FILE` appears whole.

    Each line of the partial file has the place of its question and a fingerprint of question
    and settings, so that `resume` keeps an answer only where both are still the same. Questions
    that could not be answered are not kept: a resumed run tries them again. `done` has the
    answers so far as records, by the place of their question.

    Without a `target` nothing is written. A device or a pipe is written to when all answers are
    there, without a partial file.

    Raises:
        SetupError: the file cannot be written, or there is a partial file and `resume` is False.
    """

    def __init__(
        self, target: Path | None, questions: Sequence[Question], settings: Settings, resume: bool
    ) -> None:
        self.target = target
        self.questions = questions
        self.settings = settings
        self.path: Path | None = None
        self.done: dict[int, dict[str, Any]] = {}
        self._journal: Journal | None = None
        self._about = settings.model_dump_json(exclude=_IRRELEVANT)
        if target is None:
            return
        if target.is_dir():
            raise SetupError(f"{target} is a folder; give the name of a file")
        if is_special(target):
            if resume:
                raise SetupError(f"--resume: {target} is not a file, so it has kept no answers")
            return
        file = target.resolve() if target.is_symlink() else target
        self.path = file.with_name(file.name + ".partial")
        self._journal = self._open(self.path, resume)

    def write(self, index: int, answer: Answer) -> None:
        """Keep an answer; it survives a kill from here on. Raises OSError."""
        self.done[index] = answer.record()
        if self._journal is not None and not answer.problem:
            about = {"index": index, "fingerprint": self._fingerprint(index)}
            self._journal.append({**about, **answer.record()})

    def finish(self) -> None:
        """Put all answers into the target in the order of the questions. Raises OSError."""
        if self.target is None:
            return
        with replacing(self.target) as partial, partial.open("w", encoding="utf-8") as file:
            for index in range(len(self.questions)):
                file.write(to_json(self.done[index]) + "\n")
        if self._journal is not None:
            self._journal.discard()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._journal is not None and self.path is not None:
            self._journal.close()
            if self.path.exists() and not self.path.stat().st_size:
                self.path.unlink()

    def _open(self, path: Path, resume: bool) -> Journal:
        if path.exists() and not resume:
            raise SetupError(
                f"{path} holds the answers of a run that did not finish:"
                " go on from there with --resume, or delete it"
            )
        try:
            journal = Journal(path)
            for _, entry in journal.entries():
                self._take(entry)
        except OSError as error:
            raise SetupError(f"{path}: cannot be written ({error.strerror})") from None
        return journal

    def _take(self, entry: Any) -> None:
        """Keep an entry of the partial file if it is an answer to the same question."""
        if not isinstance(entry, dict):
            return
        index, fingerprint = entry.pop("index", None), entry.pop("fingerprint", None)
        known = isinstance(index, int) and 0 <= index < len(self.questions)
        if known and fingerprint == self._fingerprint(index):
            self.done[index] = entry

    def _fingerprint(self, index: int) -> str:
        question = self.questions[index]
        subject = self.settings.subjects.of(question.subject)
        about = (subject.name, subject.instruction, subject.tool, self._about)
        text = repr((question.key, question.subject, question.text, *about))
        return hashlib.blake2b(text.encode("utf-8", "replace"), digest_size=8).hexdigest()
