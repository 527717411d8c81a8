"""The selection of learned routes, so that no loop ever forms: Babel's feasibility condition.

Every prefix that a neighbor advertises is kept per neighbor (`learned`). Of these routes, a router
may use only the *feasible* ones. Let the feasibility distance FD of (prefix, origin) be the best
(seqno, metric) that this router has ever selected for it: newer seqno first, then lower metric. A
neighbor's route is feasible when the neighbor's own claim is strictly better than our FD:

    claim.seqno newer than FD.seqno, or equal and claim.metric < FD.metric

Why this is loop-free, at every instant. A router's FD only ever improves. When j claims (s, m), j's
FD is at least as good as (s, m), then and ever after. So i uses j only if FD(j) <= claim < FD(i):
along next hops FD strictly improves, and a strictly ordered chain cannot close. It does not matter
how late, how often or in what order messages arrive.

The claim that counts is the *best* one that j has made of the origin since it last retracted the
prefix, not the latest: FD(j) does not get worse. Babel compares the latest update only, and so
loses its route when a metric merely grows; here the route stays usable at its higher cost, without
a request. (A retraction voids the claim, as j may drop its FD once all its neighbors know.)

All feasible routes of equal cost, origin and seqno form the ECMP set. Same origin and seqno,
because FD orders routers only within one origin's seqno: with two origins the chain could mix two
orders.

When the best route is not feasible, the origin is asked for a newer seqno: a SEQNO_REQUEST goes to
the neighbors that advertise the route, hop by hop to the origin, which raises its seqno; its new
update is feasible everywhere. Requests repeat with doubling intervals as long as they are needed.
Where no request helps, the route waits until the distance is dropped (`distances`), and is selected
then: no route waits for ever.

"Newer" means within a reach of the ring of seqnos (`routed.model.seqno.REACH`), so that no few
updates can lead round it. An update from further ahead is kept and not used, like any other that is
not feasible.

Order of delivery: each update carries its sender's table version. An update that is older than the
last one accepted for (neighbor, prefix) is ignored, so the transport need not keep order; `learned`
says how long the version of a retraction is kept.

A neighbor that restarts (`mark_stale`) goes on forwarding by the table it had. Its routes stay
usable with their old claims: its frozen table is as well ordered as its FD was. Its updates of
these routes are parked meanwhile (`parked`). When it has sent its whole table (`sweep_stale`), the
parked updates replace the old claims, since the new boot has lost the FD; routes that were not
advertised again are removed.

Prefixes that are advertised alike are decided once (`learned`), and share one `SelectedRoute`,
which is never changed, only replaced. So a loss, a change of cost or a filter costs one decision
for each group of prefixes, and little more than a dictionary entry for each prefix.

Martians (`routed.model.martians`) are never learned: an update of one is counted, and no state is
kept.

Invariants: FD entries of unselected sources are kept for a while (`distances`), then dropped. Costs
are at least 1. The order between candidates is total.

Bounds. Of each neighbor at most `max_prefixes` reachable routes are learned; an update of a further
prefix is refused, whatever our filters would do with it. With retractions, which are remembered for
TOMBSTONE_S, it is twice as many: a retraction beyond that of a prefix that was never learned leaves
no state. Feasibility distances have bounds of their own (`distances`); an update whose prefix and
origin have no room there is refused.

Sources: RFC 8966 sections 2.4 to 2.7, 3.5 to 3.8; Garcia-Luna-Aceves, Loop-free routing using
diffusing computations, IEEE/ACM ToN 1(1), 1993 (the source node condition).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TypeAlias

from routed.model.martians import NO_EXCEPTIONS, MartianRules
from routed.model.prefix import Address, Prefix
from routed.model.route import METRIC_INFINITY
from routed.model.seqno import is_newer_origin
from routed.nup.routes.distances import SOURCE_GC_S, FeasibilityDistances
from routed.nup.routes.entries import (
    Distance,
    LearnedRoute,
    NeighborKey,
    NeighborRoutes,
    Path,
    RequestTo,
    SelectedRoute,
    UpdateOutcome,
    UpdateVerdict,
    add_cost,
    alike,
    improved,
    is_feasible,
    merged,
)
from routed.nup.routes.learned import TOMBSTONE_S, LearnedRoutes, set_all
from routed.nup.routes.parked import ParkedUpdates
from routed.nup.routes.policy import Imported
from routed.nup.routes.prefix_counts import PrefixCounts
from routed.nup.routes.selection import NeededSeqno, Usable, choose
from routed.nup.routes.seqno_requests import PendingSeqnoRequests
from routed.nup.transport.table_dumps import TableOrder
from routed.nup.wire.message import RouteUpdate, SeqnoRequest

__all__ = [
    "REQUEST_HOP_COUNT",
    "SOURCE_GC_S",
    "TOMBSTONE_S",
    "LearnedRoute",
    "NeighborKey",
    "Path",
    "RequestTo",
    "RouteTable",
    "SelectedRoute",
    "UpdateVerdict",
    "add_cost",
]

ApplyImport: TypeAlias = Callable[["NeighborKey", RouteUpdate], Imported]
"""The import policy, applied to an update of a neighbor."""

REQUEST_HOP_COUNT = 64

_UNCHANGED = Imported(is_accepted=True, least_metric=0, tag=0, distance=None)


def accept_all(_key: NeighborKey, update: RouteUpdate) -> Imported:
    """Apply the policy of a router without filters."""
    return Imported(is_accepted=True, least_metric=0, tag=update.tag, distance=None)


class RouteTable:
    """The selection among the routes learned from neighbors."""

    def __init__(
        self,
        router_id: Address,
        apply_import: ApplyImport = accept_all,
        order: TableOrder | None = None,
    ) -> None:
        """Start empty.

        Args:
            router_id: ours.
            apply_import: the import policy.
            order: counts added and removed selections for table dumps.
        """
        self._router_id = router_id
        self._order = order
        self._apply_import = apply_import
        self.martians: MartianRules = NO_EXCEPTIONS
        """Prefixes that are never learned (`follow_martians`)."""
        self.imports_by_prefix = False
        """Whether the import policy may treat updates differently that differ in their prefix
        only."""
        self.counts = PrefixCounts()
        """Numbers of reachable routes of each neighbor, and their limits."""
        self._learned = LearnedRoutes(self.counts)
        self._parked = ParkedUpdates()
        self._paths: dict[NeighborKey, Path] = {}
        self.distances = FeasibilityDistances()
        self._selected: dict[Prefix, SelectedRoute] = {}
        self._changed: dict[Prefix, None] = {}
        self._improved: dict[Prefix, None] = {}
        """Changed prefixes whose feasibility distance has improved, too."""
        self.seqno_requests = PendingSeqnoRequests()

    # Inputs

    def set_path(self, key: NeighborKey, path: Path, now: float) -> None:
        """Allow the use of a neighbor's routes, at this cost."""
        if self._paths.get(key) == path:
            return
        self._paths[key] = path
        self._learned.add_neighbor(key)
        for neighbor_routes, prefixes in self._learned.group_alike(self._learned.prefixes_of(key)):
            self._select(neighbor_routes, prefixes, now)

    def remove_neighbor(self, key: NeighborKey, now: float) -> None:
        """Remove a neighbor and all its routes."""
        self._paths.pop(key, None)
        self._parked.pop(key)
        for neighbor_routes, prefixes in self._learned.group_alike(self._learned.prefixes_of(key)):
            self._select(self._learned.forget(key, neighbor_routes, prefixes), prefixes, now)
        self._learned.remove_neighbor(key)

    def reapply_policy(self, now: float) -> None:
        """Re-evaluate all learned routes: the import policy has changed."""
        for key in self._learned.neighbors:
            known = self._learned.prefixes_of(key)
            for neighbor_routes, prefixes in self._learned.group_alike(known):
                route = neighbor_routes[key]
                if route.metric == METRIC_INFINITY:
                    continue
                update = RouteUpdate(
                    prefixes[0], route.metric, route.tag, route.is_external, route.origin,
                    route.seqno,
                )  # fmt: skip
                for imported, alike_prefixes in self._import(key, update, prefixes):
                    if imported != route.imported:
                        changed = route._replace(imported=imported)
                        self._select(
                            self._learned.store(key, neighbor_routes, alike_prefixes, changed),
                            alike_prefixes,
                            now,
                        )

    def follow_martians(self, martians: MartianRules, now: float) -> None:
        """Put other martian rules in force: forget the routes that they refuse, and count the
        martians that they allow now, so that neighbors are asked for them."""
        self.martians = martians
        for key in self._learned.neighbors:
            refused = self.counts.martians(key)
            allowed = _without(refused, martians.find_among(refused))
            self.counts.clear_martians(key, allowed)
            found = martians.find_among(self._learned.prefixes_of(key))
            self.counts.record_martians(key, found, is_advertised=True)
            for neighbor_routes, prefixes in self._learned.group_alike(found):
                self._select(self._learned.forget(key, neighbor_routes, prefixes), prefixes, now)

    def mark_stale(self, key: NeighborKey, now: float) -> None:
        """Mark the routes of a restarted neighbor stale, until they are advertised again."""
        self._parked.pop(key)
        self.counts.clear_refused(key)
        fresh = self._learned.begin_restart(key)
        for neighbor_routes, prefixes in self._learned.group_alike(fresh):
            if neighbor_routes[key].metric == METRIC_INFINITY:
                self._select(self._learned.forget(key, neighbor_routes, prefixes), prefixes, now)
            else:  # any version of the new boot is newer
                self._learned.store(
                    key,
                    neighbor_routes,
                    prefixes,
                    neighbor_routes[key]._replace(is_stale=True, version=-1),
                )
        self._learned.await_table(key)

    def sweep_stale(self, key: NeighborKey, now: float) -> None:
        """Apply the parked updates of a neighbor whose table is complete, and remove its stale
        routes."""
        parked = self._parked.pop(key)
        self._learned.end_restart(key)
        for neighbor_routes, prefixes in self._learned.group_alike(self._learned.prefixes_of(key)):
            if not neighbor_routes[key].is_stale:
                continue
            gone = [prefix for prefix in prefixes if prefix not in parked]
            if gone:
                self._select(self._learned.forget(key, neighbor_routes, gone), gone, now)
            retold: dict[tuple[object, ...], list[Prefix]] = {}
            for prefix in prefixes:
                if prefix in parked:
                    update, version = parked[prefix]
                    retold.setdefault((*update[1:], version), []).append(prefix)
            for same in retold.values():
                self._apply(key, neighbor_routes, same, *parked[same[0]], now)

    def accept_updates(
        self, key: NeighborKey, updates: Sequence[RouteUpdate], version: int, now: float
    ) -> list[UpdateOutcome]:
        """Apply a neighbor's updates of some prefixes.

        Args:
            key: the neighbor; `set_path` was called for it.
            updates: of one message.
            version: the table version of the message; higher is newer, duplicates are harmless.
            now: seconds, monotonic.

        Returns:
            The outcomes that are not simply acceptance, in no order.

        Cost: 2 us for an update that equals the one before it but for the prefix, of prefixes with
        the same routes; 5 us for one that stands alone.
        """
        outcomes: list[UpdateOutcome] = []
        for run in alike(updates):
            prefixes = [update.prefix for update in run]
            martians = self.martians.find_among(prefixes)
            if martians:
                is_advertised = run[0].metric != METRIC_INFINITY
                outcomes.append(UpdateOutcome(UpdateVerdict.MARTIAN, martians, run[0].seqno))
                self.counts.record_martians(key, martians, is_advertised=is_advertised)
                prefixes = _without(prefixes, martians)
            for neighbor_routes, same in self._learned.group_alike(prefixes):
                known = neighbor_routes.get(key)
                if known is not None and known.is_stale:
                    outcomes += self._parked.park(key, same, run[0], version)
                else:
                    outcomes += self._apply(key, neighbor_routes, same, run[0], version, now)
        return outcomes

    def _apply(
        self,
        key: NeighborKey,
        neighbor_routes: NeighborRoutes,
        prefixes: list[Prefix],
        update: RouteUpdate,
        version: int,
        now: float,
    ) -> list[UpdateOutcome]:
        """Apply an update to prefixes that have the same routes."""
        known, seqno = neighbor_routes.get(key), update.seqno
        newest = self._learned.oldest_version(key, version) if known is None else known.version
        if version < newest:
            return [UpdateOutcome(UpdateVerdict.OLD_VERSION, prefixes, seqno)]
        is_retraction = update.metric == METRIC_INFINITY
        if update.origin == self._router_id and not is_retraction:
            # An echo of our own route can only lead here; it replaces the neighbor's earlier route.
            self._retract(key, neighbor_routes, prefixes, update, version, now)
            return [UpdateOutcome(UpdateVerdict.OWN_ORIGIN, prefixes, seqno)]
        outcomes: list[UpdateOutcome] = []
        is_new = known is None or known.metric == METRIC_INFINITY
        room = len(prefixes)
        if is_new:
            others = len(self._learned.prefixes_of(key)) if known is None else 0
            room = self.counts.room(
                key, others, is_retraction=is_retraction, retracted=self._learned.tombstones
            )
        if room < len(prefixes):
            refused, prefixes = prefixes[room:], prefixes[:room]
            outcomes.append(UpdateOutcome(UpdateVerdict.TABLE_FULL, refused, seqno))
            if not is_retraction:
                self.counts.record_refused(key, len(refused))
            if not prefixes:
                return outcomes
        if is_retraction:
            self._retract(key, neighbor_routes, prefixes, update, version, now)
            return outcomes
        refused = self._unremembered(key, update, prefixes)
        if refused:
            outcomes.append(UpdateOutcome(UpdateVerdict.ORIGINS_FULL, refused, seqno))
            self.counts.record_unremembered(key, len(refused))
            if known is not None:  # its earlier route is void
                self._retract(key, neighbor_routes, refused, update, version, now)
            prefixes = _without(prefixes, refused)
            if not prefixes:
                return outcomes
        self._learned.clear_tombstones(key, prefixes)
        for imported, alike_prefixes in self._import(key, update, prefixes):
            route = merged(known, update, version, imported)
            outcomes += self._unfeasible(route, alike_prefixes)
            self._select(
                self._learned.store(key, neighbor_routes, alike_prefixes, route),
                alike_prefixes,
                now,
            )
        return outcomes

    def _unremembered(
        self, key: NeighborKey, update: RouteUpdate, prefixes: list[Prefix]
    ) -> list[Prefix]:
        """Return the prefixes for which no distance of this origin can be kept."""
        room = self.distances.room(key, self.counts.limit(key))
        if room >= len(prefixes):
            return []
        known = self.distances.of_origin(update.origin)
        return [prefix for prefix in prefixes if prefix not in known][room:]

    def _unfeasible(self, route: LearnedRoute, prefixes: list[Prefix]) -> list[UpdateOutcome]:
        """Return the outcomes for prefixes where an update may not be used."""
        distances = self.distances.of_origin(route.origin)
        if not distances:
            return []
        unfeasible: list[Prefix] = []
        far: list[Prefix] = []
        for prefix in prefixes:
            distance = distances.get(prefix)
            if distance is not None and not is_feasible(route, distance):
                seqnos = route.claim_seqno, distance.seqno
                is_near = is_newer_origin(*reversed(seqnos)) or seqnos[0] == seqnos[1]
                (unfeasible if is_near else far).append(prefix)
        return [
            UpdateOutcome(verdict, concerned, route.seqno)
            for verdict, concerned in (
                (UpdateVerdict.UNFEASIBLE, unfeasible),
                (UpdateVerdict.OUT_OF_REACH, far),
            )
            if concerned
        ]

    def _import(
        self, key: NeighborKey, update: RouteUpdate, prefixes: list[Prefix]
    ) -> Iterable[tuple[Imported, list[Prefix]]]:
        """Apply the import policy to an update of these prefixes; groups them by the result."""
        if not self.imports_by_prefix:
            return [(self._apply_import(key, update), prefixes)]
        alike_prefixes: dict[Imported, list[Prefix]] = {}
        for prefix in prefixes:
            imported = self._apply_import(key, update._replace(prefix=prefix))
            alike_prefixes.setdefault(imported, []).append(prefix)
        return alike_prefixes.items()

    # Outputs

    def pop_changes(self) -> list[Prefix]:
        """Return the prefixes whose selection has changed since the last call."""
        changed = list(self._changed)
        self._changed.clear()
        return changed

    def pop_improvements(self) -> dict[Prefix, None]:
        """Return the prefixes with a better claim of ours than ever before, since the last call."""
        improved, self._improved = self._improved, {}
        return improved

    def pop_requests(self, now: float) -> list[RequestTo]:
        """Return the seqno requests that are due, one for each neighbor with an infeasible
        route."""
        due: list[RequestTo] = []
        for prefix, origin, seqno in self.seqno_requests.pop_due(now):
            request = SeqnoRequest(prefix, origin, seqno, REQUEST_HOP_COUNT)
            distance = self.distances.get(prefix, origin)
            due += [
                RequestTo(key, request)
                for key in self._advertising(prefix, origin)
                if not is_feasible(self._learned.routes_of(prefix)[key], distance)
            ]
        return due

    def forwarders(
        self, request: SeqnoRequest, requester: NeighborKey
    ) -> tuple[list[NeighborKey], bool]:
        """Return the neighbors that should get a request which we cannot grant.

        Returns:
            The selected next hop if it serves, and True: next hops form no loop, so a request that
            follows them arrives. Otherwise every neighbor that advertises the route, and False.
            Never the requester.
        """
        selection = self._selected.get(request.prefix)
        if selection is not None and selection.origin == request.origin:
            chosen = [key for key in selection.neighbors if key != requester]
            if chosen:
                return chosen[:1], True
        advertising = self._advertising(request.prefix, request.origin)
        return [key for key in advertising if key != requester], False

    def next_timer(self) -> float | None:
        """Return when a request is due, or a kept entry may be dropped."""
        times = self.seqno_requests.next_times() + self.distances.next_times()
        return min(times + self._learned.next_times(), default=None)

    def collect(
        self,
        now: float,
        is_pending: Callable[[Prefix], bool] = lambda _: False,
        has_gap: Callable[[NeighborKey], bool] = lambda _: False,
    ) -> None:
        """Drop feasibility distances and tombstones that are no longer needed.

        Args:
            now: seconds, monotonic.
            is_pending: whether some link has yet to advertise a prefix.
            has_gap: whether messages of a neighbor are missing that later ones have overtaken.
        """
        for neighbor_routes, prefixes in self._learned.group_alike(
            self.distances.collect(now, is_pending)
        ):
            self._select(neighbor_routes, prefixes, now)  # what was not feasible is now
        self._learned.expire_tombstones(now, has_gap)

    # Views

    def selection(self, prefix: Prefix) -> SelectedRoute | None:
        """Return the selected route of a prefix; None when there is none."""
        return self._selected.get(prefix)

    def selections(self) -> dict[Prefix, SelectedRoute]:
        """Return all selected routes; not to be changed."""
        return self._selected

    def prefixes_via(self, key: NeighborKey) -> list[Prefix]:
        """Return the prefixes that are reached through a neighbor, perhaps among others."""
        return [
            prefix
            for prefix in self._learned.prefixes_of(key)
            if (selection := self._selected.get(prefix)) and key in selection.neighbors
        ]

    def prefixes(self) -> Iterable[Prefix]:
        """Return the prefixes that any neighbor has advertised or retracted."""
        return self._learned.prefixes()

    def learned_of(
        self, prefix: Prefix
    ) -> Iterator[tuple[Prefix, NeighborKey, LearnedRoute, bool]]:
        """Iterate over the reachable learned routes of one prefix."""
        for key, route in self._learned.routes_of(prefix).items():
            if route.metric != METRIC_INFINITY:
                distance = self.distances.get(prefix, route.origin)
                yield prefix, key, route, is_feasible(route, distance)

    # The decision

    def _candidates(self, neighbor_routes: NeighborRoutes, prefix: Prefix) -> Usable:
        """Return the routes that can be used, feasible or not, with their total metric."""
        found = []
        family = prefix.family
        for key, route in neighbor_routes.items():
            path = self._paths.get(key)
            imported = route.imported
            if path is None or family not in path.families or not imported.is_accepted:
                continue
            total = max(route.metric + path.cost, imported.least_metric)
            if total < METRIC_INFINITY:
                found.append((key, route, total))
        return found

    def _select(
        self, neighbor_routes: NeighborRoutes, prefixes: Sequence[Prefix], now: float
    ) -> None:
        """Select again for prefixes with the same routes: once for all with equal distances."""
        candidates = self._candidates(neighbor_routes, prefixes[0])
        if not candidates:
            self._set_selection(prefixes, None, None, now)
            return
        origins = [candidates[0][1].origin]
        if len(candidates) > 1:
            origins = list({route.origin: None for _, route, _ in candidates})
        columns = [self.distances.of_origin(origin) for origin in origins]
        if len(prefixes) == 1 or not any(columns):
            distances = [column.get(prefixes[0]) for column in columns]
            self._choose_for(candidates, origins, distances, prefixes, now)
            return
        kinds: dict[tuple[Distance | None, ...], list[Prefix]] = {}
        rows = zip(*[map(column.get, prefixes) for column in columns], strict=True)
        for prefix, kind in zip(prefixes, rows, strict=True):
            kinds.setdefault(kind, []).append(prefix)
        for kind, same in kinds.items():
            self._choose_for(candidates, origins, kind, same, now)

    def _choose_for(
        self,
        candidates: Usable,
        origins: list[Address],
        distances: Sequence[Distance | None],
        prefixes: Sequence[Prefix],
        now: float,
    ) -> None:
        """Select for prefixes with the same routes and the same distances to each of the
        origins."""
        selection, request = choose(candidates, origins, distances)
        self._set_selection(prefixes, selection, request, now)
        if selection is not None:
            before = distances[origins.index(selection.origin)]
            distance = improved(before, selection)
            if distance is not before:  # selecting precedes advertising: it is never late
                self.distances.improve(prefixes, selection.origin, distance)
                set_all(self._improved, prefixes, None)

    def _set_selection(
        self,
        prefixes: Sequence[Prefix],
        selection: SelectedRoute | None,
        request: NeededSeqno | None,
        now: float,
    ) -> None:
        """Record the selection of these prefixes, and the seqno to request for a better route."""
        if request is not None:
            for prefix in prefixes:
                self.seqno_requests.add(prefix, *request, now)
        else:
            self.seqno_requests.drop(prefixes)
        chosen = self._selected.get
        changed = [prefix for prefix in prefixes if chosen(prefix) != selection]
        if not changed:
            return
        set_all(self._changed, changed, None)
        for prefix in changed:
            previous = chosen(prefix)
            if previous is not None and (selection is None or selection.origin != previous.origin):
                self.distances.end_use(prefix, previous.origin, previous.neighbors[0], now)
        if selection is None:
            for prefix in changed:
                del self._selected[prefix]
            if self._order is not None:
                self._order.record_removed(len(changed))
            return
        if self._order is not None:
            self._order.record_added([prefix for prefix in changed if prefix not in self._selected])
        set_all(self._selected, changed, selection)
        self.distances.begin_use(changed, selection.origin)

    def _advertising(self, prefix: Prefix, origin: Address) -> list[NeighborKey]:
        candidates = self._candidates(self._learned.routes_of(prefix), prefix)
        return sorted(key for key, route, _ in candidates if route.origin == origin)

    def _retract(
        self,
        key: NeighborKey,
        neighbor_routes: NeighborRoutes,
        prefixes: Sequence[Prefix],
        update: RouteUpdate,
        version: int,
        now: float,
    ) -> None:
        """Leave a tombstone: older updates that are still in flight must not bring the route
        back."""
        tombstone = LearnedRoute(
            metric=METRIC_INFINITY,
            tag=0,
            is_external=False,
            origin=update.origin,
            seqno=update.seqno,
            version=version,
            claim_seqno=0,
            claim_metric=METRIC_INFINITY,
            imported=_UNCHANGED,
        )
        self._learned.add_tombstones(key, prefixes, now)
        self._select(self._learned.store(key, neighbor_routes, prefixes, tombstone), prefixes, now)


def _without(prefixes: list[Prefix], others: Sequence[Prefix]) -> list[Prefix]:
    """Return prefixes less some of them, in order."""
    dropped = set(others)
    return [prefix for prefix in prefixes if prefix not in dropped]
