"""The RIB: every candidate for every prefix, the choice between them, and what changed. Pure.

    install, withdraw, link_changed --> dirty prefixes --process--> BestChange for each that
                                              ^                     is different now
                                              +-- dependents of what changed

Facts only mark prefixes dirty; `process` then works the dirty set off to a fix-point, so a burst of
facts costs one decision per prefix, and a prefix that ends up as it was is not reported at all.

Next hops that are resolved through other routes make one prefix's answer depend on another's. The
fix-point is reached in sorted order, so that the result does not depend on arrival; routes that
would rest on one another in a circle are refused when the circle closes, and if the refusal opens
it again, the prefix is settled as unresolvable after MAX_ROUNDS (until something else changes).

Invariants:
    The selected candidate is the least by `decision.preference_key` among the eligible ones.
    A connected route exists for every usable subnet of a link that is up, and is derived here.

A table has many routes and few sets of gateways. What a set resolves to does not depend on the
prefix, except for a prefix that contains one of its gateways or that the result rests on; so the
result is kept per set (`_resolved`) and shared, until a link or a route that was asked about
changes.

Cost: `process` looks at each dirty prefix's candidates once per round, about 4 us for a candidate
whose gateways are resolved already; a match tries the prefix lengths in use, at most 33 or 129
dictionary look-ups.
"""

from __future__ import annotations

import bisect
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from routed.clock import MonotonicClock
from routed.model.link import Interface
from routed.model.prefix import Address, Family, Prefix
from routed.model.route import (
    DEFAULT_DISTANCE,
    DISTANCE_NEVER,
    Gateway,
    NextHop,
    Route,
    RouteSource,
)
from routed.rib.decision import Contender, preference_key
from routed.rib.nexthop import NOTHING_ASKED, Cover, Dependencies, Resolution, resolve

__all__ = ["MAX_ROUNDS", "BestChange", "Candidate", "Rib", "Selection"]

MAX_ROUNDS = 16
"""How often one prefix may be decided anew in one `process`; chains of recursion are shorter."""


class Selection(NamedTuple):
    """The chosen route of a prefix."""

    route: Route
    next_hops: tuple[NextHop, ...]
    """Sorted; empty for a type that has none."""


class BestChange(NamedTuple):
    """A prefix has another choice now, or none."""

    prefix: Prefix
    selection: Selection | None


class Candidate(NamedTuple):
    """One candidate as people see it."""

    route: Route
    next_hops: tuple[NextHop, ...]
    problem: str
    """Why it is not eligible, or which of its gateways are not; empty otherwise."""
    is_selected: bool
    installed_at: float
    """On the RIB's clock, in seconds."""


@dataclass(slots=True)
class _Entry:
    route: Route
    installed_at: float
    resolution: Resolution

    @property
    def is_resolved(self) -> bool:
        return self.resolution.is_usable or not self.route.type.has_next_hops


class Rib:
    """Candidates by prefix, and the selected one of each."""

    def __init__(self, now: Callable[[], float] | None = None) -> None:
        """Start empty.

        Args:
            now: seconds, monotonic, for the age of routes; CLOCK_MONOTONIC when absent.
        """
        self.candidates_by_source: Counter[RouteSource] = Counter()
        self._now = now or MonotonicClock().now
        self._entries: dict[Prefix, list[_Entry]] = {}
        """One for each source and owner; there are few, and a list is a third of a dictionary."""
        self._selected: dict[Prefix, Selection] = {}
        self._through: dict[Prefix, frozenset[Prefix]] = {}
        self._lengths: dict[Family, Counter[int]] = {family: Counter() for family in Family}
        self._links: dict[int, Interface] = {}
        self._links_by_name: dict[str, Interface] = {}
        self._dependencies = Dependencies()
        self._resolved: dict[tuple[Gateway, ...], Resolution] = {}
        """What sets of gateways resolve to, for prefixes that have no part in it."""
        self._dirty: dict[Prefix, None] = {}
        self._index: list[Prefix] = []
        self._unindexed: set[Prefix] = set()

    def __len__(self) -> int:
        return len(self._entries)

    # --- facts

    def install(self, route: Route) -> None:
        """Add a candidate, or replace the one of the same source and owner."""
        prefix = route.prefix
        entries = self._entries.get(prefix)
        if entries is None:
            entries = self._entries[prefix] = []
            self._unindexed.add(prefix)
        position = _position(entries, route.source, route.owner)
        if position is not None and entries[position].route == route:
            return
        resolution = Resolution(next_hops=route.next_hops) if route.next_hops else _UNRESOLVED
        entry = _Entry(route, self._now(), resolution)
        if position is None:
            self.candidates_by_source[route.source] += 1
            entries.append(entry)
        else:
            entries[position] = entry
        self._dirty[prefix] = None

    def withdraw(self, prefix: Prefix, source: RouteSource, owner: str) -> bool:
        """Take a candidate away; returns whether it was there."""
        entries = self._entries.get(prefix, [])
        position = _position(entries, source, owner)
        if position is None:
            return False
        del entries[position]
        self.candidates_by_source[source] -= 1
        if not entries:
            del self._entries[prefix]
            self._unindexed.add(prefix)
        self._dirty[prefix] = None
        return True

    def has(self, prefix: Prefix, source: RouteSource, owner: str) -> bool:
        """Whether there is such a candidate."""
        return _position(self._entries.get(prefix, []), source, owner) is not None

    def link_changed(self, link: Interface) -> None:
        """A link is there, or is different: its connected routes and whoever names it follow."""
        before = self._links.get(link.ifindex)
        self._links[link.ifindex] = link
        self._rename_link(before, link)
        self._settle_connected(before, link)

    def link_removed(self, ifindex: int) -> None:
        """A link is gone."""
        before = self._links.pop(ifindex, None)
        if before is not None:
            self._rename_link(before, None)
            self._settle_connected(before, None)

    def _rename_link(self, before: Interface | None, after: Interface | None) -> None:
        if before is not None and self._links_by_name.get(before.ifname) is before:
            del self._links_by_name[before.ifname]
        if after is not None:
            self._links_by_name[after.ifname] = after
        self._resolved.clear()
        for link in (before, after):
            if link is not None:
                for prefix in self._dependencies.on_link(link.ifname):
                    self._dirty[prefix] = None

    def _settle_connected(self, before: Interface | None, after: Interface | None) -> None:
        old = (
            {(prefix, before.ifname) for prefix in before.connected_prefixes()} if before else set()
        )
        new = {(prefix, after.ifname) for prefix in after.connected_prefixes()} if after else set()
        for prefix, owner in old - new:
            self.withdraw(prefix, RouteSource.CONNECTED, owner)
        for prefix, owner in new:
            assert after is not None
            self.install(
                Route(
                    prefix=prefix,
                    source=RouteSource.CONNECTED,
                    distance=DEFAULT_DISTANCE[RouteSource.CONNECTED],
                    next_hops=(NextHop(None, after.ifindex),),
                    owner=owner,
                )
            )

    # --- decision

    def process(self) -> list[BestChange]:
        """Decide every dirty prefix and all that depends on it.

        Returns:
            One entry, in prefix order, for each prefix whose choice differs from before the call.
        """
        before: dict[Prefix, Selection | None] = {}
        rounds: dict[Prefix, int] = {}
        while self._dirty:
            batch, self._dirty = sorted(self._dirty), {}
            for prefix in batch:
                rounds[prefix] = round_ = rounds.get(prefix, 0) + 1
                old = self._selected.get(prefix)
                if self._decide(prefix, may_recurse=round_ <= MAX_ROUNDS):
                    before.setdefault(prefix, old)
                    self._follow(prefix)
        selected = self._selected
        return [
            BestChange(prefix, selected.get(prefix))
            for prefix in sorted(before)
            if selected.get(prefix) != before[prefix]
        ]

    def _follow(self, changed: Prefix) -> None:
        """Whoever asked about an address inside a prefix that has changed is to be decided anew."""
        dependents = self._dependencies.on_route(changed)
        if dependents:
            self._resolved.clear()
            self._dirty.update(dict.fromkeys(dependents))

    def _decide(self, prefix: Prefix, *, may_recurse: bool) -> bool:
        """Resolve and select for one prefix; returns whether its choice or its footing changed."""
        entries = self._entries.get(prefix)
        if not entries:
            self._dependencies.record(prefix, NOTHING_ASKED)
            return self._select(prefix, None, _NOTHING)
        asked = NOTHING_ASKED
        for entry in entries:
            if entry.route.gateways:
                resolution = entry.resolution = self._resolve(entry.route, may_recurse=may_recurse)
                # One candidate's questions are shared with all prefixes that ask the same.
                asked = resolution.asked if asked.is_empty else asked | resolution.asked
        self._dependencies.record(prefix, asked)
        best = entries[0] if len(entries) == 1 else min(entries, key=_preference)
        if best.route.distance >= DISTANCE_NEVER or not best.is_resolved:
            return self._select(prefix, None, _NOTHING)
        selection = Selection(best.route, best.resolution.next_hops)
        return self._select(prefix, selection, best.resolution.through)

    def _resolve(self, route: Route, *, may_recurse: bool) -> Resolution:
        shared = self._resolved.get(route.gateways)
        if shared is not None and may_recurse and not _has_part(route.prefix, shared):
            return shared
        resolution = resolve(route, self._links_by_name, self._cover)
        if not may_recurse and resolution.through:
            resolution.next_hops = ()
            resolution.through = frozenset()
            resolution.problem = "its next hops rest on one another in a circle"
        elif not _has_part(route.prefix, resolution):
            self._resolved[route.gateways] = resolution
        return resolution

    def _select(
        self, prefix: Prefix, selection: Selection | None, through: frozenset[Prefix]
    ) -> bool:
        old = self._selected.get(prefix)
        old_through = self._through.get(prefix, _NOTHING)
        if selection is None:
            self._selected.pop(prefix, None)
        else:
            self._selected[prefix] = selection
        if through:
            self._through[prefix] = through
        else:
            self._through.pop(prefix, None)
        if (selection is None) != (old is None):
            self._lengths[prefix.family][prefix.prefix_len] += 1 if old is None else -1
        return selection != old or through != old_through

    def _cover(self, address: Address) -> Cover | None:
        covers = self._dependencies.covers
        if address in covers:
            return covers[address]
        prefix = self.match(address)
        cover = None
        if prefix is not None:
            route, next_hops = self._selected[prefix]
            cover = Cover(prefix, route, next_hops, self._through.get(prefix, frozenset()))
        covers[address] = cover
        return cover

    # --- questions

    def best(self, prefix: Prefix) -> Selection | None:
        """The selected route of exactly this prefix, as of the last `process`."""
        return self._selected.get(prefix)

    def match(self, address: Address) -> Prefix | None:
        """The longest prefix with a selected route that contains the address."""
        lengths = self._lengths[address.family]
        for prefix_len in sorted((length for length in lengths if lengths[length]), reverse=True):
            prefix = Prefix.masked(address.family, address.addr_bits, prefix_len)
            if prefix in self._selected:
                return prefix
        return None

    def candidates(self, prefix: Prefix) -> tuple[Candidate, ...]:
        """Every candidate of a prefix, the best one first."""
        selection = self._selected.get(prefix)
        return tuple(
            Candidate(
                route=entry.route,
                next_hops=entry.resolution.next_hops,
                problem=_problem(entry),
                is_selected=selection is not None and entry.route is selection.route,
                installed_at=entry.installed_at,
            )
            for entry in sorted(self._entries.get(prefix, []), key=_preference)
        )

    def prefixes_after(self, prefix: Prefix | None, limit: int) -> list[Prefix]:
        """The next prefixes that have a candidate, in order.

        Args:
            prefix: the last one seen; None to begin.
            limit: at most so many.

        Cost: a bisection; after changes, first a merge that is linear in the table.
        """
        self._refresh_index()
        start = 0 if prefix is None else bisect.bisect_right(self._index, prefix)
        return self._index[start : start + limit]

    def _refresh_index(self) -> None:
        if not self._unindexed:
            return
        kept = [prefix for prefix in self._index if prefix not in self._unindexed]
        kept += [prefix for prefix in self._unindexed if prefix in self._entries]
        kept.sort()  # linear in practice: all but the new ones are in order
        self._index, self._unindexed = kept, set()


_NOTHING: frozenset[Prefix] = frozenset()
_UNRESOLVED = Resolution()
"""What a candidate with gateways has until it is decided for the first time."""


def _position(entries: list[_Entry], source: RouteSource, owner: str) -> int | None:
    for position, entry in enumerate(entries):
        if entry.route.source is source and entry.route.owner == owner:
            return position
    return None


def _has_part(prefix: Prefix, resolution: Resolution) -> bool:
    """Whether a prefix contains a gateway that was asked about, or the result rests on it."""
    if prefix in resolution.through:
        return True
    family, addr_bits, prefix_len = prefix
    host_bits = family.width - prefix_len
    for address in resolution.asked.addresses:
        if address.family is family and not (address.addr_bits ^ addr_bits) >> host_bits:
            return True
    return False


def _contender(entry: _Entry) -> Contender:
    return Contender(entry.route, entry.is_resolved)


def _preference(entry: _Entry) -> tuple[bool, int, int, int, str]:
    return preference_key(_contender(entry))


def _problem(entry: _Entry) -> str:
    if entry.route.distance >= DISTANCE_NEVER:
        return "administrative distance 255 is never used"
    return entry.resolution.problem
