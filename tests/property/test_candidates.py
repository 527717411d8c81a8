"""Candidates in chunks against a sorted list: any order of changes, both families."""

from __future__ import annotations

from bisect import bisect_left

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from routed.model.prefix import Family
from routed.rib import candidates
from routed.rib.candidates import CandidateRows

KEYS = st.integers(0, 60)
"""Few, so that prefixes have several candidates."""


@pytest.fixture(autouse=True, scope="module")
def small_chunks() -> None:
    """Let a handful of rows fill several chunks."""
    patch = pytest.MonkeyPatch()
    patch.setattr(candidates, "CHUNK_ROWS", 8)
    patch.setattr(candidates, "_SPARSE_ROWS", 2)


class RowsMachine(RuleBasedStateMachine):
    """Candidates are inserted one by one, in runs, and removed."""

    @initialize(family=st.sampled_from(Family))
    def start(self, family: Family) -> None:
        self.rows: CandidateRows[int] = CandidateRows(family)
        self.shift = 0 if family is Family.IPV4 else 100
        self.oracle: list[tuple[int, int]] = []
        """Key and attributes, in the rows' order."""

    @rule(key=KEYS, path=st.integers(0, 9))
    def insert(self, key: int, path: int) -> None:
        key <<= self.shift
        chunk, first, _ = self.rows.find(key)
        self.rows.insert(chunk, first, key, path, 1)
        self.oracle.insert(bisect_left(self.oracle, key, key=lambda row: row[0]), (key, path))

    @rule(keys=st.sets(KEYS, max_size=30), path=st.integers(0, 9))
    def insert_run(self, keys: set[int], path: int) -> None:
        ordered = sorted(key << self.shift for key in keys)
        present = {key for key, _ in self.oracle}
        assert self.rows.insert_new(ordered, path, 1) == [key for key in ordered if key in present]
        self.oracle += [(key, path) for key in ordered if key not in present]
        self.oracle.sort(key=lambda row: row[0])

    @rule(data=st.data())
    def remove(self, data: st.DataObject) -> None:
        if self.oracle:
            key, path = self.oracle.pop(data.draw(st.integers(0, len(self.oracle) - 1)))
            chunk, first, last = self.rows.find(key)
            self.rows.remove(chunk, chunk.paths.index(path, first, last))
            rest = [row for row in self.oracle if row[0] == key]
            before = sum(1 for row in self.oracle if row[0] < key)
            chunk, first, last = self.rows.find(key)
            # It makes no difference which of two equal candidates was removed; their order is the
            # caller's.
            self.oracle[before : before + len(rest)] = [
                (key, each) for each in chunk.paths[first:last]
            ]

    @rule(key=st.just(-1) | KEYS, limit=st.integers(1, 40))
    def list_some(self, key: int, limit: int) -> None:
        key = key << self.shift if key > 0 else key
        following = sorted({each for each, _ in self.oracle if each > key})
        assert self.rows.keys_after(key, limit) == following[:limit]

    @invariant()
    def rows_equal_the_list(self) -> None:
        if not hasattr(self, "rows"):
            return
        rows = [
            row for chunk in self.rows.chunks() for row in zip(chunk.keys, chunk.paths, strict=True)
        ]
        assert rows == self.oracle
        keys = [key << self.shift for key in range(61)]
        for key, paths, first, last in self.rows.find_each(keys):
            chunk, *span = self.rows.find(key)
            assert (paths, first, last) == (chunk.paths, *span)
            assert paths[first:last] == [path for each, path in self.oracle if each == key]


RowsMachine.TestCase.settings = settings(deadline=None, stateful_step_count=40)
TestRows = RowsMachine.TestCase
