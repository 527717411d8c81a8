"""A second trie of the published routes, in memory that programs in the kernel search.

    FibSnapshot --each burst--> its own tries   (memfd, for readers in other processes)
                '-------------> RouteMirror     (an array of the kernel's, for the dataplane)

The words have the layout of the snapshot (`ipc/fib_layout.py`): default routes in the header,
tries behind it, and the record numbers are the snapshot's own. It is a second memory because
neither can be the other: an array of the kernel's can be neither sealed nor handed out for
reading only.

Reuse: programs read without a lock and note no epoch. Instead, memory of the mirror and records
of the snapshot are reused only after every run of a program that had begun before has ended
(`Runs`), and the counters of a record are folded into the account of its prefix before it is
reused.

    replaced in a burst --advance--> 1 --advance--> 2 --advance--> folded, then reusable

The first engine finds zeros. A later one finds the words of the engine before it, which programs
still search: it sets them to zero, waits until no run is under way that has read one, sets the
counters to zero, and only then writes its own.

Failure: when the memory is full, the words are set to zero and nothing is counted for routes any
more; `problem` says so. The snapshot is not affected.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterable
from typing import Protocol

from ipc.extension import fence
from ipc.fib_layout import (
    FAMILY_WORDS,
    HEADER_BYTES,
    RECORD_IS_CURRENT,
    RECORD_NETWORK,
    RECORD_WORDS,
    FamilyHeader,
    Header,
)
from routed.model.prefix import Family, Prefix
from routed.snapshot.arena import ArenaFull
from routed.snapshot.parts import Region, Trie, make_tries

__all__ = ["RecordAccounts", "RecordWords", "RouteMirror", "Runs"]

_FIRST = HEADER_BYTES // 4
_DEFAULT = {
    family: Header.IPV4 + position * FAMILY_WORDS + FamilyHeader.DEFAULT_RECORD
    for position, family in enumerate(Family)
}


class Runs(Protocol):
    """Runs of the programs (`routed.dataplane.activity.Activity`)."""

    def note(self) -> None: ...
    def has_ended(self) -> bool: ...


class RecordAccounts(Protocol):
    """Counters of records (`routed.dataplane.accounts.RouteAccounts`)."""

    def clear(self) -> None: ...
    def fold(self, record: int, prefix_of: Callable[[int], Prefix], /) -> None: ...


class RecordWords:
    """The records of a snapshot, by number."""

    def __init__(self, words: memoryview, before_first: int) -> None:
        """Args:
        words: of the snapshot, format "I".
        before_first: the word at which record 0 would be.
        """
        self._words = words
        self._before_first = before_first

    def prefix(self, record: int) -> Prefix:
        """Return the prefix of a record, also of one that was replaced and is not reused yet."""
        at = self._before_first + record * RECORD_WORDS
        shape = self._words[at]
        network = self._words[at + RECORD_NETWORK : at + RECORD_NETWORK + 4].tolist()
        if shape & 0xFF == 4:
            return Prefix(Family.IPV4, network[0], shape >> 8 & 0xFF)
        bits = network[0] << 96 | network[1] << 64 | network[2] << 32 | network[3]
        return Prefix(Family.IPV6, bits, shape >> 8 & 0xFF)

    def is_current(self, record: int) -> bool:
        """Return whether a record is the route of its prefix."""
        return bool(self._words[self._before_first + record * RECORD_WORDS + RECORD_IS_CURRENT])

    def current(self, family: Family) -> list[tuple[int, int]]:
        """List the current routes of a family, in order: network bits << 8 | length, record.

        Cost: 2 us for each record; it is done once, soon after the engine has started.
        """
        found = []
        for record in range(1, self._words[Header.RECORDS_USED] + 1):
            if self.is_current(record):
                prefix = self.prefix(record)
                if prefix.family is family:
                    found.append((prefix.addr_bits << 8 | prefix.prefix_len, record))
        return sorted(found)


class RouteMirror:
    """Owner of the words that the programs search."""

    def __init__(self, words: memoryview, runs: Runs, accounts: RecordAccounts) -> None:
        """Begin to take the words over.

        Args:
            words: of the kernel's array, format "I", writable.
            runs: of the programs.
            accounts: whose counters the programs add to.
        """
        self.problem = ""
        """Why routes are not counted; empty while they are, or will be."""
        self._words = words
        self._runs = runs
        self._accounts = accounts
        self._arena: Region | None = None
        self._tries: dict[Family, Trie] | None = None
        """None until the words are taken over."""
        self._replaced: list[array[int]] = [array("I"), array("I"), array("I")]
        """Records that were replaced; the next advance folds those of the first list."""
        self._clear()
        runs.note()

    def _clear(self) -> None:
        self._words[:] = memoryview(bytes(self._words.nbytes)).cast("I")
        fence()

    @property
    def is_counting(self) -> bool:
        """Whether the programs find the routes."""
        return self._tries is not None

    def publish(self, family: Family, keys: list[int], records: array[int]) -> None:
        """Publish changes, as they were published in the snapshot.

        Args:
            family: of all of them.
            keys: network bits << 8 | length, in order.
            records: one for each; 0 for no route.
        """
        if self._tries is None:
            return
        try:
            if keys[:1] == [0]:
                self._words[_DEFAULT[family]] = records[0]
                keys, records = keys[1:], records[1:]
            if keys:
                self._tries[family].update(keys, records)
        except ArenaFull as error:
            self._tries = None
            self._clear()
            self.problem = f"no-memory: {error}"

    def hold(self, replaced: Iterable[int]) -> None:
        """Keep the counters of records that were replaced, until they can be folded."""
        if self._tries is not None:
            self._replaced[2].extend(filter(None, replaced))

    def advance(self, records: RecordWords) -> bool:
        """Go one step on, if every run that was under way at the last step has ended.

        Args:
            records: of the snapshot.

        Returns:
            Whether the records of the snapshot may go one step on, too.
        """
        if self.problem:
            return True
        if not self._runs.has_ended():
            return False
        self._runs.note()
        if self._tries is None:
            self._take_over(records)
            return True
        for record in self._replaced[0]:
            self._accounts.fold(record, records.prefix)
        self._replaced = [self._replaced[1], self._replaced[2], array("I")]
        assert self._arena is not None  # made with the tries
        self._arena.advance()
        return True

    def _take_over(self, records: RecordWords) -> None:
        """Write the routes that are published by now; no program searches old words any more."""
        self._accounts.clear()
        self._arena, self._tries = make_tries(self._words, _FIRST, len(self._words))
        for family in Family:
            current = records.current(family)
            self.publish(family, [key for key, _ in current], array("I", (at for _, at in current)))
