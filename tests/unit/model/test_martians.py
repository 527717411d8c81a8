"""Martians: prefixes that no protocol may announce, one by one and in bulk."""

from __future__ import annotations

import ipaddress

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from routed.config.load import ConfigError, load_text
from routed.model.martians import (
    MARTIAN_BLOCKS,
    NO_EXCEPTIONS,
    Martian,
    MartianRules,
    find_martian,
)
from routed.model.prefix import Family, Prefix

PREFIXES = st.sampled_from(Family).flatmap(
    lambda family: st.builds(
        lambda bits, length: Prefix.masked(family, bits, length),
        st.one_of(
            st.integers(0, (1 << family.width) - 1),
            st.sampled_from(
                [
                    bits
                    for block, _ in MARTIAN_BLOCKS
                    if block.family is family
                    for bits in (block.addr_bits, block.last_bits)
                ]
            ),
        ),
        st.integers(0, family.width),
    )
)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("0.0.0.0/8", Martian.THIS_NETWORK),
        ("0.0.0.0/32", Martian.THIS_NETWORK),
        ("0.1.2.0/24", Martian.THIS_NETWORK),
        ("127.0.0.0/8", Martian.LOOPBACK),
        ("127.0.0.53/32", Martian.LOOPBACK),
        ("169.254.0.0/16", Martian.LINK_LOCAL),
        ("169.254.169.254/32", Martian.LINK_LOCAL),
        ("224.0.0.0/3", Martian.MULTICAST),
        ("224.0.0.0/4", Martian.MULTICAST),
        ("239.255.61.98/32", Martian.MULTICAST),
        ("240.0.0.0/4", Martian.RESERVED),
        ("255.255.255.255/32", Martian.RESERVED),
        ("::/128", Martian.UNSPECIFIED),
        ("::/127", Martian.LOOPBACK),
        ("::1/128", Martian.LOOPBACK),
        ("::ffff:0:0/96", Martian.IPV4_MAPPED),
        ("::ffff:10.0.0.0/104", Martian.IPV4_MAPPED),
        ("fe80::/10", Martian.LINK_LOCAL),
        ("fe80::/64", Martian.LINK_LOCAL),
        ("fe80::2/128", Martian.LINK_LOCAL),
        ("ff00::/8", Martian.MULTICAST),
        ("ff12::/16", Martian.MULTICAST),
    ],
)
def test_a_prefix_inside_a_block_is_a_martian(text: str, reason: Martian) -> None:
    assert find_martian(Prefix.parse(text)) is reason


@pytest.mark.parametrize(
    "text",
    [
        "0.0.0.0/0", "0.0.0.0/1", "128.0.0.0/1", "192.0.0.0/2", "1.0.0.0/8", "126.0.0.0/7",
        "10.0.0.0/8", "100.64.0.0/10", "169.253.0.0/16", "169.254.0.0/15", "223.255.255.0/24",
        "::/0", "::/1", "::/8", "::2/128", "64:ff9b::/96", "2000::/3", "fc00::/7", "fd00::/8",
        "fe00::/9", "fe80::/9", "fec0::/10", "8000::/1",
    ],
)  # fmt: skip
def test_what_covers_other_addresses_as_well_is_none(text: str) -> None:
    assert find_martian(Prefix.parse(text)) is None


@given(PREFIXES)
def test_a_martian_has_martian_addresses_alone(prefix: Prefix) -> None:
    """Held against the blocks one address at a time: both ends and the middle of a prefix."""
    ends = {prefix.addr_bits, prefix.last_bits, (prefix.addr_bits + prefix.last_bits) // 2}
    outside = [
        bits
        for bits in ends
        if not any(
            block.family is prefix.family and block.addr_bits <= bits <= block.last_bits
            for block, _ in MARTIAN_BLOCKS
        )
    ]
    if find_martian(prefix) is not None:
        assert not outside
    elif not outside:  # some address between the ends is none
        assert prefix.prefix_len < 8


@given(PREFIXES)
@example(Prefix.parse("::/127"))
def test_the_standard_library_takes_no_martian_for_a_global_address(prefix: Prefix) -> None:
    if find_martian(prefix) is not None:
        theirs = ipaddress.ip_network(str(prefix))
        # A network of two special addresses is none of the blocks of `is_global`: ask for each.
        ends = theirs[0], theirs[-1]
        assert not all(end.is_global for end in ends) or theirs.is_multicast


@given(st.lists(PREFIXES), st.lists(PREFIXES, max_size=3), st.lists(PREFIXES, max_size=3))
def test_in_bulk_the_same_are_found(
    prefixes: list[Prefix], allowed: list[Prefix], static: list[Prefix]
) -> None:
    rules = MartianRules.of(allowed, static)
    for family in Family:
        mine = [prefix for prefix in prefixes if prefix.family is family]
        found = rules.find_all(family, [prefix.as_int for prefix in mine])
        assert found == [
            (prefix.as_int, reason) for prefix in mine if (reason := rules.find(prefix)) is not None
        ]


def test_what_is_allowed_is_allowed_with_all_inside_it_and_a_static_route_by_itself() -> None:
    rules = MartianRules.of(
        [Prefix.parse("240.0.0.0/4")],
        [Prefix.parse("169.254.0.0/16"), Prefix.parse("10.0.0.0/8")],
    )
    assert rules.exact == {Prefix.parse("169.254.0.0/16")}
    assert rules.find(Prefix.parse("241.0.0.0/8")) is None
    assert rules.find(Prefix.parse("224.0.0.0/3")) is Martian.MULTICAST
    assert rules.find(Prefix.parse("169.254.0.0/16")) is None
    assert rules.find(Prefix.parse("169.254.1.0/24")) is Martian.LINK_LOCAL
    assert NO_EXCEPTIONS.find(Prefix.parse("241.0.0.0/8")) is Martian.RESERVED


def test_the_configuration_names_exceptions() -> None:
    config = load_text(
        "router_id: 10.255.0.1\nuser: nobody\nallow_martians: [240.0.0.0/4]\n"
        "static: [{prefix: 169.254.0.0/16, type: blackhole}]\n"
    )
    assert config.martians == MartianRules(
        (Prefix.parse("240.0.0.0/4"),), frozenset({Prefix.parse("169.254.0.0/16")})
    )
    with pytest.raises(ConfigError, match=r"allow_martians\[0\]: no address of 10.0.0.0/8 is a"):
        load_text("router_id: 10.255.0.1\nuser: nobody\nallow_martians: [10.0.0.0/8]\n")
