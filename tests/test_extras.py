"""Where an extra is not installed, commands and imports say which it is."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

# A path in front of all others, on which a library's module cannot be found.
WITHOUT = """
import sys

class Without:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {missing!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)


sys.meta_path.insert(0, Without())
"""


def python(folder: Path, missing: set[str], *arguments: str) -> subprocess.CompletedProcess[str]:
    """Python with some libraries not installed."""
    (folder / "sitecustomize.py").write_text(WITHOUT.format(missing=missing))
    return subprocess.run(
        [sys.executable, *arguments],
        env={"PYTHONPATH": f"{folder}:{Path.cwd()}", "PATH": ""},
        capture_output=True,
        text=True,
        timeout=100,
    )


@pytest.mark.parametrize(
    ("command", "library", "what", "extra"),
    [
        ("convert.export_gguf --base demo", "gguf", "converting", "convert"),
        ("convert.verify demo none x.gguf", "gguf", "converting", "convert"),
        ("evaluation --questions none.jsonl", "opencc", "evaluating", "evaluation"),
        ("evaluation --questions none.jsonl", "matplotlib", "evaluating", "evaluation"),
        (
            "kb.calibrate --subject history --questions q.jsonl",
            "opencc",
            "evaluating",
            "evaluation",
        ),
        ("training.finetune --model demo --data-history x.jsonl", "torch", "training", "train"),
        ("runtime.serve", "uvicorn", "the server", "server"),
    ],
)
def test_a_command_says_which_extra_it_needs(
    tmp_path: Path, command: str, library: str, what: str, extra: str
) -> None:
    if extra == "evaluation":  # the first that is missing is named
        pytest.importorskip("matplotlib")
        pytest.importorskip("opencc")
    ran = python(tmp_path, {library}, "-m", *command.split())
    assert ran.stderr == (
        f"error: {what} needs {library}: pip install 'subject-lora-serve[{extra}]'\n"
    )
    assert ran.returncode == 1


def test_an_import_says_which_library_is_missing(tmp_path: Path) -> None:
    code = "try: import convert.exporter\nexcept ModuleNotFoundError as e: print(e.name)"
    ran = python(tmp_path, {"gguf"}, "-c", code)
    assert ran.stdout == "gguf\n"
