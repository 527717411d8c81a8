"""Updates of restarted neighbors, kept until their tables are complete.

A neighbor that restarts goes on forwarding by its old table, and its routes stay in use as they
were. Until it has learned from all its neighbors, its updates would move traffic for nothing: those
of stale routes wait here.
"""

from __future__ import annotations

from typing import TypeAlias

from routed.model.prefix import Prefix
from routed.nup.routes.entries import NeighborKey, UpdateOutcome, UpdateVerdict
from routed.nup.wire.message import RouteUpdate

__all__ = ["Parked", "ParkedUpdates"]

Parked: TypeAlias = dict[Prefix, tuple[RouteUpdate, int]]
"""An update and its table version, by prefix."""


class ParkedUpdates:
    """Owner of the parked updates."""

    def __init__(self) -> None:
        self._by_neighbor: dict[NeighborKey, Parked] = {}

    def park(
        self, key: NeighborKey, prefixes: list[Prefix], update: RouteUpdate, version: int
    ) -> list[UpdateOutcome]:
        """Keep an update of stale routes, unless a newer one is kept.

        Args:
            key: the neighbor.
            prefixes: that the update applies to.
            update: alike for all of them.
            version: its table version.
        """
        parked = self._by_neighbor.setdefault(key, {})
        old = [prefix for prefix in prefixes if prefix in parked and version < parked[prefix][1]]
        kept = [prefix for prefix in prefixes if prefix not in old] if old else prefixes
        for prefix in kept:
            parked[prefix] = (update._replace(prefix=prefix), version)
        return [
            UpdateOutcome(verdict, concerned, update.seqno)
            for verdict, concerned in (
                (UpdateVerdict.PARKED, kept),
                (UpdateVerdict.OLD_VERSION, old),
            )
            if concerned
        ]

    def pop(self, key: NeighborKey) -> Parked:
        """Remove and return the parked updates of a neighbor."""
        return self._by_neighbor.pop(key, {})
