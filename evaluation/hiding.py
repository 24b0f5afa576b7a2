"""Hides the right answers from a pipeline under test, where the system allows it.

util-linux's unshare starts the pipeline in mount and PID namespaces of its own (namespaces(7)):
`hide.sh` takes files and folders out of its view, it sees no process but its own, and all of them
end with the namespace. An ordinary user gets the rights to do so in a user namespace, and the
pipeline runs as that user, without rights, in a second one inside, so that it cannot undo it; root
gives up the capabilities that could.

Where that is not allowed (macOS, Docker's default, some distributions) nothing is hidden, and the
caller learns why.
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
# With these root could undo the hiding, or read the disk past it. The rest stays: a pipeline may
# depend on reading other users' files.
_UNDOING = "-sys_admin,-sys_ptrace,-mknod,-dac_read_search"


class CannotHideError(Exception):
    """Nothing can be hidden here; the message says why."""


def wrapper(hidden: Sequence[Path], needed: Sequence[Path]) -> list[str]:
    """What to put in front of a command so that it does not see some files.

    The command runs as the grandchild of the process that is started (unshare, the namespace's
    init, the command). That process exits with its status, or with 128 and the number of the signal
    that ended it.

    Args:
        hidden: folders to be empty and files to be missing for the command; those that do not
            exist are passed over.
        needed: paths that the command must see.

    Raises:
        CannotHideError: the system does not allow it, or something needed would be hidden.
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
    """The ways to try, best first."""
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
    """Why a command failed, in its own words; "" if it did not."""
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
