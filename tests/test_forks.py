"""Processes that are forked from one that has loaded a pipeline."""

from __future__ import annotations

import json
import multiprocessing
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from runtime import Pipeline, loadPipeline
from runtime.common.errors import SetupError
from runtime.common.journal import Journal
from runtime.engine import Engine, EngineError, Request, SamplingParams
from runtime.settings import PROJECT_DIR
from tests.conftest import small_settings

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


@pytest.mark.slow
def test_a_forked_process_that_ends_as_python_does_leaves_the_parents_alone(
    demo_model: Path, tmp_path: Path
) -> None:
    """As workers of gunicorn --preload: the parent loads, forks, and goes on."""
    program = tmp_path / "parent.py"
    program.write_text(
        """
import os, sys
from runtime import loadPipeline
from tests.conftest import small_settings
pipeline = loadPipeline(small_settings(num_threads=2))
ask = [{"questionID": "1", "subject": "history", "question": "Who was Caesar?"}]
first = pipeline(ask)
for _ in range(3):
    child = os.fork()
    if not child:
        try:
            pipeline(ask)
        except Exception as error:
            sys.exit(0 if "load it in each process" in str(error) else f"another error: {error}")
        sys.exit("answered")
    assert os.waitpid(child, 0)[1] == 0
assert pipeline(ask) == first
child = os.fork()
if not child:  # one that loads its own
    sys.exit(0 if loadPipeline(small_settings(num_threads=1))(ask) else 1)
assert os.waitpid(child, 0)[1] == 0
print("done")
"""
    )
    done = subprocess.run(
        [sys.executable, program],
        env=os.environ | {"PYTHONPATH": str(PROJECT_DIR)},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, "done\n"), done.stderr


def answer_here(asked: list[dict[str, str]]) -> list[dict[str, str]]:
    with loadPipeline(small_settings()) as own:
        return own(asked)


@pytest.mark.slow
def test_spawned_processes_load_their_own(pipeline: Pipeline) -> None:
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        assert pool.apply(answer_here, (ASK,)) == answer_here(ASK)


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
