"""Lines of `ip route`, read."""

from __future__ import annotations

from pathlib import Path

import pytest

from ipc.control import RouteAttributes, RouteNextHop
from routectl.iproute import (
    LineError,
    is_ipv6_default,
    is_kernel_route,
    join_lines,
    parse_attributes,
    parse_prefix,
    read_route,
    split_line,
)
from routed.config import iproute2_names


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
            "10.0.0.0/8 tos 0x10 via 192.0.2.1 dev eth0 scope global src 192.0.2.9 realms 3/4 "
            "mtu lock 1400 rto_min lock 200ms congctl reno",
            (b"\n\0\0\0", 8),
            RouteAttributes(
                next_hops=(RouteNextHop("192.0.2.1", "eth0"),),
                kernel_attributes=(
                    ("tos", "0x10"), ("src", "192.0.2.9"), ("realm", "3/4"), ("mtu", "lock 1400"),
                    ("rto_min", "lock 200ms"), ("congctl", "reno"),
                ),
            ),
        ),
        ("192.0.2.9 dev eth0 scope global", (b"\xc0\0\2\x09", 32),
         RouteAttributes(
             next_hops=(RouteNextHop(None, "eth0"),), kernel_attributes=(("scope", "global"),)
         )),
        ("::/0 dev eth0 scope global pref high", (bytes(16), 0),
         RouteAttributes(
             next_hops=(RouteNextHop(None, "eth0"),), kernel_attributes=(("pref", "high"),)
         )),
        ("local 10.0.0.0/8 dev lo scope host", (b"\n\0\0\0", 8),
         RouteAttributes("local", (RouteNextHop(None, "lo"),))),
        ("9 10.0.0.0/8", (b"\n\0\0\0", 8), RouteAttributes("throw")),
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
    read_route(line)


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
        ("10.0.0.0/8 dev eth0 rtt 5", "'rtt' cannot be kept"),
        ("10.0.0.0/8 dev eth0 mtu", "mtu needs a value after it"),
        ("10.0.0.0/8 dev eth0 mtu lock", "mtu needs a value after it"),
        ("10.0.0.0/8 dev eth0 mtu 1400 mtu 1500", "'mtu' is given twice"),
        ("local 10.0.0.0/8", "a local route needs `via`, `dev`"),
        ("local 10.0.0.0/8 via 192.0.2.1 dev eth0", "a local route needs `dev`, and no `via`"),
        ("10.0.0.0/8 dev eth0 table 100", "it is a route of table '100', which is not the one"),
        ("10.0.0.0/8 dev eth0 nexthop via 192.0.2.1", "not both"),
        ("10.0.0.0/8 dev eth0 shiny", "'shiny' is not supported here"),
        ("10.0.0.0/8", "a unicast route needs"),
        ("10.0.0.0/8 nhid 7 proto static", "nhid '7' names next hops of the kernel"),
        ("nat 10.0.0.0/8", "a route of type nat cannot be injected"),
        ("blackhole 10.0.0.0/8 via 192.0.2.1", "a blackhole route has no next hop"),
        ("nexthop via 192.0.2.1 dev eth0", "there is none on the line before"),
        ("10.0.0.0/8 nexthop weight 2", "a next hop needs `via`, `dev` or both"),
        ("10.0.0.0/8 dev eth0 expires 99sec", "give the import a `lease`"),
        ('[{"dst":"default"}]', "is JSON: give what `ip route` prints without `-j`"),
        ("4 10.0.0.0/8", "a route of type anycast cannot be injected"),
    ],
)
def test_an_unsupported_option_is_refused(line: str, problem: str) -> None:
    with pytest.raises(LineError) as caught:
        read(line)
    assert problem in str(caught.value)


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("10.0.0.0/8 via 10.0.0.2 weight 0", "a weight is 1 to 256, not 0"),
        ("10.0.0.0/8 nexthop dev a weight 257 nexthop dev b", "a weight is 1 to 256, not 257"),
        ("10.0.0.0/8 dev a metric 4294967295", "a metric is 0 to 4294967294"),
        ("10.0.0.0/8 dev a tag 4294967296", "a tag is 0 to 4294967295"),
        ("10.0.0.0/8 via 10.0.0.2/32", "'10.0.0.2/32' is not an IP address"),
        ("10.0.0.0/8 via foo", "'foo' is not an IP address"),
        ("10.0.0.0/8 via 224.0.0.1", "224.0.0.1 cannot be a next hop"),
        ("10.0.0.0/8 via 127.0.0.1", "127.0.0.1 cannot be a next hop"),
        ("10.0.0.0/8 via 0.0.0.0", "0.0.0.0 cannot be a next hop"),
        ("2001:db8::/32 via ::1", "::1 cannot be a next hop"),
        ("2001:db8::/32 via ff02::1 dev a", "ff02::1 cannot be a next hop"),
        ("2001:db8::/32 via fe80::1", "fe80::1 is link-local: name the interface with `dev`"),
        ("2001:db8::/32 via fe80::1%eth0", "carries a zone"),
        ("10.0.0.0/8 via 10.0.0.2 onlink", "`onlink` needs `via` and `dev`"),
        ("10.0.0.0/8 dev toolongdevicename123", "is no name of an interface"),
        ("2001:db8::/32 via 10.0.0.2 dev a", "an IPv6 route needs an IPv6 next hop"),
        ("10.0.0.0/8 " + "nexthop dev a " * 257, "a route has at most 256 next hops"),
    ],
)
def test_a_value_that_no_route_can_have_is_an_error_of_its_line(line: str, problem: str) -> None:
    with pytest.raises(LineError) as caught:
        read(line)
    assert problem in str(caught.value)


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("10.0.0.0/8 via 10.0.0.2 via 10.0.1.2", "'via' is given twice"),
        ("10.0.0.0/8 via 10.0.0.2 dev a dev b", "'dev' is given twice"),
        ("10.0.0.0/8 nexthop via 10.0.0.2 via 10.0.1.2", "'via' is given twice"),
        ("10.0.0.0/8 nexthop dev a weight 1 weight 2", "'weight' is given twice"),
        ("10.0.0.0/8 dev a metric 1 metric 2", "'metric' is given twice"),
        ("10.0.0.0/8 dev a metric 0 metric 2", "'metric' is given twice"),
        ("10.0.0.0/8 dev a tag 1 tag 1", "'tag' is given twice"),
        ("10.0.0.0/8 blackhole unreachable", "a route is blackhole or unreachable, not both"),
        ("blackhole 10.0.0.0/8 unicast", "a route is blackhole or unicast, not both"),
        ("10.0.0.0/8 via inet fe80::2 dev a", "fe80::2 is not an address of the family inet"),
        ("10.0.0.0/8 via inet6 10.0.0.2", "10.0.0.2 is not an address of the family inet6"),
    ],
)
def test_what_contradicts_itself_is_an_error(line: str, problem: str) -> None:
    """`ip route` refuses some of these, and uses the last value of others."""
    with pytest.raises(LineError) as caught:
        read(line)
    assert problem in str(caught.value)


@pytest.mark.parametrize(
    "line",
    [
        "x" * 2_000_000,
        "10.0.0.0/" + "8" * 2_000_000,
        "10.0.0.0/8 via " + "1" * 2_000_000,
        "10.0.0.0/8 dev " + "x" * 2_000_000,
        "10.0.0.0/8 dev a metric " + "1" * 2_000_000,
        "10.0.0.0/8 dev a table " + "1" * 2_000_000,
        "10.0.0.0/8 nhid " + "1" * 2_000_000,
        "10.0.0.0/8 " + "x" * 2_000_000,
        "[{" + "x" * 2_000_000,
    ],
    ids=lambda line: line[:30],
)
def test_an_error_quotes_little_of_a_long_line(line: str) -> None:
    with pytest.raises(LineError) as caught:
        read(line)
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize(
    ("line", "route_type"),
    [("6 10.0.0.0/8 proto 3", "blackhole"), ("1 10.0.0.0/8 dev a", "unicast")],
)
def test_a_type_may_be_a_number_as_ip_prints_it(line: str, route_type: str) -> None:
    assert read_route(line)[3].type == route_type


@pytest.mark.parametrize("name", ["bs\\", "#x", ";y", "a\\b"])
def test_a_name_is_kept_whole(name: str) -> None:
    """Linux allows these names of interfaces, and `ip route` prints them so."""
    text = join_lines(f"10.0.0.0/8 via 10.0.0.2 dev {name} \n")
    assert read_route(text)[3].next_hops == (RouteNextHop("10.0.0.2", name),)


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
    assert is_kernel_route("10.0.0.0/8 dev eth0 proto 2 scope 253 src 10.0.0.1")  # ip -N
    assert not is_kernel_route("10.0.0.0/8 dev eth0 proto 205")
    assert not is_kernel_route("10.0.0.0/8 dev eth0 proto static")


def test_a_line_may_name_the_table_for_which_it_is_meant() -> None:
    line = "10.0.0.0/8 via 192.0.2.1 table 100"
    assert read_route(line, "100")[3] == read_route("10.0.0.0/8 via 192.0.2.1")[3]
    with pytest.raises(LineError, match="it is a route of table 'main', which is not the one"):
        read_route("10.0.0.0/8 via 192.0.2.1 table main", "100")


@pytest.fixture
def _names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(iproute2_names, "FOLDERS", (tmp_path,))
    (tmp_path / "rt_dsfield").write_text("0x00\tdefault\n0x20 CS1\n")
    (tmp_path / "rt_realms").write_text("9 nine\n7 twice\n8 twice\n")
    (tmp_path / "rt_scopes").write_text("77 far\n")


@pytest.mark.usefixtures("_names")
@pytest.mark.parametrize(
    ("words", "attributes"),
    [
        ("tos CS1", {"tos": "0x20"}),
        ("tos default", {"tos": "0x00"}),
        ("realms nine/4 scope far", {"realm": "9/4", "scope": "77"}),
        ("nexthop realms nine dev a nexthop realms nine dev b", {"realm": "9"}),
    ],
)
def test_names_of_iproute2_become_numbers(words: str, attributes: dict[str, str]) -> None:
    hops = "" if "nexthop" in words else "dev eth0 "
    *_, found = read_route(f"10.0.0.0/8 {hops}{words}")
    assert dict(found.kernel_attributes) == attributes


@pytest.mark.usefixtures("_names")
@pytest.mark.parametrize(
    ("words", "problem"),
    [
        ("tos lowdelay", "tos: 'lowdelay' is no name of rt_dsfield"),
        ("realms twice", "realm: 'twice' stands for"),
        ("realms 3 realms 4", "'realms' is given twice"),
    ],
)
def test_a_name_that_iproute2_does_not_have_is_an_error(words: str, problem: str) -> None:
    with pytest.raises(LineError, match=problem):
        read_route(f"10.0.0.0/8 dev eth0 {words}")
