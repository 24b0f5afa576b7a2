"""What the offline guard stops, and what it leaves alone."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from runtime import loadPipeline
from runtime.common.offline import Mode, OfflineError, guard
from runtime.settings import PROJECT_DIR
from tests.conftest import small_settings

# Never routed on the internet (RFC 5737), and refused at once by the guard anyway.
OUTSIDE = "192.0.2.1"

ATTEMPTS: dict[str, Callable[[], Any]] = {
    "connect": lambda: socket.create_connection((OUTSIDE, 80), timeout=0.2),
    "sendto": lambda: socket.socket(type=socket.SOCK_DGRAM).sendto(b"x", (OUTSIDE, 9)),
    "look up": lambda: socket.getaddrinfo("example.com", 80),
    "look up in bytes": lambda: socket.getaddrinfo(b"example.com", 80),
    "look up by name": lambda: socket.gethostbyname("example.com"),
    "look up by address": lambda: socket.gethostbyaddr(OUTSIDE),
    "name of an address": lambda: socket.getnameinfo((OUTSIDE, 80), 0),
}


def called_from(module: str, file: str = "<string>") -> Callable[[Callable[[], Any]], Any]:
    """A function that calls another as if it stood in that module and file."""
    namespace = types.ModuleType(module).__dict__
    exec(compile("def call(function): return function()", file, "exec"), namespace)
    call: Callable[[Callable[[], Any]], Any] = namespace["call"]
    return call


@pytest.mark.parametrize("attempt", ATTEMPTS.values(), ids=ATTEMPTS)
@pytest.mark.parametrize(
    "call",
    [
        called_from("transformers.utils.hub"),
        called_from("huggingface_hub.file_download"),
        called_from("anything", str(PROJECT_DIR / "runtime" / "pipeline.py")),
    ],
    ids=["transformers", "huggingface_hub", "ours"],
)
def test_guarded_code_cannot_connect(
    call: Callable[[Callable[[], Any]], Any], attempt: Callable[[], Any]
) -> None:
    with guard("on"), pytest.raises(OfflineError, match="OFFLINE_GUARD=off turns the guard off"):
        call(attempt)


@pytest.mark.parametrize("attempt", ATTEMPTS.values(), ids=ATTEMPTS)
def test_in_process_mode_nobody_can(attempt: Callable[[], Any]) -> None:
    with guard("process"), pytest.raises(OfflineError):
        attempt()


@pytest.mark.parametrize("mode", ["on", "process"])
def test_this_machine_itself_can_be_reached(mode: Mode) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server, guard(mode):
        for host in ("127.0.0.1", "localhost", "LOCALHOST"):
            socket.create_connection((host, server.getsockname()[1]), timeout=2).close()


def test_the_callers_own_connections_are_left_alone() -> None:
    def attempt() -> str:
        try:
            socket.create_connection((OUTSIDE, 80), timeout=0.05).close()
        except OfflineError:
            return "stopped"
        except OSError:
            return "left alone"
        return "left alone"

    with guard("on"):
        assert attempt() == "left alone"
        # A package of the caller's may be called runtime, too.
        assert called_from("runtime.of.the.caller")(attempt) == "left alone"
    with guard("off"):
        assert called_from("transformers")(attempt) == "left alone"
    assert called_from("transformers")(attempt) == "left alone"


def test_hugging_face_libraries_are_offline_while_it_is_held(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    constants: Any = types.ModuleType("huggingface_hub.constants")
    constants.HF_HUB_OFFLINE = False
    monkeypatch.setitem(sys.modules, "huggingface_hub.constants", constants)
    monkeypatch.setenv("TRANSFORMERS_OFFLINE", "0")
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    with guard("on"):
        with guard("process"):
            pass
        assert os.environ["HF_HUB_OFFLINE"] == os.environ["TRANSFORMERS_OFFLINE"] == "1"
        assert constants.HF_HUB_OFFLINE
    assert "HF_HUB_OFFLINE" not in os.environ
    assert os.environ["TRANSFORMERS_OFFLINE"] == "0"
    assert not constants.HF_HUB_OFFLINE


def test_a_pipeline_holds_the_guard_until_it_is_closed(demo_model: Path) -> None:
    call, attempt = called_from("transformers"), ATTEMPTS["look up"]
    with loadPipeline(small_settings(offline_guard="on")), pytest.raises(OfflineError):
        call(attempt)
    with contextlib.suppress(socket.gaierror):
        call(attempt)


def test_guards_that_end_out_of_order_put_everything_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    first, second = guard("on"), guard("on")
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    assert os.environ["HF_HUB_OFFLINE"] == "1"
    second.__exit__(None, None, None)
    assert "HF_HUB_OFFLINE" not in os.environ


# Ends a guard that was dropped at the n-th line of another's begin or end, for every n.
COLLECTED_ANYWHERE = """
import gc, os, sys
from runtime.common import offline

def drop_a_guard():
    held = offline.guard("process")
    held.__enter__()
    cycle = [held]
    cycle.append(cycle)

def collect_at(line):
    def trace(frame, event, argument):
        nonlocal line
        if frame.f_code in (offline._begin.__code__, offline._end.__code__):
            line -= event == "line"
            if event == "line" and line == 0:
                gc.collect()
            return trace
    sys.settrace(trace)
    return lambda: (sys.settrace(None), line)[1]

gc.disable()
names = offline._OFFLINE_VARIABLES
for where in ("begin", "end"):
    for n in range(1, 100):
        drop_a_guard()
        second = offline.guard("on")
        if where == "begin":
            left = collect_at(n)
        second.__enter__()
        if where == "begin":
            over = left() > 0
            gc.collect()
            assert offline._active == ["on"], offline._active
            assert [os.environ.get(name) for name in names] == ["1", "1", "1"], n
        else:
            left = collect_at(n)
        second.__exit__(None, None, None)
        if where == "end":
            over = left() > 0
            gc.collect()
        assert offline._active == [], offline._active
        assert not any(name in os.environ for name in names), (where, n)
        if over:
            break
    print(where, n)
"""


def test_a_dropped_guard_may_be_collected_while_another_begins_or_ends() -> None:
    environment = {k: v for k, v in os.environ.items() if not k.endswith("_OFFLINE")}
    child = subprocess.run(
        [sys.executable, "-c", COLLECTED_ANYWHERE],
        env=environment,
        cwd=PROJECT_DIR,
        capture_output=True,
        text=True,
        timeout=30,  # it once waited for itself
    )
    assert child.returncode == 0, child.stderr
    lines = [int(line.split()[1]) for line in child.stdout.splitlines()]
    assert min(lines) > 3, child.stdout
