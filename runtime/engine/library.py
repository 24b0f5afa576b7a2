"""llama.cpp's libraries: environment to set before loading them, and which build they are.

Importing this module sets the environment; `runtime.engine` imports it before anything that
imports llama_cpp. It needs the standard library alone, so that setting up can run it as a file.
"""

from __future__ import annotations

import hashlib
import importlib.util
import logging
import os
import re
import sys
from collections.abc import MutableMapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

log = logging.getLogger(__name__)

# Read by the OpenMP runtimes when they are loaded; reasons: lab/NOTES.md, "Builds".
ENVIRONMENT = {
    # A waiting thread gives up its core after this many turns (libgomp).
    "GOMP_SPINCOUNT": "1000",
    # The same for LLVM's runtime: spinning longer gains nothing on an idle machine, and beside
    # other processes it takes the core from the thread that the others wait for.
    "KMP_BLOCKTIME": "20us",
    # Another library's copy of LLVM's runtime in this process must not abort it: each
    # library calls the copy that it was linked with (libomp, libiomp5).
    "KMP_DUPLICATE_LIB_OK": "TRUE",
}

# Shared objects of OpenMP runtimes, by how their names begin.
_RUNTIMES = {"libgomp": "GNU OpenMP", "libomp": "LLVM OpenMP", "libiomp5": "LLVM OpenMP"}
# Names of shared objects such as "libgomp-ab12cd34.so.1", as in a wheel that brings its own.
_NEEDED = re.compile(rb"(libgomp|libomp|libiomp5)(?:-\w+)?\.(?:so|dylib)[.\d]*")
_CLANG = re.compile(rb"clang version ([\w.]+)")
_GCC = re.compile(rb"GCC: \([^)\0]*\) ([\w.]+)")
OWN_POOL = "llama.cpp's own threads"
UNKNOWN = "unknown compiler"


def set_environment(environment: MutableMapping[str, str] | None = None) -> None:
    """Set `ENVIRONMENT` where the user has not set it; does nothing once llama_cpp is loaded."""
    if environment is None:
        environment = os.environ
    missing = {name: value for name, value in ENVIRONMENT.items() if name not in environment}
    if "llama_cpp" in sys.modules:
        if missing:
            log.debug(
                "llama_cpp was imported before runtime: %s are not set, so that llama.cpp may be"
                " slow beside other processes; import runtime first",
                ", ".join(missing),
            )
        return
    environment.update(missing)


@dataclass(frozen=True)
class Build:
    """A build of llama.cpp."""

    folder: Path  # of its libraries
    compiler: str  # with its version, or `UNKNOWN`
    openmp: str  # the OpenMP runtime, in words
    features: tuple[str, ...]  # what it uses of this CPU, in llama.cpp's words: AVX2, FMA, ...
    cuda: bool = False  # whatever hardware there is
    digest: str = ""  # of the library with the CPU's kernels; differs between builds

    def __str__(self) -> str:
        features = " ".join(self.features) or "no CPU features"
        cuda = "CUDA, " if self.cuda else ""
        return f"{cuda}{self.compiler}, {self.openmp}, {features} ({self.folder})"


@cache
def describe_build() -> Build:
    """The build of llama.cpp in use; loads llama_cpp if it is not loaded yet.

    Compiler and OpenMP runtime are what the library with the CPU's kernels says of itself, so
    that this works for any wheel.
    """
    features = cpu_features()
    path = _cpu_library(_folder())
    content = path.read_bytes() if path else b""
    return Build(
        folder=path.parent if path else _folder(),
        compiler=compiler(content),
        openmp=openmp_runtime(content),
        features=tuple(f for f in features if f not in ("OPENMP", "REPACK", "LLAMAFILE")),
        cuda=has_cuda(),
        digest=hashlib.sha256(content).hexdigest()[:32],
    )


def cpu_features() -> list[str]:
    """Extensions of the CPU that this build uses, such as AVX2; loads llama_cpp."""
    set_environment()
    import llama_cpp

    llama_cpp.llama_backend_init()
    return _features(llama_cpp.llama_print_system_info().decode("utf-8", "replace"))


def version() -> str:
    """llama-cpp-python's version; loads llama_cpp if it is not loaded yet."""
    set_environment()
    import llama_cpp

    return str(llama_cpp.__version__)


def has_cuda() -> bool:
    """Whether the build of llama.cpp has CUDA; does not load it.

    ggml's own list of backends leaves CUDA out where there is no driver.
    """
    return any(_folder().glob("*ggml-cuda.*"))


def openmp_runtime(library: bytes) -> str:
    """The OpenMP runtime that a library needs or has linked in, in words."""
    if needed := _NEEDED.search(library):
        return f"{_RUNTIMES[needed[1].decode()]} ({needed[0].decode()})"
    # Linked in: its entry points tell whose it is.
    if b"__kmpc_fork_call" in library:
        return "LLVM OpenMP, linked in"
    return "OpenMP" if b"GOMP_parallel" in library else OWN_POOL


def compiler(library: bytes) -> str:
    """The compiler that left its name in a library, with its version."""
    # Every Linux library names GCC, for the C library's start files; what was compiled by clang
    # names clang, too.
    for mark, name in ((_CLANG, "clang"), (_GCC, "gcc")):
        if found := mark.search(library):
            return f"{name} {found[1].decode()}"
    return UNKNOWN


def _folder() -> Path:
    override = os.environ.get("LLAMA_CPP_LIB_PATH")
    spec = importlib.util.find_spec("llama_cpp")
    package = Path(spec.origin).parent if spec and spec.origin else Path()
    return Path(override) if override else package / "lib"


def _cpu_library(folder: Path) -> Path | None:
    """The library with the CPU's kernels: the one that is loaded, else the one in `folder`."""
    maps = Path("/proc/self/maps")
    if maps.is_file():
        for line in maps.read_text(errors="replace").splitlines():
            path = Path(line.partition("/")[1] + line.partition("/")[2])
            if path.name.startswith("libggml-cpu") and path.is_file():
                return path
    return next(iter(sorted(folder.glob("libggml-cpu*"))), None)


def _features(info: str) -> list[str]:
    """Names that are 1 in llama_print_system_info's "CPU : SSE3 = 1 | AVX = 0 | ..."."""
    cpu = info.partition("CPU : ")[2]
    pairs = [item.rpartition(":")[2].partition("=") for item in cpu.split("|")]
    return [name.strip() for name, _, value in pairs if value.strip() == "1"]


set_environment()

if __name__ == "__main__":
    print(describe_build())
