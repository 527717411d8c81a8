"""The candidates of one family, in prefix order: columns in chunks. Pure.

    key      prefix as one integer (`Prefix.as_int`)    8 bytes; IPv6: an int object
    path     attributes and next hops, shared           8 bytes, a reference
    time     when it was installed                      4 bytes

A row is one candidate. The rows of a prefix are adjacent, the preferred one first, and never in two
chunks. So the candidates of a prefix are found by one bisection, and a listing in order is a walk.
A million objects of a class would take 300 MB, and their dictionary another 100.

Invariants:
    Keys never decrease along the chunks; each chunk's keys are at least its bound, and less than
    the next one's. The first bound is 0.
    No chunk is empty, unless it is the only one.

Cost: finding, about 1 us; inserting one row, the same and moving at most CHUNK_ROWS references;
inserting a run into an empty range, 0.1 us a row.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from typing import Generic, TypeVar, Union

from routed.model.prefix import Family

__all__ = ["CHUNK_ROWS", "CandidateRows", "Chunk"]

CHUNK_ROWS = 1024
"""A chunk with more rows is split: moving half a chunk costs less than finding it."""

_SPARSE_ROWS = CHUNK_ROWS // 4

T = TypeVar("T")

Keys = Union["array[int]", list[int]]


class Chunk(Generic[T]):
    """Consecutive rows."""

    __slots__ = ("keys", "paths", "times")

    def __init__(self, keys: Keys, paths: list[T], times: array[int]) -> None:
        self.keys = keys
        self.paths = paths
        self.times = times

    def part(self, first: int, last: int) -> Chunk[T]:
        """A chunk of some of the rows."""
        return Chunk(self.keys[first:last], self.paths[first:last], self.times[first:last])


class CandidateRows(Generic[T]):
    """Owner of the rows of one family."""

    def __init__(self, family: Family) -> None:
        self._is_narrow = family is Family.IPV4
        self._chunks: list[Chunk[T]] = [Chunk(self._column([]), [], array("I"))]
        self._bounds: list[int] = [0]
        """The least key of each chunk's range."""

    def _column(self, keys: Sequence[int]) -> Keys:
        return array("Q", keys) if self._is_narrow else list(keys)

    # --- finding

    def find(self, key: int) -> tuple[Chunk[T], int, int]:
        """Find the rows of a prefix: their chunk, the position of the first, and that after the
        last."""
        chunk = self._chunks[bisect_right(self._bounds, key) - 1]
        keys = chunk.keys
        first = last = bisect_left(keys, key)
        while last < len(keys) and keys[last] == key:
            last += 1
        return chunk, first, last

    def find_each(self, keys: Sequence[int]) -> Iterator[tuple[int, list[T], int, int]]:
        """Find the rows of many prefixes; yields each key with the paths of its chunk, first and
        end.

        Args:
            keys: in order, each once. Nothing may be inserted or removed meanwhile.

        Cost: about 0.4 us each where they are dense.
        """
        bounds, bound = self._bounds, 0
        column: Keys = []
        paths: list[T] = []
        last = count = 0
        for key in keys:
            if key >= bound:
                number = bisect_right(bounds, key)
                chunk = self._chunks[number - 1]
                column, paths, last, count = chunk.keys, chunk.paths, 0, len(chunk.keys)
                bound = bounds[number] if number < len(bounds) else key + _BEYOND
            # Mostly the very next row: the prefixes of a burst are adjacent.
            if last == count or column[last] != key:
                last = bisect_left(column, key, last)
            first = last
            while last < count and column[last] == key:
                last += 1
            yield key, paths, first, last

    def chunks(self) -> Iterator[Chunk[T]]:
        """Iterate over all rows, in order; nothing may be inserted or removed meanwhile."""
        return iter(self._chunks)

    def keys_after(self, key: int, limit: int) -> list[int]:
        """Return the next prefixes after a key, each once, in order, `limit` at most.

        Args:
            key: of the last one seen; -1 to begin.
            limit: how many.
        """
        found: dict[int, None] = {}
        number = max(bisect_right(self._bounds, key) - 1, 0)
        first = bisect_right(self._chunks[number].keys, key)
        while len(found) < limit and number < len(self._chunks):
            found.update(dict.fromkeys(self._chunks[number].keys[first:]))
            number, first = number + 1, 0
        return list(found)[:limit]

    # --- changing

    def insert(self, chunk: Chunk[T], position: int, key: int, path: T, time: int) -> None:
        """Insert a row at the position that `find` gave."""
        chunk.keys.insert(position, key)
        chunk.paths.insert(position, path)
        chunk.times.insert(position, time)
        if len(chunk.keys) > CHUNK_ROWS:
            self._split(bisect_right(self._bounds, key) - 1)

    def remove(self, chunk: Chunk[T], position: int) -> None:
        """Remove a row."""
        key = chunk.keys[position]
        del chunk.keys[position], chunk.paths[position], chunk.times[position]
        if len(chunk.keys) < _SPARSE_ROWS:
            self._merge(bisect_right(self._bounds, key) - 1)

    def insert_new(self, keys: Sequence[int], path: T, time: int) -> list[int]:
        """Add one row to each prefix that has none yet.

        Args:
            keys: in order, each once.
            path: of all of them.
            time: of all of them.

        Returns:
            The prefixes that have rows already, and were left alone.
        """
        present, at, count = [], 0, len(keys)
        while at < count:
            number = bisect_right(self._bounds, keys[at]) - 1
            chunk = self._chunks[number]
            position = bisect_left(chunk.keys, keys[at])
            end = count
            if position < len(chunk.keys):
                end = bisect_left(keys, chunk.keys[position], at)
            elif number + 1 < len(self._bounds):
                end = bisect_left(keys, self._bounds[number + 1], at)
            if end == at:
                present.append(keys[at])
                at += 1
                continue
            chunk.keys[position:position] = self._column(keys[at:end])  # type: ignore[assignment]
            chunk.paths[position:position] = [path] * (end - at)
            chunk.times[position:position] = array("I", [time]) * (end - at)
            if len(chunk.keys) > CHUNK_ROWS:
                self._split(number)
            at = end
        return present

    def _split(self, number: int) -> None:
        """Cut a chunk between two prefixes, so that the parts have room for more."""
        chunk = self._chunks[number]
        count = len(chunk.keys)
        # Keys that arrive in order are appended: a part behind the last chunk gets no more rows.
        is_last = number + 1 == len(self._chunks)
        size = CHUNK_ROWS * 7 // 8 if is_last or count > 2 * CHUNK_ROWS else count // 2
        cuts, cut = [0], size
        while cut < count:
            cut = bisect_left(chunk.keys, chunk.keys[cut])  # to the first row of its prefix
            if cut > cuts[-1]:
                cuts.append(cut)
            cut += size
        parts = [
            chunk.part(first, last) for first, last in zip(cuts, [*cuts[1:], count], strict=True)
        ]
        self._chunks[number : number + 1] = parts
        self._bounds[number + 1 : number + 1] = [part.keys[0] for part in parts[1:]]

    def _merge(self, number: int) -> None:
        """Join a sparse chunk with the next or the previous one, if both fit in half a chunk."""
        for left in (number, number - 1):
            if not 0 <= left < len(self._chunks) - 1:
                continue
            chunk, following = self._chunks[left : left + 2]
            if len(chunk.keys) + len(following.keys) <= CHUNK_ROWS // 2 or not chunk.keys:
                chunk.keys.extend(following.keys)
                chunk.paths += following.paths
                chunk.times += following.times
                del self._chunks[left + 1], self._bounds[left + 1]
                return


_BEYOND = 1 << 137
"""More than any key: the last chunk has no upper bound."""
