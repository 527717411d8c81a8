"""One mapped snapshot: its header checked, its records decoded. The layout is in `fib_layout.py`.

Half of `FibReader` (`ipc/snapshot.py`), which is what programs use.

Invariant: what was checked in the header is kept; a hostile writer could change it afterwards.
"""

from __future__ import annotations

import fcntl
import mmap
import os
import socket
import struct
from collections.abc import Callable

from ipc.fib_layout import (
    DIRECTORY_BITS_MAX,
    ENDIAN_MARK,
    FAMILY_WORDS,
    HEADER_BYTES,
    LAYOUT_VERSION,
    MAGIC,
    NEXT_HOP_WORDS,
    NEXT_HOPS_MAX,
    ONLINK_FLAG,
    RECORD_IS_CURRENT,
    RECORD_WORDS,
    REQUIRED_SEALS,
    SEARCH_TRIES,
    SOURCE_WORDS,
    TYPE_WORDS,
    WRITE_SEALS,
    FamilyHeader,
    Header,
    SnapshotError,
)
from ipc.fib_search import Search
from ipc.lazy_dataclass import dataclass

__all__ = ["FoundNextHop", "FoundRoute", "Mapping", "map_descriptor"]

_WIDTH = {4: 32, 6: 128}
_EPOCHS = 0xFFFF_FFFF
_CACHE_MAX = 10_000
"""Decoded routes that are kept, about 500 bytes each."""


@dataclass(frozen=True, slots=True)
class FoundNextHop:
    """A next hop of a route that was found."""

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
    """unicast, blackhole, ... (`TYPE_WORDS`)."""
    source: str
    distance: int
    metric: int
    tag: int
    next_hops: tuple[FoundNextHop, ...]
    """Empty unless the type is unicast."""


class Mapping:
    """One mapped snapshot: what its header says, and its records decoded."""

    def __init__(
        self,
        memory: mmap.mmap,
        identity: tuple[int, int] | None,
        search: Callable[[mmap.mmap], Search],
    ) -> None:
        """Take mapped memory over.

        Args:
            memory: the whole snapshot.
            identity: device and inode of its memfd, when they are known.
            search: what makes the search.

        Raises:
            SnapshotError: not a snapshot that this reader knows.
        """
        if len(memory) < HEADER_BYTES or len(memory) % HEADER_BYTES:
            size = len(memory)
            memory.close()
            raise SnapshotError(f"a snapshot is whole pages of {HEADER_BYTES} bytes, this {size}")
        self.identity = identity
        self.is_open = True
        self._memory = memory
        self.words = memoryview(memory).cast("I")
        self._longs = memoryview(memory).cast("Q")
        self._cache: dict[int, FoundRoute] = {}
        self._cached_generation = 0
        try:
            self._check_header()
            self.search = search(memory)
        except BaseException:
            self._unmap()
            raise

    def _check_header(self) -> None:
        words = self.words
        if words[Header.MAGIC] != MAGIC:
            raise SnapshotError("the magic number is not a snapshot's")
        if words[Header.ENDIAN_MARK] != ENDIAN_MARK:
            raise SnapshotError("written on a machine of another byte order")
        if words[Header.LAYOUT_VERSION] != LAYOUT_VERSION:
            raise SnapshotError(
                f"layout version {words[Header.LAYOUT_VERSION]}, and this reader knows "
                f"{LAYOUT_VERSION}"
            )
        bounds = tuple(words[Header.TRIE_FIRST : Header.SETS_END + 1])
        ordered = (HEADER_BYTES // 4, *bounds, len(words))
        if words[Header.TOTAL_WORDS] != len(words) or list(ordered) != sorted(ordered):
            raise SnapshotError("its regions do not fit into it")
        trie_first, trie_end, self._records_first, records_end = bounds[:4]
        self._records_max = (records_end - self._records_first) // RECORD_WORDS
        self._sets_first, self._sets_end = bounds[4:]
        for block in (Header.IPV4, Header.IPV4 + FAMILY_WORDS):
            root = words[block + FamilyHeader.ROOT_ADDRESS]
            root_bits = words[block + FamilyHeader.ROOT_BITS]
            stride_bits = words[block + FamilyHeader.STRIDE_BITS]
            sizes = range(1, DIRECTORY_BITS_MAX + 1)
            if root_bits not in sizes or stride_bits not in sizes:
                raise SnapshotError("its directories have an impossible size")
            if not trie_first <= root <= trie_end - (2 << root_bits):
                raise SnapshotError("its root directory lies outside")
            if root % 2:
                raise SnapshotError("its root directory begins at an odd word")

    @property
    def generation(self) -> int:
        return int(self._longs[Header.GENERATION // 2])

    @property
    def heartbeat_ns(self) -> int:
        return int(self._longs[Header.HEARTBEAT_NS // 2])

    @property
    def records_used(self) -> int:
        return min(int(self.words[Header.RECORDS_USED]), self._records_max)

    # --- routes

    def lookup(self, version: int, addr_bits: int) -> FoundRoute | None:
        find = self.search.find4 if version == 4 else self.search.find6

        def read() -> FoundRoute | None:
            number = find(addr_bits)
            return self._cached(number, version, addr_bits) if number else None

        return self._undisturbed(read)

    def _cached(self, number: int, version: int, addr_bits: int) -> FoundRoute:
        # A record is reused two bursts later at the earliest, so within one generation a number
        # is one route.
        generation = self.generation
        if generation != self._cached_generation or len(self._cache) > _CACHE_MAX:
            self._cache, self._cached_generation = {}, generation
        found = self._cache.get(number)
        if found is None:
            found = self._read_record(number, version, addr_bits)
            if generation == self.generation:
                self._cache[number] = found
        return found

    def route(self, number: int) -> FoundRoute:
        found = self._undisturbed(lambda: self._read_record(number))
        assert found is not None  # an error is raised otherwise
        return found

    def current_route(self, number: int) -> FoundRoute | None:
        """Return the route of a record, or None if it was replaced or is free."""

        def read() -> FoundRoute | None:
            is_current = self.words[self._record_address(number) + RECORD_IS_CURRENT]
            return self._read_record(number) if is_current else None

        return self._undisturbed(read)

    def _undisturbed(self, read: Callable[[], FoundRoute | None]) -> FoundRoute | None:
        """Read again until nothing that was read can have been reused meanwhile."""
        for _ in range(SEARCH_TRIES):
            epoch = self.words[Header.EPOCH]
            try:
                found = read()
            except SnapshotError:
                # Memory reused during the read looks like damage: try again.
                if self.words[Header.EPOCH] - epoch & _EPOCHS < 2:
                    raise
                continue
            if self.words[Header.EPOCH] - epoch & _EPOCHS < 2:
                return found
        raise SnapshotError("the daemon writes faster than this process can read")

    def _record_address(self, number: int) -> int:
        if not 1 <= number <= self._records_max:
            raise SnapshotError("a record lies outside")
        return self._records_first + (number - 1) * RECORD_WORDS

    def _read_record(
        self, number: int, version: int | None = None, addr_bits: int = 0
    ) -> FoundRoute:
        """Decode a record; one that was looked up must cover the address it was found for."""
        at = self._record_address(number)
        shape, distance, metric, tag, hops, count = self.words[at : at + 6]
        record_version, prefix_len = shape & 0xFF, shape >> 8 & 0xFF
        width = _WIDTH.get(record_version)
        if width is None or prefix_len > width:
            raise SnapshotError("a record has no possible prefix")
        if version is not None:
            network = self._address_bits(record_version, at + 8)
            if version != record_version or (addr_bits ^ network) >> width - prefix_len:
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
            shape, ifindex, weight = self.words[at : at + 3]
            name = self.words[at + 8 : at + 12].tobytes().rstrip(b"\0")
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
            return struct.pack("!I", self.words[at])
        if version == 6:
            return struct.pack("!4I", *self.words[at : at + 4])
        raise SnapshotError(f"an address of family {version}")

    def _address_bits(self, version: int, at: int) -> int:
        return int.from_bytes(self._packed_at(version, at), "big")

    def _address_text(self, version: int, at: int) -> str:
        family = socket.AF_INET if version == 4 else socket.AF_INET6
        return socket.inet_ntop(family, self._packed_at(version, at))

    # --- its end

    def close(self) -> None:
        if self.is_open:
            self.search.release()
            self._unmap()

    def _unmap(self) -> None:
        self.is_open = False
        self.words.release()
        self._longs.release()
        self._memory.close()


def map_descriptor(descriptor: int) -> tuple[mmap.mmap, tuple[int, int]]:
    """Map a sealed memfd for reading, close it; the memory, and which memfd it is."""
    try:
        _check_seals(descriptor)
        status = os.fstat(descriptor)
        if not status.st_size:
            raise SnapshotError("it is empty")
        memory = mmap.mmap(descriptor, status.st_size, prot=mmap.PROT_READ, flags=mmap.MAP_SHARED)
    finally:
        os.close(descriptor)
    return memory, (status.st_dev, status.st_ino)


def _check_seals(descriptor: int) -> None:
    """Require seals that forbid shrinking, and writing through any new mapping."""
    try:
        seals = fcntl.fcntl(descriptor, fcntl.F_GET_SEALS)
    except OSError as error:
        raise SnapshotError("not a memfd") from error
    if seals & REQUIRED_SEALS != REQUIRED_SEALS or not seals & WRITE_SEALS:
        raise SnapshotError(f"not sealed as a snapshot is (seals {seals:#x})")
