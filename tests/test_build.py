"""Which compiler llama.cpp is built with, and which build is in use. Nothing is compiled here."""

from __future__ import annotations

import importlib
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from runtime.engine import library
from runtime.settings import PROJECT_DIR

SCRIPTS = PROJECT_DIR / "scripts"


@pytest.fixture(scope="module")
def scripts() -> Iterator[tuple[ModuleType, ModuleType]]:
    """The modules `toolchains` and `build_llama`, which are no package."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.syspath_prepend(str(SCRIPTS))
        yield importlib.import_module("toolchains"), importlib.import_module("build_llama")
        for name in ("toolchains", "cuda_toolchain", "patching", "build_llama"):
            sys.modules.pop(name, None)


@pytest.fixture
def toolchains(scripts: tuple[ModuleType, ModuleType]) -> Any:
    return scripts[0]


@pytest.fixture
def build_llama(scripts: tuple[ModuleType, ModuleType]) -> Any:
    return scripts[1]


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


CLANG_19, CLANG_18 = "Debian clang version 19.1.7", "Debian clang version 18.1.8"
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
            r"/bin/clang-18 has no OpenMP that works \(omp.h not found\)",
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


# --- for a GPU -----------------------------------------------------------------------------

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
        ("nvcc", "90", "nvcc is not here; the CUDA toolkit has it"),
        ("nvidia-smi", "", "say which one the build is for: make cuda CUDA_ARCHITECTURES=90"),
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
    with pytest.raises(toolchains.UnavailableError, match=r"nvcc needs gcc and g\+\+ beside it"):
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
    assert "error: llama.cpp could not be compiled with CUDA: nvcc is" in capsys.readouterr().out


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


# --- the libraries in use ------------------------------------------------------------------


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


# --- patches of llama.cpp ------------------------------------------------------------------

PATCH = """What it is for.

diff --git a/vendor/a.c b/vendor/a.c
--- a/vendor/a.c
+++ b/vendor/a.c
@@ -1,2 +1,2 @@
 int a;
-int b;
+int c;
"""


@pytest.fixture
def patching(scripts: tuple[ModuleType, ModuleType]) -> Any:
    return importlib.import_module("patching")


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
