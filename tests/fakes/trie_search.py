"""A search that does not verify the words of a trie, for tests of the code that wrote them."""

from __future__ import annotations

import bisect

from ipc.fib_layout import (
    ADDRESS_MASK,
    BUCKET_RANGES_BIAS,
    FIRST_BUCKET_KIND,
    KIND_SHIFT,
    RECORD_FLAG,
    RECORD_MASK,
)
from routed.snapshot.trace import TrieShape


def lookup(shape: TrieShape, addr_bits: int) -> int:
    """Return the value of the longest prefix that covers an address; 0 for none."""
    words = shape.words
    directory, bits, left, best = shape.root_address, shape.root_bits, shape.width, 0
    while True:
        left -= bits
        at = directory + 2 * (addr_bits >> left & (1 << bits) - 1)
        word = words[at]
        best = words[at + 1] or best
        if not word or word >> KIND_SHIFT:
            break
        directory, bits = word, min(shape.stride_bits, left)
    kind, block = word >> KIND_SHIFT, word & ADDRESS_MASK
    at = block
    while word and word < RECORD_FLAG and kind < FIRST_BUCKET_KIND:
        left -= kind
        word = words[at + (addr_bits >> left & (1 << kind) - 1)]
        kind, at = word >> KIND_SHIFT, block + (word & ADDRESS_MASK)
    if not word or word >= RECORD_FLAG:
        return int(word & RECORD_MASK) or best
    starts = kind - BUCKET_RANGES_BIAS - 1
    low = (addr_bits >> left - 32 if left > 32 else addr_bits) & 0xFFFF_FFFF
    return int(words[bisect.bisect_right(words, low, at, at + starts) + starts]) or best
