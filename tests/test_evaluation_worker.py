"""Which pipeline a name stands for."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from evaluation import protocol
from evaluation.errors import EvaluationError
from runtime.settings import PROJECT_DIR
from tests.evaluating import GOOD, RECORDS, RIGHT, score_of, write_pipeline


def test_a_pipeline_is_a_module_a_file_a_package_or_the_folder_of_an_entry(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package, entry = tmp_path / "pack", tmp_path / "entries" / "inferencePipeline"
    package.mkdir()
    entry.mkdir(parents=True)
    for folder in (package, entry):
        write_pipeline(folder, f"return {GOOD!r}", name="__init__.py")
    file = write_pipeline(tmp_path, f"return {GOOD!r}", name="one.py")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    for name in ["pack", package, entry.parent, file.removesuffix(":loadPipeline")]:
        run = protocol.call(f"{name}:loadPipeline", RECORDS, tmp_path / "log", 30, 30)
        assert run.answers == [record["answer"] for record in GOOD]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("no_such_package:loadPipeline", "there is no module no_such_package"),
        (":loadPipeline", "give package:function, file.py:function or folder:function"),
        ("json:", "give package:function, file.py:function or folder:function"),
        ("json:loadPipeline", "there is no function loadPipeline in json"),
        ("./no/folder:loadPipeline", "./no/folder: no such file or folder"),
        (f"{PROJECT_DIR / 'docs'}:loadPipeline", "no __init__.py and no inferencePipeline"),
    ],
)
def test_a_pipeline_that_is_not_there_is_bad_input(tmp_path: Path, name: str, message: str) -> None:
    with pytest.raises(EvaluationError, match=re.escape(message)):
        score_of(tmp_path, "", pipeline=name)
    assert not (tmp_path / "report/run/run.json").exists()


@pytest.mark.parametrize("name", ["v1.2.py", "json.py"])
def test_a_file_that_cannot_be_imported_by_its_name_is_refused(tmp_path: Path, name: str) -> None:
    pipeline = write_pipeline(tmp_path, RIGHT, name=name)
    with pytest.raises(EvaluationError, match=r"a module cannot be called .*; rename it"):
        score_of(tmp_path, "", pipeline=pipeline)


def test_a_module_that_the_pipeline_lacks_is_its_failure(tmp_path: Path) -> None:
    (tmp_path / "entry2.py").write_text("import no_such_module")
    summary = score_of(tmp_path, "", pipeline=f"{tmp_path / 'entry2.py'}:loadPipeline")
    assert summary.failure.startswith("importing it raised ModuleNotFoundError: No module named")
