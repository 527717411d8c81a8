"""Searches that are disturbed between any two reads, and snapshots that are damaged anywhere.

The writer runs before each read; the Python search reads through a memoryview, so that this can be
forced. The C search cannot be stopped between two reads; `tests/process/test_fib_survival.py` tests
it, where writers and readers really run at the same time.
"""

from __future__ import annotations

import mmap
import os
import random
import struct
from array import array
from collections.abc import Callable, Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ipc.extension import native
from ipc.fib_layout import FAMILY_WORDS, FamilyHeader, Header, SnapshotError
from ipc.fib_search import PythonSearch
from ipc.snapshot import FibReader
from routed.model.prefix import Address, Family, Prefix
from routed.snapshot.parts import ROOT_BITS, MakeParts
from routed.snapshot.writer import FibSnapshot
from tests.fakes.fib_writer import (
    PARTS,
    SEARCHES,
    MakeSearch,
    Writer,
    add,
    best_path,
    gathered,
    hop,
    table,
)
from tests.fakes.lpm_oracle import LpmOracle


@pytest.fixture
def writer() -> Iterator[Writer]:
    writer = Writer()
    yield writer
    writer.snapshot.close()


class WatchedWords:
    """Words that call a function before each one is read."""

    def __init__(self, words: memoryview, step: Callable[[], None]) -> None:
        self._words, self._step = words, step

    def __getitem__(self, index: int | slice) -> object:
        self._step()
        return self._words[index]

    def __len__(self) -> int:
        return len(self._words)

    def release(self) -> None:
        self._words.release()


class WatchedSearch(PythonSearch):
    """The Python search over such words."""

    def __init__(self, memory: mmap.mmap, step: Callable[[], None]) -> None:
        words = WatchedWords(memoryview(memory).cast("I"), step)
        super().__init__(memory)
        super().release()
        self._set_memory(words)  # type: ignore[arg-type]


@pytest.mark.parametrize("family", Family)
@pytest.mark.parametrize("make_parts", PARTS.values(), ids=PARTS.keys())
@pytest.mark.parametrize("seed", range(8))
def test_an_answer_is_old_or_new_whatever_the_writer_does_meanwhile(
    make_parts: MakeParts, family: Family, seed: int
) -> None:
    writer = Writer(make_parts)
    rng = random.Random(seed)
    width = family.width
    # Long prefixes fill a few slots, so that directories and blocks are added and removed.
    prefixes = [
        Prefix.masked(
            family,
            0x0A << width - 8 | rng.getrandbits(12) << width - 24 | rng.getrandbits(4) << 2,
            rng.choice([0, 14, 18, 20, 24, 28, 30, 32, width - 1, width]),
        )
        for _ in range(150)
    ]
    oracle = LpmOracle(width)
    address = 0
    history: list[int] = []

    def change() -> None:
        prefix, value = rng.choice(prefixes), rng.randrange(1, 1000)
        if rng.random() < 0.4:
            if oracle.prefixes.pop((prefix.addr_bits, prefix.prefix_len), None):
                writer.apply((prefix, None))
        else:
            oracle.put(prefix.addr_bits, prefix.prefix_len, value)
            writer.apply((prefix, best_path(metric=value)))
        history.append(oracle.lookup(address))

    steps = 0

    def compact() -> None:
        """Move what lies in the upper half, as far as there is free memory."""
        arena, trie = writer.snapshot._parts.trie_region, writer.snapshot._parts.tries[family]
        arena.coalesce()
        limit = trie.root_address + (2 << ROOT_BITS[family]) + rng.randrange(4000)
        for place in trie.places_above(limit):
            trie.move(place, limit)

    def step() -> None:
        nonlocal steps
        steps += 1
        if rng.random() < 0.3:
            change()
        elif rng.random() < 0.1:
            compact()

    for _ in range(100):
        change()
    with writer.reader(search=lambda memory: WatchedSearch(memory, step)) as reader:
        mapping = reader._map
        mapping.words = WatchedWords(mapping.words, step)  # type: ignore[assignment]
        for _ in range(200):
            address = rng.choice(prefixes).addr_bits | rng.getrandbits(10)
            history[:] = [oracle.lookup(address)]
            found = reader.lookup(Address(family, address).packed)
            assert (found.metric if found else 0) in history
    assert steps > 1000
    writer.snapshot.close()


def _damageable() -> mmap.mmap:
    """A small snapshot of both families, with full slots, in private memory."""
    writer = FibSnapshot(Address.parse("10.255.0.1"), 1, trie_words=800_000, data_words=12_000)
    content = table(random.Random(7), 120)
    changes = [
        add(str(prefix), hop("192.0.2.1"), metric=value) for prefix, value in content.items()
    ]
    changes += [add(f"10.0.{n >> 4}.{n << 4 & 255}/28") for n in range(300)]
    changes += [add(f"2001:db8:{n:x}::/48") for n in range(100)]
    writer.apply(gathered(changes), lambda index: "eth0", 10**9)
    memory = mmap.mmap(-1, os.fstat(writer.fileno()).st_size)
    memory[:] = writer._memory.mapping[:]
    writer.close()
    return memory


_MEMORY = _damageable()
_LIVE = [index for index, word in enumerate(memoryview(_MEMORY).cast("I")) if word]
_SEARCHES = [make for make in SEARCHES.values() if make is not None]

words = st.one_of(
    st.integers(0, 2**32 - 1),
    # A kind and an offset: near the beginning, near the end, and around the used words.
    st.builds(
        lambda kind, at: kind << 26 | at,
        st.integers(0, 31),
        st.one_of(
            st.integers(0, 20),
            st.sampled_from(_LIVE),
            st.integers(-20, 0).map(lambda back: len(_MEMORY) // 4 + back),
        ),
    ),
)


@given(
    damage=st.lists(st.tuples(st.sampled_from(_LIVE), words), max_size=30),
    addresses=st.lists(st.integers(0, 2**32 - 1), min_size=1, max_size=5),
)
@settings(max_examples=200, deadline=None)
def test_a_damaged_snapshot_gives_an_answer_or_an_error(
    damage: list[tuple[int, int]], addresses: list[int]
) -> None:
    with memoryview(_MEMORY) as view, view.cast("I") as places:
        saved = {place: places[place] for place, _ in damage}
        for place, word in damage:
            places[place] = word
        try:
            # No trie of a header that was refused is ever walked.
            for make in _SEARCHES:
                _try_everything(make, [*addresses, 0x0A010203, 0x0A000010])
        finally:
            for place, word in saved.items():
                places[place] = word


@pytest.mark.parametrize("make", _SEARCHES)
def test_a_walk_in_a_circle_ends(make: MakeSearch) -> None:
    """A root entry points to its own directory, and a branch to itself."""
    for kind, offset in ((0, 0), (1, 0), (15, 0), (1, 5)):
        with memoryview(_MEMORY) as view, view.cast("I") as places:
            for block in (Header.IPV4, Header.IPV4 + FAMILY_WORDS):
                root = places[block + FamilyHeader.ROOT_ADDRESS]
                at = root + 2 * (0xC0A80000 >> 14 if block == Header.IPV4 else 0x2002)
                saved, places[at] = places[at], kind << 26 | root + offset
                try:
                    _try_everything(make, [0xC0A80000])
                finally:
                    places[at] = saved


@pytest.mark.parametrize("block", [Header.IPV4, Header.IPV4 + FAMILY_WORDS])
def test_a_root_at_an_odd_word_is_refused(block: int) -> None:
    def odd() -> mmap.mmap:
        copy = mmap.mmap(-1, len(_MEMORY))
        copy[:] = _MEMORY[:]
        with memoryview(copy) as view, view.cast("I") as places:
            places[block + FamilyHeader.ROOT_ADDRESS] += 1
        return copy

    with pytest.raises(SnapshotError, match="odd word"):
        FibReader(odd())
    if native is not None:
        with pytest.raises(SnapshotError, match="header"):
            native.Search(odd())


def _try_everything(make: MakeSearch, addresses: list[int]) -> None:
    copy = mmap.mmap(-1, len(_MEMORY))
    copy[:] = _MEMORY[:]
    try:
        reader = FibReader(copy, search=make)
    except SnapshotError:
        return
    with reader:
        packed = struct.pack(f"!{len(addresses)}I", *addresses)
        wide = b"".join(struct.pack("!I", bits) * 4 for bits in addresses)
        wide += bytes.fromhex("20010db80005") + bytes(10)
        for ask in (
            lambda: [reader.lookup(packed[at : at + 4]) for at in range(0, len(packed), 4)],
            lambda: [reader.lookup(wide[at : at + 16]) for at in range(0, len(wide), 16)],
            lambda: reader.lookup_many(packed * 8, 4),  # more than a vector has
            lambda: reader.lookup_many(wide, 6),
            lambda: list(reader.routes()),
        ):
            try:
                ask()
            except SnapshotError:
                pass


@given(seed=st.integers(0, 2**32 - 1), version=st.sampled_from([4, 6]))
@settings(max_examples=30, deadline=None)
def test_all_searches_agree_on_any_batch(seed: int, version: int) -> None:
    rng = random.Random(seed)
    count = rng.choice([0, 1, 63, 64, 65, 5000])
    packed = b"".join(
        rng.choice([b"\n", b" ", b"\xc0", b"\x20\x01\x0d\xb8\x00", rng.randbytes(4)])[:15]
        + rng.randbytes(16)
        for _ in range(count)
    )
    size = 4 if version == 4 else 16
    addresses = packed[: len(packed) // size * size]
    found = []
    for make in _SEARCHES:
        search = make(_MEMORY)
        out = array("I", bytes(4 * (len(addresses) // size)))
        search.find_many(addresses, version, out)
        search.release()
        found.append(out)
    assert all(out == found[0] for out in found)
    assert count < 1000 or any(found[0])


@given(seed=st.integers(0, 2**32 - 1), count=st.sampled_from([15, 16, 17, 255, 256, 257, 3000]))
@settings(max_examples=20, deadline=None)
def test_all_searches_agree_on_a_batch_within_a_dense_table(seed: int, count: int) -> None:
    """Child directories, branches of branches and buckets, with results and without."""
    rng = random.Random(seed)
    blocks = [rng.randrange(1 << 14) for _ in range(6)]
    prefixes = set()
    for block, often in zip(blocks, (3, 30, 300, 600, 600, 600), strict=True):
        for _ in range(often):
            free = rng.randrange(16)
            network = (block << 18 | rng.randrange(1 << 18)) >> free << free
            prefixes.add(f"{Address(Family.IPV4, network)}/{32 - free}")
    writer = Writer()
    try:
        writer.apply(*map(add, sorted(prefixes)))
        addresses = array(
            "I", (rng.choice(blocks) << 18 | rng.randrange(1 << 18) for _ in range(count))
        )
        found = []
        for make in _SEARCHES:
            with writer.reader(search=make) as reader:
                found.append(reader.lookup_many(addresses))
        assert all(out == found[0] for out in found)
        assert any(found[0])
    finally:
        writer.snapshot.close()
