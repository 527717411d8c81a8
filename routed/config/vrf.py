"""A VRF by name: the kernel table that its device stands for, asked when the file is read.

`table: vrf:red` means the table of the VRF device `red`, as users and groups are names in the file
and numbers in the configuration. A VRF that is made anew with another table needs a reload.

Failure: ValueError with what to do, which the decoder puts beside file, line and column: this
kernel has no VRFs, no such link, a link that is no VRF.

Sources: Documentation/networking/vrf.rst of Linux; rtnetlink(7); IFLA_VRF_TABLE in linux/if_link.h.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
from collections.abc import Callable
from pathlib import Path

__all__ = ["table_of_vrf"]

_L3MDEV = Path("/proc/sys/net/ipv4/tcp_l3mdev_accept")
"""There when the kernel has what VRFs are made of (CONFIG_NET_L3_MASTER_DEV)."""

_RTM_NEWLINK, _RTM_GETLINK, _NLMSG_ERROR, _NLM_F_REQUEST = 16, 18, 2, 1
_IFLA_IFNAME, _IFLA_LINKINFO = 3, 18
_IFLA_INFO_KIND, _IFLA_INFO_DATA, _IFLA_VRF_TABLE = 1, 2, 1
_TYPE_MASK = 0x3FFF
_HEADER = struct.Struct("=IHHII")
_IFINFO = struct.Struct("=BxHiII")
_ATTRIBUTE = struct.Struct("=HH")
_ANSWER_BYTES = 64 * 1024


def _ask_kernel(request: bytes) -> bytes:
    kind = socket.SOCK_RAW | socket.SOCK_CLOEXEC
    with socket.socket(socket.AF_NETLINK, kind, socket.NETLINK_ROUTE) as connection:
        connection.send(request)
        return connection.recv(_ANSWER_BYTES)


def table_of_vrf(
    name: str, ask: Callable[[bytes], bytes] = _ask_kernel, l3mdev: Path = _L3MDEV
) -> int:
    """The table of a VRF device of this network namespace.

    Args:
        name: of the device.
        ask: hands the kernel a request and returns its answer.
        l3mdev: a file that is there when the kernel has VRFs.

    Raises:
        ValueError: there is none, with what to do.
    """
    if not l3mdev.exists():
        raise ValueError("this kernel has no VRFs; use the number of a table")
    written = name.encode() + b"\0"
    attribute = _ATTRIBUTE.pack(_ATTRIBUTE.size + len(written), _IFLA_IFNAME) + written
    body = _IFINFO.pack(0, 0, 0, 0, 0) + attribute + bytes(-len(attribute) % 4)
    length = _HEADER.size + len(body)
    answer = ask(_HEADER.pack(length, _RTM_GETLINK, _NLM_F_REQUEST, 1, 0) + body)
    kind, payload = _HEADER.unpack_from(answer)[1], answer[_HEADER.size :]
    if kind == _NLMSG_ERROR:
        number = -int(struct.unpack_from("=i", payload)[0])
        if number == errno.ENODEV:
            raise ValueError(
                f"there is no VRF {name!r}: make it first (`ip link add {name} type vrf table N`), "
                "or use the number of a table"
            )
        raise ValueError(f"the kernel does not tell about {name!r}: {os.strerror(number)}")
    info = _attributes(_attributes(payload[_IFINFO.size :]).get(_IFLA_LINKINFO, b""))
    if kind != _RTM_NEWLINK or info.get(_IFLA_INFO_KIND, b"").rstrip(b"\0") != b"vrf":
        raise ValueError(f"the link {name!r} is no VRF")
    data = _attributes(info.get(_IFLA_INFO_DATA, b""))
    return int(struct.unpack("=I", data[_IFLA_VRF_TABLE])[0])


def _attributes(data: bytes) -> dict[int, bytes]:
    found, offset = {}, 0
    while offset + _ATTRIBUTE.size <= len(data):
        length, kind = _ATTRIBUTE.unpack_from(data, offset)
        found[kind & _TYPE_MASK] = data[offset + _ATTRIBUTE.size : offset + length]
        offset += (max(length, _ATTRIBUTE.size) + 3) & ~3
    return found
