"""Processes that are forked from one that has loaded a pipeline."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil
import pytest

from runtime import Pipeline
from runtime.common.errors import SetupError
from runtime.common.journal import Journal
from runtime.engine import Engine, EngineError, Request, SamplingParams
from runtime.settings import PROJECT_DIR

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
ASK = [{"questionID": "1", "subject": "geography", "question": "What is the capital of France?"}]


def in_fork(work: Callable[[], object], seconds: float = 60) -> str:
    """What `work` returns in a forked process, as text; or the name and text of what it raises."""
    read_end, write_end = os.pipe()
    child = os.fork()
    if not child:
        try:
            said = str(work())
        except BaseException as error:
            said = f"{type(error).__name__}: {error}"
        os.write(write_end, said.encode())
        os._exit(0)
    os.close(write_end)
    with os.fdopen(read_end) as pipe:
        said = pipe.read()
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    return said


def test_a_forked_process_is_told_to_load_a_pipeline_of_its_own(pipeline: Pipeline) -> None:
    (expected,) = pipeline(ASK)

    def work() -> str:
        with pytest.raises(SetupError, match="load it in each process"):
            pipeline(ASK)
        with pytest.raises(SetupError, match=f"loaded in process {os.getppid()}"):
            pipeline.log_likelihoods(ASK[0], ["Paris"])
        pipeline.close()  # frees nothing of the parent's
        return "refused"

    assert in_fork(work) == "refused"
    assert pipeline(ASK) == [expected]


def test_a_forked_process_may_not_use_an_engine(engine: Engine) -> None:
    request = Request(engine.model.tokenize("Once upon"), SamplingParams(max_new_tokens=2))
    expected = next(engine.generate([request]))

    def work() -> str:
        with pytest.raises(EngineError, match="load it in each process"):
            list(engine.generate([request]))
        engine.close()
        return "refused"

    assert in_fork(work) == "refused"
    assert next(engine.generate([request])).tokens == expected.tokens


@contextmanager
def nothing_left() -> Iterator[None]:
    """No process that the block started, or that those started, is left soon after it."""
    mark = f"TEST_MARK_{os.urandom(8).hex()}"  # in the environment of all of them
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setenv(mark, "1")
        yield
    deadline = time.monotonic() + 120
    while (left := marked(mark)) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not left


def marked(name: str) -> list[str]:
    """The command lines of the processes with this environment variable."""
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error, OSError):
            if name in process.environ() and process.status() != psutil.STATUS_ZOMBIE:
                found.append(" ".join(process.cmdline()))
    return found


def run_program(folder: Path, text: str) -> None:
    """Run a program that ends well and prints "done"."""
    program = folder / "program.py"
    program.write_text(LOADING + text, "utf-8")
    with nothing_left():
        done = subprocess.run(
            [sys.executable, program],
            env=os.environ | {"PYTHONPATH": str(PROJECT_DIR)},
            capture_output=True,
            text=True,
            check=False,
        )
    assert (done.returncode, done.stdout) == (0, "done\n"), done.stderr


LOADING = """
import multiprocessing, os, sys
from runtime import SetupError, loadPipeline
from tests.conftest import small_settings
ASK = [{"questionID": "1", "subject": "algebra", "question": "What is 1016 + 1?"}]
def load():
    return loadPipeline(small_settings(num_threads=1, algebra_tool="exact"))
"""


@pytest.mark.slow
def test_a_forked_process_that_ends_as_python_does_leaves_the_parents_alone(
    demo_model: Path, tmp_path: Path
) -> None:
    """As workers of gunicorn --preload: the parent loads, forks, and goes on."""
    run_program(
        tmp_path,
        """
pipeline = load()
first = pipeline(ASK)
for _ in range(3):
    child = os.fork()
    if not child:
        try:
            pipeline(ASK)
        except SetupError as error:
            sys.exit(0 if "load it in each process" in str(error) else f"another error: {error}")
        sys.exit("answered")
    assert os.waitpid(child, 0)[1] == 0
assert pipeline(ASK) == first
child = os.fork()
if not child:  # one that loads its own
    sys.exit(0 if load()(ASK) == first else 1)
assert os.waitpid(child, 0)[1] == 0
print("done")
""",
    )


@pytest.mark.slow
@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_processes_of_multiprocessing(demo_model: Path, tmp_path: Path, method: str) -> None:
    """An inherited pipeline is refused, and one of their own answers as the parent's does."""
    run_program(
        tmp_path,
        f"""
def use(given):
    if given is not None:
        return given(ASK)
    with load() as own:
        return own(ASK)
def inherited():
    try:
        return pipeline(ASK)
    except SetupError as error:
        return str(error)
if __name__ == "__main__":
    context = multiprocessing.get_context({method!r})
    pipeline = load()
    first = pipeline(ASK)
    with context.Pool(2) as pool:
        assert pool.map(use, [None, None]) == [first, first]
        if {method!r} == "fork":
            assert "load it in each process" in pool.apply(inherited)
    assert pipeline(ASK) == first
    print("done")
""",
    )


@pytest.mark.slow
@pytest.mark.parametrize("preload", [False, True])
@pytest.mark.parametrize("when", ["importing", "first request"])
def test_gunicorn(demo_model: Path, tmp_path: Path, preload: bool, when: str) -> None:
    """Refused by name only where the pipeline was loaded before the workers were forked."""
    import gunicorn  # noqa: F401  (skipped by make test-fast where they are missing)
    import httpx

    (tmp_path / "app.py").write_text(
        LOADING
        + f"""
pipeline = load() if {when!r} == "importing" else None
def app(environ, start_response):
    global pipeline
    pipeline = pipeline or load()
    try:
        status, said = "200 OK", pipeline(ASK)[0]["answer"]
    except SetupError as error:
        status, said = "503 Service Unavailable", str(error)
    start_response(status, [("Content-Type", "text/plain")])
    return [said.encode()]
""",
        "utf-8",
    )
    options = ["--workers", "2", "--bind", "127.0.0.1:0", "--timeout", "600"]
    with nothing_left(), (tmp_path / "log").open("w") as log:
        server = subprocess.Popen(
            [sys.executable, "-m", "gunicorn", *options, *["--preload"] * preload, "app:app"],
            cwd=tmp_path,
            env=os.environ | {"PYTHONPATH": str(PROJECT_DIR)},
            stderr=log,
        )
        try:
            url = listening(server, tmp_path / "log")
            found = [httpx.get(url, timeout=300) for _ in range(4)]
        finally:
            server.terminate()
            status = server.wait(120)
    assert status == 0
    if preload and when == "importing":
        assert {r.status_code for r in found} == {503}
        assert "load it in each process (gunicorn without --preload" in found[0].text
    else:
        assert {(r.status_code, r.text) for r in found} == {(200, "1016 + 1 = 1017.")}


def listening(server: subprocess.Popen[bytes], log: Path) -> str:
    """The address at which gunicorn says it listens."""
    while not (said := re.search(r"Listening at: (http://\S+)", log.read_text("utf-8"))):
        assert server.poll() is None, log.read_text("utf-8")
        time.sleep(0.1)
    return said[1]


def test_processes_that_share_a_journal_by_a_fork_lose_no_record(tmp_path: Path) -> None:
    """One that is inherited would share its lock, too."""
    journal = Journal(tmp_path / "answers.jsonl")
    journal.append({"by": "parent"})
    count = 200
    children = []
    for name in ("a", "b", "c"):
        if not (child := os.fork()):
            for number in range(count):
                journal.append({"by": name, "number": number, "filler": "x" * 500})
            os._exit(0)
        children.append(child)
    for number in range(count):
        place = journal.append({"by": "d", "number": number})
        assert journal.read(place)["number"] == number
    for child in children:
        assert os.waitpid(child, 0)[1] == 0
    found = [json.loads(line) for line in (tmp_path / "answers.jsonl").read_text().splitlines()]
    assert len(found) == 1 + 4 * count


def test_an_answer_cache_goes_on_in_a_forked_process(tmp_path: Path) -> None:
    from runtime.cache import AnswerCache

    cache = AnswerCache(tmp_path)
    cache.keep(b"a", "Paris", "stop")

    def work() -> object:
        cache.keep(b"b", "Rome", "stop")
        return cache.find(b"a")

    assert in_fork(work) == str(("Paris", "stop"))
    assert cache.find(b"b") == ("Rome", "stop")
    cache.close()
