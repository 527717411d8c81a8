"""Prefixes over which gateways may resolve: those of routes without a gateway. Pure.

A gateway must be reached over a route that names a link alone. Such routes are the kernel's own (of
addresses), ours (172.31.1.1/32 dev eth0, and the default through 172.31.1.1), or foreign. Routes
that were refused because such a route was missing are retried when one appears.

Bounds: PREFIXES_MAX between two checks; beyond, every gateway counts as covered.
"""

from __future__ import annotations

from routed.model.prefix import Address, Family, Prefix

__all__ = ["PREFIXES_MAX", "LinkPrefixes"]

PREFIXES_MAX = 10_000


class LinkPrefixes:
    """The prefixes that appeared since the last check."""

    def __init__(self) -> None:
        self._bits: dict[tuple[Family, int], set[int]] = {}
        """The leading bits of the prefixes, by family and prefix length."""
        self._count = 0

    def __bool__(self) -> bool:
        """Whether any prefix was added."""
        return self._count > 0

    def add(self, prefix: Prefix) -> None:
        """Add the prefix of a route without a gateway that is in the kernel now."""
        if self._count < PREFIXES_MAX:
            shift = prefix.family.width - prefix.prefix_len
            self._bits.setdefault((prefix.family, prefix.prefix_len), set()).add(
                prefix.addr_bits >> shift
            )
        self._count += 1

    def covers(self, via: Address) -> bool:
        """Whether a gateway may resolve over one of the prefixes.

        Cost: one look-up for each prefix length in use.
        """
        if self._count > PREFIXES_MAX:
            return True
        return any(
            family is via.family and via.addr_bits >> (family.width - length) in known
            for (family, length), known in self._bits.items()
        )

    def clear(self) -> None:
        """Remove all prefixes, after a check."""
        self._bits.clear()
        self._count = 0
