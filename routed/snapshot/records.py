"""Route records and next-hop sets inside the snapshot: written unreachable, then published.

    selection of the RIB --head--> common words of many records --network--> one record each
                         --set---> next hops, shared and counted

A million routes through the same eight neighbors have eight next-hop sets; each is freed with the
last record that uses it. A record has a flag that says whether it is current, for programs that
list records.

`RecordStore` is the reference implementation in Python; `NativeRecordStore` uses the optional C
extension (`writer_records.c`) for the loops over routes, which writes the same words.

Failure: `ArenaFull` when a region is used up; nothing that readers can reach has changed then.
"""

from __future__ import annotations

import struct
from array import array
from collections import Counter
from collections.abc import Callable
from types import ModuleType
from typing import TYPE_CHECKING, NamedTuple, Protocol

from ipc.fib_layout import (
    IFNAME_BYTES,
    NEXT_HOP_WORDS,
    NEXT_HOPS_MAX,
    ONLINK_FLAG,
    RECORD_IS_CURRENT,
    RECORD_NEXT_HOPS,
    RECORD_WORDS,
    Header,
)
from ipc.lazy_dataclass import dataclass
from routed.model.prefix import Family
from routed.model.route import NextHop
from routed.rib.table import BestPath, BestPathChanges
from routed.snapshot.arena import Arena

if TYPE_CHECKING:
    from routed.snapshot import _writer

__all__ = ["NativeRecordStore", "NextHopSets", "RecordStore"]

_RECORDS_USED = int(Header.RECORDS_USED)
_HEAD = struct.Struct("=8I")
_NETWORK: dict[Family, Callable[[int], bytes]] = {
    Family.IPV4: struct.Struct("=I12x").pack,
    Family.IPV6: lambda addr_bits: struct.pack("=4I", *_ipv6_words(addr_bits)),
}
"""The last words of a record."""

_SetKey = tuple[tuple[NextHop, str], ...]


@dataclass(slots=True)
class _NextHopSet:
    key: _SetKey
    address: int
    users: int

    @property
    def words(self) -> int:
        return len(self.key) * NEXT_HOP_WORDS


class _Heads(dict[int, bytes]):
    """The first words of the records that share a selection, by prefix length."""

    def __init__(self, shape: int, words: tuple[int, ...]) -> None:
        super().__init__()
        self._shape = shape
        self._words = words

    def __missing__(self, prefix_len: int) -> bytes:
        head = self[prefix_len] = _HEAD.pack(self._shape | prefix_len << 8, *self._words)
        return head


class _Common(NamedTuple):
    """The part that all records of a selection share."""

    best_path: BestPath
    """A reference to the selection, so that no other object gets its id."""
    ifnames: list[str]
    next_hops: _NextHopSet
    heads: _Heads


_COMMON_MAX = 4096


class Allocator(Protocol):
    """Memory of one region; see `Arena`."""

    def allocate(self, words: int, /) -> tuple[int, bool]: ...
    def release(self, address: int, words: int, /) -> None: ...


class NextHopSets:
    """Sets of next hops, each stored once, and how many records use them."""

    def __init__(self, words: memoryview, arena: Allocator) -> None:
        """Begin without sets.

        Args:
            words: the whole memory, format "I".
            arena: where sets are put.
        """
        self._words = words
        self._arena = arena
        self._sets: dict[_SetKey, _NextHopSet] = {}
        self._sets_at: dict[int, _NextHopSet] = {}
        """The sets by address; the empty set is at 0."""
        self._common: dict[Family, dict[int, _Common]] = {family: {} for family in Family}
        """Cache by the id of a selection, for repeated selections."""

    def __len__(self) -> int:
        return len(self._sets)

    def common(
        self, family: Family, best_path: BestPath, ifname_of: Callable[[int], str]
    ) -> tuple[int, _Heads]:
        """Return the part that all records of a selection share.

        Args:
            family: the family of the routes.
            selection: the RIB's best path.
            ifname_of: returns the name of a link, by ifindex.

        Returns:
            The address of its set, which is written if it is new, and the first words of a record
            by prefix length. The caller counts the users.

        Raises:
            ArenaFull: no room for the set.
        """
        hops = best_path.next_hops[:NEXT_HOPS_MAX]
        ifnames = [ifname_of(hop.ifindex) for hop in hops]
        known = self._common[family]
        common = known.get(id(best_path))
        if common is not None and common.ifnames == ifnames:
            found = common.next_hops
            if self._sets_at.get(found.address) is found:  # else its last user was dropped
                return found.address, common.heads
        attributes = best_path.attributes
        found = self._share(tuple(zip(hops, ifnames, strict=True)))
        heads = _Heads(
            _version(family) | attributes.source << 16 | attributes.type << 24,
            (
                attributes.distance, attributes.metric, attributes.tag,
                found.address, len(found.key), 0, 0,
            ),
        )  # fmt: skip
        if len(known) >= _COMMON_MAX:
            known.clear()
        known[id(best_path)] = _Common(best_path, ifnames, found, heads)
        return found.address, heads

    def _share(self, key: _SetKey) -> _NextHopSet:
        found = self._sets.get(key)
        if found is None:
            found = _NextHopSet(key, address=0, users=0)
            if key:
                found.address, _ = self._arena.allocate(found.words)
                packed = b"".join(_pack_next_hop(hop, ifname) for hop, ifname in key)
                self._words[found.address : found.address + found.words] = array("I", packed)
            self._sets[key] = self._sets_at[found.address] = found
        return found

    def count(self, address: int, users: int) -> None:
        """Add to the number of records that use the set at an address; at 0 the set is freed."""
        found = self._sets_at[address]
        found.users += users
        if not found.users:
            del self._sets[found.key], self._sets_at[address]
            if found.words:
                self._arena.release(address, found.words)


class RecordStore:
    """Owner of the route records."""

    def __init__(self, words: memoryview, arena: Arena, sets: NextHopSets) -> None:
        """Begin without records.

        Args:
            words: the whole memory, format "I".
            arena: the region for records only.
            sets: the next-hop sets in the same memory.
        """
        self._words = words
        self._bytes = words.cast("B")
        self._arena = arena
        self._sets = sets

    def write(self, changes: BestPathChanges, ifname_of: Callable[[int], str]) -> array[int]:
        """Write the routes of a burst to memory that no reader reaches yet.

        Args:
            changes: best-path changes of one family.
            ifname_of: returns the name of a link, by ifindex.

        Returns:
            The number of each route's record, from 1; 0 for no route.

        Raises:
            ArenaFull: no room.

        Cost: 0.5 us a route where many share their selections.
        """
        family, keys, best_paths = changes
        pack_network = _NETWORK[family]
        common: dict[int, tuple[int, _Heads]] = {}
        users: dict[int, int] = {}
        records: list[bytes] = []
        for key, best_path in zip(keys, best_paths, strict=True):
            if best_path is not None:
                number = id(best_path)
                if number not in common:
                    common[number] = self._sets.common(family, best_path, ifname_of)
                    users[number] = 0
                users[number] += 1
                records.append(common[number][1][key & 0xFF] + pack_network(key >> 8))
        numbers = iter(self._store(records))
        for number, (address, _) in common.items():
            self._sets.count(address, users[number])
        return array("I", [0 if best_path is None else next(numbers) for best_path in best_paths])

    def _store(self, records: list[bytes]) -> list[int]:
        """Store records in free places; returns their numbers."""
        arena, memory, words = self._arena, self._bytes, self._words
        used, fresh = arena.allocate_many(RECORD_WORDS, len(records))
        for at, record in zip(used, records, strict=False):
            memory[4 * at : 4 * (at + RECORD_WORDS)] = record
            words[at + RECORD_IS_CURRENT] = 1  # after the rest: a reader may be listing records
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

    def drop(self, numbers: array[int]) -> None:
        """Release records that readers can no longer reach; 0 is none."""
        words, first = self._words, self._arena.first - RECORD_WORDS
        users: Counter[int] = Counter()
        for number in numbers:
            if number:
                at = first + number * RECORD_WORDS
                words[at + RECORD_IS_CURRENT] = 0
                self._arena.release(at, RECORD_WORDS)
                users[words[at + RECORD_NEXT_HOPS]] += 1
        for address, count in users.items():
            self._sets.count(address, -count)


class NativeRecordStore:
    """A `RecordStore` that uses the C extension."""

    def __init__(
        self, native: ModuleType, words: memoryview, arena: _writer.Arena, sets: NextHopSets
    ) -> None:
        """Begin without records.

        Args:
            native: the extension, `_writer`.
            words, arena, sets: as for `RecordStore`.
        """
        self._write: Callable[..., tuple[array[int], list[int]]] = native.write_records
        self._drop: Callable[..., list[tuple[int, int]]] = native.drop_records
        self._words = words
        self._arena = arena
        self._sets = sets

    def write(self, changes: BestPathChanges, ifname_of: Callable[[int], str]) -> array[int]:
        """Do the same as `RecordStore.write`. Cost: 0.1 us per route if many share selections."""
        family, keys, best_paths = changes
        addresses: list[int] = []

        def head_of(best_path: BestPath) -> bytes:
            address, heads = self._sets.common(family, best_path, ifname_of)
            addresses.append(address)
            return heads[0]  # without the length, which the extension adds

        numbers, users = self._write(
            self._words, self._arena, family is Family.IPV6, keys, best_paths, head_of
        )
        for address, count in zip(addresses, users, strict=True):
            self._sets.count(address, count)
        return numbers

    def drop(self, numbers: array[int]) -> None:
        """Do the same as `RecordStore.drop`."""
        for address, count in self._drop(self._words, self._arena, numbers):
            self._sets.count(address, -count)


def _version(family: Family) -> int:
    return 4 if family is Family.IPV4 else 6


def _ipv6_words(addr_bits: int) -> tuple[int, int, int, int]:
    """Split an IPv6 address into words, the most significant first."""
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
