"""Starts and stops servers for benchmarks, and makes their work."""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import psutil

from benchmarks.common import command, read_questions
from benchmarks.contenders.work import Work
from benchmarks.race import Contender, compete, make_prompts
from benchmarks.traffic import Body
from runtime.common.errors import SetupError
from runtime.engine.llama import physical_cores
from runtime.files import demo
from runtime.settings import PROJECT_DIR, Settings, declared_subjects

_SLOTS, _NEW_TOKENS, _MAX_INPUT_TOKENS = 16, 32, 512
_STARTING = 120.0  # seconds


@dataclass(frozen=True)
class Server:
    """A running server: its address (host and port) and process."""

    address: str
    process: psutil.Process

    def resident(self) -> int:
        """Resident bytes of the process and its children."""
        total = 0
        for process in [self.process, *self.process.children(recursive=True)]:
            try:
                total += process.memory_info().rss
            except psutil.NoSuchProcess:
                continue
        return total


@contextmanager
def ours(
    work: Work, routes: Mapping[str, Path], *arguments: str, **settings: str
) -> Iterator[Server]:
    """Run `runtime.serve` for a work; `routes` has adapters by setting.

    Raises:
        SetupError: it does not start.
    """
    command_line, environment = command("runtime.serve", "--port", "0", *arguments)
    environment |= {
        "MODEL_NAME": work.model,
        "BATCH_SIZE": str(work.slots),
        "NUM_THREADS": str(work.threads),
        "MAX_INPUT_TOKENS": str(work.cells - work.new_tokens),
        "MAX_NEW_TOKENS": str(work.new_tokens),
        "MIN_NEW_TOKENS": "0",
        "TEMPERATURE": "0",
        "DEVICE_MAP": "cpu",
        "ALGEBRA_TOOL": "off",
        **{setting: str(path) for setting, path in routes.items()},
        **settings,
    }
    with _started(command_line, environment) as server:
        yield server


@contextmanager
def llama_server(python: Path, work: Work) -> Iterator[Server]:
    """Run llama-server's engine with its own HTTP server, in the peers' environment.

    Raises:
        SetupError: it does not start.
    """
    options = {"adapters": [], "parallel": work.slots, **work.options}
    with tempfile.TemporaryDirectory() as folder:
        given = Path(folder, "work.json")
        replace(work, options=options).save(given)
        module = "benchmarks.contenders.llama_server_http"
        with _started(*command(module, given, python=python)) as server:
            yield server


@contextmanager
def _started(command_line: list[str], environment: dict[str, str]) -> Iterator[Server]:
    """Start a server and read its address from stderr; stop it at the end. Raises SetupError."""
    with tempfile.TemporaryDirectory() as folder:
        said = Path(folder, "said")
        with said.open("wb") as stderr:
            process = subprocess.Popen(
                command_line, cwd=PROJECT_DIR, env=environment, stdin=subprocess.PIPE, stderr=stderr
            )
        try:
            end = time.monotonic() + _STARTING
            while True:
                text = said.read_text("utf-8", "replace")
                if found := re.search(r"serving on http://(\S+)", text):
                    break
                if process.poll() is not None or time.monotonic() > end:
                    lines = text.strip().splitlines() or ["no output"]
                    raise SetupError(f"a server did not start: {lines[-1]}")
                time.sleep(0.1)
            time.sleep(1)  # the line is written just before the socket is ready
            yield Server(found[1], psutil.Process(process.pid))
        finally:
            process.terminate()
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def samples(count: int | None = None) -> tuple[Work, dict[str, Path]]:
    """The sample questions of subjects as work for the demo, and its adapters by setting."""
    questions = [q for q in read_questions([], None) if q["subject"]][:count]
    model = demo.ensure(Settings.load().models_dir)
    prompts = make_prompts(model, questions, _MAX_INPUT_TOKENS)
    routes = find_adapters(PROJECT_DIR / "loras", questions)
    cells = max(len(prompt.tokens) for prompt in prompts) + _NEW_TOKENS
    adapters = {"adapters": [str(path) for path in routes.values()]}
    work = Work(str(model), prompts, _NEW_TOKENS, _SLOTS, physical_cores(), cells, adapters)
    return work, routes


def listed(work: Work) -> tuple[float, list[str]]:
    """Answers per second of one `pipeline(list)` for a work, and the answers. Raises SetupError."""
    contender = Contender("list", "pipeline(list)", "ours", options=work.options)
    outcome = compete(contender, work, Path(sys.executable), 1800)
    if isinstance(outcome, str):
        raise SetupError(f"pipeline(list) failed: {outcome}")
    speed = len(work.prompts) / outcome.answer_seconds
    print(f"pipeline(list): {speed:.2f} answers/s", file=sys.stderr)
    return speed, outcome.texts


def bodies(work: Work, adapters: Sequence[str] | None = None) -> Body:
    """Request bodies with the prompts of a work in turn.

    Args:
        adapters: settings of subjects in the order of llama-server's adapters; None for this
            server, where a subject is a model.
    """
    declared = declared_subjects()
    made = []
    for prompt in work.prompts:
        subject = declared.of(prompt.question["subject"])
        if adapters is None:
            chosen: dict[str, Any] = {"model": subject.name}
        else:
            chosen = {"lora": [{"id": adapters.index(subject.setting), "scale": 1.0}]}
        limits = {"max_tokens": work.new_tokens, "temperature": 0, "ignore_eos": True}
        made.append({"prompt": prompt.tokens, **limits, **chosen})
    return lambda number: made[number % len(made)]


def find_adapters(folder: Path, questions: Sequence[dict[str, Any]]) -> dict[str, Path]:
    """The adapters of the subjects of some questions, by setting, in the order of settings.

    Raises:
        SetupError: a subject has no adapter, or several.
    """
    declared = declared_subjects()
    asked = {declared.of(question["subject"]) for question in questions}
    found = {}
    for subject in sorted(asked, key=lambda subject: subject.setting):
        files = list(folder.glob(f"*-lora-{subject.name}.gguf"))
        if len(files) != 1:
            raise SetupError(f"{folder}: {len(files)} files *-lora-{subject.name}.gguf, not one")
        found[subject.setting] = files[0].resolve()
    return found
