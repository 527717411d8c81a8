"""The RIB: the candidates for every prefix, the decision between them, and what changed. Pure.

    install, withdraw --> rows, dirty prefixes --process--> BestPathChanges
    links ------+                                  |
                +--> stale gateway sets <----------+ a changed prefix that gateways depend on
                         +--> new resolutions --> dirty prefixes

Inputs only mark prefixes dirty; `process` then works off the dirty set to a fix-point. So a burst
of inputs costs one decision per prefix, and a prefix that ends up as it was is not reported at all.

A table has many routes and few sets of path attributes, so each set is kept once, as a path, with
its present next hops (`paths.py`); the rows of the table (`candidates.py`) refer to it. The rows of
a prefix are sorted by preference (`decision.py`), so the best path is the first eligible one, and
is not stored separately.

Next hops that are resolved through other routes make the decision for one prefix depend on
another's. The fix-point is reached in sorted order, so that the result does not depend on arrival.
Routes that would rest on one another in a circle are refused when the circle closes; if the refusal
opens it again, the prefix counts as unresolvable after MAX_ROUNDS (until something else changes).

Invariants:
    A query sees the state after the last `process`: a dirty prefix answers with its path before it
    became dirty (`_dirty` keeps that).
    A connected route exists for every usable subnet of a link that is up, and is derived here.

Cost: 2 to 3 us to install a route and 1 us to decide its prefix; in runs, 0.3 and 0.7 us. A changed
gateway set costs a walk over all rows, 30 ns each.
"""

from __future__ import annotations

import itertools
import operator
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from routed.clock import MonotonicClock
from routed.model.link import Interface
from routed.model.prefix import Address, Family, Prefix
from routed.model.route import (
    DEFAULT_DISTANCE,
    DISTANCE_NEVER,
    NextHop,
    PathAttributes,
    Route,
    RouteSource,
)
from routed.rib.candidates import CandidateRows, Chunk
from routed.rib.decision import is_preferred
from routed.rib.nexthop import Cover
from routed.rib.paths import BestPath, PathPool, RoutePath

__all__ = ["MAX_ROUNDS", "BestPath", "BestPathChanges", "Candidate", "Rib"]

MAX_ROUNDS = 16
"""How often one prefix may be decided in one `process`; chains of recursion are shorter."""

CHOICES_AT_ONCE = 1000
"""Prefixes in one part of a walk over all."""

TICK_S = 0.1
"""The resolution of a route's age; 32 bits of it are 13 years."""


class BestPathChanges(NamedTuple):
    """Prefixes of one family whose best path has changed."""

    family: Family
    keys: list[int]
    """`Prefix.as_int`, in order."""
    best_paths: list[BestPath | None]
    """One for each; None where there is none."""

    def items(self) -> Iterator[tuple[Prefix, BestPath | None]]:
        """Iterate row by row."""
        for key, best_path in zip(self.keys, self.best_paths, strict=True):
            yield Prefix.from_int(self.family, key), best_path

    def newest(self, count: int) -> BestPathChanges:
        """Return the last of them, `count` at most."""
        return BestPathChanges(self.family, self.keys[-count:], self.best_paths[-count:])


class Candidate(NamedTuple):
    """One candidate, for display."""

    prefix: Prefix
    attributes: PathAttributes
    """One object for all prefixes that have the same."""
    next_hops: tuple[NextHop, ...]
    problem: str
    """Why it is not eligible, or which of its gateways are not; empty otherwise."""
    is_selected: bool
    installed_at: float
    """On the RIB's clock, in seconds, to the tenth."""

    @property
    def route(self) -> Route:
        """The prefix with its attributes."""
        return Route.of(self.prefix, self.attributes)

    @property
    def reason(self) -> str:
        """The problem as text; it says whether some of the next hops are usable."""
        if self.problem and self.next_hops and self.attributes.distance < DISTANCE_NEVER:
            return f"some next hops are missing: {self.problem}"
        return self.problem


Dirty = dict[int, BestPath | None]
"""By prefix, its best path before it became dirty."""


class _Changed:
    """The decisions of one `process` for one family, in the order in which they were made."""

    def __init__(self) -> None:
        self.keys: list[int] = []
        self.before: list[BestPath | None] = []
        self.after: list[BestPath | None] = []
        self.rounds: Counter[int] = Counter()
        """How often a prefix that gateways depend on has changed."""

    def changes(self, family: Family) -> BestPathChanges:
        """Return the prefixes whose last decision differs from the state before, in order."""
        keys, after = self.keys, self.after
        if all(map(operator.lt, keys, itertools.islice(keys, 1, None))):
            return BestPathChanges(family, keys, after)  # each was decided once, in order
        # Of several changes of a prefix the first beginning counts, and the last end.
        began = dict(zip(reversed(keys), reversed(self.before), strict=True))
        ended = dict(zip(keys, after, strict=True))
        keys = sorted(key for key in ended if began[key] != ended[key])
        return BestPathChanges(family, keys, [ended[key] for key in keys])


class Rib:
    """Candidates by prefix, and the best path of each."""

    def __init__(self, now: Callable[[], float] | None = None) -> None:
        """Start empty.

        Args:
            now: seconds, monotonic, for the age of routes; CLOCK_MONOTONIC when absent.
        """
        self.candidates_by_source: Counter[RouteSource] = Counter()
        self._now = now or MonotonicClock().now
        self._started_at = self._now()
        self._rows: dict[Family, CandidateRows[RoutePath]] = {
            family: CandidateRows(family) for family in Family
        }
        self._lengths: dict[Family, Counter[int]] = {family: Counter() for family in Family}
        """How many prefixes of each length have a candidate."""
        self._paths = PathPool(self.find_cover)
        self.set_trackers = self._paths.set_trackers
        """Applies the states of trackers (`PathPool.set_trackers`)."""
        self._dirty: dict[Family, Dirty] = {family: {} for family in Family}
        self._subnets: dict[Family, set[int]] = {family: set() for family in Family}
        """Dirty prefixes that are subnets of links."""
        self._links: dict[int, Interface] = {}

    def __len__(self) -> int:
        return sum(lengths.total() for lengths in self._lengths.values())

    # --- inputs

    def install(self, route: Route) -> None:
        """Add a candidate, or replace the one of the same source and owner."""
        family, key, attributes = route.prefix.family, route.prefix.as_int, route.attributes
        rows = self._rows[family]
        chunk, first, last = rows.find(key)
        if first == last:
            self._dirty[family].setdefault(key, None)
            self._lengths[family][key & 0xFF] += 1
            self.candidates_by_source[attributes.source] += 1
        else:
            position = _position(chunk.paths, first, last, attributes.source, attributes.owner)
            if position is not None and chunk.paths[position].attributes == attributes:
                return
            self._mark(family, key, chunk.paths[first:last])
            if position is None:
                self.candidates_by_source[attributes.source] += 1
            else:
                self._remove(family, chunk, position)
                self._lengths[family][key & 0xFF] += last - first == 1
                chunk, first, last = rows.find(key)
        path = self._paths.intern(attributes)
        path.users += 1
        while first < last and is_preferred(chunk.paths[first].attributes, attributes):
            first += 1
        rows.insert(chunk, first, key, path, self._tick())

    def install_all(self, family: Family, keys: Sequence[int], attributes: PathAttributes) -> None:
        """Add one candidate to each of many prefixes, or replace it.

        Args:
            family: of all of them.
            keys: `Prefix.as_int`, in any order.
            attributes: of all of them.
        """
        ordered = sorted(set(keys))
        path = self._paths.intern(attributes)
        present = self._rows[family].insert_new(ordered, path, self._tick())
        count = len(ordered) - len(present)
        path.users += count
        self.candidates_by_source[attributes.source] += count
        known = set(present)
        fresh = [key for key in ordered if key not in known] if known else ordered
        self._lengths[family].update([key & 0xFF for key in fresh])
        dirty = self._dirty[family]
        if dirty.keys().isdisjoint(fresh):
            dirty.update(dict.fromkeys(fresh))
        else:  # some were withdrawn before, and keep the best path from before that
            for key in fresh:
                dirty.setdefault(key, None)
        self._install_present(family, present, path)
        self._paths.forget_unused(path)

    def _install_present(self, family: Family, keys: Sequence[int], path: RoutePath) -> None:
        """Do the same for prefixes that have candidates, mostly with other attributes."""
        rows, tick = self._rows[family], self._tick()
        attributes = path.attributes
        for key in keys:
            chunk, first, last = rows.find(key)
            before = chunk.paths[first]
            source, owner = before.attributes.source, before.attributes.owner
            if last - first > 1 or source is not attributes.source or owner != attributes.owner:
                self.install(Route.of(Prefix.from_int(family, key), attributes))
            elif before is not path:
                self._mark(family, key, [before])
                chunk.paths[first], chunk.times[first] = path, tick
                before.users -= 1
                path.users += 1
                self._paths.forget_own(before, family, key)
                self._paths.forget_unused(before)

    def withdraw(self, prefix: Prefix, source: RouteSource, owner: str) -> bool:
        """Remove a candidate. Returns whether it was there."""
        family, key = prefix.family, prefix.as_int
        chunk, first, last = self._rows[family].find(key)
        position = _position(chunk.paths, first, last, source, owner)
        if position is None:
            return False
        self._mark(family, key, chunk.paths[first:last])
        self._remove(family, chunk, position)
        self.candidates_by_source[source] -= 1
        return True

    def present(
        self, family: Family, keys: Sequence[int], source: RouteSource, owner: str
    ) -> set[int]:
        """Return those among prefixes (`Prefix.as_int`, in any order) that have such a
        candidate."""
        return {
            key
            for key, paths, first, last in self._rows[family].find_each(sorted(set(keys)))
            if _position(paths, first, last, source, owner) is not None
        }

    def _remove(self, family: Family, chunk: Chunk[RoutePath], position: int) -> None:
        key, path = chunk.keys[position], chunk.paths[position]
        self._rows[family].remove(chunk, position)
        _, first, last = self._rows[family].find(key)
        if first == last:
            self._lengths[family][key & 0xFF] -= 1
        path.users -= 1
        self._paths.forget_own(path, family, key)
        self._paths.forget_unused(path)

    def _mark(self, family: Family, key: int, paths: list[RoutePath]) -> None:
        """Mark a prefix with these paths dirty, and keep its present best path."""
        dirty = self._dirty[family]
        if key not in dirty:
            dirty[key] = _first_usable(family, key, paths)

    def _tick(self) -> int:
        return int((self._now() - self._started_at) / TICK_S)

    # --- links

    def link_changed(self, link: Interface) -> None:
        """Apply a new or changed link to its connected routes and to the gateways that depend on
        it."""
        before = self._links.get(link.ifindex)
        self._links[link.ifindex] = link
        self._paths.apply_link_change(before, link)
        self._update_connected(before, link)

    def link_removed(self, ifindex: int) -> None:
        """Apply the removal of a link."""
        if (before := self._links.pop(ifindex, None)) is not None:
            self._paths.apply_link_change(before, None)
            self._update_connected(before, None)

    def _update_connected(self, before: Interface | None, after: Interface | None) -> None:
        old = (
            {(prefix, before.ifname) for prefix in before.connected_prefixes()} if before else set()
        )
        new = {(prefix, after.ifname) for prefix in after.connected_prefixes()} if after else set()
        for prefix, _ in old ^ new:
            self._subnets[prefix.family].add(prefix.as_int)
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

    def process(self) -> list[BestPathChanges]:
        """Decide every dirty prefix and all that depends on it.

        Returns:
            At most one entry for each family, with the prefixes whose best path differs from before
            the call.
        """
        changed = {family: _Changed() for family in Family}
        for family in Family:  # first: gateways resolve by these, or would be resolved twice
            self._decide_dirty(family, self._pop_subnets(family), changed[family])
        while self._paths.has_stale or any(self._dirty.values()):
            self._resolve_stale()
            for family, dirty in self._dirty.items():
                self._decide_dirty(family, sorted(dirty), changed[family])
        found = [changed[family].changes(family) for family in Family]
        return [changes for changes in found if changes.keys]

    def _resolve_stale(self) -> None:
        """Resolve stale gateway sets, and mark the prefixes that use one whose resolution has
        changed."""
        found = self._paths.resolve_stale()
        for prefix in found.own:
            chunk, first, last = self._rows[prefix.family].find(prefix.as_int)
            self._mark(prefix.family, prefix.as_int, chunk.paths[first:last])
        if found.moved:
            self._mark_users(found.moved)
        found.commit()  # only now: `_mark` has read the best paths as they were

    def _mark_users(self, moved: set[RoutePath]) -> None:
        for family, rows in self._rows.items():
            for chunk in rows.chunks():
                if not moved.isdisjoint(chunk.paths):
                    pairs = zip(chunk.keys, chunk.paths, strict=True)
                    users = dict.fromkeys(key for key, path in pairs if path in moved)
                    for key, paths, first, last in rows.find_each(list(users)):
                        self._mark(family, key, paths[first:last])

    def _pop_subnets(self, family: Family) -> list[int]:
        """Return the dirty subnets of links, as far as no candidate of theirs has gateways."""
        keys, self._subnets[family] = sorted(self._subnets[family]), set()
        return [
            key
            for key, paths, first, last in self._rows[family].find_each(keys)
            if key in self._dirty[family]
            and not any(path.attributes.gateways for path in paths[first:last])
        ]

    def _decide_dirty(self, family: Family, keys: Sequence[int], changed: _Changed) -> None:
        dirty, rounds = self._dirty[family], changed.rounds
        concerned = self._paths.concerned(family, keys)
        for key, paths, first, last in self._rows[family].find_each(keys):
            if key in concerned:
                may_recurse = rounds[key] < MAX_ROUNDS
                new = self._decide(family, key, paths[first:last], may_recurse=may_recurse)
                old = dirty.pop(key)  # only now: `_decide` may look this prefix up
            else:
                old, new = dirty.pop(key), None
                while first < last and new is None:  # rule 1 of `decision`: the first eligible one
                    new = paths[first].best_path
                    first += 1
            if new is old or new == old:
                continue
            changed.keys.append(key)
            changed.before.append(old)
            changed.after.append(new)
            if key in concerned:
                rounds[key] += 1
                self._paths.apply_route_change(Prefix.from_int(family, key))

    def _decide(
        self, family: Family, key: int, paths: list[RoutePath], *, may_recurse: bool
    ) -> BestPath | None:
        """Decide a prefix that contains an address which gateways depend on."""
        prefix = Prefix.from_int(family, key)
        for path in paths:
            self._paths.resolve_own(path, prefix, may_recurse=may_recurse)
        return _first_usable(family, key, paths)

    def _decided(self, family: Family, key: int) -> BestPath | None:
        chunk, first, last = self._rows[family].find(key)
        return _first_usable(family, key, chunk.paths[first:last])

    def _selected(self, family: Family, key: int) -> BestPath | None:
        """Return the best path of a prefix, as of its last decision."""
        dirty = self._dirty[family]
        return dirty[key] if key in dirty else self._decided(family, key)

    def find_cover(self, address: Address) -> Cover | None:
        """Return the longest match for an address, as of the last decision."""
        if (prefix := self.match(address)) is None:
            return None
        best_path = self.best(prefix)
        assert best_path is not None  # it matched
        return Cover(prefix, best_path.attributes, best_path.next_hops, best_path.via_prefixes)

    # --- queries

    def best(self, prefix: Prefix) -> BestPath | None:
        """Return the best path of exactly this prefix, as of the last `process`."""
        return self._selected(prefix.family, prefix.as_int)

    def match(self, address: Address) -> Prefix | None:
        """Return the longest prefix with a best path that contains the address."""
        family, addr_bits = address
        lengths = self._lengths[family]
        for prefix_len in sorted((length for length in lengths if lengths[length]), reverse=True):
            prefix = Prefix.masked(family, addr_bits, prefix_len)
            if self._selected(family, prefix.as_int) is not None:
                return prefix
        return None

    def candidates(self, prefix: Prefix) -> tuple[Candidate, ...]:
        """Return every candidate of a prefix, the best one first.

        Cost: 3 us for the only one of a prefix, which most are.
        """
        family, key = prefix.family, prefix.as_int
        chunk, first, last = self._rows[family].find(key)
        if last - first == 1 and key not in self._dirty[family]:
            is_selected = chunk.paths[first].best_path_for(family, key) is not None
            return (self._candidate(prefix, chunk, first, is_selected=is_selected),)
        best_path = self._selected(family, key)
        usable: list[Candidate] = []
        others: list[Candidate] = []
        for position in range(first, last):
            path = chunk.paths[position]
            found = path.best_path_for(family, key)
            is_selected = (
                best_path is not None and not usable and path.attributes is best_path.attributes
            )
            candidate = self._candidate(prefix, chunk, position, is_selected=is_selected)
            (others if found is None else usable).append(candidate)
        return (*usable, *others)

    def _candidate(
        self, prefix: Prefix, chunk: Chunk[RoutePath], position: int, *, is_selected: bool
    ) -> Candidate:
        path = chunk.paths[position]
        return Candidate(
            prefix,
            path.attributes,
            path.next_hops_for(prefix),
            path.problem_for(prefix),
            is_selected,
            self._started_at + chunk.times[position] * TICK_S,
        )

    def prefixes_after(self, prefix: Prefix | None, limit: int) -> list[Prefix]:
        """Return the next prefixes that have a candidate, in order.

        Args:
            prefix: the last one seen; None to begin.
            limit: how many at most.

        Cost: a bisection, and 0.5 us a prefix.
        """
        found: list[Prefix] = []
        for family in Family:
            if prefix is not None and prefix.family > family:
                continue
            after = prefix.as_int if prefix is not None and prefix.family is family else -1
            keys = self._rows[family].keys_after(after, limit - len(found))
            found += [Prefix.from_int(family, key) for key in keys]
            if len(found) == limit:
                break
        return found

    def choices(self) -> Iterator[BestPathChanges]:
        """Iterate over the best path of every prefix with a candidate, as of the last `process`, in
        order.

        Each part is read when it is asked for; candidates may be added and removed in between.

        Cost: 0.6 us a prefix.
        """
        for family, rows in self._rows.items():
            dirty, after = self._dirty[family], -1
            while keys := rows.keys_after(after, CHOICES_AT_ONCE):
                best_paths = [
                    dirty[key] if key in dirty else _first_usable(family, key, paths[first:last])
                    for key, paths, first, last in rows.find_each(keys)
                ]
                yield BestPathChanges(family, keys, best_paths)
                after = keys[-1]


def _first_usable(family: Family, key: int, paths: list[RoutePath]) -> BestPath | None:
    """Return the best path: of the paths in their order, the first eligible one (rule 1 of
    `decision`)."""
    for path in paths:
        best_path = path.best_path_for(family, key)
        if best_path is not None:
            return best_path
    return None


def _position(
    paths: list[RoutePath], first: int, last: int, source: RouteSource, owner: str
) -> int | None:
    for position in range(first, last):
        attributes = paths[position].attributes
        if attributes.source is source and attributes.owner == owner:
            return position
    return None
