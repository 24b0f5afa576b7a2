"""What is installed works wherever its commands are run."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from runtime.common.child import command_of
from runtime.settings import PROJECT_DIR


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with what an editable install of a copy of this project puts into site-packages."""
    copy = tmp_path_factory.mktemp("project")
    for name in ("setup.cfg", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copyfile(PROJECT_DIR / name, copy / name)
    for package in ("runtime", "convert"):
        shutil.copytree(PROJECT_DIR / package, copy / package)
    site = tmp_path_factory.mktemp("site")
    build = f"import setuptools.build_meta as b; print(b.build_editable({str(site)!r}))"
    done = subprocess.run(
        [sys.executable, "-c", build], cwd=copy, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    (wheel,) = site.glob("*.whl")
    shutil.unpack_archive(wheel, site, "zip")
    return site


# What `python -m COMMAND --help` does, with one folder of site-packages.
START = """
import runpy, site, sys
folder, command = sys.argv[1:]
site.addsitedir(folder)
sys.path.insert(0, "")
sys.argv = ["", "--help"]
runpy.run_module(command, run_name="__main__")
"""


@pytest.mark.slow
@pytest.mark.parametrize("command", ["runtime", "convert.inspect"])
def test_a_folder_of_the_same_name_hides_nothing(
    installed: Path, tmp_path: Path, command: str
) -> None:
    (tmp_path / "runtime").mkdir()
    (tmp_path / "runtime" / "notes.txt").touch()
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", START, installed, command],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert f"python -m {command}" in done.stdout


def test_a_file_of_the_same_name_does_not_hide_commands_that_are_started_by_others(
    tmp_path: Path,
) -> None:
    (tmp_path / "convert.py").write_text("raise SystemExit('another convert')")
    command, environment = command_of("convert.inspect", "--help")
    done = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
