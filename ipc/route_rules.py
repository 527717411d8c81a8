"""Validation rules for injected routes, shared by clients and the engine. Pure.

A client that reads a file checks here, so that an error is reported with its line number. The
engine checks again, with the same functions: it does not rely on the checks of a client.

Failure: no exception; a function returns a text for people that describes the problem, or None. A
text quotes at most _QUOTED_BYTES of its subject.
"""

from __future__ import annotations

import re
import socket

from ipc.control import ROUTE_NEXT_HOPS_MAX, RouteAttributes, RouteNextHop
from ipc.texts import clip_text

__all__ = [
    "KERNEL_ATTRIBUTES",
    "LEASE_MAX_S",
    "LEASE_MIN_S",
    "OWNER_NAME",
    "ROUTE_METRIC_MAX",
    "ROUTE_TAG_MAX",
    "ROUTE_TYPES",
    "ROUTE_WEIGHT_MAX",
    "address_problem",
    "attributes_problem",
    "family_problem",
    "host_bits_problem",
    "is_owner",
    "quoted",
]

ROUTE_TYPES = (
    "unicast", "local", "broadcast", "blackhole", "unreachable", "prohibit", "throw",
)  # fmt: skip
"""The labels of RouteType; a test compares them."""

KERNEL_ATTRIBUTES = (
    "src", "tos", "scope", "realm", "mtu", "advmss", "window", "initcwnd", "initrwnd", "hoplimit",
    "rto_min", "quickack", "congctl", "features", "pref",
)  # fmt: skip
"""What a route may have in the kernel besides, by its word in ip-route(8). The engine reads the
texts (`routed/model/kernel_attributes.py`); a test compares the words."""
_TYPES_WITH_LINK = ("local", "broadcast")

LEASE_MIN_S = 1.0
LEASE_MAX_S = 86_400.0
"""Longest timed lease: one day. Longer-lived routes need no lease."""

OWNER_NAME = r"[A-Za-z0-9][A-Za-z0-9_.:-]{0,63}"
"""Regular expression of the owner names that a client may choose."""
_OWNER = re.compile(rf"uid\d{{1,10}}(/{OWNER_NAME})?", re.ASCII)

ROUTE_METRIC_MAX = (1 << 32) - 2
ROUTE_TAG_MAX = (1 << 32) - 1
ROUTE_WEIGHT_MAX = 256

_NAME_BYTES_MAX = 15
"""Longest name of an interface, without the zero byte that Linux counts."""
_QUOTED_BYTES = 60
_IPV6_LOOPBACK = bytes(15) + b"\1"


def quoted(text: str) -> str:
    """Quote a word for an error message, cut to a length."""
    return repr(clip_text(text, _QUOTED_BYTES))


def is_owner(text: str) -> bool:
    """Return whether a text is a valid owner: a user id, and optionally a name chosen by its
    client."""
    return _OWNER.fullmatch(text) is not None


def address_problem(text: str) -> str | None:
    """Return why the form of a text is not an address of a next hop; None if it is."""
    if "%" in text:
        return f"{quoted(text)} carries a zone; name the interface with `dev` instead"
    try:
        _packed(text)
    except (OSError, ValueError):
        return f"{quoted(text)} is not an IP address"
    return None


def attributes_problem(attributes: RouteAttributes) -> str | None:
    """Return why no route can have these attributes; None if a route can.

    Cost: linear in the next hops, of which at most ROUTE_NEXT_HOPS_MAX are checked.
    """
    if attributes.type not in ROUTE_TYPES:
        return f"{quoted(attributes.type)} is no type of route: {', '.join(ROUTE_TYPES)}"
    if not 0 <= attributes.metric <= ROUTE_METRIC_MAX:
        return f"a metric is 0 to {ROUTE_METRIC_MAX}, not {attributes.metric}"
    if not 0 <= attributes.tag <= ROUTE_TAG_MAX:
        return f"a tag is 0 to {ROUTE_TAG_MAX}, not {attributes.tag}"
    if len(attributes.next_hops) > ROUTE_NEXT_HOPS_MAX:
        return f"a route has at most {ROUTE_NEXT_HOPS_MAX} next hops"
    for next_hop in attributes.next_hops:
        problem = _next_hop_problem(next_hop)
        if problem is not None:
            return problem
    problem = _words_problem(attributes.kernel_attributes)
    if problem is not None:
        return problem
    if attributes.type in _TYPES_WITH_LINK:
        hops = attributes.next_hops
        is_link = len(hops) == 1 and hops[0].via is None
        return None if is_link else f"a {attributes.type} route needs `dev`, and no `via`"
    if attributes.type == "unicast":
        has_next_hop = bool(attributes.next_hops)
        return None if has_next_hop else "a unicast route needs a next hop: `via`, `dev` or both"
    return f"a route of type {attributes.type} has no next hop" if attributes.next_hops else None


def _words_problem(words: tuple[tuple[str, str], ...]) -> str | None:
    if len(words) > len(KERNEL_ATTRIBUTES):
        return f"a route has at most {len(KERNEL_ATTRIBUTES)} attributes"
    for word, text in words:
        if word not in KERNEL_ATTRIBUTES:
            return f"{quoted(word)} is no attribute of a route: {', '.join(KERNEL_ATTRIBUTES)}"
        if len(text) > _QUOTED_BYTES:
            return f"{word}: {quoted(text)} is too long"
    return None


def _next_hop_problem(next_hop: RouteNextHop) -> str | None:
    if next_hop.via is None and not next_hop.dev:
        return "a next hop needs `via`, `dev` or both"
    name = next_hop.dev
    if name is not None and not 0 < len(name.encode("utf-8", "replace")) <= _NAME_BYTES_MAX:
        return f"{quoted(name)} is no name of an interface"
    if next_hop.via is not None:
        problem = address_problem(next_hop.via) or _gateway_problem(next_hop.via, name)
        if problem is not None:
            return problem
    if next_hop.is_onlink and (next_hop.via is None or not name):
        return "`onlink` needs `via` and `dev`"
    if not 1 <= next_hop.weight <= ROUTE_WEIGHT_MAX:
        return f"a weight is 1 to {ROUTE_WEIGHT_MAX}, not {next_hop.weight}"
    return None


def _gateway_problem(via: str, dev: str | None) -> str | None:
    packed = _packed(via)
    if len(packed) == 4:
        is_gateway = packed[0] >> 4 != 0xE and packed[0] != 127
        is_link_local = False
    else:
        is_gateway = packed[0] != 0xFF and packed != _IPV6_LOOPBACK
        is_link_local = packed[0] == 0xFE and packed[1] >> 6 == 0b10
    if not is_gateway or not any(packed):
        return f"{_text(packed)} cannot be a next hop"
    if is_link_local and not dev:
        return f"{_text(packed)} is link-local: name the interface with `dev`"
    return None


def family_problem(address_bytes: int, attributes: RouteAttributes) -> str | None:
    """Return why a route of one family cannot have these attributes; None if it can.

    Args:
        address_bytes: 4 or 16, of the prefix.
        attributes: without an `attributes_problem`.
    """
    if address_bytes == 4:
        return None
    if any(hop.via is not None and ":" not in hop.via for hop in attributes.next_hops):
        return "an IPv6 route needs an IPv6 next hop"
    return None


def host_bits_problem(packed: bytes, prefix_len: int) -> str | None:
    """Return why an address and a length are not a prefix; None if they are.

    Args:
        packed: 4 or 16 bytes, network order.
        prefix_len: 0 to the address's bits.
    """
    host_bits = 8 * len(packed) - prefix_len
    bits = int.from_bytes(packed, "big")
    network = bits >> host_bits << host_bits
    if network == bits:
        return None
    meant = _text(network.to_bytes(len(packed), "big"))
    return f"{_text(packed)}/{prefix_len} has host bits set; did you mean {meant}/{prefix_len}?"


def _packed(text: str) -> bytes:
    return socket.inet_pton(socket.AF_INET6 if ":" in text else socket.AF_INET, text)


def _text(packed: bytes) -> str:
    return socket.inet_ntop(socket.AF_INET if len(packed) == 4 else socket.AF_INET6, packed)
