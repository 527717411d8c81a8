"""What is offered for prefixes: sets of path attributes, each kept once, and what they come to now.

    PathAttributes --take--> Offer --selection--> what a prefix gets that chooses it
                               |
                        gateway set (shared) --resolve_stale--> Resolution
                               ^
          links, routes that changed: who asked about them is stale

What a set of gateways resolves to does not depend on the prefix, except for a prefix that contains
one of the gateways or that the result rests on: such a prefix has an answer of its own. There are
few, and only prefixes that contain an address somebody asked about can be among them.

Invariants:
    An offer is in the pool as long as a row of the table refers to it (`users`, counted there).
    `best_path` is the attributes' own next hops, or what the gateways came to when the last
    `StaleResolved` took effect; None when it cannot be used.
    After `commit` every set's resolution is that of its links and covers, or the set is stale.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
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
from routed.rib.nexthop import NOTHING_ASKED, Cover, Dependencies, Resolution, resolve
from routed.rib.own_addresses import OwnAddresses

__all__ = ["BestPath", "PathPool", "RoutePath", "StaleResolved"]


class BestPath(NamedTuple):
    """The chosen route of a prefix; one object for all prefixes that have the same."""

    attributes: PathAttributes
    next_hops: tuple[NextHop, ...]
    """Sorted; empty for a type that has none."""
    via_prefixes: frozenset[Prefix] = frozenset()
    """The prefixes of other routes that the next hops rest on."""
    left_out: int = 0
    """How many more next hops there would be: NEXT_HOPS_MAX are used, the first in order."""


class _GatewaySet:
    """Gateways that are used together, and what they resolve to."""

    __slots__ = ("gateways", "own", "paths", "resolution")

    def __init__(self, gateways: tuple[Gateway, ...]) -> None:
        self.gateways = gateways
        self.paths: set[RoutePath] = set()
        self.resolution: Resolution | None = None
        """For prefixes that have no part in it; None before the first time."""
        self.own: dict[Prefix, Resolution] = {}
        """For those that have."""

    def apply(self, resolution: Resolution) -> None:
        self.resolution = resolution
        for path in self.paths:
            path.best_path = _resolved(path.attributes, resolution)


class RoutePath:
    """Path attributes, shared by the rows that have them."""

    __slots__ = ("attributes", "best_path", "gateway_set", "users")

    def __init__(self, attributes: PathAttributes, gateway_set: _GatewaySet | None) -> None:
        """Args:
        attributes: with ready next hops, or a type that needs none, or gateways.
        gateway_set: the gateways.
        """
        self.attributes = attributes
        self.gateway_set = gateway_set
        self.users = 0
        """Rows that refer to it."""
        self.best_path = (
            _given(attributes)
            if gateway_set is None
            else _resolved(attributes, gateway_set.resolution)
        )

    def best_path_for(self, family: Family, key: int) -> BestPath | None:
        """What a prefix gets that chooses this; None when it cannot be used."""
        gateway_set = self.gateway_set
        if gateway_set is not None and gateway_set.own:
            own = gateway_set.own.get(Prefix.from_int(family, key))
            if own is not None:
                return _resolved(self.attributes, own)
        return self.best_path

    def next_hops_for(self, prefix: Prefix) -> tuple[NextHop, ...]:
        """Those of its gateways that can be used, even when it may not be selected."""
        if self.gateway_set is None:
            return self.attributes.next_hops[:NEXT_HOPS_MAX]
        resolution = self._resolution_for(prefix)
        return () if resolution is None else resolution.next_hops

    def problem_for(self, prefix: Prefix) -> str:
        """Why it cannot be used, or which of its gateways cannot; empty otherwise."""
        if self.attributes.distance >= DISTANCE_NEVER:
            return "administrative distance 255 is never used"
        resolution = self._resolution_for(prefix)
        return "" if resolution is None else resolution.problem

    def _resolution_for(self, prefix: Prefix) -> Resolution | None:
        gateway_set = self.gateway_set
        return None if gateway_set is None else gateway_set.own.get(prefix, gateway_set.resolution)


class StaleResolved(NamedTuple):
    """What stale gateway sets resolve to now; nobody sees it before `commit`."""

    moved: set[RoutePath]
    """Those that come to something else."""
    own: list[Prefix]
    """Prefixes that had an answer of their own and are to be decided anew."""
    resolved: list[tuple[_GatewaySet, Resolution]]

    def commit(self) -> None:
        """Let all who use the sets have it."""
        for gateway_set, resolution in self.resolved:
            gateway_set.own.clear()
            gateway_set.apply(resolution)


class PathPool:
    """Owns the offers, and knows which of them a change of a link or a route concerns."""

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

    # --- offers

    def intern(self, attributes: PathAttributes) -> RoutePath:
        """The offer of these attributes, made if it is new; the caller counts its users."""
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
        """A prefix has this offer no more."""
        if path.gateway_set is not None:
            path.gateway_set.own.pop(Prefix.from_int(family, key), None)

    def forget_unused(self, path: RoutePath) -> None:
        """Forget an offer that no row refers to."""
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

    # --- what makes them stale

    def apply_link_change(self, before: Interface | None, after: Interface | None) -> None:
        """A link is there, has changed, perhaps its name, or is gone."""
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

    def apply_route_change(self, prefix: Prefix) -> None:
        """A prefix was decided otherwise than before."""
        self._stale.update(dict.fromkeys(self._dependencies.on_route(prefix)))

    def concerned(self, family: Family, keys: Sequence[int]) -> AbstractSet[int]:
        """Those among prefixes (`Prefix.as_int`) that contain an address which was asked about."""
        return self._dependencies.concerned(family, keys)

    # --- what they come to

    @property
    def has_stale(self) -> bool:
        """Whether `resolve_stale` has something to do."""
        return bool(self._stale)

    def resolve_stale(self) -> StaleResolved:
        """Resolve what is stale.

        Cost: one longest match for each gateway whose cover is not known.
        """
        found = StaleResolved(set(), [], [])
        for gateway_set in self._stale:
            new = resolve(None, gateway_set.gateways, self._links, self._own, self._cover)
            self._dependencies.record(gateway_set, new.asked)
            found.resolved.append((gateway_set, new))
            found.own.extend(gateway_set.own)
            old = gateway_set.resolution
            # Whoever uses a set that was never resolved is new, and decided for that.
            if old is not None and old.outcome != new.outcome:
                found.moved.update(gateway_set.paths)
        self._stale.clear()
        return found

    def resolve_own(self, path: RoutePath, prefix: Prefix, *, may_recurse: bool) -> None:
        """See whether a concerned prefix needs an answer of its own, and find it.

        Args:
            offer: one that the prefix has.
            prefix: among the `concerned`.
            may_recurse: whether the answer may rest on other routes.
        """
        gateway_set = path.gateway_set
        if gateway_set is None:
            return
        assert gateway_set.resolution is not None  # `resolve_stale` came first
        if may_recurse and not _has_part(prefix, gateway_set.resolution):
            gateway_set.own.pop(prefix, None)
            return
        own = resolve(prefix, gateway_set.gateways, self._links, self._own, self._cover)
        if not may_recurse and own.via_prefixes:
            own.next_hops, own.left_out, own.via_prefixes = (), 0, frozenset()
            own.problem = "its next hops rest on one another in a circle"
        gateway_set.own[prefix] = own

    def _cover(self, address: Address) -> Cover | None:
        covers = self._dependencies.covers
        if address not in covers:
            covers[address] = self._find_cover(address)
        return covers[address]


def _link_local_subnets(link: Interface | None) -> set[Prefix]:
    """The IPv4 link-local subnets that a link makes reachable."""
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
    """What a prefix gets that chooses these attributes; None when they cannot be used."""
    is_resolved = bool(next_hops) or not attributes.type.has_next_hops
    if not is_eligible(attributes, is_resolved):
        return None
    return BestPath(attributes, next_hops, via_prefixes, left_out)


def _given(attributes: PathAttributes) -> BestPath | None:
    """The same of attributes with next hops that need no resolution."""
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
