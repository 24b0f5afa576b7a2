"""How many CPU threads and how much memory this process may use: affinity, cores, cgroups.

In a container the kernel shows the whole machine, while the cgroups of the process limit what it
gets: more threads than its CPU quota wait for one another, and more memory than its limit ends it.
"""

from __future__ import annotations

import os
import platform
from collections.abc import Iterator, Set
from dataclasses import dataclass
from pathlib import Path

# Cores of a hybrid CPU with at most this share of the largest capacity are efficiency cores.
_CAPABLE = 0.5


@dataclass(frozen=True)
class Cpus:
    """The CPUs of a process."""

    cores: int  # threads that compute at once without sharing a core; at least 1
    logical: int  # threads that run at once, hyper-threads counted; at least `cores`
    reason: str  # where `cores` comes from, in words


def cpu_name() -> str:
    """The CPU model, such as "AMD EPYC 9B45"; several, if they differ, separated by commas."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text(errors="replace").splitlines() if info.is_file() else []
    names = {line.partition(":")[2].strip() for line in lines if line.startswith("model name")}
    return ", ".join(sorted(names)) or platform.processor() or platform.machine()


def cpus() -> Cpus:
    """The CPUs of this process."""
    if hasattr(os, "sched_getaffinity"):
        allowed = os.sched_getaffinity(0)
    else:
        allowed = set(range(os.cpu_count() or 1))
    return find_cpus(Path("/"), allowed)


def find_cpus(root: Path, allowed: Set[int]) -> Cpus:
    """The CPUs of a process, from sysfs and its cgroups below `root`.

    `allowed` are the logical CPUs of its affinity mask.
    """
    n_logical = len(allowed)
    capable = _performance_cpus(root, allowed)
    cores = _count_cores(root, capable)
    reasons = [f"{cores} physical cores"]
    if len(capable) < n_logical:
        reasons.append(f"performance cores only: {len(capable)} of {n_logical} CPUs")
    n_online = len(_numbers(root / "sys/devices/system/cpu/online"))
    if n_online > n_logical:
        reasons.append(f"the affinity mask has {n_logical} of {n_online} CPUs")
    quota, group = _cpu_quota(root)
    if quota is not None:
        # Half a CPU more is worth a thread, less only makes all wait for it.
        most = max(1, int(quota + 0.5))
        if most < n_logical:
            reasons.append(f"the CPU quota of cgroup {group} is {quota:g}")
        cores, n_logical = min(cores, most), min(n_logical, most)
    return Cpus(cores, n_logical, ", ".join(reasons))


def available_memory() -> int:
    """Bytes of memory that this process can still get, within the limits of its cgroups."""
    import psutil

    return min(psutil.virtual_memory().available, *memory_left(Path("/")))


def _performance_cpus(root: Path, numbers: Set[int]) -> Set[int]:
    """Those of some CPUs that are not efficiency cores; all where sysfs does not tell."""
    devices = root / "sys/devices"
    # Intel's hybrid CPUs have a performance-monitoring unit for each kind of core.
    fast = _numbers(devices / "cpu_core/cpus") & numbers
    if fast:
        return fast
    capacity = {n: _number(devices / f"system/cpu/cpu{n}/cpu_capacity") for n in numbers}
    largest = max((c for c in capacity.values() if c is not None), default=0)
    return {n for n in numbers if (c := capacity[n]) is None or c > _CAPABLE * largest}


def _count_cores(root: Path, numbers: Set[int]) -> int:
    """How many physical cores some CPUs belong to."""
    cores, known = set(), False
    for number in numbers:
        topology = root / f"sys/devices/system/cpu/cpu{number}/topology"
        siblings = _numbers(topology / "core_cpus_list")  # thread_siblings_list before Linux 5.3
        siblings = siblings or _numbers(topology / "thread_siblings_list")
        known = known or bool(siblings)
        cores.add(frozenset(siblings | {number}))
    if not known:  # no sysfs: another system than Linux
        import psutil

        return min(len(numbers), psutil.cpu_count(logical=False) or len(numbers))
    return len(cores)


def _cpu_quota(root: Path) -> tuple[float | None, str]:
    """The smallest CPU quota of the process's cgroups, in CPUs, and the group that has it."""
    quotas = []
    for group in _groups(root, "cpu"):
        words = _words(group / "cpu.max")  # cgroup v2: "200000 100000" or "max 100000"
        words = words or [  # v1; -1 is no quota
            word for what in ("quota", "period") for word in _words(group / f"cpu.cfs_{what}_us")
        ]
        if len(words) == 2 and all(map(str.isdecimal, words)) and int(words[1]):
            quotas.append((int(words[0]) / int(words[1]), f"/{group.relative_to(root)}"))
    return min(quotas, default=(None, ""))


def memory_left(root: Path) -> Iterator[int]:
    """Bytes that each of the process's cgroups with a limit can still give it."""
    names = (
        ("memory.max", "memory.current", "inactive_file"),  # cgroup v2
        ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
    )
    for group in _groups(root, "memory"):
        for limit_name, used_name, cache_name in names:
            limit, used = _number(group / limit_name), _number(group / used_name)
            if limit is None or used is None:
                continue
            # Pages of files that the kernel drops where memory is needed.
            stat = dict(zip(*[iter(_words(group / "memory.stat"))] * 2, strict=False))
            cached = int(stat.get(cache_name, "0"))
            yield max(0, limit - max(0, used - cached))


def _groups(root: Path, controller: str) -> Iterator[Path]:
    """Folders of the process's cgroups with a controller, from its own up to the mounted root."""
    of_v1, of_v2 = "", ""
    for line in _lines(root / "proc/self/cgroup"):
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if controller in controllers.split(","):
            of_v1 = path
        elif path and not controllers:
            of_v2 = path
    for line in _lines(root / "proc/self/mountinfo"):
        # 36 35 98:0 /docker/1 /sys/fs/cgroup/cpu rw,nosuid shared:1 - cgroup cgroup rw,cpu
        fields = line.split()
        if "cgroup2" in fields:
            path = of_v2
        elif "cgroup" in fields and controller in fields[-1].split(","):
            path = of_v1
        else:
            continue
        mount_root, mount_point = fields[3:5]
        top = root / mount_point.lstrip("/")
        group = top
        # A path outside of what is mounted, as in some containers, leaves only the mounted group.
        if ".." not in Path(path).parts and Path(path).is_relative_to(mount_root):
            below = top / Path(path).relative_to(mount_root)
            group = below if below.is_dir() else top
        while True:
            yield group
            if group == top:
                break
            group = group.parent


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text("utf-8", errors="replace").splitlines()
    except OSError:
        return []


def _words(path: Path) -> list[str]:
    return " ".join(_lines(path)).split()


def _number(path: Path) -> int | None:
    """The number in a file; None without one, as for "max"."""
    words = _words(path)
    return int(words[0]) if words and words[0].isdecimal() else None


def _numbers(path: Path) -> Set[int]:
    """The numbers of a list such as "0-3,8"; none without such a file."""
    found: set[int] = set()
    for part in "".join(_words(path)).split(","):
        first, _, last = part.partition("-")
        if first.isdecimal():
            found |= set(range(int(first), int(last or first) + 1))
    return found
