"""Pipelines that would rather have a score than answers, and what `evaluation` makes of them."""

from __future__ import annotations

import json
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest

from evaluation import protocol
from evaluation.channel import Channel, Message
from evaluation.check import as_plain, check
from evaluation.evaluate import judge_all
from evaluation.judging import cheap
from evaluation.questions import Questions, read
from evaluation.records import Run

WORDS = ["apple", "banana", "cherry", "damson", "elder", "fig"]
QUESTIONS = [
    {
        "questionID": f"q{n}",
        "subject": "general",
        "question": f"Which fruit is number {n}?",
        "answer": word,
    }
    for n, word in enumerate(WORDS)
]
CHOOSING = [
    {
        "questionID": f"c{n}",
        "subject": "geography",
        "question": f"Which city has number {n}?",
        "answer": ["London", "Paris", "Rome"][n % 3],
        "choices": ["London", "Paris", "Rome"],
    }
    for n in range(6)
]
ANSWERS = f"[dict(questionID=f'q{{n}}', answer=w) for n, w in enumerate({WORDS!r})]"


def run(
    folder: Path, source: str, records: Sequence[dict[str, Any]] = QUESTIONS, timeout: float = 20
) -> tuple[Run, float]:
    """What comes of a module with a `loadPipeline`, and the accuracy of it."""
    asked = asked_in(folder, records)
    (folder / "cheat.py").write_text(textwrap.dedent(source), encoding="utf-8")
    found = protocol.call(
        f"{folder / 'cheat.py'}:loadPipeline",
        asked.records,
        folder / "log",
        timeout,
        timeout,
        hide=asked.paths,
    )
    results = judge_all(asked, found, cheap())
    return found, sum(result.correct for result in results) / len(results)


def asked_in(folder: Path, records: Sequence[dict[str, Any]]) -> Questions:
    path = folder / "questions.jsonl"
    path.write_text("\n".join(map(json.dumps, records)), encoding="utf-8")
    return read(path)


# --- the clock --------------------------------------------------------------------------


def test_the_clock_is_not_the_pipelines(tmp_path: Path) -> None:
    found, accuracy = run(
        tmp_path,
        f"""
        import time
        real_sleep = time.sleep
        time.perf_counter = time.monotonic = time.time = lambda: -1e6

        def loadPipeline():
            def call(questions):
                real_sleep(0.2)
                return {ANSWERS}
            return call
        """,
    )
    assert accuracy == 1
    assert found.call_seconds is not None
    assert 0.2 <= found.call_seconds < 5


@pytest.mark.parametrize(
    ("kind", "output"),
    [
        ("list", "Lazy(range(6))"),
        ("dict", "[Lazy(questionID=f'q{n}', answer='') for n in range(6)]"),
        ("str", "[dict(questionID=f'q{n}', answer=Lazy()) for n in range(6)]"),
    ],
)
def test_what_computes_itself_when_it_is_read_does_not_count(
    tmp_path: Path, kind: str, output: str
) -> None:
    found, accuracy = run(
        tmp_path,
        f"""
        class Lazy({kind}):
            def __getitem__(self, key):
                return {WORDS!r}[0]
            def __iter__(self):
                return iter({ANSWERS})
            def __str__(self):
                return "apple"
            encode = keys = items = __iter__

        def loadPipeline():
            return lambda questions: {output}
        """,
    )
    assert accuracy == 0
    assert f"a subclass of {kind}, not a" in found.violations[0]


def test_a_class_that_says_it_is_a_list_is_none() -> None:
    class Liar:
        __class__ = list  # type: ignore[assignment]

    assert check(as_plain(Liar()), ["a"])[1] == ["the output is a Liar, not a list"]


def test_what_a_thread_does_after_the_call_is_too_late(tmp_path: Path) -> None:
    found, accuracy = run(
        tmp_path,
        f"""
        import threading, time

        def loadPipeline():
            def call(questions):
                output = [dict(questionID=q["questionID"], answer="?") for q in questions]
                def improve():
                    time.sleep(0.2)
                    output[:] = {ANSWERS}
                threading.Thread(target=improve).start()
                return output
            return call
        """,
    )
    assert (accuracy, found.failure) == (0, "")


# --- the questions ----------------------------------------------------------------------


def test_nothing_of_the_questions_is_there_before_the_call(tmp_path: Path) -> None:
    """Neither in files, nor in the command line, nor in what the process has open or in memory."""
    found, _ = run(
        tmp_path,
        """
        import gc, os, sys
        from pathlib import Path

        def seen():
            yield " ".join(sys.argv) + repr(dict(os.environ))
            for descriptor in Path("/proc/self/fd").glob("*"):
                try:
                    target = os.readlink(descriptor)
                    yield target + Path(target).read_text(errors="replace")
                except OSError:
                    pass
            yield repr([each for each in gc.get_objects() if type(each) in (list, dict)])

        def loadPipeline():
            early = any("Which fruit" + " is number" in text for text in seen())
            def call(questions):
                word = "early" if early else "late"
                return [dict(questionID=q["questionID"], answer=word) for q in questions]
            return call
        """,
    )
    assert found.failure == ""
    assert set(found.answers) == {"late"}


def test_an_answer_before_the_question_is_none(tmp_path: Path) -> None:
    found, accuracy = run(
        tmp_path,
        f"""
        import json, os, sys

        def loadPipeline():
            pipe = int(sys.argv[2])
            os.write(pipe, b'{{"loaded": true}}\\n')
            outcome = {{"call": "0" * 32, "output": {ANSWERS}}}
            os.write(pipe, json.dumps(outcome).encode() + b"\\n")
            return lambda questions: []
        """,
    )
    assert (found.failure, found.call_seconds) == ("it answered before it was asked", None)
    assert accuracy == 0


SNOOP = """
import json, os, subprocess
from pathlib import Path

NAME = "questions.jsonl"

def places():
    # The command lines, open files, environments and roots of all processes; what is beside.
    here = Path(__file__).parent
    yield here / NAME
    subprocess.run(["umount", str(here / NAME)], stderr=subprocess.DEVNULL)
    yield here / NAME
    for process in Path("/proc").glob("[0-9]*"):
        yield Path(f"{process}/root{here}") / NAME
        try:
            words = (process / "cmdline").read_bytes() + (process / "environ").read_bytes()
            yield from map(Path, words.decode(errors="replace").split("\\0"))
        except OSError:
            pass
        try:
            yield from (process / "fd").iterdir()
        except OSError:
            pass

def find():
    for place in places():
        try:
            if place.is_file() and place.stat().st_size < 100_000:
                text = place.read_text()
                return {r["questionID"]: r["answer"] for r in map(json.loads, text.splitlines())}
        except Exception:
            pass
    return {}

def loadPipeline():
    known = find()
    return lambda questions: [
        dict(questionID=q["questionID"], answer=known.get(q["questionID"], "?")) for q in questions
    ]
"""


@contextmanager
def another_hidden() -> Iterator[None]:
    """A process that hides other files, as the worker of another evaluation does."""
    program = "from evaluation.hiding import hide; hide([]); print(); input()"
    command, pipe = [sys.executable, "-c", program], subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe) as process:
        assert process.stdout is not None
        process.stdout.readline()
        yield
        process.communicate(b"\n")


def test_the_right_answers_are_hidden_where_the_system_allows_it(tmp_path: Path) -> None:
    with (tmp_path / "open").open("w") as held:  # and this process has them open
        held.write("\n".join(map(json.dumps, QUESTIONS)))
        held.flush()
        (tmp_path / "open").unlink()
        with another_hidden():
            found, accuracy = run(tmp_path, SNOOP)
    if not found.hidden:
        pytest.skip("this system lets no file be hidden")
    assert (accuracy, found.failure) == (0, "")
    assert (tmp_path / "questions.jsonl").read_text()  # for everybody else


def test_what_is_not_hidden_can_be_found(tmp_path: Path) -> None:
    asked = asked_in(tmp_path, QUESTIONS)
    (tmp_path / "cheat.py").write_text(SNOOP, encoding="utf-8")
    name = f"{tmp_path / 'cheat.py'}:loadPipeline"
    found = protocol.call(name, asked.records, tmp_path / "log", 20, 20)
    assert found.answers == WORDS  # nothing was to be hidden, and this is what it is for


# --- the outcome ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("at_exit", "call"),
    [
        # There is no file to swap any more; a second outcome in the pipe comes too late.
        ("os.write(pipe, json.dumps({'call': code(), 'output': right}).encode() + b'\\n')", "bad"),
        ("os._exit(0)", "bad"),
    ],
)
def test_what_is_done_at_exit_changes_nothing(tmp_path: Path, at_exit: str, call: str) -> None:
    found, accuracy = run(
        tmp_path,
        f"""
        import atexit, gc, json, os, sys

        pipe, right = int(sys.argv[2]), {ANSWERS}

        def code():
            found = [each for each in gc.get_objects() if type(each) is dict and "call" in each]
            return found[0]["call"] if found else ""

        def loadPipeline():
            atexit.register(lambda: {at_exit})
            return lambda questions: [
                dict(questionID=q["questionID"], answer={call!r}) for q in questions
            ]
        """,
    )
    assert (accuracy, found.failure, found.violations) == (0, "", [])


@pytest.mark.parametrize(
    ("written", "failure"),
    [
        ('{"call": ', "what came back of the call cannot be read: it is no JSON"),
        ("[" * 100_000, "what came back of the call cannot be read: it is no JSON"),
        ("[]", "what came back of the call cannot be read: it is not what was asked for"),
        ('{"call": "x", "score": 1}', "what came back of the call cannot be read: it is not what"),
        ('{"call": 1, "output": []}', "what came back of the call cannot be read: it is not what"),
        ('{"loaded": true}', "what came back of the call cannot be read: it is not what"),
        ("\\xff\\x00", "what came back of the call cannot be read: it is no JSON"),
    ],
)
def test_a_broken_outcome_is_a_failure(tmp_path: Path, written: str, failure: str) -> None:
    found, _ = run(
        tmp_path,
        f"""
        import os, sys

        def loadPipeline():
            def call(questions):
                os.write(int(sys.argv[2]), {written!r}.encode("latin-1") + b"\\n")
                return {ANSWERS}
            return call
        """,
    )
    assert found.failure.startswith(failure)
    assert (found.call_seconds, set(found.answers)) == (None, {None})


@pytest.mark.parametrize(
    ("call", "failure"),
    [
        ("os._exit(0)", "exited with status 0 during the call"),
        ("os.closerange(3, 256)", "exited with status 1 during the call"),
    ],
)
def test_a_pipeline_that_leaves_has_failed(tmp_path: Path, call: str, failure: str) -> None:
    found, _ = run(
        tmp_path,
        f"""
        import os

        def loadPipeline():
            def answer(questions):
                {call}
                return {ANSWERS}
            return answer
        """,
    )
    assert found.failure == failure


def test_what_it_tells_of_itself_has_no_say(tmp_path: Path) -> None:
    found, accuracy = run(
        tmp_path,
        """
        class Pipeline:
            stats = {"call_seconds": 0.0, "new_tokens": float("inf"), "accuracy": 1}
            answer_seconds = [-1.0] * 6
            def __call__(self, questions):
                print('{"call": "", "output": []}', flush=True)
                return [dict(questionID=q["questionID"], answer="?", score=1) for q in questions]

        loadPipeline = Pipeline
        """,
    )
    assert accuracy == 0
    assert found.violations[0].startswith("answer 1 (questionID 'q0') has a key too many: 'score'")
    assert found.answer_seconds is None


def test_a_message_that_never_ends_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("evaluation.channel._LONGEST", 1000)
    with Channel() as channel:
        channel.theirs.sendall(b"x" * 5000)
        message = channel.receive(5)
        assert isinstance(message, Message)
        with pytest.raises(Exception, match="over 0 MiB of it"):
            message.json()


# --- guessing ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    "answer",
    [
        "a",
        "A",
        "(b)",
        "The answer is C.",
        "A. B. C.",
        "It is A. It is B. It is C.",
        "The answer is London. The answer is Paris. The answer is Rome.",
        "London is possible. Paris is possible. Rome is possible.",
        "London or Paris",
    ],
)
@pytest.mark.parametrize("shown", [False, True], ids=["unlettered", "lettered"])
def test_an_answer_that_fits_all_questions_scores_no_more_than_its_guess(
    tmp_path: Path, answer: str, shown: bool
) -> None:
    """Without lettered choices a letter says nothing; with them it is one guess."""
    lettered = " A. London B. Paris C. Rome" if shown else ""
    records = [{**r, "question": f"{r['question']}{lettered}"} for r in CHOOSING]
    results = judge_all(asked_in(tmp_path, records), Run(answers=[answer] * 6), cheap())
    single = answer in ("a", "A", "(b)", "The answer is C.") and shown
    assert sum(result.correct for result in results) == (2 if single else 0)


def test_other_programs_on_the_cpu_are_seen(tmp_path: Path) -> None:
    """The CPU time of the pipeline's own processes is not theirs."""
    busy = "import time; end = time.time() + 0.6\nwhile time.time() < end: pass"
    source = f"""
    import subprocess, sys

    def loadPipeline():
        def call(questions):
            subprocess.run([sys.executable, "-c", {busy!r}])
            return {ANSWERS}
        return call
    """
    started = time.monotonic()
    quiet, _ = run(tmp_path, source)
    assert quiet.other_cpu_seconds is not None
    cores = psutil.cpu_count() or 1
    # Others may well be at work here; but the 0.6 s of the pipeline's child are not among it.
    assert quiet.call_seconds is not None
    assert quiet.other_cpu_seconds <= cores * quiet.call_seconds - 0.3 + 0.1
    assert time.monotonic() - started < 20
