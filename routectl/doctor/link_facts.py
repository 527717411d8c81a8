"""The interfaces of this network namespace, from netlink, drivers and /sys.

/sys/class/net shows the interfaces of the network namespace in which /sys was mounted, which may be
another one than that of this process. So an entry is used only if its ifindex is the right one, and
everything that the kernel also reports by netlink comes from there.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator

from routectl.doctor.ethtool import Ethtool
from routectl.doctor.facts import Interrupt, LinkFacts
from routectl.doctor.files import Files, cpu_list
from routed.netlink.message import (
    IFINFOMSG,
    NLM_F_DUMP,
    NLM_F_REQUEST,
    NLMSG_DONE,
    NLMSG_ERROR,
    RTM_GETLINK,
    RTM_NEWLINK,
    Ifla,
    NetlinkDecodeError,
    NetlinkMessage,
    attributes,
    decode_error,
    decode_u32,
    pack_message,
    split_messages,
)

__all__ = ["decode_link", "read_links"]

_LINK, _STATS64, _NUM_RX_QUEUES, _LINK_NETNSID = 5, 23, 32, 37
"""Attributes of a link (linux/if_link.h) that only these facts need."""
_IFF_UP, _IFF_LOOPBACK = 0x1, 0x8
_RING_LOSSES = (11, 14, 15)
"""Positions in struct rtnl_link_stats64: rx_over_errors, rx_fifo_errors, rx_missed_errors."""
_RECEIVE_BYTES = 256 * 1024
_TIMEOUT_S = 2.0


def read_links(files: Files) -> tuple[LinkFacts, ...]:
    """Return the interfaces that are up, without loopbacks.

    Raises:
        OSError: netlink cannot be used.
        NetlinkDecodeError: the kernel's answer is malformed.
    """
    occurred, machine = files.interrupts(), files.cpus()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as query:
        return tuple(
            _with_driver(link, Ethtool(query, link.name), files, occurred, machine)
            for link in _dump()
        )


def _dump() -> Iterator[LinkFacts]:
    body = IFINFOMSG.pack(0, 0, 0, 0, 0)
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE) as netlink:
        netlink.settimeout(_TIMEOUT_S)
        netlink.send(pack_message(RTM_GETLINK, NLM_F_REQUEST | NLM_F_DUMP, 1, body))
        while True:
            for message in split_messages(netlink.recv(_RECEIVE_BYTES)):
                if message.type == NLMSG_DONE:
                    return
                if message.type == NLMSG_ERROR:
                    raise OSError(*decode_error(message))
                link = decode_link(message)
                if link is not None:
                    yield link


def decode_link(message: NetlinkMessage) -> LinkFacts | None:
    """Decode a link message. Returns None for a loopback and for a link that is down.

    Raises:
        NetlinkDecodeError: the message is malformed.
    """
    payload = message.payload
    if message.type != RTM_NEWLINK or len(payload) < IFINFOMSG.size:
        raise NetlinkDecodeError(f"it has type {message.type} and {len(payload)} bytes")
    _family, _hardware, ifindex, flags, _changed = IFINFOMSG.unpack_from(payload)
    if flags & _IFF_LOOPBACK or not flags & _IFF_UP:
        return None
    found = dict(attributes(payload, IFINFOMSG.size, len(payload)))
    info = found.get(Ifla.LINKINFO, b"")
    kind = dict(attributes(info, 0, len(info))).get(Ifla.INFO_KIND, b"")
    return LinkFacts(
        name=found.get(Ifla.IFNAME, b"").rstrip(b"\0").decode("utf-8", "surrogateescape"),
        ifindex=ifindex,
        mtu=_number(found, Ifla.MTU) or 0,
        kind=kind.rstrip(b"\0").decode("ascii", "replace"),
        link=None if _LINK_NETNSID in found else _number(found, _LINK),
        master=_number(found, Ifla.MASTER),
        ring_losses=_ring_losses(found.get(_STATS64, b"")),
        queues=_number(found, _NUM_RX_QUEUES) or 1,
    )


def _number(found: dict[int, bytes], kind: int) -> int | None:
    return decode_u32(found[kind]) if kind in found else None


def _ring_losses(stats: bytes) -> int:
    counters = struct.unpack_from(f"={len(stats) // 8}Q", stats)
    return sum(counters[place] for place in _RING_LOSSES if place < len(counters))


def _with_driver(
    link: LinkFacts, driver: Ethtool, files: Files, occurred: set[int], machine: frozenset[int]
) -> LinkFacts:
    """Add what only the driver and /sys know."""
    folder = f"sys/class/net/{link.name}"
    is_shown = "/" not in link.name and files.number(f"{folder}/ifindex") == link.ifindex
    has_device = is_shown and bool(files.names(f"{folder}/device"))
    in_use, most = driver.queues() or (link.queues, None)
    link = link._replace(
        has_device=has_device,
        queues=in_use or link.queues,
        queues_max=most,
        has_lro=driver.has_lro(),
        has_gro=driver.has_gro(),
        has_checksum_offload=driver.has_checksum_offload(),
        ring=driver.ring(),
    )
    if not has_device:
        return link
    near = cpu_list(files.text(f"{folder}/device/local_cpulist"))
    return link._replace(
        interrupts=tuple(_interrupts(files, folder, occurred)),
        numa_cpus=near if near and near < machine else None,
        has_rps=_has_rps(files, folder),
    )


def _interrupts(files: Files, folder: str, occurred: set[int]) -> Iterator[Interrupt]:
    """Yield the interrupts of a device; of a virtio device, those of the PCI device above it."""
    for place in ("device/msi_irqs", "device/../msi_irqs"):
        for name in sorted(files.names(f"{folder}/{place}"), key=lambda text: (len(text), text)):
            if name.isdigit() and int(name) in occurred:
                cpus = files.text(f"proc/irq/{name}/effective_affinity_list") or files.text(
                    f"proc/irq/{name}/smp_affinity_list"
                )
                yield Interrupt(int(name), cpu_list(cpus))


def _has_rps(files: Files, folder: str) -> bool | None:
    masks = [
        files.text(f"{folder}/queues/{queue}/rps_cpus")
        for queue in files.names(f"{folder}/queues")
        if queue.startswith("rx-")
    ]
    known = [mask for mask in masks if mask is not None]
    return any(mask.strip("0,") for mask in known) if known else None
