"""Paths: sets of path attributes, each kept once, with the next hops that they have now.

    PathAttributes --intern--> RoutePath --best_path--> the path of a prefix that selects it
                                  |
                        gateway set (shared) --resolve_stale--> Resolution
                                  ^
          links and routes that changed: the sets that depend on them are stale

The resolution of a set of gateways does not depend on the prefix, except for a prefix that contains
one of the gateways or that the result rests on: such a prefix has a resolution of its own. There
are few of them, and only prefixes that contain a dependency of some set can be among them.

Invariants:
    A path is in the pool as long as a row of the table refers to it (`users`, counted there).
    `best_path` has the attributes' own next hops, or those that the gateways had when the last
    `StaleResolved` was committed; it is None when the path cannot be used.
    After `commit` every set's resolution is that of its links and covers, or the set is stale.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from typing import NamedTuple

from routed.model.link import Interface
from routed.model.prefix import Address, Family, Prefix
from routed.model.route import (
    DISTANCE_NEVER,
    NEXT_HOPS_MAX,
    Gateway,
    NextHop,
    PathAttributes,
)
from routed.rib.decision import is_eligible
from routed.rib.nexthop import NO_TRACKERS, NOTHING_ASKED, Cover, Dependencies, Resolution, resolve
from routed.rib.own_addresses import OwnAddresses

__all__ = ["BestPath", "PathPool", "RoutePath", "StaleResolved"]


class BestPath(NamedTuple):
    """The selected path of a prefix; one object for all prefixes that have the same."""

    attributes: PathAttributes
    next_hops: tuple[NextHop, ...]
    """Sorted; empty for a type that has none."""
    via_prefixes: frozenset[Prefix] = frozenset()
    """The prefixes of other routes that the next hops rest on."""
    left_out: int = 0
    """How many more next hops there would be: NEXT_HOPS_MAX are used, the first in order."""


class _GatewaySet:
    """Gateways that are used together, and their resolution."""

    __slots__ = ("gateways", "own", "paths", "resolution")

    def __init__(self, gateways: tuple[Gateway, ...]) -> None:
        self.gateways = gateways
        self.paths: set[RoutePath] = set()
        self.resolution: Resolution | None = None
        """For prefixes that have no part in it; None before the first time."""
        self.own: dict[Prefix, Resolution] = {}
        """For each prefix that has a part in it."""

    def apply(self, resolution: Resolution) -> None:
        self.resolution = resolution
        for path in self.paths:
            path.best_path = _resolved(path.attributes, resolution)


class RoutePath:
    """Path attributes, shared by the rows that have them."""

    __slots__ = ("attributes", "best_path", "gateway_set", "users")

    def __init__(self, attributes: PathAttributes, gateway_set: _GatewaySet | None) -> None:
        """Make a path that no row refers to yet.

        Args:
            attributes: with ready next hops, or a type that needs none, or gateways.
            gateway_set: the gateways.
        """
        self.attributes = attributes
        self.gateway_set = gateway_set
        self.users = 0
        """How many rows refer to it."""
        self.best_path = (
            _given(attributes)
            if gateway_set is None
            else _resolved(attributes, gateway_set.resolution)
        )

    def best_path_for(self, family: Family, key: int) -> BestPath | None:
        """Return the best path of a prefix that selects this; None when it cannot be used."""
        gateway_set = self.gateway_set
        if gateway_set is not None and gateway_set.own:
            own = gateway_set.own.get(Prefix.from_int(family, key))
            if own is not None:
                return _resolved(self.attributes, own)
        return self.best_path

    def next_hops_for(self, prefix: Prefix) -> tuple[NextHop, ...]:
        """Return those next hops that can be used, even where the path may not be selected."""
        if self.gateway_set is None:
            return self.attributes.next_hops[:NEXT_HOPS_MAX]
        resolution = self._resolution_for(prefix)
        return () if resolution is None else resolution.next_hops

    def problem_for(self, prefix: Prefix) -> str:
        """Return why it cannot be used, or which of its gateways cannot; empty otherwise."""
        if self.attributes.distance >= DISTANCE_NEVER:
            return "administrative distance 255 is never used"
        resolution = self._resolution_for(prefix)
        return "" if resolution is None else resolution.problem

    def _resolution_for(self, prefix: Prefix) -> Resolution | None:
        gateway_set = self.gateway_set
        return None if gateway_set is None else gateway_set.own.get(prefix, gateway_set.resolution)


class StaleResolved(NamedTuple):
    """New resolutions of stale gateway sets; not visible before `commit`."""

    moved: set[RoutePath]
    """Paths whose next hops change."""
    own: list[Prefix]
    """Prefixes that had a resolution of their own and are to be decided again."""
    resolved: list[tuple[_GatewaySet, Resolution]]

    def commit(self) -> None:
        """Put the new resolutions in force."""
        for gateway_set, resolution in self.resolved:
            gateway_set.own.clear()
            gateway_set.apply(resolution)


class PathPool:
    """Owner of the paths, and of the index from links and routes to the gateway sets that depend on
    them."""

    def __init__(self, find_cover: Callable[[Address], Cover | None]) -> None:
        """Start empty.

        Args:
            find_cover: the longest match among the selected routes, as of the last decision.
        """
        self._find_cover = find_cover
        self._paths: dict[PathAttributes, RoutePath] = {}
        self._gateway_sets: dict[tuple[Gateway, ...], _GatewaySet] = {}
        self._stale: dict[_GatewaySet, None] = {}
        self._links: dict[str, Interface] = {}
        self._own = OwnAddresses()
        self._dependencies: Dependencies[_GatewaySet] = Dependencies()
        self._tracker_problems: Mapping[str, str] = NO_TRACKERS

    # --- paths

    def intern(self, attributes: PathAttributes) -> RoutePath:
        """Return the path of these attributes, made if it is new; the caller counts its users."""
        path = self._paths.get(attributes)
        if path is None:
            gateway_set = self._gateway_set(attributes.gateways) if attributes.gateways else None
            path = self._paths[attributes] = RoutePath(attributes, gateway_set)
            if gateway_set is not None:
                gateway_set.paths.add(path)
        return path

    def _gateway_set(self, gateways: tuple[Gateway, ...]) -> _GatewaySet:
        found = self._gateway_sets.get(gateways)
        if found is None:
            found = self._gateway_sets[gateways] = _GatewaySet(gateways)
            self._stale[found] = None
        return found

    def forget_own(self, path: RoutePath, family: Family, key: int) -> None:
        """Drop the own resolution of a prefix that no longer has this path."""
        if path.gateway_set is not None:
            path.gateway_set.own.pop(Prefix.from_int(family, key), None)

    def forget_unused(self, path: RoutePath) -> None:
        """Drop a path that no row refers to."""
        if path.users:
            return
        del self._paths[path.attributes]
        gateway_set = path.gateway_set
        if gateway_set is not None:
            gateway_set.paths.discard(path)
            if not gateway_set.paths:
                del self._gateway_sets[gateway_set.gateways]
                self._stale.pop(gateway_set, None)
                self._dependencies.record(gateway_set, NOTHING_ASKED)

    # --- staleness

    def apply_link_change(self, before: Interface | None, after: Interface | None) -> None:
        """Mark stale what depends on a link that was added, changed (perhaps its name), or
        removed."""
        if before is not None and self._links.get(before.ifname) is before:
            del self._links[before.ifname]
        if after is not None:
            self._links[after.ifname] = after
        for link in (before, after):
            if link is not None:
                self._stale.update(dict.fromkeys(self._dependencies.on_link(link.ifname)))
        for address in self._own.follow(before, after):
            self._stale.update(dict.fromkeys(self._dependencies.on_own_address(address)))
        if _link_local_subnets(before) != _link_local_subnets(after):
            self._stale.update(dict.fromkeys(self._dependencies.with_link_local_gateway()))

    def set_trackers(self, problems: Mapping[str, str]) -> None:
        """Mark stale what depends on a tracker whose state has changed.

        Args:
            problems: by tracker, why its next hops are not used; empty if they are.
        """
        before, self._tracker_problems = self._tracker_problems, problems
        for tracker in before.keys() | problems.keys():
            if before.get(tracker) != problems.get(tracker):
                self._stale.update(dict.fromkeys(self._dependencies.on_tracker(tracker)))

    def apply_route_change(self, prefix: Prefix) -> None:
        """Mark stale what depends on a prefix whose best path has changed."""
        self._stale.update(dict.fromkeys(self._dependencies.on_route(prefix)))

    def apply_route_changes(self, family: Family, keys: Sequence[int] | None) -> None:
        """Mark stale what depends on routes of another table that have changed.

        Args:
            family: of the routes.
            keys: `Prefix.as_int` of each; None if any may have changed.
        """
        if keys is None:
            self._stale.update(dict.fromkeys(self._dependencies.on_all_routes(family)))
            return
        for key in self._dependencies.concerned(family, keys):
            self.apply_route_change(Prefix.from_int(family, key))

    def concerned(self, family: Family, keys: Sequence[int]) -> AbstractSet[int]:
        """Return those among prefixes (`Prefix.as_int`) that contain an address which was asked
        about."""
        return self._dependencies.concerned(family, keys)

    # --- resolution

    @property
    def has_stale(self) -> bool:
        """Whether `resolve_stale` has something to do."""
        return bool(self._stale)

    def resolve_stale(self) -> StaleResolved:
        """Resolve the stale gateway sets.

        Cost: one longest match for each gateway whose cover is not known.
        """
        found = StaleResolved(set(), [], [])
        for gateway_set in self._stale:
            new = self._resolve(None, gateway_set)
            self._dependencies.record(gateway_set, new.asked)
            found.resolved.append((gateway_set, new))
            found.own.extend(gateway_set.own)
            old = gateway_set.resolution
            # Paths of a set that was never resolved are new, and decided for that reason.
            if old is not None and old.outcome != new.outcome:
                found.moved.update(gateway_set.paths)
        self._stale.clear()
        return found

    def resolve_own(self, path: RoutePath, prefix: Prefix, *, may_recurse: bool) -> None:
        """Find whether a concerned prefix needs a resolution of its own, and make it.

        Args:
            path: one that the prefix has.
            prefix: among the `concerned`.
            may_recurse: whether the next hops may rest on other routes.
        """
        gateway_set = path.gateway_set
        if gateway_set is None:
            return
        assert gateway_set.resolution is not None  # `resolve_stale` came first
        if may_recurse and not _has_part(prefix, gateway_set.resolution):
            gateway_set.own.pop(prefix, None)
            return
        own = self._resolve(prefix, gateway_set)
        if not may_recurse and own.via_prefixes:
            own.next_hops, own.left_out, own.via_prefixes = (), 0, frozenset()
            own.problem = "its next hops rest on one another in a circle"
        gateway_set.own[prefix] = own

    def _resolve(self, prefix: Prefix | None, gateway_set: _GatewaySet) -> Resolution:
        return resolve(
            prefix,
            gateway_set.gateways,
            self._links,
            self._own,
            self._cover,
            self._tracker_problems,
        )

    def _cover(self, address: Address) -> Cover | None:
        covers = self._dependencies.covers
        if address not in covers:
            covers[address] = self._find_cover(address)
        return covers[address]


def _link_local_subnets(link: Interface | None) -> set[Prefix]:
    """Return the IPv4 link-local subnets that a link makes reachable."""
    if link is None or not link.is_up:
        return set()
    return {
        entry.subnet
        for entry in link.usable_addresses(Family.IPV4)
        if entry.is_connected and entry.subnet.address.is_link_local
    }


def _best_path(
    attributes: PathAttributes,
    next_hops: tuple[NextHop, ...],
    via_prefixes: frozenset[Prefix] = frozenset(),
    left_out: int = 0,
) -> BestPath | None:
    """Make the best path of a prefix that selects these attributes; None when they are not
    eligible."""
    is_resolved = bool(next_hops) or not attributes.type.has_next_hops
    if not is_eligible(attributes, is_resolved):
        return None
    return BestPath(attributes, next_hops, via_prefixes, left_out)


def _given(attributes: PathAttributes) -> BestPath | None:
    """Do the same for attributes with next hops that need no resolution."""
    next_hops = attributes.next_hops
    left_out = max(len(next_hops) - NEXT_HOPS_MAX, 0)
    return _best_path(attributes, next_hops[:NEXT_HOPS_MAX], left_out=left_out)


def _resolved(attributes: PathAttributes, resolution: Resolution | None) -> BestPath | None:
    if resolution is None:
        return None
    return _best_path(
        attributes, resolution.next_hops, resolution.via_prefixes, resolution.left_out
    )


def _has_part(prefix: Prefix, resolution: Resolution) -> bool:
    """Whether a prefix contains a gateway that was asked about, or the result rests on it."""
    return prefix in resolution.via_prefixes or any(
        prefix.contains_address(address) for address in resolution.asked.addresses
    )
