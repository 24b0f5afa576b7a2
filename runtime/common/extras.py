"""What to say where a library of an extra is not installed."""

from __future__ import annotations

from importlib.util import find_spec

from runtime.common.early import is_our_command

# For each library, as it is imported: the work that needs it, and the extra that installs it.
_LIBRARIES = {
    "gguf": ("converting", "convert"),
    "transformers": ("converting", "convert"),
    "torch": ("training", "train"),
    "peft": ("training", "train"),
    "accelerate": ("training", "train"),
    "opencc": ("evaluating", "evaluation"),
    "matplotlib": ("evaluating", "evaluation"),
    "llguidance": ("constraining answers", "constrain"),
    "ijson": ("reading a JSON file", "knowledge"),
    "pyarrow": ("reading a Parquet file", "knowledge"),
    "pypdf": ("reading a PDF file", "knowledge"),
    "selectolax": ("reading a page of HTML", "knowledge"),
    "sympy": ("exact algebra", "algebra"),
    "math_verify": ("judging mathematics", "evaluation"),
    "fastapi": ("the server", "server"),
    "prometheus_client": ("the server", "server"),
    "uvicorn": ("the server", "server"),
    "ray": ("answering on Ray", "ray"),
}


class MissingLibraryError(ModuleNotFoundError):
    """A library is not installed; the message says which extra installs it."""


def require(what: str, extra: str, *modules: str) -> None:
    """Check that libraries are installed, before work starts that will import them.

    Args:
        what: the work, as the message names it: "converting".
        extra: of this project; it installs them.
        modules: names as they are imported.

    Raises:
        MissingLibraryError: one is not installed.
    """
    for module in modules:
        try:
            found = find_spec(module) is not None
        except ModuleNotFoundError:
            found = False
        if not found:
            raise missing(ModuleNotFoundError(name=module), what, extra)


def missing(error: ModuleNotFoundError, what: str, extra: str) -> BaseException:
    """What to raise in place of the error of a failed import; see `require`."""
    words = _in_words(error, what, extra)
    # Until every command imports what it needs inside its frame.
    return SystemExit(f"error: {words}") if is_our_command() else words


def _in_words(error: ModuleNotFoundError, what: str, extra: str) -> MissingLibraryError:
    name = (error.name or "").partition(".")[0]
    return MissingLibraryError(
        f"{what} needs {name}: pip install 'subject-lora-serve[{extra}]'", name=name
    )


def explained(error: ModuleNotFoundError) -> ModuleNotFoundError:
    """The error of a failed import in words, if it is about a library of an extra."""
    module = (error.name or "").partition(".")[0]
    if isinstance(error, MissingLibraryError) or module not in _LIBRARIES:
        return error
    return _in_words(error, *_LIBRARIES[module])
