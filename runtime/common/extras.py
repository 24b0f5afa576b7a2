"""What to say where a library of an extra is not installed."""

from __future__ import annotations

from importlib.util import find_spec

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
    "markdown_it": ("reading Markdown", "knowledge"),
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
        extra: the extra of this project that installs them.

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


def missing(error: ModuleNotFoundError, what: str, extra: str) -> MissingLibraryError:
    """What to raise in place of the error of a failed import; see `require`."""
    name = (error.name or "").partition(".")[0]
    return MissingLibraryError(
        f"{what} needs {name}: pip install 'subject-lora-serve[{extra}]'", name=name
    )


def explained(error: ModuleNotFoundError) -> ModuleNotFoundError:
    """The error of a failed import in words, if it is about a library of an extra."""
    module = (error.name or "").partition(".")[0]
    if isinstance(error, MissingLibraryError) or module not in _LIBRARIES:
        return error
    return missing(error, *_LIBRARIES[module])
