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
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from runtime.settings import PROJECT_DIR, all_settings
from tests.forking import Forked

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
        env={**plain, **settings, **environment},
        capture_output=True,
        text=True,
        check=False,
    )


def told(status: int, said: str, folder: Path) -> None:
    """It ended with one clear error that names a file on the disk."""
    assert status == 1, said
    assert "Traceback" not in said
    last = said.strip().splitlines()[-1]
    assert NO_ROOM in last or "are free" in last, said
    assert str(folder) in last, said


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
    done = python(*command)
    told(done.returncode, done.stderr, disk.folder)
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


def export(folder: Path, out: Path) -> list[str | Path]:
    from convert.sources import open_source
    from convert.writing import write_model
    from tests.checkpoints import save_checkpoint, tiny_tokenizer

    source = open_source(save_checkpoint(folder / "tiny", "qwen3", tiny_tokenizer()))
    write_model(source, folder / "tiny.gguf", "F16")
    return ["convert.export_gguf", "--base", folder / "tiny.gguf", "--output", out]


def knowledge(folder: Path, out: Path) -> list[str | Path]:
    lines = (f"Town {n}\tIt has {n} bells and {n % 7} rivers.\n" for n in range(3000))
    (folder / "raw.tsv").write_text("".join(lines))
    return ["kb.preprocess", "--subject", "history", "--input", folder / "raw.tsv", "--out", out]


def training(folder: Path, out: Path) -> list[str | Path]:
    from tests.checkpoints import save_checkpoint, tiny_tokenizer
    from tests.finetuning import FAST, RECORDS, write

    corpus = write(folder / "corpus.jsonl", *RECORDS)
    tiny = save_checkpoint(folder / "tiny-chat", "qwen3", tiny_tokenizer())
    options = ["--data_geography", corpus, "--epochs", "2", *FAST, "--resume"]
    return ["training.finetune", "--model", tiny, "--out", out, *options]


def evaluation(folder: Path, out: Path) -> list[str | Path]:
    from tests.evaluating import RIGHT, write_pipeline, write_questions

    pipeline = write_pipeline(folder, RIGHT)
    asked = write_questions(folder)
    return [
        "evaluation",
        "--questions",
        asked,
        "--pipeline",
        pipeline,
        "--reports",
        out,
        "--resume",
    ]


# What makes a command, and the sizes of a disk in KiB on which it stops at different places.
WRITERS: dict[str, tuple[Callable[[Path, Path], Sequence[str | Path]], list[int]]] = {
    "export": (export, [16, 200]),
    "knowledge": (knowledge, [16, 400]),
    "training": (training, [16, 1000]),
    "report": (evaluation, [16, 40]),
}


@pytest.mark.parametrize("kind", WRITERS)
def test_a_command_says_which_file_has_no_room_and_goes_on_with_it(
    tmp_path: Path, disk: Disk, kind: str
) -> None:
    make, sizes = WRITERS[kind]
    out = disk.folder / "out"
    command = ["-m", *make(tmp_path, out)]
    for kib in sizes:
        disk.resize(kib)
        told(*Forked(command, PROJECT_DIR).end(), disk.folder)
    disk.resize(500_000)
    status, said = Forked(command, PROJECT_DIR).end()
    assert status == 0, said
    left = [p for p in out.rglob("*") if "partial" in p.name or p.name.endswith(".training")]
    assert left == []


def test_a_batch_waits_for_room(shallow_model: Path, tmp_path: Path, disk: Disk) -> None:
    """The server says on /health that it waits, and no line is lost."""
    import httpx

    from tests.serving import serving

    disk.resize(400)
    options = ("--batch-dir", disk.folder / "kept")
    settings = {"ADAPTERS_BASE_DIR": "", "MODELS_DIR": str(shallow_model.parent)}
    with serving(tmp_path, *options, **settings) as server:
        http = httpx.Client(base_url=server.url, timeout=120)
        lines = [
            {
                "custom_id": f"id-{n}",
                "method": "POST",
                "url": "/v1/completions",
                "body": {"model": "demo", "prompt": f"{n} and", "max_tokens": 2},
            }
            for n in range(300)
        ]
        text = "\n".join(map(json.dumps, lines)).encode()
        sent = http.post("/v1/files", files={"file": ("b", text)}, data={"purpose": "batch"})
        begin = {"input_file_id": sent.json()["id"], "endpoint": "/v1/completions"}
        state = http.post("/v1/batches", json=begin).json()
        disk.fill()
        refused = http.post("/v1/files", files={"file": ("b", text)}, data={"purpose": "batch"})
        assert refused.status_code == 507, refused.text
        while NO_ROOM not in server.log.read_text("utf-8"):
            assert server.process.poll() is None
            state = http.get(f"/v1/batches/{state['id']}").json()
            assert state["status"] != "completed"
        disk.empty()
        disk.resize(4000)
        while state["status"] != "completed":
            assert state["status"] in ("validating", "in_progress", "finalizing")
            state = http.get(f"/v1/batches/{state['id']}").json()
        assert state["request_counts"] == {"total": 300, "completed": 300, "failed": 0}
        answers = http.get(f"/v1/files/{state['output_file_id']}/content").text.splitlines()
        assert {json.loads(line)["custom_id"] for line in answers} == {
            line["custom_id"] for line in lines
        }
        assert "Traceback" not in server.log.read_text("utf-8")
