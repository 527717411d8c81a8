"""Memory inside the snapshot: blocks of 32-bit words, given out, taken back, reused late.

Two ideas. Sizes are rounded up to classes (an eighth apart), so that a freed block fits the next
request of its class and fragmentation stays bounded. And a freed block is not reused at once: a
reader without a lock may still be walking it. It waits in limbo until the epoch has advanced twice
after the one it was freed in; readers check that the epoch moved by less than two while they read.

    freed in epoch e --advance--> e+1 --advance--> e+2 --advance--> reusable

Failure: `ArenaFull` when the region's end is reached; what was there before is untouched.
"""

from __future__ import annotations

__all__ = ["Arena", "ArenaFull"]


class ArenaFull(Exception):
    """No room for another block."""


class Arena:
    """Blocks of words in one region of a larger memory."""

    def __init__(self, first: int, end: int) -> None:
        """Manage the words from `first` up to `end` (excluded); they read as zero at first."""
        self.first = first
        self._top = first
        self.end = end
        self._free: dict[int, list[int]] = {}
        self._limbo: list[list[tuple[int, int]]] = [[], [], []]
        self.live_words = 0

    @property
    def reached_words(self) -> int:
        """Words that were ever given out: what the region costs in memory."""
        return self._top - self.first

    def allocate(self, words: int) -> tuple[int, bool]:
        """Take a block.

        Args:
            words: at least 1.

        Returns:
            Its address, and whether it is fresh, that is, still all zero.

        Raises:
            ArenaFull: the region is used up.
        """
        size = _size_class(words)
        free = self._free.get(size)
        if free:
            self.live_words += size
            return free.pop(), False
        address = self._top
        if address + size > self.end:
            raise ArenaFull(f"no room for {words} words in a region of {self.end - self.first}")
        self._top += size
        self.live_words += size
        return address, True

    def allocate_many(self, words: int, count: int) -> tuple[list[int], int]:
        """Take blocks of one size.

        Args:
            words: of each, even and at most 16, so that no block is larger than asked.
            count: how many.

        Returns:
            Addresses of used ones, and where the rest begins, which is fresh and in one piece.

        Raises:
            ArenaFull: the region is used up; nothing was taken.
        """
        free = self._free.get(words, [])
        fresh = max(count - len(free), 0)
        address = self._top
        if address + fresh * words > self.end:
            raise ArenaFull(f"no room for {fresh} x {words} words in {self.end - self.first}")
        self._top += fresh * words
        self.live_words += count * words
        used = [free.pop() for _ in range(count - fresh)]
        return used, address

    def release(self, address: int, words: int) -> None:
        """Give a block back; it is reused two epochs later at the earliest."""
        size = _size_class(words)
        self.live_words -= size
        self._limbo[-1].append((address, size))

    def advance(self) -> None:
        """The epoch has moved on: what waited long enough becomes free."""
        for address, size in self._limbo.pop(0):
            self._free.setdefault(size, []).append(address)
        self._limbo.append([])


def _size_class(words: int) -> int:
    """Round up: to even numbers up to 16, then to one of eight steps per power of two."""
    if words <= 16:
        return words + 1 & ~1
    step_bits = words.bit_length() - 4
    return -(-words >> step_bits) << step_bits
