"""LcTrie against a linear oracle: any table, any order of changes, both families.

Blocks are built by the C extension where it is there, and it is held bit by bit against Python.
"""

from __future__ import annotations

import random
from array import array

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from routed.rib.arena import Arena, ArenaFull
from routed.rib.block import BlockBuilder, Entries, build_block, native_build_block
from routed.rib.lctrie import LcTrie
from tests.fakes.lpm_oracle import LpmOracle

WORDS = 1 << 16
FIRST = 16

# Small directories and crowded slots, so that a handful of prefixes exercises everything that a
# million does in the real sizes.
SMALL = {32: {"root_bits": 4, "stride_bits": 3, "crowded": 4}, 128: {
    "root_bits": 5, "stride_bits": 4, "crowded": 4,
}}  # fmt: skip
REAL = {32: {"root_bits": 18, "stride_bits": 8, "crowded": 256}, 128: {
    "root_bits": 16, "stride_bits": 8, "crowded": 64,
}}  # fmt: skip


def make(width: int, sizes: dict[int, dict[str, int]], words: int = WORDS) -> tuple[LcTrie, Arena]:
    memory = memoryview(array("I", bytes(4 * words)))
    arena = Arena(FIRST, words)
    builder: dict[str, BlockBuilder] = {"build_block": build_both_ways}
    return LcTrie(memory, arena, width=width, **builder, **sizes[width]), arena  # type: ignore[arg-type]


def prefixes(width: int) -> st.SearchStrategy[tuple[int, int]]:
    """Prefixes that nest, touch and crowd: few different top bits, every length."""
    top = st.sampled_from([0, 1, 2, 3, 0x5A, 0xFF, 0x80]).map(lambda byte: byte << (width - 8))
    low = st.one_of(
        st.integers(0, 15),
        st.integers(0, 15).map(lambda value: value << (width // 2)),
        st.integers(0, (1 << (width - 8)) - 1),
    )

    def masked(parts: tuple[int, int, int]) -> tuple[int, int]:
        high, rest, length = parts
        host_bits = width - length
        return (high | rest) >> host_bits << host_bits, length

    return st.tuples(top, low, st.integers(1, width)).map(masked)


def build_both_ways(
    entries: Entries, values: array[int], width: int, left: int
) -> tuple[int, bytes]:
    """The reference; and the C extension, where it is there, builds the very same."""
    block = build_block(entries, values, width, left)
    if native_build_block is not None:
        assert native_build_block(entries, values, width, left) == block
    return block


def update(trie: LcTrie, changes: list[tuple[int, int, int]]) -> list[int]:
    """Apply (network bits, length, value), in order."""
    changes = sorted(changes)
    entries = [addr_bits << 8 | length for addr_bits, length, _ in changes]
    return trie.update(entries, [value for _, _, value in changes])


class TrieMachine(RuleBasedStateMachine):
    """Random changes, one by one and in batches."""

    @initialize(width=st.sampled_from([32, 128]))
    def start(self, width: int) -> None:
        self.width = width
        self.trie, self.arena = make(width, SMALL)
        self.oracle = LpmOracle(width)

    @rule(data=st.data(), value=st.integers(1, 5))
    def set_one(self, data: st.DataObject, value: int) -> None:
        addr_bits, length = data.draw(prefixes(self.width))
        old = self.oracle.prefixes.get((addr_bits, length), 0)
        assert self.trie.get(addr_bits, length) == old
        assert self.trie.set(addr_bits, length, value) == old
        self.oracle.put(addr_bits, length, value)

    @rule(data=st.data())
    def remove_one(self, data: st.DataObject) -> None:
        if self.oracle.prefixes:
            addr_bits, length = data.draw(st.sampled_from(sorted(self.oracle.prefixes)))
            assert self.trie.set(addr_bits, length, 0) == self.oracle.prefixes[addr_bits, length]
            self.oracle.remove(addr_bits, length)

    @rule(data=st.data())
    def change_many(self, data: st.DataObject) -> None:
        added = data.draw(st.dictionaries(prefixes(self.width), st.integers(1, 5), max_size=30))
        present = sorted(self.oracle.prefixes.keys() - added.keys())
        removed = data.draw(st.sets(st.sampled_from(present))) if present else set()
        changes = [(*key, value) for key, value in added.items()] + [(*key, 0) for key in removed]
        before = [self.oracle.prefixes.get(change[:2], 0) for change in sorted(changes)]
        assert update(self.trie, changes) == before
        self.oracle.prefixes.update(added)
        for key in removed:
            self.oracle.remove(*key)

    @rule()
    def remove_all(self) -> None:
        update(self.trie, [(*key, 0) for key in self.oracle.prefixes])
        self.oracle.prefixes.clear()

    @rule()
    def advance(self) -> None:
        self.arena.advance()

    @rule(limit=st.integers(FIRST, 3000))
    def compact(self, limit: int) -> None:
        """Some of it is moved down; how much is a matter of room."""
        self.arena.coalesce()
        places = self.trie.places_above(limit)
        for place in places:
            if not self.trie.move(place, limit):
                break
        else:
            assert self.trie.places_above(limit) == []

    @invariant()
    def answers_are_the_oracles(self) -> None:
        assert len(self.trie) == len(self.oracle.prefixes)
        for addr_bits in self.oracle.interesting_addresses():
            assert self.trie.lookup(addr_bits) == self.oracle.lookup(addr_bits), hex(addr_bits)

    def teardown(self) -> None:
        """Everything removed gives everything back but the root directory."""
        if hasattr(self, "trie"):
            self.remove_all()
            assert self.arena.live_words == 2 << SMALL[self.width]["root_bits"]


TrieMachine.TestCase.settings = settings(deadline=None, stateful_step_count=12)
TestLcTrie = TrieMachine.TestCase


@pytest.mark.parametrize("width", [32, 128])
@given(data=st.data())
@settings(max_examples=10, deadline=None)
def test_real_sizes_give_the_oracles_answers(width: int, data: st.DataObject) -> None:
    trie, _ = make(width, REAL, words=1 << 21)
    oracle = LpmOracle(width)
    table = data.draw(st.dictionaries(prefixes(width), st.integers(1, 9), min_size=5, max_size=400))
    update(trie, [(*key, value) for key, value in table.items()])
    oracle.prefixes.update(table)
    for addr_bits in oracle.interesting_addresses():
        assert trie.lookup(addr_bits) == oracle.lookup(addr_bits), hex(addr_bits)


def test_a_crowded_slot_becomes_a_directory_and_collapses_again() -> None:
    trie, arena = make(32, REAL, words=1 << 21)
    empty = arena.live_words
    hosts = [(0x0A000000 + number, 32, number % 7 + 1) for number in range(600)]
    for change in hosts:
        trie.set(*change)
    assert all(trie.lookup(addr) == value for addr, _, value in hosts)
    for addr, length, _ in hosts:
        assert trie.set(addr, length, 0)
    assert arena.live_words == empty


def test_a_full_arena_says_so_and_keeps_what_was_there() -> None:
    trie, _ = make(32, SMALL, words=200)
    oracle = LpmOracle(32)
    rng = random.Random(3)

    def fill() -> None:
        while True:
            addr_bits, value = rng.getrandbits(32), rng.randrange(1, 9)
            trie.set(addr_bits, 32, value)
            oracle.put(addr_bits, 32, value)

    with pytest.raises(ArenaFull):
        fill()
    assert all(trie.lookup(addr) == value for (addr, _), value in oracle.prefixes.items())


def test_freed_memory_is_reused_only_after_two_epochs() -> None:
    arena = Arena(0, 64)
    address, is_fresh = arena.allocate(6)
    assert is_fresh
    arena.release(address, 6)
    for _ in range(2):
        arena.advance()
        assert arena.allocate(6)[0] != address
    arena.advance()
    assert arena.allocate(6) == (address, False)


HOST = 0x0A000000 << 8 | 32


@pytest.mark.skipif(native_build_block is None, reason="the C extension is not built")
@pytest.mark.parametrize(
    ("entries", "values", "width", "left"),
    [
        ([], [], 32, 8),
        ([HOST], [], 32, 8),
        ([HOST], [1, 1], 32, 8),
        ([HOST + 1], [1], 32, 8),
        ([0x0A000000 << 8 | 8], [1], 32, 8),
        ([0x0B000000 << 8 | 32, HOST], [1, 1], 32, 8),
        ([HOST | 1 << 40], [1], 32, 8),
        ([-1], [1], 128, 8),
        ([1 << 136], [1], 128, 8),
        ([1 << 200], [1], 128, 8),
        (["x"], [1], 128, 8),
        ([HOST], [1], 32, 32),
        ([HOST], [1], 33, 8),
        (array("Q", [HOST]), [1, 1], 32, 8),
        (array("B", [1] * 9), [1], 32, 8),
    ],
)  # fmt: skip
def test_the_c_builder_refuses_what_no_slot_holds(
    entries: Entries, values: list[int], width: int, left: int
) -> None:
    assert native_build_block is not None
    with pytest.raises((ValueError, TypeError, OverflowError)):
        native_build_block(entries, array("I", values), width, left)
