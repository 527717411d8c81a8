"""The capability sets of this process: query them, and reduce or clear them permanently.

    bounding     upper limit of what an exec can grant; reduced first, which needs CAP_SETPCAP
    ambient      kept across an exec by a non-root process; cleared
    inheritable  empty
    permitted, effective   exactly those that are kept

Capabilities belong to a thread: all of this runs before a second one exists, and threads that
are started later inherit what is left.

Source: capabilities(7), prctl(2), capset(2).
"""

from __future__ import annotations

import ctypes
import enum
import os
import struct
from collections.abc import Collection, Iterable

from routed.sandbox.kernel import libc, prctl

__all__ = [
    "Capability",
    "clear_all",
    "cut_bounding_set",
    "effective",
    "has",
    "keep_only",
    "names_of",
]


class Capability(enum.IntEnum):
    """The capabilities used here, numbered as in linux/capability.h."""

    KILL = 5
    SETGID = 6
    SETUID = 7
    SETPCAP = 8
    NET_ADMIN = 12
    NET_RAW = 13


_LAST_POSSIBLE = 63

_PR_CAPBSET_DROP, _PR_CAP_AMBIENT = 24, 47
_PR_CAP_AMBIENT_CLEAR_ALL = 4
_VERSION_3 = 0x20080522


def _raise_errno() -> None:
    number = ctypes.get_errno()
    raise OSError(number, os.strerror(number))


def effective() -> int:
    """Return the effective set of this process, one bit per capability.

    Raises:
        OSError: the kernel refused (it never does for the caller's own set).
    """
    header = struct.pack("=Ii", _VERSION_3, 0)
    data = ctypes.create_string_buffer(24)
    if libc.capget(ctypes.c_char_p(header), data) < 0:
        _raise_errno()
    effective_low, _, _, effective_high, _, _ = struct.unpack("=6I", data.raw)
    return int(effective_low | effective_high << 32)


def has(capability: Capability) -> bool:
    """Whether this process may use a capability now."""
    return bool(effective() >> capability & 1)


def names_of(capabilities: Iterable[Capability]) -> str:
    """Format capabilities for display, in the kernel's order: `CAP_KILL, CAP_NET_ADMIN`."""
    return ", ".join(f"CAP_{capability.name}" for capability in sorted(capabilities))


def keep_only(
    wanted: Collection[Capability], for_exec: Collection[Capability] = ()
) -> frozenset[Capability]:
    """Drop every capability except some, permanently.

    Args:
        wanted: capabilities that this process keeps.
        for_exec: the bounding set, which limits programs that it starts as root.

    Returns:
        The capabilities that are left: those wanted that the process had.

    Raises:
        OSError: the kernel refused.
    """
    now = effective()
    left = frozenset(capability for capability in wanted if now >> capability & 1)
    cut_bounding_set(for_exec)
    prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL)
    _set(sum(1 << capability for capability in left))
    return left


def clear_all() -> None:
    """Empty every set.

    Raises:
        OSError: the kernel refused.
    """
    keep_only(())


def _set(permitted: int) -> None:
    header = struct.pack("=Ii", _VERSION_3, 0)
    low, high = permitted & 0xFFFF_FFFF, permitted >> 32
    data = struct.pack("=6I", low, low, 0, high, high, 0)
    if libc.capset(ctypes.c_char_p(header), ctypes.c_char_p(data)) < 0:
        _raise_errno()


def cut_bounding_set(left: Collection[Capability]) -> None:
    """Drop all capabilities but `left` from the bounding set; do nothing without CAP_SETPCAP.

    Raises:
        OSError: the kernel refused; not for a capability that it supports.
    """
    if not has(Capability.SETPCAP):
        return  # no risk: no_new_privs is set before every exec
    for capability in range(_LAST_POSSIBLE + 1):
        if capability in left:
            continue
        try:
            prctl(_PR_CAPBSET_DROP, capability)
        except OSError:
            break  # EINVAL: past the last capability that this kernel has
