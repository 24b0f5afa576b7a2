"""Importing a package and asking a command for help need no library but Python's own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from runtime.settings import PROJECT_DIR

# The product; the experiments in lab/ may load what they measure.
PACKAGES = [
    *("runtime", "inferencePipeline", "evaluation", "kb", "training", "convert", "algebra"),
    "benchmarks",
]

# Only Python's own modules and the project's can be imported.
LIGHT = """
import sys

PACKAGES = {packages!r}

class Blocked:
    def find_spec(self, name, path=None, target=None):
        top = name.partition(".")[0]
        if top not in sys.stdlib_module_names and top not in PACKAGES:
            raise ModuleNotFoundError("blocked: " + name, name=name)

sys.meta_path.insert(0, Blocked())
"""


def commands() -> list[str]:
    """Modules that are commands: those that end in `sys.exit(main())`."""
    found = []
    for package in PACKAGES:
        for path in sorted((PROJECT_DIR / package).rglob("*.py")):
            if path.read_text(encoding="utf-8").endswith("    sys.exit(main())\n"):
                name = ".".join(path.relative_to(PROJECT_DIR).with_suffix("").parts)
                found.append(name.removesuffix(".__main__"))
    return found


def python(code: str) -> subprocess.CompletedProcess[str]:
    """What Python says of code; ours is imported from where these tests are."""
    return subprocess.run(
        [sys.executable, "-c", LIGHT.format(packages=PACKAGES) + code],
        cwd=PROJECT_DIR,
        capture_output=True,
        text=True,
        timeout=100,
    )


def test_the_commands_are_found() -> None:
    found = set(commands())
    assert {"runtime", "evaluation", "kb.calibrate", "training.finetune"} <= found
    assert {"benchmarks", "benchmarks.gpu", "benchmarks.peers"} <= found


@pytest.mark.parametrize("command", commands())
def test_help_needs_no_library(command: str) -> None:
    ran = python(
        f"import runpy; sys.argv = ['x', '--help']; runpy.run_module({command!r}, {{}}, '__main__')"
    )
    assert (ran.returncode, ran.stderr) == (0, "")
    assert ran.stdout.startswith("usage:")


@pytest.mark.parametrize(
    "package",
    [
        ".".join(path.parent.relative_to(PROJECT_DIR).parts)
        for package in PACKAGES
        if package != "inferencePipeline"  # its one name is the pipeline
        for path in sorted((PROJECT_DIR / package).rglob("__init__.py"))
    ],
)
def test_importing_a_package_needs_no_library(package: str) -> None:
    ran = python(f"import {package}")
    assert (ran.returncode, ran.stderr) == (0, "")


@pytest.mark.parametrize(
    "package", ["runtime", "runtime.engine", "runtime.retrieval", "evaluation.judges"]
)
def test_public_names_are_found_when_they_are_used(package: str) -> None:
    if package.startswith("evaluation"):
        pytest.importorskip("opencc")
    code = f"""
import importlib
package = importlib.import_module({package!r})
assert set(package.__all__) <= set(dir(package))
for name in package.__all__:
    assert name in vars(package) or getattr(package, name), name
    assert name in vars(package), name  # so that it is looked up once
try:
    package.nonsense
except AttributeError as error:
    print(error)
"""
    ran = subprocess.run(
        [sys.executable, "-c", code], cwd=PROJECT_DIR, capture_output=True, text=True, timeout=100
    )
    assert ran.stdout == f"module {package!r} has no attribute 'nonsense'\n", ran.stderr


def users_of_llama() -> list[str]:
    """Modules outside the engine that import llama.cpp's bindings.

    Not those of benchmarks: contenders measure the bindings as others load them.
    """
    return [
        ".".join(path.relative_to(PROJECT_DIR).with_suffix("").parts)
        for package in PACKAGES
        for path in sorted((PROJECT_DIR / package).rglob("*.py"))
        if package != "benchmarks"
        and path.parent.name != "engine"
        and "import llama_cpp" in path.read_text(encoding="utf-8")
    ]


@pytest.mark.parametrize("module", users_of_llama())
def test_the_environment_is_set_before_llama_cpp_is_loaded(module: str, tmp_path: Path) -> None:
    """OpenMP's runtime reads it as it is loaded."""
    if module.startswith("convert"):
        pytest.importorskip("gguf")
    code = f"""
import os, sys

class Seen:
    def find_spec(self, name, path=None, target=None):
        if name == "llama_cpp":
            print(os.environ.get("GOMP_SPINCOUNT"), flush=True)
            os._exit(0)

sys.meta_path.insert(0, Seen())
os.environ.pop("GOMP_SPINCOUNT", None)
import {module}
"""
    ran = subprocess.run(
        [sys.executable, "-c", code], cwd=PROJECT_DIR, capture_output=True, text=True, timeout=100
    )
    assert ran.stdout == "1000\n", ran.stderr
