"""Hides the right answers from a pipeline under test, where the system allows it.

util-linux's unshare starts the pipeline in its own mount and PID namespaces (namespaces(7)):
`hide.sh` removes files and folders from its view, it sees only its own processes, and all of them
end with the namespace. An ordinary user does this in a user namespace; the pipeline runs as that
user, without privileges, in a second user namespace inside, so that it cannot undo it. root drops
the capabilities that could.

Where this is not allowed (macOS, Docker's default, some distributions) nothing is hidden, and the
caller gets the reason.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

_SCRIPT = Path(__file__).with_name("hide.sh")
_SECONDS = 60.0
# With these root could undo the hiding, or read the disk directly. Others are kept: a pipeline may
# need to read other users' files.
_UNDOING = "-sys_admin,-sys_ptrace,-mknod,-dac_read_search"


class CannotHideError(Exception):
    """Nothing can be hidden here; the message says why."""


def wrapper(hidden: Sequence[Path], needed: Sequence[Path]) -> list[str]:
    """The command line to put before a command to hide files from it.

    The command runs as the grandchild of the started process (unshare, the namespace's init, the
    command). The started process exits with its status, or with 128 plus the number of the signal
    that ended it.

    Args:
        hidden: folders that will be empty and files that will be missing for the command; paths
            that do not exist are ignored.
        needed: paths that the command must see.

    Raises:
        CannotHideError: the system does not allow it, or a needed path would be hidden.
    """
    if sys.platform != "linux":
        raise CannotHideError("only Linux can hide files from a process")
    paths = [path.resolve() for path in hidden]
    for path in paths:
        if path.is_file() and path.parent == Path("/"):
            raise CannotHideError(f"{path} is in the root folder; move it into another one")
    reasons = []
    for command in _wrappers(paths):
        if not (reason := _failure([*command, "ls", "-d", "--", *map(str, needed)])):
            return command
        reasons.append(reason)
    raise CannotHideError(
        "; ".join(dict.fromkeys(reasons)) or "unshare of util-linux is not installed"
    )


def _wrappers(paths: Sequence[Path]) -> list[list[str]]:
    """The command lines to try, best first."""
    unshare, setpriv = shutil.which("unshare"), shutil.which("setpriv")
    if not unshare:
        return []
    namespaces = ["--mount", "--pid", "--fork", "--kill-child", "--mount-proc"]
    script = ["sh", str(_SCRIPT), *map(str, paths), "--"]
    user, group = os.geteuid(), os.getegid()
    as_before = [unshare, "--user", f"--map-user={user}", f"--map-group={group}"]
    ordinary = [unshare, "--user", "--map-root-user", *namespaces, *script, *as_before]
    if user != 0 or not setpriv:
        return [ordinary]
    less = [setpriv, f"--bounding-set={_UNDOING}", "--inh-caps=-all"]
    return [[unshare, *namespaces, *script, *less], ordinary]


def _failure(command: Sequence[str]) -> str:
    """The error message of a command; "" if it succeeds."""
    try:
        ran = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, timeout=_SECONDS, check=False
        )
    except OSError as error:
        return f"{command[0]}: {error.strerror}"
    except subprocess.TimeoutExpired:
        return f"it took over {_SECONDS:g} s; keep the questions in a small folder of their own"
    if ran.returncode == 0:
        return ""
    lines = ran.stderr.decode("utf-8", "replace").strip().splitlines()
    return lines[-1] if lines else f"{command[0]} exited with status {ran.returncode}"
