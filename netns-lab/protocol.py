"""The protocol between the holder and its clients.

One request, one reply, each one SOCK_SEQPACKET message of JSON; descriptors are passed with a reply
(SCM_RIGHTS). The socket has an abstract name (unix(7)), `netns-lab/UID/NAME`: there is no file, so
nothing is left when the holder is killed, and /proc/net/unix lists every lab of this machine (more
exactly, of this network namespace).

    request                                            reply
    {"do": "describe"}                                 {"topology", "is_rootless"}
    {"do": "namespaces", "of": ROUTER}                 {"kinds": [...]} + that many descriptors
    {"do": "run_directory"}                            {} + 1 descriptor
    {"do": "socket", "of": ROUTER, "family", "type", "protocol"}     {} + 1 descriptor
    {"do": "children", "pid": PID}                     {"pids": [...]}
    {"do": "signal", "pid": PID, "signal": N}          {"found": bool}
    {"do": "stop"}                                     {}, and the lab ends

A failed request is answered {"error": TEXT}. PIDs are those of the lab's own PID namespace, as in
its pid files.

Both ends check by SO_PEERCRED that the other is the same user, because any user may bind or connect
to an abstract name.
"""

from __future__ import annotations

import json
import os
import re
import socket
import struct
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

__all__ = [
    "ENGINE_UID",
    "ENGINE_USER",
    "RUN_DIRECTORY",
    "address_of",
    "names_of_labs",
    "peer_of",
    "receive",
    "send",
]

ENGINE_USER = "routed"
ENGINE_UID = 61698
"""Uid of a lab's engines, known only to the lab's /etc/passwd. It is not that of the user nobody:
other services with that uid could send signals to the engines."""

RUN_DIRECTORY = "/dev/shm"
"""Mount point of the lab's tmpfs, which has one directory per router. The directory exists on every
Linux system, any user may mount over it in a private namespace, and no program is installed in it
(a checkout, a virtual environment or all of NixOS may be under /run, /mnt or /tmp)."""

_MESSAGE_MAX_BYTES = 1 << 18
_DESCRIPTORS_MAX = 8
_UCRED = struct.Struct("3i")


def address_of(name: str) -> str:
    """Return the abstract socket address of this user's lab with a name."""
    return f"\0netns-lab/{os.getuid()}/{name}"


def names_of_labs() -> list[str]:
    """Return the names of this user's labs that are up."""
    pattern = re.compile(rf"@netns-lab/{os.getuid()}/(\S+)$")
    lines = Path("/proc/net/unix").read_text(encoding="utf-8", errors="replace").splitlines()
    found = {match.group(1) for line in lines if (match := pattern.search(line))}
    return sorted(found)


def peer_of(connection: socket.socket) -> tuple[int, int]:
    """Return PID and uid of the process at the other end (for a client: the one that listens)."""
    ucred = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size)
    pid, uid, _ = _UCRED.unpack(ucred)
    return pid, uid


def send(
    connection: socket.socket, message: Mapping[str, Any], descriptors: Sequence[int] = ()
) -> None:
    """Send one message.

    Raises:
        OSError: the other end has closed the connection.
    """
    socket.send_fds(connection, [json.dumps(message).encode()], list(descriptors))


def receive(connection: socket.socket) -> tuple[dict[str, Any], list[int]]:
    """Receive one message and its descriptors, which the caller owns.

    Raises:
        EOFError: the other end has closed the connection.
        OSError: the connection was reset.
        ValueError: it is not a JSON object.
    """
    data, descriptors, _, _ = socket.recv_fds(
        connection, _MESSAGE_MAX_BYTES, _DESCRIPTORS_MAX, socket.MSG_CMSG_CLOEXEC
    )
    if not data:
        raise EOFError("the other end is gone")
    message = json.loads(data)
    if not isinstance(message, dict):
        raise ValueError(f"expected a JSON object, got {message!r}")
    return message, descriptors
