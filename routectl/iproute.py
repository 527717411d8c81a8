"""Routes as `ip route` writes them, a line each -> what `ipc.routes` packs.

    10.0.0.0/8 via 192.0.2.1 dev eth0 metric 20
    blackhole 198.51.100.0/24
    default via fe80::1 dev eth0
    203.0.113.0/24 nexthop via 192.0.2.1 dev eth0 weight 2 nexthop via 192.0.2.5 dev eth1

`metric` is the metric within the RIB, and `tag` is ours. What `ip route` prints for information
(`proto`, `scope`, `pref`, `src`-less flags such as `linkdown`) is read over; what would have to be
obeyed and cannot be (`src`, `mtu`, `table`, ...) is refused, rather than forgotten.

Failure: `LineError`, a sentence about one line.
"""

from __future__ import annotations

import socket
from collections.abc import Iterator

from ipc.control import RouteAttributes, RouteNextHop

__all__ = ["ROUTE_TYPES", "LineError", "parse_attributes", "parse_prefix", "split_line"]

ROUTE_TYPES = ("unicast", "blackhole", "unreachable", "prohibit")
"""The words of RouteType; a test holds them to it."""

_INFORMATION = {"proto", "protocol", "scope", "pref", "expires"}
_FLAGS_WITHOUT_MEANING = {"linkdown", "dead", "offload", "trap"}


class LineError(Exception):
    """A line that is no route; the text says why."""


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
    return RouteAttributes(
        route_type, tuple(next_hop.finished() for next_hop in next_hops), metric, tag
    )


class _NextHop:
    """A next hop while its words are read."""

    def __init__(self) -> None:
        self._via: str | None = None
        self._dev: str | None = None
        self._weight = 1
        self._is_onlink = False
        self.is_empty = True

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
