"""Files and folders that appear whole or not at all."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def scratch(target: Path) -> Iterator[Path]:
    """A new empty file beside `target`, removed after the block.

    Raises:
        OSError: the folder of `target` cannot be written.
    """
    handle, name = tempfile.mkstemp(prefix=f".{target.name}.", dir=target.parent)
    os.close(handle)
    path = Path(name)
    try:
        yield path
    finally:
        path.unlink(missing_ok=True)


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
def replacing_folder(target: Path, scratch_folder: Path) -> Iterator[Path]:
    """An empty folder to fill; it becomes `target` if the block ends well, else it is removed.

    A folder that was there before gives way only when the new one is whole.

    Args:
        target: the folder to be.
        scratch_folder: on the same disk; what a kill leaves half filled lies there.

    Raises:
        OSError: a folder cannot be written.
    """
    with tempfile.TemporaryDirectory(dir=scratch_folder) as scratch_name:
        partial = Path(scratch_name) / "new"
        partial.mkdir()
        yield partial
        if target.exists():
            target.rename(Path(scratch_name) / "old")
        partial.rename(target)
