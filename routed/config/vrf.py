"""Lookup of the kernel table of a VRF by name, when the configuration file is read.

`table: vrf:red` means the table of the VRF device `red`. Like users and groups, a VRF is a name in
the file and a number in the decoded configuration. If a VRF is created again with another table, a
reload is necessary.

Failure: ValueError, to which the decoder adds file, line and column: the kernel does not support
VRFs or cannot be asked, the link does not exist, or it is not a VRF. The text says what to do.

Sources: Documentation/networking/vrf.rst of Linux; rtnetlink(7); IFLA_VRF_TABLE in linux/if_link.h.
"""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Callable
from pathlib import Path

from routed.netlink.message import (
    IFINFOMSG,
    NLM_F_REQUEST,
    NLMSG_ERROR,
    RTM_GETLINK,
    RTM_NEWLINK,
    Ifla,
    NetlinkDecodeError,
    NetlinkMessage,
    attributes,
    decode_error,
    decode_vrf_table,
    pack_attribute,
    pack_message,
    split_messages,
)

__all__ = ["table_of_vrf"]

_L3MDEV = Path("/proc/sys/net/ipv4/tcp_l3mdev_accept")
"""Exists if the kernel supports VRFs (CONFIG_NET_L3_MASTER_DEV)."""

_ANSWER_BYTES = 64 * 1024


def _ask_kernel(request: bytes) -> bytes:
    kind = socket.SOCK_RAW | socket.SOCK_CLOEXEC
    with socket.socket(socket.AF_NETLINK, kind, socket.NETLINK_ROUTE) as connection:
        connection.send(request)
        return connection.recv(_ANSWER_BYTES)


def table_of_vrf(
    name: str, ask: Callable[[bytes], bytes] = _ask_kernel, l3mdev: Path = _L3MDEV
) -> int:
    """Look up the table of a VRF device of this network namespace.

    Args:
        name: name of the device.
        ask: sends a request to the kernel and returns its answer.
        l3mdev: path of a file that exists if the kernel supports VRFs.

    Raises:
        ValueError: there is no such VRF, or the kernel cannot be asked; the text says what to do.
    """
    if not l3mdev.exists():
        raise ValueError("this kernel has no VRFs; use the number of a table")
    body = IFINFOMSG.pack(0, 0, 0, 0, 0) + pack_attribute(Ifla.IFNAME, name.encode() + b"\0")
    try:
        answer = ask(pack_message(RTM_GETLINK, NLM_F_REQUEST, 1, body))
    except OSError as error:
        raise ValueError(f"the kernel does not answer about {name!r}: {error.strerror}") from error
    try:
        table = _decode_answer(name, next(split_messages(answer)))
    except (NetlinkDecodeError, StopIteration) as error:
        raise ValueError(f"the kernel's answer about {name!r} cannot be read: {error}") from error
    if not table:
        raise ValueError(f"the link {name!r} is not a VRF")
    return table


def _decode_answer(name: str, answer: NetlinkMessage) -> int:
    """Decode the table of a VRF; 0 for a link that is not a VRF."""
    payload = answer.payload
    if answer.type == NLMSG_ERROR:
        number, _ = decode_error(answer)
        if number == errno.ENODEV:
            raise ValueError(
                f"there is no VRF {name!r}: create it first (`ip link add {name} type vrf table "
                "N`), or use the number of a table"
            )
        raise ValueError(f"the kernel does not show {name!r}: {os.strerror(number)}")
    if answer.type != RTM_NEWLINK:
        return 0
    found = dict(attributes(payload, IFINFOMSG.size, len(payload)))
    return decode_vrf_table(found.get(Ifla.LINKINFO, b""))
