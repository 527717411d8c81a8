"""Flap damping: an adjacency that flaps is suppressed for a while.

    penalty ^   flaps                 each flap (UP, and then not) adds FLAP_PENALTY
            |  /|  /|\\
   suppress |-/-|-/-|-\\------------   from here on the neighbor is not listed as heard,
            |/  |/     \\              so that the adjacency forms on neither side
      reuse |------------\\--------    until the penalty has fallen to this
            +----------------> time   by half in each half-life

Every flap costs the whole network an update for each route behind it, and two more when the
neighbor is back; a link that flaps every few seconds is worse than one that is down. While a
neighbor is suppressed it is heard, shown with the reason, and not listed in our heartbeats; the
first heartbeat after that time lists it again.

The penalty has a ceiling, from which it falls to `reuse` in `longest_s`: whatever has happened, a
stable neighbor is back after that. Changes by an operator (clear, a new configuration of ours) and
a graceful restart are not flaps.

Invariants: one entry per router id, MAX_DAMPED of them; the oldest is dropped first.

Source: RFC 2439 sections 4.2 to 4.4 (penalty, half-life, cutoff, reuse, ceiling).
"""

from __future__ import annotations

import math

from ipc.lazy_dataclass import dataclass
from routed.model.prefix import Address

__all__ = ["FLAP_PENALTY", "Damping", "FlapDamper"]

FLAP_PENALTY = 1000.0
MAX_DAMPED = 256
_NEGLIGIBLE = FLAP_PENALTY / 8
"""A penalty this small is forgotten."""


@dataclass(frozen=True, slots=True)
class Damping:
    """Parameters of flap damping. The unit of penalties is one flap, FLAP_PENALTY."""

    half_life_s: float
    """Time in which the penalty falls by half; above 0."""
    suppress: int
    """Suppressed from this penalty on; above `reuse`."""
    reuse: int
    """No longer suppressed below this penalty."""
    longest_s: float
    """The longest suppression after the last flap."""

    @property
    def ceiling(self) -> float:
        """The highest penalty; never below `suppress`, which could then never be reached."""
        return max(self.reuse * math.exp2(self.longest_s / self.half_life_s), float(self.suppress))


@dataclass(slots=True)
class _Record:
    """One router's penalty at one time."""

    penalty: float
    at: float
    is_suppressed: bool = False


class FlapDamper:
    """The penalties of one link's neighbors; outlives the link's going down."""

    def __init__(self) -> None:
        self._records: dict[Address, _Record] = {}
        """Records by router id; the router longest without a flap first."""

    def record_flap(self, router_id: Address, damping: Damping, now: float) -> bool:
        """Record that an adjacency that was UP has ended. Returns whether the neighbor is
        suppressed."""
        record = self._records.pop(router_id, None) or _Record(0.0, now)
        while len(self._records) >= MAX_DAMPED:
            del self._records[next(iter(self._records))]
        penalty = _decayed(record, damping, now) + FLAP_PENALTY
        record.penalty, record.at = min(penalty, damping.ceiling), now
        record.is_suppressed |= record.penalty >= damping.suppress
        self._records[router_id] = record
        return record.is_suppressed

    def suppressed_for(self, router_id: Address, damping: Damping, now: float) -> float:
        """Return how much longer a neighbor is suppressed; seconds, 0 when it is not. Cost:
        O(1)."""
        record = self._records.get(router_id)
        if record is None or not record.is_suppressed:
            return 0.0
        halvings = math.log2(max(record.penalty / damping.reuse, 1.0))
        left_s = record.at + halvings * damping.half_life_s - now
        if left_s > 0:
            return left_s
        record.is_suppressed = False
        return 0.0

    def penalty(self, router_id: Address, damping: Damping, now: float) -> float:
        """Return a neighbor's penalty now."""
        record = self._records.get(router_id)
        return 0.0 if record is None else _decayed(record, damping, now)

    def clear_damping(self, router_id: Address) -> None:
        """Remove a neighbor's penalty (operator)."""
        self._records.pop(router_id, None)

    def clean(self, damping: Damping | None, now: float) -> bool:
        """Drop penalties that have decayed. Returns whether any is left."""
        if damping is None:
            self._records.clear()
        else:
            for router_id, record in list(self._records.items()):
                is_held = self.suppressed_for(router_id, damping, now) > 0
                if not is_held and _decayed(record, damping, now) < _NEGLIGIBLE:
                    del self._records[router_id]
        return bool(self._records)


def _decayed(record: _Record, damping: Damping, now: float) -> float:
    return record.penalty * math.exp2((record.at - now) / damping.half_life_s)
