"""A disk that is really full, for each kind of files that are written.

What was being written says which file has no room, nothing half written is taken for whole, and
the same command goes on when there is room. Mounting a small disk needs root.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from runtime.settings import PROJECT_DIR, all_settings

pytestmark = pytest.mark.slow
NO_ROOM = "No space left on device"


@dataclass(frozen=True)
class Disk:
    """A disk in memory."""

    folder: Path

    def resize(self, kib: int) -> None:
        """Give it another size, not below what is used."""
        mount("-o", f"remount,size={kib}k", self.folder)

    def fill(self) -> None:
        """Write a file that takes all room."""
        with (self.folder / "filler").open("wb") as file:
            try:
                while True:
                    os.write(file.fileno(), bytes(4096))
            except OSError:
                pass

    def empty(self) -> None:
        """Delete that file."""
        (self.folder / "filler").unlink()


def mount(*arguments: str | Path) -> None:
    done = subprocess.run(["mount", *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"no disk can be mounted here: {done.stderr.strip()}")


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    folder = tmp_path / "disk"
    folder.mkdir()
    if not hasattr(os, "geteuid") or os.geteuid() or not shutil.which("mount"):
        pytest.skip("only root can mount a small disk")
    mount("-t", "tmpfs", "-o", "size=16k", "none", folder)
    yield Disk(folder)
    subprocess.run(["umount", "--lazy", folder], check=True)


def python(*command: str | Path, **environment: str) -> subprocess.CompletedProcess[str]:
    known = {setting.name for setting in all_settings()}
    plain = {name: value for name, value in os.environ.items() if name not in known}
    settings = {"MODEL_NAME": "demo", "BATCH_SIZE": "4", "MIN_NEW_TOKENS": "0"}
    settings |= {"MAX_NEW_TOKENS": "8", "MAX_INPUT_TOKENS": "256", "NUM_THREADS": "1"}
    return subprocess.run(
        [sys.executable, "-m", *map(str, command)],
        cwd=PROJECT_DIR,
        env={**plain, **settings, **environment, "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        check=False,
    )


def told(done: subprocess.CompletedProcess[str], folder: Path) -> None:
    """It ended with one clear error that names a file on the disk."""
    assert done.returncode == 1, done.stderr
    assert "Traceback" not in done.stderr
    last = done.stderr.strip().splitlines()[-1]
    assert NO_ROOM in last or "are free" in last, done.stderr
    assert str(folder) in last, done.stderr


def lines_of(path: Path) -> list[Any]:
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


def questions(folder: Path, count: int, **more: str) -> Path:
    path = folder / "questions.jsonl"
    records = (
        {"questionID": n, "subject": "algebra", "question": f"What is {n} + {n}?", **more}
        for n in range(count)
    )
    path.write_text("\n".join(map(json.dumps, records)), "utf-8")
    return path


def test_answers(demo_model: Path, tmp_path: Path, disk: Disk) -> None:
    asked = questions(tmp_path, 400)
    target = disk.folder / "answers.jsonl"
    command = ["runtime", "--input", asked, "--output", target]
    told(python(*command), disk.folder)
    assert not target.exists()
    kept = len((disk.folder / "answers.jsonl.partial").read_bytes().splitlines())
    assert 20 < kept < 400
    disk.resize(1000)
    done = python(*command, "--resume")
    assert done.returncode == 0, done.stderr
    answers = [record["answer"] for record in lines_of(target)]
    assert answers == [f"{n} + {n} = {2 * n}." for n in range(400)]
    assert [path.name for path in disk.folder.iterdir()] == ["answers.jsonl"]


def test_the_answer_cache_and_notes_on_the_machine(
    demo_model: Path, tmp_path: Path, disk: Disk
) -> None:
    """Both are conveniences: without room for them all is answered, and the log says so."""
    (disk.folder / demo_model.name).symlink_to(demo_model)
    disk.fill()
    target = tmp_path / "answers.jsonl"
    command = ["runtime", "--input", questions(tmp_path, 3), "--output", target]
    done = python(*command, MODELS_DIR=str(disk.folder), ANSWER_CACHE=str(disk.folder / "cache"))
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    assert [record["answer"] for record in lines_of(target)] == [
        f"{n} + {n} = {2 * n}." for n in range(3)
    ]
    assert f"{disk.folder}" in done.stderr
