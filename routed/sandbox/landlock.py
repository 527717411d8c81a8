"""Landlock: a domain without any rule, which forbids everything that landlock can restrict.

    ABI 1-3  every access to files and directories by path
    ABI 4    TCP bind and connect
    ABI 5    ioctl on devices
    ABI 6    abstract Unix sockets and signals to processes outside the domain

Open descriptors stay usable, as do those received by SCM_RIGHTS. A domain applies to the thread
that enters it and to those it starts, so it is entered while there is a single thread.

Failure: missing support is no error; the ABI number shows what the kernel can restrict, 0 nothing.

Source: landlock(7), Documentation/userspace-api/landlock.rst of Linux.
"""

from __future__ import annotations

import os
import struct

from routed.sandbox.kernel import syscall

__all__ = ["SCOPE_ABI", "TCP_ABI", "available_abi", "forbid_everything"]

TCP_ABI = 4
"""The first ABI with TCP."""
SCOPE_ABI = 6
"""The first ABI with scopes: signals and abstract sockets."""

_CREATE_RULESET, _RESTRICT_SELF = 444, 446
"""The same on every machine, as all numbers from 424 on."""
_CREATE_RULESET_VERSION = 1
_FS_ACCESS_BITS = {1: 13, 2: 14, 3: 15, 4: 15, 5: 16}
"""Number of file access rights in an ABI (LANDLOCK_ACCESS_FS_*); unchanged since ABI 5."""
_NET_ACCESS = 0b11
"""LANDLOCK_ACCESS_NET_BIND_TCP and _CONNECT_TCP."""
_SCOPES = 0b11
"""LANDLOCK_SCOPE_ABSTRACT_UNIX_SOCKET and _SIGNAL."""


def available_abi() -> int:
    """Return the kernel's landlock ABI; 0 if it was built or booted without landlock."""
    try:
        return syscall(_CREATE_RULESET, None, 0, _CREATE_RULESET_VERSION)
    except OSError:
        return 0


def ruleset_of(abi: int) -> bytes:
    """Pack a struct landlock_ruleset_attr that handles all rights of an ABI (1 or later)."""
    fs_access = (1 << _FS_ACCESS_BITS[min(abi, 5)]) - 1
    attributes = struct.pack("=QQQ", fs_access, _NET_ACCESS, _SCOPES)
    size = 8 if abi < TCP_ABI else 16 if abi < SCOPE_ABI else 24
    return attributes[:size]


def forbid_everything() -> int:
    """Enter the empty domain; no_new_privs must be set.

    Returns:
        The ABI in use; 0 if the kernel has no landlock, so that nothing is forbidden.

    Raises:
        OSError: the kernel has landlock but refused (EPERM without no_new_privs).
    """
    abi = available_abi()
    if abi == 0:
        return 0
    attributes = ruleset_of(abi)
    ruleset = syscall(_CREATE_RULESET, attributes, len(attributes), 0)
    try:
        syscall(_RESTRICT_SELF, ruleset, 0)
    finally:
        os.close(ruleset)
    return abi
