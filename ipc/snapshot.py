"""The FIB in shared memory: its layout, and a lock-free reader of it.

The daemon keeps its forwarding table in one sealed memfd and hands the descriptor, read-only, to
whoever may look (`ControlClient.open_snapshot`). From then on a reader searches at memory speed,
without a system call and without the daemon. The same layout for C is `fib_snapshot.h`.

Everything is 32-bit words in host byte order; "address" below means a word's index in the file.

    +--------+---------------------------------------+---------------------+-------------------+
    | header | trie arena: directories and LC blocks | records: one route  | sets of next hops |
    | 1 page | of both families                      | each, fixed size    |                   |
    +--------+---------------------------------------+---------------------+-------------------+

Header words: see `Header`. One block of FAMILY_WORDS words for each family.

**The trie** (Nilsson & Karlsson's LC-trie over disjoint ranges, with a directory at the root). A
directory is 2^bits entries of two words, `word` and `fallback`. `fallback` is the record of the
longest prefix that ends inside the directory's depth; `word` says what more specific there is:

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

**Reading while the daemon writes.** A change is built beside what is there and published by one
aligned store of a word; what it replaces is not reused before the epoch word has moved on by two.
So a reader notes the epoch, searches, and looks at the epoch again: moved by less than two, then
everything it followed was intact, and the answer was the daemon's at some moment in between.
Two lookups may see two moments: what is published at once is one slot, not one burst.

Failure: `SnapshotError`. A reader trusts nothing it reads: every address is checked against its
region, every walk is bounded by the width of an address, so a damaged or hostile snapshot gives a
wrong answer or an error, never a crash, an endless loop or a read outside.

After the daemon is gone the memory stays as it was for as long as somebody maps it; `is_closed` and
`age_s` tell.

Sources: Nilsson & Karlsson, IP-address lookup using LC-tries, IEEE JSAC 17(6), 1999; seals as in
memfd_create(2) and fcntl(2).
"""

from __future__ import annotations

import fcntl
import mmap
import os
import socket
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import IntEnum
from types import TracebackType
from typing import NamedTuple, Self

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
    "RECORD_WORDS",
    "REQUIRED_SEALS",
    "SOURCE_WORDS",
    "TYPE_WORDS",
    "FamilyHeader",
    "FibReader",
    "FoundNextHop",
    "FoundRoute",
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
    """64 bits: CLOCK_MONOTONIC of the last sign of life."""
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
    """How many prefixes are in the trie, the default route among them."""


FAMILY_WORDS = 8
RECORD_WORDS = 12
RECORD_IS_CURRENT = 6
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
"""Far more than anybody would choose; a bound for what a reader believes."""

F_SEAL_FUTURE_WRITE = 0x10
REQUIRED_SEALS = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW
_WRITE_SEALS = F_SEAL_FUTURE_WRITE | fcntl.F_SEAL_WRITE

_RETRIES = 100
"""A search is shorter than two epochs unless the process was stopped in its middle."""

SOURCE_WORDS = {
    1: "connected",
    2: "static",
    3: "injected",
    4: "neighbor",
    5: "redistributed",
    6: "kernel",
}
TYPE_WORDS = {1: "unicast", 6: "blackhole", 7: "unreachable", 8: "prohibit"}


class SnapshotError(Exception):
    """Not a snapshot, one of another layout, or a damaged one; the message says which."""


@dataclass(frozen=True, slots=True)
class FoundNextHop:
    """Where a packet would go."""

    via: str | None
    """The neighboring router; None when the destination is on the link."""
    dev: str
    """The link's name in the daemon's network namespace."""
    ifindex: int
    weight: int
    is_onlink: bool


@dataclass(frozen=True, slots=True)
class FoundRoute:
    """The longest match for an address."""

    prefix: str
    type: str
    """unicast, blackhole, unreachable or prohibit."""
    source: str
    distance: int
    metric: int
    tag: int
    next_hops: tuple[FoundNextHop, ...]
    """Empty unless the type is unicast."""


class _Family(NamedTuple):
    """What a family's block says, once it is checked."""

    width: int
    root: int
    root_bits: int
    stride_bits: int
    default: int
    """The address of the word that holds the default route's record."""


class FibReader:
    """Searches a mapped snapshot. Not for several threads at once with `close`.

    Cost: about 3 us for a search and 10 us more for the record as text.
    """

    def __init__(self, memory: mmap.mmap) -> None:
        """Use `from_fd`; this is for memory that is mapped already, and takes it over.

        Raises:
            SnapshotError: not a snapshot that this reader knows.
        """
        if len(memory) < HEADER_BYTES or len(memory) % HEADER_BYTES:
            size = len(memory)
            memory.close()
            raise SnapshotError(f"a snapshot is whole pages of {HEADER_BYTES} bytes, this {size}")
        self._memory = memory
        self._words = memoryview(memory).cast("I")
        self._longs = memoryview(memory).cast("Q")
        try:
            self._check_header()
        except BaseException:
            self.close()
            raise

    @classmethod
    def from_fd(cls, descriptor: int) -> Self:
        """Map a snapshot and close the descriptor, which is not needed any more.

        Raises:
            SnapshotError: not sealed as a snapshot is, of no possible size, or of another layout.
            OSError: it cannot be mapped.
        """
        try:
            _check_seals(descriptor)
            size = os.fstat(descriptor).st_size
            if not size:
                raise SnapshotError("it is empty")
            memory = mmap.mmap(descriptor, size, prot=mmap.PROT_READ, flags=mmap.MAP_SHARED)
        finally:
            os.close(descriptor)
        return cls(memory)

    def _check_header(self) -> None:
        words = self._words
        if words[Header.MAGIC] != MAGIC:
            raise SnapshotError("the magic number is not a snapshot's")
        if words[Header.ENDIAN_MARK] != ENDIAN_MARK:
            raise SnapshotError("written on a machine of another byte order")
        if words[Header.LAYOUT_VERSION] != LAYOUT_VERSION:
            raise SnapshotError(
                f"layout version {words[Header.LAYOUT_VERSION]}, and this reader knows "
                f"{LAYOUT_VERSION}"
            )
        # What is checked is kept: a hostile writer could change the header afterwards.
        bounds = tuple(words[Header.TRIE_FIRST : Header.SETS_END + 1])
        ordered = (HEADER_BYTES // 4, *bounds, len(words))
        if words[Header.TOTAL_WORDS] != len(words) or list(ordered) != sorted(ordered):
            raise SnapshotError("its regions do not fit into it")
        self._trie_first, self._trie_end, self._records_first, records_end = bounds[:4]
        self._records_max = (records_end - self._records_first) // RECORD_WORDS
        self._sets_first, self._sets_end = bounds[4:]
        self._families = {
            4: self._check_family(Header.IPV4, 32),
            6: self._check_family(Header.IPV4 + FAMILY_WORDS, 128),
        }

    def _check_family(self, block: int, width: int) -> _Family:
        words = self._words
        root = words[block + FamilyHeader.ROOT_ADDRESS]
        root_bits = words[block + FamilyHeader.ROOT_BITS]
        stride_bits = words[block + FamilyHeader.STRIDE_BITS]
        if not (1 <= root_bits <= DIRECTORY_BITS_MAX and 1 <= stride_bits <= DIRECTORY_BITS_MAX):
            raise SnapshotError("its directories have an impossible size")
        if not (self._trie_first <= root and root + (2 << root_bits) <= self._trie_end):
            raise SnapshotError("its root directory lies outside")
        return _Family(width, root, root_bits, stride_bits, block + FamilyHeader.DEFAULT_RECORD)

    # --- what it is

    @property
    def generation(self) -> int:
        """How many bursts of changes the daemon has published."""
        return int(self._longs[Header.GENERATION // 2])

    @property
    def is_closed(self) -> bool:
        """The daemon has said that it will write no more."""
        return bool(self._words[Header.IS_CLOSED])

    @property
    def daemon_pid(self) -> int:
        """The pid of the daemon that writes it, in the daemon's pid namespace."""
        return int(self._words[Header.DAEMON_PID])

    @property
    def router_id(self) -> str:
        """The router id of the daemon, dotted."""
        return socket.inet_ntop(socket.AF_INET, struct.pack("!I", self._words[Header.ROUTER_ID]))

    def age_s(self, now_ns: int) -> float:
        """Seconds since the daemon's last sign of life, which it gives once a second.

        Args:
            now_ns: time.monotonic_ns(), the same clock in every process of this machine.
        """
        return float(now_ns - self._longs[Header.HEARTBEAT_NS // 2]) / 1e9

    def __len__(self) -> int:
        """How many routes it holds, both families."""
        return sum(
            int(self._words[Header.IPV4 + position * FAMILY_WORDS + FamilyHeader.ROUTES])
            for position in (0, 1)
        )

    # --- searching

    def lookup(self, address: str | bytes) -> FoundRoute | None:
        """The route that the daemon would use for an address.

        Args:
            address: as text, or packed in network order (4 or 16 bytes).

        Returns:
            None when no route covers it, not even a default.

        Raises:
            ValueError: not an address.
            SnapshotError: the snapshot is damaged.
        """
        packed = _packed(address)
        version = 4 if len(packed) == 4 else 6
        addr_bits = int.from_bytes(packed, "big")

        def search() -> FoundRoute | None:
            record = self._find(self._families[version], addr_bits)
            return self._read_record(record, version, addr_bits) if record else None

        return self._undisturbed(search)

    def routes(self) -> Iterator[FoundRoute]:
        """Every route, in no particular order.

        Each is read whole; together they are one moment of the table only when `generation` is
        the same before and after. A route that changes meanwhile may come twice or not at all.

        Raises:
            SnapshotError: the snapshot is damaged.

        Cost: linear in the largest number of routes it ever held.
        """

        def read() -> FoundRoute | None:
            is_current = self._words[self._record_address(number) + RECORD_IS_CURRENT]
            return self._read_record(number) if is_current else None

        number = 0
        while number < min(self._words[Header.RECORDS_USED], self._records_max):
            number += 1
            found = self._undisturbed(read)
            if found is not None:
                yield found

    def _undisturbed(self, read: Callable[[], FoundRoute | None]) -> FoundRoute | None:
        """Read again until nothing that was read can have been reused meanwhile."""
        for _ in range(_RETRIES):
            epoch = self._words[Header.EPOCH]
            try:
                found = read()
            except SnapshotError:
                # Memory that was reused under our feet looks like damage: try again then.
                if self._is_intact_since(epoch):
                    raise
                continue
            if self._is_intact_since(epoch):
                return found
        raise SnapshotError("the daemon writes faster than this process can read")

    def _is_intact_since(self, epoch: int) -> bool:
        return (self._words[Header.EPOCH] - epoch) & 0xFFFF_FFFF < 2

    def _find(self, family: _Family, addr_bits: int) -> int:
        """The number of the record of the longest match; 0 for none."""
        words = self._words
        directory, bits, left = family.root, family.root_bits, family.width
        best = words[family.default]
        while True:
            left -= bits
            entry = directory + 2 * (addr_bits >> left & (1 << bits) - 1)
            word, fallback = words[entry], words[entry + 1]
            best = fallback or best
            if not word or word >> KIND_SHIFT:
                break
            directory, bits = word, min(family.stride_bits, left)
            if not (bits and self._trie_first <= directory <= self._trie_end - (2 << bits)):
                raise SnapshotError("a directory lies outside")
        if word >= RECORD_FLAG:
            return int(word & RECORD_MASK)
        return (self._find_in_block(word, left, addr_bits) if word else 0) or int(best)

    def _find_in_block(self, word: int, left: int, addr_bits: int) -> int:
        words, end = self._words, self._trie_end
        block = at = word & ADDRESS_MASK
        if block < self._trie_first:
            raise SnapshotError("a block lies outside")
        kind = word >> KIND_SHIFT
        while kind < FIRST_BUCKET_KIND:
            left -= kind
            if not kind or left < 0 or at + (1 << kind) > end:
                raise SnapshotError("a branch lies outside")
            word = words[at + (addr_bits >> left & (1 << kind) - 1)]
            if not word:
                return 0
            if word >= RECORD_FLAG:
                return int(word & RECORD_MASK)
            kind = word >> KIND_SHIFT
            at = block + (word & ADDRESS_MASK)
        starts = kind - BUCKET_RANGES_BIAS - 1
        if at + 2 * starts + 1 > end:
            raise SnapshotError("a bucket lies outside")
        low = (addr_bits >> left - 32 if left > 32 else addr_bits) & 0xFFFF_FFFF
        index = 0
        while index < starts and words[at + index] <= low:
            index += 1
        return int(words[at + starts + index])

    def _record_address(self, number: int) -> int:
        if not 1 <= number <= self._records_max:
            raise SnapshotError("a record lies outside")
        return self._records_first + (number - 1) * RECORD_WORDS

    def _read_record(
        self, number: int, version: int | None = None, addr_bits: int = 0
    ) -> FoundRoute:
        """Decode a record; one that was looked up must cover the address it was found for."""
        at = self._record_address(number)
        shape, distance, metric, tag, hops, count = self._words[at : at + 6]
        record_version, prefix_len = shape & 0xFF, shape >> 8 & 0xFF
        family = self._families.get(record_version)
        if family is None or prefix_len > family.width:
            raise SnapshotError("a record has no possible prefix")
        if version is not None:
            network = self._address_bits(record_version, at + 8)
            if version != record_version or (addr_bits ^ network) >> family.width - prefix_len:
                raise SnapshotError("a record does not cover the address it was found for")
        source, route_type = shape >> 16 & 0xFF, shape >> 24
        return FoundRoute(
            prefix=f"{self._address_text(record_version, at + 8)}/{prefix_len}",
            type=TYPE_WORDS.get(route_type, f"type{route_type}"),
            source=SOURCE_WORDS.get(source, f"source{source}"),
            distance=distance,
            metric=metric,
            tag=tag,
            next_hops=self._read_next_hops(hops, count),
        )

    def _read_next_hops(self, first: int, count: int) -> tuple[FoundNextHop, ...]:
        if not count:
            return ()
        if count > NEXT_HOPS_MAX or not (
            self._sets_first <= first <= self._sets_end - count * NEXT_HOP_WORDS
        ):
            raise SnapshotError("a set of next hops lies outside")
        found = []
        for at in range(first, first + count * NEXT_HOP_WORDS, NEXT_HOP_WORDS):
            shape, ifindex, weight = self._words[at : at + 3]
            name = self._words[at + 8 : at + 12].tobytes().rstrip(b"\0")
            version = shape & 0xFF
            found.append(
                FoundNextHop(
                    via=self._address_text(version, at + 4) if version else None,
                    dev=name.decode("utf-8", "backslashreplace"),
                    ifindex=ifindex,
                    weight=weight,
                    is_onlink=bool(shape & ONLINK_FLAG),
                )
            )
        return tuple(found)

    def _packed_at(self, version: int, at: int) -> bytes:
        if version == 4:
            return struct.pack("!I", self._words[at])
        if version == 6:
            return struct.pack("!4I", *self._words[at : at + 4])
        raise SnapshotError(f"an address of family {version}")

    def _address_bits(self, version: int, at: int) -> int:
        return int.from_bytes(self._packed_at(version, at), "big")

    def _address_text(self, version: int, at: int) -> str:
        family = socket.AF_INET if version == 4 else socket.AF_INET6
        return socket.inet_ntop(family, self._packed_at(version, at))

    # --- its end

    def close(self) -> None:
        """Unmap. Nothing else may be called after that."""
        self._words.release()
        self._longs.release()
        self._memory.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def _packed(address: str | bytes) -> bytes:
    if isinstance(address, bytes):
        if len(address) not in (4, 16):
            raise ValueError(f"an address has 4 or 16 bytes, not {len(address)}")
        return address
    try:
        return socket.inet_pton(socket.AF_INET6 if ":" in address else socket.AF_INET, address)
    except OSError:
        raise ValueError(f"{address!r} is not an IP address") from None


def _check_seals(descriptor: int) -> None:
    """Only memory that can neither shrink under us nor be written by us or others is trusted."""
    try:
        seals = fcntl.fcntl(descriptor, fcntl.F_GET_SEALS)
    except OSError as error:
        raise SnapshotError("not a memfd") from error
    if seals & REQUIRED_SEALS != REQUIRED_SEALS or not seals & _WRITE_SEALS:
        raise SnapshotError(f"not sealed as a snapshot is (seals {seals:#x})")
