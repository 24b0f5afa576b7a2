"""Programs of `benchmarks/` and `lab/` can be imported, so a name that moved is noticed."""

from __future__ import annotations

import importlib
import pkgutil

import pytest

import benchmarks
import lab
from runtime.settings import PROJECT_DIR

OURS = {"benchmarks", "lab", "runtime", "convert", "kb", "training", "evaluation", "algebra"}
MODULES = [
    module.name
    for package in (benchmarks, lab)
    for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}.")
]


@pytest.mark.parametrize("name", MODULES)
def test_a_program_can_be_imported(name: str) -> None:
    if name.endswith(".__main__"):
        name = name.removesuffix(".__main__")
    try:
        importlib.import_module(name)
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] in OURS:
            raise
        pytest.skip(f"needs {error.name}")


def test_the_laboratory_is_not_in_the_wheel_and_its_notes_name_every_program() -> None:
    configuration = (PROJECT_DIR / "setup.cfg").read_text()
    assert "benchmarks*" in configuration
    assert "lab*" not in configuration
    notes = (PROJECT_DIR / "lab" / "NOTES.md").read_text()
    for name in MODULES:
        if name.startswith("lab."):
            assert f"`{name}`" in notes
