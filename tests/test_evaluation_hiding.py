"""What a pipeline under test can see, and what it can leave behind."""

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
from runtime.settings import PROJECT_DIR
from tests.cheating import ANSWERS, QUESTIONS, WORDS, asked_in, run

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
    command = ["-m", "evaluation", "--questions", str(folder / "questions.jsonl")]
    command += ["--pipeline", f"{folder / 'cheat.py'}:loadPipeline"]
    ran = subprocess.run(
        [*prefix, sys.executable, *command, "--reports", str(folder / "report")],
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
    assert (found.hidden, found.why_not_hidden) == (False, "hiding is off")


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
def test_a_relative_path_leads_no_further(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The working folder is the one that was put together anew, not the one below it."""
    monkeypatch.chdir(tmp_path)
    source = """
    import os
    from pathlib import Path

    def loadPipeline():
        seen = [path for path in (Path("questions.jsonl"), Path("../") / Path.cwd().name /
                "questions.jsonl", Path("/proc/self/cwd/questions.jsonl")) if path.exists()]
        return lambda questions: [
            dict(questionID=q["questionID"], answer=repr((seen, os.listdir()))) for q in questions
        ]
    """
    found, _ = run(tmp_path, source)
    assert found.hidden
    assert found.answers[0] is not None
    assert "questions.jsonl" not in found.answers[0]
    assert "cheat.py" in found.answers[0]


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
