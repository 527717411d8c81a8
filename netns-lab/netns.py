"""Namespaces, mounts and parent death: system calls that Python 3.11 does not wrap.

A *router* of the lab is a pair of anonymous namespaces, network and host name (UTS), which are held
by descriptors only. There is nothing under /run/netns: when the last descriptor and the last
process are gone, the kernel removes the namespaces and their links.

Sources: namespaces(7), user_namespaces(7), pid_namespaces(7), setns(2), unshare(2), mount(2),
PR_SET_PDEATHSIG in prctl(2).
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

__all__ = [
    "CLONE_NEWNET",
    "CLONE_NEWNS",
    "CLONE_NEWPID",
    "CLONE_NEWUSER",
    "CLONE_NEWUTS",
    "MS_BIND",
    "MS_NODEV",
    "MS_NOEXEC",
    "MS_NOSUID",
    "MS_PRIVATE",
    "MS_REC",
    "RouterNamespaces",
    "die_with_parent",
    "map_to_root",
    "mount",
    "open_namespace",
    "setns",
    "unshare",
]

CLONE_NEWNS = 0x0002_0000
CLONE_NEWUTS = 0x0400_0000
CLONE_NEWUSER = 0x1000_0000
CLONE_NEWPID = 0x2000_0000
CLONE_NEWNET = 0x4000_0000

MS_NOSUID, MS_NODEV, MS_NOEXEC = 2, 4, 8
MS_BIND, MS_REC, MS_PRIVATE = 0x1000, 0x4000, 0x4_0000

_PR_SET_PDEATHSIG = 1

_libc = ctypes.CDLL(None, use_errno=True)


def _check(result: int, what: str) -> None:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")


def unshare(flags: int) -> None:
    """Move to new namespaces of the kinds in flags.

    Raises:
        OSError: EPERM without the privilege, ENOSPC or EUSERS if a sysctl limit is reached.
    """
    _check(_libc.unshare(ctypes.c_int(flags)), "unshare")


def setns(descriptor: int, kind: int) -> None:
    """Move the calling thread to an existing namespace.

    Args:
        descriptor: an open /proc/PID/ns/KIND.
        kind: its CLONE_NEW* flag, checked by the kernel.

    Raises:
        OSError: EPERM without the privilege; EINVAL for another kind, or from a process with
            several threads (user and mount namespaces belong to the whole process).
    """
    _check(_libc.setns(ctypes.c_int(descriptor), ctypes.c_int(kind)), "setns")


def mount(source: str, target: str, kind: str, flags: int, options: str = "") -> None:
    """Call mount(2).

    Raises:
        OSError: the kernel refused; the message names the target.
    """
    result = _libc.mount(
        source.encode(), target.encode(), kind.encode(), ctypes.c_ulong(flags), options.encode()
    )
    _check(result, f"mount {kind or 'propagation'} on {target}")


def die_with_parent() -> None:
    """Have the kernel kill this process when the thread that created it ends.

    The parent may have ended before this call: a caller for which this matters must check it.
    """
    arguments = [ctypes.c_ulong(value) for value in (signal.SIGKILL, 0, 0, 0)]
    _check(_libc.prctl(ctypes.c_int(_PR_SET_PDEATHSIG), *arguments), "prctl")


def map_to_root(uid: int, gid: int) -> None:
    """Map the outer uid and gid to root in the user namespace that was just entered.

    An unprivileged process may map one id only, without the setuid helpers of the `uidmap` package,
    and must disable setgroups first (user_namespaces(7)).

    Raises:
        OSError: the kernel refused the map.
    """
    Path("/proc/self/setgroups").write_text("deny", encoding="ascii")
    Path("/proc/self/uid_map").write_text(f"0 {uid} 1", encoding="ascii")
    Path("/proc/self/gid_map").write_text(f"0 {gid} 1", encoding="ascii")


def open_namespace(kind: str) -> int:
    """Open the calling thread's namespace of a kind: `net`, `uts`, `mnt`, `pid` or `user`.

    Raises:
        OSError: the process has no descriptor left.
    """
    return os.open(f"/proc/thread-self/ns/{kind}", os.O_RDONLY | os.O_CLOEXEC)


@dataclass(frozen=True, slots=True)
class RouterNamespaces:
    """The two namespaces of a router (or of the bridge of a LAN)."""

    net_fd: int
    uts_fd: int

    @classmethod
    def create(cls, hostname: str) -> RouterNamespaces:
        """Create the namespaces; afterwards the calling thread is in its former namespaces again.

        Raises:
            OSError: no privilege, or a limit is reached.
        """
        home = RouterNamespaces(open_namespace("net"), open_namespace("uts"))
        try:
            unshare(CLONE_NEWNET | CLONE_NEWUTS)
            socket.sethostname(hostname)
            return cls(open_namespace("net"), open_namespace("uts"))
        finally:
            home.step_into()
            home.close()

    def step_into(self) -> None:
        """Move the calling thread into the namespaces permanently."""
        setns(self.net_fd, CLONE_NEWNET)
        setns(self.uts_fd, CLONE_NEWUTS)

    @contextlib.contextmanager
    def inside(self) -> Iterator[None]:
        """Run a block inside the namespaces. Sockets that are opened there stay in them."""
        home = RouterNamespaces(open_namespace("net"), open_namespace("uts"))
        try:
            self.step_into()
            yield
        finally:
            home.step_into()
            home.close()

    def close(self) -> None:
        """Close the descriptors: the kernel removes the namespaces when no process uses them."""
        os.close(self.net_fd)
        os.close(self.uts_fd)
