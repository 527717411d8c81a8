"""The requests that change injected routes, and their parts; `ipc.control` has all requests."""

from __future__ import annotations

import enum

from ipc.lazy_dataclass import dataclass

__all__ = [
    "Lease",
    "PackedRoutes",
    "RouteAttributes",
    "RouteChange",
    "RouteNextHop",
    "RouteOperation",
    "RouteRenew",
]


class RouteOperation(enum.Enum):
    """Operation on injected routes."""

    ADD = "add"
    """Refused for a prefix that the owner has already."""
    REPLACE = "replace"
    """Adds the route or replaces the owner's present one; renews the lease."""
    DELETE = "delete"


@dataclass(frozen=True, slots=True)
class Lease:
    """Lifetime of injected routes."""

    seconds: float | None = None
    """Seconds after the last ADD, REPLACE or ROUTE_RENEW at which they expire; None: never."""
    is_session: bool = False
    """Whether they are removed when the connection that injected them closes."""


@dataclass(frozen=True, slots=True)
class RouteNextHop:
    """A next hop as in `ip route`: `via`, `dev` or both."""

    via: str | None = None
    dev: str | None = None
    weight: int = 1
    is_onlink: bool = False


@dataclass(frozen=True, slots=True)
class RouteAttributes:
    """The attributes of an injected route apart from its prefix."""

    type: str = "unicast"
    """A RouteType label: unicast, blackhole, unreachable, prohibit."""
    next_hops: tuple[RouteNextHop, ...] = ()
    metric: int = 0
    tag: int = 0
    kernel_attributes: tuple[tuple[str, str], ...] = ()
    """Words and texts of ip-route(8), such as ("mtu", "lock 1400")."""


@dataclass(frozen=True, slots=True)
class PackedRoutes:
    """Routes of one family as columns, so that thousands are decoded by a few calls.

    `ipc/routes.py` packs and unpacks; route number i of n is the i-th entry of each column.
    """

    addresses: bytes = b""
    """n times 4 or 16 bytes, network order."""
    prefix_lens: bytes = b""
    """n bytes."""
    attributes: bytes = b""
    """n times an index into the request's `attributes`, u16 in network order."""


@dataclass(frozen=True, slots=True)
class RouteChange:
    """Inject, replace or delete routes, all of them or none.

    The answer has a row for each refused route (route: its number, IPv4 before IPv6; problem: text)
    before the result; nothing has changed then.
    """

    operation: RouteOperation
    attributes: tuple[RouteAttributes, ...]
    """Empty for DELETE."""
    ipv4: PackedRoutes = PackedRoutes()
    ipv6: PackedRoutes = PackedRoutes()
    lease: Lease = Lease()
    owner: str = ""
    """A name that distinguishes several programs of one user; for DELETE, also the whole owner as
    `show routes` shows it."""
    table: str = ""
    """The name or number of the table; empty for the main one."""


@dataclass(frozen=True, slots=True)
class RouteRenew:
    """Renew every timed lease of the caller's routes."""

    seconds: float
    owner: str = ""
    """As in RouteChange."""
