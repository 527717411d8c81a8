"""Routes: candidates of the sources, best routes of the RIB, desired routes of the FIB.

Four nouns, from the outside in:

    Gateway    a next hop as it was written: an address, an interface name, or both; it may be
               reachable now or not, directly or through another route.
    NextHop    a next hop as the kernel takes it: an interface index and perhaps an address.
    Route      one candidate in the RIB: a prefix, where it came from, how much it is trusted, and
               either gateways still to be resolved (static) or next hops that are ready (learned).
    PathAttributes   a route without its prefix: what many prefixes share, and the RIB keeps once.

Sources: route types as in linux/rtnetlink.h (RTN_*); administrative distances are decided in
docs/architecture.md, in the order that FRR's and Cisco's users know (lower wins).
"""

from __future__ import annotations

import enum
from collections.abc import Iterator, Sequence
from typing import Annotated, NamedTuple

from routed.model.bounds import Items, TextBytes
from routed.model.kernel_attributes import KernelAttributes
from routed.model.prefix import Address, Family, Prefix

__all__ = [
    "DEFAULT_DISTANCE",
    "DISTANCE_NEVER",
    "MAX_WEIGHT",
    "METRIC_INFINITY",
    "NEXT_HOPS_MAX",
    "Gateway",
    "ImportedRoute",
    "NextHop",
    "OwnerName",
    "PathAttributes",
    "Route",
    "RouteColumn",
    "RouteSource",
    "RouteType",
    "bfd_tracker",
    "probe_tracker",
]

METRIC_INFINITY = 0xFFFF_FFFF
"""An unreachable metric; every reachable one is lower."""

DISTANCE_NEVER = 255
"""An administrative distance at which a candidate is shown and never selected."""

MAX_WEIGHT = 256
"""The largest weight of a next hop: the kernel stores weight - 1 in eight bits (rtnh_hops)."""

NEXT_HOPS_MAX = 1024
"""Next hops of one route. The kernel takes 2,340 of an IPv6 route in one request; what is beyond
this limit is left out."""

OwnerName = Annotated[str, TextBytes(64)]
"""Who keeps a route that is not ours, such as `dhcp/main/100`."""


class RouteType(enum.IntEnum):
    """What the kernel does with a packet, numbered as in linux/rtnetlink.h (RTN_*)."""

    UNICAST = 1
    LOCAL = 2
    """Packets are for this host; `dev` names the link of the address."""
    BROADCAST = 3
    """IPv4: packets are sent as broadcasts on a link."""
    BLACKHOLE = 6
    UNREACHABLE = 7
    PROHIBIT = 8
    THROW = 9
    """The look-up ends in this table, and goes on with the next policy rule."""

    @property
    def has_next_hops(self) -> bool:
        """Whether the route names a link, rather than an outcome of the look-up."""
        return self <= RouteType.BROADCAST

    @property
    def is_link_alone(self) -> bool:
        """Whether the route names exactly one link, and no gateway."""
        return self in (RouteType.LOCAL, RouteType.BROADCAST)


class RouteSource(enum.IntEnum):
    """Where a candidate came from. The number breaks ties and is never reused."""

    CONNECTED = 1
    STATIC = 2
    INJECTED = 3
    NEIGHBOR = 4
    """Learned by NUP and originated inside the network from connected or its own prefixes."""
    REDISTRIBUTED = 5
    """Learned by NUP and brought into it from another source by the originating router."""
    KERNEL = 6

    @property
    def label(self) -> str:
        """The word that users see."""
        return self.name.lower()


DEFAULT_DISTANCE: dict[RouteSource, int] = {
    RouteSource.CONNECTED: 0,
    RouteSource.STATIC: 1,
    RouteSource.INJECTED: 5,
    RouteSource.NEIGHBOR: 90,
    RouteSource.REDISTRIBUTED: 170,
    RouteSource.KERNEL: 254,
}
"""Administrative distance per source, 0 to 255; lower wins (DESIGN section 4)."""


class NextHop(NamedTuple):
    """A next hop that the kernel can take as it is.

    `sort_key` gives the total order in which the next hops of one route are kept, so that equal
    sets compare equal.
    """

    via: Address | None
    """The neighboring router; None when the destination itself is on the link. An IPv6 address
    may carry an IPv4 route (RTA_VIA)."""
    ifindex: int
    weight: int = 1
    """Share of the traffic among equals: 1 to MAX_WEIGHT."""
    is_onlink: bool = False
    """Treat `via` as reachable on the link although no subnet says so."""

    def sort_key(self) -> tuple[int, int, int, int, bool]:
        """Interface, then address, then weight."""
        family, addr_bits = self.via or (0, 0)
        return self.ifindex, family, addr_bits, self.weight, self.is_onlink


class Gateway(NamedTuple):
    """A next hop as it was requested, with at least one of `via` and `ifname`."""

    via: Address | None = None
    ifname: str | None = None
    weight: int = 1
    is_onlink: bool = False
    tracker: str = ""
    """What must be up for it to be used (`bfd_tracker`, `probe_tracker`); empty for nothing."""

    def __str__(self) -> str:
        words = []
        if self.via is not None:
            words.append(f"via {self.via}")
        if self.ifname is not None:
            words.append(f"dev {self.ifname}")
        if self.weight != 1:
            words.append(f"weight {self.weight}")
        if self.is_onlink:
            words.append("onlink")
        if self.tracker:
            words.append(self.tracker)
        return " ".join(words)


def bfd_tracker(session: str | None) -> str:
    """Return the tracker of a BFD session; empty for none."""
    return "" if session is None else f"bfd {session}"


def probe_tracker(probe: str | None) -> str:
    """Return the tracker of a probe; empty for none."""
    return "" if probe is None else f"probe {probe}"


class PathAttributes(NamedTuple):
    """Everything of a route but its prefix (the term of RFC 4271 section 3.1).

    The first four fields are those that the decision compares (`rib/decision.py`), in its order. No
    two candidates of a prefix agree in source and owner.
    """

    distance: int
    """0 to 255, lower wins; DISTANCE_NEVER is shown and never selected."""
    metric: int
    """Cost within one source, 0 to METRIC_INFINITY - 1; lower wins."""
    source: RouteSource
    owner: str
    """The owner within one source: a link for connected, an origin for a neighbor's route, a
    client for an injected one. Two candidates of one source and owner replace each other."""
    tag: int = 0
    """A mark that policy reads, 0 to 2**32 - 1."""
    type: RouteType = RouteType.UNICAST
    gateways: tuple[Gateway, ...] = ()
    next_hops: tuple[NextHop, ...] = ()
    """Sorted by `NextHop.sort_key`."""
    kernel_attributes: KernelAttributes | None = None
    """What the route has in the kernel besides; None for a plain route."""


class Route(NamedTuple):
    """One candidate for one prefix. The RIB's key is (prefix, source, owner).

    A candidate has `gateways` (to be resolved against links and other routes) or `next_hops`
    (ready), never both; a blackhole and its kin have neither. Units and ranges are those of
    `PathAttributes`.
    """

    prefix: Prefix
    source: RouteSource
    distance: int
    metric: int = 0
    tag: int = 0
    type: RouteType = RouteType.UNICAST
    gateways: tuple[Gateway, ...] = ()
    next_hops: tuple[NextHop, ...] = ()
    owner: str = ""
    kernel_attributes: KernelAttributes | None = None

    @classmethod
    def of(cls, prefix: Prefix, attributes: PathAttributes) -> Route:
        """A prefix and one candidate for it."""
        distance, metric, source, owner, tag, type_, gateways, next_hops, others = attributes
        return cls(prefix, source, distance, metric, tag, type_, gateways, next_hops, owner, others)

    @property
    def attributes(self) -> PathAttributes:
        """The route without its prefix."""
        _, source, distance, metric, tag, type_, gateways, next_hops, owner, others = self
        return PathAttributes(
            distance, metric, source, owner, tag, type_, gateways, next_hops, others
        )


class RouteColumn(NamedTuple):
    """Routes of one family that share their attributes with many others."""

    family: Family
    keys: list[int]
    """`Prefix.as_int`."""
    numbers: Sequence[int]
    """For each, which attributes of a second list; empty where there is none."""

    def prefixes(self) -> Iterator[Prefix]:
        """One by one."""
        return (Prefix.from_int(self.family, key) for key in self.keys)


class ImportedRoute(NamedTuple):
    """A foreign route in the kernel, as a candidate of the RIB."""

    prefix: Prefix
    owner: OwnerName
    """Its protocol, table and priority, as in `dhcp/main/100`."""
    distance: int
    metric: int
    """The kernel's priority."""
    tag: int
    type: RouteType
    next_hops: Annotated[tuple[NextHop, ...], Items(NEXT_HOPS_MAX)]
    """Sorted by `NextHop.sort_key`; empty unless the type has next hops."""
