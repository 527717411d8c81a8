"""Trace of a search through the words of a trie, on the writer's side. Pure.

The layout is in `ipc/fib_layout.py`. Other processes use `ipc.snapshot.FibReader`, which validates
every word; here the words are trusted, because this process wrote them.
"""

from __future__ import annotations

import bisect
from typing import NamedTuple

from ipc.fib_layout import (
    ADDRESS_MASK,
    BUCKET_RANGES_BIAS,
    FIRST_BUCKET_KIND,
    KIND_SHIFT,
    RECORD_FLAG,
    RECORD_MASK,
)

__all__ = ["TrieShape", "describe"]


class TrieShape(NamedTuple):
    """Location of a trie, and the sizes of its directories."""

    words: memoryview
    """The whole memory, format "I"."""
    root_address: int
    root_bits: int
    stride_bits: int
    width: int


def describe(shape: TrieShape, addr_bits: int) -> list[str]:
    """Describe for display the words that a search for an address reads, one line each.

    Cost: that of a search, and the text.
    """
    words, lines = shape.words, []
    directory, bits, left = shape.root_address, shape.root_bits, shape.width
    while True:
        left -= bits
        slot = addr_bits >> left & (1 << bits) - 1
        word, fallback = words[directory + 2 * slot], words[directory + 2 * slot + 1]
        alternative = f", else record {fallback}" if fallback else ""
        lines.append(f"directory of {bits} bits, slot {slot:#x}: {_target(word)}{alternative}")
        if not word or word >> KIND_SHIFT:
            break
        directory, bits = word, min(shape.stride_bits, left)
    kind, block = word >> KIND_SHIFT, word & ADDRESS_MASK
    at = block
    while word and word < RECORD_FLAG and kind < FIRST_BUCKET_KIND:
        left -= kind
        slot = addr_bits >> left & (1 << kind) - 1
        word = words[at + slot]
        lines.append(f"node of {kind} bits, slot {slot:#x}: {_target(word)}")
        kind, at = word >> KIND_SHIFT, block + (word & ADDRESS_MASK)
    if word and word < RECORD_FLAG:
        starts = kind - BUCKET_RANGES_BIAS - 1
        low = (addr_bits >> left - 32 if left > 32 else addr_bits) & 0xFFFF_FFFF
        position = bisect.bisect_right(words, low, at, at + starts) - at
        found = words[at + position + starts]
        end = f"record {found}" if found else "nothing"
        lines.append(f"bucket of {starts + 1} ranges, number {position}: {end}")
    return lines


def _target(word: int) -> str:
    """Describe for display what a word of the trie refers to."""
    if not word:
        return "nothing"
    if word >= RECORD_FLAG:
        return f"record {word & RECORD_MASK}"
    kind = word >> KIND_SHIFT
    if not kind:
        return "a directory"
    return "a node" if kind < FIRST_BUCKET_KIND else "a bucket"
