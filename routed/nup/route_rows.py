"""NUP's own table for `show nup routes`: what each neighbor advertises and what this router does.

`show routes` has the candidates; this table also has the routes that are not feasible, that the
import policy refuses, or that wait for a next hop, with origin, seqno and feasibility distance.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from routed.model.prefix import Address, Prefix
from routed.model.route import METRIC_INFINITY
from routed.nup.advertisements import Advertisements
from routed.nup.events import AdjacencyState
from routed.nup.routes.entries import Distance, NeighborKey
from routed.nup.shared_state import SharedState

__all__ = ["NupRouteRow", "RouteRows"]


class NupRouteRow(NamedTuple):
    """One route as one neighbor advertises it, or as this router does on one link."""

    prefix: Prefix
    is_advertised: bool
    """True for what this router advertises, False for what it has received."""
    ifindex: int
    key: NeighborKey | None
    """The neighbor; None for what is advertised, to all neighbors of the link alike."""
    metric: int
    """As it is in the message, without the cost of the link."""
    tag: int
    is_external: bool
    origin: Address
    seqno: int
    distance: Distance | None
    """This router's feasibility distance of the prefix and the origin; None if it has none."""
    is_feasible: bool = True
    is_accepted: bool = True
    """Whether the import policy accepts it."""
    is_selected: bool = False
    is_stale: bool = False
    """Whether its neighbor restarts and has not advertised it again."""


class RouteRows:
    """Reads the table of an instance; owns nothing."""

    def __init__(self, state: SharedState) -> None:
        self._links = state.links
        self._table = state.table
        self._origins = state.origins
        self._lookup = Advertisements(state).lookup

    def prefixes(self) -> list[Prefix]:
        """Return every prefix that may have a row, in no order; one may occur twice.

        Cost: a copy of two tables, 10 ns a prefix.
        """
        return [*self._table.prefixes(), *self._origins.prefixes()]

    def links_of(self, neighbor: Address) -> frozenset[int]:
        """Return the links with an adjacency with this router id or address."""
        return frozenset(
            ifindex
            for ifindex, link in self._links.items()
            for entry in link.neighbors.values()
            if neighbor in (entry.adjacency.router_id, entry.adjacency.address)
        )

    def received(self, prefix: Prefix, neighbor: Address | None) -> Iterator[NupRouteRow]:
        """Yield the routes to a prefix that neighbors advertise, by link and router id.

        Args:
            prefix: any.
            neighbor: only those of the neighbor with this router id or address; None for all.
        """
        selection = self._table.selection(prefix)
        chosen = () if selection is None else selection.neighbors
        for _, key, route, is_feasible in sorted(
            self._table.learned_of(prefix), key=lambda learned: learned[1][:2]
        ):
            if neighbor is None or neighbor in (key.router_id, key.address):
                yield NupRouteRow(
                    prefix, False, key.ifindex, key, route.metric, route.tag, route.is_external,
                    route.origin, route.seqno, self._table.distances.get(prefix, route.origin),
                    is_feasible, route.imported.is_accepted, key in chosen, route.is_stale,
                )  # fmt: skip

    def advertised(self, prefix: Prefix, links: frozenset[int] | None) -> Iterator[NupRouteRow]:
        """Yield what each link with a neighbor that is up may be advertised of a prefix, by index.

        A retraction is no row. A route that waits until the kernel has it is one already.

        Args:
            prefix: any.
            links: only these; None for all.
        """
        for ifindex in sorted(self._links if links is None else links & self._links.keys()):
            update = self._lookup(prefix, ifindex) if self._has_listener(ifindex) else None
            if update is not None and update.metric != METRIC_INFINITY:
                _, metric, tag, is_external, origin, seqno = update
                distance = self._table.distances.get(prefix, origin)
                yield NupRouteRow(
                    prefix, True, ifindex, None, metric, tag, is_external, origin, seqno, distance
                )

    def _has_listener(self, ifindex: int) -> bool:
        neighbors = self._links[ifindex].neighbors.values()
        return any(each.adjacency.state is AdjacencyState.UP for each in neighbors)
