"""Our route codec against pyroute2's message classes, both ways, and against arbitrary bytes."""

from __future__ import annotations

import ipaddress
import struct
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyroute2.netlink.rtnl.rtmsg import rtmsg

from routed.fib.codec import (
    NLM_F_ACK,
    NLMSG_ERROR,
    NLMSG_HEADER,
    RTM_DELROUTE,
    RTM_NEWROUTE,
    DecodeError,
    NetlinkMessage,
    decode_error,
    decode_route,
    encode_operation,
    split_messages,
)
from routed.fib.ownership import KernelRoute, RouteKey, RouteValue
from routed.fib.plan import FibOp, OpKind
from routed.model.prefix import Address, Family, Prefix
from routed.model.route import NextHop, RouteType

FAMILIES = st.sampled_from(Family)


def addresses(family: Family) -> st.SearchStrategy[Address]:
    return st.integers(1, (1 << family.width) - 1).map(lambda bits: Address(family, bits))


@st.composite
def prefixes(draw: st.DrawFn, family: Family) -> Prefix:
    length = draw(st.integers(0, family.width))
    return Prefix.masked(family, draw(st.integers(0, (1 << family.width) - 1)), length)


@st.composite
def next_hops(draw: st.DrawFn, family: Family) -> NextHop:
    via_families = [family] if family is Family.IPV6 else list(Family)
    via = draw(st.none() | st.sampled_from(via_families).flatmap(addresses))
    weight, ifindex = draw(st.integers(1, 256)), draw(st.integers(1, 2**31 - 1))
    return NextHop(via, ifindex, weight, draw(st.booleans()))


@st.composite
def operations(draw: st.DrawFn) -> FibOp:
    family = draw(FAMILIES)
    route_type = draw(st.sampled_from(RouteType))
    hops = draw(st.lists(next_hops(family), min_size=1, max_size=5))
    value = RouteValue.canonical(route_type, tuple(hops) if route_type.has_next_hops else ())
    table_id, priority = draw(st.integers(1, 2**32 - 1)), draw(st.integers(1, 2**32 - 1))
    key = RouteKey(table_id, draw(prefixes(family)), 0, priority)
    return FibOp(draw(st.sampled_from(OpKind)), key, value)


def by_pyroute2(message: bytes) -> Any:
    decoded = rtmsg(message)
    decoded.decode()
    return decoded


@given(operations())
def test_pyroute2_reads_what_we_write(operation: FibOp) -> None:
    theirs = by_pyroute2(encode_operation(operation, 205, 77, NLM_F_ACK))
    _, key, value = operation
    is_removal = operation.kind is OpKind.REMOVE
    assert theirs["header"]["type"] == (RTM_DELROUTE if is_removal else RTM_NEWROUTE)
    assert theirs["header"]["sequence_number"] == 77
    assert theirs["family"] == key.prefix.family
    assert theirs["proto"] == 205
    assert theirs["dst_len"] == key.prefix.prefix_len
    destination = theirs.get_attr("RTA_DST")
    if key.prefix.prefix_len:
        assert int(ipaddress.ip_address(destination)) == key.prefix.addr_bits
    assert theirs.get_attr("RTA_PRIORITY") == key.priority
    assert (theirs.get_attr("RTA_TABLE") or theirs["table"]) == key.table_id
    if is_removal:
        assert theirs.get_attr("RTA_MULTIPATH") is None
        assert theirs.get_attr("RTA_OIF") is None
        return
    legs = theirs.get_attr("RTA_MULTIPATH") or []
    assert len(legs) == (len(value.next_hops) if len(value.next_hops) > 1 else 0)
    for leg, hop in zip(legs, value.next_hops, strict=False):
        assert (leg["oif"], leg["hops"] + 1) == (hop.ifindex, hop.weight)
        assert _via(leg) == hop.via
    if len(value.next_hops) == 1:
        assert theirs.get_attr("RTA_OIF") == value.next_hops[0].ifindex
        assert _via(theirs) == value.next_hops[0].via


def _via(message: Any) -> Address | None:
    gateway = message.get_attr("RTA_GATEWAY")
    if gateway is None:
        via = message.get_attr("RTA_VIA")
        gateway = via["addr"] if via else None
    return Address.unpack(ipaddress.ip_address(gateway).packed) if gateway else None


@given(operations())
def test_what_we_write_is_what_we_read(operation: FibOp) -> None:
    if operation.kind is OpKind.REMOVE:
        return
    (message,) = split_messages(encode_operation(operation, 205, 1))
    assert decode_route(message.payload) == KernelRoute(operation.key, 205, operation.value)


@given(operations())
def test_we_read_what_pyroute2_writes(operation: FibOp) -> None:
    key, value = operation.key, operation.value
    if len(value.next_hops) != 1 or value.next_hops[0].via is None:
        return
    (hop,) = value.next_hops
    assert hop.via is not None
    if hop.via.family is not key.prefix.family:
        return
    theirs = rtmsg()
    theirs["family"], theirs["type"], theirs["proto"] = int(key.prefix.family), 1, 12
    theirs["dst_len"] = key.prefix.prefix_len
    theirs["flags"] = 4 if hop.is_onlink else 0
    theirs["attrs"] = [
        ("RTA_DST", str(key.prefix.address)),
        ("RTA_GATEWAY", str(hop.via)),
        ("RTA_OIF", hop.ifindex),
        ("RTA_PRIORITY", key.priority),
        ("RTA_TABLE", key.table_id),
    ]
    theirs["header"]["type"] = RTM_NEWROUTE
    theirs.encode()
    (message,) = split_messages(bytes(theirs.data))
    assert decode_route(message.payload) == KernelRoute(key, 12, value)


@given(st.binary(max_size=200))
def test_any_bytes_are_a_route_or_a_decode_error(payload: bytes) -> None:
    try:
        decode_route(payload)
    except DecodeError:
        pass


@given(operations(), st.binary(max_size=40), st.integers(0, 200))
def test_a_mutated_tail_is_a_route_or_a_decode_error(
    operation: FibOp, tail: bytes, cut: int
) -> None:
    message = encode_operation(operation, 205, 1)[NLMSG_HEADER.size :]
    try:
        decode_route(message[:cut] + tail)
    except DecodeError:
        pass


@given(st.binary(max_size=120))
def test_any_buffer_splits_or_raises(buffer: bytes) -> None:
    try:
        for message in split_messages(buffer):
            decode_error(message)
    except DecodeError:
        pass


def test_an_extended_acknowledgement_gives_the_kernels_words() -> None:
    words = b"Nexthop has invalid gateway\0"
    attribute = struct.pack("=HH", 4 + len(words), 1) + words
    echoed = NLMSG_HEADER.pack(NLMSG_HEADER.size, RTM_NEWROUTE, 0, 9, 0)
    payload = struct.pack("=i", -101) + echoed + attribute
    message = NetlinkMessage(NLMSG_ERROR, 0x200, 9, 0, payload)
    assert decode_error(message) == (101, "Nexthop has invalid gateway")


@pytest.mark.parametrize("family", [7, 28])
def test_other_families_are_passed_over(family: int) -> None:
    assert decode_route(struct.pack("=BBBBBBBBI", family, 0, 0, 0, 254, 2, 0, 1, 0)) is None
