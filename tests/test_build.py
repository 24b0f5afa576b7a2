"""Which compiler llama.cpp is built with. Nothing is compiled here."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from runtime.settings import PROJECT_DIR
from tests.building import CLANG_18, CLANG_19

pytest_plugins = ["tests.building"]


# --- what is tried, in which order ---------------------------------------------------------


@pytest.mark.parametrize(
    ("machine", "expected"),
    [
        (("Linux", "x86_64"), ["zig", "clang", "gcc"]),
        (("Linux", "x86_64", True), ["zig", "clang", "gcc"]),  # for a GPU there is make cuda
        (("Linux", "aarch64"), ["clang", "gcc", "zig without OpenMP"]),
        (("Linux", "riscv64"), ["clang", "gcc"]),
        (("Darwin", "arm64"), ["plain"]),
        (("Windows", "amd64"), ["plain"]),
        (("Linux", "x86_64", False, {"CC": ""}), ["zig", "clang", "gcc"]),
        (("Linux", "x86_64", True, {"CC": "icx"}), ["your own"]),
        (("Linux", "x86_64", False, {"CXX": "icpx"}), ["your own"]),
        (("Darwin", "arm64", False, {"CMAKE_ARGS": "-DGGML_METAL=off"}), ["your own"]),
    ],
)
def test_candidates(toolchains: Any, machine: tuple[Any, ...], expected: list[str]) -> None:
    assert toolchains.candidates(toolchains.Machine(*machine)) == expected


def with_programs(
    toolchains: Any, monkeypatch: pytest.MonkeyPatch, versions: dict[str, str], fails: str = ""
) -> Any:
    """A machine with these programs, of which each says its version and passes its trial."""

    def probe(command: list[str], folder: Path) -> None:
        if fails and fails in command[0]:
            raise toolchains.UnavailableError("omp.h not found")

    monkeypatch.setattr(toolchains, "_version", lambda path: versions[Path(path).name])
    monkeypatch.setattr(toolchains, "probe", probe)
    return toolchains.Machine(
        "Linux", "x86_64", which=lambda name: f"/bin/{name}" if name in versions else None
    )


GCC = "gcc (Debian 12.2.0) 12.2.0"


def test_the_newest_clang_with_openmp_is_taken(
    toolchains: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    versions = {"clang-18": CLANG_18, "clang++-18": "", "clang-19": CLANG_19, "clang++-19": ""}
    machine = with_programs(toolchains, monkeypatch, versions)
    found = toolchains.find("clang", machine, tmp_path)
    assert found.name == CLANG_19
    assert (found.environment["CC"], found.environment["CXX"]) == (
        "/bin/clang-19",
        "/bin/clang++-19",
    )
    assert found.keep
    machine = with_programs(toolchains, monkeypatch, versions, fails="clang++-19")
    assert toolchains.find("clang", machine, tmp_path).name == CLANG_18


@pytest.mark.parametrize(
    ("versions", "reason"),
    [
        ({}, "no clang of 16 or newer"),
        ({"clang": CLANG_19}, "no clang of 16 or newer"),  # without clang++
        (
            {"clang": "Debian clang version 14.0.6", "clang++": ""},
            "/bin/clang is older than 16",
        ),
        (
            {"clang-18": CLANG_18, "clang++-18": ""},
            r"/bin/clang-18 has no working OpenMP \(omp.h not found\)",
        ),
    ],
)
def test_why_there_is_no_clang(
    toolchains: Any,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    versions: dict[str, str],
    reason: str,
) -> None:
    machine = with_programs(toolchains, monkeypatch, versions, fails="clang")
    with pytest.raises(toolchains.UnavailableError, match=reason):
        toolchains.find("clang", machine, tmp_path)


def test_gcc_advises_clang(
    toolchains: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    machine = with_programs(toolchains, monkeypatch, {"gcc": GCC, "g++": GCC})
    found = toolchains.find("gcc", machine, tmp_path)
    assert found.name == GCC
    assert "apt-get install clang-19 libomp-19-dev" in found.advice
    with pytest.raises(toolchains.UnavailableError, match=r"no gcc and g\+\+"):
        toolchains.find("gcc", with_programs(toolchains, monkeypatch, {"gcc": GCC}), tmp_path)


def test_zig_is_downloaded_only_when_it_is_prepared(
    toolchains: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    asked: list[list[str]] = []

    def download(target: Path, requirements: list[str]) -> None:
        asked.append(requirements)
        (target / "ziglang" / "lib" / "include").mkdir(parents=True)
        (target / "lib").mkdir()

    monkeypatch.setattr(toolchains, "download", download)
    machine = toolchains.Machine("Linux", "x86_64")
    found = toolchains.find("zig", machine, tmp_path / "openmp")
    assert not asked
    assert "libiomp5.a" in found.environment["CMAKE_ARGS"]
    assert not found.advice
    with pytest.raises(toolchains.UnavailableError, match=r"intel-openmp==\S+ has no omp\.h"):
        found.prepare()
    assert asked == [[toolchains.ZIG_WHEEL, toolchains.OPENMP_WHEEL]]
    plain = toolchains.find("zig without OpenMP", machine, tmp_path / "plain")
    plain.prepare()
    assert asked[1:] == [[toolchains.ZIG_WHEEL]]
    assert "-DGGML_OPENMP=OFF" in plain.environment["CMAKE_ARGS"]
    assert "apt-get install clang-19" in plain.advice
    compiler = Path(plain.environment["CC"])
    assert 'ziglang/zig cc "$@"' in compiler.read_text()
    assert compiler.stat().st_mode & 0o111


def test_your_own_compiler_is_used_as_it_is(toolchains: Any, tmp_path: Path) -> None:
    for kind in ("your own", "plain"):
        found = toolchains.find(kind, toolchains.Machine("Linux", "x86_64"), tmp_path)
        assert found.environment == {}
        assert not found.keep


# --- the first that works ------------------------------------------------------------------


def fake_find(toolchains: Any, advice: str = "") -> Callable[..., Any]:
    def find(kind: str, machine: Any, folder: Path) -> Any:
        if kind == "zig":
            raise toolchains.UnavailableError("no network")
        return toolchains.Toolchain(kind, advice=advice)

    return find


def test_what_fails_is_passed_over_and_named(
    toolchains: Any, build_llama: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    tried = []

    def install(toolchain: Any) -> None:
        tried.append(toolchain.name)
        if toolchain.name == "clang":
            raise build_llama.BuildError("a header is missing")

    find = fake_find(toolchains, advice="clang is faster")
    assert build_llama.first_that_works(toolchains.Machine("Linux", "x86_64"), install, find) == 0
    assert tried == ["clang", "gcc"]
    said = capsys.readouterr().out
    assert "not with zig: no network" in said
    assert "not with clang: a header is missing" in said
    assert f"clang is faster; then {sys.executable}" in said
    assert "--rebuild" in said


def test_if_nothing_works_all_reasons_and_a_way_out_are_given(
    toolchains: Any, build_llama: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    def install(toolchain: Any) -> None:
        raise build_llama.BuildError(f"{toolchain.name} crashed")

    machine = toolchains.Machine("Linux", "x86_64")
    assert build_llama.first_that_works(machine, install, fake_find(toolchains)) == 1
    said = capsys.readouterr().out.partition("error: llama.cpp could not be compiled here")[2]
    for reason in ("zig: no network", "clang: clang crashed", "gcc: gcc crashed"):
        assert reason in said
    assert "apt-get install clang-19 libomp-19-dev (or g++)" in said


# --- what is there already -----------------------------------------------------------------


def test_a_kept_wheel_serves_the_same_version_and_toolchain_only(
    toolchains: Any, build_llama: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    clang = toolchains.Toolchain(CLANG_19)
    folder = build_llama.kept_folder("1.0", clang)
    assert build_llama.kept_wheel("1.0", clang) is None
    folder.mkdir(parents=True)
    (folder / "llama.whl").touch()
    assert build_llama.kept_wheel("1.0", clang) == folder / "llama.whl"
    assert build_llama.kept_wheel("1.0", toolchains.Toolchain(CLANG_18)) is None
    assert build_llama.kept_wheel("1.1", clang) is None
    assert build_llama.kept_wheel("1.0", toolchains.Toolchain(CLANG_19, keep=False)) is None
    monkeypatch.setattr(build_llama.platform, "platform", lambda: "another system")
    assert build_llama.kept_wheel("1.0", clang) is None


def test_what_is_installed_is_used_as_it_is(
    toolchains: Any,
    build_llama: Any,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    version = build_llama.pinned_version(PROJECT_DIR / "setup.cfg")
    asked: list[Any] = []
    monkeypatch.setattr(build_llama, "installed_version", lambda: version)
    monkeypatch.setattr(build_llama, "description", lambda: "gcc 12")
    monkeypatch.setattr(build_llama, "look", lambda: toolchains.Machine("Linux", "x86_64"))
    monkeypatch.setattr(
        build_llama, "first_that_works", lambda machine, install: asked.append(install) or 0
    )
    assert build_llama.main([]) == 0
    assert not asked
    assert f"llama-cpp-python {version} is installed and used as it is: gcc 12" in (
        capsys.readouterr().out
    )
    assert build_llama.main(["--rebuild"]) == 0
    monkeypatch.setattr(build_llama, "installed_version", lambda: "0.0.1")
    assert build_llama.main([]) == 0
    assert len(asked) == 2


@pytest.mark.parametrize(
    ("lines", "reason"),
    [
        (["ok\n", "x.cpp:3: error: no such thing\n", "error: later\n"], "x.cpp:3: error: no such"),
        (["ERROR: No matching distribution found for x\n"], "is there a network, or an index"),
        (["killed\n"], "pip wheel failed"),
    ],
)
def test_a_failed_build_is_told_in_a_line(build_llama: Any, lines: list[str], reason: str) -> None:
    assert reason in build_llama.why(lines)
