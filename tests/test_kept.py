"""Completions kept on disk: found again, bounded, and whole after a kill."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from runtime.common.errors import SetupError
from runtime.engine import EngineOptions, Request, SamplingParams
from runtime.files.kept import KeptCompletions, Keys
from runtime.files.manifest import ModelFiles
from runtime.files.routes import Route
from runtime.settings import PROJECT_DIR

MB = 2**20


def key(n: int) -> bytes:
    return n.to_bytes(32, "big")


def test_what_was_kept_is_found_by_the_next_process(tmp_path: Path) -> None:
    kept = KeptCompletions(tmp_path / "answers.db", MB)
    kept.keep(key(1), "Oslo", "stop")
    kept.keep(key(2), "\ud800", "stop")  # no text that SQLite could hold: done without
    kept.close()
    again = KeptCompletions(tmp_path / "answers.db", MB)
    assert again.find(key(1)) == ("Oslo", "stop")
    assert again.find(key(2)) is None
    again.close()


def test_it_keeps_within_its_bound_and_forgets_what_nobody_asked_for(tmp_path: Path) -> None:
    kept = KeptCompletions(tmp_path / "answers.db", MB)
    kept.keep(key(0), "asked for again and again", "stop")
    for n in range(1, 3000):
        kept.keep(key(n), "x" * 1000, "length")
        kept.find(key(0))
    kept.close()
    assert (tmp_path / "answers.db").stat().st_size < 1.5 * MB
    again = KeptCompletions(tmp_path / "answers.db", MB)
    assert again.find(key(0)) == ("asked for again and again", "stop")
    assert again.find(key(1)) is None
    assert again.find(key(2999)) == ("x" * 1000, "length")
    again.close()


def test_a_kill_loses_nothing_that_was_kept(tmp_path: Path) -> None:
    code = (
        "import sys, time\nfrom pathlib import Path\n"
        "from runtime.files.kept import KeptCompletions\n"
        f"kept = KeptCompletions(Path({str(tmp_path / 'answers.db')!r}), {MB})\n"
        "n = 0\n"
        "while True:\n"
        "    kept.keep(n.to_bytes(32, 'big'), 'x', 'stop')\n"
        "    print(n, flush=True)\n"
        "    n += 1\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code], cwd=PROJECT_DIR, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout
    told = [int(process.stdout.readline()) for _ in range(50)]
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    kept = KeptCompletions(tmp_path / "answers.db", MB)
    assert all(kept.find(key(n)) == ("x", "stop") for n in told)
    kept.close()


@pytest.mark.parametrize("content", [b"no database" * 100, b"SQLite format 3\0" + bytes(200)])
def test_another_file_is_refused_by_name(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "mine.txt"
    path.write_bytes(content)
    with pytest.raises(SetupError, match=r"ANSWER_CACHE=.*mine\.txt"):
        KeptCompletions(path, MB)
    assert path.read_bytes() == content


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(SetupError, match="ANSWER_CACHE="):
        KeptCompletions(tmp_path / "none" / "answers.db", MB)


def test_requests_share_a_key_only_if_their_completions_must_be_equal(tmp_path: Path) -> None:
    files = [tmp_path / name for name in ("a.gguf", "b.gguf", "lora.gguf")]
    for path in files:
        path.write_bytes(path.name.encode())
    bare, other, tuned = Route(files[0]), Route(files[1]), Route(files[0], files[2])
    runs = dict.fromkeys(files, EngineOptions())
    keys = Keys([bare, other, tuned], runs, ModelFiles())
    greedy = Request([1, 2], SamplingParams())
    drawn = replace(greedy, params=SamplingParams(temperature=1.0))
    different = [
        keys.of(bare, greedy),
        keys.of(other, greedy),
        keys.of(tuned, greedy),
        keys.of(bare, replace(greedy, prompt=[12])),
        keys.of(bare, replace(greedy, params=SamplingParams(max_new_tokens=3))),
        keys.of(bare, drawn),
        keys.of(bare, replace(drawn, seed=5)),
        Keys([bare], {files[0]: EngineOptions(cache_type="q8_0")}, ModelFiles()).of(bare, greedy),
    ]
    assert len(set(different)) == len(different)
    assert keys.of(bare, replace(greedy, seed=5)) == keys.of(bare, greedy)

    files[0].write_bytes(b"another model")
    assert Keys([bare], runs, ModelFiles()).of(bare, greedy) != keys.of(bare, greedy)
