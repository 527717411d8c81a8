"""Search in a mapped snapshot: the longest match for an address, as the number of its record.

There are two implementations of one interface (`Search`): `PythonSearch` here, which is the
reference, and that of the optional C extension `_search`. `make_search` uses the extension if it is
available. One test suite runs with both.

The layout is in `fib_layout.py`. No word of the snapshot is trusted: Python refuses an index
outside the mapping, every step uses up bits of the address, and a failed search is an error only if
no memory was reused meanwhile; otherwise it is repeated.

Failure: `SnapshotError` for a damaged snapshot, or one that changes faster than it can be read;
`ValueError` for a value that is not an address. After `release` every call raises `ValueError`.
"""

from __future__ import annotations

import bisect
import itertools
import mmap
import socket
import struct
from array import array
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Protocol

from ipc.extension import native
from ipc.fib_layout import (
    ADDRESS_MASK,
    BUCKET_RANGES_BIAS,
    FAMILY_WORDS,
    FIRST_BUCKET_KIND,
    KIND_SHIFT,
    RECORD_FLAG,
    RECORD_MASK,
    RECORD_WORDS,
    SEARCH_TRIES,
    FamilyHeader,
    Header,
    SnapshotError,
)

if TYPE_CHECKING:
    from typing_extensions import Buffer  # collections.abc has it from Python 3.12

__all__ = ["PythonSearch", "Search", "address_numbers", "make_search"]

_FIRST_BLOCK = 1 << KIND_SHIFT
"""A directory's word below this is a child directory's address, or 0."""
_FIRST_BUCKET = FIRST_BUCKET_KIND << KIND_SHIFT
_EPOCHS = 0xFFFF_FFFF


class Search(Protocol):
    """Interface of both implementations.

    Cost, on a machine of 2024 with a million routes: a single search takes 0.3 to 0.5 us in Python
    and 0.05 to 0.15 us in C; a batch takes as long per address in Python, and 0.01 us in C, where
    other threads run meanwhile.
    """

    def find4(self, addr_bits: int, /) -> int:
        """Return the number of the record of the longest match for an IPv4 address; 0 for none.

        Args:
            addr_bits: 0 to 2**32 - 1.
        """

    def find6(self, addr_bits: int, /) -> int:
        """Do the same for an IPv6 address, 0 to 2**128 - 1."""

    def find(self, address: str, /) -> int:
        """Do the same for an address as text, of either family."""

    def find_many(self, addresses: Buffer, version: int, out: Buffer, /) -> None:
        """Do the same for many addresses of one family.

        Args:
            addresses: packed in network order (items of one byte), 4 or 16 bytes each; or IPv4
                addresses as 32-bit numbers in host order (format "I").
            version: 4 or 6.
            out: writable buffer, 4 bytes per address; receives the numbers in host order.
        """

    def release(self) -> None:
        """Release the memory, so that it can be unmapped.

        Raises:
            BufferError: another thread is searching in it.
        """


def make_search(memory: mmap.mmap) -> Search:
    """Return the fastest search that this installation has.

    Args:
        memory: a mapped snapshot whose header was checked.
    """
    return PythonSearch(memory) if native is None else native.Search(memory)


class PythonSearch:
    """The search in Python."""

    def __init__(self, memory: Buffer) -> None:
        """Search in a snapshot whose header was checked."""
        self._set_memory(memoryview(memory).cast("I"))

    def _set_memory(self, words: memoryview) -> None:
        self._words = words
        self.find4 = _finder(words, 32, Header.IPV4)
        self.find6 = _finder(words, 128, Header.IPV4 + FAMILY_WORDS)

    def find(self, address: str, /) -> int:
        """See `Search`."""
        is_ipv6 = ":" in address
        try:
            packed = socket.inet_pton(socket.AF_INET6 if is_ipv6 else socket.AF_INET, address)
        except (OSError, ValueError):  # the latter for a null character
            raise ValueError(f"{address!r} is not an IP address") from None
        addr_bits = int.from_bytes(packed, "big")
        return self.find6(addr_bits) if is_ipv6 else self.find4(addr_bits)

    def find_many(self, addresses: Buffer, version: int, out: Buffer, /) -> None:
        """See `Search`."""
        numbers, count = address_numbers(addresses, version)
        with memoryview(out) as view, view.cast("B") as places:
            if len(places) < 4 * count:
                raise ValueError("`out` is no array of enough 32-bit numbers")
            found = array("I", map(self.find4 if version == 4 else self.find6, numbers))
            places[: 4 * count] = memoryview(found).cast("B")

    def release(self) -> None:
        """See `Search`."""
        self._words.release()


def address_numbers(addresses: Buffer, version: int) -> tuple[Iterable[int], int]:
    """Return the addresses in a buffer as numbers, and how many there are.

    Raises:
        ValueError: the buffer does not hold addresses of that version.
    """
    if version not in (4, 6):
        raise ValueError(f"the version is 4 or 6, not {version}")
    with memoryview(addresses) as view:
        if view.itemsize == 1:
            size = 4 if version == 4 else 16
            if view.nbytes % size:
                raise ValueError(f"packed IPv{version} addresses have {size} bytes each")
            packed = view.tobytes()
            count = len(packed) // size
            if version == 4:
                return itertools.chain.from_iterable(struct.iter_unpack("!I", packed)), count
            halves = struct.iter_unpack("!QQ", packed)
            return (high << 64 | low for high, low in halves), count
        if version == 4 and view.itemsize == 4 and view.format in ("I", "L"):
            return view.tolist(), len(view)
    raise ValueError("addresses are packed bytes, or 32-bit numbers for IPv4")


def _finder(words: memoryview, width: int, block: int) -> Callable[[int], int]:
    """Return the search of one family, as a closure: it is the most frequently executed Python
    code.

    Args:
        words: the snapshot.
        width: 32 or 128.
        block: index of the family's block in the header.
    """
    root = int(words[block + FamilyHeader.ROOT_ADDRESS])
    top = width - int(words[block + FamilyHeader.ROOT_BITS])
    stride_bits = int(words[block + FamilyHeader.STRIDE_BITS])
    default = block + FamilyHeader.DEFAULT_RECORD
    records_max = int(words[Header.RECORDS_END] - words[Header.RECORDS_FIRST]) // RECORD_WORDS
    epoch_at = int(Header.EPOCH)
    bisect_right = bisect.bisect_right
    tries = range(SEARCH_TRIES)
    masks = [(1 << bits) - 1 for bits in range(FIRST_BUCKET_KIND)]

    def find_shallow(addr_bits: int, /) -> int:
        """Try the steps that most IPv4 addresses need: the root's entry, and two branches or a
        bucket below it. All other cases, including damage, are left to `search`."""
        if addr_bits >> width:
            raise ValueError(f"an address is 0 to 2**{width} - 1")
        epoch = words[epoch_at]
        at = root + (addr_bits >> top << 1)
        word = words[at]
        try:
            if _FIRST_BLOCK <= word < _FIRST_BUCKET:
                bits, block = word >> KIND_SHIFT, word & ADDRESS_MASK
                left = top - bits
                word = words[block + (addr_bits >> left & masks[bits])]
                if _FIRST_BLOCK <= word < _FIRST_BUCKET:
                    bits = word >> KIND_SHIFT
                    slot = addr_bits >> left - bits & masks[bits]
                    word = words[block + (word & ADDRESS_MASK) + slot]
            elif _FIRST_BUCKET <= word < RECORD_FLAG:
                starts = (word >> KIND_SHIFT) - BUCKET_RANGES_BIAS - 1
                first = word & ADDRESS_MASK
                word = words[bisect_right(words, addr_bits, first, first + starts) + starts]
                word = word and word | RECORD_FLAG
        except (IndexError, ValueError):
            return search(addr_bits)  # which distinguishes damage from concurrent changes
        if word > RECORD_MASK:
            best = word & RECORD_MASK
        elif word:
            return search(addr_bits)
        else:
            best = words[at + 1] or words[default]
        if words[epoch_at] == epoch and best <= records_max:
            return best
        return search(addr_bits)

    def find_deep(addr_bits: int, /) -> int:
        """Search with child directories, which IPv6 addresses need."""
        if addr_bits >> width:
            raise ValueError(f"an address is 0 to 2**{width} - 1")
        return search(addr_bits)

    def search(addr_bits: int) -> int:
        """Search through all steps, repeatedly if the snapshot changes meanwhile."""
        best = 0
        for _ in tries:
            epoch = words[epoch_at]
            left = top
            try:
                at = root + (addr_bits >> left << 1)
                word, best = words[at], words[at + 1]
                while 0 < word < _FIRST_BLOCK:
                    bits = min(left, stride_bits)
                    left -= bits
                    at = word + ((addr_bits >> left & (1 << bits) - 1) << 1)
                    word, best = words[at], words[at + 1] or best
                    if not bits:
                        raise IndexError
                if word >= RECORD_FLAG:
                    best = word & RECORD_MASK
                elif word:
                    kind = word >> KIND_SHIFT
                    start = at = word & ADDRESS_MASK
                    while kind < FIRST_BUCKET_KIND:
                        left -= kind
                        word = words[at + (addr_bits >> left & (1 << kind) - 1)]
                        if word >= RECORD_FLAG:
                            best = word & RECORD_MASK
                            break
                        if not word:
                            break
                        kind = word >> KIND_SHIFT
                        at = start + (word & ADDRESS_MASK)
                        if not kind:
                            raise IndexError
                    else:
                        starts = kind - BUCKET_RANGES_BIAS - 1
                        low = (addr_bits >> left - 32 if left > 32 else addr_bits) & 0xFFFF_FFFF
                        best = words[bisect_right(words, low, at, at + starts) + starts] or best
                if not best:
                    best = words[default]
                is_damaged = best > records_max
            except (IndexError, ValueError):
                # An index outside, or a walk that wants more bits than an address has.
                is_damaged = True
            if words[epoch_at] - epoch & _EPOCHS < 2:
                if is_damaged:
                    raise SnapshotError("the snapshot is damaged: its trie leads outside")
                return best
        raise SnapshotError("the daemon writes faster than this process can read")

    return find_shallow if width == 32 else find_deep
