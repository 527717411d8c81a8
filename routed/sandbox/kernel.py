"""System calls that the standard library does not offer, and the machine that we run on.

This uses only ctypes; libcap and libseccomp are not needed. The numbers are those of the table in
`syscalls.py`, which has two machines; on others seccomp and landlock are reported as missing.

Failure: OSError with the kernel's errno.
"""

from __future__ import annotations

import ctypes
import enum
import errno
import os
import platform
import sys

__all__ = ["Machine", "here", "is_unknown", "libc", "prctl", "syscall"]


class Machine(enum.Enum):
    """The supported instruction sets, by their names in uname(2)."""

    X86_64 = "x86_64"
    AARCH64 = "aarch64"


def here() -> Machine | None:
    """Return the machine that this process runs on, or None if there is no table for it.

    That includes a 32-bit interpreter on a 64-bit kernel, whose call numbers differ from uname(2).
    """
    if sys.maxsize < 1 << 32 or sys.byteorder != "little":
        return None
    try:
        return Machine(platform.machine())
    except ValueError:
        return None


libc = ctypes.CDLL(None, use_errno=True)
libc.syscall.restype = ctypes.c_long


def _check(result: int) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return result


def syscall(number: int, *arguments: int | bytes | None) -> int:
    """Make a system call by its number.

    Args:
        number: the number on this machine.
        arguments: integers, or bytes that the kernel only reads; None is a null pointer.

    Raises:
        OSError: the kernel's error; ENOSYS if it does not have the call.
    """
    words = [
        ctypes.c_char_p(argument) if isinstance(argument, bytes) else ctypes.c_void_p(argument)
        for argument in arguments
    ]
    return _check(int(libc.syscall(ctypes.c_long(number), *words)))


def prctl(option: int, *arguments: int) -> int:
    """Call prctl(2); missing arguments are zero, as the newer options require.

    Raises:
        OSError: EINVAL if the kernel does not support the option or its value.
    """
    padded = [*arguments, 0, 0, 0, 0][:4]
    return _check(int(libc.prctl(option, *[ctypes.c_ulong(argument) for argument in padded])))


def is_unknown(error: OSError) -> bool:
    """Whether an error means that this kernel lacks the feature, not that permission is denied."""
    return error.errno in (errno.ENOSYS, errno.EINVAL, errno.EOPNOTSUPP)
