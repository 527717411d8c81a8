"""Compaction of the tries' memory after a table has shrunk.

    the arena is sparse --coalesce--> holes
    blocks above the limit --copied, a few at a time--> holes below it
    old places --limbo--> free --coalesce--> the arena ends lower

A move is a change like any other (`trie.py`): a copy is made in memory that no reader reaches, one
store publishes it, and the old block waits until no reader can be in it. So an interruption at any
instruction is safe.

Compaction runs with the heartbeat, with a bounded number of moves at a time, in rounds: each finds
the blocks above the limit once, and the next one starts after the limbo has passed. Memory that an
arena no longer uses stays allocated in the kernel (a sealed memfd takes no holes) and is reused
first.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from routed.snapshot.parts import Region, Trie

__all__ = ["Compaction"]

MOVES = 512
"""Moves in one step, which takes about a millisecond."""

REST_STEPS = 8
"""Steps between two rounds; limbo takes three."""

SLACK_WORDS = 1 << 16
"""256 KiB: less is not worth a move."""


class Compaction:
    """Owner of the remaining work of a round."""

    def __init__(self, arena: Region, tries: Collection[Trie]) -> None:
        """Begin without work.

        Args:
            arena: shared by all the tries and nothing else.
            tries: the tries whose blocks may be moved; still empty.
        """
        self._arena = arena
        self._tries = tries
        self._root_words = arena.live_words
        self._limit = 0
        self._work: list[tuple[Trie, Any]] = []
        self._rest = 0
        self._compacted_words = -1
        """Live words when a round found nothing to do; the next round needs another number."""

    def is_sparse(self) -> bool:
        """Whether more words are free than in use, not counting root directories."""
        in_use = self._arena.live_words - self._root_words
        return self._arena.free_words > max(in_use, SLACK_WORDS)

    def step(self) -> None:
        """Do a bounded amount of work; to be called after the epoch has advanced."""
        if self._rest:
            self._rest -= 1
        elif not self._work:
            self._begin()
        for _ in range(MOVES):
            if not self._work:
                return
            trie, place = self._work.pop()
            if not trie.move(place, self._limit):
                self._finish()

    def _begin(self) -> None:
        arena = self._arena
        if not self.is_sparse() or arena.live_words == self._compacted_words:
            return
        self._rest = REST_STEPS
        arena.coalesce()
        if not self.is_sparse():
            return
        # Holes of the right sizes are rare near the end: leave them a quarter.
        in_use = arena.live_words - self._root_words
        self._limit = arena.first + arena.live_words + in_use // 4
        self._work = [
            (trie, place) for trie in self._tries for place in trie.places_above(self._limit)
        ]
        if not self._work:
            self._finish()

    def _finish(self) -> None:
        """Record that nothing more can be compacted until something changes."""
        self._compacted_words = self._arena.live_words
        self._work.clear()
