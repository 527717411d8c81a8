"""The values of the route table: learned routes, selected routes, and outcomes of updates.

`table` explains the decision.
"""

from __future__ import annotations

import enum
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple, TypeAlias

from ipc.lazy_dataclass import dataclass
from routed.model.prefix import Address, Family, Prefix
from routed.model.route import METRIC_INFINITY
from routed.model.seqno import is_newer_origin
from routed.nup.routes.policy import Imported
from routed.nup.wire.message import RouteUpdate, SeqnoRequest

__all__ = [
    "Distance",
    "LearnedRoute",
    "NeighborKey",
    "NeighborRoutes",
    "Path",
    "RequestTo",
    "SelectedRoute",
    "UpdateOutcome",
    "UpdateVerdict",
    "add_cost",
    "alike",
    "improved",
    "is_feasible",
    "merged",
]


class NeighborKey(NamedTuple):
    """A neighbor on a link; the order breaks ties."""

    ifindex: int
    router_id: Address
    address: Address | None = None
    """Source address of the neighbor: a router with two links on one wire is two neighbors. None
    where a table does not need the difference."""


@dataclass(frozen=True, slots=True)
class Path:
    """The cost of a neighbor's routes, and the families that it has a next hop for."""

    cost: int
    families: frozenset[Family]
    """Families for which a next hop can be named."""


class LearnedRoute(NamedTuple):
    """A prefix as one neighbor advertises it; one object for all that were advertised alike."""

    metric: int
    tag: int
    is_external: bool
    origin: Address
    seqno: int
    version: int
    claim_seqno: int
    claim_metric: int
    """The best (seqno, metric) it has claimed of this origin since its last retraction."""
    imported: Imported
    """The result of our import policy."""
    is_stale: bool = False


NeighborRoutes: TypeAlias = Mapping[NeighborKey, LearnedRoute]
"""The routes of a prefix by neighbor: one object for all prefixes of one family that are advertised
alike, and therefore never changed."""


class Distance(NamedTuple):
    """The feasibility distance of a prefix and an origin."""

    seqno: int
    metric: int


class SelectedRoute(NamedTuple):
    """This router's route to a prefix, and the claim that it advertises."""

    metric: int
    tag: int
    is_external: bool
    origin: Address
    seqno: int
    neighbors: tuple[NeighborKey, ...]
    """The selected neighbors, all with equal routes, in order."""
    distance: int | None = None
    """Distance set by our policy; None for the default of the kind of route."""


class RequestTo(NamedTuple):
    """A request, and the neighbor that it is sent to."""

    key: NeighborKey
    request: SeqnoRequest


class UpdateOutcome(NamedTuple):
    """The outcome of updates that differ in nothing but their prefixes."""

    verdict: UpdateVerdict
    prefixes: Sequence[Prefix]
    seqno: int
    """Seqno of these updates."""


class UpdateVerdict(enum.Enum):
    """The outcome of an update."""

    ACCEPTED = "accepted"
    PARKED = "kept until the restarted neighbor's table is complete"
    UNFEASIBLE = "kept, but not feasible"
    OLD_VERSION = "older than what is known"
    OWN_ORIGIN = "our own route, heard back"
    TABLE_FULL = "too many routes from this neighbor"
    OUT_OF_REACH = "kept, but its seqno is too far from the last one used"
    ORIGINS_FULL = "too many origins from this neighbor"
    MARTIAN = "a prefix that no protocol may bring in"


def add_cost(metric: int, cost: int) -> int:
    """Add a cost along a path; infinity absorbs."""
    return min(metric + cost, METRIC_INFINITY)


def alike(updates: Sequence[RouteUpdate]) -> Iterator[Sequence[RouteUpdate]]:
    """Cut a list into runs that differ in nothing but their prefixes, families apart."""
    first, count = 0, len(updates)
    while first < count:
        at = first + 1
        if at < count:
            update = updates[first]
            family, claim = update[0][0], update[1:]
            while at < count and updates[at][1:] == claim and updates[at][0][0] is family:
                at += 1
        yield updates[first:at]
        first = at


def is_feasible(route: LearnedRoute, distance: Distance | None) -> bool:
    """Return whether a route may be used at a feasibility distance; None if there is none yet."""
    if distance is None:
        return True
    if route.claim_seqno == distance.seqno:
        return route.claim_metric < distance.metric
    return is_newer_origin(route.claim_seqno, distance.seqno)


def improved(distance: Distance | None, selection: SelectedRoute) -> Distance:
    """Return the better of a feasibility distance and the present selection."""
    if (
        distance is None
        or is_newer_origin(selection.seqno, distance.seqno)
        or (selection.seqno == distance.seqno and selection.metric < distance.metric)
    ):
        return Distance(selection.seqno, selection.metric)
    return distance


def merged(
    route: LearnedRoute | None, update: RouteUpdate, version: int, imported: Imported
) -> LearnedRoute:
    """Return the route after an update, with the better of the old and the new claim."""
    claim_seqno, claim_metric = update.seqno, update.metric
    if (
        route is not None
        and not route.is_stale
        and route.metric != METRIC_INFINITY
        and route.origin == update.origin
        and (
            is_newer_origin(route.claim_seqno, claim_seqno)
            or (route.claim_seqno == claim_seqno and route.claim_metric < claim_metric)
        )
    ):
        claim_seqno, claim_metric = route.claim_seqno, route.claim_metric
    _, metric, tag, is_external, origin, seqno = update
    return LearnedRoute(
        metric, tag, is_external, origin, seqno, version, claim_seqno, claim_metric, imported
    )
