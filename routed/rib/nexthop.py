"""From a gateway as somebody wrote it to next hops that the kernel can take. Pure.

    dev                 the destination is on that link
    via + dev           the router is on that link: on one of its subnets, link-local, reached by an
                        on-link route there, or declared `onlink`
    via                 the RIB's longest match for the router says where it is: on a connected
                        subnet it is a neighbor; behind another route, that route's next hops are
                        taken over (recursion)

An address of this router itself is no gateway (`own_addresses.py`), nor is one behind a loopback
link. An IPv4 link-local gateway (tunnels of clouds have 169.254.x.x) without `dev` is looked for in
the subnets of the links, because the RIB has no routes to such; IPv6 link-local needs `dev`.

A default route does not resolve a gateway: nearly everything would then be "reachable", by way of
whoever the default points at.

Recursion always starts from a *selected* route whose next hops are resolved already, so resolving
is one step; what a chain of steps rests on is kept with each result (`through`), and a route that
would rest on itself is refused. So is one whose own prefix is the longest match for its gateway.

What a set of gateways resolves to does not depend on the prefix that uses it, except for a prefix
that contains one of them or that the result rests on; so a set is resolved once for all the others
(prefix None), and once more for each that has a part in it.

Who must be looked at again: `Dependencies` remembers which sets asked about which address or which
link name, so that a change of one route or link re-examines only these.

Source: the rules are those of RFC 4271 section 5.1.3 and 9.1.2.1 (recursive lookup), with the
refusal of the default route that FRR calls `no ip nht resolve-via-default`.
"""

from __future__ import annotations

import bisect
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from typing import Generic, NamedTuple, TypeVar

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
    "PROBLEMS_SHOWN",
    "Asked",
    "Cover",
    "Dependencies",
    "Resolution",
    "Unresolved",
    "resolve",
]


PROBLEMS_SHOWN = 4
"""Gateways of a set that are named because they cannot be used; of more only the number is said."""


class Unresolved(Exception):
    """A gateway cannot be used now; the message says why, for people."""


class Cover(NamedTuple):
    """The selected route that is the longest match for an address."""

    prefix: Prefix
    attributes: PathAttributes
    next_hops: tuple[NextHop, ...]
    through: frozenset[Prefix]
    """The prefixes that its own next hops rest on."""


class Asked(NamedTuple):
    """What a resolution looked at: a change of any of it may change the result."""

    addresses: frozenset[Address] = frozenset()
    """Looked up in the RIB."""
    ifnames: frozenset[str] = frozenset()
    """Links named."""
    gateways: frozenset[Address] = frozenset()
    """Asked about whether they are this router's own."""

    @property
    def is_empty(self) -> bool:
        """Nothing was looked at."""
        return not (self.addresses or self.ifnames or self.gateways)


NOTHING_ASKED = Asked()


@dataclass(slots=True)
class Resolution:
    """What became of a candidate's gateways."""

    next_hops: tuple[NextHop, ...] = ()
    """Sorted; those gateways that resolve, all together, NEXT_HOPS_MAX at most."""
    left_out: int = 0
    """How many more there would be."""
    problem: str = ""
    """Why there are none, or why some are missing; empty when all resolve."""
    through: frozenset[Prefix] = frozenset()
    asked: Asked = NOTHING_ASKED

    @property
    def outcome(self) -> tuple[object, ...]:
        """What a route gets by it."""
        return self.next_hops, self.left_out, self.through

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
    hops: list[NextHop] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    through: set[Prefix] = field(default_factory=set)
    addresses: set[Address] = field(default_factory=set)
    ifnames: set[str] = field(default_factory=set)
    gateways: set[Address] = field(default_factory=set)


def resolve(
    prefix: Prefix | None,
    gateways: Iterable[Gateway],
    links: Mapping[str, Interface],
    own: OwnAddresses,
    match: Callable[[Address], Cover | None],
) -> Resolution:
    """Resolve a set of gateways.

    Args:
        prefix: whose route it is; None for any that has no part in the result.
        gateways: at least one.
        links: by name.
        own: the addresses of this router.
        match: the longest match among the selected routes.

    Cost: one longest match per gateway.
    """
    work = _Work(prefix, links, own, match)
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
        through=frozenset(work.through),
        asked=Asked(frozenset(work.addresses), frozenset(work.ifnames), frozenset(work.gateways)),
    )


def _listed(problems: list[str]) -> str:
    more = len(problems) - PROBLEMS_SHOWN
    return "; ".join([*problems[:PROBLEMS_SHOWN], *([f"and {more} more"] if more > 0 else [])])


def _resolve_gateway(gateway: Gateway, work: _Work) -> list[NextHop]:
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


def _refuse_own(via: Address, link: Interface | None, work: _Work) -> None:
    work.gateways.add(via)
    if link is not None and link.is_loopback:
        raise Unresolved(f"{via} is no router: {link.ifname} leads back here")
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
    if cover is None or cover.prefix.prefix_len == 0:
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
    """The links that are up and have the most specific subnet around an IPv4 link-local address."""
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
    if prefix == cover.prefix or prefix in cover.through:
        raise Unresolved(f"{via} is not reachable: {prefix} would resolve through itself")
    if not cover.next_hops:
        kind = cover.attributes.type.name.lower()
        raise Unresolved(f"{via} is not reachable: {cover.prefix} is {kind}")
    if cover.attributes.source is not RouteSource.CONNECTED:
        work.through |= {cover.prefix, *cover.through}
    if any(hop.via is None and hop.ifindex in work.own.loopbacks for hop in cover.next_hops):
        raise Unresolved(f"{via} is no router: {cover.prefix} leads back here")
    return [hop._replace(via=hop.via or via, weight=hop.weight * weight) for hop in cover.next_hops]


def _merge(hops: list[NextHop]) -> tuple[NextHop, ...]:
    """Equal next hops become one with their weights added; weights fit the kernel again."""
    legs: dict[tuple[Address | None, int, bool], int] = {}
    for hop in hops:
        leg = (hop.via, hop.ifindex, hop.is_onlink)
        legs[leg] = legs.get(leg, 0) + hop.weight
    heaviest = max(legs.values(), default=1)
    merged = [
        NextHop(via, ifindex, _scaled(weight, heaviest), is_onlink)
        for (via, ifindex, is_onlink), weight in legs.items()
    ]
    if len(merged) == 1:
        return (merged[0]._replace(weight=1),)
    return tuple(sorted(merged, key=NextHop.sort_key))


def _scaled(weight: int, heaviest: int) -> int:
    if heaviest <= MAX_WEIGHT:
        return weight
    return max(1, weight * MAX_WEIGHT // heaviest)


Who = TypeVar("Who", bound=Hashable)


class Dependencies(Generic[Who]):
    """Who asked about which address or link, and the answers about addresses."""

    def __init__(self) -> None:
        self.covers: dict[Address, Cover | None] = {}
        """Longest matches that still hold: a table has many routes and few next hops."""
        self._asked: dict[Who, Asked] = {}
        self._by_address: dict[Address, set[Who]] = {}
        self._by_ifname: dict[str, set[Who]] = {}
        self._by_gateway: dict[Address, set[Who]] = {}
        self._sorted: dict[Family, list[int]] = {family: [1 << 128] for family in Family}
        """The addresses, and one that is more than any."""

    def record(self, who: Who, asked: Asked) -> None:
        """Replace what somebody asked about; nothing forgets it."""
        old = self._asked.get(who, NOTHING_ASKED)
        if old == asked:
            return
        (addresses, ifnames, gateways), (old_addresses, old_ifnames, old_gateways) = asked, old
        for address in old_addresses - addresses:
            self._forget_address(address, who)
        for ifname in old_ifnames - ifnames:
            self._by_ifname[ifname].discard(who)
        for address in addresses - old_addresses:
            if address not in self._by_address:
                self._by_address[address] = set()
                bisect.insort(self._sorted[address.family], address.addr_bits)
            self._by_address[address].add(who)
        for ifname in ifnames - old_ifnames:
            self._by_ifname.setdefault(ifname, set()).add(who)
        for gateway in old_gateways - gateways:
            self._by_gateway[gateway].discard(who)
            if not self._by_gateway[gateway]:
                del self._by_gateway[gateway]
        for gateway in gateways - old_gateways:
            self._by_gateway.setdefault(gateway, set()).add(who)
        if asked.is_empty:
            del self._asked[who]
        else:
            self._asked[who] = asked

    def _forget_address(self, address: Address, who: Who) -> None:
        dependents = self._by_address[address]
        dependents.discard(who)
        if not dependents:
            del self._by_address[address]
            self.covers.pop(address, None)
            numbers = self._sorted[address.family]
            del numbers[bisect.bisect_left(numbers, address.addr_bits)]

    def concerned(self, family: Family, keys: Sequence[int]) -> AbstractSet[int]:
        """Those among prefixes (`Prefix.as_int`) that contain an address which was asked about."""
        numbers = self._sorted[family]
        if len(numbers) == 1:
            return frozenset()
        host_bits = HOST_BITS[family]
        return {
            key
            for key in keys
            if numbers[bisect.bisect_left(numbers, key >> 8)] <= key >> 8 | host_bits[key & 0xFF]
        }

    def on_route(self, changed: Prefix) -> set[Who]:
        """A prefix's route changed: forget the answers inside it; who asked for them."""
        numbers = self._sorted[changed.family]
        first = bisect.bisect_left(numbers, changed.addr_bits)
        last = bisect.bisect_right(numbers, changed.last_bits, first)
        dependents: set[Who] = set()
        for addr_bits in numbers[first:last]:
            address = Address(changed.family, addr_bits)
            cover = self.covers.get(address)
            if cover is not None and cover.prefix.prefix_len > changed.prefix_len:
                continue  # the answer is a longer prefix, whatever this one does
            self.covers.pop(address, None)
            dependents |= self._by_address[address]
        return dependents

    def on_link(self, ifname: str) -> frozenset[Who]:
        """Who named a link."""
        return frozenset(self._by_ifname.get(ifname, ()))

    def on_own_address(self, address: Address) -> frozenset[Who]:
        """Who has a gateway that has become an address of this router, or is none any longer."""
        return frozenset(self._by_gateway.get(address, ()))

    def with_link_local_gateway(self) -> set[Who]:
        """Who has an IPv4 link-local gateway."""
        return {
            who
            for gateway, dependents in self._by_gateway.items()
            if gateway.family is Family.IPV4 and gateway.is_link_local
            for who in dependents
        }
