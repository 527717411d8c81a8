"""What was carried: packets and bytes, in both directions. Pure."""

from __future__ import annotations

import operator
from typing import NamedTuple

__all__ = ["NOTHING", "Figures"]


class Figures(NamedTuple):
    """What a route, a host or anything else has carried."""

    received_packets: int
    received_bytes: int
    sent_packets: int
    sent_bytes: int

    def plus(self, other: Figures) -> Figures:
        """Return the sum."""
        return Figures(*map(operator.add, self, other))

    def minus(self, other: Figures) -> Figures:
        """Return the difference."""
        return Figures(*map(operator.sub, self, other))

    @property
    def bytes(self) -> int:
        """Bytes of both directions."""
        return self.received_bytes + self.sent_bytes

    @property
    def packets(self) -> int:
        """Packets of both directions."""
        return self.received_packets + self.sent_packets


NOTHING = Figures(0, 0, 0, 0)
