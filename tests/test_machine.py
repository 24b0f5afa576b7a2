"""How many threads and how much memory there are for a process, on made-up machines."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from runtime.common import machine
from runtime.common.machine import Cpus, available_memory, cpus, find_cpus

MIB = 2**20
V1 = "36 25 0:32 {root} {at} rw,relatime shared:9 - cgroup cgroup rw,cpu,cpuacct\n"
V1_MEMORY = "37 25 0:33 {root} {at} rw,relatime - cgroup cgroup rw,memory\n"
V2 = "30 25 0:26 {root} {at} rw,nosuid - cgroup2 cgroup2 rw,nsdelegate\n"


def write(path: Path, text: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"{text}\n")
    return path


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Eight cores of two hyper-threads each: CPU n shares a core with CPU n + 8."""
    for number in range(16):
        first = number % 8
        cpu = tmp_path / f"sys/devices/system/cpu/cpu{number}"
        write(cpu / "topology/core_cpus_list", f"{first},{first + 8}")
    write(tmp_path / "sys/devices/system/cpu/online", "0-15")
    return tmp_path


def in_groups(root: Path, mounts: str, groups: str) -> Path:
    write(root / "proc/self/cgroup", groups)
    write(root / "proc/self/mountinfo", f"23 0 8:1 / / rw - ext4 /dev/sda1 rw\n{mounts}")
    return root / "sys/fs/cgroup"


ALL = frozenset(range(16))


def test_hyper_threads_of_a_core_are_one(root: Path) -> None:
    assert find_cpus(root, ALL) == Cpus(8, 16, "8 physical cores")


def test_a_mask_leaves_the_cores_that_it_names(root: Path) -> None:
    assert find_cpus(root, {0, 8}).cores == 1
    found = find_cpus(root, {0, 1, 2, 8})
    assert (found.cores, found.logical) == (3, 4)
    assert found.reason == "3 physical cores, the affinity mask has 4 of 16 CPUs"


def test_older_kernels_call_it_otherwise(root: Path) -> None:
    for path in root.glob("sys/devices/system/cpu/cpu*/topology/core_cpus_list"):
        path.rename(path.with_name("thread_siblings_list"))
    assert find_cpus(root, ALL).cores == 8


@pytest.mark.parametrize(
    ("quota", "cores", "logical"),
    [
        ("max 100000", 8, 16),
        ("400000 100000", 4, 4),
        ("50000 100000", 1, 1),
        ("10000 100000", 1, 1),
        ("150000 100000", 2, 2),
        ("140000 100000", 1, 1),
        ("1200000 100000", 8, 12),
        ("3200000 100000", 8, 16),
        ("200000", 8, 16),
        ("200000 0", 8, 16),
        ("", 8, 16),
    ],
)
def test_a_quota_of_version_2_is_the_most(root: Path, quota: str, cores: int, logical: int) -> None:
    at = in_groups(root, V2.format(root="/", at="/sys/fs/cgroup"), "0::/app")
    write(at / "app/cpu.max", quota)
    found = find_cpus(root, ALL)
    assert (found.cores, found.logical) == (cores, logical)
    assert ("CPU quota of cgroup /sys/fs/cgroup/app is" in found.reason) == (logical < 16)


@pytest.mark.parametrize(
    ("quota", "period", "cores"),
    [(-1, 100000, 8), (300000, 100000, 3), (50000, 25000, 2), (1000, 100000, 1), (1000, "", 8)],
)
def test_a_quota_of_version_1_is_the_most(
    root: Path, quota: int, period: object, cores: int
) -> None:
    mounts = V1.format(root="/", at="/sys/fs/cgroup/cpu,cpuacct")
    at = in_groups(root, mounts, "5:cpu,cpuacct:/docker/1\n4:memory:/other\n0::/")
    write(at / "cpu,cpuacct/docker/1/cpu.cfs_quota_us", quota)
    write(at / "cpu,cpuacct/docker/1/cpu.cfs_period_us", period)
    assert find_cpus(root, ALL).cores == cores


def test_the_smallest_quota_up_to_the_root_counts(root: Path) -> None:
    at = in_groups(root, V2.format(root="/", at="/sys/fs/cgroup"), "0::/pod/box/inner")
    write(at / "pod/box/inner/cpu.max", "max 100000")
    write(at / "pod/box/cpu.max", "600000 100000")
    write(at / "pod/cpu.max", "200000 100000")
    found = find_cpus(root, ALL)
    assert found.cores == 2
    assert found.reason.endswith("the CPU quota of cgroup /sys/fs/cgroup/pod is 2")


@pytest.mark.parametrize(
    ("mounted", "path"), [("/docker/1", "/docker/1"), ("/docker/1", "/docker/12"), ("/", "/../..")]
)
def test_a_container_sees_its_own_group_at_the_mount(root: Path, mounted: str, path: str) -> None:
    at = in_groups(root, V2.format(root=mounted, at="/sys/fs/cgroup"), f"0::{path}")
    write(at / "cpu.max", "200000 100000")
    write(at / "2/cpu.max", "100000 100000")  # a neighbour, whose name goes on as ours does
    assert find_cpus(root, ALL).cores == 2


def test_of_intels_hybrid_cpus_the_performance_cores_count(root: Path) -> None:
    write(root / "sys/devices/cpu_core/cpus", "0-3,8-11")
    write(root / "sys/devices/cpu_atom/cpus", "4-7,12-15")
    found = find_cpus(root, ALL)
    assert (found.cores, found.logical) == (4, 16)
    assert found.reason == "4 physical cores, performance cores only: 8 of 16 CPUs"
    assert find_cpus(root, {4, 5}).cores == 2  # the mask has no others


def test_of_arms_hybrid_cpus_the_little_cores_do_not_count(root: Path) -> None:
    for number in range(16):
        capacity = 1024 if number in {0, 8} else 870 if number in {1, 9} else 350
        write(root / f"sys/devices/system/cpu/cpu{number}/cpu_capacity", capacity)
    assert find_cpus(root, ALL).cores == 2


def test_this_machine_has_a_cpu_for_this_process() -> None:
    found = cpus()
    assert 1 <= found.cores <= found.logical <= (os.cpu_count() or 1)
    assert found.reason


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="no affinity masks here")
def test_a_mask_is_seen_by_the_process_that_has_it() -> None:
    before = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, {min(before)})
        assert (cpus().cores, cpus().logical) == (1, 1)
    finally:
        os.sched_setaffinity(0, before)


# --- memory ----------------------------------------------------------------------------


def test_memory_that_a_group_of_version_2_leaves(root: Path) -> None:
    at = in_groups(root, V2.format(root="/", at="/sys/fs/cgroup"), "0::/app/inner")
    write(at / "app/memory.max", 500 * MIB)
    write(at / "app/memory.current", 300 * MIB)
    write(at / "app/memory.stat", f"anon 1\ninactive_file {100 * MIB}")
    write(at / "app/inner/memory.max", "max")
    write(at / "app/inner/memory.current", 1)
    assert list(machine.memory_left(root)) == [300 * MIB]


def test_memory_that_a_group_of_version_1_leaves(root: Path) -> None:
    mounts = V1_MEMORY.format(root="/", at="/sys/fs/cgroup/memory")
    at = in_groups(root, mounts, "4:memory:/app\n0::/")
    write(at / "memory/app/memory.limit_in_bytes", 500 * MIB)
    write(at / "memory/app/memory.usage_in_bytes", 600 * MIB)
    write(at / "memory/app/memory.stat", f"cache 1\ntotal_inactive_file {50 * MIB}")
    write(at / "memory/memory.limit_in_bytes", 9223372036854771712)
    write(at / "memory/memory.usage_in_bytes", 100 * MIB)
    assert min(machine.memory_left(root)) == 0


def test_no_limit_leaves_what_the_machine_has() -> None:
    assert available_memory() > 0
