"""What the kernel has followed in, told to the neighbor protocol: it has news that wait for it.

    NUP chooses --> RIB decides --> a desired route --> parent, kernel --> progress --+
     ^ awaited                                                               |
     +------------------------------ followed -------------------------------+

A prefix has been followed when no desired route for it is unsaid or on its way: the kernel has what
is wanted, or has refused it, or nothing was to be changed. Why neighbors wait for that:
`routed.nup.transport.forwarding_wait`.

Cost: half a microsecond for each prefix that is awaited.
"""

from __future__ import annotations

from collections.abc import Iterable
from collections.abc import Set as AbstractSet

from routed.engine.fib.desired import DesiredFib, SentUpdate
from routed.model.prefix import Family, Prefix
from routed.nup.instance import NeighborInstance

__all__ = ["FibAcknowledgements"]


class FibAcknowledgements:
    """Owns which prefixes are awaited and have a desired route under way."""

    def __init__(self, neighbors: NeighborInstance, desired: DesiredFib) -> None:
        self._neighbors = neighbors
        self._desired = desired
        self._awaited: dict[Family, dict[int, Prefix]] = {family: {} for family in Family}

    def decided(self, now: float) -> bool:
        """The RIB has decided about everything that NUP has said, and the desired routes are made.

        Returns:
            Whether NUP was told something.
        """
        fresh: dict[Family, dict[int, Prefix]] = {family: {} for family in Family}
        for prefix in self._neighbors.pop_forwarding_waits():
            fresh[prefix.family][prefix.as_int] = prefix
        followed: list[Prefix] = []
        for family, prefixes in fresh.items():
            if prefixes:
                self._awaited[family].update(prefixes)
                followed += self._followed(family, prefixes.keys())
        return self._store(followed, now)

    def tried(self, updates: Iterable[SentUpdate], now: float) -> bool:
        """The kernel was given some updates.

        Returns:
            Whether NUP was told something.
        """
        followed: list[Prefix] = []
        for family, awaited in self._awaited.items():
            for update in updates:
                followed += self._followed(family, update.among(family, awaited.keys()))
        return self._store(followed, now)

    def _followed(self, family: Family, keys: AbstractSet[int]) -> list[Prefix]:
        """Those of these that are pending no longer; they are not awaited any more."""
        followed = keys - self._desired.pending_among(family, keys)
        return [self._awaited[family].pop(key) for key in sorted(followed)]

    def _store(self, followed: list[Prefix], now: float) -> bool:
        if followed:
            self._neighbors.forwarding_updated(followed, now)
        return bool(followed)
