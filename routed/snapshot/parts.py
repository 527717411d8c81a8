"""The parts of the snapshot's writer, native or in Python.

The C extension `_writer` has arenas, tries and the loops over records; without it, `arena.py`,
`trie.py` and `records.py`, the reference, are used. One test suite covers both.
"""

from __future__ import annotations

import functools
from array import array
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol

from routed.model.prefix import Family
from routed.rib.table import BestPathChanges
from routed.snapshot.arena import Arena
from routed.snapshot.extension import native
from routed.snapshot.records import NativeRecordStore, NextHopSets, RecordStore
from routed.snapshot.trie import LcTrie

__all__ = [
    "ROOT_BITS",
    "STRIDE_BITS",
    "MakeParts",
    "Memory",
    "Parts",
    "Region",
    "Trie",
    "make_tries",
    "native_parts",
    "python_parts",
]

ROOT_BITS = {Family.IPV4: 18, Family.IPV6: 16}
STRIDE_BITS = 8
CROWDED = 256


class Region(Protocol):
    """Memory of one region; see `Arena`."""

    @property
    def live_words(self) -> int: ...
    @property
    def reached_words(self) -> int: ...
    @property
    def touched_words(self) -> int: ...
    @property
    def free_words(self) -> int: ...
    @property
    def first(self) -> int: ...
    @property
    def end(self) -> int: ...
    def advance(self) -> None: ...
    def coalesce(self) -> None: ...


class Trie(Protocol):
    """See `LcTrie`. A place is valid for the trie that returned it only."""

    @property
    def root_address(self) -> int: ...
    def __len__(self) -> int: ...
    def update(self, entries: list[int], values: array[int], /) -> array[int]: ...
    def get(self, addr_bits: int, prefix_len: int, /) -> int: ...
    def places_above(self, address: int, /) -> Sequence[Any]: ...
    def move(self, place: Any, limit: int, /) -> bool: ...


class Records(Protocol):
    """See `RecordStore`."""

    def write(self, changes: BestPathChanges, ifname_of: Callable[[int], str]) -> array[int]: ...
    def drop(self, numbers: array[int]) -> None: ...


class Memory(NamedTuple):
    """Locations of the regions in the words of the snapshot."""

    words: memoryview
    """All of it, format "I"."""
    trie_first: int
    records_first: int
    sets_first: int
    end: int


class Parts(NamedTuple):
    """The objects that work on the regions."""

    trie_region: Region
    record_region: Region
    set_region: Region
    tries: dict[Family, Trie]
    records: Records
    sets: NextHopSets


MakeParts = Callable[[Memory], Parts]


def _make(
    memory: Memory,
    make_arena: Callable[[int, int], Any],
    make_trie: Callable[..., Trie],
    make_records: Callable[[memoryview, Any, NextHopSets], Records],
) -> Parts:
    words, trie_first, records_first, sets_first, end = memory
    trie_arena = make_arena(trie_first, records_first)
    record_arena = make_arena(records_first, sets_first)
    set_arena = make_arena(sets_first, end)
    sets = NextHopSets(words, set_arena)
    tries = {family: _make_trie(make_trie, words, trie_arena, family) for family in Family}
    records = make_records(words, record_arena, sets)
    return Parts(trie_arena, record_arena, set_arena, tries, records, sets)


def make_tries(words: memoryview, first: int, end: int) -> tuple[Region, dict[Family, Trie]]:
    """Make empty tries of both families in memory of their own, native if possible.

    Args:
        words: the memory, format "I"; zero from `first` on.
        first: the word at which the region of the tries begins, with IPv4's root directory.
        end: where it ends.

    Raises:
        ArenaFull: the region is too small for the root directories.
    """
    make_arena: Callable[[int, int], Any] = Arena if native is None else native.Arena
    make_trie: Callable[..., Trie] = LcTrie if native is None else native.Trie
    arena = make_arena(first, end)
    return arena, {family: _make_trie(make_trie, words, arena, family) for family in Family}


def _make_trie(
    make_trie: Callable[..., Trie], words: memoryview, arena: Any, family: Family
) -> Trie:
    return make_trie(
        words,
        arena,
        width=family.width,
        root_bits=ROOT_BITS[family],
        stride_bits=STRIDE_BITS,
        crowded=CROWDED,
    )


def python_parts(memory: Memory) -> Parts:
    """Make the parts in Python."""
    return _make(memory, Arena, LcTrie, RecordStore)


def _make_native(memory: Memory) -> Parts:
    assert native is not None
    make_records = functools.partial(NativeRecordStore, native)
    return _make(memory, native.Arena, native.Trie, make_records)


native_parts: MakeParts | None = None if native is None else _make_native
"""Makes the parts in C; None without the extension."""
