"""`routed --import-kernel`: reads the kernel, and returns a routes.yaml as text."""

from __future__ import annotations

import socket

from routed.config.scalars import route_protocol
from routed.config.table_scalars import table
from routed.kernel_import.document import Found, ImportChoice, write_document
from routed.kernel_import.dump import KernelReader
from routed.kernel_import.entries import Surroundings

__all__ = ["DEFAULT_PROTOCOLS", "import_kernel", "read_choice"]

DEFAULT_PROTOCOLS = "boot,static"
"""Protocols of routes that an administrator adds: by `ip route add`, and by configuration files."""


def read_choice(protocols: str, table_text: str) -> ImportChoice:
    """Read the options of the command line.

    Args:
        protocols: names or numbers, separated by commas.
        table_text: a table as in routes.yaml.

    Raises:
        ValueError: there is no such protocol or table; the text says what is expected.
    """
    numbers = [route_protocol.read(name.strip()) for name in protocols.split(",")]
    return ImportChoice(frozenset(numbers), table.read(table_text))


def import_kernel(choice: ImportChoice) -> str:
    """Read the kernel of this network namespace. Returns the text of a configuration.

    Raises:
        NetlinkError: the kernel refused.
        NetlinkDecodeError: a message of the kernel is malformed.
        OSError: there is no netlink socket.
    """
    with KernelReader() as kernel:
        objects = {seen.id: seen.form for seen in kernel.nexthops()}
        found = Found(
            routes=kernel.routes(),
            rules=kernel.rules(),
            around=Surroundings(choice.table_id, _link_name, objects),
            addresses=kernel.addresses(),
        )
    return write_document(found, choice)


def _link_name(ifindex: int) -> str:
    """Return the name of a link; a number that no name can be if the link is gone."""
    try:
        return socket.if_indextoname(ifindex)
    except OSError:
        return f"if:{ifindex}"
