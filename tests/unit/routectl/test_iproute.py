"""Lines of `ip route`, read."""

from __future__ import annotations

import pytest

from ipc.control import RouteAttributes, RouteNextHop
from routectl.iproute import (
    LineError,
    is_ipv6_default,
    is_kernel_route,
    join_lines,
    parse_attributes,
    parse_prefix,
    split_line,
)


@pytest.mark.parametrize(
    ("line", "prefix", "attributes"),
    [
        (
            "10.0.0.0/8 via 192.0.2.1 dev eth0 proto static metric 20",
            (b"\n\0\0\0", 8),
            RouteAttributes(next_hops=(RouteNextHop("192.0.2.1", "eth0"),), metric=20),
        ),
        ("192.0.2.9 dev eth0 scope link", (b"\xc0\0\2\x09", 32),
         RouteAttributes(next_hops=(RouteNextHop(None, "eth0"),))),
        ("blackhole 198.51.100.0/24 tag 7", (b"\xc6\x33\x64\0", 24),
         RouteAttributes("blackhole", tag=7)),
        ("198.51.100.0/24 blackhole", (b"\xc6\x33\x64\0", 24), RouteAttributes("blackhole")),
        ("default via fe80::1 dev eth0 onlink pref medium", (bytes(16), 0),
         RouteAttributes(next_hops=(RouteNextHop("fe80::1", "eth0", is_onlink=True),))),
        (
            "203.0.113.0/24 nexthop via 192.0.2.1 weight 2 nexthop dev eth1 linkdown",
            (b"\xcb\0\x71\0", 24),
            RouteAttributes(
                next_hops=(RouteNextHop("192.0.2.1", None, 2), RouteNextHop(None, "eth1"))
            ),
        ),
    ],
)  # fmt: skip
def test_lines_of_ip_route_are_understood(
    line: str, prefix: tuple[bytes, int], attributes: RouteAttributes
) -> None:
    text, rest = split_line(line)
    assert parse_attributes(rest) == attributes
    assert parse_prefix(text, is_ipv6_default=is_ipv6_default(rest)) == prefix


def read(line: str) -> None:
    text, rest = split_line(line)
    parse_attributes(rest)
    parse_prefix(text)


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("", "a prefix is missing"),
        ("blackhole", "a prefix is missing after blackhole"),
        ("10.0.0/8 dev eth0", "'10.0.0/8' is not an IP prefix"),
        ("10.0.0.0/33 dev eth0", "a prefix length is 0 to 32"),
        ("10.0.0.0/+8 dev eth0", "a prefix length is 0 to 32"),
        ("10.0.0.0/8 via", "via needs a value after it"),
        ("10.0.0.0/8 dev eth0 metric x", "metric needs a number, not 'x'"),
        ("10.0.0.0/8 dev eth0 src 192.0.2.1", "'src' cannot be kept"),
        ("10.0.0.0/8 dev eth0 table 100", "table 100 cannot be chosen here"),
        ("10.0.0.0/8 dev eth0 nexthop via 192.0.2.1", "not both"),
        ("10.0.0.0/8 dev eth0 shiny", "'shiny' is not understood here"),
        ("10.0.0.0/8", "a unicast route needs"),
        ("10.0.0.0/8 nhid 7 proto static", "a unicast route needs"),
        ("throw 10.0.0.0/8", "a route of type throw cannot be injected"),
        ("blackhole 10.0.0.0/8 via 192.0.2.1", "a blackhole route has no next hop"),
        ("nexthop via 192.0.2.1 dev eth0", "there is none on the line before"),
        ("10.0.0.0/8 nexthop weight 2", "a next hop needs `via`, `dev` or both"),
    ],
)
def test_what_cannot_be_obeyed_is_refused(line: str, problem: str) -> None:
    with pytest.raises(LineError) as caught:
        read(line)
    assert problem in str(caught.value)


@pytest.mark.parametrize(
    ("lines", "line"),
    [
        ("# a comment", ""),
        ("; SBL1234", ""),
        ("10.0.0.0/8 dev eth0 ; SBL1234", "10.0.0.0/8 dev eth0"),
        ("10.0.0.0/8 dev a#b;c", "10.0.0.0/8 dev a#b;c"),
        ("10.0.0.0/8 dev a\\b metric 1", "10.0.0.0/8 dev a\\b metric 1"),
        (
            "10.0.0.0/8 metric 20 # two\n\tnexthop via 192.0.2.1 # first\n\tnexthop dev b \n",
            "10.0.0.0/8 metric 20 nexthop via 192.0.2.1 nexthop dev b",
        ),
        (
            "2001:db8::/48 pref medium\\\tnexthop via fe80::1 dev a \\\tnexthop dev b",
            "2001:db8::/48 pref medium nexthop via fe80::1 dev a nexthop dev b",
        ),
        ("10.0.0.0/8 nhid 1 \\    nexthop dev a \\", "10.0.0.0/8 nhid 1 nexthop dev a"),
        (
            "10.0.0.0/8 nhid 1\n\tnh_info id 1 group 2/3 \\\tnexthop dev a",
            "10.0.0.0/8 nhid 1 nexthop dev a",
        ),
    ],
)
def test_the_lines_of_a_route_become_one(lines: str, line: str) -> None:
    assert join_lines(lines) == line


@pytest.mark.parametrize(
    ("words", "is_ipv6"),
    [
        ("via 192.0.2.1 dev eth0", False),
        ("via fe80::1 dev eth0", True),
        ("via inet6 fe80::1 dev eth0", False),
        ("dev eth0 metric 1024 pref medium", True),
        ("dev eth0 scope link", False),
        ("nexthop via fe80::1 dev a nexthop via fe80::1 dev b", True),
        ("unreachable dev lo metric 4294967295 pref medium", True),
    ],
)
def test_the_family_of_a_default_route(words: str, is_ipv6: bool) -> None:
    assert is_ipv6_default(words) is is_ipv6


def test_a_route_of_the_kernels_own_is_known_by_its_protocol() -> None:
    assert is_kernel_route("10.0.0.0/8 dev eth0 proto kernel scope link src 10.0.0.1")
    assert not is_kernel_route("10.0.0.0/8 dev eth0 proto static")
