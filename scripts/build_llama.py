"""Install llama-cpp-python, compiled for the best speed on this machine.

    python scripts/build_llama.py             # make does this once
    python scripts/build_llama.py --rebuild   # again, with the compilers that are here now
    python scripts/build_llama.py --cuda      # for this machine's GPU; make cuda does this

Run this with the Python of the target environment; it needs only the standard library and pip. An
installed copy is used as it is. docs/building.md says which compiler is chosen when.
"""

from __future__ import annotations

import argparse
import configparser
import hashlib
import importlib.metadata
import os
import platform
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable
from pathlib import Path

from cuda_toolchain import find_cuda
from patching import PACKAGE, PIP, PatchError, fingerprint, patched_source, patches_for
from toolchains import Machine, Toolchain, UnavailableError, candidates, find, look

PROJECT = Path(__file__).resolve().parent.parent
FOLDER = PROJECT / "build" / "llama"


class BuildError(Exception):
    """Compiling or loading failed; the message says why, and where to read more."""


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rebuild", action="store_true", help="even if it is installed already")
    parser.add_argument("--cuda", action="store_true", help="for NVIDIA GPUs, with nvcc")
    parser.add_argument(
        "--architectures", default="", help="of the GPUs (default: those of this machine)"
    )
    options = parser.parse_args(arguments)
    version = pinned_version(PROJECT / "setup.cfg")
    if installed_version() == version and not options.rebuild:
        say(f"{PACKAGE} {version} is installed and used as it is: {description()}")
        return 0
    machine = look()

    def install(toolchain: Toolchain) -> None:
        wheel = None if options.rebuild else kept_wheel(version, toolchain)
        if wheel:
            say(f"{PACKAGE} {version} was built here before: {wheel}")
        else:
            toolchain.prepare()
            say(f"compiling llama.cpp with {toolchain.name}: some minutes, once")
            wheel = build(version, toolchain)
        install_wheel(wheel)
        say(f"llama.cpp is ready: {description()}")

    if options.cuda:
        return install_with_cuda(machine, options.architectures, install)
    status = first_that_works(machine, install)
    if status == 0 and machine.nvidia:
        say("found a GPU: make cuda builds llama.cpp for it, in .venv-cuda beside this one")
    return status


def install_with_cuda(
    machine: Machine, architectures: str, install: Callable[[Toolchain], None]
) -> int:
    """Install a build with nvcc; returns the exit status."""
    try:
        install(find_cuda(machine, FOLDER, architectures))
    except (UnavailableError, BuildError) as error:
        say(f"error: llama.cpp could not be compiled with CUDA: {error}")
        return 1
    return 0


def first_that_works(
    machine: Machine,
    install: Callable[[Toolchain], None],
    find: Callable[[str, Machine, Path], Toolchain] = find,
) -> int:
    """Install with the first candidate that works; returns the exit status.

    Prints why a candidate failed, and what a better one would improve.
    """
    reasons = []
    for kind in candidates(machine):
        try:
            toolchain = find(kind, machine, FOLDER)
            install(toolchain)
        except (UnavailableError, BuildError) as error:
            reasons.append(f"{kind}: {error}")
            say(f"not with {kind}: {error}")
            continue
        if toolchain.advice:
            say(f"{toolchain.advice}; then {sys.executable} {Path(__file__)} --rebuild")
        return 0
    say("error: llama.cpp could not be compiled here")
    for reason in reasons:
        say(f"  {reason}")
    say(
        "Install a compiler: apt-get install clang-19 libomp-19-dev (or g++)."
        " CC, CXX and CMAKE_ARGS are used unchanged if they are set."
    )
    return 1


def pinned_version(config: Path) -> str:
    """The version of llama-cpp-python in setup.cfg."""
    parser = configparser.ConfigParser()
    parser.read(config, encoding="utf-8")
    for line in parser["options"]["install_requires"].split():
        name, equals, version = line.partition("==")
        if name == PACKAGE and equals:
            return version
    raise SystemExit(f"{config}: no {PACKAGE}==VERSION in install_requires")


def installed_version() -> str | None:
    try:
        return importlib.metadata.version(PACKAGE)
    except importlib.metadata.PackageNotFoundError:
        return None


def description() -> str:
    """Describe the installed build, in another process.

    Raises:
        BuildError: it cannot be loaded.
    """
    command = [sys.executable, "-P", str(PROJECT / "runtime" / "engine" / "library.py")]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    if result.returncode:
        last = (result.stderr.strip().splitlines() or [f"exit status {result.returncode}"])[-1]
        raise BuildError(f"the libraries cannot be loaded ({last})")
    return result.stdout.strip()


def build(version: str, toolchain: Toolchain) -> Path:
    """Compile a wheel, of the patched source if possible; returns its path.

    pip's cache of built wheels is not used, because it ignores compilers.

    Raises:
        BuildError: it does not compile.
    """
    plain = f"{PACKAGE}=={version}"
    source = source_of(version)
    try:
        built = compile_wheel(source, toolchain)
    except BuildError as error:
        if source == plain:
            raise
        say(f"without this project's patches, so slower: {error}")
        built = compile_wheel(plain, toolchain)
    wheels = kept_folder(version, toolchain) if toolchain.keep else FOLDER / "wheel"
    wheels.mkdir(parents=True, exist_ok=True)
    return Path(shutil.move(built, wheels / built.name))


def compile_wheel(source: str, toolchain: Toolchain) -> Path:
    """Compile a wheel of a folder or a requirement with pip. Raises BuildError."""
    log = FOLDER / "build.log"
    partial = FOLDER / "wheel.part"
    shutil.rmtree(partial, ignore_errors=True)
    command = [*PIP, "wheel", "--verbose", "--no-deps", "--no-cache-dir", "--wheel-dir"]
    command += [str(partial), source]
    # Stripped libraries do not contain the compiler's version.
    command += ["--config-settings=install.strip=false"]
    FOLDER.mkdir(parents=True, exist_ok=True)
    process = subprocess.Popen(
        command,
        env=os.environ | toolchain.environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
    )
    assert process.stdout
    with process, log.open("w", encoding="utf-8") as file:
        try:
            lines = show_progress(process.stdout, file.write)
        except BaseException:
            process.terminate()
            raise
    built = sorted(partial.glob("*.whl"))
    if process.returncode or not built:
        raise BuildError(f"{why(lines)}; the full output is in {log}")
    return built[0]


def source_of(version: str) -> str:
    """What pip builds: the patched source, or the unpatched package if patching fails."""
    patches = patches_for(version)
    if patches:
        try:
            source = patched_source(version, patches, FOLDER / "source")
        except PatchError as error:
            say(f"without this project's patches, so slower: {error}")
        else:
            say("applied " + ", ".join(patch.name for patch in patches))
            return str(source)
    return f"{PACKAGE}=={version}"


def show_progress(output: Iterable[str], write: Callable[[str], object]) -> list[str]:
    """Pass lines on to `write` and show ninja's progress ("[3/140]"); returns the lines.

    A terminal gets a line that changes, other output a line every quarter.
    """
    terminal = sys.stdout.isatty()
    lines, shown = [], 0
    for line in output:
        write(line)
        lines.append(line)
        step = re.match(r"\s*\[(\d+)/(\d+)\] ", line)
        if not step:
            continue
        done, total = int(step[1]), int(step[2])
        if terminal:
            print(f"\r  {done} of {total} files ", end="\n" if done == total else "", flush=True)
        elif 4 * done // total > shown:
            shown = 4 * done // total
            say(f"  {done} of {total} files")
    return lines


def why(lines: list[str]) -> str:
    """The error of a failed build, in one line."""
    if any("No matching distribution" in line for line in lines):
        return (
            f"{PACKAGE} could not be downloaded: is there a network, or an index in pip's settings?"
        )
    errors = [line.strip() for line in lines if re.search(r"\berror\b", line, re.IGNORECASE)]
    return (errors or ["pip wheel failed"])[0][:200]


def install_wheel(wheel: Path) -> None:
    """Install a wheel, replacing an installed copy.

    Raises:
        BuildError: pip refused it.
    """
    # First without dependencies, as --force-reinstall would reinstall those too.
    for options in (["--no-deps", "--force-reinstall"], []):
        command = [*PIP, "install", "--quiet", *options, str(wheel)]
        result = subprocess.run(command, capture_output=True, text=True, check=False)
        if result.returncode:
            raise BuildError(f"{wheel} cannot be installed: {why(result.stderr.splitlines())}")


def kept_folder(version: str, toolchain: Toolchain) -> Path:
    """The folder for wheels of this version, toolchain and CPU, shared by environments."""
    cpu = Path("/proc/cpuinfo")
    lines = cpu.read_text(errors="replace").splitlines() if cpu.is_file() else []
    about = {line for line in lines if line.startswith(("flags", "Features", "model name"))}
    patches = fingerprint(patches_for(version))
    parts = [
        version,
        patches,
        toolchain.name,
        platform.platform(),
        *platform.libc_ver(),
        *sorted(about),
    ]
    key = hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(cache) / "subject-lora-serve" / f"llama-{key}"


def kept_wheel(version: str, toolchain: Toolchain) -> Path | None:
    """A wheel that was built before for the same toolchain and CPU, or None."""
    if not toolchain.keep:
        return None
    return next(iter(sorted(kept_folder(version, toolchain).glob("*.whl"))), None)


def say(line: str) -> None:
    print(line, flush=True)


if __name__ == "__main__":
    sys.exit(main())
