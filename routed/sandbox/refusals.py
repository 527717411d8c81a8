"""Refused system calls of the engine, reported to the parent one by one.

    engine: a call that its filter refuses --waits--> kernel --notification--> parent: counts,
                                                      kernel <--EPERM--------- answers

The filter's answer EPERM leaves no trace anywhere; SECCOMP_RET_USER_NOTIF does (Linux 5.0). The
calling thread waits until the parent has answered, and the parent always answers EPERM: it never
reads an argument, which the engine could change meanwhile, and never lets a call continue. Another
thread of the engine could not answer: some calls are made while the interpreter lock is held.

When the parent exits, the kernel answers ENOSYS, and the engine is killed with its parent.

Failure: `NotAListenerError` for a descriptor that is not a seccomp listener.

Sources: seccomp_unotify(2); linux/seccomp.h.
"""

from __future__ import annotations

import errno
import fcntl
import os
import select
import struct

from routed.sandbox.kernel import Machine, here
from routed.sandbox.syscalls import COMMON_REFUSALS, NUMBERS

__all__ = ["NotAListenerError", "RefusalListener", "name_of"]

_NOTIFICATION = struct.Struct("=QIIiIQ6Q")
"""struct seccomp_notif: id, pid, flags; then struct seccomp_data: number, architecture, instruction
pointer, arguments."""
_RESPONSE = struct.Struct("=QqiI")
"""struct seccomp_notif_resp: id, value, error, flags."""
_RECEIVE, _SEND, _IS_VALID = 0xC050_2100, 0xC018_2101, 0x4008_2102
"""_IOWR('!', 0, 80), _IOWR('!', 1, 24), _IOW('!', 2, 8)."""


class NotAListenerError(Exception):
    """The descriptor is not a seccomp listener."""


class RefusalListener:
    """Owner of the descriptor that reports the refused calls of one process."""

    def __init__(self, descriptor: int) -> None:
        """Take ownership of a descriptor that an untrusted process sent.

        Raises:
            NotAListenerError: it is not a listener; it has been closed.
        """
        self._descriptor = descriptor
        try:
            fcntl.ioctl(descriptor, _IS_VALID, struct.pack("=Q", 0))
        except OSError as error:
            if error.errno == errno.ENOENT:  # a listener without a notification 0
                return
        self.close()
        raise NotAListenerError("a descriptor that is no seccomp listener")

    def fileno(self) -> int:
        """Return the descriptor: readable if a call waits for an answer, or the process ended."""
        return self._descriptor

    def has_ended(self) -> bool:
        """Whether the process has ended."""
        poll = select.poll()
        poll.register(self._descriptor, select.POLLIN)
        return any(events & select.POLLHUP for _, events in poll.poll(0))

    def refuse(self) -> str | None:
        """Answer one call. Returns its name, or None if the caller has ended.

        Never blocks once the descriptor is readable.
        """
        buffer = bytearray(_NOTIFICATION.size)
        try:
            fcntl.ioctl(self._descriptor, _RECEIVE, buffer)
            notification, _, _, number, *_ = _NOTIFICATION.unpack(buffer)
            fcntl.ioctl(self._descriptor, _SEND, _RESPONSE.pack(notification, 0, -errno.EPERM, 0))
        except OSError as error:
            if error.errno in (errno.ENOENT, errno.EINTR):
                return None  # the caller was killed meanwhile
            raise
        return name_of(number, here())

    def close(self) -> None:
        """Close the descriptor: waiting and later calls get ENOSYS. May be called again."""
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)


def name_of(number: int, machine: Machine | None) -> str:
    """Return a system call's name, or `call-NUMBER` if it is unknown."""
    if machine is not None:
        for names in (NUMBERS[machine], COMMON_REFUSALS[machine]):
            for name, known in names.items():
                if known == number:
                    return name
    return f"call-{number}"
