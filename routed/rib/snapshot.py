"""The single writer of the shared-memory FIB: records, next-hop sets, two tries, one memfd.

The layout and the rules for readers are in `ipc/snapshot.py`. What is published here is the RIB's
choice for every prefix, kernel routes and connected ones alike.

One burst of changes is published in an order that a reader can interrupt anywhere:

    1  new records and next-hop sets, in memory that nobody can reach yet
    2  the default routes and the tries' words, each by one aligned store: now they are reachable
    3  the generation
    4  what was replaced goes to limbo; the epoch moves on at most every TICK_S, and with it the
       compaction of the tries

Next-hop sets are shared: a million routes through the same eight neighbors have eight sets. They
are counted, and freed with the last record that uses them.

The file is as large as the address width of the layout allows and sparse: memory is used as it is
touched, an empty table costs one page. After it is mapped it is sealed: nobody can shrink or grow
it, and nobody but this mapping can write it (F_SEAL_FUTURE_WRITE; Linux 5.1).

Failure: `ArenaFull` when a region is used up; what was published before stays right.

Sources: memfd_create(2); kernel memory order: aligned 32-bit stores are single stores on every
machine that Linux runs on, and x86-64 keeps their order. Elsewhere the C extension puts a release
barrier where order matters; without it a reader on such a machine could in theory see a word before
what it leads to.
"""

from __future__ import annotations

import fcntl
import mmap
import os
import struct
from array import array
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from ipc.fib_layout import (
    ADDRESS_MASK,
    ENDIAN_MARK,
    F_SEAL_FUTURE_WRITE,
    FAMILY_WORDS,
    HEADER_BYTES,
    IFNAME_BYTES,
    LAYOUT_VERSION,
    MAGIC,
    NEXT_HOP_WORDS,
    NEXT_HOPS_MAX,
    ONLINK_FLAG,
    RECORD_IS_CURRENT,
    RECORD_NEXT_HOPS,
    RECORD_WORDS,
    FamilyHeader,
    Header,
)
from ipc.fib_native import fence
from routed.model.prefix import Address, Family, Prefix
from routed.model.route import NextHop, PathAttributes
from routed.rib.arena import Arena
from routed.rib.block import BlockBuilder, build_block, native_build_block
from routed.rib.compaction import Compaction
from routed.rib.lctrie import LcTrie
from routed.rib.table import BestChanges, Selection

__all__ = ["FibSnapshot", "MemoryPart"]

TRIE_WORDS = 1 << 26
"""256 MiB, the reach of a trie word's address; a million IPv4 prefixes take about 14 MB of it."""
DATA_WORDS = 1 << 26
"""256 MiB, three quarters for records (four million routes) and one for next-hop sets."""

TICK_NS = 10_000_000
"""The epoch moves at most this often: a reader that is interrupted for less never has to retry."""

_ROOT_BITS = {Family.IPV4: 18, Family.IPV6: 16}
_CROWDED = {Family.IPV4: 256, Family.IPV6: 256}
_STRIDE_BITS = 8
_PAGE_WORDS = HEADER_BYTES // 4

_DEFAULT_RECORD = {
    family: Header.IPV4 + position * FAMILY_WORDS + FamilyHeader.DEFAULT_RECORD
    for position, family in enumerate(Family)
}
_ROUTES = {
    family: Header.IPV4 + position * FAMILY_WORDS + FamilyHeader.ROUTES
    for position, family in enumerate(Family)
}
# Plain numbers for what every burst touches: an enumeration's member costs as much as the store.
_EPOCH = int(Header.EPOCH)
_GENERATION = Header.GENERATION // 2
_HEARTBEAT_NS = Header.HEARTBEAT_NS // 2
_RECORDS_USED = int(Header.RECORDS_USED)

_RECORD_HEAD = struct.Struct("=8I")

_NETWORK: dict[Family, Callable[[int], bytes]] = {
    Family.IPV4: struct.Struct("=I12x").pack,
    Family.IPV6: lambda addr_bits: struct.pack("=4I", *_ipv6_words(addr_bits)),
}
"""The last words of a record."""

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
    key: _SetKey
    address: int
    users: int

    @property
    def words(self) -> int:
        return len(self.key) * NEXT_HOP_WORDS


class FibSnapshot:
    """Owns the memfd and everything in it."""

    def __init__(
        self,
        router_id: Address,
        daemon_pid: int,
        *,
        trie_words: int = TRIE_WORDS,
        data_words: int = DATA_WORDS,
        build_block: BlockBuilder = native_build_block or build_block,
    ) -> None:
        """Make an empty snapshot, mapped and sealed.

        Args:
            router_id: for whoever maps it.
            daemon_pid: the same.
            trie_words: room for both tries, at most what a trie word can address.
            data_words: room for records and next-hop sets.
            build_block: what builds the tries' blocks.

        Raises:
            OSError: no memory, no descriptor, or a kernel before 5.1.
        """
        trie_end = min(_PAGE_WORDS + trie_words, ADDRESS_MASK + 1)
        sets_first = trie_end + data_words * 3 // 4
        sets_end = trie_end + data_words
        total_words = -(-sets_end // _PAGE_WORDS) * _PAGE_WORDS
        self._is_closed = False
        self._descriptor = os.memfd_create("routed-fib", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        try:
            self._memory = _map_sealed(self._descriptor, 4 * total_words)
        except OSError:
            os.close(self._descriptor)
            raise
        self._words = memoryview(self._memory).cast("I")
        self._longs = memoryview(self._memory).cast("Q")
        self._trie_arena = Arena(_PAGE_WORDS, trie_end)
        self._record_arena = Arena(trie_end, sets_first)
        self._set_arena = Arena(sets_first, sets_end)
        self._tries = {family: self._new_trie(family, build_block) for family in Family}
        self._compaction = Compaction(self._trie_arena, self._tries.values())
        self._sets: dict[_SetKey, _NextHopSet] = {}
        self._sets_at: dict[int, _NextHopSet] = {}
        """The same by address; the one without next hops is at 0."""
        self._ticked_at_ns = 0
        self._write_header(router_id, daemon_pid)

    def _new_trie(self, family: Family, build: BlockBuilder) -> LcTrie:
        return LcTrie(
            self._words,
            self._trie_arena,
            width=family.width,
            root_bits=_ROOT_BITS[family],
            stride_bits=_STRIDE_BITS,
            crowded=_CROWDED[family],
            build_block=build,
        )

    def _write_header(self, router_id: Address, daemon_pid: int) -> None:
        words = self._words
        words[Header.LAYOUT_VERSION] = LAYOUT_VERSION
        words[Header.ENDIAN_MARK] = ENDIAN_MARK
        words[Header.ROUTER_ID] = router_id.addr_bits
        words[Header.TOTAL_WORDS] = len(words)
        words[Header.DAEMON_PID] = daemon_pid
        regions = (self._trie_arena, self._record_arena, self._set_arena)
        for position, arena in enumerate(regions):
            words[Header.TRIE_FIRST + 2 * position] = arena.first
            words[Header.TRIE_END + 2 * position] = arena.end
        for family in Family:
            block = _family_block(family)
            words[block + FamilyHeader.ROOT_ADDRESS] = self._tries[family].root_address
            words[block + FamilyHeader.ROOT_BITS] = _ROOT_BITS[family]
            words[block + FamilyHeader.STRIDE_BITS] = _STRIDE_BITS
        words[Header.MAGIC] = MAGIC  # last: now it is a snapshot

    # --- questions

    def __contains__(self, prefix: Prefix) -> bool:
        """Whether a route of exactly this prefix is published."""
        family, addr_bits, prefix_len = prefix
        if not prefix_len:
            return bool(self._words[_DEFAULT_RECORD[family]])
        return bool(self._tries[family].get(addr_bits, prefix_len))

    def path(self, address: Address) -> list[str]:
        """How a search for an address goes through the trie, a line a step, for people."""
        lines = self._tries[address.family].path(address.addr_bits)
        default = self._words[_family_block(address.family) + FamilyHeader.DEFAULT_RECORD]
        return [*lines, f"default route: {f'record {default}' if default else 'none'}"]

    # --- publishing

    def apply(
        self, changes: Iterable[BestChanges], ifname_of: Callable[[int], str], now_ns: int
    ) -> None:
        """Publish one burst of changes; none after `close`.

        Args:
            changes: each family at most once.
            ifname_of: the name of a link, for the records.
            now_ns: CLOCK_MONOTONIC.

        Raises:
            ArenaFull: a region is used up. What was replaced is not reused then, so whatever
                readers still find stays as it was; the burst is published in part.
        """
        if self._is_closed:
            return
        burst = [(change, self._write_records(change, ifname_of)) for change in changes]
        fence()  # first the records, then the words that lead to them
        for change, numbers in burst:
            self._drop_records(self._publish(change, numbers))
        self._longs[_GENERATION] += 1
        self.heartbeat(now_ns)

    def _publish(self, changes: BestChanges, numbers: list[int]) -> list[int]:
        """Lead readers to the new records; returns the numbers of those that were replaced."""
        family, keys, _ = changes
        trie, default, replaced = self._tries[family], _DEFAULT_RECORD[family], []
        has_default = keys[:1] == [0]  # in order, and a prefix of length 0 is the least
        if has_default:
            replaced.append(self._words[default])
            self._words[default] = numbers[0]
        replaced += trie.update(keys[has_default:], numbers[has_default:])
        self._words[_ROUTES[family]] = len(trie) + bool(self._words[default])
        return [number for number in replaced if number]

    def heartbeat(self, now_ns: int) -> None:
        """Give a sign of life, and let the epoch move on if it is time; nothing after `close`.

        Args:
            now_ns: CLOCK_MONOTONIC.
        """
        if self._is_closed:
            return
        self._longs[_HEARTBEAT_NS] = now_ns
        if now_ns - self._ticked_at_ns >= TICK_NS:
            self._ticked_at_ns = now_ns
            # First the epoch: a reader must see it move before it can see memory reused.
            fence()
            self._words[_EPOCH] = self._words[_EPOCH] + 1 & 0xFFFF_FFFF
            fence()
            for arena in (self._trie_arena, self._record_arena, self._set_arena):
                arena.advance()
            self._compaction.step()

    def _write_records(self, changes: BestChanges, ifname_of: Callable[[int], str]) -> list[int]:
        """Write routes where nobody looks yet; returns their numbers, 0 for no route.

        Cost: 0.5 us a route where many share their selections.
        """
        family, keys, selections = changes
        pack_network = _NETWORK[family]
        heads: dict[int, _Head] = {}
        records: list[bytes] = []
        for key, selection in zip(keys, selections, strict=True):
            if selection is not None:
                head = heads.get(id(selection))
                if head is None:
                    head = heads[id(selection)] = self._head(family, selection, ifname_of)
                head.users += 1
                records.append(head[key & 0xFF] + pack_network(key >> 8))
        for head in heads.values():
            head.next_hops.users += head.users
        numbers = iter(self._store_records(records))
        return [0 if selection is None else next(numbers) for selection in selections]

    def _head(self, family: Family, selection: Selection, ifname_of: Callable[[int], str]) -> _Head:
        hops = selection.next_hops[:NEXT_HOPS_MAX]
        next_hops = self._share_set(tuple([(hop, ifname_of(hop.ifindex)) for hop in hops]))
        return _Head(family, selection.attributes, next_hops)

    def _store_records(self, records: list[bytes]) -> list[int]:
        """Store records in free places; returns their numbers."""
        arena, memory, words = self._record_arena, self._memory, self._words
        used, fresh = arena.allocate_many(RECORD_WORDS, len(records))
        for at, record in zip(used, records, strict=False):
            memory[4 * at : 4 * (at + RECORD_WORDS)] = record
            words[at + RECORD_IS_CURRENT] = 1  # after the rest: a listing may come by
        count = len(records) - len(used)
        end = fresh + count * RECORD_WORDS
        if count:
            memory[4 * fresh : 4 * end] = b"".join(records[len(used) :])
            words[fresh + RECORD_IS_CURRENT : end : RECORD_WORDS] = array("I", [1]) * count
            words[_RECORDS_USED] = arena.reached_words // RECORD_WORDS
        before_first = arena.first - RECORD_WORDS  # the first record is number 1
        return [
            (at - before_first) // RECORD_WORDS for at in (*used, *range(fresh, end, RECORD_WORDS))
        ]

    def _drop_records(self, numbers: list[int]) -> None:
        words, first = self._words, self._record_arena.first - RECORD_WORDS
        for number in numbers:
            at = first + number * RECORD_WORDS
            words[at + RECORD_IS_CURRENT] = 0
            self._record_arena.release(at, RECORD_WORDS)
            found = self._sets_at[words[at + RECORD_NEXT_HOPS]]
            found.users -= 1
            self._drop_unused(found)

    def _drop_unused(self, found: _NextHopSet) -> None:
        if not found.users:
            del self._sets[found.key], self._sets_at[found.address]
            if found.words:
                self._set_arena.release(found.address, found.words)

    def _share_set(self, key: _SetKey) -> _NextHopSet:
        """The set of these next hops, written if it is new; the caller counts its users."""
        found = self._sets.get(key)
        if found is None:
            found = _NextHopSet(key, address=0, users=0)
            if key:
                found.address, _ = self._set_arena.allocate(found.words)
                packed = b"".join(_pack_next_hop(hop, ifname) for hop, ifname in key)
                self._words[found.address : found.address + found.words] = array("I", packed)
            self._sets[key] = self._sets_at[found.address] = found
        return found

    # --- its life

    def fileno(self) -> int:
        """The memfd, for handing out; whoever gets it can map it for reading only."""
        return self._descriptor

    def close(self) -> None:
        """Tell readers that nothing more will come, and unmap; their mappings live on."""
        if self._is_closed:
            return
        self._is_closed = True
        self._words[Header.IS_CLOSED] = 1
        self._words.release()
        self._longs.release()
        self._compaction.close()
        self._tries.clear()
        self._memory.close()
        os.close(self._descriptor)

    def memory(self) -> Sequence[MemoryPart]:
        """What the regions take, for `show memory`."""
        parts = (
            (
                "trie",
                self._trie_arena,
                sum(len(trie) for trie in self._tries.values()),
                "LC-tries of both families; items are prefixes (zero pages cost nothing)",
            ),
            (
                "records",
                self._record_arena,
                self._record_arena.live_words // RECORD_WORDS,
                "one for each selected route",
            ),
            (
                "next-hop sets",
                self._set_arena,
                len(self._sets),
                "shared by the routes that have the same next hops",
            ),
        )
        return [
            MemoryPart(name, 4 * arena.touched_words, items, words)
            for name, arena, items, words in parts
        ]


class _Head(dict[int, bytes]):
    """The first words of the records that share a selection, by prefix length."""

    def __init__(self, family: Family, attributes: PathAttributes, next_hops: _NextHopSet) -> None:
        super().__init__()
        self.next_hops = next_hops
        self.users = 0
        self._version = _version(family)
        self._attributes = attributes

    def __missing__(self, prefix_len: int) -> bytes:
        attributes, next_hops = self._attributes, self.next_hops
        head = self[prefix_len] = _RECORD_HEAD.pack(
            self._version | prefix_len << 8 | attributes.source << 16 | attributes.type << 24,
            attributes.distance, attributes.metric, attributes.tag,
            next_hops.address, len(next_hops.key), 0, 0,
        )  # fmt: skip
        return head


def _map_sealed(descriptor: int, size: int) -> mmap.mmap:
    """Give a memfd its size for good, map it for writing, and let nobody else do that."""
    os.ftruncate(descriptor, size)
    memory = mmap.mmap(descriptor, size)
    try:
        fcntl.fcntl(
            descriptor,
            fcntl.F_ADD_SEALS,
            fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | F_SEAL_FUTURE_WRITE | fcntl.F_SEAL_SEAL,
        )
    except OSError:
        memory.close()
        raise
    return memory


def _family_block(family: Family) -> int:
    return Header.IPV4 + (FAMILY_WORDS if family is Family.IPV6 else 0)


def _version(family: Family) -> int:
    return 4 if family is Family.IPV4 else 6


def _ipv6_words(addr_bits: int) -> tuple[int, int, int, int]:
    """The most significant first."""
    return (
        addr_bits >> 96,
        addr_bits >> 64 & 0xFFFF_FFFF,
        addr_bits >> 32 & 0xFFFF_FFFF,
        addr_bits & 0xFFFF_FFFF,
    )


def _pack_next_hop(hop: NextHop, ifname: str) -> bytes:
    shape = ONLINK_FLAG if hop.is_onlink else 0
    words = (0, 0, 0, 0)
    if hop.via is not None:
        family, addr_bits = hop.via
        shape |= _version(family)
        words = (addr_bits, 0, 0, 0) if family is Family.IPV4 else _ipv6_words(addr_bits)
    name = ifname.encode()[: IFNAME_BYTES - 1].ljust(IFNAME_BYTES, b"\0")
    return array("I", [shape, hop.ifindex, hop.weight, 0, *words]).tobytes() + name
