"""The sender of a message, as reported by the kernel, in this PID namespace or another."""

from __future__ import annotations

import socket
import struct

import pytest

from ipc.credentials import CredentialsError, message_uid


def credentials(pid: int, uid: int) -> list[tuple[int, int, bytes]]:
    return [(socket.SOL_SOCKET, socket.SCM_CREDENTIALS, struct.pack("iII", pid, uid, uid))]


@pytest.mark.parametrize(("pid", "uid"), [(4711, 0), (4711, 65534), (0, 0), (0, 1000)])
def test_a_writer_has_its_uid_with_a_pid_here_or_none(pid: int, uid: int) -> None:
    assert message_uid(credentials(pid, uid), 0) == uid


def test_what_the_kernel_does_not_know_is_refused() -> None:
    with pytest.raises(CredentialsError, match="does not know"):
        message_uid(credentials(0, 65534), 0)
    with pytest.raises(CredentialsError, match="no credentials"):
        message_uid([], 0)
    with pytest.raises(CredentialsError, match="truncated"):
        message_uid(credentials(4711, 0), int(socket.MSG_CTRUNC))
