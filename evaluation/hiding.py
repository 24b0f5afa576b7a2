"""Hides the right answers from a pipeline under test, where the system allows it.

On Linux the worker moves into a mount namespace of its own, in which files with right answers are
empty, and gives up the right to undo that: in a namespace of users of its own
(user_namespaces(7)), or with root's CAP_SYS_ADMIN where there is none to be had. What other
processes have open, their memory and their view of the disk (/proc/PID/fd, mem, root) are closed to
it by the same step, since ptrace(2)'s rules ask for rights over their namespace of users that it
does not have; without one of its own root may still look into processes that have no more
capabilities than it has left. Command lines stay readable, but name files that are empty here.

Where that is not allowed (macOS, Docker's default, some Linux distributions) nothing is hidden, and
the caller is told. docs/evaluation.md tells what is not defended.
"""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

# Constants of Linux's sched.h, mount.h, prctl.h and capability.h.
_CLONE_NEWNS, _CLONE_NEWUSER = 0x00020000, 0x10000000
_MS_BIND, _MS_REC, _MS_PRIVATE = 0x1000, 0x4000, 0x40000
_PR_GET_DUMPABLE, _PR_SET_DUMPABLE, _PR_CAPBSET_DROP, _PR_SET_NO_NEW_PRIVS = 3, 4, 24, 38
_CAP_SYS_PTRACE, _CAP_SYS_ADMIN, _CAP_MKNOD = 19, 21, 27
_CAPABILITY_VERSION = 0x20080522
_N_CAPABILITIES = 64
_NOTHING = b"/dev/null"


def hide(paths: Sequence[str]) -> bool:
    """Make files empty for this process and all that it will start; whether that succeeded.

    To be called before there are threads: Linux allows it to a single one only.

    Args:
        paths: files; those that are not there are passed over.
    """
    if sys.platform != "linux":
        return False
    libc = ctypes.CDLL(None, use_errno=True)
    root = os.geteuid() == 0
    try:
        if not _enter_own_users(libc):
            _check(libc.unshare(_CLONE_NEWNS))  # which root may
        _check(libc.mount(b"none", b"/", None, _MS_REC | _MS_PRIVATE, None))
        for path in paths:
            if Path(path).exists():
                _check(libc.mount(_NOTHING, os.fsencode(path), None, _MS_BIND, None))
        _give_up(libc, _UNDOING if root else range(_N_CAPABILITIES))
    except OSError:
        return False
    return True


def _enter_own_users(libc: ctypes.CDLL) -> bool:
    """Move into new namespaces of users and mounts, where everybody is who they were.

    Root's processes see all users there. Their map can be written only by a process that stays
    outside; others may map themselves alone.
    """
    user, group = os.geteuid(), os.getegid()
    if user != 0:
        if libc.unshare(_CLONE_NEWNS | _CLONE_NEWUSER) != 0:
            return False
        Path("/proc/self/setgroups").write_text("deny", encoding="utf-8")
        Path("/proc/self/uid_map").write_text(f"{user} {user} 1", encoding="utf-8")
        Path("/proc/self/gid_map").write_text(f"{group} {group} 1", encoding="utf-8")
        return True
    reader, writer = os.pipe()
    worker, outside = os.getpid(), os.fork()
    if outside == 0:
        try:
            os.close(writer)
            if os.read(reader, 1):
                _map_everybody(worker)
            os._exit(0)
        finally:
            os._exit(1)
    os.close(reader)
    entered: bool = libc.unshare(_CLONE_NEWNS | _CLONE_NEWUSER) == 0
    if entered:
        os.write(writer, b".")
    os.close(writer)
    _, status = os.waitpid(outside, 0)
    if entered and status != 0:
        raise OSError("the map of users could not be written")
    return entered


def _map_everybody(process: int) -> None:
    """Let all users and groups of this namespace be themselves in that of a process."""
    for name in ("uid_map", "gid_map"):
        ranges = map(str.split, Path("/proc/self", name).read_text(encoding="utf-8").splitlines())
        same = "".join(f"{first} {first} {count}\n" for first, _, count in ranges)
        Path(f"/proc/{process}", name).write_text(same, encoding="utf-8")


# What root could undo it with. The rest stays: a pipeline may live from reading all files.
_UNDOING = (_CAP_SYS_PTRACE, _CAP_SYS_ADMIN, _CAP_MKNOD)


def _give_up(libc: ctypes.CDLL, capabilities: Sequence[int]) -> None:
    """Drop capabilities for good, those of programs that are started included."""
    for capability in capabilities:
        libc.prctl(_PR_CAPBSET_DROP, capability, 0, 0, 0)  # fails for those the kernel lacks
    header = (ctypes.c_uint32 * 2)(_CAPABILITY_VERSION, 0)
    # Two halves of (effective, permitted, inheritable), 32 bits each.
    held = (ctypes.c_uint32 * 6)()
    _check(libc.capget(header, held))
    for capability in capabilities:
        half, bit = divmod(capability, 32)
        for kind in range(3):
            held[3 * half + kind] &= ~(1 << bit)
    _check(libc.capset(header, held))
    if len(capabilities) == _N_CAPABILITIES:
        _check(libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))


def _check(status: int) -> None:
    if status != 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


@contextmanager
def closed_to_others() -> Iterator[None]:
    """Close this process's memory and open files to other processes of the same user meanwhile.

    Linux only, and of no effect on root's processes.
    """
    if sys.platform != "linux":
        yield
        return
    libc = ctypes.CDLL(None)
    before = libc.prctl(_PR_GET_DUMPABLE, 0, 0, 0, 0)
    libc.prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)
    try:
        yield
    finally:
        libc.prctl(_PR_SET_DUMPABLE, before, 0, 0, 0)
