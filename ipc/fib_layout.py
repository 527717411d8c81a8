"""The FIB in shared memory: its layout, for the writer, for readers, and for people.

The writer is `routed/snapshot/writer.py`; readers are `ipc/snapshot.py` (Python), `native/search.c`
(its C half) and `fib_snapshot.h` (C).

Everything is 32-bit words in host byte order; "address" below means a word's index in the file.

    +--------+---------------------------------------+---------------------+-------------------+
    | header | trie arena: directories and LC blocks | records: one route  | sets of next hops |
    | 1 page | of both families                      | each, fixed size    |                   |
    +--------+---------------------------------------+---------------------+-------------------+

Header words: see `Header`. One block of FAMILY_WORDS words for each family.

**The trie** (Nilsson & Karlsson's LC-trie over disjoint ranges, with a directory at the root). A
directory is 2^bits entries of two words, `word` and `fallback`, and the root directory begins at an
even word, so that an entry of it can be read at once. `fallback` is the record of the longest
prefix that ends inside the directory's depth; `word` says what more specific there is:

    0                                    nothing
    1 | record(31)                       one record for the whole rest
    0 | kind(5) = 0     | address(26)    a child directory
    0 | kind(5) = 1..15 | offset(26)     a branch of 2^kind words, indexed by the next kind bits
    0 | kind(5) = 16..  | offset(26)     a bucket of n = kind - 14 ranges: n - 1 starts, n records

In a directory the low 26 bits are an address in the trie arena; below it, within one block, offsets
are relative to the block, so that a block can be moved. A range without a record holds 0: the
nearest fallback on the way down counts then, at last the default route's record in the header. As
zero means "nothing" everywhere, an empty table costs no memory at all: the file is sparse.

**A record** (RECORD_WORDS words) is a route, and "record" above is its number: 1 is the first one
of the region, 0 is none. Its words:

    0   family (4 or 6) | prefix length << 8 | source << 16 | type << 24
    1   administrative distance       2   metric       3   tag
    4   address of its set of next hops, 0 for none    5   next hops in the set
    6   1 while this is the route of its prefix, 0 when it was replaced (for listing only)
    7   0                             8..11   network, the most significant word first;
                                              an IPv4 network is in word 8

**A next hop** (NEXT_HOP_WORDS words); those of one route lie one after the other:

    0   family of its address (4, 6, or 0 for none) | 0x100 when it is declared on link
    1   ifindex                       2   weight       3   0
    4..7   address, like a network    8..11   name of the link, 16 bytes, padded with zeros: as it
                                              was when the set was written; ifindex is the identity

Sources and types are numbered as `routed.model.route` numbers them; words and numbers are listed in
`SOURCE_WORDS` and `TYPE_WORDS`.

**Reading while the daemon writes.** A change is built next to the present data and published by one
aligned store of a word; what it replaces is not reused before the epoch word has moved on by two.
So a reader notes the epoch, searches, and looks at the epoch again: moved by less than two, then
everything it followed was intact, and the answer was the daemon's at some moment in between.
Two lookups may see two moments: what is published at once is one slot, not one burst.

Sources: Nilsson & Karlsson, IP-address lookup using LC-tries, IEEE JSAC 17(6), 1999; seals as in
memfd_create(2) and fcntl(2).
"""

from __future__ import annotations

import fcntl
from enum import IntEnum

__all__ = [
    "ADDRESS_MASK",
    "BUCKET_RANGES_BIAS",
    "DIRECTORY_BITS_MAX",
    "ENDIAN_MARK",
    "FAMILY_WORDS",
    "FIRST_BUCKET_KIND",
    "F_SEAL_FUTURE_WRITE",
    "HEADER_BYTES",
    "IFNAME_BYTES",
    "KIND_SHIFT",
    "LAYOUT_VERSION",
    "MAGIC",
    "NEXT_HOPS_MAX",
    "NEXT_HOP_WORDS",
    "ONLINK_FLAG",
    "RECORD_FLAG",
    "RECORD_IS_CURRENT",
    "RECORD_MASK",
    "RECORD_NETWORK",
    "RECORD_NEXT_HOPS",
    "RECORD_WORDS",
    "REQUIRED_SEALS",
    "SEARCH_TRIES",
    "SOURCE_WORDS",
    "TYPE_WORDS",
    "WRITE_SEALS",
    "FamilyHeader",
    "Header",
    "SnapshotError",
]

MAGIC = 0x42494652
"""`RFIB` in little-endian order."""
LAYOUT_VERSION = 1
ENDIAN_MARK = 0x01020304
HEADER_BYTES = 4096


class Header(IntEnum):
    """Word indexes in the header. A 64-bit value takes two words, in host byte order."""

    MAGIC = 0
    LAYOUT_VERSION = 1
    ENDIAN_MARK = 2
    ROUTER_ID = 3
    TOTAL_WORDS = 4
    DAEMON_PID = 5
    EPOCH = 6
    IS_CLOSED = 7
    GENERATION = 8
    """64 bits: how many bursts of changes were published."""
    HEARTBEAT_NS = 10
    """64 bits: CLOCK_MONOTONIC of the last heartbeat."""
    TRIE_FIRST = 12
    TRIE_END = 13
    RECORDS_FIRST = 14
    RECORDS_END = 15
    SETS_FIRST = 16
    SETS_END = 17
    RECORDS_USED = 18
    """Records up to this number have been written; those above never were."""
    IPV4 = 24
    """The first word of IPv4's block; IPv6's follows."""


class FamilyHeader(IntEnum):
    """Word indexes in a family's block."""

    ROOT_ADDRESS = 0
    ROOT_BITS = 1
    STRIDE_BITS = 2
    """Bits of a child directory, fewer where the address ends."""
    DEFAULT_RECORD = 3
    """The default route's record, which is not in the trie."""
    ROUTES = 4
    """Number of prefixes in the trie, including the default route."""


FAMILY_WORDS = 8
RECORD_WORDS = 12
RECORD_NEXT_HOPS = 4
RECORD_IS_CURRENT = 6
RECORD_NETWORK = 8
NEXT_HOP_WORDS = 12
IFNAME_BYTES = 16
ONLINK_FLAG = 0x100
NEXT_HOPS_MAX = 4096

KIND_SHIFT = 26
ADDRESS_MASK = (1 << KIND_SHIFT) - 1
RECORD_FLAG = 1 << 31
RECORD_MASK = RECORD_FLAG - 1
FIRST_BUCKET_KIND = 16
BUCKET_RANGES_BIAS = 14
"""kind = number of ranges + 14."""
DIRECTORY_BITS_MAX = 24
"""The most bits that a reader accepts; far more than a sensible directory has."""

F_SEAL_FUTURE_WRITE = 0x10
REQUIRED_SEALS = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW
WRITE_SEALS = F_SEAL_FUTURE_WRITE | fcntl.F_SEAL_WRITE

SEARCH_TRIES = 100
"""A search is shorter than two epochs unless the process was stopped in its middle."""

SOURCE_WORDS = {
    1: "connected",
    2: "static",
    3: "injected",
    4: "neighbor",
    5: "redistributed",
    6: "kernel",
}
TYPE_WORDS = {
    1: "unicast", 2: "local", 3: "broadcast", 6: "blackhole", 7: "unreachable", 8: "prohibit",
    9: "throw",
}  # fmt: skip


class SnapshotError(Exception):
    """The memory is not a snapshot, has another layout, or is damaged; the message says which."""
