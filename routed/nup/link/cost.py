"""The additional cost of a distant neighbor, from its round trip.

    cost ^            _______  cost + max_extra
         |          /
         |  ______/            cost
         +---------------->
           min_s   max_s       smoothed round trip

Distances within a site should not move traffic, and beyond some distance all is far; in between the
cost grows linearly. The cost changes only when it is off by more than an eighth of the whole range:
a route that follows every change of a queue is useless, and feeds back on the queue that it was
measured on.

Source: RFC 9616 section 3 (saturating cost, hysteresis); defaults as in babeld.
"""

from __future__ import annotations

from ipc.lazy_dataclass import dataclass

__all__ = ["RttCost"]


@dataclass(frozen=True, slots=True)
class RttCost:
    """Conversion of a round trip to a cost."""

    min_s: float
    max_s: float
    """Round trip with the largest additional cost; above `min_s`."""
    max_extra: int
    """Cost added at `max_s` and beyond, 1 to 65,535."""

    def surcharge(self, rtt_s: float | None, current: int) -> int:
        """Return the cost to add to the link's cost now.

        Args:
            rtt_s: the smoothed round trip; None before the first sample.
            current: the cost that is added at present.
        """
        if rtt_s is None:
            return current
        share = (rtt_s - self.min_s) / (self.max_s - self.min_s)
        wanted = round(self.max_extra * min(max(share, 0.0), 1.0))
        is_far_off = abs(wanted - current) > self.max_extra / 8
        return wanted if is_far_off else current
