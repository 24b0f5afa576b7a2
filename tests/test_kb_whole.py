"""`python -m kb` goes the whole way, says what it brought, and continues where it was killed."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import redirect_stdout
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest

from evaluation.records import Item
from kb import report, steps
from kb.__main__ import main
from kb.comparing import Part
from kb.steps import Steps
from runtime.common.errors import UserError
from runtime.retrieval import Gate
from runtime.settings import PROJECT_DIR
from tests.forking import Forked, set_environment

# Steps


def test_what_is_done_is_not_done_again(tmp_path: Path) -> None:
    calls: list[int] = []

    def work() -> list[int]:
        calls.append(1)
        return [1, 2]

    for _ in range(2):
        with Steps(tmp_path, {"--raw": "x"}) as run:
            assert run.do("answers", work) == [1, 2]
            run.run("help", "kb.preprocess", ["--help"])
    assert calls == [1]
    lines = [json.loads(line) for line in (tmp_path / "steps.jsonl").read_text().splitlines()]
    assert sum(line.get("step") == "help" and "result" in line for line in lines) == 1
    with Steps(tmp_path, {"--raw": "x"}) as run:
        assert run.seconds["help"] > 0
    with pytest.raises(UserError, match="was started with another --raw; choose another --out"):
        Steps(tmp_path, {"--raw": "y"})


def test_before_the_first_step_is_done_a_run_may_be_given_something_else(tmp_path: Path) -> None:
    for raw in ("x", "y", "z"):
        with Steps(tmp_path, {"--raw": raw}) as run, pytest.raises(UserError):
            run.run("base", "kb.preprocess", ["--nonsense"])
    with Steps(tmp_path, {"--raw": "z"}) as run:
        run.do("base", list)
    with pytest.raises(UserError, match="was started with another --raw"):
        Steps(tmp_path, {"--raw": "x"})


def test_a_step_that_failed_is_not_done(tmp_path: Path) -> None:
    with Steps(tmp_path, {}) as run:
        for _ in range(2):
            with pytest.raises(UserError, match=r"python -m kb\.preprocess ended with status 2"):
                run.run("base", "kb.preprocess", ["--nonsense"])


def test_a_folder_is_for_one_run_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(steps, "_PATIENCE", 0.2)
    with (
        Steps(tmp_path, {}),
        pytest.raises(UserError, match="another run is using it"),
    ):
        Steps(tmp_path, {})
    Steps(tmp_path, {}).close()


SLEEPING = "import time; print('asleep', flush=True); time.sleep(1000)"


def test_what_a_killed_run_has_started_ends_with_it(tmp_path: Path) -> None:
    """Two trainings in one folder would spoil each other."""
    (tmp_path / "sleeping.py").write_text(SLEEPING)
    code = "import sys; from pathlib import Path; from kb.steps import Steps\n"
    code += f"Steps(Path({str(tmp_path / 'out')!r}), {{}}).run('sleep', 'sleeping')"
    environment = {**os.environ, "PYTHONPATH": f"{PROJECT_DIR}:{tmp_path}"}
    process = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, env=environment
    )
    assert process.stdout is not None
    while b"asleep" not in process.stdout.readline():
        assert process.poll() is None
    (child,) = psutil.Process(process.pid).children()
    process.kill()
    process.wait()
    with Steps(tmp_path / "out", {}):  # waits for the child, which has the lock too
        assert not child.is_running() or child.status() == psutil.STATUS_ZOMBIE


def test_what_is_started_as_its_parent_is_killed_ends_at_once() -> None:
    assert subprocess.run(
        [sys.executable, "-c", "from kb.steps import _end_with; _end_with(1); print('goes on')"],
        cwd=PROJECT_DIR,
        capture_output=True,
    ).stdout == (b"" if sys.platform == "linux" else b"goes on\n")


# The report


def _part(right: str, seconds: float) -> Part:
    """Answers to as many questions: + is a right one."""
    marks = dict(enumerate(right))
    answers = {n: f"It is *{mark}*" for n, mark in marks.items()}
    return Part({n: mark == "+" for n, mark in marks.items()}, answers, seconds, 2 * seconds)


def test_a_report_says_what_was_gained_lost_and_paid(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    chosen = {"questions": 9, "right_without": 1, "right_always": {"60": 2}, "candidates": []}
    evidence = {"chosen_on": chosen, "proved_on": None, "most_luck": 0.1}
    (tmp_path / "adapter").write_bytes(bytes(2_500_000))
    findings = report.Findings(
        subject="history",
        model="x.gguf",
        items=[Item(n, "history", f"Who is {n}?", (f"Queen {n}",)) for n in range(6)],
        ways={
            report.BARE: _part("+-----", 10.0),
            "adapter": _part("++----", 11.0),
            "adapter and gated passages": _part("-++++-", 25.0),
            "adapter and passages always": _part("-+++++", 40.0),
        },
        shown={report.BARE: 0, "adapter": 0, "adapter and gated passages": 4}
        | {"adapter and passages always": 6},
        gate=Gate(subject="history", base_sha256="", mode="off", evidence=evidence),
        questions=(60, 40),
        seconds={"base": 3.0, "adapter": 70.0, "answers": 90.0, "answers: a": 10.0}
        | {"answers: b": 5.5},
        files={"adapter": tmp_path / "adapter"},
        served={"MODEL_NAME": "x.gguf", "RAG_ENABLED_SUBJECTS": '{"history": true}'},
    )
    text = report.write(tmp_path / "report.md", findings).read_text()
    assert "x.gguf answers 1 right as it is and 4 with adapter and gated passages" in text
    assert "4 gained and 1 lost (p = 0.188), in 2.50 times the time" in text
    assert "| adapter | 0 of 6 | 2 (33.3%) | 0% to 67% | +1 −0 | 0.500 | 11.0 | 22.0 |" in text
    assert "| adapter and gated passages | 4 of 6 | 4 (66.7%) |" in text
    assert "by the gated passages alone +3 −1" in text
    assert "## Gained by passages: 3" in text
    assert "- Who is 2? (right: Queen 2)\n  - without: It is \\*-\\*\n  - with: It is" in text
    assert "## Lost by passages: 1\n\n- Who is 0?" in text
    assert "| adapter | 70.0 |" in text
    assert "| development questions | 15.5 |" in text
    assert "| 2.5 |" in text
    # No gate was proved: passages are not served.
    assert "    MODEL_NAME=x.gguf \\\n" in text
    assert "RAG_ENABLED" not in text


# The whole way


@pytest.fixture(scope="module")
def given(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """The command line, but for --out: a tiny model, and questions that the raw files answer."""
    pytest.importorskip("torch")
    from tests.checkpoints import save_checkpoint, tiny_tokenizer

    folder = tmp_path_factory.mktemp("given")
    base = save_checkpoint(folder / "tiny-chat", "llama", tiny_tokenizer("smollm"))
    (folder / "raw.tsv").write_text(
        "".join(f"Land {n}\tThe capital of Land {n} is Town {n}.\n" for n in range(80))
    )
    for name, numbers in {"train": range(70), "dev": range(65, 75)}.items():
        lines = [
            json.dumps(
                {
                    "questionID": f"{name} {n}",
                    "subject": "geography",
                    "question": f"What is the capital of Land {n}?",
                    "answers": [f"Town {n}", f"the town {n}"],
                    "solution": f"It is Town {n}." if n % 2 else None,
                }
            )
            for n in numbers
        ]
        (folder / f"{name}.jsonl").write_text("\n".join(lines))
    return [
        *("--subject", "geography", "--raw", str(folder / "raw.tsv")),
        *("--train", str(folder / "train.jsonl"), "--dev", str(folder / "dev.jsonl")),
        *("--base", str(base), "--type", "Q8_0", "--out"),
    ]


TRAINING = ["--", "--epochs", "1", "--rank", "2", "--batch-size", "16"]


SETTINGS = {
    "MAX_NEW_TOKENS": "4",
    "BATCH_SIZE": "8",
    "MAX_INPUT_TOKENS": "200",
    "PYTHONPATH": str(PROJECT_DIR),
    "OFFLINE_GUARD": "off",
}


@pytest.fixture(autouse=True, scope="module")
def _settings() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as changed:
        for name, value in SETTINGS.items():
            changed.setenv(name, value)
        yield


class Command:
    """A step's process as `kb.steps` starts it, but forked from one that has loaded torch."""

    def __init__(self, command: list[str], env: dict[str, str], **_: Any) -> None:
        module = command[command.index("-m") :]
        self._forked = Forked(module, PROJECT_DIR, partial(set_environment, env))

    def wait(self, timeout: float | None = None) -> int:
        self._forked.process.join(timeout)
        if self._forked.process.exitcode is None:
            raise subprocess.TimeoutExpired("step", timeout or 0)
        status, said = self._forked.end()
        assert status == 0, said
        return status

    def poll(self) -> int | None:
        return self._forked.process.exitcode


def go(command: list[str]) -> str:
    """Run it in this process; what it prints."""
    processes = SimpleNamespace(Popen=Command, TimeoutExpired=subprocess.TimeoutExpired)
    with pytest.MonkeyPatch.context() as changed, redirect_stdout(io.StringIO()) as said:
        changed.setattr(steps, "subprocess", processes)
        assert main(command) == 0
    return said.getvalue()


def _begin(command: list[str]) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "kb", *command],
        cwd=PROJECT_DIR,
        env={**os.environ, **SETTINGS},
        stdout=subprocess.PIPE,
        text=True,
    )


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, given: list[str]) -> Path:
    """The folder of a run that nothing has stopped."""
    out = tmp_path_factory.mktemp("whole") / "out"
    said = go([*given, str(out), *TRAINING])
    assert said.count("$ ") == 5
    assert said.endswith(f"{out / 'report.md'}\n")
    return out


@pytest.mark.slow
def test_the_whole_way_is_gone_once_and_reported(
    whole: Path, given: list[str], capfd: pytest.CaptureFixture[str]
) -> None:
    out, command = whole, [*given, str(whole), *TRAINING]
    text = (out / "report.md").read_text()
    for way in (
        "the model as it is",
        "adapter",
        "adapter and gated passages",
        "adapter and passages always",
    ):
        assert f"| {way} | " in text
    assert "10 of 10" in text
    assert (out / "report.png").stat().st_size > 1000
    assert "| adapter | " in text
    assert f"ADAPTERS_BASE_DIR={out / 'adapters'}" in text
    records = map(json.loads, (out / "train.jsonl").read_text().splitlines())
    solved = {record["question"]: record.get("solution") for record in records}
    assert solved["What is the capital of Land 1?"] == "It is Town 1."
    assert None in solved.values()
    learned, kept = (
        [json.loads(line)["question"] for line in (out / f"{part}.jsonl").read_text().splitlines()]
        for part in ("train", "gate")
    )
    # The five that are among the development questions are in neither.
    assert sorted(learned + kept) == sorted(f"What is the capital of Land {n}?" for n in range(65))
    assert len(kept) >= 20
    assert json.loads((out / "gate.jsonl").read_text().splitlines()[0])["answers"][1:]

    assert main(command) == 0
    assert "$ " not in capfd.readouterr().out  # nothing is made again
    assert (out / "report.md").read_text() == text
    assert main([*given, str(out), "--no-adapter"]) == 1
    said = capfd.readouterr().err
    assert "was started with another --no-adapter, options of training.finetune; choose" in said
    with pytest.MonkeyPatch.context() as changed:
        changed.setenv("STOP", '["."]')
        changed.setenv("REPETITION_PENALTY", "1.2")
        assert main(command) == 1
    assert "was started with another STOP, REPETITION_PENALTY; choose" in capfd.readouterr().err


@pytest.mark.slow
def test_a_run_that_is_killed_goes_on_where_it_was(
    tmp_path: Path, whole: Path, given: list[str]
) -> None:
    """Killed after the base, in training and between answers; it ends like a run that was not."""
    out = tmp_path / "out"
    command = [*given, str(out), *TRAINING]
    journal = out / "steps.jsonl"

    def begun(what: str) -> bool:
        return journal.exists() and what in journal.read_text()

    training = out / "loras" / ".tiny-chat-lora-geography.training" / "inputs"
    for moment in (
        lambda: begun('"step": "base", "result"'),
        training.exists,
        lambda: begun('"step": "answers: the model as it is", "result"'),
    ):
        with _begin(command) as process:
            while not moment():
                assert process.poll() is None
                time.sleep(0.02)
            process.kill()
    with _begin(command) as process:
        process.communicate()
    assert process.returncode == 0

    def found(folder: Path) -> dict[str, object]:
        entries = map(json.loads, (folder / "steps.jsonl").read_text().splitlines())
        results = {e["step"]: e["result"] for e in entries if "result" in e}
        return {
            name: (result["right"], result["answers"])
            for name, result in results.items()
            if name.startswith("answers: ")
        }

    assert len(found(out)) == 5
    assert found(out) == found(whole)
    adapters = [folder / "adapters" / "tiny-chat-lora-geography.gguf" for folder in (out, whole)]
    assert adapters[0].read_bytes() == adapters[1].read_bytes()


@pytest.mark.slow
def test_a_gate_for_the_model_as_it_is_needs_no_training(tmp_path: Path, given: list[str]) -> None:
    out = tmp_path / "out"
    go([*given, str(out), "--no-adapter"])
    text = (out / "report.md").read_text()
    assert "| the model as it is | 0 of 10 | " in text
    assert "| passages always | 10 of 10 | " in text
    assert not (out / "loras").exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (["--gate-share", "1"], "--gate-share 1.0: must be between 0 and 1"),
        (["--gate-share", "0.1"], "for the gate, which needs 20"),
        (["--subject", "physics"], "--subject"),
        (["--subject", "history"], "no question of history in it"),
        (["--raw", "no-such-file.md"], "no-such-file.md"),
        (["--raw", "pipe.md"], "pipe.md: not a regular file"),
        (["--type", "Q9_9"], "--type Q9_9: no such type; choose from "),
        (["--train", "dev.jsonl"], "of 10 questions of geography, 10 are also in --dev"),
        (["--", "--nonsense", "1"], "--nonsense 1: there is no such option"),
        (["--", "--model", "demo"], "--model demo: there is no such option, or python -m kb sets"),
        (["--", "--epochs", "0", "--batch_size", "x"], "--epochs 0: must be over 0\n"),
        (["--", "--bad-records", "keep"], "argument --bad-records: invalid choice: 'keep'"),
        (["--no-adapter", "--", "--epochs", "1"], "leave out --epochs 1"),
    ],
)
def test_what_cannot_work_is_said_before_anything_is_done(
    tmp_path: Path,
    given: list[str],
    monkeypatch: pytest.MonkeyPatch,
    change: list[str],
    message: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    os.mkfifo(tmp_path / "pipe.md")
    (tmp_path / "dev.jsonl").symlink_to(given[given.index("--dev") + 1])
    monkeypatch.chdir(tmp_path)
    assert main([*given, str(tmp_path / "out"), *change]) == 1
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out" / "kb").exists()
