"""Table dumps: their order, and how often one may begin.

    OriginTable, RouteTable --record_added, _removed--> TableOrder --listed--> TableDump
                                                        DumpLimits --open_at--> when it may begin

All dumps walk one list. It is sorted only when a dump needs it after many changes: a sort of n
prefixes is paid for by the n / CHANGES_SHARE changes before it, however often neighbors start
again. Added prefixes are appended unsorted; removed ones stay in the list, and a dump skips them.

A dump may skip many prefixes without a message (split horizon), and a neighbor that resets its
session again and again pays a few bytes for each. So dumps for one router, and for one link, are
limited in rate. A neighbor that comes too soon waits for its table; no other exchange with it
waits.

Bounds: `DumpLimits` knows MAX_ROUTERS routers for each link; the one whose last dump is longest ago
is dropped first.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from routed.model.prefix import Address, Prefix

__all__ = ["DumpLimits", "TableOrder"]

CHANGES_SHARE = 8
CHANGES_MIN = 64
"""The list is made again after more changes than this, and than its share of the list."""

DUMP_GAP_S = 15.0
DUMPS_AT_ONCE = 16
"""Token bucket of tables for one router on one link: so many at once, then one in each
DUMP_GAP_S."""
LINK_DUMP_GAP_S = 0.25
LINK_DUMPS_AT_ONCE = 512
"""Tables for all routers on a link together at once: twice as many as it may have neighbors."""
MAX_ROUTERS = 256


class TableOrder:
    """Owner of the list of all prefixes that may be advertised, in order."""

    def __init__(self) -> None:
        self._listed: list[Prefix] | None = None
        """The list, to which prefixes are only appended: a dump walks it up to its end at the
        dump's begin."""
        self._changes = 0

    def record_added(self, prefixes: Sequence[Prefix]) -> None:
        """Append prefixes that may be advertised from now on."""
        if self._listed is not None:
            self._listed += prefixes
            self._count(len(prefixes))

    def record_removed(self, count: int) -> None:
        """Count prefixes that are no longer advertised."""
        if self._listed is not None:
            self._count(count)

    def _count(self, changes: int) -> None:
        self._changes += changes
        if self._listed and self._changes > max(CHANGES_MIN, len(self._listed) // CHANGES_SHARE):
            self._listed = None

    def listed(self, *sources: Iterable[Prefix]) -> Sequence[Prefix]:
        """Return the list, made again from `sources` if it has changed too much.

        Args:
            sources: all prefixes that may be advertised now.

        Returns:
            These, and perhaps some that are no longer advertised; it grows at its end only.
        """
        if self._listed is None:
            self._listed = sorted(set().union(*sources))
            self._changes = 0
        return self._listed


class DumpLimits:
    """Token buckets of table dumps on a link; outlives the link's going down."""

    def __init__(self) -> None:
        self._routers: dict[Address, float] = {}
        """Time until which each router has used its share; the router longest without a dump
        first."""
        self._link = 0.0
        """Time until which all routers together have used their share."""

    def open_at(self, router_id: Address) -> float:
        """Return from when on a dump to a router may begin."""
        own = self._routers.get(router_id, 0.0) - (DUMPS_AT_ONCE - 1) * DUMP_GAP_S
        return max(own, self._link - (LINK_DUMPS_AT_ONCE - 1) * LINK_DUMP_GAP_S)

    def record_begun(self, router_id: Address, now: float) -> None:
        """Record that a dump to a router begins."""
        used = self._routers.pop(router_id, 0.0)
        while len(self._routers) >= MAX_ROUTERS:
            del self._routers[next(iter(self._routers))]
        self._routers[router_id] = max(used, now) + DUMP_GAP_S
        self._link = max(self._link, now) + LINK_DUMP_GAP_S
