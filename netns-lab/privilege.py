"""Finds out whether and how this machine permits a lab, and what to do if it does not.

There are two ways: as root (more exactly with CAP_SYS_ADMIN and CAP_NET_ADMIN), or as any user in a
new user namespace, where distributions and containers permit that.
"""

from __future__ import annotations

import functools
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import netns

__all__ = ["NotPermittedError", "Privilege", "enter", "probe"]

_SYSCTLS = (
    ("user/max_user_namespaces", "0", "sysctl -w user.max_user_namespaces=15000"),
    (
        "kernel/unprivileged_userns_clone",
        "0",
        "sysctl -w kernel.unprivileged_userns_clone=1",
    ),
    (
        "kernel/apparmor_restrict_unprivileged_userns",
        "1",
        "sysctl -w kernel.apparmor_restrict_unprivileged_userns=0",
    ),
)
"""Sysctls that forbid user namespaces: file under /proc/sys, the forbidding value, the remedy."""


class NotPermittedError(Exception):
    """This machine does not permit a lab; the text gives the reason and what to do."""


def enter(flags: int) -> bool:
    """Unshare the given namespaces, in a new user namespace if there is no other way.

    Returns:
        Whether a user namespace was needed: then uid 0 is the caller, and no other uid exists.

    Raises:
        NotPermittedError: neither way is permitted.
    """
    uid, gid = os.geteuid(), os.getegid()
    if uid == 0:
        try:
            netns.unshare(flags)
        except PermissionError:
            pass  # root of a container without CAP_SYS_ADMIN has no more rights than another user
        else:
            return False
    try:
        netns.unshare(flags | netns.CLONE_NEWUSER)
        netns.map_to_root(uid, gid)
    except OSError as error:
        raise NotPermittedError(_advice(error)) from error
    return True


def _advice(error: OSError) -> str:
    cures = [cure for file, value, cure in _SYSCTLS if _reads(file) == value]
    text = f"this machine does not permit uid {os.geteuid()} to create namespaces ({error})."
    if os.geteuid() == 0:
        return f"{text} In a container, start it with --privileged."
    if cures:
        return f"{text} Run as root, or allow user namespaces, as root: {'; '.join(cures)}"
    return (
        f"{text} Run as root. (User namespaces are refused although no sysctl forbids them: "
        "in a container its seccomp profile does that; start it with --privileged.)"
    )


def _reads(file: str) -> str:
    try:
        return Path("/proc/sys", file).read_text(encoding="ascii").strip()
    except OSError:  # this kernel has no such sysctl
        return ""


@dataclass(frozen=True, slots=True)
class Privilege:
    """How labs can be built on this machine."""

    is_possible: bool
    is_rootless: bool
    """Whether a user namespace is used: processes in it cannot change to another uid."""
    reason: str
    """Why labs cannot be built, and what to do; empty if they can."""


@functools.cache
def probe() -> Privilege:
    """Try to create the namespaces in a separate process, which builds nothing."""
    trial = subprocess.run(
        [sys.executable, "-s", "-S", __file__], capture_output=True, text=True, check=False
    )
    if trial.returncode == 0:
        return Privilege(True, trial.stdout == "rootless\n", "")
    return Privilege(False, True, trial.stdout.strip() or trial.stderr.strip())


def _try() -> int:
    flags = netns.CLONE_NEWNS | netns.CLONE_NEWPID | netns.CLONE_NEWNET | netns.CLONE_NEWUTS
    try:
        is_rootless = enter(flags)
        netns.mount("none", "/", "", netns.MS_REC | netns.MS_PRIVATE)
    except (NotPermittedError, OSError) as error:
        print(error)
        return 1
    print("rootless" if is_rootless else "root")
    return 0


if __name__ == "__main__":
    sys.exit(_try())
