"""One block of the trie: an LC subtrie over the prefixes of one slot. Pure.

    entries of a slot --flatten--> disjoint ranges --encode--> words, position independent

Level compression by fill factor as in Nilsson & Karlsson, with two departures that were measured
(research notes, lpm.md): prefixes are first flattened into disjoint ranges, so there is no prefix
chain to follow and nothing to verify after a skip; and a branch takes as many bits b as satisfy
2^b <= ranges / fill, a rule on counts, which bounds memory like the exact rule on occupied slots
and is cheaper to evaluate. The fill is generous (FILL_WHOLE) for a branch that decides everything
at once, which a slot full of /24s does: one word for each, found by one access. It is strict
(FILL_PART) for one that leaves something to decide; and a few ranges that are left become a bucket,
which is searched. Measured on a million routes: 8.1 MB of blocks, four ranges in five one access
away; with one fill of 0.25 and no regard to where the bits end, 11.5 MB and more depth.

The C extension (`writer_block.c`) builds the same words, bit by bit, and is used if it is built;
property tests compare the two.

Cost: linear in the entries; about 1.5 us an entry in Python, 0.1 us in C.
"""

from __future__ import annotations

import bisect
import itertools
import operator
from array import array
from typing import Union

from ipc.fib_layout import (
    BUCKET_RANGES_BIAS,
    KIND_SHIFT,
    RECORD_FLAG,
)

__all__ = ["Entries", "Entry", "build_block"]

FILL_WHOLE = 0.25
FILL_PART = 0.5
BUCKET_RANGES_MAX = 8
BRANCH_BITS_MAX = 15

_SIZES = {width: [1 << width - length for length in range(width + 1)] for width in (32, 128)}
"""Addresses of a prefix, by its length."""

Entry = int
"""A prefix in a slot: network bits << 8 | length, so that sorting nests prefixes."""

Entries = Union[list[Entry], "array[int]"]
"""Of IPv6 a list; of IPv4 an array("Q"), which is small and lies in one piece."""


def build_block(entries: Entries, values: array[int], width: int, left: int) -> tuple[int, bytes]:
    """Build the block of one slot.

    Args:
        entries: at least one, all in one slot, in order.
        values: array("I"), one for each entry; 1 to 2**31 - 1.
        width: bits of an address, 32 or 128.
        left: those of them that the slot leaves undecided.

    Returns:
        The word that stands for the slot, to which the block's address is to be added when there is
        a block, and the block, which is empty when the word says everything.
    """
    low = entries[0] >> 8 >> left << left
    starts, found = _flatten(entries, values, width, low, low + (1 << left))
    block: list[int] = []
    word = _encode(starts, found, low, left, block)
    return word, array("I", block).tobytes()


def _flatten(
    entries: Entries, values: array[int], width: int, low: int, high: int
) -> tuple[list[int], list[int]]:
    """Nested prefixes as disjoint ranges: where each begins, and its value (0 for none).

    Neighboring ranges with one value are one range. Cost: linear in the entries.
    """
    ranges = {low: 0}  # in order, because positions only grow; what begins later at one place wins
    sizes = _SIZES[width]
    around: list[tuple[int, int]] = []
    end, inside = high, 0  # of the innermost prefix around the last one, or of the slot itself
    last_end, last_value = high, 0
    for entry, value in zip(entries, values, strict=True):
        network = entry >> 8
        if last_end <= network:
            ranges[last_end] = inside
            while end <= network:
                position = end
                end, inside = around.pop()
                ranges[position] = inside
        else:  # it lies inside the last one
            around.append((end, inside))
            end, inside = last_end, last_value
        ranges[network] = value
        last_end, last_value = network + sizes[entry & 0xFF], value
    for outer in ((end, inside), *reversed(around)):
        if last_end < high:
            ranges[last_end] = outer[1]
        last_end = outer[0]
    found = list(ranges.values())
    is_other = list(map(operator.ne, found, [-1, *found]))
    return list(itertools.compress(ranges, is_other)), list(itertools.compress(found, is_other))


def _encode(starts: list[int], values: list[int], low: int, left: int, block: list[int]) -> int:
    """Append the words of one subtrie to a block.

    Args:
        starts: where ranges begin, the first at `low`.
        values: theirs.
        low: the first address of the subtrie.
        left: bits that are not decided yet.
        block: grows.

    Returns:
        The word that stands for the subtrie, with an offset into the block.
    """
    count = len(starts)
    if count == 1:
        return RECORD_FLAG | values[0] if values[0] else 0
    at = len(block)
    deciding = _deciding_bits(starts, left)
    bits = deciding
    if deciding > BRANCH_BITS_MAX or 1 << deciding > count / FILL_WHOLE:
        dropped = max(0, left - 32)
        if count <= BUCKET_RANGES_MAX and deciding <= left - dropped:
            block += [start >> dropped & 0xFFFF_FFFF for start in starts[1:]]
            block += values
            return (count + BUCKET_RANGES_BIAS) << KIND_SHIFT | at
        bits = min(BRANCH_BITS_MAX, deciding, int(count / FILL_PART).bit_length() - 1)
    left -= bits
    if bits == deciding:  # each range is so many whole slots
        ends = [*starts[1:], low + (1 << left + bits)]
        sizes = [end - start >> left for start, end in zip(starts, ends, strict=True)]
        words = [RECORD_FLAG | value if value else 0 for value in values]
        block.extend(itertools.chain.from_iterable(map(itertools.repeat, words, sizes)))
        return bits << KIND_SHIFT | at
    block.extend([0] * (1 << bits))
    first = 0
    for slot in range(1 << bits):
        # starts[first] is the range that `low` lies in.
        high = low + (1 << left)
        if first + 1 == count or starts[first + 1] >= high:
            last = first + 1
            block[at + slot] = RECORD_FLAG | values[first] if values[first] else 0
        else:
            last = bisect.bisect_left(starts, high, first + 1)
            inner = [low, *starts[first + 1 : last]]
            block[at + slot] = _encode(inner, values[first:last], low, left, block)
        first = last if last < count and starts[last] == high else last - 1
        low = high
    return bits << KIND_SHIFT | at


def _deciding_bits(starts: list[int], left: int) -> int:
    """How many of the `left` bits it takes to tell all ranges apart; at least 1."""
    ends = 0
    for start in starts[1:]:
        ends |= start
    ends &= (1 << left) - 1
    return left - (ends & -ends).bit_length() + 1
