"""Prefixes that gateways may stand on: what routes without a gateway cover. Pure.

A gateway must be reached over a route that names a link alone. Such routes are the kernel's own (of
addresses), ours (172.31.1.1/32 dev eth0, and the default through 172.31.1.1), or somebody else's.
Whatever was refused for want of one is tried again when one appears.

Bounds: PREFIXES_MAX between two looks; beyond, every gateway counts as covered.
"""

from __future__ import annotations

from routed.model.prefix import Address, Family, Prefix

__all__ = ["PREFIXES_MAX", "LinkPrefixes"]

PREFIXES_MAX = 10_000


class LinkPrefixes:
    """What has appeared since the last look."""

    def __init__(self) -> None:
        self._bits: dict[tuple[Family, int], set[int]] = {}
        """By family and length, the leading bits."""
        self._count = 0

    def __bool__(self) -> bool:
        """Whether there is something."""
        return self._count > 0

    def add(self, prefix: Prefix) -> None:
        """A route without a gateway is in the kernel."""
        if self._count < PREFIXES_MAX:
            shift = prefix.family.width - prefix.prefix_len
            self._bits.setdefault((prefix.family, prefix.prefix_len), set()).add(
                prefix.addr_bits >> shift
            )
        self._count += 1

    def covers(self, via: Address) -> bool:
        """Whether a gateway may stand on one of them.

        Cost: one look for each length that there is.
        """
        if self._count > PREFIXES_MAX:
            return True
        return any(
            family is via.family and via.addr_bits >> (family.width - length) in known
            for (family, length), known in self._bits.items()
        )

    def clear(self) -> None:
        """They were looked at."""
        self._bits.clear()
        self._count = 0
