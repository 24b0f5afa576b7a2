"""A journal keeps what was appended through kills, full disks and odd characters."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from runtime.common.errors import UserError
from runtime.common.journal import Journal


def records(path: Path) -> list[Any]:
    with Journal(path) as journal:
        return [record for _, record in journal.entries()]


def test_a_cut_line_is_dropped_and_the_file_can_be_resumed_any_number_of_times(
    tmp_path: Path,
) -> None:
    path = tmp_path / "j.jsonl"
    with Journal(path) as journal:
        journal.append({"n": 0})
    for n in range(1, 5):
        with path.open("ab") as file:
            file.write(b'{"n": 99, "text": "cut' + b"x" * 100_000 * n)
        assert records(path) == [{"n": k} for k in range(n)]
        with Journal(path) as journal:
            assert [record for _, record in journal.entries()] == [{"n": k} for k in range(n)]
            assert journal.damaged == []
            journal.append({"n": n})
    assert records(path) == [{"n": k} for k in range(5)]
    assert path.read_bytes().count(b"\n") == 5


def test_opening_and_reading_do_not_change_a_file(tmp_path: Path) -> None:
    path = tmp_path / "j.jsonl"
    path.write_bytes(b'{"n": 1}\n{"n": 2')
    assert records(path) == [{"n": 1}]
    assert path.read_bytes() == b'{"n": 1}\n{"n": 2'


def test_a_last_record_without_its_newline_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "j.jsonl"
    path.write_bytes(b'{"n": 1}\n{"n": 2}')
    with Journal(path) as journal:
        place = journal.append({"n": 3})
        assert journal.read(place) == {"n": 3}
    assert path.read_bytes() == b'{"n": 1}\n{"n": 2}\n{"n": 3}\n'


@pytest.mark.parametrize("text", ["\u2028\u2029\x85\x0b\x0c\x1c", "\ud800 lone", "line\r\nend", ""])
def test_every_character_comes_back(tmp_path: Path, text: str) -> None:
    path = tmp_path / "j.jsonl"
    with Journal(path) as journal:
        places = [journal.append({"text": text}), journal.append([text, 2])]
        assert [journal.read(place) for place in places] == [{"text": text}, [text, 2]]
        assert list(journal.entries()) == list(
            zip(places, [{"text": text}, [text, 2]], strict=True)
        )
    assert records(path) == [{"text": text}, [text, 2]]


def test_blank_and_damaged_lines_of_older_files_are_passed_over_and_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "j.jsonl"
    path.write_bytes(
        b'\n{"n": 1}\n{"n": \n\n{"n": 2}\n' + b"[" * 100_000 + b"\n" + b"\0" * 50 + b"\n"
    )
    with Journal(path) as journal:
        assert [record for _, record in journal.entries()] == [{"n": 1}, {"n": 2}]
        assert journal.damaged == [3, 6]
    assert "2 damaged lines were skipped, the first is line 3" in caplog.text


@pytest.mark.parametrize(
    "content", [b"Dear diary", b"Dear diary,\nmore\n", b'{\n  "a": 1\n}\n', b"a,b\n1,2\n"]
)
def test_another_kind_of_file_is_refused_and_left_alone(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "notes.txt"
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"notes\.txt, line \d: not a record"):
        records(path)
    assert path.read_bytes() == content


def test_what_is_no_regular_file_is_refused_without_waiting(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path, tmp_path / "pipe", Path(os.devnull)):
        with pytest.raises(UserError, match="not a regular file"):
            Journal(path)


class Full:
    """A file on a disk that has room for some bytes more."""

    def __init__(self, file: Any, room: int, error: BaseException | None = None) -> None:
        self._file, self.room = file, room
        self._error = error or OSError(errno.ENOSPC, "No space left on device")

    def write(self, data: bytes) -> int:
        if not self.room:
            raise self._error
        part = data[: self.room]
        self.room -= len(part)
        return int(self._file.write(part))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)


@pytest.mark.parametrize("room", [0, 1, 5, 9])
def test_a_full_disk_is_told_with_the_file_and_costs_no_other_record(
    tmp_path: Path, room: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "j.jsonl"
    with Journal(path) as journal:
        journal.append({"n": 1})
        with monkeypatch.context() as patch:
            patch.setattr(journal, "_file", Full(journal._file, room))
            for _ in range(2):
                with pytest.raises(OSError, match=r"No space left.*j\.jsonl"):
                    journal.append({"n": 123456})
        assert path.read_bytes() == b'{"n": 1}\n'
        journal.append({"n": 2})
    assert records(path) == [{"n": 1}, {"n": 2}]


def test_an_interrupt_in_the_middle_of_a_record_leaves_none_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Journal(tmp_path / "j.jsonl") as journal:
        with monkeypatch.context() as patch:
            patch.setattr(journal, "_file", Full(journal._file, 3, KeyboardInterrupt()))
            with pytest.raises(KeyboardInterrupt):
                journal.append({"n": 1})
        journal.append({"n": 2})
    assert records(tmp_path / "j.jsonl") == [{"n": 2}]


WRITER = """
import sys
from pathlib import Path
from runtime.common.journal import Journal

with Journal(Path(sys.argv[1])) as journal:
    for n in range(300):
        journal.append({"who": sys.argv[2], "n": n, "pad": "x" * n})
"""


def test_processes_and_threads_may_share_a_file(tmp_path: Path) -> None:
    path = tmp_path / "j.jsonl"
    with path.open("wb") as file:
        file.write(b'{"cut')
    children = [
        subprocess.Popen([sys.executable, "-c", WRITER, str(path), str(k)]) for k in range(3)
    ]
    with Journal(path) as journal:

        def write(who: str) -> None:
            for n in range(300):
                journal.append({"who": who, "n": n, "pad": ""})

        threads = [threading.Thread(target=write, args=[f"thread {k}"]) for k in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert [child.wait(60) for child in children] == [0, 0, 0]
    found = [json.loads(line) for line in path.read_bytes().splitlines()]
    for who in ["0", "1", "2", "thread 0", "thread 1", "thread 2"]:
        assert [each["n"] for each in found if each["who"] == who] == list(range(300))


def test_discarding_deletes_the_file(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "j.jsonl")
    journal.append({"n": 1})
    journal.discard()
    journal.discard()
    assert not (tmp_path / "j.jsonl").exists()
