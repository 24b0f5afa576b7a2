"""The answer cache: found again, bounded, whole after a kill, and never in the way."""

from __future__ import annotations

import logging
import os
import pickle
import signal
import sqlite3
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from runtime import cache
from runtime.cache import AnswerCache, Keys
from runtime.common.errors import SetupError
from runtime.engine import EngineOptions, Request, SamplingParams
from runtime.files.manifest import ModelFiles
from runtime.files.routes import Route
from runtime.settings import PROJECT_DIR

MB = 2**20


def key(n: int) -> bytes:
    return n.to_bytes(32, "big")


def test_what_was_kept_is_found_by_the_next_process(tmp_path: Path) -> None:
    with closing(AnswerCache(tmp_path / "answers")) as kept:
        kept.keep(key(1), "Oslo", "stop")
        kept.keep(key(2), "\ud800", "length")
    with closing(AnswerCache(tmp_path / "answers")) as again:
        assert again.find(key(1)) == ("Oslo", "stop")
        assert again.find(key(2)) == ("\ud800", "length")
        assert again.find(key(3)) is None


def test_threads_may_share_it(tmp_path: Path) -> None:
    with closing(AnswerCache(tmp_path / "answers")) as kept, ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda n: kept.keep(key(n), str(n), "stop"), range(40)))
        assert list(pool.map(lambda n: kept.find(key(n)), range(40))) == [
            (str(n), "stop") for n in range(40)
        ]


def test_it_keeps_within_its_bound_and_forgets_what_was_not_asked_for(tmp_path: Path) -> None:
    with closing(AnswerCache(tmp_path / "answers", MB)) as kept:
        kept.keep(key(0), "asked for again and again", "stop")
        for n in range(1, 1500):
            kept.keep(key(n), "x" * 1000, "length")
            kept.find(key(0))
    assert sum(path.stat().st_size for path in (tmp_path / "answers").iterdir()) < 2 * MB
    with closing(AnswerCache(tmp_path / "answers", MB)) as again:
        assert again.find(key(0)) == ("asked for again and again", "stop")
        assert again.find(key(1)) is None
        assert again.find(key(1499)) == ("x" * 1000, "length")


def test_a_kill_loses_nothing_that_was_kept(tmp_path: Path) -> None:
    code = (
        "from pathlib import Path\n"
        "from runtime.cache import AnswerCache\n"
        f"kept = AnswerCache(Path({str(tmp_path / 'answers')!r}))\n"
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
    with closing(AnswerCache(tmp_path / "answers")) as kept:
        assert all(kept.find(key(n)) == ("x", "stop") for n in told)


def test_a_full_disk_is_told_once_and_costs_nothing_else(tmp_path: Path) -> None:
    """No file of the process may grow beyond 300 KiB: SQLite sees a disk that takes no more."""
    code = (
        "import logging, resource, signal\n"
        "from pathlib import Path\n"
        "from runtime.cache import AnswerCache\n"
        "logging.basicConfig()\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, 300_000))\n"
        f"kept = AnswerCache(Path({str(tmp_path / 'answers')!r}))\n"
        "for n in range(1000):\n"
        "    kept.keep(n.to_bytes(32, 'big'), 'x' * 1000, 'stop')\n"
        "print(kept.find(b'other'))\n"
        "kept.close()\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=PROJECT_DIR, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == "None\n"
    (line,) = done.stderr.splitlines()
    assert f"ANSWER_CACHE={tmp_path / 'answers'}: not used from here on: " in line


def test_another_process_that_locks_it_is_told_once_and_costs_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(cache, "_PATIENCE", 0.05)
    with closing(AnswerCache(tmp_path / "answers")) as kept:
        kept.keep(key(1), "Oslo", "stop")
        other = sqlite3.connect(tmp_path / "answers" / "cache.db", isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        with caplog.at_level(logging.WARNING):
            for n in range(2, 9):
                kept.keep(key(n), "Rome", "stop")
                assert kept.find(key(n)) is None
        other.close()
    assert len(caplog.records) == 1
    assert "not used from here on: locked by another process for 0.05 seconds" in caplog.text


@pytest.mark.parametrize("name", ["mine.txt", "folder/cache.db"])
@pytest.mark.parametrize("content", [b"no database" * 100, b"SQLite format 3\0" + bytes(200)])
def test_what_is_no_answer_cache_is_refused_by_name(
    tmp_path: Path, name: str, content: bytes
) -> None:
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(content)
    given = tmp_path / name.partition("/")[0]
    with pytest.raises(SetupError, match=rf"^ANSWER_CACHE={given}: not a"):
        AnswerCache(given)
    assert path.read_bytes() == content


def test_a_file_of_an_earlier_version_is_named_with_what_to_do(tmp_path: Path) -> None:
    old = sqlite3.connect(tmp_path / "answers.db")
    old.execute("CREATE TABLE completions (key BLOB PRIMARY KEY, text TEXT, reason TEXT)")
    old.close()
    with pytest.raises(SetupError, match=r"was a single file in earlier versions: delete that"):
        AnswerCache(tmp_path / "answers.db")


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "loop").symlink_to("loop")
    for path in (tmp_path / "file" / "answers", tmp_path / "loop"):
        with pytest.raises(SetupError, match=rf"^ANSWER_CACHE={path}: "):
            AnswerCache(path)


def test_a_disk_that_is_full_already_is_told_and_costs_nothing_else(tmp_path: Path) -> None:
    code = (
        "import logging, resource, signal\n"
        "from pathlib import Path\n"
        "from runtime.cache import AnswerCache\n"
        "logging.basicConfig()\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))\n"
        f"print(AnswerCache(Path({str(tmp_path / 'answers')!r})).find(b'key'))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=PROJECT_DIR, capture_output=True, text=True
    )
    assert (done.returncode, done.stdout) == (0, "None\n"), done.stderr
    assert "not used from here on: " in done.stderr


def test_what_another_program_pickled_into_it_is_not_run(tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> tuple[object, ...]:
            return os.mkdir, (str(tmp_path / "evil"),)

    with closing(AnswerCache(tmp_path / "answers")) as kept:
        kept.keep(key(1), "Oslo", "stop")
        kept.keep(key(2), "Rome", "stop")
        database = sqlite3.connect(tmp_path / "answers" / "cache.db")
        database.execute(
            "UPDATE Cache SET mode = 4, value = ? WHERE key = ?", (pickle.dumps(Evil()), key(1))
        )
        database.execute("UPDATE Cache SET value = '[3, 4]' WHERE key = ?", (key(2),))
        database.commit()
        database.close()
        assert kept.find(key(1)) is None
        assert kept.find(key(2)) is None
    assert not (tmp_path / "evil").exists()


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
