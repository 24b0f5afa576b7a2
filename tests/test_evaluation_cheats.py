"""Pipelines that would rather have a score than answers, and what `evaluation` makes of them."""

from __future__ import annotations

from pathlib import Path

import pytest

from evaluation.channel import Channel, Message
from evaluation.check import check
from evaluation.evaluate import judge_all
from evaluation.judging import rules
from evaluation.records import Run
from evaluation.worker import as_plain
from tests.cheating import ANSWERS, CHOOSING, WORDS, asked_in, run

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
        ('{"call": ', "the result of the call cannot be read: it is not JSON"),
        ("[" * 100_000, "the result of the call cannot be read: it is not JSON"),
        ("[]", "the result of the call cannot be read: it has the wrong form"),
        (
            '{"call": "x", "score": 1}',
            "the result of the call cannot be read: it has the wrong form",
        ),
        (
            '{"call": 1, "output": []}',
            "the result of the call cannot be read: it has the wrong form",
        ),
        ('{"loaded": true}', "the result of the call cannot be read: it has the wrong form"),
        ("\\xff\\x00", "the result of the call cannot be read: it is not JSON"),
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
    assert found.violations[0].startswith("answer 1 (questionID 'q0') has an extra key: 'score'")
    assert found.answer_seconds is None


def test_a_message_that_never_ends_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("evaluation.channel._LONGEST", 1000)
    with Channel() as channel:
        channel.theirs.sendall(b"x" * 5000)
        message = channel.receive(5)
        assert isinstance(message, Message)
        with pytest.raises(Exception, match="it is over 0 MiB"):
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
    results = judge_all(asked_in(tmp_path, records), Run(answers=[answer] * 6), rules())
    single = answer in ("a", "A", "(b)", "The answer is C.") and shown
    assert sum(result.correct for result in results) == (2 if single else 0)


def test_the_work_of_its_processes_is_not_that_of_other_programs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("evaluation.watch._busy", iter([0.0, 100.0]).__next__)
    busy = "import time\nwhile time.process_time() < 0.6: pass"
    source = f"""
    import subprocess, sys

    def loadPipeline():
        def call(questions):
            subprocess.run([sys.executable, "-c", {busy!r}])
            return {ANSWERS}
        return call
    """
    found, _ = run(tmp_path, source)
    assert found.other_cpu_seconds is not None
    assert 90 < found.other_cpu_seconds < 100 - 0.58  # of the 100 that the machine was busy
