"""Files and folders that appear whole or not at all, whenever the process is stopped."""

from __future__ import annotations

import os
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

from runtime.common import atomic
from runtime.common.atomic import replacing, replacing_folder


def replace_a_file(folder: Path) -> None:
    with replacing(folder / "answers") as path:
        path.write_text("new")


def replace_a_folder(folder: Path) -> None:
    with replacing_folder(folder / "answers", folder) as path:
        (path / "text").write_text("new")


def names(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir()]


def stopped_at(moment: int, run: Any, folder: Path) -> bool:
    """Run, with Ctrl-C before that many lines of the module ran; whether it came to that."""
    lines = 0

    def trace(frame: FrameType, event: str, _: object) -> Any:
        nonlocal lines
        if frame.f_code.co_filename != atomic.__file__:
            return None
        if event == "line":
            lines += 1
            if lines == moment:
                raise KeyboardInterrupt
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        run(folder)
    except KeyboardInterrupt:
        return True
    finally:
        sys.settrace(before)
    return False


@pytest.mark.parametrize("run", [replace_a_file, replace_a_folder])
def test_a_stop_at_any_line_leaves_the_old_or_the_new_and_nothing_else(
    tmp_path: Path, run: Any
) -> None:
    moment = 0
    stopped = True
    while stopped:
        moment += 1
        folder = tmp_path / str(moment)
        old = folder / "answers" / "text" if run is replace_a_folder else folder / "answers"
        old.parent.mkdir(parents=True)
        old.write_text("old")
        stopped = stopped_at(moment, run, folder)
        assert old.read_text() in ("old", "new")
        # A stop while the remains are removed can leave them, under a hidden name.
        assert old.read_text() == "new" or names(folder) == ["answers"]
    assert moment > 5
    assert old.read_text() == "new"
    assert names(folder) == ["answers"]


def test_what_was_there_stays_when_the_block_fails(tmp_path: Path) -> None:
    (tmp_path / "answers").write_text("old")

    def fail() -> None:
        with replacing(tmp_path / "answers") as path:
            path.write_text("ne")
            raise ValueError("half")

    with pytest.raises(ValueError, match="half"):
        fail()
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("answers", "old")]


def test_a_full_disk_is_told_with_the_name_of_the_file(tmp_path: Path) -> None:
    target = tmp_path / "answers"

    def fill() -> None:
        with replacing(target), Path("/dev/full").open("w") as full:
            full.write("x" * 10)
            full.flush()

    with pytest.raises(OSError, match=r"No space left on device: .*/answers'"):
        fill()
    assert names(tmp_path) == []


def test_a_link_a_pipe_and_a_device_stay_what_they_are(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("old")
    (tmp_path / "link").symlink_to("file")
    replace_with_new(tmp_path / "link")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "file").read_text() == "new"
    os.mkfifo(tmp_path / "pipe")
    with ThreadPoolExecutor() as pool:
        read = pool.submit((tmp_path / "pipe").read_text)
        replace_with_new(tmp_path / "pipe")
        assert read.result(10) == "new"
    assert (tmp_path / "pipe").is_fifo()
    (tmp_path / "null").symlink_to(os.devnull)
    replace_with_new(tmp_path / "null")
    assert Path(os.devnull).is_char_device()
    assert sorted(names(tmp_path)) == ["file", "link", "null", "pipe"]


def replace_with_new(path: Path) -> None:
    with replacing(path) as partial:
        partial.write_text("new")


def test_temporary_files_can_be_removed_from_another_thread(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "text").write_text("old")
    with (
        replacing(tmp_path / "file") as file,
        replacing_folder(tmp_path / "folder", tmp_path) as folder,
    ):
        (tmp_path / "folder").rename(folder.parent / "old")  # as in the middle of replacing
        atomic.remove_unfinished()
        assert names(tmp_path) == ["folder"]
        assert (tmp_path / "folder" / "text").read_text() == "old"
        file.touch()
        folder.mkdir(parents=True)


def test_what_numpy_says_of_a_full_disk_names_the_file(tmp_path: Path) -> None:
    with (
        pytest.raises(OSError, match=r"No space left on device \(9 requested") as raised,
        replacing(tmp_path / "a"),
    ):
        raise OSError("9 requested and 3 written")
    assert raised.value.filename == str(tmp_path / "a")
