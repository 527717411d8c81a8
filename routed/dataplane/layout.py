"""The arrays that the programs and this process share: places, sizes, words for people. Pure.

    places    [256]                           ifindex, slot, header bytes   parent --> programs
    links     [processor][slot][direction]    frames by protocol and size   programs --> engine
    activity  [processor]                     runs begun and ended          programs --> engine
    words     [2^n]                           trie of the routes            engine --> programs
    routes    [record][direction]             packets and bytes             programs --> engine
    flows     [processor][set][8]             keys and counters             programs --> observer
    tags      [processor][set][8]             which places are taken        both
    ended     [processor][RING]               flows that were displaced     programs --> observer
    rings     [processor]                     how far they were read, and losses    both
    config    constants of the programs       masks, roots, seed            frozen

All are arrays of one element, in host byte order, and have the layout that `bpf/traffic.bpf.c`
declares; a test holds the two against each other. What is per processor is written without atomic
operations, since a program is never interrupted by another run of itself on its processor.

`words` is laid out as the snapshot is (`ipc/fib_layout.py`): default routes in the header, then the
trie region. It begins with the two root directories, whose places are constants.
"""

from __future__ import annotations

import enum
import struct
from typing import NamedTuple

__all__ = [
    "ACTIVITY_BYTES",
    "DIRECTIONS",
    "FAMILIES",
    "FLOW_BYTES",
    "KINDS",
    "LINKS_MAX",
    "LINK_BYTES",
    "PLACES",
    "PLACE_BYTES",
    "PROBES",
    "RECORDS_MAX",
    "RING",
    "RING_BYTES",
    "ROOT4",
    "ROOT6",
    "ROUTE_BYTES",
    "SIZE_CLASSES",
    "WAYS",
    "Sizes",
    "config_bytes",
    "header_bytes_of",
    "sizes_for",
]

LINKS_MAX = 64
"""Interfaces that are counted at a time."""
PLACES = 256
PLACE_BYTES = 8
PROBES = 8
"""Places that a program looks at for an interface."""

DIRECTIONS = ("received", "sent")
FAMILIES = ("none", "ipv4", "ipv6")
KINDS = (
    "other", "malformed", "icmp", "tcp", "udp", "gre", "esp", "ah",
    "tunnel", "ospf", "sctp", "igmp", "pim", "vrrp", "arp",
)  # fmt: skip
KIND_SLOTS = 16
SIZE_CLASSES = (
    "0-64", "65-127", "128-255", "256-511", "512-1023", "1024-1518", "1519-9216", "9217-",
)  # fmt: skip
"""Bytes of a frame, without its checksum."""

LINK_BYTES = 16 * len(FAMILIES) * KIND_SLOTS + 8 * len(SIZE_CLASSES)
ACTIVITY_BYTES = 64
ROUTE_BYTES = 16 * len(DIRECTIONS)
RECORDS_MAX = 1 << 22

WAYS = 8
"""Places for the flows of one hash."""
FLOW_BYTES = 96
RING = 4096
"""Ended flows of one processor that may wait for the observer."""
RING_BYTES = 64

ROOT4 = 1024
"""Word at which IPv4's root directory begins: behind the header, as in the snapshot."""
ROOT6 = ROOT4 + (2 << 18)
_FIRST_FREE = ROOT6 + (2 << 16)
_WORDS_PER_ROUTE = 4
"""A million routes of the Internet take 2.3 each; blocks that wait for their readers the rest."""


class Sizes(NamedTuple):
    """Number of elements of each array."""

    processors: int
    """A power of two; at least one more than the highest processor number."""
    words: int
    """A power of two."""
    records: int
    """Records with counters of their own; 0: routes are not counted."""
    flow_sets: int = 0
    """Sets of WAYS flows for each processor, a power of two; 0: flows are not counted."""

    @property
    def array_bytes(self) -> dict[str, int]:
        """Size of each array but `config`, by name, in bytes."""
        return {
            "places": PLACES * PLACE_BYTES,
            "links": self.processors * LINKS_MAX * len(DIRECTIONS) * LINK_BYTES,
            "activity": self.processors * ACTIVITY_BYTES,
            "words": 4 * self.words,
            "routes": max(self.records, 1) * ROUTE_BYTES,
            "flows": self.processors * max(self.flow_sets, 1) * WAYS * FLOW_BYTES,
            "tags": self.processors * max(self.flow_sets, 1) * WAYS * 8,
            "ended": self.processors * (RING if self.flow_sets else 1) * FLOW_BYTES,
            "rings": self.processors * RING_BYTES,
        }


def sizes_for(processors: int, routes: int, flows: int = 0) -> Sizes:
    """Choose the sizes of the arrays.

    Args:
        processors: one more than the highest processor number that is possible.
        routes: routes that are to be counted, 0 to RECORDS_MAX - 1; 0 for none.
        flows: flows that are to be counted at a time, by all processors together; 0 for none.
    """
    words = _FIRST_FREE + _WORDS_PER_ROUTE * routes if routes else 1
    all_processors = _power_of_two(processors)
    sets = _power_of_two(max(-(-flows // (all_processors * WAYS)), 1)) if flows else 0
    return Sizes(all_processors, _power_of_two(words), routes + 1 if routes else 0, sets)


def _power_of_two(least: int) -> int:
    return 1 << (least - 1).bit_length()


def config_bytes(sizes: Sizes, seed: int) -> bytes:
    """Pack the constants of the programs, `config` in `bpf/traffic.bpf.c`.

    Args:
        sizes: of the arrays.
        seed: 64 random bits, for the hash of flows.
    """
    return struct.pack(
        "=6IQ",
        sizes.processors - 1, sizes.words - 1, sizes.records, ROOT4, ROOT6, sizes.flow_sets, seed,
    )  # fmt: skip


class _Arphrd(enum.IntEnum):
    """Types of links, as linux/if_arp.h numbers them."""

    ETHER = 1
    RAWIP = 519
    TUNNEL = 768
    TUNNEL6 = 769
    LOOPBACK = 772
    SIT = 776
    NONE = 65534


_ETHERNET_BYTES = 14
_HEADER_BYTES = {
    _Arphrd.ETHER: _ETHERNET_BYTES,
    _Arphrd.LOOPBACK: _ETHERNET_BYTES,
    _Arphrd.RAWIP: 0,
    _Arphrd.TUNNEL: 0,
    _Arphrd.TUNNEL6: 0,
    _Arphrd.SIT: 0,
    _Arphrd.NONE: 0,
}


def header_bytes_of(link_type: int) -> int | None:
    """Return the bytes before the network header of a link's frames; None if they are not known.

    Args:
        link_type: ARPHRD_*, as the kernel reports it.
    """
    return _HEADER_BYTES.get(_Arphrd(link_type)) if link_type in list(_Arphrd) else None
