"""Which build of llama.cpp is in use, and the environment it is loaded in."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from runtime.engine import library
from runtime.settings import PROJECT_DIR


def test_the_environment_is_set_unless_the_user_set_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "llama_cpp", raising=False)
    environment = {"GOMP_SPINCOUNT": "7"}
    library.set_environment(environment)
    assert environment == {**library.ENVIRONMENT, "GOMP_SPINCOUNT": "7"}
    monkeypatch.setitem(sys.modules, "llama_cpp", SimpleNamespace())  # too late
    untouched: dict[str, str] = {}
    library.set_environment(untouched)
    assert untouched == {}


def test_importing_the_engine_sets_it_before_llama_cpp_is_loaded() -> None:
    code = """
import os, sys
class Seen:
    def find_spec(self, name, *_):
        if name == "llama_cpp":
            print(os.environ.get("GOMP_SPINCOUNT"))
            sys.exit()
sys.meta_path.insert(0, Seen())
from runtime import loadPipeline
"""
    result = subprocess.run(
        [sys.executable, "-c", code], cwd=PROJECT_DIR, env={}, capture_output=True, text=True
    )
    assert result.stdout.strip() == library.ENVIRONMENT["GOMP_SPINCOUNT"], result.stderr


def test_cuda_is_told_from_the_libraries(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("LLAMA_CPP_LIB_PATH", str(tmp_path))
    assert not library.has_cuda()
    (tmp_path / "libggml-cuda.so").touch()
    assert library.has_cuda()
    build = library.Build(tmp_path, "gcc 12", "GNU OpenMP", (), cuda=True)
    assert str(build).startswith("CUDA, gcc 12, GNU OpenMP, ")


def test_the_build_in_use_is_named() -> None:
    build = library.describe_build()
    assert build.folder.is_dir()
    assert f"{build.compiler}, {build.openmp}, " in str(build)
    if sys.platform == "linux":
        assert build.compiler.partition(" ")[0] in ("clang", "gcc")
        assert "OpenMP" in build.openmp or build.openmp == library.OWN_POOL
        assert build.features


@pytest.mark.parametrize(
    ("library_bytes", "runtime"),
    [
        (b"\0libm.so.6\0libgomp.so.1\0", "GNU OpenMP (libgomp.so.1)"),
        (b"\0libomp.so.5\0", "LLVM OpenMP (libomp.so.5)"),
        (b"\0libiomp5.so\0", "LLVM OpenMP (libiomp5.so)"),
        (b"libgomp-ab12cd34.so.1.0.0\0", "GNU OpenMP (libgomp-ab12cd34.so.1.0.0)"),  # in a wheel
        (b"@rpath/libomp.dylib\0", "LLVM OpenMP (libomp.dylib)"),
        (b"\0__kmpc_fork_call\0", "LLVM OpenMP, linked in"),
        (b"\0libm.so.6\0", library.OWN_POOL),
    ],
)
def test_the_openmp_runtime_is_that_which_the_library_names(
    library_bytes: bytes, runtime: str
) -> None:
    assert library.openmp_runtime(library_bytes) == runtime


@pytest.mark.parametrize(
    ("library_bytes", "compiler"),
    [
        (b"\0GCC: (Debian 12.2.0-14) 12.2.0\0", "gcc 12.2.0"),
        (b"GCC: (GNU) 12.2.0\0Debian clang version 19.1.7 (3)\0", "clang 19.1.7"),
        (b"", library.UNKNOWN),
    ],
)
def test_the_compiler_is_that_which_the_library_names(library_bytes: bytes, compiler: str) -> None:
    assert library.compiler(library_bytes) == compiler
