"""The trie against a linear oracle: any table, any order of changes, both families; the one in
Python and, where it is built, that of the C extension. Their blocks are the same bit by
bit.
"""

from __future__ import annotations

import random
from array import array
from typing import NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from routed.snapshot.arena import Arena, ArenaFull
from routed.snapshot.block import Entries, build_block
from routed.snapshot.parts import Trie
from routed.snapshot.trace import TrieShape
from routed.snapshot.trie import LcTrie
from tests.fakes.lpm_oracle import LpmOracle
from tests.fakes.trie_search import lookup

WORDS = 1 << 16
FIRST = 16

# With small directories and full slots a handful of prefixes runs all code that a million runs in
# the real sizes.
SMALL = {32: {"root_bits": 4, "stride_bits": 3, "crowded": 4}, 128: {
    "root_bits": 5, "stride_bits": 4, "crowded": 4,
}}  # fmt: skip
REAL = {32: {"root_bits": 18, "stride_bits": 8, "crowded": 256}, 128: {
    "root_bits": 16, "stride_bits": 8, "crowded": 64,
}}  # fmt: skip


try:
    from routed.snapshot import _writer
except ImportError:
    IMPLEMENTATIONS = ["python"]
else:
    IMPLEMENTATIONS = ["python", "c"]
needs_c = pytest.mark.skipif(len(IMPLEMENTATIONS) == 1, reason="the C extension is not built")


class Made(NamedTuple):
    """A trie, its memory, and its answers."""

    trie: Trie
    arena: Arena | _writer.Arena
    memory: memoryview
    sizes: dict[str, int]
    width: int

    def lookup(self, addr_bits: int) -> int:
        root_address = self.trie.root_address
        bits, stride = self.sizes["root_bits"], self.sizes["stride_bits"]
        return lookup(TrieShape(self.memory, root_address, bits, stride, self.width), addr_bits)

    def set(self, addr_bits: int, length: int, value: int) -> int:
        return self.trie.update([addr_bits << 8 | length], array("I", [value]))[0]

    def update(self, changes: list[tuple[int, int, int]]) -> list[int]:
        """Apply (network bits, length, value) in any order. Returns the earlier values in the
        same order.
        """
        changes = sorted(changes)
        entries = [addr_bits << 8 | length for addr_bits, length, _ in changes]
        return list(self.trie.update(entries, array("I", [value for _, _, value in changes])))


def make(
    implementation: str, width: int, sizes: dict[int, dict[str, int]], words: int = WORDS
) -> Made:
    memory = memoryview(array("I", bytes(4 * words)))
    own = sizes[width]
    if implementation == "c":
        native_arena = _writer.Arena(FIRST, words)
        native_trie = _writer.Trie(memory, native_arena, width=width, **own)
        return Made(native_trie, native_arena, memory, own, width)
    arena = Arena(FIRST, words)
    return Made(LcTrie(memory, arena, width=width, **own), arena, memory, own, width)


def prefixes(width: int) -> st.SearchStrategy[tuple[int, int]]:
    """Prefixes that nest, touch and share slots: few different top bits, every length."""
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


class TrieMachine(RuleBasedStateMachine):
    """Random changes, one by one and in batches."""

    @initialize(implementation=st.sampled_from(IMPLEMENTATIONS), width=st.sampled_from([32, 128]))
    def start(self, implementation: str, width: int) -> None:
        self.width = width
        self.made = make(implementation, width, SMALL)
        self.trie, self.arena = self.made.trie, self.made.arena
        self.oracle = LpmOracle(width)

    @rule(data=st.data(), value=st.integers(1, 5))
    def set_one(self, data: st.DataObject, value: int) -> None:
        addr_bits, length = data.draw(prefixes(self.width))
        old = self.oracle.prefixes.get((addr_bits, length), 0)
        assert self.trie.get(addr_bits, length) == old
        assert self.made.set(addr_bits, length, value) == old
        self.oracle.put(addr_bits, length, value)

    @rule(data=st.data())
    def remove_one(self, data: st.DataObject) -> None:
        if self.oracle.prefixes:
            addr_bits, length = data.draw(st.sampled_from(sorted(self.oracle.prefixes)))
            assert self.made.set(addr_bits, length, 0) == self.oracle.prefixes[addr_bits, length]
            self.oracle.remove(addr_bits, length)

    @rule(data=st.data())
    def change_many(self, data: st.DataObject) -> None:
        added = data.draw(st.dictionaries(prefixes(self.width), st.integers(1, 5), max_size=30))
        present = sorted(self.oracle.prefixes.keys() - added.keys())
        removed = data.draw(st.sets(st.sampled_from(present))) if present else set()
        changes = [(*key, value) for key, value in added.items()] + [(*key, 0) for key in removed]
        before = [self.oracle.prefixes.get(change[:2], 0) for change in sorted(changes)]
        assert self.made.update(changes) == before
        self.oracle.prefixes.update(added)
        for key in removed:
            self.oracle.remove(*key)

    @rule()
    def remove_all(self) -> None:
        self.made.update([(*key, 0) for key in self.oracle.prefixes])
        self.oracle.prefixes.clear()

    @rule()
    def advance(self) -> None:
        self.arena.advance()

    @rule(limit=st.integers(FIRST, 3000))
    def compact(self, limit: int) -> None:
        """Move some of it down, as far as there is free memory."""
        self.arena.coalesce()
        places = self.trie.places_above(limit)
        for place in places:
            if not self.trie.move(place, limit):
                break
        else:
            assert self.trie.places_above(limit) == []

    @invariant()
    def answers_equal_the_oracle(self) -> None:
        assert len(self.trie) == len(self.oracle.prefixes)
        for addr_bits in self.oracle.interesting_addresses():
            assert self.made.lookup(addr_bits) == self.oracle.lookup(addr_bits), hex(addr_bits)

    def teardown(self) -> None:
        """After everything is removed, all memory but the root directory is free."""
        if hasattr(self, "trie"):
            self.remove_all()
            assert self.arena.live_words == 2 << SMALL[self.width]["root_bits"]


TrieMachine.TestCase.settings = settings(deadline=None, stateful_step_count=12)
TestLcTrie = TrieMachine.TestCase


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
@pytest.mark.parametrize("width", [32, 128])
@given(data=st.data())
@settings(max_examples=10, deadline=None)
def test_real_sizes_give_the_same_answers_as_the_oracle(
    implementation: str, width: int, data: st.DataObject
) -> None:
    made = make(implementation, width, REAL, words=1 << 21)
    oracle = LpmOracle(width)
    table = data.draw(st.dictionaries(prefixes(width), st.integers(1, 9), min_size=5, max_size=400))
    made.update([(*key, value) for key, value in table.items()])
    oracle.prefixes.update(table)
    for addr_bits in oracle.interesting_addresses():
        assert made.lookup(addr_bits) == oracle.lookup(addr_bits), hex(addr_bits)


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def test_a_full_slot_becomes_a_directory_and_collapses_again(implementation: str) -> None:
    made = make(implementation, 32, REAL, words=1 << 21)
    empty = made.arena.live_words
    hosts = [(0x0A000000 + number, 32, number % 7 + 1) for number in range(600)]
    for change in hosts:
        made.set(*change)
    assert all(made.lookup(addr) == value for addr, _, value in hosts)
    for addr, length, _ in hosts:
        assert made.set(addr, length, 0)
    assert made.arena.live_words == empty


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
@pytest.mark.parametrize("batch", [1, 40])
def test_a_full_arena_raises_and_keeps_its_contents(implementation: str, batch: int) -> None:
    made = make(implementation, 32, SMALL, words=200)
    oracle = LpmOracle(32)
    rng = random.Random(3)
    changes: list[tuple[int, int, int]] = []

    def fill() -> None:
        while True:
            changes[:] = [
                (addr, 32, rng.randrange(1, 9))
                for addr in {rng.getrandbits(32): 0 for _ in range(batch)}
            ]
            made.update(changes)
            for change in changes:
                oracle.put(*change)

    with pytest.raises(ArenaFull):
        fill()
    # The part before the error may have been applied.
    partly = {addr: value for addr, _, value in changes}
    for (addr, _), value in oracle.prefixes.items():
        assert made.lookup(addr) in (value, partly.get(addr, value))


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def test_freed_memory_is_reused_only_after_two_epochs(implementation: str) -> None:
    arena = Arena(1, 65) if implementation == "python" else _writer.Arena(1, 65)
    address, is_fresh = arena.allocate(6)
    assert is_fresh
    arena.release(address, 6)
    for _ in range(2):
        arena.advance()
        assert arena.allocate(6)[0] != address
    arena.advance()
    assert arena.allocate(6) == (address, False)


@given(
    changes=st.lists(
        st.one_of(
            st.tuples(st.just("allocate"), st.integers(1, 300)),
            st.tuples(st.just("release"), st.integers(0, 50)),
            st.tuples(st.sampled_from(["advance", "coalesce"]), st.just(0)),
        ),
        max_size=200,
    )
)
@needs_c
def test_both_arenas_allocate_the_same_memory(changes: list[tuple[str, int]]) -> None:
    python, c = Arena(5, 5000), _writer.Arena(5, 5000)
    live: list[tuple[int, int]] = []
    for what, number in changes:
        if what == "allocate":
            try:
                taken = python.allocate(number)
            except ArenaFull:
                with pytest.raises(ArenaFull):
                    c.allocate(number)
            else:
                assert c.allocate(number) == taken
                live.append((taken[0], number))
        elif what == "release" and number < len(live):
            block = live.pop(number)
            python.release(*block)
            c.release(*block)
        elif what == "advance":
            python.advance()
            c.advance()
        elif what == "coalesce":
            python.coalesce()
            c.coalesce()
        for name in ("first", "end", "live_words", "reached_words", "touched_words", "free_words"):
            assert getattr(c, name) == getattr(python, name), name


@needs_c
@pytest.mark.parametrize("width", [32, 128])
@given(data=st.data())
@settings(deadline=None)
def test_both_builders_make_the_same_block(width: int, data: st.DataObject) -> None:
    left = data.draw(st.integers(1, width - 1))
    base = data.draw(st.integers(0, (1 << width - left) - 1)) << left
    inner = st.tuples(st.integers(0, (1 << left) - 1), st.integers(width - left, width)).map(
        lambda row: (base | row[0] >> width - row[1] << width - row[1]) << 8 | row[1]
    )
    table = data.draw(st.dictionaries(inner, st.integers(1, 5), min_size=1, max_size=60))
    entries = sorted(table)
    values = array("I", [table[entry] for entry in entries])
    assert _writer.build_block(entries, values, width, left) == build_block(
        entries, values, width, left
    )


HOST = 0x0A000000 << 8 | 32


@needs_c
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
def test_the_c_builder_refuses_invalid_slots(
    entries: Entries, values: list[int], width: int, left: int
) -> None:
    with pytest.raises((ValueError, TypeError, OverflowError)):
        _writer.build_block(entries, array("I", values), width, left)


@needs_c
@pytest.mark.parametrize(
    ("entries", "values"),
    [
        ([HOST, HOST], [1, 1]),
        ([HOST + (1 << 8), HOST], [1, 1]),
        ([HOST], [1 << 31]),
        ([HOST], [1, 1]),
        ([HOST & ~0xFF], [1]),
        ([HOST + 1], [1]),
        ([HOST - 1 | 1 << 8], [1]),
        ([-1], [1]),
        ([HOST | 1 << 40], [1]),
        (["x"], [1]),
        ((HOST,), [1]),
    ],
)
def test_the_c_trie_refuses_an_invalid_table(entries: list[int], values: list[int]) -> None:
    made = make("c", 32, SMALL)
    with pytest.raises((ValueError, TypeError, OverflowError)):
        made.trie.update(entries, array("I", values))
    assert len(made.trie) == 0


@needs_c
def test_the_c_trie_refuses_an_invalid_position() -> None:
    trie = make("c", 32, SMALL).trie
    with pytest.raises(ValueError, match="no place"):
        trie.move(b"x", 1)
    assert trie.move(bytes(32), FIRST)
    assert trie.move(bytes([0xFF]) * 32, FIRST)


@needs_c
@pytest.mark.parametrize(
    "sizes",
    [
        {"root_bits": 0, "stride_bits": 8, "crowded": 4},
        {"root_bits": 25, "stride_bits": 8, "crowded": 4},
        {"root_bits": 8, "stride_bits": 0, "crowded": 4},
        {"root_bits": 8, "stride_bits": 8, "crowded": 0},
    ],
)
def test_the_c_trie_refuses_invalid_sizes(sizes: dict[str, int]) -> None:
    memory = memoryview(array("I", bytes(4 * WORDS)))
    arena = _writer.Arena(FIRST, WORDS)
    with pytest.raises(ValueError, match="bits"):
        _writer.Trie(memory, arena, width=32, **sizes)
    with pytest.raises(ValueError, match="larger than the memory"):
        _writer.Trie(memory[:100], arena, width=32, root_bits=4, stride_bits=3, crowded=4)
