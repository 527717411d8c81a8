"""The FIB in shared memory: its layout, and a lock-free reader of it.

The daemon keeps its forwarding table in one sealed memfd and hands the descriptor, read-only, to
whoever may look (`ControlClient.open_snapshot`). From then on a reader searches at memory speed,
without a system call and without the daemon. The same layout for C is `fib_snapshot.h`.

Everything is 32-bit words in host byte order; "address" below means a word's index in the file.

    +--------+-------------------------------------------+--------------------------------------+
    | header |  trie arena: directories and LC blocks    |  data arena: route records, sets of  |
    | 1 page |  of both families                         |  next hops                           |
    +--------+-------------------------------------------+--------------------------------------+

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

**A record** (RECORD_WORDS words) is a route: prefix, source, type, distance, metric, tag, and the
address and length of its set of next hops (NEXT_HOP_WORDS words each, with the link's name in it).

**Reading while the daemon writes.** A change is built beside what is there and published by one
aligned store of a word; what it replaces is not reused before the epoch word has moved on by two.
So a reader notes the epoch, searches, and looks at the epoch again: moved by less than two, then
everything it followed was intact, and the answer was the daemon's at some moment in between.

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
from dataclasses import dataclass
from enum import IntEnum
from types import TracebackType
from typing import Self

__all__ = [
    "FAMILY_WORDS",
    "HEADER_BYTES",
    "LAYOUT_VERSION",
    "MAGIC",
    "NEXT_HOP_WORDS",
    "RECORD_WORDS",
    "REQUIRED_SEALS",
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
    """Word indexes in the header. A 64-bit value takes two words, the low one first."""

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
    DATA_FIRST = 14
    DATA_END = 15
    IPV4 = 16
    """The first word of IPv4's block; IPv6's follows."""


class FamilyHeader(IntEnum):
    """Word indexes in a family's block."""

    ROOT_ADDRESS = 0
    ROOT_BITS = 1
    STRIDE_BITS = 2
    """Bits of a child directory, fewer where the address ends."""
    DEFAULT_RECORD = 3
    ROUTES = 4
    """How many prefixes are in the trie, the default route among them."""


FAMILY_WORDS = 8
RECORD_WORDS = 12
NEXT_HOP_WORDS = 12
_NEXT_HOPS_MAX = 4096

KIND_SHIFT = 26
ADDRESS_MASK = (1 << KIND_SHIFT) - 1
RECORD_FLAG = 1 << 31
RECORD_MASK = RECORD_FLAG - 1
FIRST_BUCKET_KIND = 16
BUCKET_RANGES_BIAS = 14
"""kind = number of ranges + 14."""

F_SEAL_FUTURE_WRITE = 0x10
REQUIRED_SEALS = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW
_WRITE_SEALS = F_SEAL_FUTURE_WRITE | fcntl.F_SEAL_WRITE

_RETRIES = 100
"""A search is shorter than two epochs unless the process was stopped in its middle."""

_SOURCES = {
    1: "connected",
    2: "static",
    3: "injected",
    4: "neighbor",
    5: "redistributed",
    6: "kernel",
}
_TYPES = {1: "unicast", 6: "blackhole", 7: "unreachable", 8: "prohibit"}


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


class FibReader:
    """Searches a mapped snapshot. Not for several threads at once with `close`.

    Cost: about 3 us for a search and 10 us more for the record as text.
    """

    def __init__(self, memory: mmap.mmap) -> None:
        """Use `from_fd`; this is for memory that is mapped already.

        Raises:
            SnapshotError: not a snapshot that this reader knows.
        """
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
            SnapshotError: not sealed as a snapshot is, too small, or of another layout.
            OSError: it cannot be mapped.
        """
        try:
            _check_seals(descriptor)
            size = os.fstat(descriptor).st_size
            if size < HEADER_BYTES:
                raise SnapshotError(
                    f"a snapshot has at least {HEADER_BYTES} bytes, this one {size}"
                )
            return cls(mmap.mmap(descriptor, size, prot=mmap.PROT_READ, flags=mmap.MAP_SHARED))
        finally:
            os.close(descriptor)

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
        total = len(words)
        self._trie_first, self._trie_end = words[Header.TRIE_FIRST], words[Header.TRIE_END]
        self._data_first, self._data_end = words[Header.DATA_FIRST], words[Header.DATA_END]
        first = HEADER_BYTES // 4
        if not (
            words[Header.TOTAL_WORDS] == total
            and first <= self._trie_first <= self._trie_end <= self._data_first
            and self._data_first <= self._data_end <= total
        ):
            raise SnapshotError("its regions do not fit into it")
        self._families: dict[int, tuple[int, int, int, int, int]] = {
            socket.AF_INET: self._check_family(Header.IPV4, 32),
            socket.AF_INET6: self._check_family(Header.IPV4 + FAMILY_WORDS, 128),
        }

    def _check_family(self, block: int, width: int) -> tuple[int, int, int, int, int]:
        words = self._words
        root = words[block + FamilyHeader.ROOT_ADDRESS]
        root_bits = words[block + FamilyHeader.ROOT_BITS]
        stride_bits = words[block + FamilyHeader.STRIDE_BITS]
        if not (1 <= root_bits <= min(width, 26) and 1 <= stride_bits <= 26):
            raise SnapshotError("its directories have an impossible size")
        if not (self._trie_first <= root and root + (2 << root_bits) <= self._trie_end):
            raise SnapshotError("its root directory lies outside")
        return width, root, root_bits, stride_bits, block + FamilyHeader.DEFAULT_RECORD

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
        family = socket.AF_INET if len(packed) == 4 else socket.AF_INET6
        addr_bits = int.from_bytes(packed, "big")
        for _ in range(_RETRIES):
            epoch = self._words[Header.EPOCH]
            try:
                record = self._find(family, addr_bits)
                found = self._read_record(record) if record else None
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

    def _find(self, family: int, addr_bits: int) -> int:
        """The address of the record of the longest match; 0 for none."""
        width, directory, bits, stride, default = self._families[family]
        words = self._words
        best = words[default]
        left = width
        while True:
            left -= bits
            entry = directory + 2 * (addr_bits >> left & (1 << bits) - 1)
            word, fallback = words[entry], words[entry + 1]
            best = fallback or best
            if not word or word >> KIND_SHIFT:
                break
            directory, bits = word, min(stride, left)
            if not (bits and self._trie_first <= directory <= self._trie_end - (2 << bits)):
                raise SnapshotError("a directory lies outside")
        if word >= RECORD_FLAG:
            return word & RECORD_MASK
        return (self._find_in_block(word, left, addr_bits) if word else 0) or best

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

    def _read_record(self, record: int) -> FoundRoute:
        if not (self._data_first <= record <= self._data_end - RECORD_WORDS):
            raise SnapshotError("a record lies outside")
        shape, distance, metric, tag, hops, count = self._words[record : record + 6]
        family, prefix_len = shape & 0xFF, shape >> 8 & 0xFF
        source, route_type = shape >> 16 & 0xFF, shape >> 24
        return FoundRoute(
            prefix=f"{self._address_text(family, record + 8)}/{prefix_len}",
            type=_TYPES.get(route_type, f"type{route_type}"),
            source=_SOURCES.get(source, f"source{source}"),
            distance=distance,
            metric=metric,
            tag=tag,
            next_hops=self._read_next_hops(hops, count),
        )

    def _read_next_hops(self, first: int, count: int) -> tuple[FoundNextHop, ...]:
        if not count:
            return ()
        if count > _NEXT_HOPS_MAX or not (
            self._data_first <= first <= self._data_end - count * NEXT_HOP_WORDS
        ):
            raise SnapshotError("a set of next hops lies outside")
        found = []
        for at in range(first, first + count * NEXT_HOP_WORDS, NEXT_HOP_WORDS):
            shape, ifindex, weight = self._words[at : at + 3]
            name = self._words[at + 8 : at + 12].tobytes().rstrip(b"\0")
            family = shape & 0xFF
            found.append(
                FoundNextHop(
                    via=self._address_text(family, at + 4) if family else None,
                    dev=name.decode("utf-8", "backslashreplace"),
                    ifindex=ifindex,
                    weight=weight,
                    is_onlink=bool(shape & 0x100),
                )
            )
        return tuple(found)

    def _address_text(self, family: int, at: int) -> str:
        if family == 4:
            return socket.inet_ntop(socket.AF_INET, struct.pack("!I", self._words[at]))
        if family == 6:
            return socket.inet_ntop(socket.AF_INET6, struct.pack("!4I", *self._words[at : at + 4]))
        raise SnapshotError(f"an address of family {family}")

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
