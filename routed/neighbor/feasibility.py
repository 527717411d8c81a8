"""Which route to use, so that no loop ever forms: Babel's feasibility condition.

Every prefix a neighbor tells is kept per neighbor. Of these, a router may use only the *feasible*
ones. Let the feasibility distance FD of (prefix, origin) be the best (seqno, metric) that this
router has ever selected for it: newer seqno first, then lower metric. A neighbor's route is
feasible when the neighbor's own claim is strictly better than our FD:

    claim.seqno newer than FD.seqno, or equal and claim.metric < FD.metric

Why this is loop-free, at every instant. A router's FD only ever improves. When j claims (s, m), j's
FD is at least as good as (s, m), then and ever after. So i uses j only if FD(j) <= claim < FD(i):
along next hops FD strictly improves, and a strictly ordered chain cannot close. It does not matter
how late, how often or in what order messages arrive.

The claim that counts is the *best* one that j has made of the origin since it last retracted the
prefix, not the latest: FD(j) does not forget. Babel compares the latest update only, and so loses
its route when a metric merely grows; here the route stays usable at its grown cost, without asking
anyone. (A retraction voids the claim, as j may let its FD go once all its neighbors know.)

All feasible routes of equal cost, origin and seqno form the ECMP set. Same origin and seqno,
because FD orders routers only within one origin's seqno: with two origins the chain could mix two
orders.

When the best route is not feasible, the origin is asked for a newer seqno: a SEQNO_REQUEST goes to
the neighbors that offer the route, hop by hop to the origin, which raises its seqno; the fresh
update is feasible everywhere. Requests repeat with doubling intervals while the wish lasts.

Order of delivery: each update carries its sender's table version. An update that is older than the
last one accepted for (neighbor, prefix) is ignored; a retraction stays as a tombstone with its
version for TOMBSTONE_S, longer than any message can be on its way. So the transport need not keep
order.

A neighbor that restarts (`mark_stale`) goes on forwarding by the table it had. Its routes stay
usable as they were claimed: its frozen table is as well ordered as its FD was. What it says of them
meanwhile is parked: a new life that has heard only half of its neighbors would move traffic for
nothing. When it has told all (`sweep_stale`), the parked updates replace the old claims, since the
new life has forgotten the FD; what was not told again is gone.

Invariants: FD entries of unselected sources are kept SOURCE_GC_S, then dropped. Costs are at least
1. At most MAX_ROUTES_PER_NEIGHBOR are kept per neighbor. The order between candidates is total.

Sources: RFC 8966 sections 2.4 to 2.7, 3.5 to 3.8; Garcia-Luna-Aceves, Loop-free routing using
diffusing computations, IEEE/ACM ToN 1(1), 1993 (the source node condition).
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias, TypeVar

from routed.model.prefix import Address, Prefix
from routed.model.route import METRIC_INFINITY
from routed.model.seqno import is_newer, next_seqno
from routed.neighbor.candidates import (
    LearnedRoute,
    NeighborKey,
    Path,
    RequestTo,
    Selection,
    UpdateVerdict,
    add_cost,
    merged,
)
from routed.neighbor.policy import Imported
from routed.neighbor.wire import RouteUpdate, SeqnoRequest

__all__ = [
    "MAX_ROUTES_PER_NEIGHBOR",
    "REQUEST_HOP_COUNT",
    "SOURCE_GC_S",
    "TOMBSTONE_S",
    "LearnedRoute",
    "NeighborKey",
    "Path",
    "RequestTo",
    "RouteTable",
    "Selection",
    "UpdateVerdict",
    "add_cost",
]

_Key = TypeVar("_Key")

JudgeImport: TypeAlias = Callable[["NeighborKey", RouteUpdate], Imported]
"""What our policy makes of an update of a neighbor."""

SOURCE_GC_S = 180.0
"""As RFC 8966 appendix B; far beyond the longest grace and any retransmission."""
TOMBSTONE_S = 120.0
REQUEST_HOP_COUNT = 64
REQUEST_DELAY_S = 0.002
"""The retractions that make a request pointless usually arrive together with its cause."""
REQUEST_RETRY_S = 0.35
"""After the relays' memory of the last one (`relay.FORWARD_SUPPRESS_S`): a request gets lost when a
relay passes it on to a router that it does not know to be dead yet."""
REQUEST_RETRY_MAX_S = 8.0
MAX_ROUTES_PER_NEIGHBOR = 1 << 20


@dataclass(slots=True)
class _Source:
    """The feasibility distance of one (prefix, origin)."""

    seqno: int
    metric: int


@dataclass(slots=True)
class _Wish:
    """A better or the only route is not feasible: what to ask its origin for."""

    origin: Address
    seqno: int
    next_at: float
    interval_s: float = REQUEST_RETRY_S


_NO_ROUTES: dict[NeighborKey, LearnedRoute] = {}


def _neighbor_of(member: tuple[NeighborKey, LearnedRoute]) -> NeighborKey:
    return member[0]


_AS_TOLD = Imported(is_accepted=True, least_metric=0, tag=0, distance=None)


def accept_all(_key: NeighborKey, update: RouteUpdate) -> Imported:
    """The policy of a router without filters."""
    return Imported(is_accepted=True, least_metric=0, tag=update.tag, distance=None)


class RouteTable:
    """Everything learned from neighbors, and the selection among it."""

    def __init__(self, router_id: Address, judge_import: JudgeImport = accept_all) -> None:
        self._router_id = router_id
        self._judge_import = judge_import
        self._routes: dict[Prefix, dict[NeighborKey, LearnedRoute]] = {}
        self._by_neighbor: dict[NeighborKey, dict[Prefix, LearnedRoute]] = {}
        self._paths: dict[NeighborKey, Path] = {}
        self._sources: dict[tuple[Prefix, Address], _Source] = {}
        self._idle_sources: dict[tuple[Prefix, Address], float] = {}
        """Not selected now, since when; oldest first."""
        self._tombstones: dict[tuple[NeighborKey, Prefix], float] = {}
        """Retracted routes kept for their version, since when; oldest first."""
        self._parked: dict[NeighborKey, dict[Prefix, tuple[RouteUpdate, int]]] = {}
        """What a restarted neighbor said of stale routes: applied when its new table is whole."""
        self._selected: dict[Prefix, Selection] = {}
        self._changed: dict[Prefix, None] = {}
        self._wishes: dict[Prefix, _Wish] = {}
        self._wish_heap: list[tuple[float, Prefix]] = []

    # Inputs

    def set_path(self, key: NeighborKey, path: Path, now: float) -> None:
        """A neighbor's routes may be used, at this cost."""
        if self._paths.get(key) == path:
            return
        self._paths[key] = path
        for prefix in self._by_neighbor.setdefault(key, {}):
            self._select(prefix, now)

    def remove_neighbor(self, key: NeighborKey, now: float) -> None:
        """Forget a neighbor and all it told."""
        self._paths.pop(key, None)
        self._parked.pop(key, None)
        for prefix in self._by_neighbor.pop(key, {}):
            self._forget(key, prefix)
            self._select(prefix, now)

    def judge_again(self, now: float) -> None:
        """Our policy has changed: hold everything known against it."""
        for key, known in self._by_neighbor.items():
            for prefix, route in known.items():
                if route.metric == METRIC_INFINITY:
                    continue
                update = RouteUpdate(
                    prefix, route.metric, route.tag, route.is_external, route.origin, route.seqno
                )
                imported = self._judge_import(key, update)
                if imported != route.imported:
                    route.imported = imported
                    self._select(prefix, now)

    def mark_stale(self, key: NeighborKey, now: float) -> None:
        """A neighbor lives anew: keep what it told, wait for it to be told again."""
        known = self._by_neighbor.get(key, {})
        self._parked.pop(key, None)
        for prefix, route in list(known.items()):
            route.is_stale = True
            route.version = -1  # any version of the new life is newer
            if route.metric == METRIC_INFINITY:
                del known[prefix]
                self._forget(key, prefix)
                self._select(prefix, now)

    def sweep_stale(self, key: NeighborKey, now: float) -> None:
        """Its table has been told anew: apply what was parked; what was not told again is gone."""
        known = self._by_neighbor.get(key, {})
        parked = self._parked.pop(key, {})
        for prefix in [prefix for prefix, route in known.items() if route.is_stale]:
            if prefix in parked:
                self._apply_update(key, *parked[prefix], now)
            else:
                del known[prefix]
                self._forget(key, prefix)
                self._select(prefix, now)

    def accept_update(
        self, key: NeighborKey, update: RouteUpdate, version: int, now: float
    ) -> UpdateVerdict:
        """Take in what a neighbor says of a prefix.

        Args:
            key: the neighbor; `set_path` was called for it.
            update: what it says.
            version: the table version of the message; higher is newer, duplicates are harmless.
            now: seconds, monotonic.
        """
        route = self._by_neighbor[key].get(update.prefix)
        if route is None or not route.is_stale:
            return self._apply_update(key, update, version, now)
        parked = self._parked.setdefault(key, {})
        if update.prefix in parked and version < parked[update.prefix][1]:
            return UpdateVerdict.OLD_VERSION
        parked[update.prefix] = (update, version)
        return UpdateVerdict.PARKED

    def _apply_update(
        self, key: NeighborKey, update: RouteUpdate, version: int, now: float
    ) -> UpdateVerdict:
        known = self._by_neighbor[key]
        route = known.get(update.prefix)
        if route is not None and version < route.version:
            return UpdateVerdict.OLD_VERSION
        is_retraction = update.metric == METRIC_INFINITY
        if update.origin == self._router_id and not is_retraction:
            # Our own route, come back, can only lead here; it replaces what was said before.
            self._retract(key, update, version, now)
            return UpdateVerdict.OWN_ORIGIN
        if route is None and len(known) >= MAX_ROUTES_PER_NEIGHBOR:
            return UpdateVerdict.TABLE_FULL
        if is_retraction:
            self._retract(key, update, version, now)
            return UpdateVerdict.ACCEPTED
        prefix = update.prefix
        if self._tombstones:
            self._tombstones.pop((key, prefix), None)
        route = merged(route, update, version, self._judge_import(key, update))
        known[prefix] = route
        offers = self._routes.get(prefix)
        if offers is None:
            self._routes[prefix] = {key: route}
        else:
            offers[key] = route
        is_feasible = self._is_feasible(prefix, route)
        self._select(prefix, now)
        return UpdateVerdict.ACCEPTED if is_feasible else UpdateVerdict.UNFEASIBLE

    # Outputs

    def take_changes(self) -> list[Prefix]:
        """Prefixes whose selection has changed since the last call."""
        changed = list(self._changed)
        self._changed.clear()
        return changed

    def take_requests(self, now: float) -> list[RequestTo]:
        """Seqno requests that are due, one for each neighbor whose route is not feasible."""
        due: list[RequestTo] = []
        while self._wish_heap and self._wish_heap[0][0] <= now:
            next_at, prefix = heapq.heappop(self._wish_heap)
            wish = self._wishes.get(prefix)
            if wish is None or wish.next_at != next_at:
                continue  # granted, or moved
            request = SeqnoRequest(prefix, wish.origin, wish.seqno, REQUEST_HOP_COUNT)
            due += [
                RequestTo(key, request)
                for key in self._offering(prefix, wish.origin)
                if not self._is_feasible(prefix, self._routes[prefix][key])
            ]
            wish.next_at = now + wish.interval_s
            wish.interval_s = min(wish.interval_s * 2, REQUEST_RETRY_MAX_S)
            heapq.heappush(self._wish_heap, (wish.next_at, prefix))
        return due

    def forwarders(
        self, request: SeqnoRequest, requester: NeighborKey
    ) -> tuple[list[NeighborKey], bool]:
        """Who is nearer to the origin than we are and should get a request that we cannot grant.

        Returns:
            The selected next hop if it serves, and True: next hops form no loop, so a request that
            follows them arrives. Else whoever offers the route, and False. Never the requester.
        """
        selection = self._selected.get(request.prefix)
        if selection is not None and selection.origin == request.origin:
            chosen = [key for key in selection.neighbors if key != requester]
            if chosen:
                return chosen[:1], True
        offering = self._offering(request.prefix, request.origin)
        return [key for key in offering if key != requester], False

    def next_timer(self) -> float | None:
        """When a request is due, or something kept may be dropped."""
        times = [self._wish_heap[0][0]] if self._wish_heap else []
        for kept, lifetime_s in (
            (self._idle_sources, SOURCE_GC_S),
            (self._tombstones, TOMBSTONE_S),
        ):
            times += [since + lifetime_s for since in _first_value(kept)]
        return min(times, default=None)

    def collect(self, now: float) -> None:
        """Drop feasibility distances and tombstones that have outlived their use."""
        for source in list(_expired(self._idle_sources, now - SOURCE_GC_S)):
            del self._idle_sources[source]
            del self._sources[source]
        for key, prefix in list(_expired(self._tombstones, now - TOMBSTONE_S)):
            self._by_neighbor[key].pop(prefix, None)
            self._forget(key, prefix)

    # Views

    def selection(self, prefix: Prefix) -> Selection | None:
        """How we reach a prefix; None when we do not."""
        return self._selected.get(prefix)

    def selections(self) -> dict[Prefix, Selection]:
        """All of them; not to be changed."""
        return self._selected

    def reachable_count(self, key: NeighborKey) -> int:
        """How many prefixes a neighbor offers. Cost: its table's size."""
        known = self._by_neighbor.get(key, {})
        return sum(1 for route in known.values() if route.metric != METRIC_INFINITY)

    def prefixes_through(self, key: NeighborKey) -> list[Prefix]:
        """Prefixes that are reached through a neighbor, perhaps among others."""
        return [
            prefix
            for prefix in self._by_neighbor.get(key, {})
            if (selection := self._selected.get(prefix)) and key in selection.neighbors
        ]

    def learned(self) -> Iterator[tuple[Prefix, NeighborKey, LearnedRoute, bool]]:
        """Every route told and not retracted, and whether it is feasible."""
        for prefix, routes in self._routes.items():
            for key, route in routes.items():
                if route.metric != METRIC_INFINITY:
                    yield prefix, key, route, self._is_feasible(prefix, route)

    # The decision

    def _is_feasible(self, prefix: Prefix, route: LearnedRoute) -> bool:
        source = self._sources.get((prefix, route.origin))
        if source is None:
            return True
        if route.claim_seqno == source.seqno:
            return route.claim_metric < source.metric
        return is_newer(route.claim_seqno, source.seqno)

    def _candidates(self, prefix: Prefix) -> list[tuple[NeighborKey, LearnedRoute, int]]:
        """Routes that lead somewhere, with their total metric."""
        found = []
        family = prefix.family
        for key, route in self._routes.get(prefix, _NO_ROUTES).items():
            path = self._paths.get(key)
            imported = route.imported
            if path is None or family not in path.families or not imported.is_accepted:
                continue
            total = max(route.metric + path.cost, imported.least_metric)
            if total < METRIC_INFINITY:
                found.append((key, route, total))
        return found

    def _select(self, prefix: Prefix, now: float) -> None:
        """Choose again for one prefix.

        In order: feasible; internal before external; lower metric; lower origin; newer seqno. What
        is then equal is used together.
        """
        best_rank: tuple[bool, int, Address] | None = None
        best: list[tuple[NeighborKey, LearnedRoute]] = []
        unfeasible: list[tuple[bool, int, Address, NeighborKey]] = []
        for key, route, total in self._candidates(prefix):
            rank = (route.is_external, total, route.origin)
            if not self._is_feasible(prefix, route):
                unfeasible.append((*rank, key))
            elif best_rank is None or rank < best_rank:
                best_rank, best = rank, [(key, route)]
            elif rank == best_rank:
                if is_newer(route.seqno, best[0][1].seqno):
                    best = [(key, route)]
                elif route.seqno == best[0][1].seqno:
                    best.append((key, route))
        if unfeasible:
            self._wish_for(prefix, min(unfeasible), best_rank, now)
        elif self._wishes:
            self._wishes.pop(prefix, None)
        if best_rank is None:
            self._set_selection(prefix, None, now)
            return
        if len(best) > 1:
            best.sort(key=_neighbor_of)
        first = best[0][1]
        selection = Selection(
            best_rank[1],
            first.imported.tag,
            first.is_external,
            first.origin,
            first.seqno,
            tuple([key for key, _ in best]),
            first.imported.distance,
        )
        self._set_selection(prefix, selection, now)

    def _set_selection(self, prefix: Prefix, selection: Selection | None, now: float) -> None:
        previous = self._selected.get(prefix)
        if selection == previous:
            return
        self._changed[prefix] = None
        if previous is not None and (selection is None or selection.origin != previous.origin):
            self._idle_sources[prefix, previous.origin] = now
        if selection is None:
            del self._selected[prefix]
            return
        self._selected[prefix] = selection
        self._improve_source(prefix, selection)

    def _improve_source(self, prefix: Prefix, selection: Selection) -> None:
        """Keep the best ever selected; selecting precedes advertising, so this is never late."""
        key = (prefix, selection.origin)
        if self._idle_sources:
            self._idle_sources.pop(key, None)
        source = self._sources.get(key)
        if source is None:
            self._sources[key] = _Source(selection.seqno, selection.metric)
        elif is_newer(selection.seqno, source.seqno):
            source.seqno, source.metric = selection.seqno, selection.metric
        elif selection.seqno == source.seqno and selection.metric < source.metric:
            source.metric = selection.metric

    def _wish_for(
        self,
        prefix: Prefix,
        unfeasible: tuple[bool, int, Address, NeighborKey],
        best_rank: tuple[bool, int, Address] | None,
        now: float,
    ) -> None:
        """Ask for a newer seqno while the best route there is cannot be used."""
        if best_rank is not None and best_rank[:2] <= unfeasible[:2]:
            self._wishes.pop(prefix, None)
            return
        origin = unfeasible[2]
        seqno = next_seqno(self._sources[prefix, origin].seqno)
        wish = self._wishes.get(prefix)
        if wish is not None and (wish.origin, wish.seqno) == (origin, seqno):
            return
        self._wishes[prefix] = _Wish(origin, seqno, now + REQUEST_DELAY_S)
        heapq.heappush(self._wish_heap, (now + REQUEST_DELAY_S, prefix))

    # Bookkeeping

    def _offering(self, prefix: Prefix, origin: Address) -> list[NeighborKey]:
        return sorted(key for key, route, _ in self._candidates(prefix) if route.origin == origin)

    def _retract(self, key: NeighborKey, update: RouteUpdate, version: int, now: float) -> None:
        """Leave a tombstone: what is older and still on its way must not bring the route back."""
        known = self._by_neighbor[key]
        tombstone = LearnedRoute(
            metric=METRIC_INFINITY,
            tag=0,
            is_external=False,
            origin=update.origin,
            seqno=update.seqno,
            version=version,
            claim_seqno=0,
            claim_metric=METRIC_INFINITY,
            imported=_AS_TOLD,
        )
        known[update.prefix] = tombstone
        self._routes.setdefault(update.prefix, {})[key] = tombstone
        self._tombstones.pop((key, update.prefix), None)
        self._tombstones[key, update.prefix] = now
        self._select(update.prefix, now)

    def _forget(self, key: NeighborKey, prefix: Prefix) -> None:
        """Drop one route's traces beside `_by_neighbor`."""
        self._tombstones.pop((key, prefix), None)
        routes = self._routes.get(prefix)
        if routes is not None:
            routes.pop(key, None)
            if not routes:
                del self._routes[prefix]


def _first_value(kept: Mapping[Any, float]) -> list[float]:
    """The oldest time in a mapping that is kept oldest first, as a list of one or none."""
    return [next(iter(kept.values()))] if kept else []


def _expired(kept: Mapping[_Key, float], until: float) -> Iterator[_Key]:
    """Keys whose time is not after `until`, in a mapping that is kept oldest first."""
    for key, since in kept.items():
        if since > until:
            return
        yield key
