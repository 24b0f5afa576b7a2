"""Which tools llama.cpp is built with for a GPU. Nothing is compiled here."""

from __future__ import annotations

import importlib
import re
import shlex
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest

pytest_plugins = ["tests.building"]
NVCC = """#!/bin/sh
case "$*" in
  *--version*) echo "Cuda compilation tools, release {version}, V1" ;;
  *--dryrun*) echo '#$ TOP={toolkit}' >&2 ;;
  *"{refused}"*) echo "error: unsupported GNU version!" >&2; exit 1 ;;
esac
"""
SMI = "#!/bin/sh\nprintf '8.6\\n9.0\\n9.0\\n'\n"


class Cuda:
    """A machine with an nvcc, compilers and a card, of which each is a small script."""

    def __init__(self, toolchains: Any, folder: Path) -> None:
        self.toolchains, self.folder = toolchains, folder
        self.toolkit = folder / "toolkit"
        (self.toolkit / "lib64").mkdir(parents=True)
        for name in ("gcc", "g++", "gcc-12", "g++-12"):
            self.add(name, "")
        self.add("nvidia-smi", SMI)
        self.add_nvcc()

    def add(self, name: str, script: str) -> None:
        (self.folder / name).write_text(script)
        (self.folder / name).chmod(0o755)

    def add_nvcc(self, version: str = "13.0", refused: str = "no compiler") -> None:
        text = NVCC.format(version=version, toolkit=self.toolkit, refused=refused)
        self.add("nvcc", text)

    def find(self, architectures: str = "", **environment: str) -> Any:
        module = importlib.import_module("cuda_toolchain")
        machine = self.toolchains.Machine(
            "Linux",
            "x86_64",
            environment=environment,
            which=lambda name: None if "/" in name else shutil.which(name, path=str(self.folder)),
        )
        return module.find_cuda(machine, self.folder / "build", architectures)


@pytest.fixture
def cuda(toolchains: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Cuda:
    monkeypatch.setattr("ctypes.util.find_library", lambda name: None)
    return Cuda(toolchains, tmp_path)


def test_cuda_is_for_the_cards_that_are_here(cuda: Cuda) -> None:
    found = cuda.find()
    arguments = shlex.split(found.environment["CMAKE_ARGS"])
    assert "-DGGML_CUDA=ON" in arguments
    assert f"-DCMAKE_CUDA_COMPILER={cuda.folder / 'nvcc'}" in arguments
    assert "-DCMAKE_CUDA_ARCHITECTURES=86-real;90-real" in arguments
    assert found.environment["CC"] == str(cuda.folder / "gcc")
    assert found.name == "nvcc 13.0 and g++ for 86-real;90-real"
    assert not found.keep


@pytest.mark.parametrize(
    ("asked", "given"),
    [("90", "90-real"), ("8.6, 8.9", "86-real;89-real"), ("120a-real;75", "120a-real;75-real")],
)
def test_cuda_may_be_for_cards_that_are_not_here(cuda: Cuda, asked: str, given: str) -> None:
    (cuda.folder / "nvidia-smi").unlink()
    assert f"ARCHITECTURES={given}" in cuda.find(asked).environment["CMAKE_ARGS"]


@pytest.mark.parametrize(
    ("missing", "asked", "reason"),
    [
        ("nvcc", "90", "nvcc was not found; install the CUDA toolkit"),
        ("nvidia-smi", "", "set the architecture to build for: make cuda CUDA_ARCHITECTURES=90"),
        ("none", "hopper", "CUDA_ARCHITECTURES=hopper: 'hopper' is not an architecture"),
    ],
)
def test_what_cuda_lacks_is_named(
    cuda: Cuda, toolchains: Any, missing: str, asked: str, reason: str
) -> None:
    (cuda.folder / missing).unlink(missing_ok=True)
    with pytest.raises(toolchains.UnavailableError, match=re.escape(reason)):
        cuda.find(asked)


def test_nvcc_gets_a_gcc_that_suits_it(cuda: Cuda, toolchains: Any) -> None:
    cuda.add_nvcc(refused="g++ ")  # the newest; `g++-12` it takes
    assert cuda.find("90").environment["CXX"] == str(cuda.folder / "g++-12")
    cuda.add_nvcc(refused="-ccbin")
    with pytest.raises(toolchains.UnavailableError, match="unsupported GNU version"):
        cuda.find("90")
    for compiler in cuda.folder.glob("g++*"):
        compiler.unlink()
    with pytest.raises(toolchains.UnavailableError, match=r"nvcc needs gcc and g\+\+: apt-get"):
        cuda.find("90")


@pytest.mark.parametrize(("version", "part"), [("13.0", "cu13"), ("12.4", "cublas")])
def test_a_toolkit_without_cublas_gets_nvidias_wheel_of_it(
    cuda: Cuda, version: str, part: str
) -> None:
    cuda.add_nvcc(version)
    arguments = cuda.find("90").environment["CMAKE_ARGS"]
    library = f"nvidia/{part}/lib/libcublas.so.{version.partition('.')[0]}"
    assert library in arguments
    assert f" -Wl,-rpath,{sys.prefix}/lib/" in arguments
    (cuda.toolkit / "lib64" / "libcublas.so").touch()
    assert "libcublas" not in cuda.find("90").environment["CMAKE_ARGS"]


def test_without_a_driver_the_build_must_not_need_one(
    cuda: Cuda, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "-DGGML_CUDA_NO_VMM=ON" in cuda.find("90").environment["CMAKE_ARGS"]
    monkeypatch.setattr("ctypes.util.find_library", lambda name: f"lib{name}.so.1")
    assert "NO_VMM" not in cuda.find("90").environment["CMAKE_ARGS"]


def test_where_cuda_cannot_be_nothing_else_is_installed(
    cuda: Cuda, build_llama: Any, toolchains: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    machine = toolchains.Machine("Linux", "x86_64", which=lambda name: None)
    installed: list[Any] = []
    assert build_llama.install_with_cuda(machine, "90", installed.append) == 1
    assert not installed
    assert "error: llama.cpp could not be compiled with CUDA: nvcc was" in capsys.readouterr().out


def test_a_card_that_is_not_used_is_no_secret(
    toolchains: Any,
    build_llama: Any,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(build_llama, "installed_version", lambda: None)
    monkeypatch.setattr(build_llama, "first_that_works", lambda machine, install: 0)
    for nvidia in (True, False):
        machine = toolchains.Machine("Linux", "x86_64", nvidia)
        monkeypatch.setattr(build_llama, "look", lambda machine=machine: machine)
        assert build_llama.main([]) == 0
        assert ("make cuda builds llama.cpp for it" in capsys.readouterr().out) == nvidia
