"""A whole route message in the words of `ip route`, and bytes that are none."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from routed.model.prefix import Address
from routed.netlink.message import NetlinkDecodeError, Rta, pack_attribute, pack_u32_attribute
from routed.netlink.route_message import decode_route_message, route_words
from tests.fakes.route_messages import RouteForm


def words(form: RouteForm) -> str:
    route = decode_route_message(form.payload())
    assert route is not None
    return route_words(route, lambda ifindex: f"if{ifindex}")


METRICS = b"".join(
    [
        pack_u32_attribute(1, 1 << 2 | 1 << 13),
        pack_u32_attribute(2, 1400),
        pack_u32_attribute(13, 200),
        pack_u32_attribute(12, 1),
        pack_attribute(16, b"cubic\0"),
        pack_u32_attribute(4, 80),
    ]
)


@pytest.mark.parametrize(
    ("form", "expected"),
    [
        (RouteForm("0.0.0.0/0", "192.0.2.1", 3), "0.0.0.0/0 via 192.0.2.1 dev if3 proto static"),
        (RouteForm("::/0", "fe80::1", 3, priority=1024),
         "::/0 via fe80::1 dev if3 proto static metric 1024"),
        (RouteForm("10.0.0.0/8", ifindex=3, protocol=3), "10.0.0.0/8 dev if3 proto boot"),
        (RouteForm("10.0.0.0/8", ifindex=3, scope=0),
         "10.0.0.0/8 dev if3 proto static scope global"),
        (RouteForm("10.0.0.0/8", "192.0.2.1", 3, scope=253),
         "10.0.0.0/8 via 192.0.2.1 dev if3 proto static scope link"),
        (RouteForm("10.0.0.0/8", kind=6), "blackhole 10.0.0.0/8 proto static"),
        (RouteForm("10.0.0.0/8", kind=2, ifindex=1, scope=254, table=255, protocol=2),
         "local 10.0.0.0/8 dev if1 proto kernel table local"),
        (RouteForm("10.0.0.0/8", kind=77), "type-77 10.0.0.0/8 proto static"),
        (RouteForm("10.0.0.0/8", "2001:db8::1", 3),
         "10.0.0.0/8 via 2001:db8::1 dev if3 proto static"),
        (RouteForm("10.0.0.0/8", "192.0.2.1", 3, flags=4),
         "10.0.0.0/8 via 192.0.2.1 dev if3 onlink proto static"),
        (RouteForm("10.0.0.0/8", hops=(("192.0.2.1", 3, 1), ("192.0.2.2", 4, 200))),
         "10.0.0.0/8 proto static nexthop via 192.0.2.1 dev if3 weight 1 "
         "nexthop via 192.0.2.2 dev if4 weight 200"),
        (RouteForm("10.0.0.0/8", "192.0.2.1", 3, table=2**32 - 1, protocol=12),
         "10.0.0.0/8 via 192.0.2.1 dev if3 proto 12 table 4294967295"),
        (RouteForm("10.0.0.0/8", extra=(pack_u32_attribute(Rta.NH_ID, 12),)),
         "10.0.0.0/8 nhid 12 proto static"),
        (RouteForm("10.0.0.0/8", "192.0.2.1", 3, tos=0x10, extra=(
            pack_attribute(Rta.PREFSRC, Address.parse("192.0.2.9").packed),
            pack_attribute(Rta.METRICS, METRICS),
            pack_u32_attribute(Rta.FLOW, 3 << 16 | 4),
        )),
         "10.0.0.0/8 via 192.0.2.1 dev if3 proto static tos 0x10 src 192.0.2.9 mtu lock 1400 "
         "rto_min lock 200ms features ecn congctl cubic rtt 10ms realm 3/4"),
        (RouteForm("2001:db8::/32", "fe80::1", 3, source_bits=32, extra=(
            pack_attribute(2, Address.parse("2001:db8:1::").packed[:16]),
            pack_attribute(Rta.PREF, b"\x01"),
            pack_attribute(12, struct.pack("=IIiIIIII", 0, 0, 3000, 0, 0, 0, 0, 0)),
        )),
         None),
        (RouteForm("10.0.0.0/8", "192.0.2.1", 3, extra=(
            pack_attribute(Rta.ENCAP_TYPE, b"\x06\x00"), pack_attribute(Rta.ENCAP, b"\0" * 8),
            pack_attribute(200, b"\0"),
        )),
         "10.0.0.0/8 via 192.0.2.1 dev if3 proto static encap type 6 attribute 200"),
    ],
)  # fmt: skip
def test_everything_that_the_kernel_says_is_in_the_words(
    form: RouteForm, expected: str | None
) -> None:
    if expected is None:
        with pytest.raises(NetlinkDecodeError, match="host bits"):
            words(form)
        return
    assert words(form) == expected


def test_a_source_prefix_a_preference_and_an_expiry_are_named() -> None:
    form = RouteForm("2001:db8::/32", "fe80::1", 3, source_bits=48, extra=(
        pack_attribute(2, Address.parse("2001:db8:1::").packed),
        pack_attribute(Rta.PREF, b"\x01"),
        pack_attribute(12, struct.pack("=IIiIIIII", 0, 0, 3000, 0, 0, 0, 0, 0)),
    ))  # fmt: skip
    assert words(form) == (
        "2001:db8::/32 via fe80::1 dev if3 proto static from 2001:db8:1::/48 pref high "
        "expires 30sec"
    )


@pytest.mark.parametrize("name", [b"", b"a b", b"a\nblackhole", b"\x10\x80", "\u00e4".encode()])
def test_a_name_that_is_no_word_makes_no_other_words(name: bytes) -> None:
    metrics = pack_attribute(16, name + b"\0")
    form = RouteForm("10.0.0.0/8", "192.0.2.1", 3, extra=(pack_attribute(Rta.METRICS, metrics),))
    with pytest.raises(NetlinkDecodeError, match="congestion control"):
        decode_route_message(form.payload())


def test_a_route_of_another_family_is_none() -> None:
    assert decode_route_message(b"\x1c" + RouteForm("10.0.0.0/8").payload()[1:]) is None


@given(st.binary(max_size=200), st.integers(0, 60))
def test_any_bytes_are_a_route_or_a_decode_error(noise: bytes, keep: int) -> None:
    whole = RouteForm("10.0.0.0/8", hops=(("192.0.2.1", 3, 1), ("192.0.2.2", 4, 9))).payload()
    for payload in (noise, whole[:keep], whole[:keep] + noise, whole + noise):
        try:
            route = decode_route_message(payload)
        except NetlinkDecodeError:
            continue
        if route is not None:
            assert route_words(route, str)
