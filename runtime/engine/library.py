"""llama.cpp's libraries: what must be set before they are loaded, and which build they are.

Importing this module sets the environment; `runtime.engine` imports it before anything that
imports llama_cpp. It needs the standard library alone, so that setting up can run it as a file.
"""

from __future__ import annotations

import importlib.util
import logging
import os
import struct
import sys
from collections.abc import MutableMapping
from dataclasses import dataclass
from pathlib import Path

log = logging.getLogger(__name__)

# Read by the OpenMP runtimes as they are loaded; why these: lab/NOTES.md, "Builds".
ENVIRONMENT = {
    # A thread that waits for another one gives its core away after so many turns (libgomp).
    "GOMP_SPINCOUNT": "1000",
    # So does one of LLVM's runtime: spinning longer gains nothing on an idle machine, and beside
    # other processes it takes the core from the thread that is waited for.
    "KMP_BLOCKTIME": "20us",
    # Another library's copy of LLVM's runtime in this process is no reason to abort: each
    # library calls the copy that it was linked with (libomp, libiomp5).
    "KMP_DUPLICATE_LIB_OK": "TRUE",
}

# Shared objects of OpenMP runtimes, by how their names begin.
_RUNTIMES = {
    "libgomp": "GNU OpenMP",
    "libomp": "LLVM OpenMP",
    "libiomp5": "LLVM OpenMP",
}
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

    folder: Path
    compiler: str
    openmp: str
    # What llama.cpp was compiled to use of this CPU, in llama.cpp's words: AVX2, FMA, ...
    features: tuple[str, ...]
    cuda: bool = False  # whatever hardware there is

    def __str__(self) -> str:
        features = " ".join(self.features) or "no CPU features"
        cuda = "CUDA, " if self.cuda else ""
        return f"{cuda}{self.compiler}, {self.openmp}, {features} ({self.folder})"


def describe_build() -> Build:
    """The build of llama.cpp in use; loads llama_cpp if it is not yet.

    Compiler and OpenMP runtime are read from the library with the CPU's kernels as far as it
    is an ELF file, as on Linux, so that it works for anybody's wheel.
    """
    features = cpu_features()
    path = _cpu_library(_folder())
    compiler, needed = read_elf(path) if path else (UNKNOWN, [])
    openmp = openmp_runtime(needed)
    if openmp == OWN_POOL and "OPENMP" in features:
        # Linked into the library; its entry points tell whose it is.
        is_llvms = path is not None and b"__kmpc_fork_call" in path.read_bytes()
        openmp = "LLVM OpenMP, linked in" if is_llvms else "OpenMP"
    return Build(
        folder=path.parent if path else _folder(),
        compiler=compiler,
        openmp=openmp,
        features=tuple(f for f in features if f not in ("OPENMP", "REPACK", "LLAMAFILE")),
        cuda=has_cuda(),
    )


def cpu_features() -> list[str]:
    """Extensions of the CPU that this build uses, such as AVX2; loads llama_cpp."""
    set_environment()
    import llama_cpp

    llama_cpp.llama_backend_init()
    return _features(llama_cpp.llama_print_system_info().decode("utf-8", "replace"))


def version() -> str:
    """llama-cpp-python's version; loads llama_cpp if it is not yet."""
    set_environment()
    import llama_cpp

    return str(llama_cpp.__version__)


def has_cuda() -> bool:
    """Whether the build of llama.cpp has CUDA; does not load it.

    ggml's own list of backends leaves CUDA out where there is no driver.
    """
    return any(_folder().glob("*ggml-cuda.*"))


def openmp_runtime(needed: list[str]) -> str:
    """The OpenMP runtime among the shared objects that a library needs, in words."""
    for name in needed:
        # "libgomp-ab12cd34.so.1" in a wheel that brings its own.
        runtime = _RUNTIMES.get(name.partition(".")[0].partition("-")[0])
        if runtime:
            return f"{runtime} ({name})"
    return OWN_POOL


def read_elf(path: Path) -> tuple[str, list[str]]:
    """Compiler and needed shared objects of a shared library.

    The section .comment, where compilers leave their name, and DT_NEEDED of .dynamic: System V
    gABI, chapters 4 and 5. What cannot be read (no 64-bit little-endian ELF file, no such
    section) is `UNKNOWN` and [].
    """
    try:
        sections = _sections(path.read_bytes())
    except (OSError, struct.error, IndexError, ValueError):
        return UNKNOWN, []
    comments = sections.get(".comment", b"").decode("utf-8", "replace").split("\0")
    names = sections.get(".dynstr", b"")
    dynamic = sections.get(".dynamic", b"")
    entries = struct.iter_unpack("<QQ", dynamic[: len(dynamic) // 16 * 16])
    needed = [
        names[value:].partition(b"\0")[0].decode("utf-8", "replace")
        for tag, value in entries
        if tag == 1  # DT_NEEDED
    ]
    return _compiler(comments), needed


def _compiler(comments: list[str]) -> str:
    # Every Linux library has GCC's comment, from the C library's start files; what was
    # compiled by clang has clang's too.
    for mark, name in (("clang version ", "clang "), ("GCC: ", "gcc ")):
        for comment in comments:
            if mark in comment:
                version = comment.rpartition(mark)[2]
                words = version.rpartition(") ")[2] if name == "gcc " else version
                return name + (words.split() or [""])[0]
    return UNKNOWN


def _sections(data: bytes) -> dict[str, bytes]:
    """The sections of a 64-bit little-endian ELF file by name."""
    if data[:6] != b"\x7fELF\x02\x01":
        raise ValueError("no 64-bit little-endian ELF file")
    table = struct.unpack_from("<Q", data, 40)[0]
    size, count, names_index = struct.unpack_from("<HHH", data, 58)
    # Name, type, (flags, address,) offset and length of each section.
    headers = [
        struct.unpack_from("<II16xQQ", data, table + size * number) for number in range(count)
    ]
    _, _, names_start, names_length = headers[names_index]
    names = data[names_start : names_start + names_length]
    nothing_in_file = 8  # SHT_NOBITS
    return {
        names[name:].partition(b"\0")[0].decode(): data[offset : offset + length]
        for name, kind, offset, length in headers
        if kind != nothing_in_file
    }


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
