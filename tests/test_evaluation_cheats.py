"""Pipelines that would rather have a score than answers, and what `evaluation` makes of them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from evaluation import protocol
from evaluation.channel import Channel, Message
from evaluation.check import check
from evaluation.evaluate import judge_all
from evaluation.judging import cheap
from evaluation.questions import Questions, read
from evaluation.records import Run
from evaluation.worker import as_plain
from runtime.settings import PROJECT_DIR

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


# Looks for a file with the right answers, wherever a process may look.
SNOOP = """
import json, os, subprocess
from pathlib import Path

HERE = Path(__file__).parent
NAME = "questions.jsonl"

def places():
    # What is beside, undone by all means; the command lines, open files, environments and roots of
    # all processes.
    yield HERE / NAME
    for command in (f"umount {HERE / NAME}", f"umount {HERE}", f"umount -l {HERE}"):
        for prefix in ([], ["unshare", "--user", "--map-root-user", "--mount"]):
            subprocess.run([*prefix, "sh", "-c", command], stderr=subprocess.DEVNULL)
            yield HERE / NAME
    os.chdir(HERE)
    yield Path(NAME)
    for process in Path("/proc").glob("[0-9]*"):
        yield Path(f"{process}/root{HERE}") / NAME
        yield process / "cwd" / NAME
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


def as_an_ordinary_user() -> list[str]:
    """What to put in front of a command so that it has no rights beyond its user's."""
    if os.geteuid() != 0:
        return []
    # No longer root, but its files are still readable: Python may lie in root's home.
    return ["unshare", "--user", "--map-user=1000", "--map-group=1000"]


def could_hide(prefix: Sequence[str]) -> bool:
    """Whether the system allows what hiding takes, asked without our own code."""
    spaces = ["--mount", "--pid", "--fork", "--mount-proc", "true"]
    commands = [["unshare", "--user", "--map-root-user", *spaces], ["unshare", *spaces]]
    try:
        return any(
            subprocess.run([*prefix, *command], capture_output=True).returncode == 0
            for command in commands
        )
    except OSError:  # no unshare
        return False


def evaluated(
    folder: Path, source: str, prefix: Sequence[str] = (), path: str = os.environ["PATH"]
) -> tuple[str, dict[str, Any]]:
    """What the command prints of a pipeline, and its summary. No variable is set for it."""
    asked_in(folder, QUESTIONS)
    (folder / "cheat.py").write_text(textwrap.dedent(source), encoding="utf-8")
    ran = subprocess.run(
        [*prefix, sys.executable, "-m", "evaluation", "--questions", folder / "questions.jsonl"]
        + ["--pipeline", f"{folder / 'cheat.py'}:loadPipeline", "--reports", folder / "report"],
        cwd=PROJECT_DIR,
        env={"PATH": path, "HOME": str(folder)},
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert ran.returncode == 0, ran.stderr
    return ran.stdout, json.loads((folder / "report/cheat/summary.json").read_text())


ROOT = pytest.param([], marks=pytest.mark.skipif(os.geteuid() != 0, reason="not root"), id="root")


@pytest.mark.parametrize("prefix", [ROOT, pytest.param(as_an_ordinary_user(), id="ordinary")])
def test_the_right_answers_are_hidden_where_the_system_allows_it(
    tmp_path: Path, prefix: list[str]
) -> None:
    with (tmp_path / "open").open("w") as held:  # another process has them open
        held.write("\n".join(map(json.dumps, QUESTIONS)))
        held.flush()
        (tmp_path / "open").unlink()
        printed, summary = evaluated(tmp_path, SNOOP, prefix)
    if could_hide(prefix):
        assert summary["hidden"], summary["why_not_hidden"]
        assert (summary["accuracy"]["mean"], summary["failure"]) == (0, "")
        assert "not hidden" not in printed
    else:
        assert printed.startswith("not hidden: the pipeline could read the right answers (unshare")
    assert (tmp_path / "questions.jsonl").read_text()  # to us they are there


needs_namespaces = pytest.mark.skipif(not could_hide([]), reason="this system allows no namespaces")


def test_where_nothing_can_be_hidden_the_report_begins_with_it(tmp_path: Path) -> None:
    printed, summary = evaluated(tmp_path, SNOOP, path="")
    first = printed.splitlines()[0]
    assert first.startswith("not hidden: the pipeline could read the right answers (")
    assert "util-linux" in first or sys.platform != "linux"
    assert not summary["hidden"]
    page = (tmp_path / "report/cheat/report.html").read_text(encoding="utf-8")
    assert page.index("not hidden") < page.index("<h1>")


def test_what_is_not_hidden_can_be_found(tmp_path: Path) -> None:
    asked = asked_in(tmp_path, QUESTIONS)
    (tmp_path / "cheat.py").write_text(SNOOP, encoding="utf-8")
    name = f"{tmp_path / 'cheat.py'}:loadPipeline"
    found = protocol.call(name, asked.records, tmp_path / "log", 20, 20)
    assert found.answers == WORDS  # nothing was to be hidden, and this is what it is for
    assert (found.hidden, found.why_not_hidden) == (False, "it was not asked for")


@needs_namespaces
def test_what_is_saved_after_the_hiding_is_hidden_too(tmp_path: Path) -> None:
    """Questions that are saved anew, and what another evaluation of them writes."""
    reports, log = tmp_path / "report", tmp_path / "log"
    reports.mkdir()
    questions = tmp_path / "questions.jsonl"
    asked = asked_in(tmp_path, QUESTIONS)
    source = f"""
    import time
    from pathlib import Path

    def loadPipeline():
        print("looking", flush=True)
        seen, end = "", time.time() + 1.5
        while time.time() < end and not seen:
            for path in [{str(questions)!r}, {str(reports / "other" / "run.json")!r}]:
                if Path(path).exists():
                    seen = path
            time.sleep(0.01)
        return lambda questions: [dict(questionID=q["questionID"], answer=seen) for q in questions]
    """
    (tmp_path / "cheat.py").write_text(textwrap.dedent(source), encoding="utf-8")

    def save_again() -> None:
        while not log.exists() or "looking" not in log.read_text():
            time.sleep(0.01)
        (tmp_path / "new").write_text(questions.read_text())
        (tmp_path / "new").replace(questions)
        (reports / "other").mkdir()
        (reports / "other" / "run.json").write_text("{}")

    saving = threading.Thread(target=save_again)
    saving.start()
    name = f"{tmp_path / 'cheat.py'}:loadPipeline"
    found = protocol.call(name, asked.records, log, 20, 20, hide=[questions, reports])
    saving.join()
    assert (found.hidden, found.failure) == (True, "")
    assert set(found.answers) == {""}


@needs_namespaces
def test_everything_else_beside_the_questions_stays_as_it_was(tmp_path: Path) -> None:
    (tmp_path / "folder" / "in it").mkdir(parents=True)
    (tmp_path / "folder" / "file").write_text("one")
    (tmp_path / ".dotted").write_text("two")
    (tmp_path / "with space").write_text("three")
    (tmp_path / "link").symlink_to("with space")
    source = f"""
    from pathlib import Path

    def loadPipeline():
        here = Path({str(tmp_path)!r})
        texts = [(here / name).read_text() for name in ("folder/file", ".dotted", "link")]
        (here / "folder" / "in it" / "new").write_text("four")
        (here / ".dotted").write_text("five")
        names = sorted(path.name for path in here.iterdir())
        return lambda questions: [
            dict(questionID=q["questionID"], answer=repr((texts, names))) for q in questions
        ]
    """
    found, _ = run(tmp_path, source)
    names = [".dotted", "cheat.py", "folder", "link", "log", "with space"]
    assert found.answers[0] == repr((["one", "two", "three"], names))
    assert (tmp_path / "folder" / "in it" / "new").read_text() == "four"
    assert (tmp_path / ".dotted").read_text() == "five"


@needs_namespaces
def test_a_report_folder_that_the_pipeline_lies_in_is_told(tmp_path: Path) -> None:
    asked = asked_in(tmp_path, QUESTIONS)
    (tmp_path / "cheat.py").write_text(SNOOP, encoding="utf-8")
    name = f"{tmp_path / 'cheat.py'}:loadPipeline"
    found = protocol.call(name, asked.records, tmp_path / "log", 20, 20, hide=[tmp_path])
    assert not found.hidden
    assert "cheat.py" in found.why_not_hidden


# --- what is left -----------------------------------------------------------------------


@needs_namespaces
def test_a_chain_of_forks_does_not_outlive_the_end(tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    source = f"""
    import os, time
    from pathlib import Path

    def loadPipeline():
        if os.fork() == 0:
            os.setsid()
            for _ in range(600):  # each lives for a moment, and its child goes on
                time.sleep(0.005)
                if os.fork():
                    os._exit(0)
                Path({str(mark)!r}).touch()
            os._exit(0)
        return lambda questions: {ANSWERS}
    """
    mark.touch()
    found, accuracy = run(tmp_path, source)
    assert (found.failure, accuracy) == ("", 1)
    ended = mark.stat().st_mtime_ns
    time.sleep(0.2)
    assert mark.stat().st_mtime_ns == ended


@needs_namespaces
def test_a_double_fork_hides_neither_memory_nor_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("evaluation.watch._busy", iter([0.0, 100.0]).__next__)
    source = f"""
    import os, time
    from pathlib import Path

    done = Path({str(tmp_path / "done")!r})

    def loadPipeline():
        def call(questions):
            if os.fork() == 0:
                os.setsid()
                if os.fork() == 0:
                    held = b"x" * (300 << 20)
                    while time.process_time() < 0.6:
                        pass
                    done.touch()
                    time.sleep(60)
                os._exit(0)
            while not done.exists():
                time.sleep(0.01)
            time.sleep(0.5)
            return {ANSWERS}
        return call
    """
    found, _ = run(tmp_path, source)
    assert found.peak_memory > 300 << 20
    assert found.other_cpu_seconds is not None
    assert 90 < found.other_cpu_seconds < 100 - 0.58  # of the 100 that the machine was busy


# --- whose process it is ----------------------------------------------------------------


def test_a_pipeline_with_packages_of_our_names_gets_its_own(tmp_path: Path) -> None:
    names = ["runtime", "training", "convert", "evaluation", "kb"]
    for name in names:
        (tmp_path / "entry" / name).mkdir(parents=True)
        (tmp_path / "entry" / name / "__init__.py").write_text("WHOSE = 'theirs'")
    (tmp_path / "entry" / "inferencePipeline.py").write_text(
        "from importlib import import_module\n"
        f"assert all(import_module(name).WHOSE == 'theirs' for name in {names})\n"
        f"def loadPipeline(): return lambda questions: {ANSWERS}\n"
    )
    asked = asked_in(tmp_path, QUESTIONS)
    name = f"{tmp_path / 'entry'}:loadPipeline"
    found = protocol.call(name, asked.records, tmp_path / "log", 20, 20, hide=asked.paths)
    assert found.failure == ""


# What a process has beyond Python's own modules and the variables that it was given.
CONTENTS = """
import os, sys
from pathlib import Path

def contents():
    modules = {name.partition(".")[0] for name in sys.modules} - sys.stdlib_module_names
    libraries = [line for line in Path("/proc/self/maps").read_text().splitlines()
                 if "llama" in line or "gomp" in line or "blas" in line]
    return repr((sorted(modules - {"cheat", "__main__"}), libraries, sorted(os.environ)))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
def test_nothing_of_ours_is_in_the_pipelines_process(tmp_path: Path) -> None:
    """Neither modules, nor libraries, nor variables: as if it had been started by hand."""
    by_hand = subprocess.run(
        ["sh", "-c", '"$@"; exit', "sh", sys.executable, "-c", f"{CONTENTS}print(contents())"],
        env={"PATH": os.environ["PATH"], "HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        check=True,
    )
    source = """
    def loadPipeline():
        told = contents()
        return lambda questions: [dict(questionID=q["questionID"], answer=told) for q in questions]
    """
    evaluated(tmp_path, CONTENTS + textwrap.dedent(source))
    lines = (tmp_path / "report/cheat/results.jsonl").read_text(encoding="utf-8").splitlines()
    assert json.loads(lines[0])["answer"] == by_hand.stdout.strip()


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
