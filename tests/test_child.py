"""A child process does its jobs within its limits, whatever happens to it or to its parent."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from runtime.common import child
from runtime.common.child import Child, ChildEndedError, Limits, NoChildError, call, tell

# Functions that run in the child process.


def double(job: str) -> str:
    print("not a message")
    return job * 2


def pid(_: object) -> int:
    return os.getpid()


def variable(name: str) -> str | None:
    return os.environ.get(name)


def fail(stage: str) -> None:
    tell(stage)
    raise ValueError(f"no {stage}")


def kill(_: object) -> None:
    print("last words\n\n", file=sys.stderr, flush=True)
    os.kill(os.getpid(), signal.SIGKILL)


def sleep(seconds: float) -> str:
    tell("sleeping")
    time.sleep(seconds)
    return "slept"


def compute(_: object) -> None:
    while True:
        pass


def allocate(n: int) -> str:
    try:
        return f"{len(bytearray(n))} bytes"
    except MemoryError:
        return "too much"


def here(name: str) -> str:
    return f"tests.test_child:{name}"


def test_jobs_and_results_are_any_json_and_the_process_stays() -> None:
    with Child(here("double")) as process:
        for text in ("a", "北\ud800\u2028\n", "x" * 300_000, ""):
            assert process.ask(text, 30) == text * 2
    with Child(here("pid")) as process:
        first = process.ask(None, 30)
        assert process.ask(None, 30) == first != os.getpid()
        process.close()
        assert process.ask(None, 30) != first


def test_variables_are_set_beside_those_of_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OURS", "1")
    for name, value in (("OURS", "1"), ("MORE", "2"), ("NONE", None)):
        assert call(here("variable"), name, 30, environment={"MORE": "2"}) == value


@pytest.mark.parametrize(
    ("name", "status", "stage", "said"),
    [("fail", 1, "parsing", "ValueError: no parsing"), ("kill", -9, "", "last words")],
)
def test_an_end_says_how_and_where_and_the_next_job_is_done(
    name: str, status: int, stage: str, said: str
) -> None:
    with Child(here(name)) as process:
        for _ in range(2):
            with pytest.raises(ChildEndedError) as ended:
                process.ask("parsing", 30)
            assert (ended.value.status, ended.value.stage) == (status, stage)
            assert ended.value.said == said


def test_a_job_that_takes_too_long_is_ended_and_its_result_answers_no_other() -> None:
    with Child(here("sleep")) as process:
        assert process.ask(0, 30) == "slept"
        with pytest.raises(ChildEndedError) as ended:
            process.ask(50, 0.3)
        assert (ended.value.status, ended.value.stage) == (None, "sleeping")
        assert process.ask(0, 30) == "slept"


def test_an_interrupted_job_answers_no_other() -> None:
    with Child(here("double")) as process:
        process.ask("a", 30)
        # To the main thread, which would else sleep on.
        main = threading.main_thread().ident
        timer = threading.Timer(0.2, signal.pthread_kill, [main, signal.SIGINT])
        process._lock.acquire()
        process._process._messages = Waiting()  # type: ignore[union-attr, assignment]
        timer.start()
        with pytest.raises(KeyboardInterrupt):
            process.ask("b", 30)
        process._lock.release()
        assert process.ask("c", 30) == "cc"


class Waiting:
    """Messages that do not come."""

    def get(self, timeout: float) -> None:
        time.sleep(timeout)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux limits these")
def test_limits_of_computing_and_memory() -> None:
    with pytest.raises(ChildEndedError) as ended:
        call(here("compute"), None, 60, Limits(cpu_seconds=1))
    assert ended.value.status == -signal.SIGXCPU
    with Child(here("allocate"), Limits(memory=100 << 20)) as process:
        assert process.ask(50 << 20, 30) == f"{50 << 20} bytes"
        assert process.ask(200 << 20, 30) == "too much"
    assert call(here("allocate"), 200 << 20, 30) == f"{200 << 20} bytes"


def test_where_no_process_can_be_started_it_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(NoChildError, match=r"No module named 'tests\.none'"):
        call("tests.none:x", None, 30)
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with pytest.raises(NoChildError):
        call(here("double"), "a", 30)
    monkeypatch.setattr(sys, "executable", "/nowhere")
    with pytest.raises(NoChildError):
        call(here("double"), "a", 30)


def test_it_is_not_started_again_for_ever() -> None:
    with Child(here("kill"), restarts=1) as process:
        for _ in range(2):
            with pytest.raises(ChildEndedError):
                process.ask(None, 30)
        with pytest.raises(NoChildError, match="too often"):
            process.ask(None, 30)


def test_threads_take_turns() -> None:
    results: dict[str, str] = {}
    with Child(here("double")) as process:

        def ask(text: str) -> None:
            results[text] = process.ask(text, 30)

        threads = [threading.Thread(target=ask, args=[str(n)]) for n in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert results == {str(n): str(n) * 2 for n in range(8)}


FORKING = """
import os, sys, threading
from runtime.common.child import Child

process = Child("tests.test_child:pid")
first = process.ask(None, 30)
held = threading.Event(), threading.Event()

def hold():
    with process._lock:
        held[0].set()
        held[1].wait(30)

threading.Thread(target=hold, daemon=True).start()
held[0].wait(30)  # a fork while another thread has the lock
if not (forked := os.fork()):
    second = process.ask(None, 30)
    assert second != first, "shared with the parent"
    sys.exit()  # runs what is to run at the end, which must not end the parent's
assert os.waitstatus_to_exitcode(os.waitpid(forked, 0)[1]) == 0
held[1].set()
assert process.ask(None, 30) == first, "ended by the forked process"
print("ok")
"""


def test_a_forked_process_has_a_child_of_its_own() -> None:
    ran = subprocess.run(
        [sys.executable, "-c", FORKING], capture_output=True, text=True, check=False, timeout=100
    )
    assert (ran.stdout, ran.returncode) == ("ok\n", 0), ran.stderr


ORPHAN = """
import os
from runtime.common.child import Child

process = Child("tests.test_child:sleep")
process.start()
print(process._process._popen.pid, flush=True)
try: process.ask(100, 100)
finally: print("not killed")
"""


def test_a_child_does_not_outlive_a_parent_that_is_killed() -> None:
    parent = subprocess.Popen([sys.executable, "-c", ORPHAN], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    number = int(parent.stdout.readline())
    time.sleep(1)
    parent.kill()
    parent.communicate()
    deadline = time.monotonic() + 30
    while Path(f"/proc/{number}").exists() and "zombie" not in state(number):
        assert time.monotonic() < deadline
        time.sleep(0.1)


def state(number: int) -> str:
    try:
        return Path(f"/proc/{number}/status").read_text()
    except OSError:
        return "zombie"


def test_outside_a_child_telling_does_nothing() -> None:
    assert child._replies is None
    tell("nothing")
