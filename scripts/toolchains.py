"""Chooses the compiler and OpenMP runtime for llama.cpp.

The order was measured (lab/NOTES.md, "Builds of llama.cpp"): clang 16 and later makes llama.cpp's
kernels faster than gcc, and LLVM's OpenMP runtime yields the cores while it waits.
"""

from __future__ import annotations

import os
import platform
import re
import shlex
import shutil
import subprocess
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from patching import PIP

# Kinds of toolchains, see `find`.
YOURS = "your own"  # CMAKE_ARGS, CC or CXX are set
ZIG = "zig"  # the clang in the ziglang wheel, LLVM's OpenMP from the intel-openmp wheel
CLANG = "clang"
GCC = "gcc"
ZIG_POOL = "zig without OpenMP"
PLAIN = "plain"

# The versions that were measured; intel-openmp's libiomp5 is LLVM's OpenMP runtime.
ZIG_WHEEL = "ziglang==0.17.1"
OPENMP_WHEEL = "intel-openmp==2026.2.0"

OLDEST_CLANG = 16
NEWEST_CLANG = 30
# Leaves out libmtmd (images, sound) and the common code of llama.cpp's programs, which take half of
# the time and are not used.
LIBRARY_ONLY = Path(__file__).resolve().with_name("llama_library_only.cmake")
LEAN = f"-DLLAVA_BUILD=OFF {shlex.quote(f'-DCMAKE_PROJECT_llama.cpp_INCLUDE={LIBRARY_ONLY}')}"

PROBE = """
#include <cstdio>
#include <vector>
#include <omp.h>
int main() {
    std::vector<int> seen(2);
    #pragma omp parallel num_threads(2)
    {
        seen[omp_get_thread_num()] = 1;
        #pragma omp barrier
    }
    std::printf("%d", seen[0] + seen[1]);
}
"""


class UnavailableError(Exception):
    """A toolchain is missing or does not work; the message says why."""


@dataclass(frozen=True)
class Machine:
    """The properties of a machine that affect the choice."""

    system: str  # as platform.system()
    processor: str  # as platform.machine(), in lower case
    nvidia: bool = False  # a GPU that nvidia-smi lists
    environment: Mapping[str, str] = field(default_factory=dict)
    which: Callable[[str], str | None] = shutil.which


@dataclass(frozen=True)
class Toolchain:
    """How to compile llama.cpp.

    `name` includes versions; built wheels are reused for the same name, unless `keep` is False.
    `prepare` does downloads and a trial before the build.
    """

    name: str
    environment: dict[str, str] = field(default_factory=dict)
    prepare: Callable[[], None] = lambda: None
    keep: bool = True
    advice: str = ""  # how to get a better toolchain


def look() -> Machine:
    """This machine."""
    nvidia = shutil.which("nvidia-smi")
    if nvidia:
        listed = subprocess.run([nvidia, "-L"], capture_output=True, check=False)
    return Machine(
        system=platform.system(),
        processor=platform.machine().lower(),
        nvidia=bool(nvidia) and listed.returncode == 0,
        environment=dict(os.environ),
    )


def candidates(machine: Machine) -> list[str]:
    """Kinds to try for a CPU build, the best first (for GPUs: cuda_toolchain.py)."""
    if any(machine.environment.get(name) for name in ("CMAKE_ARGS", "CC", "CXX")):
        return [YOURS]
    if machine.system != "Linux":
        return [PLAIN]  # on macOS Apple's clang, with Metal
    return {
        "x86_64": [ZIG, CLANG, GCC],
        # No wheel has LLVM's OpenMP runtime for ARM.
        "aarch64": [CLANG, GCC, ZIG_POOL],
    }.get(machine.processor, [CLANG, GCC])


def find(kind: str, machine: Machine, folder: Path) -> Toolchain:
    """The toolchain of a kind; `folder` is for downloaded compilers.

    Raises:
        UnavailableError: it is missing. (`prepare` finds out whether it works.)
    """
    if kind in (YOURS, PLAIN):
        name = (
            "the compiler that CMAKE_ARGS, CC or CXX name" if kind == YOURS else kind + " compiler"
        )
        return Toolchain(name, keep=False)
    if kind in (ZIG, ZIG_POOL):
        return zig(folder, openmp=kind == ZIG)
    if kind == CLANG:
        return clang(machine, folder)
    return gcc(machine, folder)


def clang(machine: Machine, folder: Path) -> Toolchain:
    """The newest installed clang with an OpenMP runtime."""
    reasons = []
    for suffix in [*(f"-{n}" for n in range(NEWEST_CLANG, OLDEST_CLANG - 1, -1)), ""]:
        cc, cxx = machine.which(f"clang{suffix}"), machine.which(f"clang++{suffix}")
        if not cc or not cxx:
            continue
        version = _version(cc)
        major = re.search(r"clang version (\d+)", version)
        if not major or int(major[1]) < OLDEST_CLANG:
            reasons.append(f"{cc} is older than {OLDEST_CLANG}")
            continue
        try:
            probe([cxx, "-fopenmp"], folder)
        except UnavailableError as error:
            reasons.append(f"{cc} has no working OpenMP ({error})")
            continue
        return Toolchain(version, {"CC": cc, "CXX": cxx, "CMAKE_ARGS": LEAN})
    raise UnavailableError("; ".join(reasons) or f"no clang of {OLDEST_CLANG} or newer")


def gcc(machine: Machine, folder: Path) -> Toolchain:
    """gcc with its libgomp."""
    cc, cxx = machine.which("gcc"), machine.which("g++")
    if not cc or not cxx:
        raise UnavailableError("no gcc and g++")
    probe([cxx, "-fopenmp"], folder)
    return Toolchain(
        _version(cc),
        {"CC": cc, "CXX": cxx, "CMAKE_ARGS": LEAN},
        advice="clang is faster, also beside busy processes:"
        " apt-get install clang-19 libomp-19-dev",
    )


def zig(folder: Path, openmp: bool) -> Toolchain:
    """The clang in the ziglang wheel, which needs nothing installed.

    CMake needs a compiler to be a single program, so small scripts call `zig cc` and the others.
    """
    wheels = folder / "wheels"
    programs = {name: folder / f"zig-{name}" for name in ("cc", "c++", "ar", "ranlib")}
    arguments = [
        *shlex.split(LEAN),
        f"-DCMAKE_AR={programs['ar']}",
        f"-DCMAKE_RANLIB={programs['ranlib']}",
    ]
    library = wheels / "lib" / "libiomp5.a"
    if openmp:
        for language in ("C", "CXX"):
            arguments += [
                f"-DOpenMP_{language}_FLAGS=-fopenmp",
                f"-DOpenMP_{language}_LIB_NAMES=iomp5",
            ]
        arguments += [
            # Linked statically, with its own symbols first: torch makes those of GNU's runtime
            # global in the process, and llama.cpp would use a mix of both.
            f"-DOpenMP_iomp5_LIBRARY={library}",
            "-DCMAKE_SHARED_LINKER_FLAGS=-Wl,-Bsymbolic",
        ]
    else:
        arguments += ["-DGGML_OPENMP=OFF"]

    def ready() -> None:
        download(wheels, [ZIG_WHEEL, *([OPENMP_WHEEL] if openmp else [])])
        program = wheels / "ziglang" / "zig"
        for name, script in programs.items():
            script.write_text(
                f"#!/bin/sh\nexport ZIG_GLOBAL_CACHE_DIR={shlex.quote(str(folder / 'cache'))}\n"
                f'exec {shlex.quote(str(program))} {name} "$@"\n'
            )
            script.chmod(0o755)
        if openmp:
            header = next(iter(sorted(wheels.rglob("omp.h"))), None)
            if header is None or not library.is_file():
                raise UnavailableError(f"{OPENMP_WHEEL} has no omp.h or no {library.name}")
            shutil.copy(header, wheels / "ziglang" / "lib" / "include")
            probe([str(programs["c++"]), "-fopenmp", str(library)], folder)

    name = f"clang of {ZIG_WHEEL}, " + (f"{OPENMP_WHEEL} linked in" if openmp else "without OpenMP")
    environment = {
        "CC": str(programs["cc"]),
        "CXX": str(programs["c++"]),
        "CMAKE_ARGS": shlex.join(arguments),
    }
    better = (
        "clang with OpenMP stays fast beside other processes:"
        " apt-get install clang-19 libomp-19-dev"
    )
    return Toolchain(name, environment, ready, advice="" if openmp else better)


def download(target: Path, requirements: list[str]) -> None:
    """Download and unpack wheels into their own folder, unless they are there."""
    done = target / "done.txt"
    if done.is_file() and set(requirements) <= set(done.read_text().split()):
        return
    print(f"downloading {' and '.join(requirements)} (about 150 MB)", flush=True)
    files = target / "files"
    shutil.rmtree(target, ignore_errors=True)
    command = [*PIP, "download", "--quiet", "--no-deps", "--only-binary", ":all:"]
    command += ["--dest", str(files), *requirements]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    if result.returncode:
        raise UnavailableError(
            f"{' and '.join(requirements)} could not be downloaded: {_last(result.stderr)}"
        )
    # Not with pip: its --target loses files of a wheel's data folder.
    for wheel in files.glob("*.whl"):
        with zipfile.ZipFile(wheel) as archive:
            for member in archive.infolist():
                member.filename = re.sub(r"^[^/]+\.data/data/", "", member.filename)
                path = archive.extract(member, target)
                Path(path).chmod((member.external_attr >> 16) & 0o777 or 0o644)
    shutil.rmtree(files)
    done.write_text("\n".join(requirements))


def probe(command: list[str], folder: Path) -> None:
    """Compile and run a small OpenMP program for this CPU with two threads.

    Raises:
        UnavailableError: the trial failed.
    """
    folder.mkdir(parents=True, exist_ok=True)
    source, program = folder / "probe.cpp", folder / "probe"
    source.write_text(PROBE)
    program.unlink(missing_ok=True)
    head, rest = command[:1], command[1:]
    for step in (
        [*head, "-O2", "-march=native", str(source), "-o", str(program), *rest],
        [program],
    ):
        try:
            result = subprocess.run(step, capture_output=True, text=True, timeout=300, check=False)
        except (OSError, subprocess.TimeoutExpired) as error:
            raise UnavailableError(f"a trial failed: {error}") from None
        if result.returncode:
            raise UnavailableError(f"a trial failed: {_last(result.stderr)}")
    if result.stdout != "2":
        raise UnavailableError("a trial with two threads gave a wrong result")


def _version(compiler: str) -> str:
    result = subprocess.run([compiler, "--version"], capture_output=True, text=True, check=False)
    return (result.stdout.splitlines() or ["unknown version"])[0]


def _last(text: str) -> str:
    """The first line with "error", else the last line."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return next((line for line in lines if "error" in line.lower()), (lines or ["no message"])[-1])
