"""Identity of the peer of a Unix socket, as reported by the kernel.

There are two sources, and both must agree (the confused deputy: a set-uid program can be made to
write our bytes on a socket that another process connected):

    SO_PEERCRED       the process that called connect(2), with SO_PEERGROUPS; fixed from then on
    SCM_CREDENTIALS   the process that wrote this message; only if SO_PASSCRED is set *before* it
                      is written, hence on the listening socket, whose accepted children inherit it

A message without credentials, with truncated ancillary data, or from the overflow ids that the
kernel substitutes when it does not know the sender (pid 0 and uid 65534) is rejected. Pid 0 with
another uid is a process of another PID namespace, such as a sidecar container: it is served by its
uid.

Source: unix(7); the overflow substitution was observed on Linux 6.18.
"""

from __future__ import annotations

import array
import errno
import socket
import struct
from collections.abc import Iterable

from ipc.framing import IpcError
from ipc.lazy_dataclass import dataclass

__all__ = [
    "CredentialsError",
    "PeerCredentials",
    "credentials_space",
    "message_uid",
    "peer_credentials",
]

_UCRED = struct.Struct("iII")
_SO_PEERGROUPS = 59
_OVERFLOW_UID = 65534
"""The default of kernel.overflowuid: a uid that this user namespace does not have."""
_MSG_CTRUNC = int(socket.MSG_CTRUNC)
"""MSG_CTRUNC as a plain number: an `enum.IntFlag` costs 3 us at each message."""
_GROUPS_READ_MAX = 256
"""Python's getsockopt returns at most 1024 bytes, four per group."""


class CredentialsError(IpcError):
    """The kernel did not identify the sender."""


@dataclass(frozen=True, slots=True)
class PeerCredentials:
    """Identity of the process that connected, at that time."""

    pid: int
    """Pid of the process, for logs only: it can be reused. 0 for a process of another PID
    namespace."""
    uid: int
    gid: int
    groups: frozenset[int]
    """Primary and supplementary groups."""


def credentials_space() -> int:
    """Return the bytes of control buffer for one SCM_CREDENTIALS."""
    return socket.CMSG_SPACE(_UCRED.size)


def peer_credentials(connection: socket.socket) -> PeerCredentials:
    """Return the credentials of the process that connected.

    Raises:
        OSError: not a connected Unix socket.
    """
    pid, uid, gid = _UCRED.unpack(
        connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size)
    )
    return PeerCredentials(pid, uid, gid, frozenset({gid, *_peer_groups(connection)}))


def _peer_groups(connection: socket.socket) -> array.array[int]:
    """Return the supplementary groups; none if there are more than can be read.

    A user in more than 256 groups is then authorised by uid and primary group alone, which never
    grants more rights than are due.
    """
    groups = array.array("I")
    try:
        groups.frombytes(
            connection.getsockopt(
                socket.SOL_SOCKET, _SO_PEERGROUPS, _GROUPS_READ_MAX * groups.itemsize
            )
        )
    except OSError as error:
        if error.errno != errno.ERANGE:
            raise
    return groups


def message_uid(ancillary: Iterable[tuple[int, int, bytes]], flags: int) -> int:
    """Return the uid of the process that wrote one message.

    Args:
        ancillary: ancillary data from recvmsg.
        flags: message flags of the same recvmsg.

    Raises:
        CredentialsError: there are no credentials, they are truncated, or the kernel does not know
            the sender.
    """
    if flags & _MSG_CTRUNC:
        raise CredentialsError("the ancillary data was truncated")
    for level, kind, payload in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_CREDENTIALS:
            if len(payload) < _UCRED.size:
                raise CredentialsError("the credentials are cut short")
            pid, uid, _gid = _UCRED.unpack_from(payload)
            # A process of another PID namespace has a uid here and no pid (scm_recv of Linux).
            if pid == 0 and uid == _OVERFLOW_UID:
                raise CredentialsError("the kernel does not know who wrote the message")
            return int(uid)
    raise CredentialsError("the message carries no credentials")
