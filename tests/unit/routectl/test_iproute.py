"""Lines of `ip route`, read."""

from __future__ import annotations

import pytest

from ipc.control import RouteAttributes, RouteNextHop
from routectl.iproute import LineError, parse_attributes, parse_prefix, split_line


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
        ("default via inet6 fe80::1 dev eth0 onlink pref medium", (bytes(16), 0),
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
    assert parse_prefix(text, is_ipv6_default="inet6" in line) == prefix


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
        ("10.0.0.0/8 dev eth0 src 192.0.2.1", "'src' is not understood here"),
        ("10.0.0.0/8 dev eth0 table 100", "'table' is not understood here"),
        ("10.0.0.0/8 dev eth0 nexthop via 192.0.2.1", "not both"),
        ("10.0.0.0/8 nexthop weight 2", "a next hop needs `via`, `dev` or both"),
    ],
)
def test_what_cannot_be_obeyed_is_refused(line: str, problem: str) -> None:
    with pytest.raises(LineError) as caught:
        read(line)
    assert problem in str(caught.value)
