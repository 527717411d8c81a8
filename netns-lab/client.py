"""Client of the holder: one method per request of protocol.py.

The holder passes descriptors, which keeps the rest of the lab simple. A socket that the holder
opened inside a router works here without setns, a thread or a helper process, and a directory
descriptor gives access to the lab's private tmpfs.
"""

from __future__ import annotations

import os
import socket
from typing import Any

import protocol

__all__ = ["HolderClient", "LabError"]


class LabError(Exception):
    """The lab could not carry out a request; the text gives the reason."""


class HolderClient:
    """A connection to the holder of one lab."""

    def __init__(self, name: str) -> None:
        """Connect.

        Raises:
            LabError: there is no such lab, or it belongs to another user.
        """
        self.name = name
        self._connection = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            self._connection.connect(protocol.address_of(name))
        except OSError as error:
            self._connection.close()
            known = ", ".join(protocol.names_of_labs()) or "none"
            raise LabError(f"no lab named {name!r} is up (up now: {known})") from error
        self.holder_pid, uid = protocol.peer_of(self._connection)
        if uid != os.getuid():
            self._connection.close()
            raise LabError(f"the lab {name!r} belongs to uid {uid}")

    def close(self) -> None:
        """Close the connection; the lab is not changed."""
        self._connection.close()

    def _ask(self, do: str, **arguments: Any) -> tuple[dict[str, Any], list[int]]:
        try:
            protocol.send(self._connection, {"do": do, **arguments})
            reply, descriptors = protocol.receive(self._connection)
        except (EOFError, OSError) as error:
            raise LabError(f"the lab {self.name!r} has ended") from error
        if "error" in reply:
            raise LabError(str(reply["error"]))
        return reply, descriptors

    def describe(self) -> tuple[dict[str, Any], bool]:
        """Return the topology's document, and whether the lab is in a user namespace."""
        reply, _ = self._ask("describe")
        return reply["topology"], reply["is_rootless"]

    def namespaces(self, router: str) -> dict[str, int]:
        """Return the descriptors of a router's namespaces by kind, in the order in which to enter
        them.

        Raises:
            LabError: there is no such router, or the lab has ended; this holds for all methods.
        """
        reply, descriptors = self._ask("namespaces", of=router)
        return dict(zip(reply["kinds"], descriptors, strict=True))

    def run_directory(self) -> int:
        """Return a descriptor of the lab's tmpfs, which has one directory per router."""
        return self._ask("run_directory")[1][0]

    def open_socket(
        self, router: str, family: int, kind: int, protocol_number: int
    ) -> socket.socket:
        """Return a socket that was opened in a router's network namespace."""
        arguments = {"family": family, "type": kind, "protocol": protocol_number}
        _, (descriptor,) = self._ask("socket", of=router, **arguments)
        return socket.socket(family, kind, protocol_number, fileno=descriptor)

    def children(self, pid: int) -> list[int]:
        """Return the child processes of a process of the lab."""
        return list(self.children_by_role(pid))

    def children_by_role(self, pid: int) -> dict[int, str]:
        """Return the child processes of a process of the lab, each with its option `--role`; empty
        for a process without one."""
        reply, _ = self._ask("children", pid=pid)
        return dict(zip(map(int, reply["pids"]), map(str, reply["roles"]), strict=True))

    def signal(self, pid: int, number: int) -> bool:
        """Send a signal to a process of the lab. Returns whether the process exists; signal 0 only
        checks."""
        return bool(self._ask("signal", pid=pid, signal=int(number))[0]["found"])

    def stop(self) -> None:
        """End the lab and all its processes."""
        self._ask("stop")
