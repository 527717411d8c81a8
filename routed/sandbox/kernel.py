"""System calls that the standard library does not offer, and the machine that we run on.

ctypes and nothing else: no libcap, libseccomp or libprctl has to be there. The numbers are those of
the table in `syscalls.py`, for the two machines that it knows; on others seccomp and landlock
are reported as missing.

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
    """The instruction sets whose system calls we know, by what uname(2) calls them."""

    X86_64 = "x86_64"
    AARCH64 = "aarch64"


def here() -> Machine | None:
    """The machine that this process runs on; None when we have no table for it.

    A 32-bit interpreter on a 64-bit kernel makes other calls than uname(2) promises.
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
        number: on this machine.
        arguments: numbers, or bytes that the kernel only reads; None is a null pointer.

    Raises:
        OSError: as the kernel answered; ENOSYS when it does not know the call.
    """
    words = [
        ctypes.c_char_p(argument) if isinstance(argument, bytes) else ctypes.c_void_p(argument)
        for argument in arguments
    ]
    return _check(int(libc.syscall(ctypes.c_long(number), *words)))


def prctl(option: int, *arguments: int) -> int:
    """prctl(2); what is not given is zero, as the newer options demand.

    Raises:
        OSError: EINVAL when the kernel does not know the option or its value.
    """
    padded = [*arguments, 0, 0, 0, 0][:4]
    return _check(int(libc.prctl(option, *[ctypes.c_ulong(argument) for argument in padded])))


def is_unknown(error: OSError) -> bool:
    """Whether an error says that this kernel has no such thing, rather than that we may not."""
    return error.errno in (errno.ENOSYS, errno.EINVAL, errno.EOPNOTSUPP)
