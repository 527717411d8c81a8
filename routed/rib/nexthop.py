"""Resolution of gateways, as configured or injected, to next hops that the kernel accepts. Pure.

    dev                 the destination is on that link
    via + dev           the router is on that link: on one of its subnets, link-local, reached by an
                        on-link route there, or declared `onlink`
    via                 the RIB's longest match for the router decides: on a connected subnet it is
                        a neighbor; behind another route, that route's next hops are used
                        (recursion)

An address of this router itself cannot be a gateway (`own_addresses.py`), nor can one behind a
loopback link. A gateway with a tracker (a BFD session) is used only while that is up. An IPv4
link-local gateway (cloud tunnels have 169.254.x.x) without `dev` is looked up in the subnets of the
links, because the RIB has no routes to such addresses; an IPv6 link-local gateway needs `dev`.

A default route does not resolve a gateway: nearly every address would then count as reachable,
through the router that the default route points at.

Recursion always starts from a *selected* route whose next hops are resolved already, so resolving
is one step. The prefixes that a chain of steps rests on are kept with each result (`via_prefixes`),
and a route that would rest on itself is refused. So is a route whose own prefix is the longest
match for its gateway.

The resolution of a set of gateways does not depend on the prefix that uses it, except for a prefix
that contains one of them or that the result rests on. So a set is resolved once for all other
prefixes (prefix None), and once more for each of these exceptions.

`Dependencies` records which sets asked about which address or link name, so that a change of one
route or link re-examines only these.

Source: RFC 4271 sections 5.1.3 and 9.1.2.1 (recursive lookup), with the refusal of the default
route that FRR calls `no ip nht resolve-via-default`.
"""

from __future__ import annotations

import bisect
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from typing import Generic, NamedTuple, TypeVar

from ipc.lazy_dataclass import dataclass, field
from routed.model.link import Interface
from routed.model.prefix import HOST_BITS, Address, Family, Prefix
from routed.model.route import (
    MAX_WEIGHT,
    NEXT_HOPS_MAX,
    Gateway,
    NextHop,
    PathAttributes,
    RouteSource,
)
from routed.rib.own_addresses import OwnAddresses

__all__ = [
    "NOTHING_ASKED",
    "NO_TRACKERS",
    "PROBLEMS_SHOWN",
    "Asked",
    "Cover",
    "Dependencies",
    "Resolution",
    "Unresolved",
    "resolve",
]


PROBLEMS_SHOWN = 4
"""The number of unusable gateways of a set that are named; the rest are only counted."""


class Unresolved(Exception):
    """A gateway cannot be used now; the message gives the reason, for people."""


class Cover(NamedTuple):
    """The selected route that is the longest match for an address."""

    prefix: Prefix
    attributes: PathAttributes
    next_hops: tuple[NextHop, ...]
    via_prefixes: frozenset[Prefix]
    """The prefixes that its own next hops rest on."""
    is_outer: bool = False
    """Whether it is a route of another table, which never rests on one of this table."""


class Asked(NamedTuple):
    """The facts that a resolution used: a change of any of them may change the result."""

    addresses: frozenset[Address] = frozenset()
    """Looked up in the RIB."""
    ifnames: frozenset[str] = frozenset()
    """Links that were named."""
    gateways: frozenset[Address] = frozenset()
    """Gateways that were checked against this router's own addresses."""
    trackers: frozenset[str] = frozenset()
    """Trackers whose state was asked for."""

    @property
    def is_empty(self) -> bool:
        """Whether no fact was used."""
        return not (self.addresses or self.ifnames or self.gateways or self.trackers)


NOTHING_ASKED = Asked()

NO_TRACKERS: Mapping[str, str] = {}


@dataclass(slots=True)
class Resolution:
    """The result of resolving a candidate's gateways."""

    next_hops: tuple[NextHop, ...] = ()
    """The next hops of all gateways that resolve; sorted, NEXT_HOPS_MAX at most."""
    left_out: int = 0
    """How many more there would be."""
    problem: str = ""
    """Why there are none, or why some are missing; empty when all resolve."""
    via_prefixes: frozenset[Prefix] = frozenset()
    asked: Asked = NOTHING_ASKED

    @property
    def outcome(self) -> tuple[object, ...]:
        """The part that a route gets."""
        return self.next_hops, self.left_out, self.via_prefixes

    @property
    def is_usable(self) -> bool:
        """Whether packets can be sent."""
        return bool(self.next_hops)


@dataclass(slots=True)
class _Work:
    prefix: Prefix | None
    links: Mapping[str, Interface]
    own: OwnAddresses
    match: Callable[[Address], Cover | None]
    tracker_problems: Mapping[str, str]
    hops: list[NextHop] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    via_prefixes: set[Prefix] = field(default_factory=set)
    addresses: set[Address] = field(default_factory=set)
    ifnames: set[str] = field(default_factory=set)
    gateways: set[Address] = field(default_factory=set)
    trackers: set[str] = field(default_factory=set)


def resolve(
    prefix: Prefix | None,
    gateways: Iterable[Gateway],
    links: Mapping[str, Interface],
    own: OwnAddresses,
    match: Callable[[Address], Cover | None],
    tracker_problems: Mapping[str, str] = NO_TRACKERS,
) -> Resolution:
    """Resolve a set of gateways.

    Args:
        prefix: the prefix of the route; None for all prefixes that have no part in the result.
        gateways: at least one.
        links: by name.
        own: the addresses of this router.
        match: the longest match among the selected routes.
        tracker_problems: why the next hops of each tracker are not used; empty if they are.

    Cost: one longest match per gateway.
    """
    work = _Work(prefix, links, own, match, tracker_problems)
    for gateway in gateways:
        try:
            work.hops += _resolve_gateway(gateway, work)
        except Unresolved as error:
            work.problems.append(str(error))
    next_hops = _merge(work.hops)
    return Resolution(
        next_hops=next_hops[:NEXT_HOPS_MAX],
        left_out=max(len(next_hops) - NEXT_HOPS_MAX, 0),
        problem=_listed(work.problems),
        via_prefixes=frozenset(work.via_prefixes),
        asked=Asked(
            frozenset(work.addresses),
            frozenset(work.ifnames),
            frozenset(work.gateways),
            frozenset(work.trackers),
        ),
    )


def _listed(problems: list[str]) -> str:
    more = len(problems) - PROBLEMS_SHOWN
    return "; ".join([*problems[:PROBLEMS_SHOWN], *([f"and {more} more"] if more > 0 else [])])


def _resolve_gateway(gateway: Gateway, work: _Work) -> list[NextHop]:
    if gateway.tracker:
        _require_tracker(gateway, work)
    link = None
    if gateway.ifname is not None:
        work.ifnames.add(gateway.ifname)
        link = _usable_link(gateway.ifname, work.links)
    if gateway.via is None:
        assert link is not None  # a gateway has `via`, `dev` or both
        return [NextHop(None, link.ifindex, gateway.weight)]
    _refuse_own(gateway.via, link, work)
    if link is None:
        return _resolve_without_link(gateway.via, gateway.weight, work)
    if not (gateway.is_onlink or _is_neighbor(gateway.via, link, work)):
        raise Unresolved(
            f"{gateway.via} is on no subnet of {link.ifname} (`onlink: true` if it is there)"
        )
    return [NextHop(gateway.via, link.ifindex, gateway.weight, gateway.is_onlink)]


def _require_tracker(gateway: Gateway, work: _Work) -> None:
    work.trackers.add(gateway.tracker)
    problem = work.tracker_problems.get(gateway.tracker, "its state is not known yet")
    if problem:
        where = gateway.via or gateway.ifname
        raise Unresolved(f"{where} is not used: {gateway.tracker}: {problem}")


def _refuse_own(via: Address, link: Interface | None, work: _Work) -> None:
    work.gateways.add(via)
    if link is not None and link.is_loopback:
        raise Unresolved(f"{via} is not a router: {link.ifname} leads back to this router")
    ifnames = work.own.ifnames_with(via)
    if via.family is Family.IPV6 and via.is_link_local:
        ifnames = ifnames & {link.ifname} if link is not None else frozenset()
    if ifnames:
        raise Unresolved(f"{via} is an address of this router itself, on {min(ifnames)}")


def _usable_link(ifname: str, links: Mapping[str, Interface]) -> Interface:
    link = links.get(ifname)
    if link is None:
        raise Unresolved(f"link {ifname} does not exist")
    if not link.is_admin_up:
        raise Unresolved(f"link {ifname} is down")
    if not link.has_carrier:
        raise Unresolved(f"link {ifname} has no carrier")
    return link


def _is_neighbor(via: Address, link: Interface, work: _Work) -> bool:
    if via.family is Family.IPV6 and via.is_link_local:
        return True
    if link.owner_of_subnet(via) is not None:
        return True
    work.addresses.add(via)
    cover = work.match(via)
    if cover is None or cover.prefix.prefix_len == 0 or cover.attributes.type.is_link_alone:
        return False
    on_link = NextHop(None, link.ifindex)
    return any((hop.via, hop.ifindex) == (on_link.via, on_link.ifindex) for hop in cover.next_hops)


def _resolve_without_link(via: Address, weight: int, work: _Work) -> list[NextHop]:
    if via.family is Family.IPV4 and via.is_link_local:
        on_link = _link_local_hops(via, weight, work)
        if len(on_link) > 1:
            raise Unresolved(f"{via} is link-local, and on several links: say which, with `dev`")
        if on_link:
            return on_link
    return _resolve_recursively(via, weight, work)


def _link_local_hops(via: Address, weight: int, work: _Work) -> list[NextHop]:
    """Find the links that are up and have the most specific subnet around an IPv4 link-local
    address."""
    found = [
        (entry.prefix_len, NextHop(via, link.ifindex, weight))
        for link in work.links.values()
        if link.is_up and (entry := link.owner_of_subnet(via)) is not None
    ]
    longest = max((prefix_len for prefix_len, _ in found), default=0)
    return [hop for prefix_len, hop in found if prefix_len == longest]


def _resolve_recursively(via: Address, weight: int, work: _Work) -> list[NextHop]:
    work.addresses.add(via)
    cover = work.match(via)
    prefix = work.prefix
    if (
        prefix is not None
        and prefix.contains_address(via)
        and (cover is None or cover.prefix.prefix_len <= prefix.prefix_len)
    ):
        raise Unresolved(f"{via} is not reachable: {prefix} would resolve through itself")
    if cover is None:
        raise Unresolved(f"{via} is not reachable: no route that routed knows covers it")
    if cover.prefix.prefix_len == 0:
        raise Unresolved(
            f"{via} is not reachable: only the default route covers it, of those that routed knows"
        )
    if not cover.is_outer and (prefix == cover.prefix or prefix in cover.via_prefixes):
        raise Unresolved(f"{via} is not reachable: {prefix} would resolve through itself")
    if not cover.next_hops or cover.attributes.type.is_link_alone:
        kind = cover.attributes.type.name.lower()
        raise Unresolved(f"{via} is not reachable: {cover.prefix} is {kind}")
    if cover.attributes.source is not RouteSource.CONNECTED and not cover.is_outer:
        work.via_prefixes |= {cover.prefix, *cover.via_prefixes}
    if any(hop.via is None and hop.ifindex in work.own.loopbacks for hop in cover.next_hops):
        raise Unresolved(f"{via} is not a router: {cover.prefix} leads back to this router")
    return [hop._replace(via=hop.via or via, weight=hop.weight * weight) for hop in cover.next_hops]


def _merge(hops: list[NextHop]) -> tuple[NextHop, ...]:
    """Merge equal next hops, adding their weights, and scale the weights to the kernel's range."""
    weights: dict[tuple[Address | None, int, bool], int] = {}
    for hop in hops:
        target = (hop.via, hop.ifindex, hop.is_onlink)
        weights[target] = weights.get(target, 0) + hop.weight
    heaviest = max(weights.values(), default=1)
    merged = [
        NextHop(via, ifindex, _scaled(weight, heaviest), is_onlink)
        for (via, ifindex, is_onlink), weight in weights.items()
    ]
    if len(merged) == 1:
        return (merged[0]._replace(weight=1),)
    return tuple(sorted(merged, key=NextHop.sort_key))


def _scaled(weight: int, heaviest: int) -> int:
    if heaviest <= MAX_WEIGHT:
        return weight
    return max(1, weight * MAX_WEIGHT // heaviest)


Dependent = TypeVar("Dependent", bound=Hashable)


class Dependencies(Generic[Dependent]):
    """The dependents of each address and link, and the cached longest matches of the addresses."""

    def __init__(self) -> None:
        self.covers: dict[Address, Cover | None] = {}
        """Longest matches that still hold: a table has many routes and few next hops."""
        self._asked: dict[Dependent, Asked] = {}
        self._by_address: dict[Address, set[Dependent]] = {}
        self._by_ifname: dict[str, set[Dependent]] = {}
        self._by_gateway: dict[Address, set[Dependent]] = {}
        self._by_tracker: dict[str, set[Dependent]] = {}
        self._sorted: dict[Family, list[int]] = {family: [1 << 128] for family in Family}
        """The addresses as numbers, and a sentinel greater than any."""

    def record(self, dependent: Dependent, asked: Asked) -> None:
        """Replace what a dependent asked about; an empty `asked` removes it."""
        old = self._asked.get(dependent, NOTHING_ASKED)
        if old == asked:
            return
        addresses, ifnames, gateways, trackers = asked
        old_addresses, old_ifnames, old_gateways, old_trackers = old
        for address in old_addresses - addresses:
            self._forget_address(address, dependent)
        for ifname in old_ifnames - ifnames:
            self._by_ifname[ifname].discard(dependent)
        for address in addresses - old_addresses:
            if address not in self._by_address:
                self._by_address[address] = set()
                bisect.insort(self._sorted[address.family], address.addr_bits)
            self._by_address[address].add(dependent)
        for ifname in ifnames - old_ifnames:
            self._by_ifname.setdefault(ifname, set()).add(dependent)
        for gateway in old_gateways - gateways:
            self._by_gateway[gateway].discard(dependent)
            if not self._by_gateway[gateway]:
                del self._by_gateway[gateway]
        for gateway in gateways - old_gateways:
            self._by_gateway.setdefault(gateway, set()).add(dependent)
        for tracker in old_trackers - trackers:
            self._by_tracker[tracker].discard(dependent)
        for tracker in trackers - old_trackers:
            self._by_tracker.setdefault(tracker, set()).add(dependent)
        if asked.is_empty:
            del self._asked[dependent]
        else:
            self._asked[dependent] = asked

    def _forget_address(self, address: Address, dependent: Dependent) -> None:
        dependents = self._by_address[address]
        dependents.discard(dependent)
        if not dependents:
            del self._by_address[address]
            self.covers.pop(address, None)
            numbers = self._sorted[address.family]
            del numbers[bisect.bisect_left(numbers, address.addr_bits)]

    def concerned(self, family: Family, keys: Sequence[int]) -> AbstractSet[int]:
        """Return those among prefixes (`Prefix.as_int`) that contain an address which was asked
        about."""
        numbers = self._sorted[family]
        if len(numbers) == 1:
            return frozenset()
        host_bits = HOST_BITS[family]
        return {
            key
            for key in keys
            if numbers[bisect.bisect_left(numbers, key >> 8)] <= key >> 8 | host_bits[key & 0xFF]
        }

    def on_route(self, changed: Prefix) -> set[Dependent]:
        """Drop the cached matches that a changed route may invalidate; return their dependents."""
        numbers = self._sorted[changed.family]
        first = bisect.bisect_left(numbers, changed.addr_bits)
        last = bisect.bisect_right(numbers, changed.last_bits, first)
        dependents: set[Dependent] = set()
        for addr_bits in numbers[first:last]:
            address = Address(changed.family, addr_bits)
            cover = self.covers.get(address)
            if cover is not None and cover.prefix.prefix_len > changed.prefix_len:
                continue  # the answer is a longer prefix, whatever this one does
            self.covers.pop(address, None)
            dependents |= self._by_address[address]
        return dependents

    def on_all_routes(self, family: Family) -> set[Dependent]:
        """Drop all cached matches of a family; return the dependents of its addresses."""
        addresses = [address for address in self._by_address if address.family is family]
        for address in addresses:
            self.covers.pop(address, None)
        return set().union(*(self._by_address[address] for address in addresses))

    def on_link(self, ifname: str) -> frozenset[Dependent]:
        """Return the dependents that named a link."""
        return frozenset(self._by_ifname.get(ifname, ()))

    def on_tracker(self, tracker: str) -> frozenset[Dependent]:
        """Return the dependents that asked for the state of a tracker."""
        return frozenset(self._by_tracker.get(tracker, ()))

    def on_own_address(self, address: Address) -> frozenset[Dependent]:
        """Return the dependents with this gateway, which has become or ceased to be our own
        address."""
        return frozenset(self._by_gateway.get(address, ()))

    def with_link_local_gateway(self) -> set[Dependent]:
        """Return the dependents with an IPv4 link-local gateway."""
        return {
            dependent
            for gateway, dependents in self._by_gateway.items()
            if gateway.family is Family.IPV4 and gateway.is_link_local
            for dependent in dependents
        }
