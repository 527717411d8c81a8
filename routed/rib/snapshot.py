"""The single writer of the shared-memory FIB: records, next-hop sets, two tries, one memfd.

The layout and the rules for readers are in `ipc/snapshot.py`. What is published here is the RIB's
choice for every prefix, kernel routes and connected ones alike.

One burst of changes is published in an order that a reader can interrupt anywhere:

    1  new records and next-hop sets, in memory that nobody can reach yet
    2  the default routes and the tries' words, each by one aligned store: now they are reachable
    3  the generation
    4  what was replaced goes to limbo; the epoch moves on at most every TICK_S

Next-hop sets are shared: a million routes through the same eight neighbors have eight sets. They
are counted, and freed with the last record that uses them.

The file is as large as the address width of the layout allows and sparse: memory is used as it is
touched, an empty table costs one page. After it is mapped it is sealed: nobody can shrink or grow
it, and nobody but this mapping can write it (F_SEAL_FUTURE_WRITE; Linux 5.1).

Failure: `ArenaFull` when a region is used up; what was published before stays right.

Sources: memfd_create(2); kernel memory order: aligned 32-bit stores are single stores on every
machine that Linux runs on, and x86-64 keeps their order. On machines that reorder stores a reader
could in theory see a slot's word before the block behind it; the C extension that is to come puts a
release barrier there.
"""

from __future__ import annotations

import fcntl
import mmap
import os
from array import array
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from ipc.snapshot import (
    ENDIAN_MARK,
    F_SEAL_FUTURE_WRITE,
    FAMILY_WORDS,
    HEADER_BYTES,
    LAYOUT_VERSION,
    MAGIC,
    NEXT_HOP_WORDS,
    RECORD_WORDS,
    FamilyHeader,
    Header,
)
from routed.model.prefix import Address, Family, Prefix
from routed.model.route import NextHop
from routed.rib.arena import Arena
from routed.rib.lctrie import LcTrie
from routed.rib.table import BestChange, Selection

__all__ = ["FibSnapshot", "MemoryPart"]

TRIE_WORDS = 1 << 26
"""256 MiB, the reach of a trie word's address; a million IPv4 prefixes take about 10 MB of it."""
DATA_WORDS = 1 << 26
"""256 MiB: five million records."""

TICK_NS = 10_000_000
"""The epoch moves at most this often: a reader that is interrupted for less never has to retry."""

_ROOT_BITS = {Family.IPV4: 18, Family.IPV6: 16}
_CROWDED = {Family.IPV4: 256, Family.IPV6: 64}
_STRIDE_BITS = 8
_IFNAME_BYTES = 16

_SetKey = tuple[tuple[NextHop, str], ...]


@dataclass(frozen=True, slots=True)
class MemoryPart:
    """What one region takes."""

    name: str
    used_bytes: int
    items: int
    help: str


@dataclass(slots=True)
class _NextHopSet:
    address: int
    words: int
    users: int


class FibSnapshot:
    """Owns the memfd and everything in it."""

    def __init__(
        self,
        router_id: Address,
        daemon_pid: int,
        *,
        trie_words: int = TRIE_WORDS,
        data_words: int = DATA_WORDS,
    ) -> None:
        """Make an empty snapshot, mapped and sealed.

        Args:
            router_id: for whoever maps it.
            daemon_pid: the same.
            trie_words: room for both tries.
            data_words: room for records and next-hop sets.

        Raises:
            OSError: no memory, no descriptor, or a kernel before 5.1.
        """
        header_words = HEADER_BYTES // 4
        total_words = header_words + trie_words + data_words
        self._descriptor = os.memfd_create("routed-fib", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        os.ftruncate(self._descriptor, 4 * total_words)
        self._memory = mmap.mmap(self._descriptor, 4 * total_words)
        fcntl.fcntl(
            self._descriptor,
            fcntl.F_ADD_SEALS,
            fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | F_SEAL_FUTURE_WRITE | fcntl.F_SEAL_SEAL,
        )
        self._words = memoryview(self._memory).cast("I")
        self._longs = memoryview(self._memory).cast("Q")
        # Addresses in trie words are absolute and have 26 bits: the arena ends where they do.
        trie_end = min(header_words + trie_words, TRIE_WORDS)
        self._trie_arena = Arena(header_words, trie_end)
        self._data_arena = Arena(header_words + trie_words, total_words)
        self._tries = {family: self._new_trie(family) for family in Family}
        self._records: dict[Prefix, tuple[int, _SetKey]] = {}
        self._sets: dict[_SetKey, _NextHopSet] = {}
        self._ticked_at_ns = 0
        self._write_header(router_id, daemon_pid, header_words, trie_end, total_words)

    def _new_trie(self, family: Family) -> LcTrie:
        return LcTrie(
            self._words,
            self._trie_arena,
            width=family.width,
            root_bits=_ROOT_BITS[family],
            stride_bits=_STRIDE_BITS,
            crowded=_CROWDED[family],
        )

    def _write_header(
        self, router_id: Address, daemon_pid: int, first: int, trie_end: int, total: int
    ) -> None:
        words = self._words
        words[Header.LAYOUT_VERSION] = LAYOUT_VERSION
        words[Header.ENDIAN_MARK] = ENDIAN_MARK
        words[Header.ROUTER_ID] = router_id.addr_bits
        words[Header.TOTAL_WORDS] = total
        words[Header.DAEMON_PID] = daemon_pid
        words[Header.TRIE_FIRST], words[Header.TRIE_END] = first, trie_end
        words[Header.DATA_FIRST], words[Header.DATA_END] = self._data_arena.first, total
        for family in Family:
            block = _family_block(family)
            words[block + FamilyHeader.ROOT_ADDRESS] = self._tries[family].root_address
            words[block + FamilyHeader.ROOT_BITS] = _ROOT_BITS[family]
            words[block + FamilyHeader.STRIDE_BITS] = _STRIDE_BITS
        words[Header.MAGIC] = MAGIC  # last: now it is a snapshot

    # --- publishing

    def apply(
        self, changes: Iterable[BestChange], ifname_of: Callable[[int], str], now_ns: int
    ) -> None:
        """Publish one burst of changes.

        Args:
            changes: each prefix at most once.
            ifname_of: the name of a link, for the records.
            now_ns: CLOCK_MONOTONIC.

        Raises:
            ArenaFull: a region is used up.
        """
        trie_changes: dict[Family, list[tuple[int, int, int]]] = {family: [] for family in Family}
        replaced: list[tuple[int, _SetKey]] = []
        for prefix, selection in changes:
            old = self._records.pop(prefix, None)
            if old is not None:
                replaced.append(old)
            record = 0
            if selection is not None:
                record = self._write_record(prefix, selection, ifname_of)
            elif old is None:
                continue
            if prefix.prefix_len == 0:
                at = _family_block(prefix.family) + FamilyHeader.DEFAULT_RECORD
                self._words[at] = record
            else:
                change = (prefix.addr_bits, prefix.prefix_len, record)
                trie_changes[prefix.family].append(change)
        for family, of_family in trie_changes.items():
            self._tries[family].update(of_family)
            block = _family_block(family)
            has_default = bool(self._words[block + FamilyHeader.DEFAULT_RECORD])
            self._words[block + FamilyHeader.ROUTES] = len(self._tries[family]) + has_default
        for address, set_key in replaced:
            self._data_arena.release(address, RECORD_WORDS)
            self._drop_set(set_key)
        self._longs[Header.GENERATION // 2] += 1
        self.heartbeat(now_ns)

    def heartbeat(self, now_ns: int) -> None:
        """Give a sign of life, and let the epoch move on if it is time.

        Args:
            now_ns: CLOCK_MONOTONIC.
        """
        self._longs[Header.HEARTBEAT_NS // 2] = now_ns
        if now_ns - self._ticked_at_ns >= TICK_NS:
            self._ticked_at_ns = now_ns
            self._words[Header.EPOCH] = self._words[Header.EPOCH] + 1 & 0xFFFF_FFFF
            self._trie_arena.advance()
            self._data_arena.advance()

    def _write_record(
        self, prefix: Prefix, selection: Selection, ifname_of: Callable[[int], str]
    ) -> int:
        route = selection.route
        set_key = tuple((hop, ifname_of(hop.ifindex)) for hop in selection.next_hops)
        next_hop_set = self._share_set(set_key)
        version = 4 if prefix.family is Family.IPV4 else 6
        shape = version | prefix.prefix_len << 8 | route.source << 16 | route.type << 24
        record = array("I", [
            shape, route.distance, route.metric, route.tag,
            next_hop_set.address if set_key else 0, len(set_key), 0, 0,
            *_address_words(prefix.family, prefix.addr_bits),
        ])  # fmt: skip
        address, _ = self._data_arena.allocate(RECORD_WORDS)
        self._words[address : address + RECORD_WORDS] = record
        self._records[prefix] = address, set_key
        return address

    def _share_set(self, set_key: _SetKey) -> _NextHopSet:
        found = self._sets.get(set_key)
        if found is None:
            words = len(set_key) * NEXT_HOP_WORDS
            address = 0
            if words:
                address, _ = self._data_arena.allocate(words)
                packed = b"".join(_pack_next_hop(hop, ifname) for hop, ifname in set_key)
                self._words[address : address + words] = array("I", packed)
            found = self._sets[set_key] = _NextHopSet(address, words, 0)
        found.users += 1
        return found

    def _drop_set(self, set_key: _SetKey) -> None:
        found = self._sets[set_key]
        found.users -= 1
        if not found.users:
            del self._sets[set_key]
            if found.words:
                self._data_arena.release(found.address, found.words)

    # --- its life

    def fileno(self) -> int:
        """The memfd, for handing out; whoever gets it can map it for reading only."""
        return self._descriptor

    def close(self) -> None:
        """Tell readers that nothing more will come, and unmap; their mappings live on."""
        self._words[Header.IS_CLOSED] = 1
        self._words.release()
        self._longs.release()
        # The tries hold views of the memory; without them the mapping could not be closed.
        self._tries.clear()
        self._memory.close()
        os.close(self._descriptor)

    def memory(self) -> Sequence[MemoryPart]:
        """What the regions take, for `show memory`."""
        return [
            MemoryPart(
                "trie",
                4 * self._trie_arena.reached_words,
                sum(len(trie) for trie in self._tries.values()),
                "LC-tries of both families; items are prefixes",
            ),
            MemoryPart(
                "data",
                4 * self._data_arena.reached_words,
                len(self._records),
                "route records and next-hop sets; items are records",
            ),
        ]


def _family_block(family: Family) -> int:
    return Header.IPV4 + (FAMILY_WORDS if family is Family.IPV6 else 0)


def _address_words(family: Family, addr_bits: int) -> list[int]:
    """Four words, the most significant first; an IPv4 address is in the first."""
    if family is Family.IPV4:
        return [addr_bits, 0, 0, 0]
    return [addr_bits >> shift & 0xFFFF_FFFF for shift in (96, 64, 32, 0)]


def _pack_next_hop(hop: NextHop, ifname: str) -> bytes:
    shape = 0x100 if hop.is_onlink else 0
    words = [0, 0, 0, 0]
    if hop.via is not None:
        shape |= 4 if hop.via.family is Family.IPV4 else 6
        words = _address_words(*hop.via)
    name = ifname.encode()[: _IFNAME_BYTES - 1].ljust(_IFNAME_BYTES, b"\0")
    return array("I", [shape, hop.ifindex, hop.weight, 0, *words]).tobytes() + name
