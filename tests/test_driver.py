"""`python -m runtime` as one runs it."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from runtime import Answer
from runtime.__main__ import main
from runtime.answer_file import Answers
from runtime.questions import parse, read_file
from runtime.settings import PROJECT_DIR, all_settings
from tests.conftest import LORAS, SAMPLES, small_settings
from tests.stopping import interrupt

pytestmark = pytest.mark.usefixtures("demo_model")
SETTINGS = {
    "MODEL_NAME": "demo",
    "BATCH_SIZE": "4",
    "MIN_NEW_TOKENS": "0",
    "MAX_NEW_TOKENS": "8",
    "MAX_INPUT_TOKENS": "256",
    "ALGEBRA_TOOL": "off",
}
ENVIRONMENT = {
    **{
        name: value
        for name, value in os.environ.items()
        if name not in {k.name for k in all_settings()}
    },
    **SETTINGS,
}
Run = Callable[..., "subprocess.CompletedProcess[str]"]


def run_process(*arguments: str | Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """The command as one runs it."""
    result = subprocess.run(
        [sys.executable, "-m", "runtime", *map(str, arguments)],
        cwd=PROJECT_DIR,
        env={**ENVIRONMENT, **environment},
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stderr
    return result


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    """The command in this process, which need not import anything."""

    def run(
        *arguments: str | Path, status: int = 0, **environment: str
    ) -> subprocess.CompletedProcess[str]:
        capsys.readouterr()
        command = [*map(str, arguments)]
        with pytest.MonkeyPatch.context() as changed:
            for name, value in {**SETTINGS, "OFFLINE_GUARD": "off", **environment}.items():
                changed.setenv(name, value)
            found = main(command)
        said = capsys.readouterr()
        assert found == status, said.err
        return subprocess.CompletedProcess(command, found, said.out, said.err)

    return run


def write_questions(path: Path, n: int) -> Path:
    lines = [{"questionID": i, "subject": "general", "question": f"What is {i}?"} for i in range(n)]
    path.write_text("\n".join(map(json.dumps, lines)), encoding="utf-8")
    return path


def read(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_without_a_file_it_answers_a_small_batch_of_its_own() -> None:
    result = run_process()
    assert "[built-in-2] geography: The capital of France is Paris" in result.stdout
    assert "5 questions in" in result.stderr
    assert "%|" not in result.stderr  # no progress bar in a pipe


def test_the_file_of_answers_is_in_the_order_of_the_questions(tmp_path: Path, run: Run) -> None:
    result = run("--input", write_questions(tmp_path / "q.jsonl", 9), "--output", tmp_path / "a")
    answers = read(tmp_path / "a")
    assert [a["questionID"] for a in answers] == list(range(9))
    assert all(a["answer"] and f"[{a['questionID']}] general: " in result.stdout for a in answers)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a", "q.jsonl"]


def test_it_says_how_many_answers_were_cut_off(tmp_path: Path, run: Run) -> None:
    question = {
        "questionID": 1,
        "subject": "geography",
        "question": "What is the capital of France?",
    }
    (tmp_path / "q.jsonl").write_text(json.dumps(question))
    assert "cut off" not in run("--input", tmp_path / "q.jsonl", MAX_NEW_TOKENS="128").stderr
    result = run(MAX_NEW_TOKENS="2")
    assert "5 were cut off and may lack their result (" in result.stderr
    assert "geography 1" in result.stderr
    assert "the limit is MAX_NEW_TOKENS=2 times the subject's length" in result.stderr


def test_a_broken_line_is_named_and_costs_no_other(tmp_path: Path, run: Run) -> None:
    questions = write_questions(tmp_path / "q.jsonl", 3)
    lines = questions.read_bytes().split(b"\n")
    lines[1:1] = [
        b'{"questionID": 7, "question"',
        b'{"questionID": 1e999, "question": "x"}',
        b"\xff",
    ]
    questions.write_bytes(b"\n".join(lines))
    result = run("--input", questions, "--output", tmp_path / "a")
    answers = [a["answer"] for a in read(tmp_path / "a")]
    assert [a.startswith("ERROR") for a in answers] == [False, True, True, True, False, False]
    assert answers[1].startswith("ERROR: not answered: line 2 is not JSON (Expecting")
    assert answers[2] == "ERROR: not answered: line 3 is not JSON (1e999 is too large a number)"
    assert answers[3] == "ERROR: not answered: line 4 is not UTF-8"
    assert "3 could not be answered" in result.stderr


@pytest.mark.slow
def test_a_killed_run_keeps_its_answers_and_resume_goes_on(tmp_path: Path, run: Run) -> None:
    questions = write_questions(tmp_path / "q.jsonl", 24)
    target, partial = tmp_path / "a", tmp_path / "a.partial"
    command = [sys.executable, "-m", "runtime", "--input", questions, "--output", target]
    process = subprocess.Popen(
        command,
        cwd=PROJECT_DIR,
        env=ENVIRONMENT | {"MAX_NEW_TOKENS": "32"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    deadline = time.monotonic() + 300  # on a machine that does other things, too
    while time.monotonic() < deadline and (not partial.exists() or partial.stat().st_size < 500):
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not target.exists()
    kept = {entry["index"]: entry["answer"] for entry in read(partial)}
    assert 0 < len(kept) < 24
    with partial.open("a", encoding="utf-8") as file:
        file.write('{"index": 23, "cut sho')  # as a kill in the middle of a line leaves it

    error = run("--input", questions, "--output", target, status=1).stderr
    assert "go on from there with --resume, or delete it" in error

    result = run("--input", questions, "--output", target, "--resume", MAX_NEW_TOKENS="32")
    assert "answers kept from" in result.stderr
    assert f"{24 - len(kept)} questions in" in result.stderr
    answers = read(target)
    assert [a["questionID"] for a in answers] == list(range(24))
    assert {index: answers[index]["answer"] for index in kept} == kept
    assert not partial.exists()


@pytest.mark.parametrize("change", ["nothing", "a question", "a setting"])
def test_resume_keeps_answers_only_of_the_same_questions_and_settings(
    tmp_path: Path, change: str
) -> None:
    parsed = read_file(write_questions(tmp_path / "q.jsonl", 2))
    settings = small_settings()
    with Answers(tmp_path / "a", parsed, settings, resume=False) as answers:
        answers.write(0, Answer(0, 0, "kept"))
    if change == "a question":
        parsed[0] = replace(parsed[0], text="Another?")
    if change == "a setting":
        settings = small_settings(top_k=7)
    with Answers(tmp_path / "a", parsed, settings, resume=True) as answers:
        kept = answers.done
    assert kept == ({0: {"questionID": 0, "answer": "kept"}} if change == "nothing" else {})


def test_what_could_not_be_answered_is_tried_again(tmp_path: Path) -> None:
    parsed = parse([{"questionID": 1, "question": "x"}])
    with Answers(tmp_path / "a", parsed, small_settings(), resume=False) as answers:
        answers.write(0, Answer(0, 1, "ERROR: not answered", "no room"))
    with Answers(tmp_path / "a", parsed, small_settings(), resume=True) as answers:
        assert answers.done == {}


def start(
    *arguments: str | Path, stderr: int = subprocess.PIPE, **environment: str
) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "runtime", *map(str, arguments)],
        cwd=PROJECT_DIR,
        env={**ENVIRONMENT, **environment},
        stdout=subprocess.DEVNULL,
        stderr=stderr,
        text=True,
    )


def catches(process: subprocess.Popen[str], number: int) -> bool:
    """Whether a process has a handler for a signal; Python itself has none for SIGTERM."""
    status = Path(f"/proc/{process.pid}/status").read_text()
    (mask,) = re.findall(r"^SigCgt:\s*(\w+)$", status, re.MULTILINE)
    return bool(int(mask, 16) >> (number - 1) & 1)


@pytest.mark.parametrize(
    "moment",
    [
        "at once",
        "loading",
        *(pytest.param(m, marks=pytest.mark.slow) for m in ("answering", "mixing")),
    ],
)
def test_an_interrupt_stops_it_and_costs_no_answer(tmp_path: Path, run: Run, moment: str) -> None:
    questions, target = write_questions(tmp_path / "q.jsonl", 30), tmp_path / "a"
    partial = tmp_path / "a.partial"
    mixed = {"ADAPTERS_BASE_DIR": str(LORAS)} if moment == "mixing" else {}
    process = start("--input", questions, "--output", target, MAX_NEW_TOKENS="32", **mixed)
    end = time.monotonic() + 300
    while time.monotonic() < end and {
        "at once": not catches(process, signal.SIGTERM),
        "loading": not partial.exists(),
    }.get(moment, not partial.exists() or partial.stat().st_size < 300):
        time.sleep(0.01)
    time.sleep(0.05)
    said, seconds = interrupt(process)
    assert process.returncode == 130, said
    assert "stopped; --resume continues from there" in said
    assert "Traceback" not in said
    assert seconds < 2
    assert not target.exists()
    if moment in ("at once", "loading"):
        return
    kept = read(partial)
    assert not any(entry["answer"].startswith("ERROR") for entry in kept)
    run("--input", questions, "--output", target, "--resume", MAX_NEW_TOKENS="32", **mixed)
    answers = [answer["answer"] for answer in read(target)]
    assert len(answers) == 30
    assert not any(answer.startswith("ERROR") for answer in answers)
    assert all(answers[entry["index"]] == entry["answer"] for entry in kept)


@pytest.mark.slow
def test_a_device_a_pipe_and_a_link_are_written_to_and_not_replaced(
    tmp_path: Path, run: Run
) -> None:
    questions = write_questions(tmp_path / "q.jsonl", 3)
    pipe, link, file = tmp_path / "pipe", tmp_path / "link", tmp_path / "file"
    os.mkfifo(pipe)
    link.symlink_to(file)
    with subprocess.Popen(["cat", pipe], stdout=subprocess.PIPE, text=True) as reader:
        run("--input", questions, "--output", pipe)
        assert reader.stdout
        lines = reader.stdout.read().splitlines()
    assert [json.loads(line)["questionID"] for line in lines] == [0, 1, 2]
    assert pipe.is_fifo()
    run("--input", questions, "--output", link)
    assert link.is_symlink()
    assert [json.loads(line) for line in lines] == read(file)
    assert "stopped" not in run("--input", questions, "--output", "/dev/null").stderr
    assert Path("/dev/null").is_char_device()
    assert not Path("/dev/null.partial").exists()
    error = run("--input", questions, "--output", "/dev/null", "--resume", status=1).stderr
    assert "is not a file, so it has kept no answers" in error
    assert sorted(p.name for p in tmp_path.iterdir()) == ["file", "link", "pipe", "q.jsonl"]


def test_it_answers_without_a_standard_error(tmp_path: Path) -> None:
    questions, target = write_questions(tmp_path / "q.jsonl", 3), tmp_path / "a"
    command = f'exec "{sys.executable}" -m runtime --input "{questions}" --output "{target}" 2>&-'
    subprocess.run(["sh", "-c", command], cwd=PROJECT_DIR, env=ENVIRONMENT, check=True)
    assert [answer["questionID"] for answer in read(target)] == [0, 1, 2]


@pytest.mark.parametrize(
    ("arguments", "environment", "message"),
    [
        (["--input", "none.jsonl"], {}, "none.jsonl: cannot be read"),
        (["--input", SAMPLES, "--output", SAMPLES], {}, "is the file of the questions"),
        (["--output", PROJECT_DIR], {}, "is a folder; give the name of a file"),
        (["--output", "/no/such/folder/a"], {}, "cannot be written"),
        ([], {"BATCH_SIZE": "none"}, "BATCH_SIZE='none' is not allowed: 1 to 240"),
        ([], {"MODEL_NAME": "none.gguf"}, "MODEL_NAME=none.gguf: no such file"),
    ],
)
def test_what_cannot_be_done_is_said_in_a_line(
    run: Run, arguments: list[str], environment: dict[str, str], message: str
) -> None:
    result = run(*arguments, status=1, **environment)
    assert message in result.stderr
    assert "Traceback" not in result.stderr


def test_an_empty_file_of_questions_is_refused(tmp_path: Path, run: Run) -> None:
    (tmp_path / "q.jsonl").write_text("\n \n")
    assert "no questions in it" in run("--input", tmp_path / "q.jsonl", status=1).stderr


def test_show_settings_prints_every_setting_with_its_value(run: Run) -> None:
    result = run("--show-settings", TOP_K="7")
    lines = result.stdout.splitlines()
    assert "* TOP_K=7" in lines
    assert "  TOP_P=0.9" in lines
    assert all(any(f" {setting.name}=" in line for line in lines) for setting in all_settings())
    assert "(docs/serving.md#the-same-answer)" in result.stdout  # not the page's "[serving](...)"
    assert "](" not in result.stdout


def test_a_screen_that_lacks_characters_is_no_reason_to_stop(tmp_path: Path) -> None:
    (tmp_path / "q.jsonl").write_text('{"questionID": "\\ud800北", "question": "Say hello."}')
    result = run_process(
        "--input", tmp_path / "q.jsonl", "--output", tmp_path / "a", PYTHONIOENCODING="ascii"
    )
    assert r"[\ud800\u5317] general: " in result.stdout
    assert read(tmp_path / "a")[0]["questionID"] == "\ud800北"


def test_the_sample_questions_are_over_40_and_cover_all_subjects() -> None:
    questions = [json.loads(line) for line in SAMPLES.read_text(encoding="utf-8").splitlines()]
    assert len(questions) >= 40
    subjects = {q.get("subject") for q in questions}
    assert {"algebra", "geography", "history", "chinese", "general"} <= subjects
    assert len({q["questionID"] for q in questions}) == len(questions)
