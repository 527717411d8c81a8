"""Addresses that a neighbor may send from and name as next hops, and reports about others."""

from __future__ import annotations

import dataclasses

import pytest

from routed.model.link import InterfaceAddress
from routed.model.prefix import Address
from routed.nup.events import NeighborRow, TraceCode
from routed.nup.instance import NeighborInstance
from routed.nup.link.addresses import unusable_reason
from routed.nup.link.settings import UsageError
from routed.nup.wire.message import (
    DecodeError,
    DecodeReason,
    Goodbye,
    HeaderFlag,
    Hello,
    LinkAddress,
    Message,
    MessageType,
    Sender,
    Tlv,
    decode,
    encode,
)
from tests.fakes.fake_wire import FakeWire, Node, link_settings, router_id
from tests.fakes.nup_keys import ring
from tests.fakes.nup_pair import LOOPBACK, PEER, heartbeat, listening_instance

OURS = link_settings(1, 1)
OURS_IPV4 = Address.parse("10.0.0.1")


def naming(*addresses: str) -> bytes:
    named: list[Tlv] = [LinkAddress(Address.parse(address)) for address in addresses]
    tlvs: tuple[Tlv, ...] = (Hello(1000, 3, 1500, 0), *named)
    sender = Sender(router_id(2), 7)
    return encode(Message(MessageType.HEARTBEAT, HeaderFlag(0), 1, 1, sender, tlvs))


@pytest.mark.parametrize(
    ("address", "reason"),
    [
        ("10.0.0.1", "is our own address"),
        (str(OURS.local_address), "is our own address"),
        ("10.0.0.0", "is the network or broadcast address of 10.0.0.0/16"),
        ("10.0.255.255", "is the network or broadcast address of 10.0.0.0/16"),
        ("0.0.0.0", "is no unicast address"),
        ("255.255.255.255", "is no unicast address"),
        ("224.0.0.5", "is no unicast address"),
        ("fe80::", "is the anycast address of all routers"),
        ("10.0.0.2", ""),
        ("10.0.1.0", ""),
        ("fe80::2", ""),
    ],
)
def test_an_address_that_drops_packets_is_not_a_next_hop(address: str, reason: str) -> None:
    assert unusable_reason(OURS, Address.parse(address)) == reason


def test_both_addresses_of_a_point_to_point_subnet_are_good() -> None:
    narrow = dataclasses.replace(
        OURS, addresses=(InterfaceAddress(Address.parse("192.0.2.0"), 31),)
    )
    assert unusable_reason(narrow, Address.parse("192.0.2.1")) == ""


def with_named(address: str) -> tuple[FakeWire, Node, NeighborRow]:
    """Return b, whose neighbor a names this IPv4 address and advertises a prefix."""
    wire = FakeWire(1)
    a, b = wire.add_node("a"), wire.add_node("b")
    wire.connect("a", "b")
    local = a.links[1][1].local_address
    claimed = (InterfaceAddress(Address.parse(address), 16), InterfaceAddress(local, 64))
    wire.reconfigure(a, 1, dataclasses.replace(a.links[1][1], addresses=claimed))
    wire.originate("a", str(LOOPBACK))
    wire.run(2)
    (row,) = b.instance.neighbors(wire.now)
    return wire, b, row


@pytest.mark.parametrize("claimed", ["10.0.0.2", "10.0.0.0", "10.0.255.255"])
def test_a_neighbor_that_names_an_impossible_address_is_reached_by_another_and_named(
    claimed: str,
) -> None:
    """Its routes were installed with that address, and packets along them were lost."""
    wire, b, row = with_named(claimed)
    (hop,) = b.learned[LOOPBACK].next_hops
    assert hop.via == wire.nodes["a"].links[1][1].local_address
    assert row.problem.startswith(f"its address {claimed} is ")
    assert TraceCode.REFUSED_ADDRESS in b.trace_codes()


def test_an_address_of_another_link_of_ours_is_refused_as_well() -> None:
    instance = listening_instance()
    instance.link_up(link_settings(1, 2, 7), 0.0)
    instance.receive_datagram(naming("10.7.0.1"), PEER, 1, 255, 0.1)
    (row,) = instance.neighbors(0.1)
    assert row.problem == "its address 10.7.0.1 is our own address"


def test_a_sender_with_our_own_address_is_refused() -> None:
    instance = listening_instance()
    for source in (OURS.local_address, OURS_IPV4, Address.parse("10.0.255.255")):
        instance.receive_datagram(heartbeat(2), source, 1, 255, 0.1)
    assert instance.counters()[TraceCode.REFUSED_ADDRESS.value] == 3
    assert {row.router_id for row in instance.neighbors(0.1)} == {None}


def test_datagrams_from_beyond_the_link_are_named() -> None:
    instance = listening_instance()
    instance.receive_datagram(heartbeat(2), PEER, 1, 64, 0.1)
    off_link = Address.parse("192.0.2.9")
    instance.receive_datagram(heartbeat(2), off_link, 1, 255, 0.1)
    problems = {row.address: row.problem for row in instance.neighbors(0.1)}
    assert problems == {
        PEER: "hop limit 64, not 255: it is not on the link",
        off_link: "its address is on no subnet of eth1",
    }
    assert instance.neighbors(31.0) == []


@pytest.mark.parametrize("text", ["0.0.0.0", "224.0.0.5", "240.0.0.1", "255.255.255.255"])
def test_an_id_that_can_be_no_routers_is_refused(text: str) -> None:
    address = Address.parse(text)
    data = encode(
        Message(MessageType.CONTROL, HeaderFlag(0), 1, 1, Sender(address, 7), (Goodbye(),))
    )
    with pytest.raises(DecodeError) as caught:
        decode(data)
    assert caught.value.reason is DecodeReason.BAD_VALUE
    with pytest.raises(UsageError):
        NeighborInstance(address, 1, 1, listening_instance()._rng)


# One-sided configuration


def problems(keyed: str | None) -> dict[str, set[str]]:
    """Return the problems that two routers report of each other; one of them may have a key."""
    wire = FakeWire(1)
    nodes = [wire.add_node("a"), wire.add_node("b")]
    wire.connect("a", "b", key_rings={} if keyed is None else {keyed: ring()})
    wire.run(10)
    return {node.name: {row.problem for row in node.instance.neighbors(wire.now)} for node in nodes}


def test_a_key_on_one_side_only_is_named_on_both() -> None:
    assert problems("a") == {
        "a": {"no signature; this link requires one"},
        "b": {"one-way: it does not list us; it signs, and this link has no key"},
    }
    assert problems(None) == {"a": {""}, "b": {""}}


def test_a_neighbor_that_does_not_hear_us_is_named() -> None:
    wire = FakeWire(1)
    a, b = wire.add_node("a"), wire.add_node("b")
    wire.connect("a", "b")
    wire.run(2)
    wire.segments[0].drops = lambda sender, _receiver, _data: sender is a
    wire.run(10)
    (row,) = a.instance.neighbors(wire.now)
    assert row.problem == "one-way: it does not list us"
    assert b.instance.neighbors(wire.now) == []
