"""Finds what is needed to compile llama.cpp with CUDA: nvcc, architectures, gcc and cuBLAS.

The build may be for another machine's GPU: `make cuda CUDA_ARCHITECTURES=90`.
"""

from __future__ import annotations

import ctypes.util
import re
import shlex
import subprocess
import sys
from pathlib import Path

from patching import PIP
from toolchains import LEAN, Machine, Toolchain, UnavailableError

NO_NVCC = (
    "nvcc was not found; install the CUDA toolkit (apt-get install nvidia-cuda-toolkit, or"
    " developer.nvidia.com/cuda-downloads), or set PATH or CUDA_HOME to its place"
)
NO_CARD = (
    "nvidia-smi finds no GPU here, so set the architecture to build for: make cuda"
    " CUDA_ARCHITECTURES=90 (H100, H200; 89 is L4 and RTX 40, 86 RTX 30 and A10, 80 A100, 75 T4)"
)
# gcc first, then other versions: nvcc refuses a gcc that is much newer.
COMPILERS = ["", *(f"-{version}" for version in range(15, 8, -1))]
TRIAL = "#include <vector>\n__global__ void nothing() {}\nstd::vector<int> host() { return {1}; }\n"


def find_cuda(machine: Machine, folder: Path, architectures: str = "") -> Toolchain:
    """nvcc with a compatible gcc.

    Args:
        folder: for the trial compilation.
        architectures: of the GPUs, such as "90" or "86;89"; those of this machine if empty.

    Raises:
        UnavailableError: something is missing; the message says what, and how to get it.
    """
    nvcc = find_nvcc(machine)
    numbers = real_architectures(architectures or card_architectures(machine))
    cc, cxx = find_host_compiler(machine, nvcc, folder)
    toolkit = toolkit_folder(nvcc)
    version = nvcc_version(nvcc)
    arguments = [
        *shlex.split(LEAN),
        "-DGGML_CUDA=ON",
        f"-DCMAKE_CUDA_COMPILER={nvcc}",
        f"-DCMAKE_CUDA_HOST_COMPILER={cxx}",
        f"-DCMAKE_CUDA_ARCHITECTURES={numbers}",
    ]
    libraries = [toolkit / "lib64"]
    if not list(libraries[0].glob("libcublas.so*")) and not ctypes.util.find_library("cublas"):
        libraries.append(cublas_folder(version) / "lib")
        headers = libraries[1].with_name("include")
        arguments += [f"-DCMAKE_CUDA_FLAGS=-I{headers}"]
        for name in ("cublas", "cublasLt"):
            arguments += [f"-DCUDA_{name}_LIBRARY={libraries[1]}/lib{name}.so.{version[0]}"]
    if not ctypes.util.find_library("cuda"):
        # Without a driver a library that needs it could not be loaded here. The build then cannot
        # grow its pool of buffers in place.
        arguments += ["-DGGML_CUDA_NO_VMM=ON"]
    # The system need not know the libraries' folders.
    paths = " ".join(f"-Wl,-rpath,{path}" for path in libraries)
    arguments += [f"-DCMAKE_SHARED_LINKER_FLAGS={paths}"]

    def prepare() -> None:
        if len(libraries) > 1:
            install_cublas(version)

    return Toolchain(
        f"nvcc {'.'.join(map(str, version))} and {Path(cxx).name} for {numbers}",
        {"CC": cc, "CXX": cxx, "CMAKE_ARGS": shlex.join(arguments)},
        prepare,
        keep=False,  # it has paths of this environment
    )


def find_nvcc(machine: Machine) -> Path:
    """Find nvcc in CUDACXX, CUDA_HOME, CUDA_PATH, PATH, or the folder of NVIDIA's packages."""
    environment = machine.environment
    places = [environment.get("CUDACXX")]
    places += [f"{environment.get(home)}/bin/nvcc" for home in ("CUDA_HOME", "CUDA_PATH")]
    for place in [*places, "nvcc", "/usr/local/cuda/bin/nvcc"]:
        found = machine.which(place) if place else None
        if found:
            return Path(found)
    raise UnavailableError(NO_NVCC)


def card_architectures(machine: Machine) -> str:
    """The architectures of this machine's GPUs by nvidia-smi, for CMake: "86;90"."""
    smi = machine.which("nvidia-smi")
    if smi:
        command = [smi, "--query-gpu=compute_cap", "--format=csv,noheader"]
        result = subprocess.run(command, capture_output=True, text=True, check=False)
        found = sorted(set(re.findall(r"^(\d+)\.(\d)$", result.stdout, re.MULTILINE)))
        if found:
            return ";".join(major + minor for major, minor in found)
    raise UnavailableError(NO_CARD)


def real_architectures(text: str) -> str:
    """Architectures for CMake, machine code only: "8.6, 90" → "86-real;90-real".

    Virtual code, which drivers translate for future GPUs, would double the compile time.
    """
    numbers = [number.replace(".", "") for number in re.split(r"[;,\s]+", text.strip()) if number]
    for number in numbers:
        if not re.fullmatch(r"\d{2,3}[af]?(-real|-virtual)?", number):
            raise UnavailableError(
                f"CUDA_ARCHITECTURES={text}: {number!r} is not an architecture;"
                " use for example 90 or '86;89'"
            )
    return ";".join(n if "-" in n else f"{n}-real" for n in numbers)


def find_host_compiler(machine: Machine, nvcc: Path, folder: Path) -> tuple[str, str]:
    """Find a gcc and g++ that this nvcc accepts, by trying."""
    reason = "nvcc needs gcc and g++: apt-get install g++"
    folder.mkdir(parents=True, exist_ok=True)
    source, compiled = folder / "trial.cu", folder / "trial.o"
    source.write_text(TRIAL)
    for suffix in COMPILERS:
        cc, cxx = machine.which(f"gcc{suffix}"), machine.which(f"g++{suffix}")
        if not cc or not cxx:
            continue
        command = [str(nvcc), "-ccbin", cxx, "-c", str(source), "-o", str(compiled)]
        result = subprocess.run(command, capture_output=True, text=True, check=False)
        if result.returncode == 0:
            return cc, cxx
        lines = [line for line in result.stderr.splitlines() if "error" in line.lower()]
        reason = f"{nvcc} does not compile with {cxx}: {(lines or ['no message'])[0][:200]}"
    raise UnavailableError(reason)


def toolkit_folder(nvcc: Path) -> Path:
    """The folder of the CUDA toolkit of an nvcc, as reported by it."""
    command = [str(nvcc), "--dryrun", "-E", "-x", "cu", "/dev/null"]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    top = re.search(r"^#\$ TOP=(.+)$", result.stderr + result.stdout, re.MULTILINE)
    return Path(top[1]).resolve() if top else nvcc.resolve().parent.parent


def nvcc_version(nvcc: Path) -> tuple[int, int]:
    """The version of nvcc, such as (13, 0)."""
    result = subprocess.run([str(nvcc), "--version"], capture_output=True, text=True, check=False)
    found = re.search(r"release (\d+)\.(\d+)", result.stdout)
    if not found:
        raise UnavailableError(f"{nvcc} --version says no release: {result.stdout[:80]!r}")
    return int(found[1]), int(found[2])


def install_cublas(version: tuple[int, int]) -> None:
    """Install cuBLAS from NVIDIA's wheel, for a toolkit without it.

    It goes into the environment that llama.cpp is built for, where it is needed at run time too.
    """
    major, minor = version
    name = "nvidia-cublas" if major > 12 else f"nvidia-cublas-cu{major}"
    wheel = f"{name}=={major}.{minor}.*"
    print(f"downloading {wheel} (about 400 MB)", flush=True)
    command = [*PIP, "install", "--quiet", wheel]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    if result.returncode:
        last = (result.stderr.strip().splitlines() or ["no message"])[-1]
        raise UnavailableError(f"{wheel} could not be installed: {last}")
    library = cublas_folder(version) / "lib" / f"libcublas.so.{major}"
    if not library.is_file():
        raise UnavailableError(f"{wheel} has no {library}")


def cublas_folder(version: tuple[int, int]) -> Path:
    """The folder of NVIDIA's cuBLAS wheel in this environment."""
    part = f"cu{version[0]}" if version[0] > 12 else "cublas"
    packages = Path(sys.prefix, "lib", f"python{sys.version_info[0]}.{sys.version_info[1]}")
    return packages / "site-packages" / "nvidia" / part
