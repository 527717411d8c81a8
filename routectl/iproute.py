"""Parser of routes in the format of `ip route`, for `ipc.routes` to pack.

    10.0.0.0/8 via 192.0.2.1 dev eth0 metric 20
    blackhole 198.51.100.0/24
    default via fe80::1 dev eth0
    203.0.113.0/24 nexthop via 192.0.2.1 dev eth0 weight 2 nexthop via 192.0.2.5 dev eth1

A route is a line and its continuation lines: `ip route` prints each of several next hops on a line
that begins with a tab, and `ip -o route` writes a backslash and a tab instead of the line break.
`#` and `;` begin a comment, at the start of a line or after a blank.

`metric` is the metric within the RIB, and `tag` is a word of routed. Attributes of the kernel
(`src`, `mtu lock 1400`, ...) are kept. What `ip route` prints for information (`proto`, `nhid`, a
`scope` or `pref` that the route has anyway, the `dev lo` of an IPv6 blackhole, flags such as
`linkdown`) is ignored. Attributes that an injected route cannot have (`from`, `encap`, `expires`,
...) are refused, because ignoring them would change the route. Contradictions (two gateways, two
types) are refused, too, even where `ip route` would use the last value. A route that the kernel
created itself (`proto kernel`) cannot be injected.

Failure: `LineError`, a sentence about one line.
"""

from __future__ import annotations

import re
import socket
from collections.abc import Iterator

from ipc.control import RouteAttributes, RouteNextHop
from ipc.route_rules import (
    KERNEL_ATTRIBUTES,
    ROUTE_TYPES,
    address_problem,
    attributes_problem,
    family_problem,
    quoted,
)

__all__ = [
    "ROUTE_TYPES",
    "LineError",
    "continues_route",
    "is_ipv6_default",
    "is_kernel_route",
    "join_lines",
    "parse_attributes",
    "parse_prefix",
    "read_route",
    "split_line",
]

_OTHER_TYPES = {
    "multicast", "anycast", "nat", "xresolve",
}  # fmt: skip
"""Route types of the kernel that cannot be injected."""
_TYPE_NUMBERS = {
    "1": "unicast", "2": "local", "3": "broadcast", "4": "anycast", "5": "multicast",
    "6": "blackhole", "7": "unreachable", "8": "prohibit", "9": "throw", "10": "nat",
    "11": "xresolve",
}  # fmt: skip
"""Numbers that `ip -N -d route` prints instead of types: RTN_* of linux/rtnetlink.h."""

_INFORMATION = {
    "proto", "protocol", "nhid", "error", "users", "used", "age",
}  # fmt: skip
_FLAGS_WITHOUT_MEANING = {
    "linkdown", "dead", "pervasive", "offload", "notify", "unresolved", "trap",
    "rt_offload", "rt_offload_failed", "offload_failed", "rt_trap",
}  # fmt: skip
_NOT_KEPT = {
    "from", "table", "encap", "rtt", "rttvar", "ssthresh", "cwnd", "reordering",
    "fastopen_no_cookie", "ttl-propagate",
}  # fmt: skip
"""Attributes that the kernel uses and an injected route cannot have."""
_OTHER_WORDS = {"realms": "realm", "dsfield": "tos"}
"""Words of attributes that `ip route` prints in another form than it reads."""
_NAME_FILES = {"tos": "rt_dsfield", "realm": "rt_realms", "scope": "rt_scopes"}
"""Files with the names that `ip route` prints for values of these attributes."""
SCOPES = ("global", "site", "link", "host")
_SCOPE_NUMBERS = {"0": "global", "253": "link", "254": "host"}
_DIGITS_MAX = 10
"""Most digits of a number. Python refuses to convert a number of several thousand digits."""
_MAIN_TABLE = ("main", "254")

_COMMENT = re.compile(r"(?:^|(?<!\sdev)\s)[#;].*")
"""The word after `dev ` is a name, even if it begins with `#` or `;`."""
_BREAK = re.compile(r"\n|\\(?=\t| {2})|(?<=\s)\\(?=\s|$)")
"""Separator of the lines of one route: a line break, or the backslash that `ip -o` writes. A name
may contain a backslash, also at its end."""
_CONTINUED_BY = ("nexthop", "nh_info", "cache")
_KERNEL_PROTOCOLS = (" proto kernel ", " proto 2 ")
"""Protocol of the kernel's own routes, by name and as `ip -N` prints RTPROT_KERNEL."""
_ABOUT_THE_ROUTE = ("nh_info", "cache")
"""First words of continuation lines that repeat information of other lines."""
_CONTINUATION = re.compile(rb"\s+\\?\s*(?:nexthop|nh_info|cache)\b")


class LineError(Exception):
    """A line that is not a route; the text gives the reason."""


def continues_route(line: bytes) -> bool:
    """Return whether a line continues the route of the line before."""
    return line[:1] in (b"\t", b" ") and _CONTINUATION.match(line) is not None


def join_lines(text: str) -> str:
    """Join the lines of one route, without comments; empty if nothing else is left.

    Args:
        text: one or more lines, separated by line breaks, or joined as `ip -o` does.
    """
    lines = [_COMMENT.sub("", line) for line in text.rstrip().split("\n")]
    parts = [part.strip() for part in _BREAK.split("\n".join(lines))]
    return " ".join(
        part for part in parts if part and part.partition(" ")[0] not in _ABOUT_THE_ROUTE
    )


def is_kernel_route(words: str) -> bool:
    """Return whether the kernel created the route itself, for an address for example."""
    padded = f" {words} "
    return any(protocol in padded for protocol in _KERNEL_PROTOCOLS)


def is_ipv6_default(words: str) -> bool:
    """Return whether a `default` line is an IPv6 route.

    `ip` prints `via inet6` if the next hop is of the other family, and `pref` for IPv6 only.
    """
    if " via inet6 " in f" {words} ":
        return False
    hop = re.search(r"(?:^| )via (\S+)", words)
    return ":" in hop[1] if hop else " pref " in f" {words} "


def read_route(text: str, table: str = "") -> tuple[bytes, int, str, RouteAttributes]:
    """Parse one route.

    Args:
        text: from `join_lines`, not empty.

    Returns:
        The packed address, the prefix length, the words other than the prefix, and their meaning.

    Raises:
        LineError: it is not a route that can be injected. Host bits are not checked.

    Cost: linear in the text.
    """
    prefix, words = split_line(text)
    packed, prefix_len = parse_prefix(prefix, is_ipv6_default=is_ipv6_default(words))
    attributes = parse_attributes(words, table)
    problem = family_problem(len(packed), attributes)
    if problem is not None:
        raise LineError(problem)
    return packed, prefix_len, words, attributes


def split_line(line: str) -> tuple[str, str]:
    """Split a line into its prefix and the rest (with the type, if there is one).

    Raises:
        LineError: there is no prefix.
    """
    words = line.split()
    if words and words[0] in _TYPE_NUMBERS:
        words[0] = _TYPE_NUMBERS[words[0]]
    if words and words[0] in ROUTE_TYPES:
        if len(words) == 1:
            raise LineError(f"a prefix is missing after {words[0]}")
        return words[1], " ".join([words[0], *words[2:]])
    if not words:
        raise LineError("a prefix is missing")
    if words[0] in _CONTINUED_BY:
        raise LineError(f"{words[0]!r} continues a route, and there is none on the line before")
    if words[0] in _OTHER_TYPES:
        raise LineError(
            f"a route of type {words[0]} cannot be injected; {', '.join(ROUTE_TYPES)} can"
        )
    return words[0], " ".join(words[1:])


def parse_prefix(text: str, *, is_ipv6_default: bool = False) -> tuple[bytes, int]:
    """Return a prefix's packed address and its length; an address alone is a host prefix.

    Args:
        text: ADDRESS[/LENGTH] or `default`.
        is_ipv6_default: whether `default` is the IPv6 default route.

    Raises:
        LineError: it is not a prefix. Host bits are not checked.
    """
    if text == "default":
        return (bytes(16) if is_ipv6_default else bytes(4)), 0
    if text[:1] in ("[", "{"):
        raise LineError(f"{quoted(text)} is JSON: give what `ip route` prints without `-j`")
    address, slash, length = text.partition("/")
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    try:
        packed = socket.inet_pton(family, address)
    except (OSError, ValueError):
        raise LineError(f"{quoted(text)} is not an IP prefix (like 10.0.0.0/8)") from None
    width = 8 * len(packed)
    if not slash:
        return packed, width
    is_number = length.isascii() and length.isdigit() and len(length) <= _DIGITS_MAX
    if not is_number or int(length) > width:
        raise LineError(f"{quoted(text)}: a prefix length is 0 to {width}")
    return packed, int(length)


def parse_attributes(rest: str, table: str = "") -> RouteAttributes:
    """Parse the words of a line other than the prefix.

    Args:
        rest: the words.
        table: the table for which the route is meant, as the user named it; empty for the main one.

    Raises:
        LineError: a word is unknown, cannot be kept, or contradicts another one; or a value is not
            valid for a route.
    """
    route = _Route(table)
    words = iter(rest.split())
    for word in words:
        route.take(word, words)
    return route.finished()


class _Route:
    """A route whose words are being parsed."""

    def __init__(self, table: str) -> None:
        self._table = table
        self._type: str | None = None
        self._metric: int | None = None
        self._tag: int | None = None
        self._nexthop_id: str | None = None
        self._single = _NextHop()
        self._several: list[_NextHop] = []
        self._kernel: dict[str, str] = {}

    def take(self, word: str, words: Iterator[str]) -> None:
        """Parse one word, and its value."""
        match word:
            case "table":
                _check_table(_value(word, words), self._table)
            case "metric":
                _check_first(word, self._metric)
                self._metric = _number(word, words)
            case "tag":
                _check_first(word, self._tag)
                self._tag = _number(word, words)
            case "nexthop":
                self._several.append(_NextHop())
            case "nhid":
                self._nexthop_id = _value(word, words)
            case _ if word in ROUTE_TYPES:
                if self._type is not None:
                    raise LineError(f"a route is {self._type} or {word}, not both")
                self._type = word
            case _ if word in _INFORMATION:
                _value(word, words)
            case _ if (attribute := _OTHER_WORDS.get(word, word)) in KERNEL_ATTRIBUTES:
                text = _value(word, words)
                if text == "lock":
                    text = f"lock {_value(word, words)}"
                text = _without_names(attribute, text)
                # The kernel prints the realm of a route in each of its next hops.
                if attribute != "realm" or self._kernel.get(attribute) != text:
                    _check_first(word, self._kernel.get(attribute))
                self._kernel[attribute] = text
            case _ if word not in _FLAGS_WITHOUT_MEANING:
                (self._several[-1] if self._several else self._single).take(word, words)

    def finished(self) -> RouteAttributes:
        """Return the attributes."""
        route_type = self._type or "unicast"
        next_hops = self._next_hops(route_type)
        attributes = RouteAttributes(
            route_type,
            tuple(next_hop.finished() for next_hop in next_hops),
            self._metric or 0,
            self._tag or 0,
            self._kernel_attributes(route_type, next_hops),
        )
        problem = attributes_problem(attributes)
        if problem is not None:
            raise LineError(problem)
        return attributes

    def _kernel_attributes(
        self, route_type: str, next_hops: list[_NextHop]
    ) -> tuple[tuple[str, str], ...]:
        """Return the attributes without those that a route has anyway, as `ip -d route` prints
        them. What has a `pref` is an IPv6 route, which has no scope."""
        kept = dict(self._kernel)
        has_gateway = any(next_hop.has_gateway for next_hop in next_hops)
        usual = "host" if route_type == "local" else "link"
        usual = "global" if has_gateway or not next_hops else usual
        scope = kept.get("scope", "")
        if "pref" in kept or _SCOPE_NUMBERS.get(scope, scope) == usual:
            kept.pop("scope", None)
        if kept.get("pref") == "medium":
            del kept["pref"]
        return tuple(kept.items())

    def _next_hops(self, route_type: str) -> list[_NextHop]:
        if self._several and not self._single.is_empty:
            raise LineError("give `via` and `dev`, or several `nexthop`, not both")
        next_hops = self._several or ([] if self._single.is_empty else [self._single])
        if route_type not in ("unicast", "local", "broadcast"):
            if not all(next_hop.is_of_no_route for next_hop in next_hops):
                raise LineError(f"a {route_type} route has no next hop")
            return []
        if next_hops:
            return next_hops
        if self._nexthop_id is not None:
            raise LineError(
                f"nhid {quoted(self._nexthop_id)} names next hops of the kernel that are not in "
                "the line: write them out, with `via`, `dev` or several `nexthop`"
            )
        raise LineError(f"a {route_type} route needs `via`, `dev` or several `nexthop`")


def _check_table(table: str, wanted: str) -> None:
    """Refuse the table of a line if it is not the one for which the routes are meant."""
    if table != wanted and (wanted or table not in _MAIN_TABLE):
        raise LineError(
            f"it is a route of table {quoted(table)}, which is not the one that was named; "
            "`table NAME` behind the command names it"
        )


class _NextHop:
    """A next hop whose words are being parsed."""

    def __init__(self) -> None:
        self._via: str | None = None
        self._dev: str | None = None
        self._weight: int | None = None
        self._is_onlink = False
        self.is_empty = True

    @property
    def has_gateway(self) -> bool:
        """Whether it names more than a link."""
        return self._via is not None

    @property
    def is_of_no_route(self) -> bool:
        """Whether the hop is what Linux prints for a blackhole: no gateway, and no link or the
        loopback."""
        return self._via is None and self._dev in (None, "lo") and not self._is_onlink

    def take(self, word: str, words: Iterator[str]) -> None:
        """Parse one word, and its value."""
        self.is_empty = False
        match word:
            case "via":
                _check_first(word, self._via)
                self._via = _gateway(words)
            case "dev":
                _check_first(word, self._dev)
                self._dev = _value(word, words)
            case "weight":
                _check_first(word, self._weight)
                self._weight = _number(word, words)
            case "onlink":
                self._is_onlink = True
            case "expires":
                raise LineError(
                    "'expires' cannot be kept: take it out, and give the import a `lease`, if the "
                    "route is to vanish"
                )
            case _ if word in _NOT_KEPT:
                raise LineError(f"{word!r} cannot be kept: remove it if the route works without it")
            case _:
                raise LineError(f"{quoted(word)} is not supported here")

    def finished(self) -> RouteNextHop:
        """Return the next hop."""
        weight = 1 if self._weight is None else self._weight
        return RouteNextHop(self._via, self._dev, weight, self._is_onlink)


def _without_names(attribute: str, text: str) -> str:
    """Return the text of an attribute with numbers in place of the names that iproute2 has."""
    kind = _NAME_FILES.get(attribute)
    if kind is None or text in SCOPES:
        return text
    from routed.config import iproute2_names

    parts = text.split("/")
    for at, part in enumerate(parts):
        if not part[:1].isdigit():
            try:
                number = iproute2_names.number_of(kind, part)
            except ValueError as error:
                raise LineError(f"{attribute}: {error}") from error
            if number is None:
                raise LineError(f"{attribute}: {quoted(part)} is no name of {kind}")
            parts[at] = f"{number:#04x}" if attribute == "tos" else str(number)
    return "/".join(parts)


def _gateway(words: Iterator[str]) -> str:
    family = None
    value = _value("via", words)
    if value in ("inet", "inet6"):
        family, value = value, _value(f"via {value}", words)
    problem = address_problem(value)
    if problem is not None:
        raise LineError(problem)
    if family is not None and (family == "inet6") != (":" in value):
        raise LineError(f"{value} is not an address of the family {family}")
    return value


def _check_first(word: str, earlier: object) -> None:
    if earlier is not None:
        raise LineError(f"{word!r} is given twice: are these two routes on one line?")


def _value(word: str, words: Iterator[str]) -> str:
    value = next(words, None)
    if value is None:
        raise LineError(f"{word} needs a value after it")
    return value


def _number(word: str, words: Iterator[str]) -> int:
    value = _value(word, words)
    if not (value.isascii() and value.isdigit()) or len(value) > _DIGITS_MAX:
        raise LineError(f"{word} needs a number, not {quoted(value)}")
    return int(value)
