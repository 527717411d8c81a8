"""Prefixes and addresses: canonical by construction, text as the RFCs have it."""

from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from routed.model.prefix import Address, Family, Prefix
from routed.model.seqno import is_newer, next_seqno, seqno_distance

FAMILIES = st.sampled_from(Family)
ADDRESSES = FAMILIES.flatmap(
    lambda family: st.integers(0, (1 << family.width) - 1).map(lambda bits: Address(family, bits))
)


@given(ADDRESSES)
def test_address_text_is_the_standard_librarys(address: Address) -> None:
    theirs = ipaddress.ip_address(address.packed)
    assert str(address) == str(theirs)
    assert Address.parse(str(theirs)) == address
    assert Address.unpack(theirs.packed) == address
    assert address.is_link_local == theirs.is_link_local
    assert address.is_multicast == theirs.is_multicast
    assert address.is_loopback == theirs.is_loopback


@given(st.text("0123456789.١ -+", max_size=15))
def test_what_is_an_ipv4_address_is_what_the_standard_library_says(text: str) -> None:
    try:
        theirs = int(ipaddress.IPv4Address(text))
    except ValueError:
        with pytest.raises(ValueError, match="is not an IP address"):
            Address.parse(text)
    else:
        assert Address.parse(text) == Address(Family.IPV4, theirs)


@given(ADDRESSES, st.integers(0, 128))
def test_prefix_text_and_containment_are_the_standard_librarys(
    address: Address, length: int
) -> None:
    prefix_len = length % (address.family.width + 1)
    prefix = Prefix.masked(address.family, address.addr_bits, prefix_len)
    theirs = ipaddress.ip_network(str(prefix))
    assert str(theirs) == str(prefix)
    assert Prefix.parse(str(prefix)) == prefix
    assert prefix.contains_address(address)
    assert prefix.covers(address.host_prefix())
    assert Prefix.from_wire(list(prefix.to_wire())) == prefix
    assert prefix.last_bits == int(theirs.broadcast_address)


@given(ADDRESSES, st.integers(0, 127))
def test_host_bits_are_refused_with_the_right_answer(address: Address, length: int) -> None:
    prefix_len = length % address.family.width
    if Prefix.masked(address.family, address.addr_bits, prefix_len).addr_bits == address.addr_bits:
        return
    with pytest.raises(ValueError, match="has host bits set; did you mean"):
        Prefix(address.family, address.addr_bits, prefix_len)


@pytest.mark.parametrize("text", ["", "x", "10.0.0.0/33", "::/129", "10.0.0.0/-1", "10.0.0/8"])
def test_what_is_no_prefix_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"prefix"):
        Prefix.parse(text)


def test_a_zone_belongs_to_dev() -> None:
    with pytest.raises(ValueError, match="`dev`"):
        Address.parse("fe80::1%eth0")


@given(st.integers(0, 2**32 - 1), st.integers(1, 2**31 - 1))
def test_serial_numbers_wrap(start: int, step: int) -> None:
    later = next_seqno(start, step)
    assert is_newer(later, start)
    assert not is_newer(start, later)
    assert seqno_distance(later, start) == step
    assert seqno_distance(start, later) == -step


def test_opposite_serial_numbers_have_no_order() -> None:
    assert not is_newer(0, 2**31)
    assert not is_newer(2**31, 0)
