"""Routes and desired routes for clients: rows of `show routes` and `show fib`.

A table of a million routes is a million rows, so rows are made as plain values at once, without a
view in between. A test compares them with the rows that the views become. What many routes share
(next hops, attributes) is converted once for each page.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

from routed.control.rows import plain
from routed.control.selection import RouteSelector
from routed.control.tables import TablePage
from routed.control.views import FibState, NextHopView, RouteView
from routed.engine.fib.table_programming import KERNEL_SOURCES
from routed.engine.router import Router
from routed.engine.tables import RoutingTable
from routed.model.kernel_attributes import written
from routed.model.prefix import Address, Prefix
from routed.model.route import NEXT_HOPS_MAX, NextHop, PathAttributes, RouteSource, RouteType
from routed.rib.table import Candidate, Rib

__all__ = ["TablePages"]

_TYPE_TEXTS = {route_type: plain(route_type) for route_type in RouteType}
_SOURCE_TEXTS = {source: plain(source) for source in RouteSource}
_STATE_TEXTS: dict[FibState | None, object] = {state: plain(state) for state in FibState}
_STATE_TEXTS[None] = None

PAGE_HOPS = 2048
"""Next hops in one page, not counting those of its last prefix. A route may have a thousand: 256
such routes would be a page of 16 MB for each session that reads, and a turn of a second."""


class TablePages:
    """Reads RIB and FIB state of one table; owns nothing."""

    def __init__(self, router: Router, table: RoutingTable[Rib]) -> None:
        """Show a table.

        Args:
            router: has the table.
            table: of it.
        """
        self._router = router
        self._table = table
        self._programming = table.programming
        self._desired = table.desired

    # --- pages

    def routes(self, selector: RouteSelector, after: Prefix | None, limit: int) -> TablePage:
        """List candidates in prefix order, the best path first within a prefix.

        Args:
            selector: selects candidates.
            after: the last prefix that was looked at; None to begin.
            limit: how many prefixes are looked at.

        Returns:
            Rows of RouteView.

        Cost: about 5 us a route; no more than PAGE_HOPS next hops and those of one prefix.
        """
        prefixes, next_after = self._prefixes(selector, after, limit)
        now = time.monotonic()
        candidates = self._table.rib.candidates
        shared = _Shared(self)
        fib_state = self._common_fib_state()
        source, only_selected = selector.source, selector.is_selected_only
        selects = self._further_selection(selector)
        rows: list[tuple[object, ...]] = []
        hops, last = 0, after
        for prefix in prefixes:
            if hops >= PAGE_HOPS:
                return TablePage(rows, last)
            for candidate in candidates(prefix):
                if (
                    source in (None, candidate.attributes.source)
                    and (candidate.is_selected or not only_selected)
                    and (selects is None or selects(candidate))
                ):
                    rows.append(self._row(candidate, shared, fib_state, now))
                    hops += len(candidate.next_hops or candidate.attributes.gateways)
            last = prefix
        return TablePage(rows, next_after)

    def fib(self, selector: RouteSelector, after: Prefix | None, limit: int) -> TablePage:
        """List desired routes in prefix order; arguments as for `routes`.

        Returns:
            Rows of FibView.
        """
        prefixes, next_after = self._prefixes(selector, after, limit)
        desired = self._desired
        shared = _Shared(self)
        rows: list[tuple[object, ...]] = []
        hops, last = 0, after
        for prefix in prefixes:
            if hops >= PAGE_HOPS:
                return TablePage(rows, last)
            last = prefix
            desired_route = self._programming.desired_for(prefix)
            if desired_route is not None and selector.state in (None, self._fib_state(prefix)):
                hops += len(desired_route.next_hops)
                rows.append(
                    (
                        str(prefix),
                        desired.table_id,
                        _TYPE_TEXTS[desired_route.type],
                        shared.hops(desired_route.next_hops),
                        _STATE_TEXTS[self._fib_state(prefix)],
                        self._reason(prefix) or self._missing(prefix),
                        dict(written(desired_route.attributes)),
                    )
                )
        return TablePage(rows, next_after)

    def route(self, address: Address) -> Sequence[RouteView]:
        """List the candidates of the longest prefix that covers an address."""
        prefix = self._table.rib.match(address)
        candidates = () if prefix is None else self._table.rib.candidates(prefix)
        return [self.view(candidate) for candidate in candidates]

    def _prefixes(
        self, selector: RouteSelector, after: Prefix | None, limit: int
    ) -> tuple[Sequence[Prefix], Prefix | None]:
        """Return the selected prefixes among the next ones, and where to continue.

        A selected prefix is looked up, and a walk over more specific ones begins there, so that a
        question about a small part of a large table costs little.
        """
        first = selector.prefix
        if after is None and first is not None:
            is_selected = selector.matches_prefix(first)  # False for the other family
            return [first] if is_selected else [], first if selector.is_longer else None
        chunk = self._table.rib.prefixes_after(after, limit)
        is_last = len(chunk) < limit or (first is not None and not first.covers(chunk[-1]))
        next_after = None if is_last else chunk[-1]
        if selector.family is None and first is None:
            return chunk, next_after
        return [prefix for prefix in chunk if selector.matches_prefix(prefix)], next_after

    def _further_selection(self, selector: RouteSelector) -> Callable[[Candidate], bool] | None:
        """Return the test for next hops and state; None if the selector looks at neither."""
        if selector.state is None and not selector.selects_by_next_hop:
            return None
        ids = (
            None
            if selector.neighbor is None
            else self._router.neighbors.next_hops_of(selector.neighbor)
        )

        def selects(candidate: Candidate) -> bool:
            if selector.state not in (None, self._fib_of(candidate)[0]):
                return False
            if not selector.selects_by_next_hop:
                return True
            # A candidate that does not resolve has gateways only.
            views = self.next_hops(candidate.next_hops) or _configured_hops(candidate)
            hops = candidate.next_hops
            return any(
                selector.interface in (None, view.dev)
                and selector.via in (None, view.via)
                and (ids is None or (bool(hops) and (view.via, hops[number].ifindex) in ids))
                for number, view in enumerate(views)
            )

        return selects

    def _row(
        self, candidate: Candidate, shared: _Shared, fib_state: FibState | None, now: float
    ) -> tuple[object, ...]:
        """Make the row that `to_row(self.view(candidate))` would be.

        Args:
            candidate: to be shown.
            shared: converts what routes of the page share.
            fib_state: of all routes, if it is the same; else None.
            now: time.monotonic().
        """
        prefix, attributes, next_hops, problem, is_selected, installed_at = candidate
        first, owner, is_kernels, others = shared.columns(attributes)
        reason: object = candidate.reason if problem else ""
        may_be_cut = len(next_hops) == NEXT_HOPS_MAX
        if (
            fib_state is None
            or not is_selected
            or is_kernels
            or may_be_cut
            or self._programming.kernel_filter
        ):
            fib_state, reason = self._fib_of(candidate)
        return (
            str(prefix),
            *first,
            shared.hops(next_hops) if next_hops else plain(_configured_hops(candidate)),
            is_selected,
            _STATE_TEXTS[fib_state],
            reason,
            round(now - installed_at, 1),
            owner,
            self._lease_left(candidate, now) if owner else None,
            others,
            self._table.name,
        )

    # --- one candidate

    def view(self, candidate: Candidate) -> RouteView:
        """Make the view of one candidate."""
        route = candidate.route
        state, reason = self._fib_of(candidate)
        now = time.monotonic()
        is_injected = route.source is RouteSource.INJECTED
        return RouteView(
            prefix=route.prefix,
            type=route.type,
            source=route.source,
            distance=route.distance,
            metric=route.metric,
            tag=route.tag,
            next_hops=self.next_hops(candidate.next_hops) or _configured_hops(candidate),
            selected=candidate.is_selected,
            fib_state=state,
            fib_reason=reason,
            age_s=round(now - candidate.installed_at, 1),
            owner=route.owner if is_injected else "",
            lease_s=self._lease_left(candidate, now) if is_injected else None,
            attributes=dict(written(route.kernel_attributes)),
            table=self._table.name,
        )

    def next_hops(self, next_hops: Sequence[NextHop]) -> tuple[NextHopView, ...]:
        """Make the views of next hops, with the names of their links."""
        ifname_of = self._router.ifname_of
        return tuple(
            [NextHopView(hop.via, ifname_of(hop.ifindex), hop.weight) for hop in next_hops]
        )

    def _fib_of(self, candidate: Candidate) -> tuple[FibState | None, str]:
        """Return the FIB state of a candidate and its reason; None if it is not to be installed."""
        if not candidate.is_selected or candidate.attributes.source in KERNEL_SOURCES:
            return None, candidate.reason
        prefix = candidate.prefix
        refusal = self._programming.kernel_filter.refusal(
            prefix, candidate.attributes.source, candidate.attributes.tag
        )
        if refusal:
            return None, refusal
        return self._fib_state(prefix), self._reason(prefix) or candidate.reason

    def _common_fib_state(self) -> FibState | None:
        """Return the state of all desired routes if it is the same, else None."""
        desired = self._desired
        if not desired.counters.is_coupled:
            return FibState.DECOUPLED
        return FibState.INSTALLED if desired.is_reconciled else None

    def _fib_state(self, prefix: Prefix) -> FibState:
        desired = self._desired
        if not desired.counters.is_coupled:
            return FibState.DECOUPLED
        if desired.failure_of(prefix):
            return FibState.WAITING if desired.is_waiting(prefix) else FibState.FAILED
        if desired.is_pending(prefix):
            return FibState.PENDING
        return FibState.SHADOWED if desired.preferred_to(prefix) else FibState.INSTALLED

    def _reason(self, prefix: Prefix) -> str:
        """Explain the state of a route, where an explanation is needed."""
        desired = self._desired
        match self._fib_state(prefix):
            case FibState.FAILED | FibState.WAITING:
                return desired.failure_of(prefix)
            case FibState.SHADOWED:
                return desired.preferred_to(prefix)
            case _:
                desired_route = self._programming.desired_for(prefix)
                if desired_route is None or not desired_route.left_out:
                    return ""
                used = len(desired_route.next_hops)
                return f"{used + desired_route.left_out} next hops, and {used} of them are used"

    def _missing(self, prefix: Prefix) -> str:
        """Explain why a route does not have all of its next hops."""
        candidates = self._table.rib.candidates(prefix)
        return candidates[0].reason if candidates and candidates[0].is_selected else ""

    def _lease_left(self, candidate: Candidate, now: float) -> float | None:
        owner = candidate.attributes.owner
        table_id = self._desired.table_id
        left = self._router.injection.remaining_s(candidate.prefix, owner, now, table_id)
        return None if left is None else round(left, 3)


def _configured_hops(candidate: Candidate) -> tuple[NextHopView, ...]:
    """Make the views of the gateways of a route that does not resolve."""
    return tuple(
        [
            NextHopView(gateway.via, gateway.ifname, gateway.weight)
            for gateway in candidate.attributes.gateways
        ]
    )


class _SharedColumns(NamedTuple):
    """The columns that all routes with the same attributes share."""

    first: tuple[object, ...]
    """The columns from `type` to `tag`."""
    owner: str
    is_kernels: bool
    attributes: dict[str, str]


class _Shared:
    """Plain values that routes of a page share, each converted once.

    They are found by identity, which is quick: equal tuples are mostly one tuple in the RIB. The
    tuples are kept as well: while they exist no other object has their identity.
    """

    def __init__(self, tables: TablePages) -> None:
        self._tables = tables
        self._hops: dict[int, tuple[tuple[NextHop, ...], object]] = {}
        self._columns: dict[int, tuple[PathAttributes, _SharedColumns]] = {}

    def hops(self, next_hops: tuple[NextHop, ...]) -> object:
        """Return the value of the column `next_hops`."""
        known = self._hops.get(id(next_hops))
        if known is None:
            known = next_hops, plain(self._tables.next_hops(next_hops))
            self._hops[id(next_hops)] = known
        return known[1]

    def columns(self, attributes: PathAttributes) -> _SharedColumns:
        """Return the columns of a route that depend on its attributes alone."""
        known = self._columns.get(id(attributes))
        if known is None:
            distance, metric, source, owner, tag, route_type, *_ = attributes
            columns = _SharedColumns(
                (_TYPE_TEXTS[route_type], _SOURCE_TEXTS[source], distance, metric, tag),
                owner if source is RouteSource.INJECTED else "",
                source in KERNEL_SOURCES,
                dict(written(attributes.kernel_attributes)),
            )
            known = self._columns[id(attributes)] = attributes, columns
        return known[1]
