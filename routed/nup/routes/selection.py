"""The choice between the learned routes to a prefix: the total order, ECMP, and what to request.

Pure; `table` owns the routes and says why the feasibility condition keeps loops away.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

from routed.model.prefix import Address
from routed.model.seqno import next_seqno, seqno_distance
from routed.nup.routes.entries import (
    Distance,
    LearnedRoute,
    NeighborKey,
    SelectedRoute,
    is_feasible,
)

__all__ = ["NeededSeqno", "Usable", "choose"]

NeededSeqno: TypeAlias = tuple[Address, int, tuple[NeighborKey, ...]]
"""The origin and seqno to ask for, and the neighbors whose routes are not feasible."""

Usable: TypeAlias = list[tuple[NeighborKey, LearnedRoute, int]]
"""Routes that can be used, with their total metric."""


def choose(
    candidates: Usable, origins: list[Address], distances: Sequence[Distance | None]
) -> tuple[SelectedRoute | None, NeededSeqno | None]:
    """Choose between routes to a prefix.

    In order: feasible; internal before external; lower metric; lower origin; newer seqno. Routes
    that are then equal are used together. Seqnos are compared by their distance ahead of the
    feasibility distance, or of the lowest where there is none: so their order is total.

    Args:
        candidates: at least one.
        origins: of all of them.
        distances: for each origin.

    Returns:
        The choice, and the seqno to request where a better route is not feasible.
    """
    if len(candidates) == 1:  # as most often
        ((key, route, total),) = candidates
        if is_feasible(route, distances[0]):
            return _selection(total, route, (key,)), None
    is_one = len(origins) == 1
    best_rank: tuple[bool, int, Address] | None = None
    best: list[tuple[NeighborKey, LearnedRoute]] = []
    better: tuple[bool, int, Address] | None = None
    waiting: list[NeighborKey] = []
    for key, route, total in candidates:
        rank = (route.is_external, total, route.origin)
        distance = distances[0 if is_one else origins.index(route.origin)]
        if not is_feasible(route, distance):
            better = rank if better is None else min(better, rank)
            waiting.append(key)
        elif best_rank is None or rank < best_rank:
            best_rank, best = rank, [(key, route)]
        elif rank == best_rank:
            best.append((key, route))
    request = None
    if better is not None and (best_rank is None or best_rank[:2] > better[:2]):
        distance = distances[origins.index(better[2])]
        assert distance is not None  # or it would be feasible
        request = better[2], next_seqno(distance.seqno), tuple(waiting)
    if best_rank is None:
        return None, request
    if len(best) > 1:
        best = _newest(best, distances[origins.index(best_rank[2])])
    return _selection(best_rank[1], best[0][1], tuple([key for key, _ in best])), request


def _selection(
    total: int, route: LearnedRoute, neighbors: tuple[NeighborKey, ...]
) -> SelectedRoute:
    return SelectedRoute(
        total,
        route.imported.tag,
        route.is_external,
        route.origin,
        route.seqno,
        neighbors,
        route.imported.distance,
    )


def _newest(
    routes: list[tuple[NeighborKey, LearnedRoute]], distance: Distance | None
) -> list[tuple[NeighborKey, LearnedRoute]]:
    """Return those of one origin with the newest seqno, in the order of their neighbors."""
    base = min(route.seqno for _, route in routes) if distance is None else distance.seqno
    newest = max(seqno_distance(route.seqno, base) for _, route in routes)
    found = [each for each in routes if seqno_distance(each[1].seqno, base) == newest]
    return sorted(found, key=_neighbor_of)


def _neighbor_of(member: tuple[NeighborKey, LearnedRoute]) -> NeighborKey:
    return member[0]
