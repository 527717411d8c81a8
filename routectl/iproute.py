"""Routes as `ip route` reads and prints them -> what `ipc.routes` packs.

    10.0.0.0/8 via 192.0.2.1 dev eth0 metric 20
    blackhole 198.51.100.0/24
    default via fe80::1 dev eth0
    203.0.113.0/24 nexthop via 192.0.2.1 dev eth0 weight 2 nexthop via 192.0.2.5 dev eth1

A route is a line, or a line and those that continue it: `ip route` prints each of several next hops
on a line that begins with a tab, `ip -o route` puts a backslash and a tab in the place of the line
break. `#` and `;` begin a comment, at the start of a line or after a blank.

`metric` is the metric within the RIB, and `tag` is ours. What `ip route` prints for information
(`proto`, `scope`, `pref`, `nhid`, the `dev lo` of an IPv6 blackhole, flags such as `linkdown`) is
read over; what would have to be obeyed and cannot be (`src`, `mtu`, ...) is refused, rather than
forgotten. A route of the kernel's own (`proto kernel`) is none that anybody could inject.

Failure: `LineError`, a sentence about one line.
"""

from __future__ import annotations

import re
import socket
from collections.abc import Iterator

from ipc.control import RouteAttributes, RouteNextHop

__all__ = [
    "ROUTE_TYPES",
    "LineError",
    "continues_route",
    "is_ipv6_default",
    "is_kernel_route",
    "join_lines",
    "parse_attributes",
    "parse_prefix",
    "split_line",
]

ROUTE_TYPES = ("unicast", "blackhole", "unreachable", "prohibit")
"""The words of RouteType; a test holds them to it."""

_OTHER_TYPES = {
    "local", "broadcast", "multicast", "anycast", "throw", "nat", "xresolve",
}  # fmt: skip
"""Types of the kernel that no routing daemon installs."""

_INFORMATION = {
    "proto", "protocol", "scope", "pref", "expires", "nhid", "error", "users", "used", "age",
}  # fmt: skip
_FLAGS_WITHOUT_MEANING = {
    "linkdown", "dead", "pervasive", "offload", "notify", "unresolved", "trap",
    "rt_offload", "rt_offload_failed", "offload_failed", "rt_trap",
}  # fmt: skip
_NOT_KEPT = {
    "src", "from", "tos", "dsfield", "table", "realm", "realms", "encap", "mtu", "advmss", "rtt",
    "rttvar", "rto_min", "ssthresh", "cwnd", "initcwnd", "initrwnd", "window", "hoplimit",
    "quickack", "congctl", "features", "reordering", "fastopen_no_cookie", "ttl-propagate",
}  # fmt: skip
"""What the kernel obeys and an injected route does not have."""
_MAIN_TABLE = ("main", "254")

_COMMENT = re.compile(r"(?:^|\s)[#;].*")
_BREAK = re.compile(r"\n|\\(?=\t| {2}|$)|(?<=\s)\\(?=\s)")
"""Between the lines of one route, as they are or as `ip -o` joins them. A name may have a backslash
in it."""
_CONTINUED_BY = ("nexthop", "nh_info", "cache")
_ABOUT_THE_ROUTE = ("nh_info", "cache")
"""First words of lines that tell what the others say, too."""
_CONTINUATION = re.compile(rb"\s+\\?\s*(?:nexthop|nh_info|cache)\b")


class LineError(Exception):
    """A line that is no route; the text says why."""


def continues_route(line: bytes) -> bool:
    """Whether a line belongs to the route of the line before."""
    return line[:1] in (b"\t", b" ") and _CONTINUATION.match(line) is not None


def join_lines(text: str) -> str:
    """The lines of one route as a single one, without comments; empty when there is nothing else.

    Args:
        text: one or more lines, `\n` between them, or joined as `ip -o` does it.
    """
    lines = [_COMMENT.sub("", line) for line in text.rstrip().split("\n")]
    parts = [part.strip() for part in _BREAK.split("\n".join(lines))]
    return " ".join(
        part for part in parts if part and part.partition(" ")[0] not in _ABOUT_THE_ROUTE
    )


def is_kernel_route(words: str) -> bool:
    """Whether it is a route that the kernel made by itself, such as that of an address."""
    return " proto kernel " in f" {words} "


def is_ipv6_default(words: str) -> bool:
    """What family a `default` line speaks of.

    `ip` says `via inet6` where the next hop is of the other family, and `pref` of IPv6 alone.
    """
    if " via inet6 " in f" {words} ":
        return False
    hop = re.search(r"(?:^| )via (\S+)", words)
    return ":" in hop[1] if hop else " pref " in f" {words} "


def split_line(line: str) -> tuple[str, str]:
    """The prefix of a line, and all the rest (with the type, if there is one).

    Raises:
        LineError: there is no prefix.
    """
    words = line.split()
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
    """A prefix's packed address and its length; an address alone is a host prefix.

    Args:
        text: ADDRESS[/LENGTH] or `default`.
        is_ipv6_default: what `default` means.

    Raises:
        LineError: it is none. Host bits are not looked at.
    """
    if text == "default":
        return (bytes(16) if is_ipv6_default else bytes(4)), 0
    address, slash, length = text.partition("/")
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    try:
        packed = socket.inet_pton(family, address)
    except (OSError, ValueError):
        raise LineError(f"{text!r} is not an IP prefix (like 10.0.0.0/8)") from None
    width = 8 * len(packed)
    if not slash:
        return packed, width
    if not (length.isascii() and length.isdigit()) or int(length) > width:
        raise LineError(f"{text!r}: a prefix length is 0 to {width}")
    return packed, int(length)


def parse_attributes(rest: str) -> RouteAttributes:
    """What stands in a line beside the prefix.

    Raises:
        LineError: a word that is not understood, or one that cannot be obeyed.
    """
    words = iter(rest.split())
    route_type = "unicast"
    metric = tag = 0
    single = _NextHop()
    several: list[_NextHop] = []
    for word in words:
        if word in ROUTE_TYPES:
            route_type = word
        elif word == "table":
            _main_table(_value(word, words))
        elif word == "metric":
            metric = _number(word, words)
        elif word == "tag":
            tag = _number(word, words)
        elif word == "nexthop":
            several.append(_NextHop())
        elif word in _INFORMATION:
            _value(word, words)
        elif word not in _FLAGS_WITHOUT_MEANING:
            (several[-1] if several else single).take(word, words)
    if several and not single.is_empty:
        raise LineError("give `via` and `dev`, or several `nexthop`, not both")
    next_hops = several or ([] if single.is_empty else [single])
    if route_type != "unicast":
        if not all(next_hop.is_of_no_route for next_hop in next_hops):
            raise LineError(f"a {route_type} route has no next hop")
        next_hops = []
    elif not next_hops:
        raise LineError("a unicast route needs `via`, `dev` or several `nexthop`")
    return RouteAttributes(
        route_type, tuple(next_hop.finished() for next_hop in next_hops), metric, tag
    )


def _main_table(table: str) -> None:
    if table not in _MAIN_TABLE:
        raise LineError(
            f"table {table} cannot be chosen here: routed keeps the table of its `fib.table`"
        )


class _NextHop:
    """A next hop while its words are read."""

    def __init__(self) -> None:
        self._via: str | None = None
        self._dev: str | None = None
        self._weight = 1
        self._is_onlink = False
        self.is_empty = True

    @property
    def is_of_no_route(self) -> bool:
        """What Linux shows beside a blackhole: nothing, or the loopback."""
        return self._via is None and self._dev in (None, "lo") and not self._is_onlink

    def take(self, word: str, words: Iterator[str]) -> None:
        """Read one word, and its value."""
        self.is_empty = False
        match word:
            case "via":
                value = _value(word, words)
                self._via = _value(word, words) if value in ("inet", "inet6") else value
            case "dev":
                self._dev = _value(word, words)
            case "weight":
                self._weight = _number(word, words)
            case "onlink":
                self._is_onlink = True
            case _ if word in _NOT_KEPT:
                raise LineError(
                    f"{word!r} cannot be kept: take it out, if the route may do without"
                )
            case _:
                raise LineError(f"{word!r} is not understood here")

    def finished(self) -> RouteNextHop:
        """The next hop."""
        if self._via is None and self._dev is None:
            raise LineError("a next hop needs `via`, `dev` or both")
        return RouteNextHop(self._via, self._dev, self._weight, self._is_onlink)


def _value(word: str, words: Iterator[str]) -> str:
    value = next(words, None)
    if value is None:
        raise LineError(f"{word} needs a value after it")
    return value


def _number(word: str, words: Iterator[str]) -> int:
    value = _value(word, words)
    if not (value.isascii() and value.isdigit()) or len(value) > 10:
        raise LineError(f"{word} needs a number, not {value!r}")
    return int(value)
