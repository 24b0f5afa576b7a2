"""Files and folders that appear whole or not at all."""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path


def scratch(target: Path) -> AbstractContextManager[Path]:
    """A new empty file beside `target`, removed after the block.

    Raises:
        OSError: the folder of `target` cannot be written.
    """
    return _beside(
        target,
        make=lambda path: path.touch(0o600, exist_ok=False),
        remove=lambda path: path.unlink(missing_ok=True),
    )


def scratch_folder(target: Path) -> AbstractContextManager[Path]:
    """A new empty folder beside `target`, removed with all that is in it after the block.

    Raises:
        OSError: the folder of `target` cannot be written.
    """
    return _beside(
        target,
        make=lambda path: path.mkdir(0o700),
        remove=lambda path: shutil.rmtree(path, ignore_errors=True),
    )


@contextmanager
def replacing(target: Path) -> Iterator[Path]:
    """A path to write to; it becomes `target` if the block ends well, else it is removed.

    Raises:
        OSError: the folder of `target` cannot be written.
    """
    with scratch(target) as partial:
        yield partial
        umask = os.umask(0)
        os.umask(umask)
        partial.chmod(0o666 & ~umask)
        partial.replace(target)


@contextmanager
def replacing_folder(target: Path, parent: Path) -> Iterator[Path]:
    """An empty folder to fill; it becomes `target` if the block ends well, else it is removed.

    A folder that was there before gives way only when the new one is whole.

    Args:
        target: the folder to be.
        parent: on the same disk; what a kill leaves half filled lies there.

    Raises:
        OSError: a folder cannot be written.
    """
    with scratch_folder(parent / target.name) as scratch_path:
        partial, old = scratch_path / "new", scratch_path / "old"
        partial.mkdir()
        yield partial
        try:
            if target.exists():
                target.rename(old)
            partial.rename(target)
        finally:
            if old.exists() and not target.exists():
                old.rename(target)


@contextmanager
def _beside(
    target: Path, make: Callable[[Path], None], remove: Callable[[Path], None]
) -> Iterator[Path]:
    """Something of a hidden name beside `target` for the length of the block."""
    # Named before it is made: a signal that ends the block at any moment finds it to remove.
    path = target.parent / f".{target.name}.{secrets.token_hex(4)}"
    try:
        make(path)
        yield path
    finally:
        remove(path)
