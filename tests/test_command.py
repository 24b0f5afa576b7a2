"""The frame of every command: exit status, messages, and stopping within a second."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from runtime.common.command import run
from runtime.common.errors import SetupError
from tests.stopping import interrupt

FRAME = """
import os, sys, threading, time
from pathlib import Path
from runtime.common.command import run

def work(folder):
{body}

sys.exit(run(work, Path(sys.argv[1]), "stopped; --resume continues"))
"""

# Where a signal may come. Each says "begun" and then does not end by itself.
SLEEPING = "print('begun', flush=True); time.sleep(600)"
IN_C = """
import ctypes
numbers = (ctypes.c_int * 2)()
libc = ctypes.CDLL(None)
libc.pipe(numbers)
print('begun', flush=True)
while libc.read(numbers[0], ctypes.create_string_buffer(1), 1) < 1: pass  # interrupted: again
"""
SWALLOWED = """
import ctypes
compare = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p)
def slow(*_): time.sleep(0.01); return 0
numbers = (ctypes.c_int * 4000)()
print('begun', flush=True)
ctypes.CDLL(None).qsort(numbers, 4000, 4, compare(slow))
time.sleep(600)
"""
IN_A_DESTRUCTOR = """
class Slow:
    def __del__(self): print('begun', flush=True); time.sleep(600)
Slow()
time.sleep(600)
"""
HANGING_CLEANUP = """
try: print('begun', flush=True); time.sleep(600)
finally: time.sleep(600)
"""
HANGING_THREAD = """
threading.Thread(target=time.sleep, args=[600]).start()
print('begun', flush=True); time.sleep(600)
"""
HANGING_AT_EXIT = """
import atexit
atexit.register(time.sleep, 600)
print('begun', flush=True); time.sleep(600)
"""
WRITING = """
from runtime.common.atomic import replacing, replacing_folder
with replacing(folder / 'file') as path, replacing_folder(folder / 'sub', folder) as sub:
    path.write_text('half')
    (sub / 'x').write_text('half')
    print('begun', flush=True)
    while True:
        try: time.sleep(600)
        except KeyboardInterrupt: pass
"""
ANOTHER_ERROR = """
try: print('begun', flush=True); time.sleep(600)
except KeyboardInterrupt: raise ImportError('initialization failed') from None
"""
RETURNING = """
try: print('begun', flush=True); time.sleep(600)
except KeyboardInterrupt: return 0
"""


def start(tmp_path: Path, body: str, **options: object) -> subprocess.Popen[str]:
    script = tmp_path / "command.py"
    indented = "\n".join(f"    {line}" for line in body.strip().splitlines())
    script.write_text(FRAME.format(body=indented))
    (tmp_path / "work").mkdir()
    return subprocess.Popen(
        [sys.executable, str(script), str(tmp_path / "work")],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **options,  # type: ignore[call-overload]
    )


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize(
    "body",
    [
        SLEEPING,
        IN_C,
        SWALLOWED,
        IN_A_DESTRUCTOR,
        HANGING_CLEANUP,
        HANGING_THREAD,
        HANGING_AT_EXIT,
        WRITING,
        ANOTHER_ERROR,
        RETURNING,
    ],
    ids=lambda body: next(name for name, value in globals().items() if value is body),
)
def test_one_signal_ends_a_command_with_130_and_how_to_go_on(
    tmp_path: Path, body: str, number: int
) -> None:
    child = start(tmp_path, body)
    assert child.stdout is not None
    assert child.stdout.readline() == "begun\n"
    child.send_signal(number)
    _, errors = child.communicate(timeout=60)  # a second where nothing else runs
    assert child.returncode == 130
    assert errors.splitlines()[-1] == "stopped; --resume continues"
    assert errors.count("stopped") == 1
    assert "Traceback" not in errors
    assert list((tmp_path / "work").iterdir()) == []


def test_a_call_that_was_left_alone_is_not_disturbed_by_the_end(tmp_path: Path) -> None:
    """What it uses must not be freed: llama.cpp would crash, and the status be that of a crash."""
    body = """
import atexit
atexit.register(lambda: print('freed', flush=True))
print('begun', flush=True)
time.sleep(600)
"""
    child = start(tmp_path, body)
    assert child.stdout is not None
    child.stdout.readline()
    child.send_signal(signal.SIGINT)
    assert child.communicate(timeout=60)[0] == ""
    assert child.returncode == 130


def test_a_signal_while_a_command_is_imported_leaves_no_traceback(tmp_path: Path) -> None:
    """The library that the command asks for first is one that takes its time."""
    (tmp_path / "logging.py").write_text("import time; print('begun', flush=True); time.sleep(600)")
    (tmp_path / "early.py").write_text(
        "import sys; sys.orig_argv = ['python', '-m', 'kb.preprocess']\n"
        "from runtime.common import early\n"
        f"sys.path.insert(0, {str(tmp_path)!r})\nimport logging\n"
    )
    child = subprocess.Popen(
        [sys.executable, "-P", str(tmp_path / "early.py")],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(Path.cwd())},
    )
    assert child.stdout is not None
    assert child.stdout.readline() == "begun\n"
    child.send_signal(signal.SIGINT)
    assert child.communicate(timeout=60)[1] == "stopped\n"
    assert child.returncode == 130


def test_a_second_signal_does_not_disturb_the_cleaning_up(tmp_path: Path) -> None:
    body = """
try: print('begun', flush=True); time.sleep(600)
finally:
    print('cleaning', flush=True)
    time.sleep(0.3)
    print('clean', flush=True)
"""
    child = start(tmp_path, body)
    assert child.stdout is not None
    child.stdout.readline()
    child.send_signal(signal.SIGINT)
    assert child.stdout.readline() == "cleaning\n"
    child.send_signal(signal.SIGINT)
    output, _ = child.communicate(timeout=60)
    assert (output, child.returncode) == ("clean\n", 130)


def test_a_signal_to_a_forked_child_does_not_end_the_command(tmp_path: Path) -> None:
    body = """
import signal
child = os.fork()
if not child:
    time.sleep(600)
    os._exit(0)
time.sleep(0.3)
os.kill(child, signal.SIGTERM)
_, status = os.waitpid(child, 0)
time.sleep(1.5)
print(os.waitstatus_to_exitcode(status))
return 0
"""
    output, errors = start(tmp_path, body).communicate(timeout=60)
    assert (output, errors) == ("-15\n", "")


def test_signals_that_nohup_ignores_stay_ignored(tmp_path: Path) -> None:
    body = "print('begun', flush=True); time.sleep(0.5); print('done'); return 0"
    ignore = "import os, signal, sys; signal.signal(signal.SIGINT, signal.SIG_IGN)"
    child = start(tmp_path, body)
    child.kill()
    child.communicate()
    command = f"{ignore}; os.execv(sys.executable, [sys.executable] + sys.argv[1:])"
    child = subprocess.Popen(
        [sys.executable, "-c", command, str(tmp_path / "command.py"), str(tmp_path)],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert child.stdout is not None
    child.stdout.readline()
    child.send_signal(signal.SIGINT)
    assert child.communicate(timeout=60)[0] == "done\n"
    assert child.returncode == 0


def test_handlers_are_as_before_when_a_command_has_ended() -> None:
    def handlers() -> tuple[object, ...]:
        wakeup = signal.set_wakeup_fd(-1)
        signal.set_wakeup_fd(wakeup)
        return signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM), wakeup

    def files() -> int:
        return len(list(Path("/proc/self/fd").iterdir()))

    def raise_interrupt(_: None) -> int:
        raise KeyboardInterrupt

    run(lambda _: 0, None)
    before, open_before = handlers(), files()
    assert run(lambda _: 3, None) == 3
    assert run(raise_interrupt, None) == 130
    deadline = time.monotonic() + 10
    while files() > open_before and time.monotonic() < deadline:
        time.sleep(0.01)  # the thread closes its pipe
    # Fewer, if a pipe of an earlier test was closed meanwhile.
    assert handlers() == before
    assert files() <= open_before


def test_a_command_may_run_in_any_thread() -> None:
    statuses: list[int] = []
    thread = threading.Thread(target=lambda: statuses.append(run(lambda _: 5, None)))
    thread.start()
    thread.join()
    assert statuses == [5]


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (SetupError("x.jsonl: no questions in it"), "x.jsonl: no questions in it"),
        (OSError(28, "No space left on device", "out"), "out: No space left on device"),
        (FileNotFoundError(2, "No such file or directory", "in"), "in: No such file or directory"),
        (
            ModuleNotFoundError("No module named 'gguf'", name="gguf.constants"),
            "converting needs gguf: pip install 'subject-lora-serve[convert]'",
        ),
    ],
)
def test_errors_of_use_are_one_line(
    capsys: pytest.CaptureFixture[str], error: Exception, line: str
) -> None:
    def fail(_: None) -> int:
        raise error

    assert run(fail, None) == 1
    assert capsys.readouterr().err == f"error: {line}\n"


@pytest.mark.parametrize("error", [ValueError("x"), ModuleNotFoundError("x", name="runtime.gone")])
def test_errors_of_ours_keep_their_traceback(error: Exception) -> None:
    def fail(_: None) -> int:
        raise error

    with pytest.raises(type(error)):
        run(fail, None)


def test_engine_errors_are_errors_of_use() -> None:
    from runtime.common.errors import UserError
    from runtime.engine import EngineError

    assert issubclass(EngineError, UserError)


@pytest.fixture
def script(tmp_path: Path) -> Path:
    path = tmp_path / "command.py"
    body = "    print('北 é'); print('北', file=sys.stderr); return 0"
    path.write_text(FRAME.format(body=body))
    return path


def test_a_screen_without_a_character_is_no_reason_to_fail(script: Path) -> None:
    ran = subprocess.run(
        [sys.executable, str(script), "."],
        env={**os.environ, "PYTHONIOENCODING": "cp437"},
        capture_output=True,
        check=True,
    )
    assert (ran.stdout, ran.stderr) == (b"\\u5317 \x82\n", b"\\u5317\n")


def test_closed_streams_are_no_reason_to_fail(script: Path) -> None:
    for redirection in ("2>&-", ">&-", ">&- 2>&- <&-"):
        command = f'"{sys.executable}" "{script}" . {redirection}'
        assert subprocess.run(["sh", "-c", command], check=False).returncode == 0


def test_a_full_disk_behind_the_output_is_told(script: Path) -> None:
    command = f'"{sys.executable}" "{script}" . > /dev/full'
    ran = subprocess.run(["sh", "-c", command], check=False, capture_output=True, text=True)
    assert ran.returncode == 1
    assert re.match("error: (standard output|writing): No space left on device", ran.stderr)


def test_a_reader_that_goes_away_costs_one_line_at_most(tmp_path: Path) -> None:
    body = "for n in range(100000): print(n)\nreturn 0"
    child = start(tmp_path, body)
    assert child.stdout is not None
    child.stdout.readline()
    child.stdout.close()
    assert child.stderr is not None
    assert child.stderr.read() == ""
    assert child.wait(60) == 1


PREPROCESS = ["kb.preprocess", "--subject", "history", "--input", "{}/raw.tsv", "--out", "{}/out"]
EXPORT = ["convert.export_gguf", "--base", "demo", "--output", "{}/out"]


def test_ctrl_c_after_the_work_is_done_does_not_change_the_exit_status(tmp_path: Path) -> None:
    """Python frees its modules last, and has forgotten all signal handlers by then."""
    (tmp_path / "sitecustomize.py").write_text(
        "import builtins, os, signal\n"
        "class Late:\n"
        "    def __del__(self, kill=os.kill, me=os.getpid(), sigint=signal.SIGINT):\n"
        "        kill(me, sigint)\n"
        "builtins.late = Late()\n"
    )
    path = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])
    ended = subprocess.run(
        [sys.executable, "-m", "runtime", "--help"],
        env=os.environ | {"PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (ended.returncode, ended.stderr) == (0, "")
    assert "usage" in ended.stdout


@pytest.mark.slow
@pytest.mark.parametrize(
    ("command", "share"),
    [
        *((PREPROCESS, share) for share in (0.05, 0.3, 0.6, 0.9)),
        *((EXPORT, share) for share in (0.5, 0.9)),  # in a call of llama.cpp, or near one
    ],
    ids=lambda value: value[0] if isinstance(value, list) else str(value),
)
def test_commands_stop_within_a_second_and_leave_nothing_half_written(
    tmp_path: Path, command: list[str], share: float, times: dict[str, float]
) -> None:
    lines = (f"Town {n}\tIt has {n} bells and {n % 7} rivers.\n" for n in range(20_000))
    (tmp_path / "raw.tsv").write_text("".join(lines))
    arguments = [sys.executable, "-m", *(part.format(tmp_path) for part in command)]
    if command[0] not in times:
        started = time.monotonic()
        subprocess.run(arguments, check=True, capture_output=True)
        times[command[0]] = time.monotonic() - started
        shutil.rmtree(tmp_path / "out")
    child = subprocess.Popen(arguments, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    time.sleep(share * times[command[0]])
    errors, seconds = interrupt(child)
    if child.returncode == 0:  # it was quicker than the first time
        pytest.skip("it had ended")
    assert child.returncode == 130, errors
    assert seconds < 2
    assert errors.splitlines()[-1].startswith("stopped")
    assert "Traceback" not in errors
    left = [path.name for path in tmp_path.rglob(".*") if not path.name.endswith(".lock")]
    assert left == []


@pytest.fixture(scope="module")
def times() -> dict[str, float]:
    """How long commands take on this machine, in seconds."""
    return {}
