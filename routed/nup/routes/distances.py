"""Feasibility distances: how well this router has ever reached a prefix of an origin. Pure.

    selected                              --> in use, never dropped
    deselected  --UNADVERTISED_S-->       is its replacement sent on every link? if not, wait again
    advertised  --advertised_s-->         dropped; routes that waited for this are selected again

A distance may be dropped when no neighbor holds a claim of ours to the origin any more, because no
neighbor can then use us by it. What voids the claim (a retraction, or an update with another
origin) leaves as soon as a link's window has room, so the first check is whether it has left. After
that a neighbor has acknowledged it within MESSAGE_LIFETIME_S or is given up (`reliable`). A
neighbor that is given up no longer finds itself listed, or hears nothing, and drops all our claims
at the end of the dead interval that we advertised. So

    advertised_s >= MESSAGE_LIFETIME_S + our longest dead interval

whatever dead interval the neighbor has; that one only limits how long we keep *its* claims.

Bounds. One distance is in use for each selected prefix. The others are counted for the neighbor
whose route was selected: a neighbor that advertises one prefix with ever new origins can fill
2 * `max_prefixes` (at least LEAST_PER_NEIGHBOR), and all neighbors together IN_ALL or twice the
largest `max_prefixes`; beyond that only LEAST_PER_LINK for each link. A pair of prefix and origin
that has no room here is refused before it is selected; dropping a distance early would break the
proof.

Source: RFC 8966 section 3.7.3 and appendix B (a source table entry lasts for 180 s there).
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple, TypeAlias

from routed.model.prefix import Address, Prefix
from routed.nup.routes.entries import Distance, NeighborKey
from routed.nup.transport.reliable import MESSAGE_LIFETIME_S

__all__ = [
    "ADVERTISED_S",
    "IN_ALL",
    "LEAST_PER_LINK",
    "LEAST_PER_NEIGHBOR",
    "SOURCE_GC_S",
    "UNADVERTISED_S",
    "FeasibilityDistances",
]

UNADVERTISED_S = 60.0
"""The time until the first check whether all links have advertised the replacement."""
ADVERTISED_S = 120.0
"""The time from then on, unless our own dead interval asks for more."""
SOURCE_GC_S = UNADVERTISED_S + ADVERTISED_S
"""Time for which a distance is kept after it was last selected, with dead intervals of up to a
minute."""
IN_ALL = 500_000
LEAST_PER_NEIGHBOR = 64
LEAST_PER_LINK = 1024

Pair: TypeAlias = tuple[Prefix, Address]


class _Idle(NamedTuple):
    """A distance that is not in use."""

    since: float
    key: NeighborKey
    """The neighbor that the route was used through."""


_NO_DISTANCES: dict[Prefix, Distance] = {}


class FeasibilityDistances:
    """Owner of all distances, and of the time that each is kept."""

    def __init__(self) -> None:
        self._by_origin: dict[Address, dict[Prefix, Distance]] = {}
        self._unadvertised: OrderedDict[Pair, _Idle] = OrderedDict()
        """Oldest first."""
        self._advertised: OrderedDict[Pair, _Idle] = OrderedDict()
        """Oldest first."""
        self._counts: Counter[NeighborKey] = Counter()
        self._by_link: Counter[int] = Counter()
        self._advertised_s = ADVERTISED_S
        self._in_all = IN_ALL

    def __len__(self) -> int:
        """Return how many are kept that are not in use."""
        return len(self._unadvertised) + len(self._advertised)

    def extend_for_dead_interval(self, dead_interval_s: float) -> None:
        """Apply a dead interval of ours: neighbors may keep our claims for so long after they last
        heard us."""
        self._advertised_s = max(self._advertised_s, MESSAGE_LIFETIME_S + dead_interval_s)

    def get(self, prefix: Prefix, origin: Address) -> Distance | None:
        """Return the distance of a pair; None when there is none."""
        return self._by_origin.get(origin, _NO_DISTANCES).get(prefix)

    def of_origin(self, origin: Address) -> Mapping[Prefix, Distance]:
        """Return all distances of one origin; not to be changed."""
        return self._by_origin.get(origin, _NO_DISTANCES)

    def improve(self, prefixes: Sequence[Prefix], origin: Address, distance: Distance) -> None:
        """Record a better distance: routes of an origin have been selected that are better than any
        before."""
        known = self._by_origin.setdefault(origin, {})
        if len(prefixes) == 1:
            known[prefixes[0]] = distance
        else:
            known.update(dict.fromkeys(prefixes, distance))

    def begin_use(self, prefixes: Sequence[Prefix], origin: Address) -> None:
        """Mark distances in use: routes of an origin have been selected."""
        if self._unadvertised or self._advertised:
            for prefix in prefixes:
                self._remove_idle((prefix, origin))

    def end_use(self, prefix: Prefix, origin: Address, key: NeighborKey, now: float) -> None:
        """Mark a distance idle: a route of an origin through this neighbor is no longer
        selected."""
        self._remove_idle((prefix, origin))
        self._add(self._unadvertised, (prefix, origin), _Idle(now, key))

    def room(self, key: NeighborKey, max_prefixes: int) -> int:
        """Return how many new pairs a neighbor may bring.

        Args:
            key: the neighbor.
            max_prefixes: how many prefixes may be learned from it.
        """
        self._in_all = max(self._in_all, 2 * max_prefixes)
        room = max(2 * max_prefixes, LEAST_PER_NEIGHBOR) - self._counts[key]
        left = self._in_all - len(self)
        if left < room:
            room = min(room, max(left, LEAST_PER_LINK - self._by_link[key.ifindex]))
        return max(room, 0)

    def collect(self, now: float, is_pending: Callable[[Prefix], bool]) -> list[Prefix]:
        """Drop the distances that are no longer needed.

        Args:
            now: seconds, monotonic.
            is_pending: whether some link has yet to advertise a prefix.

        Returns:
            The prefixes of which a distance was dropped.
        """
        while self._unadvertised:
            pair, idle = next(iter(self._unadvertised.items()))
            if now < idle.since + UNADVERTISED_S:
                break
            self._remove_idle(pair)
            kept = self._unadvertised if is_pending(pair[0]) else self._advertised
            self._add(kept, pair, idle._replace(since=now))
        forgotten: dict[Prefix, None] = {}
        while self._advertised:
            pair, idle = next(iter(self._advertised.items()))
            if now < idle.since + self._advertised_s:
                break
            self._remove_idle(pair)
            prefix, origin = pair
            known = self._by_origin[origin]
            del known[prefix]
            if not known:
                del self._by_origin[origin]
            forgotten[prefix] = None
        return list(forgotten)

    def next_times(self) -> list[float]:
        """Return when `collect` has something to do."""
        return [
            next(iter(kept.values())).since + lifetime_s
            for kept, lifetime_s in (
                (self._unadvertised, UNADVERTISED_S),
                (self._advertised, self._advertised_s),
            )
            if kept
        ]

    def _add(self, kept: OrderedDict[Pair, _Idle], pair: Pair, idle: _Idle) -> None:
        kept[pair] = idle
        self._counts[idle.key] += 1
        self._by_link[idle.key.ifindex] += 1

    def _remove_idle(self, pair: Pair) -> None:
        idle = self._unadvertised.pop(pair, None) or self._advertised.pop(pair, None)
        if idle is None:
            return
        self._by_link[idle.key.ifindex] -= 1
        self._counts[idle.key] -= 1
        if not self._counts[idle.key]:
            del self._counts[idle.key]
