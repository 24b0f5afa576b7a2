"""Questions answered by actors of Ray Data, and what a lost one costs: nothing but time."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

from runtime import Pipeline
from runtime.common.errors import SetupError
from runtime.on_ray import AnswerQuestions, main
from runtime.settings import PROJECT_DIR, all_settings
from tests.conftest import small_settings

needs_ray = pytest.mark.skipif(find_spec("ray") is None, reason="ray is not installed")

# As `small_settings`, for processes.
ENVIRONMENT = {
    "MODEL_NAME": "demo",
    "BATCH_SIZE": "8",
    "MAX_NEW_TOKENS": "24",
    "MIN_NEW_TOKENS": "0",
    "MAX_INPUT_TOKENS": "256",
    "TEMPERATURE": "0",
    "ALGEBRA_TOOL": "off",
    "OFFLINE_GUARD": "off",
    "RAY_USAGE_STATS_ENABLED": "0",
}
BAD = 5


def questions(count: int) -> list[dict[str, Any]]:
    """Questions of two subjects, of which one is empty."""
    rows = [
        {
            "questionID": f"q-{number}",
            "subject": ("history", "geography")[number % 2],
            "question": f"Tell what happened in the year {1500 + 7 * number}.",
        }
        for number in range(count)
    ]
    rows[BAD]["question"] = " "
    return rows


@contextmanager
def running(
    folder: Path, *command: str | Path, **environment: str
) -> Iterator[subprocess.Popen[bytes]]:
    """Python with these arguments and a Ray of its own; its words go to `said(folder)`."""
    taken = {setting.name for setting in all_settings()} | {"RAY_ADDRESS"}
    plain = {name: value for name, value in os.environ.items() if name not in taken}
    path = os.pathsep.join(filter(None, (str(PROJECT_DIR), plain.get("PYTHONPATH"))))
    with (folder / "stderr").open("wb") as stderr:
        process = subprocess.Popen(
            [sys.executable, *map(str, command)],
            cwd=folder,
            env={**plain, **ENVIRONMENT, "PYTHONPATH": path, **environment},
            stderr=stderr,
            stdout=stderr,
        )
    try:
        yield process
    finally:
        if process.poll() is None:
            for child in psutil.Process(process.pid).children(recursive=True):
                child.kill()
            process.kill()
            process.wait()


def said(folder: Path) -> str:
    return (folder / "stderr").read_text(errors="replace")


def wait_for_answers(partial: Path, count: int, process: subprocess.Popen[bytes]) -> None:
    """Until `count` answers are in `partial`."""
    while not partial.exists() or len(partial.read_bytes().splitlines()) < count:
        assert process.poll() is None, said(partial.parent)
        time.sleep(0.02)


def actors(process: subprocess.Popen[bytes]) -> list[psutil.Process]:
    """The processes that answer questions."""
    found = []
    for child in psutil.Process(process.pid).children(recursive=True):
        try:
            if "MapWorker(MapBatches(" in " ".join(child.cmdline()):
                found.append(child)
        except psutil.NoSuchProcess:
            continue
    return found


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


def test_it_is_a_plain_function_of_batches_too(pipeline: Pipeline) -> None:
    rows = questions(8)
    alone = pipeline(rows)
    batch = {name: np.array([row[name] for row in rows], dtype=object) for name in rows[0]}
    batch["difficulty"] = np.arange(8)
    answer_questions = AnswerQuestions(**small_settings().model_dump(exclude_unset=True))
    try:
        result = answer_questions(batch)
        assert list(result) == ["questionID", "subject", "question", "difficulty", "answer"]
        assert result["answer"].tolist() == [answer["answer"] for answer in alone]
        assert result["answer"][BAD] == "ERROR: not answered: the question is empty"
        assert result["difficulty"] is batch["difficulty"]
        with pytest.raises(
            SetupError, match=r'no column "question", it has \'text\': rename_columns'
        ):
            answer_questions({"text": batch["question"]})
        with pytest.raises(SetupError, match='data set already has a column "answer"'):
            answer_questions({**batch, "answer": batch["question"]})
    finally:
        answer_questions.close()


def test_without_ray_it_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in [name for name in sys.modules if name.split(".")[0] == "ray"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "ray", None)
    source = tmp_path / "q.jsonl"
    source.write_text("{}")
    assert main(["--input", str(source), "--output", str(tmp_path / "a.jsonl")]) == 1
    assert "pip install 'subject-lora-serve[ray]'" in capsys.readouterr().err


@needs_ray
def test_what_cannot_work_is_told_before_ray_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import ray

    def error(*arguments: str | Path) -> str:
        assert main([str(argument) for argument in arguments]) == 1
        assert not ray.is_initialized()
        return capsys.readouterr().err

    here = tmp_path / "q.parquet"
    assert f"{here}: no such file" in error("--input", here, "--output", tmp_path / "a")
    here.touch()
    assert "--output of Parquet is a new folder" in error("--input", here, "--output", tmp_path)
    resumed = error("--input", here, "--output", tmp_path / "a", "--resume")
    assert "--resume is for JSON Lines" in resumed
    monkeypatch.setenv("BATCH_SIZE", "many")
    assert "BATCH_SIZE" in error("--input", here, "--output", tmp_path / "a")


@needs_ray
@pytest.mark.slow
def test_neither_a_stop_nor_a_killed_actor_costs_a_question_its_answer(
    tmp_path: Path, pipeline: Pipeline
) -> None:
    rows = questions(28)
    alone = pipeline(rows)
    source, target = tmp_path / "q.jsonl", tmp_path / "a.jsonl"
    partial = tmp_path / "a.jsonl.partial"
    source.write_text("\n".join(map(json.dumps, rows)))
    command = ["-m", "runtime.on_ray", "--input", source, "--output", target]

    with running(tmp_path, *command, "--batch", "4") as process:
        wait_for_answers(partial, 4, process)
        process.terminate()
        assert process.wait(60) == 130, said(tmp_path)
    assert "stopped; --resume continues from there" in said(tmp_path)
    kept = len(partial.read_bytes().splitlines())

    command += ["--resume", "--actors", "2", "--batch", "4"]
    with running(tmp_path, *command) as process:
        wait_for_answers(partial, kept + 8, process)
        both = actors(process)
        both[0].kill()
        assert len(both) == 2
        assert process.wait(300) == 0, said(tmp_path)
    assert f"{kept} answers kept" in said(tmp_path)
    assert f"{28 - kept} questions in" in said(tmp_path)
    assert lines(target) == alone
    assert alone[BAD]["answer"] == "ERROR: not answered: the question is empty"
    assert not partial.exists()


@needs_ray
@pytest.mark.slow
def test_what_an_actor_cannot_load_is_told_in_words(tmp_path: Path) -> None:
    source = tmp_path / "q.jsonl"
    source.write_text(json.dumps(questions(6)[0]))
    command = ["-m", "runtime.on_ray", "--input", source, "--output", tmp_path / "a.jsonl"]
    with running(tmp_path, *command, MODEL_NAME="nowhere.gguf") as process:
        assert process.wait(300) == 1
    last = said(tmp_path).splitlines()[-1]
    assert last == "error: MODEL_NAME=nowhere.gguf: no such file"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["q.jsonl", "stderr"]


@needs_ray
@pytest.mark.slow
def test_parquet_keeps_its_columns(tmp_path: Path, pipeline: Pipeline) -> None:
    import pyarrow
    import pyarrow.parquet

    rows = questions(12)
    alone = pipeline(rows)
    for row in rows:
        row["references"] = ["a", "b"][: len(row["question"]) % 3]
    table = pyarrow.Table.from_pylist(rows)
    source, target = tmp_path / "q.parquet", tmp_path / "answers"
    pyarrow.parquet.write_table(table, source)

    command = ["-m", "runtime.on_ray", "--input", source, "--output", target]
    with running(tmp_path, *command, "--batch", "4") as process:
        assert process.wait(300) == 0, said(tmp_path)

    expected = [
        {**row, "answer": answer["answer"]} for row, answer in zip(rows, alone, strict=True)
    ]
    found = pyarrow.parquet.read_table(target).to_pylist()
    assert sorted(found, key=lambda row: str(row["questionID"])) == sorted(
        expected, key=lambda row: str(row["questionID"])
    )
