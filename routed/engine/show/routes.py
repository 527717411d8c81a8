"""The RIB and what the kernel should hold, as people see them: rows of `show routes`, `show fib`.

A table of a million routes is a million rows, so rows are made as plain values at once, without a
view in between; a test holds them to what the view of the same candidate becomes. What many routes
share (next hops) is made once for a page.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import NamedTuple

from routed.control.rows import plain
from routed.control.tables import TablePage
from routed.control.views import FibState, NextHopView, RouteSelector, RouteView
from routed.engine.fib.programming import KERNELS_OWN
from routed.engine.router import Router
from routed.model.prefix import Prefix
from routed.model.route import NEXT_HOPS_MAX, NextHop, PathAttributes, RouteSource, RouteType
from routed.rib.table import Candidate

__all__ = ["RouteTables"]

_TYPE_WORDS = {route_type: plain(route_type) for route_type in RouteType}
_SOURCE_WORDS = {source: plain(source) for source in RouteSource}
_STATE_WORDS: dict[FibState | None, object] = {state: plain(state) for state in FibState}
_STATE_WORDS[None] = None

PAGE_HOPS = 2048
"""Next hops in one page, and those of one prefix more. A route may have a thousand: 256 of these
would be a page of 16 MB for each session that reads, and a turn of a second."""

_EVERYTHING = RouteSelector()


class RouteTables:
    """Reads the router's rooms; owns nothing."""

    def __init__(self, router: Router) -> None:
        self._router = router

    @property
    def version(self) -> int:
        """Another number after any change of what the tables show, but for the time."""
        return self._router.version

    # --- pages

    def routes(self, selector: RouteSelector, after: Prefix | None, limit: int) -> TablePage:
        """Wanted candidates, in prefix order, the selected one first within a prefix.

        Args:
            selector: which are wanted.
            after: the last prefix that was looked at; None to begin.
            limit: how many are looked at now.

        Returns:
            Rows as a RouteView becomes.

        Cost: about 5 us a route; no more than PAGE_HOPS next hops and those of one prefix.
        """
        prefixes, next_after = self._prefixes(selector, after, limit)
        now = time.monotonic()
        candidates = self._router.rib.candidates
        shared = _Shared(self)
        fib_state = self._common_fib_state()
        source, only_selected = selector.source, selector.is_selected_only
        rows: list[tuple[object, ...]] = []
        hops, last = 0, after
        for prefix in prefixes:
            if hops >= PAGE_HOPS:
                return TablePage(rows, last)
            for candidate in candidates(prefix):
                if source in (None, candidate.attributes.source) and (
                    candidate.is_selected or not only_selected
                ):
                    rows.append(self._row(candidate, shared, fib_state, now))
                    hops += len(candidate.next_hops or candidate.attributes.gateways)
            last = prefix
        return TablePage(rows, next_after)

    def fib(self, selector: RouteSelector, after: Prefix | None, limit: int) -> TablePage:
        """Wanted kernel routes, in prefix order; arguments as `routes`.

        Returns:
            Rows as a FibView becomes.
        """
        prefixes, next_after = self._prefixes(selector, after, limit)
        desired = self._router.fib.desired
        shared = _Shared(self)
        rows: list[tuple[object, ...]] = []
        hops, last = 0, after
        for prefix in prefixes:
            if hops >= PAGE_HOPS:
                return TablePage(rows, last)
            last = prefix
            desired_route = desired.desired_route(prefix)
            if desired_route is not None:
                hops += len(desired_route.next_hops)
                rows.append(
                    (
                        str(prefix),
                        desired.table_id,
                        _TYPE_WORDS[desired_route.type],
                        shared.hops(desired_route.next_hops),
                        _STATE_WORDS[self._fib_state(prefix)],
                        self._reason(prefix) or self._missing(prefix),
                    )
                )
        return TablePage(rows, next_after)

    def _prefixes(
        self, selector: RouteSelector, after: Prefix | None, limit: int
    ) -> tuple[Sequence[Prefix], Prefix | None]:
        """Wanted prefixes among the next ones, and where to go on.

        A wanted prefix is looked up, and what is inside it is walked from there on, so that a
        question about a little of a large table costs little.
        """
        first = selector.prefix
        if after is None and first is not None:
            is_desired = selector.matches_prefix(first)  # not of the other family
            return [first] if is_desired else [], first if selector.is_longer else None
        chunk = self._router.rib.prefixes_after(after, limit)
        is_over = len(chunk) < limit or (first is not None and not first.covers(chunk[-1]))
        next_after = None if is_over else chunk[-1]
        if selector.family is None and first is None:
            return chunk, next_after
        return [prefix for prefix in chunk if selector.matches_prefix(prefix)], next_after

    def _row(
        self, candidate: Candidate, shared: _Shared, fib_state: FibState | None, now: float
    ) -> tuple[object, ...]:
        """What `to_row(self.view(candidate))` would be; `fib_state` if all routes have the same."""
        prefix, attributes, next_hops, problem, is_selected, installed_at = candidate
        first, owner, is_kernels = shared.words(attributes)
        reason: object = candidate.reason if problem else ""
        may_be_cut = len(next_hops) == NEXT_HOPS_MAX
        if (
            fib_state is None
            or not is_selected
            or is_kernels
            or may_be_cut
            or self._router.fib.kernel_filter
        ):
            fib_state, reason = self._fib_of(candidate)
        return (
            str(prefix),
            *first,
            shared.hops(next_hops) if next_hops else self._wanted_hops(candidate),
            is_selected,
            _STATE_WORDS[fib_state],
            reason,
            round(now - installed_at, 1),
            owner,
            self._lease_left(candidate, now) if owner else None,
        )

    @staticmethod
    def _wanted_hops(candidate: Candidate) -> object:
        return plain(_asked_for(candidate))

    # --- one candidate

    def view(self, candidate: Candidate) -> RouteView:
        """One candidate."""
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
            next_hops=self.next_hops(candidate.next_hops) or _asked_for(candidate),
            selected=candidate.is_selected,
            fib_state=state,
            fib_reason=reason,
            age_s=round(now - candidate.installed_at, 1),
            owner=route.owner if is_injected else "",
            lease_s=self._lease_left(candidate, now) if is_injected else None,
        )

    def next_hops(self, next_hops: Sequence[NextHop]) -> tuple[NextHopView, ...]:
        """Next hops with the links' names."""
        ifname_of = self._router.ifname_of
        return tuple(
            [NextHopView(hop.via, ifname_of(hop.ifindex), hop.weight) for hop in next_hops]
        )

    def _fib_of(self, candidate: Candidate) -> tuple[FibState | None, str]:
        """How the kernel stands to a candidate, and why; None where it is not meant to have it."""
        if not candidate.is_selected or candidate.attributes.source in KERNELS_OWN:
            return None, candidate.reason
        prefix = candidate.prefix
        refusal = self._router.fib.kernel_filter.refusal(
            prefix, candidate.attributes.source, candidate.attributes.tag
        )
        if refusal:
            return None, refusal
        return self._fib_state(prefix), self._reason(prefix) or candidate.reason

    def _common_fib_state(self) -> FibState | None:
        """The state of all routes that the kernel should have, when it is one and the same."""
        desired = self._router.fib.desired
        if not desired.counters.is_coupled:
            return FibState.DECOUPLED
        return FibState.INSTALLED if desired.is_settled else None

    def _fib_state(self, prefix: Prefix) -> FibState:
        desired = self._router.fib.desired
        if not desired.counters.is_coupled:
            return FibState.DECOUPLED
        if desired.failure_of(prefix):
            return FibState.FAILED
        if desired.is_pending(prefix):
            return FibState.PENDING
        return FibState.SHADOWED if desired.preferred_to(prefix) else FibState.INSTALLED

    def _reason(self, prefix: Prefix) -> str:
        """Why a route's state is what it is, where that needs words."""
        desired = self._router.fib.desired
        match self._fib_state(prefix):
            case FibState.FAILED:
                return desired.failure_of(prefix)
            case FibState.SHADOWED:
                return desired.preferred_to(prefix)
            case _:
                desired_route = desired.desired_route(prefix)
                if desired_route is None or not desired_route.left_out:
                    return ""
                used = len(desired_route.next_hops)
                return f"{used + desired_route.left_out} next hops, and {used} of them are used"

    def _missing(self, prefix: Prefix) -> str:
        """Why a route has not all of its next hops."""
        candidates = self._router.rib.candidates(prefix)
        return candidates[0].reason if candidates and candidates[0].is_selected else ""

    def _lease_left(self, candidate: Candidate, now: float) -> float | None:
        owner = candidate.attributes.owner
        left = self._router.injected.remaining_s(candidate.prefix, owner, now)
        return None if left is None else round(left, 3)


def _asked_for(candidate: Candidate) -> tuple[NextHopView, ...]:
    """The next hops of a route that does not resolve: what was asked for."""
    return tuple(
        [
            NextHopView(gateway.via, gateway.ifname, gateway.weight)
            for gateway in candidate.attributes.gateways
        ]
    )


class _SharedColumns(NamedTuple):
    """What all routes of the same attributes have in common."""

    first: tuple[object, ...]
    """The columns from `type` to `tag`."""
    owner: str
    is_kernels: bool


class _Shared:
    """What routes have in common, as plain values, each once for a page.

    By identity, which is quick: what is equal is one tuple in the RIB, mostly. The tuples are kept,
    too: while they live nothing else has their identity.
    """

    def __init__(self, tables: RouteTables) -> None:
        self._tables = tables
        self._hops: dict[int, tuple[tuple[NextHop, ...], object]] = {}
        self._words: dict[int, tuple[PathAttributes, _SharedColumns]] = {}

    def hops(self, next_hops: tuple[NextHop, ...]) -> object:
        """What a view's `next_hops` becomes."""
        known = self._hops.get(id(next_hops))
        if known is None:
            known = next_hops, plain(self._tables.next_hops(next_hops))
            self._hops[id(next_hops)] = known
        return known[1]

    def words(self, attributes: PathAttributes) -> _SharedColumns:
        """The plain columns of a route."""
        known = self._words.get(id(attributes))
        if known is None:
            distance, metric, source, owner, tag, route_type, _, _ = attributes
            words = _SharedColumns(
                (_TYPE_WORDS[route_type], _SOURCE_WORDS[source], distance, metric, tag),
                owner if source is RouteSource.INJECTED else "",
                source in KERNELS_OWN,
            )
            known = self._words[id(attributes)] = attributes, words
        return known[1]
