"""Processes of Python that begin with torch and transformers loaded.

Loading both takes seconds, which is longer than what most processes that tests start do with them.
They are forked from one process that has loaded both and does nothing else.
"""

from __future__ import annotations

import functools
import multiprocessing
import os
import runpy
import sys
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerContext
from pathlib import Path

# None of ours, and no gguf: llama.cpp's scripts bring their own.
_LOADED = [
    "torch",
    "transformers",
    "transformers.trainer",
    "transformers.models.auto.modeling_auto",
    "peft",
]


class Forked:
    """A process that runs a module or a script as the main program; ends with this one.

    Args:
        arguments: what would follow `python`: `-m` and a module, or a script; and its arguments.
        folder: the working folder.
        prepare: what the process calls first; a function of a module, or a partial of one.
    """

    def __init__(
        self,
        arguments: Sequence[str | Path],
        folder: Path,
        prepare: Callable[[], object] | None = None,
    ) -> None:
        context = _context()
        reader, writer = context.Pipe(duplex=False)
        given = (list(map(str, arguments)), folder, prepare, writer)
        self.process = context.Process(target=_run, args=given, daemon=True)
        self.process.start()
        writer.close()
        pool = ThreadPoolExecutor(1)
        self._said = pool.submit(_read, reader)
        pool.shutdown(wait=False)

    def end(self) -> tuple[int, str]:
        """Wait for the end; the exit status, and what was printed."""
        self.process.join()
        assert self.process.exitcode is not None
        return self.process.exitcode, self._said.result()


def set_environment(values: Mapping[str, str]) -> None:
    """For `prepare`: the processes have the environment of the first moment."""
    os.environ.update(values)


@functools.cache
def _context() -> ForkServerContext:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(_LOADED)
    return context


def _read(connection: Connection) -> str:
    """All that comes until the other end is closed."""
    with os.fdopen(os.dup(connection.fileno()), encoding="utf-8", errors="replace") as file:
        connection.close()
        return file.read()


def _run(
    arguments: list[str],
    folder: Path,
    prepare: Callable[[], object] | None,
    said: Connection,
) -> None:
    for number in (1, 2):
        os.dup2(said.fileno(), number)
    said.close()
    # Those that were inherited know whether they could seek. What is printed stays in order.
    sys.stdout = os.fdopen(1, "w", encoding="utf-8", closefd=False, buffering=1)
    sys.stderr = os.fdopen(2, "w", encoding="utf-8", closefd=False, buffering=1)
    os.chdir(folder)
    if prepare is not None:
        prepare()
    if arguments[0] == "-m":
        sys.argv = arguments[1:]
        sys.path.insert(0, str(folder))
        runpy.run_module(arguments[1], run_name="__main__", alter_sys=True)
    else:
        sys.argv = arguments
        sys.path.insert(0, str(Path(arguments[0]).parent))
        runpy.run_path(arguments[0], run_name="__main__")
