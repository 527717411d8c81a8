"""Requests of the client libraries, built from plain Python values.

Shared by the blocking client (`ipc/client.py`) and the trio one (`ipc/trio_client.py`), so both
accept and reject the same arguments.

Forms of a lease:

    None         the routes stay until they are deleted, or the daemon ends
    "session"    they vanish with the client's connection
    30           they vanish 30 seconds after the last `add`, `replace` or `renew`

Failure: `TypeError` for an unknown keyword (a type checker reports it, too), `ValueError` for
values that cannot be sent; the daemon validates the rest.
"""

from __future__ import annotations

import socket
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Literal, NamedTuple, TypedDict, cast

from ipc.control import (
    Lease,
    RouteAttributes,
    RouteChange,
    RouteNextHop,
    RouteOperation,
)
from ipc.route_rules import KERNEL_ATTRIBUTES
from ipc.routes import BatchPacker, one_route

__all__ = [
    "LeaseTerm",
    "NextHop",
    "Route",
    "RouteOptions",
    "change_requests",
    "change_route",
    "delete_route",
    "lease_of",
    "owner_for",
]

LeaseTerm = float | Literal["session"] | None


class NextHop(NamedTuple):
    """One next hop of several: `via`, `dev` or both."""

    via: str | None = None
    dev: str | None = None
    weight: int = 1
    """Share of the traffic: 1 to 256."""
    is_onlink: bool = False


class Route(NamedTuple):
    """A route for `replace_many`. Routes that share `next_hops` share the tuple."""

    prefix: str
    next_hops: tuple[NextHop, ...] = ()
    type: str = "unicast"
    metric: int = 0
    tag: int = 0
    kernel_attributes: tuple[tuple[str, str], ...] = ()
    """Words and texts of ip-route(8), such as (("src", "192.0.2.1"), ("mtu", "lock 1400"))."""


def lease_of(term: LeaseTerm) -> Lease:
    """Convert a lease term.

    Raises:
        ValueError: a string other than "session".
    """
    if term is None:
        return Lease()
    if isinstance(term, str):
        if term != "session":
            raise ValueError(f"a lease is a number of seconds or 'session', not {term!r}")
        return Lease(is_session=True)
    return Lease(float(term))


class RouteOptions(TypedDict, total=False):
    """Keyword arguments for the attributes of a route."""

    via: str | None
    """The next router."""
    dev: str | None
    """The link."""
    next_hops: Sequence[NextHop]
    """Several, instead of `via` and `dev`."""
    type: str
    """unicast (when absent), blackhole, unreachable, prohibit or throw, which have no next hop;
    local or broadcast, which have `dev`."""
    metric: int
    """Decides between injected routes of one prefix, 0 to 2**32 - 2; lower wins."""
    tag: int
    """A mark that policy reads, 0 to 2**32 - 1."""
    lease: LeaseTerm
    """Lease: None (the default), "session", or seconds (1 to 86400)."""
    src: str
    """Source address of the host's own packets. This and all that follows is as in ip-route(8)."""
    tos: int | str
    scope: str
    realm: str
    mtu: int | str
    """Bytes; `"lock 1400"` keeps the kernel from lowering it. All metrics may be locked so."""
    advmss: int | str
    window: int | str
    initcwnd: int | str
    initrwnd: int | str
    hoplimit: int | str
    rto_min: str
    """Such as "200ms"."""
    quickack: bool
    congctl: str
    features: str
    """ecn."""
    pref: str
    """low, medium or high, for IPv6."""


def owner_for(lease: LeaseTerm, owner: str) -> str:
    """Return the owner name to send; a session is an owner of its own and has no name."""
    return "" if lease == "session" else owner


def change_route(
    operation: RouteOperation, prefix: str, owner: str, options: RouteOptions
) -> RouteChange:
    """Return a request to add or replace one route.

    Raises:
        ValueError: no prefix, no lease, or both forms of next hops.
        TypeError: an unknown option.
    """
    _check_words(options)
    via, dev = options.get("via"), options.get("dev")
    hops = tuple(options.get("next_hops", ()))
    if hops and (via or dev):
        raise ValueError("give `via` and `dev`, or `next_hops`, not both")
    if not hops and (via or dev):
        hops = (NextHop(via, dev),)
    given = cast("Mapping[str, object]", options).items()
    route = Route(
        prefix,
        hops,
        options.get("type", "unicast"),
        options.get("metric", 0),
        options.get("tag", 0),
        tuple((word, _text(value)) for word, value in given if word in KERNEL_ATTRIBUTES),
    )
    lease = options.get("lease")
    packed, prefix_len = _packed(prefix)
    return one_route(
        operation,
        packed,
        prefix_len,
        _attributes(route),
        lease=lease_of(lease),
        owner=owner_for(lease, owner),
    )


def _text(value: object) -> str:
    return str(int(value)) if isinstance(value, bool) else str(value)


def _check_words(options: RouteOptions) -> None:
    for word in options:
        if word not in RouteOptions.__annotations__:
            import difflib  # needed for errors only

            near = difflib.get_close_matches(word, RouteOptions.__annotations__, 1)
            known = f"there is {', '.join(RouteOptions.__annotations__)}"
            hint = f"did you mean {near[0]!r}?" if near else known
            raise TypeError(f"{word!r} is no option of a route; {hint}")


def delete_route(prefix: str, owner: str) -> RouteChange:
    """Return a request to delete one route; raises as `change_route`."""
    packed, prefix_len = _packed(prefix)
    return one_route(
        RouteOperation.DELETE, packed, prefix_len, RouteAttributes(), lease=Lease(), owner=owner
    )


def change_requests(
    operation: RouteOperation, routes: Iterable[Route], lease: LeaseTerm, owner: str
) -> Iterator[tuple[RouteChange, list[int]]]:
    """Yield requests for many routes, each with the positions of its routes in `routes`.

    Raises:
        ValueError: as `change_route`, naming the route; or a prefix occurs twice, of which the
            owner could have one route only.

    Cost: about 2.5 us and 120 bytes a route.
    """
    packer = BatchPacker(operation, lease_of(lease), owner_for(lease, owner))
    numbers: dict[tuple[object, ...], int] = {}
    seen: dict[bytes, int] = {}
    for position, route in enumerate(routes):
        key = route[1:]
        number = numbers.get(key)
        if number is None:
            number = numbers[key] = packer.number_of(_attributes(route))
        packed, prefix_len = _packed(route.prefix)
        earlier = seen.setdefault(packed + bytes((prefix_len,)), position)
        if earlier != position:
            raise ValueError(f"{route.prefix} occurs twice, as routes {earlier} and {position}")
        if packer.add(packed, prefix_len, number, position):
            yield packer.pop()
            numbers.clear()
    if len(packer):
        yield packer.pop()


def _attributes(route: Route) -> RouteAttributes:
    hops = tuple(RouteNextHop(*hop) for hop in route.next_hops)
    return RouteAttributes(route.type, hops, route.metric, route.tag, route.kernel_attributes)


def _packed(prefix: str) -> tuple[bytes, int]:
    """Return a prefix's address and length; an address alone is a host prefix."""
    address, slash, length = prefix.partition("/")
    try:
        packed = socket.inet_pton(socket.AF_INET6 if ":" in address else socket.AF_INET, address)
        prefix_len = int(length) if slash else 8 * len(packed)
        if not 0 <= prefix_len <= 8 * len(packed):
            raise ValueError
    except (OSError, ValueError):
        raise ValueError(f"{prefix!r} is not an IP prefix (like 10.0.0.0/8)") from None
    return packed, prefix_len
