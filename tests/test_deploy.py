"""The systemd unit and the container file: they start what there is, and systemd takes the unit."""

from __future__ import annotations

import json
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from runtime.serve.options import parse
from runtime.settings import PROJECT_DIR

UNIT = PROJECT_DIR / "deploy" / "subject-lora-serve.service"
CONTAINERFILE = PROJECT_DIR / "deploy" / "Containerfile"
SERVER = ["-m", "runtime.serve"]


def unit_lines() -> list[str]:
    """The unit's lines, those that go on made one."""
    return UNIT.read_text("utf-8").replace("\\\n", " ").splitlines()


def value(name: str) -> str:
    (found,) = [line for line in unit_lines() if line.startswith(f"{name}=")]
    return found.partition("=")[2]


def test_the_unit_starts_the_server_with_options_that_there_are() -> None:
    python, *arguments = shlex.split(value("ExecStart"))
    assert Path(python).is_absolute()
    assert arguments[:2] == SERVER
    options = parse(arguments[2:])
    assert options.host == "127.0.0.1"
    # systemd kills only after what runs has had its time.
    assert float(value("TimeoutStopSec")) > options.grace


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="there is no systemd-analyze")
def test_systemd_understands_the_unit(tmp_path: Path) -> None:
    copy = tmp_path / UNIT.name
    # What is not installed here: the interpreter that it names.
    python = shlex.split(value("ExecStart"))[0]
    copy.write_text(UNIT.read_text("utf-8").replace(python, sys.executable), "utf-8")
    copy.chmod(0o644)  # whatever the umask: systemd warns of a unit that anyone may write
    command = ["systemd-analyze", "verify", "--man=no", str(copy)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_the_container_starts_the_server_and_asks_it_how_it_is() -> None:
    lines = CONTAINERFILE.read_text("utf-8").replace("\\\n", " ").splitlines()
    said = dict(line.split(maxsplit=1) for line in lines if line.startswith(("ENTRY", "CMD")))
    python, *arguments = json.loads(said["ENTRYPOINT"]) + json.loads(said["CMD"])
    assert (python, arguments[:2]) == ("python", SERVER)
    assert f"EXPOSE {parse(arguments[2:]).port}" in lines
    assert "USER serve" in lines
    copied = [line.split()[1:-1] for line in lines if line.startswith("COPY ") and "--" not in line]
    for names in copied:
        assert all((PROJECT_DIR / name).exists() for name in names)
