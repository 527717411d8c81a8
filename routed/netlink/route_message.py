"""A whole route message of the kernel, with every attribute in the words of `ip route`. Pure.

For readers that must not lose anything: the import of a running kernel (`routed --import-kernel`)
and that of a file of `ip route save`. The codec of the FIB (`routed/fib/routes/codec.py`) reads the
routes of the daemon, by the million, and passes over what they never have.

Failure: `NetlinkDecodeError` for bytes that are no route message.

Sources: rtnetlink(7); linux/rtnetlink.h; print_route() in ip/iproute.c of iproute2.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

from routed.model.prefix import Address, Family, Prefix
from routed.netlink.message import (
    RTMSG,
    NetlinkDecodeError,
    Rta,
    attributes,
    decode_address,
    decode_expiry,
    decode_multipath,
    decode_u32,
    decode_via,
)

__all__ = ["RouteHop", "RouteMessage", "decode_route_message", "route_words", "type_name"]

_RTM_F_CLONED = 0x200
_RTNH_F_ONLINK = 4
_UNICAST = 1
_SCOPE_UNIVERSE, _SCOPE_LINK = 0, 253
_USUAL_SCOPES = {2: 254, 3: _SCOPE_LINK, 4: _SCOPE_LINK, 5: _SCOPE_LINK}
"""Scopes that follow from a type; a route of another type has the universe."""

_TYPES = {
    1: "unicast", 2: "local", 3: "broadcast", 4: "anycast", 5: "multicast", 6: "blackhole",
    7: "unreachable", 8: "prohibit", 9: "throw", 10: "nat", 11: "xresolve",
}  # fmt: skip
_TABLES = {253: "default", 254: "main", 255: "local"}
_PROTOCOLS = {2: "kernel", 3: "boot", 4: "static", 16: "dhcp"}
_SCOPES = {0: "global", 200: "site", 253: "link", 254: "host", 255: "nowhere"}
_PREFERENCES = {1: "high", 3: "low"}
"""RFC 4191; 0 is medium, which every IPv6 route has by default."""

_METRICS = {
    2: "mtu", 3: "window", 4: "rtt", 5: "rttvar", 6: "ssthresh", 7: "cwnd", 8: "advmss",
    9: "reordering", 10: "hoplimit", 11: "initcwnd", 12: "features", 13: "rto_min",
    14: "initrwnd", 15: "quickack", 16: "congctl", 17: "fastopen_no_cookie",
}  # fmt: skip
"""RTAX_*."""
_RTAX_LOCK, _RTAX_FEATURES, _RTAX_CONGCTL = 1, 12, 16
_MILLISECONDS = {4: 8, 5: 4, 13: 1}
"""Metrics that are times, and their unit as a fraction of a millisecond."""
_FEATURE_ECN = 1

_RTA_SRC, _RTA_PAD, _RTA_TTL_PROPAGATE = 2, 24, 26
_TICKS_PER_SECOND = 100
"""USER_HZ."""

_PLACES = frozenset(
    {
        Rta.DST, Rta.OIF, Rta.GATEWAY, Rta.VIA, Rta.PRIORITY, Rta.MULTIPATH, Rta.TABLE, Rta.NH_ID,
        _RTA_PAD,
    }
)  # fmt: skip
"""Attributes that have a field of their own."""


class RouteHop(NamedTuple):
    """A next hop of a route."""

    via: Address | None
    ifindex: int
    """0: none."""
    weight: int = 1
    is_onlink: bool = False
    other: tuple[tuple[str, str], ...] = ()
    """Everything else, as word and value of `ip route`, such as ("encap", "type 6")."""


class RouteMessage(NamedTuple):
    """A route with all that the kernel says about it."""

    prefix: Prefix
    type: int
    """RTN_*."""
    table_id: int
    protocol: int
    priority: int
    hops: tuple[RouteHop, ...]
    nexthop_id: int
    """Of a nexthop object; 0: none. Its next hops are in `hops` if the kernel shows them."""
    is_cloned: bool
    """An entry of the route cache."""
    other: tuple[tuple[str, str], ...]
    """Everything else, as word and value of `ip route`, such as ("src", "192.0.2.1")."""


def type_name(kind: int) -> str:
    """Return the name of a type of routes (RTN_*)."""
    return _TYPES.get(kind, f"type-{kind}")


def decode_route_message(payload: bytes) -> RouteMessage | None:
    """Decode the payload of RTM_NEWROUTE. Returns None for a family other than IPv4 and IPv6.

    Raises:
        NetlinkDecodeError: malformed.
    """
    if len(payload) < RTMSG.size:
        raise NetlinkDecodeError(f"a route message of {len(payload)} bytes")
    family_number, dst_len, src_len, tos, table, protocol, scope, kind, flags = RTMSG.unpack_from(
        payload
    )
    if family_number not in tuple(Family):
        return None
    family = Family(family_number)
    found = dict(attributes(payload, RTMSG.size, len(payload)))
    hops = tuple(_hops(found, bool(flags & _RTNH_F_ONLINK)))
    other = [("tos", f"{tos:#04x}")] if tos else []
    if src_len:
        other.append(("from", str(_prefix(family, found.get(_RTA_SRC), src_len))))
    other += _scope(family, scope, kind, hops)
    for number, value in found.items():
        if number not in _PLACES:
            other += _words(number, value)
    return RouteMessage(
        prefix=_prefix(family, found.get(Rta.DST), dst_len),
        type=kind,
        table_id=decode_u32(found[Rta.TABLE]) if Rta.TABLE in found else table,
        protocol=protocol,
        priority=decode_u32(found[Rta.PRIORITY]) if Rta.PRIORITY in found else 0,
        hops=hops,
        nexthop_id=decode_u32(found[Rta.NH_ID]) if Rta.NH_ID in found else 0,
        is_cloned=bool(flags & _RTM_F_CLONED),
        other=tuple(other),
    )


def _prefix(family: Family, packed: bytes | None, length: int) -> Prefix:
    address = decode_address(bytes(family.width // 8) if packed is None else packed)
    if address.family is not family or length > family.width:
        raise NetlinkDecodeError(f"a prefix of {length} bits of another family")
    try:
        return Prefix(family, address.addr_bits, length)
    except ValueError as error:
        raise NetlinkDecodeError(str(error)) from error


def _hops(found: dict[int, bytes], is_onlink: bool) -> Iterator[RouteHop]:
    if Rta.MULTIPATH in found:
        for flags, weight, ifindex, inner in decode_multipath(found[Rta.MULTIPATH]):
            hop = _hop(dict(inner), ifindex, bool(flags & _RTNH_F_ONLINK))
            yield hop._replace(weight=weight)
        return
    ifindex = decode_u32(found[Rta.OIF]) if Rta.OIF in found else 0
    hop = _hop(found, ifindex, is_onlink)
    if hop.via is not None or ifindex:
        yield hop._replace(other=())  # the attributes of the route


def _hop(found: dict[int, bytes], ifindex: int, is_onlink: bool) -> RouteHop:
    via = None
    for number in (Rta.GATEWAY, Rta.VIA):
        if number in found:
            via = decode_via(number, found[number])
    other = [words for number in found if number not in _PLACES
             for words in _words(number, found[number])]  # fmt: skip
    return RouteHop(via, ifindex, 1, is_onlink and via is not None, tuple(other))


def _scope(
    family: Family, scope: int, kind: int, hops: tuple[RouteHop, ...]
) -> list[tuple[str, str]]:
    """Return the scope of an IPv4 route if it does not follow from its type and next hops."""
    usual = _USUAL_SCOPES.get(kind, _SCOPE_UNIVERSE)
    if kind == _UNICAST and not any(hop.via is not None for hop in hops):
        usual = _SCOPE_LINK
    if family is Family.IPV6 or scope == usual:
        return []
    return [("scope", _SCOPES.get(scope, str(scope)))]


def _words(number: int, value: bytes) -> list[tuple[str, str]]:
    """Convert one attribute to words and values of `ip route`; none for what says nothing."""
    match number:
        case Rta.PREFSRC:
            return [("src", str(decode_address(value)))]
        case Rta.METRICS:
            return list(_metrics(value))
        case Rta.FLOW:
            source, destination = divmod(decode_u32(value), 1 << 16)
            return [("realm", f"{source}/{destination}" if source else str(destination))]
        case Rta.PREF:
            preference = _PREFERENCES.get(value[0]) if value else None
            return [("pref", preference)] if preference else []
        case Rta.CACHEINFO:
            ticks = decode_expiry(value)
            return [("expires", f"{ticks // _TICKS_PER_SECOND}sec")] if ticks else []
        case Rta.EXPIRES:
            return [("expires", f"{decode_u32(value)}sec")]
        case Rta.ENCAP_TYPE:
            return [("encap", f"type {int.from_bytes(value, 'little')}")]
        case _ if number == _RTA_TTL_PROPAGATE:
            return [("ttl-propagate", "enabled" if any(value) else "disabled")]
        case _ if number in (Rta.ENCAP, _RTA_SRC):
            return []  # `encap` and `from` have it already
    return [("attribute", str(number))]


def _metrics(payload: bytes) -> Iterator[tuple[str, str]]:
    found = dict(attributes(payload, 0, len(payload)))
    lock = decode_u32(found[_RTAX_LOCK]) if _RTAX_LOCK in found else 0
    for number, value in found.items():
        if number == _RTAX_LOCK:
            continue
        text = _metric_text(number, value)
        is_locked = bool(lock >> number & 1)
        yield _METRICS.get(number, f"metric-{number}"), f"lock {text}" if is_locked else text


def _metric_text(number: int, value: bytes) -> str:
    if number == _RTAX_CONGCTL:
        name = value.rstrip(b"\0").decode("latin-1")
        if not (name.isascii() and name.isprintable() and name.split() == [name]):
            raise NetlinkDecodeError(f"{name!a} as a name of a congestion control")
        return name
    amount = decode_u32(value)
    if number in _MILLISECONDS:
        return f"{amount // _MILLISECONDS[number]}ms"
    return "ecn" if number == _RTAX_FEATURES and amount == _FEATURE_ECN else str(amount)


def route_words(route: RouteMessage, name_of: Callable[[int], str]) -> str:
    """Return a route in one line, as `ip -o route` prints it.

    Args:
        route: the route.
        name_of: returns the name of the link of an index.
    """
    words = [] if route.type == _UNICAST else [type_name(route.type)]
    words.append(str(route.prefix))
    if route.nexthop_id:
        words.append(f"nhid {route.nexthop_id}")
    if len(route.hops) == 1:
        words += _hop_words(route.hops[0], name_of)
    words.append(f"proto {_PROTOCOLS.get(route.protocol, route.protocol)}")
    if route.table_id != 254:
        words.append(f"table {_TABLES.get(route.table_id, route.table_id)}")
    if route.priority:
        words.append(f"metric {route.priority}")
    words += [f"{word} {value}" for word, value in route.other]
    if len(route.hops) > 1:
        for hop in route.hops:
            words += ["nexthop", *_hop_words(hop, name_of), f"weight {hop.weight}"]
    return " ".join(words)


def _hop_words(hop: RouteHop, name_of: Callable[[int], str]) -> Iterator[str]:
    if hop.via is not None:
        yield f"via {hop.via}"
    if hop.ifindex:
        yield f"dev {name_of(hop.ifindex)}"
    if hop.is_onlink:
        yield "onlink"
    yield from (f"{word} {value}" for word, value in hop.other)
