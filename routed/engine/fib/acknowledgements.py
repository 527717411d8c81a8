"""FIB acknowledgements: NUP is notified when its routes are in the kernel, because some of its
advertisements wait for that.

    NUP selects --> RIB decides --> desired route --> parent, kernel --> progress --+
     ^ awaited                                                                      |
     +------------------------------- acknowledged ---------------------------------+

A prefix is acknowledged when no desired route for it is unsent or in flight: the kernel has the
desired route or has refused it, or nothing was to be changed. Why advertisements wait for that:
`routed.nup.transport.forwarding_wait`.

Cost: half a microsecond for each awaited prefix.
"""

from __future__ import annotations

from collections.abc import Iterable
from collections.abc import Set as AbstractSet

from routed.engine.fib.desired import DesiredFib
from routed.engine.fib.window import SentUpdate
from routed.model.prefix import Family, Prefix
from routed.nup.instance import NeighborInstance

__all__ = ["FibAcknowledgements"]


class FibAcknowledgements:
    """Owns the awaited prefixes whose desired route is unsent or in flight."""

    def __init__(self, neighbors: NeighborInstance, desired: DesiredFib) -> None:
        self._neighbors = neighbors
        self._desired = desired
        self._awaited: dict[Family, dict[int, Prefix]] = {family: {} for family in Family}

    def handle_decision(self, now: float) -> bool:
        """Acknowledge awaited prefixes for which a decision has changed nothing.

        To be called when the RIB has decided about everything that NUP has reported, and the
        desired routes are set.

        Returns:
            Whether NUP was notified.
        """
        fresh: dict[Family, dict[int, Prefix]] = {family: {} for family in Family}
        for prefix in self._neighbors.pop_forwarding_waits():
            fresh[prefix.family][prefix.as_int] = prefix
        acknowledged: list[Prefix] = []
        for family, prefixes in fresh.items():
            if prefixes:
                self._awaited[family].update(prefixes)
                acknowledged += self._pop_acknowledged(family, prefixes.keys())
        return self._notify(acknowledged, now)

    def handle_progress(self, tried: Iterable[SentUpdate], now: float) -> bool:
        """Acknowledge awaited prefixes of updates that the kernel was given.

        Returns:
            Whether NUP was notified.
        """
        acknowledged: list[Prefix] = []
        for family, awaited in self._awaited.items():
            for update in tried:
                acknowledged += self._pop_acknowledged(family, update.among(family, awaited.keys()))
        return self._notify(acknowledged, now)

    def _pop_acknowledged(self, family: Family, keys: AbstractSet[int]) -> list[Prefix]:
        """Remove and return those of some awaited prefixes that are no longer pending."""
        acknowledged = keys - self._desired.pending_among(family, keys)
        return [self._awaited[family].pop(key) for key in sorted(acknowledged)]

    def _notify(self, acknowledged: list[Prefix], now: float) -> bool:
        if acknowledged:
            self._neighbors.forwarding_updated(acknowledged, now)
        return bool(acknowledged)
