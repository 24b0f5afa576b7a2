"""What is said where a library of an extra is not installed."""

from __future__ import annotations

import sys
from importlib.util import find_spec

_OURS = frozenset({"runtime", "convert", "kb", "training", "evaluation", "benchmarks", "lab"})


def require(what: str, extra: str, *modules: str) -> None:
    """See that libraries are installed before a package that rests on them is imported.

    Args:
        what: needs them, as a sentence names it.
        extra: of this project, which installs them.
        modules: as they are imported.

    Raises:
        ModuleNotFoundError: one is not, with what to do; SystemExit with the same line where a
            command of this project is run.
    """
    for module in modules:
        try:
            found = find_spec(module) is not None
        except ModuleNotFoundError:
            found = False
        if not found:
            raise missing(ModuleNotFoundError(name=module), what, extra)


def missing(error: ModuleNotFoundError, what: str, extra: str) -> BaseException:
    """What to raise for a failed import; see `require`."""
    message = f"{what} needs {error.name}: pip install 'subject-lora-serve[{extra}]'"
    if _is_our_command():
        return SystemExit(f"error: {message}")
    return ModuleNotFoundError(message, name=error.name)


def _is_our_command() -> bool:
    """Whether Python was started as `python -m` with a module of this project."""
    _, *options = sys.orig_argv
    module = options[options.index("-m") + 1] if "-m" in options[:-1] else ""
    return module.partition(".")[0] in _OURS
