"""Patches of llama.cpp's source."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from runtime.settings import PROJECT_DIR
from tests.building import CLANG_19, PATCH

pytest_plugins = ["tests.building"]


def test_the_pinned_version_has_patches_and_another_has_none(
    build_llama: Any, patching: Any
) -> None:
    version = build_llama.pinned_version(PROJECT_DIR / "setup.cfg")
    assert patching.patches_for(version)
    assert patching.patches_for("0.0.1") == []


@pytest.mark.parametrize("program", ["git", "patch"])
def test_a_patch_is_applied_whole_or_not_at_all(
    patching: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, program: str
) -> None:
    if shutil.which(program) is None:
        pytest.skip(f"{program} is not installed")
    which = shutil.which
    monkeypatch.setattr(
        patching.shutil, "which", lambda name: which(name) if name == program else None
    )
    patch = tmp_path / "some.patch"
    patch.write_text(PATCH)
    # Within this repository, as the build's folder is: git must not take its root for the tree's.
    source = PROJECT_DIR / "build" / f"test-{tmp_path.name}-{program}"
    (source / "vendor").mkdir(parents=True)
    try:
        file = source / "vendor" / "a.c"
        file.write_text("int a;\nint b;\n")
        patching.apply(patch, source)
        assert file.read_text() == "int a;\nint c;\n"
        with pytest.raises(patching.PatchError, match=r"some\.patch"):
            patching.apply(patch, source)
        assert file.read_text() == "int a;\nint c;\n"
    finally:
        shutil.rmtree(source)


def test_without_a_program_to_patch_with_the_package_is_built_as_it_is(
    build_llama: Any,
    patching: Any,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def fail(*_: Any) -> None:
        raise patching.PatchError("neither git nor patch is installed")

    monkeypatch.setattr(build_llama, "patched_source", fail)
    version = build_llama.pinned_version(PROJECT_DIR / "setup.cfg")
    assert build_llama.source_of(version) == f"llama-cpp-python=={version}"
    assert "slower: neither git nor patch is installed" in capsys.readouterr().out
    assert build_llama.source_of("0.0.1") == "llama-cpp-python==0.0.1"


def test_where_the_patched_source_does_not_compile_the_package_is_tried(
    toolchains: Any,
    build_llama: Any,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    tried = []

    def compile_wheel(source: str, toolchain: Any) -> Path:
        tried.append(source)
        if source == "patched":
            raise build_llama.BuildError("no such instruction")
        (tmp_path / "llama.whl").touch()
        return tmp_path / "llama.whl"

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(build_llama, "source_of", lambda version: "patched")
    monkeypatch.setattr(build_llama, "compile_wheel", compile_wheel)
    assert build_llama.build("1.0", toolchains.Toolchain(CLANG_19)).name == "llama.whl"
    assert tried == ["patched", "llama-cpp-python==1.0"]
    assert "slower: no such instruction" in capsys.readouterr().out


def test_a_kept_wheel_serves_the_same_patches_only(
    toolchains: Any, build_llama: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    patch = tmp_path / "some.patch"
    patch.write_text(PATCH)
    clang = toolchains.Toolchain(CLANG_19)
    monkeypatch.setattr(build_llama, "patches_for", lambda version: [patch])
    first = build_llama.kept_folder("1.0", clang)
    patch.write_text(PATCH + "\n")
    assert build_llama.kept_folder("1.0", clang) != first
