"""One block of the trie: an LC subtrie over the prefixes of one slot. Pure.

    entries of a slot --flatten--> disjoint ranges --encode--> words, position independent

Level compression by fill factor as in Nilsson & Karlsson, with two differences, which were chosen
by measurement. First, prefixes are flattened into disjoint ranges, so that there is no prefix chain
to follow and nothing to verify after a skip. Second, a branch uses the largest number of bits b
with 2^b <= ranges / fill. This rule on the number of ranges bounds memory like the exact rule on
occupied slots, and is cheaper to evaluate. The fill factor is low (FILL_WHOLE) for a branch whose
slots are all decided, as in a slot full of /24s: each has one word, which is found by one access.
It is higher (FILL_PART) for a branch with undecided slots. A few remaining ranges become a bucket,
which is searched linearly. Measured with a million routes: 8.1 MB of blocks, and four of five
ranges are found by one access; with a single fill factor of 0.25, 11.5 MB and more depth.

The C extension (`writer_block.c`) builds exactly the same words, and is used if it is built;
property tests compare the two.

Cost: linear in the entries; about 1.5 us per entry in Python, 0.1 us in C.
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
"""The fewest ranges per slot of a branch whose slots are all decided."""
FILL_PART = 0.5
"""The fewest ranges per slot of another branch."""
BUCKET_RANGES_MAX = 8
BRANCH_BITS_MAX = 15

_SIZES = {width: [1 << width - length for length in range(width + 1)] for width in (32, 128)}
"""The number of addresses of a prefix, by width and length."""

Entry = int
"""A prefix in a slot: network bits << 8 | length. In sorted order, a prefix precedes those inside
it."""

Entries = Union[list[Entry], "array[int]"]
"""Entries in sorted order: a list for IPv6; for IPv4 an array("Q"), which is compact."""


def build_block(entries: Entries, values: array[int], width: int, left: int) -> tuple[int, bytes]:
    """Build the block of one slot.

    Args:
        entries: at least one entry, all in the same slot, in sorted order.
        values: array("I") with a value for each entry; 1 to 2**31 - 1.
        width: bits of an address, 32 or 128.
        left: the number of bits that the slot leaves undecided.

    Returns:
        The word of the slot, and the words of the block. If there is a block, its address must be
        added to the word; it is empty if a single value covers the whole slot.
    """
    low = entries[0] >> 8 >> left << left
    starts, found = _flatten(entries, values, width, low, low + (1 << left))
    block: list[int] = []
    word = _encode(starts, found, low, left, block)
    return word, array("I", block).tobytes()


def _flatten(
    entries: Entries, values: array[int], width: int, low: int, high: int
) -> tuple[list[int], list[int]]:
    """Convert nested prefixes to disjoint ranges. Returns the start and value (0: none) of each.

    Adjacent ranges with the same value are joined. Cost: linear in the entries.
    """
    ranges = {low: 0}  # sorted, because positions only grow; a later range at a position replaces
    sizes = _SIZES[width]
    around: list[tuple[int, int]] = []
    end, inside = high, 0  # end and value of the innermost prefix around the last, or of the slot
    last_end, last_value = high, 0
    for entry, value in zip(entries, values, strict=True):
        network = entry >> 8
        if last_end <= network:
            ranges[last_end] = inside
            while end <= network:
                position = end
                end, inside = around.pop()
                ranges[position] = inside
        else:  # inside the last prefix
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
        starts: the first address of each range; `low` for the first range.
        values: the value of each range.
        low: the first address of the subtrie.
        left: the number of undecided bits.
        block: the words of the block so far; the words of the subtrie are appended.

    Returns:
        The word of the subtrie; if it has words in the block, their offset is part of it.
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
    if bits == deciding:  # each range consists of whole slots
        ends = [*starts[1:], low + (1 << left + bits)]
        sizes = [end - start >> left for start, end in zip(starts, ends, strict=True)]
        words = [RECORD_FLAG | value if value else 0 for value in values]
        block.extend(itertools.chain.from_iterable(map(itertools.repeat, words, sizes)))
        return bits << KIND_SHIFT | at
    block.extend([0] * (1 << bits))
    first = 0
    for slot in range(1 << bits):
        # starts[first] is the range that contains `low`.
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
    """Return how many of the `left` bits distinguish all ranges; at least 1."""
    ends = 0
    for start in starts[1:]:
        ends |= start
    ends &= (1 << left) - 1
    return left - (ends & -ends).bit_length() + 1
