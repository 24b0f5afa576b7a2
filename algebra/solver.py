"""Asks a process for the answers to exercises, and ends it when it takes too long."""

from __future__ import annotations

import json
import logging
import os
import select
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Self

from algebra.exercises import MAX_CHARS, vocabulary
from algebra.tokens import FRACTIONS

log = logging.getLogger(__name__)

_WORKER = Path(__file__).with_name("worker.py")
# Seconds: for importing sympy on a slow disk, and for one question. The worker's own limit, of
# computing time, is much shorter; it may miss it in a long computation of C's, or be kept waiting.
_STARTING = 60.0
_LONGEST = 5.0
# Questions written at once: fewer bytes than a pipe holds, so that nobody waits for the other.
_AT_ONCE = 16
_MAX_RESTARTS = 20
_SIGNS = frozenset("+-*/^=<>≤≥×÷√%(|") | FRACTIONS.keys()


def available() -> bool:
    """Whether sympy is installed."""
    return find_spec("sympy") is not None


def may_be_exercise(question: str) -> bool:
    """Whether it is worth a closer look: short, with a number or sign, no word out of place.

    Takes microseconds, and is right to say no; most questions end here.
    """
    if len(question) > MAX_CHARS or not any(c.isdigit() or c in _SIGNS for c in question):
        return False
    if "\\" in question:  # LaTeX's commands are told apart later
        return True
    text = "".join(c if c.isalpha() else " " for c in question)
    for word in text.split():
        if word.isascii():
            if len(word) > 1 and word.lower() not in _WORDS:
                return False
        elif any("\u4e00" <= c <= "\u9fff" and c not in _HAN for c in word):
            return False
    return True


_WORDS, _HAN = vocabulary()


class Solver:
    """Answers exercises exactly, in a process that it owns; close it when done.

    The process starts with it and imports sympy meanwhile. Calls from several threads take turns.

    Raises:
        ModuleNotFoundError: sympy is not installed (`pip install 'subject-lora-serve[algebra]'`).
    """

    def __init__(self) -> None:
        if not available():
            raise ModuleNotFoundError(
                "ALGEBRA_TOOL needs sympy: pip install 'subject-lora-serve[algebra]'"
            )
        self._lock = threading.Lock()
        self._child: _Child | None = _Child()
        self._restarts = 0
        self._closed = False

    def answer(self, question: str) -> str | None:
        """The answer to a question if it is an exercise that is surely understood, else None."""
        return self.answers([question])[0]

    def answers(self, questions: Sequence[str]) -> list[str | None]:
        """The same for many, in their order. Never raises for what a question says.

        Raises:
            ValueError: the solver has been closed.
        """
        found: list[str | None] = [None] * len(questions)
        wanted = [n for n, question in enumerate(questions) if may_be_exercise(question)]
        with self._lock:
            if self._closed:
                raise ValueError("this solver has been closed")
            while wanted:
                answered = self._some(
                    [questions[n].encode("utf-8", "replace").decode() for n in wanted[:_AT_ONCE]]
                )
                for n, text in zip(wanted, answered, strict=False):
                    found[n] = text
                wanted = wanted[len(answered) :]
        return found

    def close(self) -> None:
        """End the process. A second call does nothing."""
        with self._lock:
            self._closed = True
            if self._child:
                self._child.end()
                self._child = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _some(self, questions: list[str]) -> list[str | None]:
        """Answers to the first of some questions, one at least."""
        if self._child is None and self._restarts < _MAX_RESTARTS:
            self._restarts += 1
            self._child = _Child()
        if self._child is None:
            return [None] * len(questions)
        answers, alive = self._child.ask(questions)
        if not alive:
            log.warning(
                "the process for exact algebra died or took too long: %.80r is left to the model",
                questions[len(answers)],
            )
            self._child.end()
            self._child = None
            answers.append(None)
        return answers


class _Child:
    """One process. Its input and output are pipes of lines."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable or "python3", "-P", str(_WORKER)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={**os.environ, "PYTHONINTMAXSTRDIGITS": "5000"},
        )
        self._end = weakref.finalize(self, _end, self._process)
        self._read = b""
        self._ready = False

    def ask(self, questions: list[str]) -> tuple[list[str | None], bool]:
        """Answers to the first of some questions, and whether the process is still of use."""
        answers: list[str | None] = []
        try:
            if not self._ready:
                self._line(_STARTING)
                self._ready = True
            assert self._process.stdin is not None
            lines = "".join(
                json.dumps(question, ensure_ascii=False) + "\n" for question in questions
            )
            self._process.stdin.write(lines.encode())
            self._process.stdin.flush()
            for _ in questions:
                answers.append(json.loads(self._line(_LONGEST)))
        except (OSError, ValueError):  # TimeoutError, a broken pipe, half a line
            return answers, False
        return answers, True

    def end(self) -> None:
        self._end()

    def _line(self, seconds: float) -> bytes:
        """The next line. Raises TimeoutError, or EOFError's kin OSError at the end."""
        deadline = time.monotonic() + seconds
        output = self._process.stdout
        assert output is not None
        while b"\n" not in self._read:
            left = deadline - time.monotonic()
            if left <= 0 or not select.select([output], [], [], left)[0]:
                raise TimeoutError
            piece = os.read(output.fileno(), 1 << 16)
            if not piece:
                raise BrokenPipeError
            self._read += piece
        line, _, self._read = self._read.partition(b"\n")
        return line


def _end(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    for pipe in (process.stdin, process.stdout):
        try:
            if pipe is not None:
                pipe.close()
        except OSError:  # what was written is not wanted any more
            pass
    process.wait()
