"""Downloads llama-cpp-python's source and applies this project's patches."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Sequence
from pathlib import Path

PATCHES = Path(__file__).resolve().parent / "patches"
PACKAGE = "llama-cpp-python"
PIP = [sys.executable, "-m", "pip", "--disable-pip-version-check"]


class PatchError(Exception):
    """The source cannot be downloaded, or a patch does not apply; the message says why."""


def patches_for(version: str) -> list[Path]:
    """The patches for a version, in the order in which they are applied."""
    return sorted(PATCHES.glob(f"{PACKAGE}-{version}-*.patch"))


def fingerprint(patches: Sequence[Path]) -> str:
    """A hash of the patches; "" without any."""
    digest = hashlib.sha256(b"".join(path.read_bytes() for path in patches))
    return digest.hexdigest() if patches else ""


def patched_source(version: str, patches: Sequence[Path], folder: Path) -> Path:
    """Download the source distribution into `folder`, unpack it there and apply the patches.

    Args:
        version: of llama-cpp-python.
        patches: applied with git or patch, whichever is installed.
        folder: its contents are replaced.

    Returns:
        the folder of the source.

    Raises:
        PatchError: see the class.
    """
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    options = ["--quiet", "--no-deps", "--no-binary", ":all:", "--dest", str(folder)]
    _run([*PIP, "download", *options, f"{PACKAGE}=={version}"], folder, "its source distribution")
    archives = list(folder.glob("*.tar.gz"))
    if len(archives) != 1:
        raise PatchError(f"expected one archive of {PACKAGE} {version}, got {len(archives)}")
    with tarfile.open(archives[0]) as archive:
        archive.extractall(folder, filter="data")
    (source,) = (path for path in folder.iterdir() if path.is_dir())
    for patch in patches:
        apply(patch, source)
    return source


def apply(patch: Path, source: Path) -> None:
    """Apply a patch to a source tree atomically. Raises PatchError."""
    if shutil.which("git"):
        # Otherwise git would apply the patch relative to the root of this repository.
        command = ["git", "-c", "core.autocrlf=false", "apply", str(patch)]
        environment = {"GIT_CEILING_DIRECTORIES": str(source.parent)}
    elif shutil.which("patch"):
        command, environment = ["patch", "--forward", "-p1", "--input", str(patch)], {}
        _run([*command, "--dry-run"], source, patch.name)
    else:
        raise PatchError("neither git nor patch is installed")
    _run(command, source, patch.name, environment)


def _run(
    command: list[str], folder: Path, what: str, environment: dict[str, str] | None = None
) -> None:
    result = subprocess.run(
        command,
        cwd=folder,
        stdin=subprocess.DEVNULL,
        env=os.environ | (environment or {}),
        capture_output=True,
        text=True,
        check=False,
    )
    if result.returncode:
        lines = (result.stderr or result.stdout).strip().splitlines() or ["no message"]
        raise PatchError(f"{what}: {lines[-1][:200]}")
