"""Longest-prefix match in the simplest way: one dictionary per length, tried from long to short."""

from __future__ import annotations

from collections.abc import Iterable

__all__ = ["LpmOracle"]


class LpmOracle:
    """Prefixes of one width and their values."""

    def __init__(self, width: int) -> None:
        self.width = width
        self.prefixes: dict[tuple[int, int], int] = {}
        """(network bits, length) -> value."""

    def put(self, addr_bits: int, prefix_len: int, value: int) -> None:
        self.prefixes[addr_bits, prefix_len] = value

    def remove(self, addr_bits: int, prefix_len: int) -> None:
        del self.prefixes[addr_bits, prefix_len]

    def lookup(self, addr_bits: int) -> int:
        """Return the value of the longest match; 0 for none."""
        for length in sorted({length for _, length in self.prefixes}, reverse=True):
            host_bits = self.width - length
            value = self.prefixes.get((addr_bits >> host_bits << host_bits, length))
            if value is not None:
                return value
        return 0

    def interesting_addresses(self) -> Iterable[int]:
        """Both ends of every prefix, and the addresses next to them."""
        limit = (1 << self.width) - 1
        found = {0, limit}
        for addr_bits, length in self.prefixes:
            last = addr_bits | ((1 << (self.width - length)) - 1)
            found |= {addr_bits, last, max(addr_bits - 1, 0), min(last + 1, limit)}
        return found
