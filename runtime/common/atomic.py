"""Files and folders that appear whole or not at all."""

from __future__ import annotations

import errno
import os
import re
import secrets
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path

# What numpy says when a disk is full, without the reason.
_SHORT = re.compile(r"\d+ requested and \d+ written")
# Temporary paths that exist now, and how each is removed.
_unfinished: dict[Path, Callable[[Path], None]] = {}


def scratch(target: Path) -> AbstractContextManager[Path]:
    """A new empty file beside `target`, removed after the block.

    Raises:
        OSError: the folder of `target` cannot be written; and what the block raises, with
            `target` as its file if it names none, as for a full disk.
    """
    return _beside(
        target,
        make=lambda path: path.touch(0o600, exist_ok=False),
        remove=lambda path: path.unlink(missing_ok=True),
    )


def scratch_folder(target: Path) -> AbstractContextManager[Path]:
    """A new empty folder beside `target`, removed with all that is in it after the block.

    Raises:
        OSError: as `scratch`.
    """
    return _beside(
        target,
        make=lambda path: path.mkdir(0o700),
        remove=lambda path: shutil.rmtree(path, ignore_errors=True),
    )


def remove_unfinished() -> None:
    """Remove all temporary files and folders, before the process is ended from another thread."""
    for path, remove in list(_unfinished.items()):
        with suppress(OSError):
            remove(path)


def is_special(path: Path) -> bool:
    """Whether a path is a device, a pipe or a socket: written to, never replaced."""
    return path.exists() and not path.is_file() and not path.is_dir()


@contextmanager
def replacing(target: Path) -> Iterator[Path]:
    """A path to write to; it becomes `target` if the block ends well, else it is removed.

    A symbolic link stays: the file that it leads to is replaced. A device or a pipe stays too,
    and gets what was written.

    Raises:
        OSError: the folder of `target` cannot be written; and as `scratch`.
    """
    target = target.resolve() if target.is_symlink() else target
    special = is_special(target)
    beside = Path(tempfile.gettempdir()) / target.name if special else target
    with scratch(beside) as partial:
        yield partial
        if special:
            with partial.open("rb") as source, target.open("wb") as sink:
                shutil.copyfileobj(source, sink)
            return
        umask = os.umask(0)
        os.umask(umask)
        partial.chmod(0o666 & ~umask)
        partial.replace(target)


@contextmanager
def replacing_folder(target: Path, parent: Path) -> Iterator[Path]:
    """An empty folder to fill; it becomes `target` if the block ends well, else it is removed.

    An older folder is replaced only when the new one is whole. What a kill leaves half filled is
    in `parent`, which must be on the same disk.

    Raises:
        OSError: a folder cannot be written.
    """
    with _beside(
        parent / target.name,
        make=lambda path: path.mkdir(0o700),
        remove=lambda path: _put_back(path / "old", target, path),
    ) as scratch_path:
        partial, old = scratch_path / "new", scratch_path / "old"
        partial.mkdir()
        yield partial
        if target.exists():
            target.rename(old)
        partial.rename(target)


def _put_back(old: Path, target: Path, scratch_path: Path) -> None:
    """End a replacement: if the new folder is not there, the old one stays."""
    if old.exists() and not target.exists():
        old.rename(target)
    shutil.rmtree(scratch_path, ignore_errors=True)


@contextmanager
def _beside(
    target: Path, make: Callable[[Path], None], remove: Callable[[Path], None]
) -> Iterator[Path]:
    """A file or folder with a hidden name beside `target` for the length of the block."""
    # Named before it is made: a signal that ends the block at any moment finds it to remove.
    path = target.parent / f".{target.name}.{secrets.token_hex(4)}"
    try:
        _unfinished[path] = remove
        make(path)
        yield path
    except OSError as error:
        if error.errno is None and _SHORT.search(str(error)):
            said = f"{os.strerror(errno.ENOSPC)} ({error})"
            raise OSError(errno.ENOSPC, said, str(target)) from None
        if error.filename is None and error.errno is not None:
            error.filename = str(target)
        raise
    finally:
        remove(path)
        _unfinished.pop(path, None)
