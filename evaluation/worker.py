"""`python -P .../evaluation/worker.py PIPELINE FD`: the process that a pipeline under test runs in.

FD is a socket to the evaluation. Both sides send JSON, one message a line:

    evaluation                                 this process
                                           ←   {"started": true}
                                           ←   {"loaded": true}, or what went wrong
    {"call": code, "questions": [...]}     →   calls the pipeline
                                           ←   {"call": code, "output": ...}, or what went wrong
                                           ←   the pipeline's own figures and source files
    {}                                     →   ends

The evaluation measures the time, from before the questions are sent until the whole output has
arrived. So this process can neither shorten the time nor answer before it is asked.

This file imports only the standard library and is run as a file, not as a module of a package: the
modules, memory and environment of this process belong to the pipeline. If it has its own package
called `runtime` or `evaluation`, it gets that one.
"""

from __future__ import annotations

import importlib
import json
import math
import os
import signal
import sys
import sysconfig
import threading
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

# The package in a contest entry's folder.
_ENTRY = "inferencePipeline"
# Larger whole numbers are only described: Python cannot read them from JSON.
_MAX_BITS = 10_000


class _RefusedError(Exception):
    """There is no such pipeline."""


class _FailedError(Exception):
    """The pipeline failed; the message says how."""


def main() -> None:
    """Load the pipeline, call it once, and report the result."""
    name, descriptor = sys.argv[1], int(sys.argv[2])
    os.set_inheritable(descriptor, False)  # not inherited by processes of the pipeline
    channel = _Channel(descriptor)
    channel.tell({"started": True})
    _end_with_the_evaluation()
    sys.path.insert(0, str(Path.cwd()))  # first place for `package:function`
    try:
        pipeline = _loaded(name)
    except _RefusedError as problem:
        return channel.tell({"refused": str(problem)})
    except _FailedError as failure:
        return channel.tell({"failure": str(failure)})
    before = _stats(pipeline)
    channel.tell({"loaded": True})
    asked = channel.hear()
    number = len(asked["questions"])
    outcome: dict[str, Any] = {"call": asked["call"]}
    try:
        with _doing("the call"):
            output = pipeline(asked["questions"])
        with _doing("looking at its output"):  # its methods may do anything
            outcome["output"] = as_plain(output)
    except _FailedError as failure:
        outcome["failure"] = str(failure)
    channel.tell(outcome)
    stats = {key: value - before.get(key, 0.0) for key, value in _stats(pipeline).items()}
    seconds = _answer_seconds(pipeline, number)
    channel.tell({"stats": stats, "answer_seconds": seconds, "sources": _sources()})
    channel.hear()


class _Channel:
    """This end of the socket."""

    def __init__(self, descriptor: int) -> None:
        self._reading = os.fdopen(descriptor, "rb")
        self._writing = os.fdopen(os.dup(descriptor), "wb")

    def tell(self, message: dict[str, Any]) -> None:
        self._writing.write(json.dumps(message).encode("ascii") + b"\n")
        self._writing.flush()

    def hear(self) -> Any:
        return json.loads(self._reading.readline())


def _loaded(name: str) -> Callable[[list[dict[str, Any]]], Any]:
    """The pipeline. Raises _RefusedError, _FailedError."""
    with _doing("importing it"):
        load = find(name)
    with _doing("loadPipeline()"):
        pipeline = load()
    if not callable(pipeline):
        raise _FailedError(f"loadPipeline() returned {described(pipeline)}, which is not callable")
    return pipeline  # type: ignore[no-any-return]


def find(name: str) -> Callable[[], Any]:
    """Find the function of a pipeline's name.

    The name is `package:function`, `path/to/file.py:function` or `path/to/folder:function`, where
    the folder is a package or contains a package inferencePipeline. Without a slash or .py it is a
    package.

    Raises:
        _RefusedError: there is no such file, module or function.
        BaseException: raised by the import.
    """
    place, _, function = name.rpartition(":")
    if not place or not function:
        raise _RefusedError("give package:function, file.py:function or folder:function")
    path = Path(place)
    if os.sep in place or path.suffix == ".py" or place in (".", ".."):
        path = path.resolve()
        if not path.exists():
            raise _RefusedError(f"{place}: no such file or folder")
        if path.is_dir() and not (path / "__init__.py").exists():
            path = path / _ENTRY
            if not path.exists() and not path.with_suffix(".py").exists():
                raise _RefusedError(f"{place}: no __init__.py and no {_ENTRY} in that folder")
        sys.path.insert(0, str(path.parent))
        module_name = path.name.removesuffix(".py")
        if "." in module_name or module_name in sys.modules:
            raise _RefusedError(f"{place}: a module cannot be called {module_name}; rename it")
    else:
        module_name = place
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if not f"{module_name}.".startswith(f"{error.name}."):
            raise  # a module that it imports
        raise _RefusedError(
            f"there is no module {module_name}; a folder or file is given as ./{place}"
        ) from None
    load = getattr(module, function, None)
    if not callable(load):
        raise _RefusedError(f"there is no function {function} in {place}")
    return load  # type: ignore[no-any-return]


@contextmanager
def _doing(what: str) -> Iterator[None]:
    try:
        yield
    except _RefusedError:
        raise
    except BaseException as error:  # SystemExit too
        traceback.print_exc()
        raise _FailedError(f"{what} raised {_named(error)}") from None


def _named(error: BaseException) -> str:
    try:
        text = " ".join(str(error).split())
    except Exception:
        text = "(which cannot be shown)"
    text = "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)  # as for a terminal
    short = text if len(text) <= 300 else f"{text[:297]}..."
    return f"{type(error).__name__}: {short}" if short else type(error).__name__


def _stats(pipeline: Any) -> dict[str, float]:
    """The pipeline's own counters, or {} if there are none or they cannot be read."""
    try:
        stats = getattr(pipeline, "stats", None)
        as_dict = getattr(stats, "as_dict", None)
        values = as_dict() if callable(as_dict) else stats
        if not isinstance(values, Mapping):
            return {}
        return {str(key): float(value) for key, value in values.items() if _is_number(value)}
    except Exception:
        traceback.print_exc()
        return {}


def _answer_seconds(pipeline: Any, n: int) -> list[float] | None:
    """When each answer was ready, if the pipeline reports it for all `n` questions."""
    try:
        seconds = getattr(pipeline, "answer_seconds", None)
        if not isinstance(seconds, list) or len(seconds) != n:
            return None
        if not all(_is_number(each) and each >= 0 for each in seconds):
            return None
        return [float(each) for each in seconds]
    except Exception:
        traceback.print_exc()
        return None


def _sources() -> list[str]:
    """The .py files of imported modules, without Python's, installed packages' and this one."""
    try:
        files = [getattr(module, "__file__", None) for module in list(sys.modules.values())]
        others = (sysconfig.get_path("stdlib") + os.sep, __file__)
        return sorted(
            file
            for file in set(filter(None, files))
            if file.endswith(".py")
            and not file.startswith(others)
            and not {"site-packages", "dist-packages"} & set(Path(file).parts)
        )
    except Exception:
        traceback.print_exc()
        return []


def as_plain(output: Any) -> Any:
    """Convert an output to JSON data; only exact lists, dicts and scalars are kept.

    A list stays a list, and a dict in it a dict. Any other output or record becomes a string such
    as "a tuple", any other value of a record {"is": "a tuple"}, and any other key "a tuple as a
    key". Of other objects only the name of the type is read.
    """
    if type(output) is not list:
        return described(output)
    return [_plain_record(record) for record in list(output)]


def _plain_record(record: Any) -> Any:
    if type(record) is not dict:
        return described(record)
    return {
        key if type(key) is str else f"{described(key)} as a key": _plain_value(value)
        for key, value in list(record.items())
    }


def _plain_value(value: Any) -> Any:
    if value is None or type(value) in (str, bool, float):
        return value
    if type(value) is int and value.bit_length() <= _MAX_BITS:
        return value
    return {"is": described(value)}


def described(value: Any) -> str:
    """The type of a value, with its article."""
    if value is None:
        return "None"
    kind = type(value)
    base = next((base for base in (list, dict, str) if base in kind.__mro__[1:]), None)
    if base is not None:
        return f"a subclass of {base.__name__}"
    return f"{'an' if kind.__name__[:1] in tuple('aeiou') else 'a'} {kind.__name__}"


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)


def _end_with_the_evaluation() -> None:
    """Kill this process group when the evaluation is killed.

    The evaluation has the other end of stdin, which closes when it ends. The pipeline gets an
    empty stdin.
    """
    lifeline = os.dup(0)
    os.set_inheritable(lifeline, False)
    with open(os.devnull, "rb") as nothing:  # noqa: PTH123  (a descriptor is wanted)
        os.dup2(nothing.fileno(), 0)

    def wait() -> None:
        os.read(lifeline, 1)
        os.killpg(0, signal.SIGKILL)

    threading.Thread(target=wait, daemon=True).start()


if __name__ == "__main__":
    main()
