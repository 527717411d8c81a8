"""Former contents of an array of counters, for traffic over a window of time. Pure.

    sample 0 ---- 1 ---- 2 ---- ... ---- newest
                    |
                    +-- the blocks that differ from the sample before, with their contents of then

The newest sample is a whole copy. Each older one is kept as what has to be put back into the one
after it, so a sample costs memory for the blocks that have changed, and a comparison of memory for
the others.

Bounds: SAMPLES_MAX samples, and SPARE_BYTES_MAX of blocks; the oldest samples are given up first,
and windows are shorter then.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import NamedTuple

__all__ = ["BLOCK_BYTES", "SAMPLES_MAX", "SPARE_BYTES_MAX", "CounterHistory", "Window"]

SAMPLES_MAX = 61
"""A minute, at one sample a second."""
SPARE_BYTES_MAX = 32 << 20
BLOCK_BYTES = 4096


class Window(NamedTuple):
    """The contents of an array at a sample, and now."""

    number: int
    """Of the sample; each has the number of the one before and one more."""
    began: float
    """Moment of the sample, in seconds."""
    before: list[bytes]
    """In blocks; those that have not changed are the same objects as in `now`."""
    now: list[bytes]

    def changed(self) -> Iterator[int]:
        """Iterate over the numbers of the blocks that have changed, in order."""
        for number, (before, now) in enumerate(zip(self.before, self.now, strict=True)):
            if before is not now:
                yield number

    def content_before(self) -> bytearray:
        """Return the whole contents at the sample."""
        return bytearray().join(self.before)


class _Sample(NamedTuple):
    moment: float
    blocks: dict[int, bytes]
    """By number: contents that the following sample no longer has."""


class CounterHistory:
    """Owner of the samples of one array."""

    def __init__(
        self,
        memory: memoryview,
        *,
        samples_max: int = SAMPLES_MAX,
        spare_bytes_max: int = SPARE_BYTES_MAX,
    ) -> None:
        """Begin without a sample.

        Args:
            memory: the array, format "B"; programs write it.
            samples_max: most samples, at least 2.
            spare_bytes_max: most bytes of blocks in addition to the newest copy.
        """
        self._memory = memory
        self._samples_max = samples_max
        self._spare_bytes_max = spare_bytes_max
        self._samples: deque[_Sample] = deque()
        self._newest: list[bytes] = []
        self._spare_bytes = 0
        self.number = -1
        """Of the newest sample."""

    def _read(self) -> list[bytes]:
        content = self._memory.tobytes()
        return [content[at : at + BLOCK_BYTES] for at in range(0, len(content), BLOCK_BYTES)]

    def content(self) -> bytearray:
        """Return the present contents."""
        return bytearray(self._memory)

    @property
    def oldest(self) -> int:
        """Number of the oldest sample."""
        return self.number - len(self._samples) + 1

    def sample(self, now: float) -> None:
        """Keep the present contents.

        Args:
            now: seconds, monotonic.

        Cost: a copy and a comparison of the array, about 0.4 ms for a MiB.
        """
        present = self._read()
        if self._samples:
            changed = {
                number: before
                for number, (before, after) in enumerate(zip(self._newest, present, strict=True))
                if before != after
            }
            self._samples[-1].blocks.update(changed)
            self._spare_bytes += sum(map(len, changed.values()))
            # What has not changed stays one object, in this list and in the next.
            for number in changed:
                self._newest[number] = present[number]
        else:
            self._newest = present
        self._samples.append(_Sample(now, {}))
        self.number += 1
        while len(self._samples) > 2 and (
            len(self._samples) > self._samples_max or self._spare_bytes > self._spare_bytes_max
        ):
            self._spare_bytes -= sum(map(len, self._samples.popleft().blocks.values()))

    def forget(self) -> None:
        """Give up all samples: what the counters have counted since they were set to zero is no
        difference to them."""
        self._samples.clear()
        self._newest = []
        self._spare_bytes = 0

    def window(self, since: float, *, not_before: int = 0) -> Window | None:
        """Compare the present contents with those of an earlier moment.

        Args:
            since: seconds, monotonic: the newest sample that is not younger is taken, or the oldest
                if all are.
            not_before: number of the first sample that may be taken.

        Returns:
            None if there is no such sample.
        """
        chosen = None
        for number, sample in enumerate(self._samples, self.oldest):
            if number >= not_before and (chosen is None or sample.moment <= since):
                chosen = number
        if chosen is None:
            return None
        return self._compare(chosen)

    def _compare(self, number: int) -> Window:
        before = self._newest.copy()
        for step in range(len(self._samples) - 1, number - self.oldest - 1, -1):
            for block, content in self._samples[step].blocks.items():
                before[block] = content
        now = [
            then if then == content else content
            for then, content in zip(before, self._read(), strict=True)
        ]
        return Window(number, self._samples[number - self.oldest].moment, before, now)

    def values_of(self, at: int, size: int) -> list[tuple[float, bytes]]:
        """Return a part of the array at each sample: its moment, and the contents, oldest first.

        Args:
            at: bytes from the beginning; the part lies in one block.
            size: bytes.
        """
        block, begin = divmod(at, BLOCK_BYTES)
        if not self._samples:
            return []
        content = self._newest[block]
        found = []
        for sample in reversed(self._samples):
            content = sample.blocks.get(block, content)
            found.append((sample.moment, content[begin : begin + size]))
        return found[::-1]
