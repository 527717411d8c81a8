"""Our route codec against pyroute2's message classes, both ways, and against arbitrary bytes."""

from __future__ import annotations

import ipaddress
import struct
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyroute2.netlink.rtnl.rtmsg import rtmsg

from routed.fib.routes.attributes_codec import decode_attributes
from routed.fib.routes.bulk import DumpDecoder, encode_batch
from routed.fib.routes.codec import decode_end, decode_route
from routed.fib.routes.ownership import (
    NEXT_HOPS_MAX,
    KernelRoute,
    RouteKey,
    RouteValue,
    TableKey,
    find_violation,
)
from routed.fib.routes.plan import FibBatch, OpKind
from routed.fib.routes.tables import SeenRoute
from routed.model.kernel_attributes import KernelAttributes
from routed.model.prefix import Address, Family, Prefix
from routed.model.route import NextHop, RouteType
from routed.netlink.message import (
    NLMSG_DONE,
    NLMSG_ERROR,
    NLMSG_HEADER,
    NLMSG_NOOP,
    RTM_DELROUTE,
    RTM_NEWROUTE,
    NetlinkDecodeError,
    NetlinkMessage,
    decode_error,
    split_messages,
)
from tests.fakes.fake_kernel import Operation, single

pytestmark = pytest.mark.usefixtures("kernel_tables")

RTA_ENCAP = 22
PLAIN = RouteValue(RouteType.BLACKHOLE, ())
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


U32 = st.integers(1, 2**32 - 1)


@st.composite
def attributes(draw: st.DrawFn, family: Family) -> KernelAttributes | None:
    """The kernel's attributes of a route besides its next hops: any of them, or none."""
    fields: dict[str, st.SearchStrategy[object]] = {
        "src": addresses(family),
        "mtu": st.integers(68, 65_520),
        "advmss": st.integers(1, 65_495),
        "hoplimit": st.integers(1, 255),
        "rto_min_ms": st.integers(1, 120_000),
        "quickack": st.just(1),
        "features": st.just(1),
        "congctl": st.sampled_from(["reno", "cubic"]),
        "locked": st.sets(st.sampled_from([2, 10, 13, 16])).map(
            lambda bits: sum(1 << bit for bit in bits)
        ),
    } | dict.fromkeys(("window", "initcwnd", "initrwnd"), U32)
    if family is Family.IPV4:
        fields |= {"realm": U32, "scope": st.integers(0, 254)}
    else:
        fields["pref"] = st.sampled_from([1, 3])
    given = draw(st.sets(st.sampled_from(sorted(fields))))
    found = KernelAttributes(**{name: draw(fields[name]) for name in sorted(given)})  # type: ignore[arg-type]
    return None if found == KernelAttributes() else found


@st.composite
def operations(draw: st.DrawFn) -> Operation:
    family = draw(FAMILIES)
    route_type = draw(st.sampled_from(RouteType))
    hops = draw(st.lists(next_hops(family), min_size=1, max_size=5))
    if route_type.is_link_alone:
        hops = [NextHop(None, hops[0].ifindex)]
    value = RouteValue.canonical(
        route_type,
        tuple(hops) if route_type.has_next_hops else (),
        draw(st.none() | attributes(family)),
    )
    table_id, priority = draw(st.integers(1, 2**32 - 1)), draw(st.integers(1, 2**32 - 1))
    key = RouteKey(table_id, draw(prefixes(family)), 0, priority)
    return Operation(draw(st.sampled_from(OpKind)), key, value)


def encode(operation: Operation, sequence: int) -> bytes:
    return encode_batch(single(*operation), 205, sequence)


def test_the_largest_permitted_route_fits_into_a_message() -> None:
    """Its next hops are one attribute, whose length has 16 bits."""
    hops = tuple(
        NextHop(Address(Family.IPV6, (0xFE80 << 112) + n), 2**31 - 1, 256)
        for n in range(NEXT_HOPS_MAX)
    )
    assert find_violation(Family.IPV4, RouteValue(RouteType.UNICAST, hops)) == ""
    key = RouteKey(254, Prefix.parse("192.0.2.0/24"), 0, 205)
    value = RouteValue.canonical(RouteType.UNICAST, hops)
    (message,) = split_messages(encode(Operation(OpKind.REPLACE, key, value), 1))
    route = decode_route(message.payload)
    assert route is not None
    assert len(route.value.next_hops) == NEXT_HOPS_MAX


def by_pyroute2(message: bytes) -> Any:
    decoded = rtmsg(message)
    decoded.decode()
    return decoded


@given(operations())
def test_pyroute2_reads_our_messages(operation: Operation) -> None:
    theirs = by_pyroute2(encode(operation, 77))
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
    assert theirs["type"] == value.type
    _check_attributes(theirs, value)
    legs = theirs.get_attr("RTA_MULTIPATH") or []
    assert len(legs) == (len(value.next_hops) if len(value.next_hops) > 1 else 0)
    for leg, hop in zip(legs, value.next_hops, strict=False):
        assert (leg["oif"], leg["hops"] + 1) == (hop.ifindex, hop.weight)
        assert _via(leg) == hop.via
    if len(value.next_hops) == 1:
        assert theirs.get_attr("RTA_OIF") == value.next_hops[0].ifindex
        assert _via(theirs) == value.next_hops[0].via


METRICS = {
    "RTAX_MTU": "mtu", "RTAX_ADVMSS": "advmss", "RTAX_WINDOW": "window",
    "RTAX_INITCWND": "initcwnd", "RTAX_INITRWND": "initrwnd", "RTAX_HOPLIMIT": "hoplimit",
    "RTAX_RTO_MIN": "rto_min_ms", "RTAX_QUICKACK": "quickack", "RTAX_FEATURES": "features",
    "RTAX_LOCK": "locked", "RTAX_CC_ALGO": "congctl",
}  # fmt: skip


def _check_attributes(theirs: Any, value: RouteValue) -> None:
    ours = value.attributes or KernelAttributes()
    metrics = theirs.get_attr("RTA_METRICS")
    for name, field in METRICS.items():
        found = None if metrics is None else metrics.get_attr(name)
        assert (found or KernelAttributes._field_defaults[field]) == getattr(ours, field), name
    source = theirs.get_attr("RTA_PREFSRC")
    assert (None if source is None else Address.parse(source)) == ours.src
    assert (theirs.get_attr("RTA_PREF") or 0) == ours.pref
    assert ours.scope in (None, theirs["scope"])
    of_hops = [hop.get_attr("RTA_FLOW") for hop in theirs.get_attr("RTA_MULTIPATH") or []]
    assert set(of_hops or [theirs.get_attr("RTA_FLOW")]) == {ours.realm or None}


def _via(message: Any) -> Address | None:
    gateway = message.get_attr("RTA_GATEWAY")
    if gateway is None:
        via = message.get_attr("RTA_VIA")
        gateway = via["addr"] if via else None
    return Address.unpack(ipaddress.ip_address(gateway).packed) if gateway else None


@given(operations())
def test_our_messages_are_read_back(operation: Operation) -> None:
    if operation.kind is OpKind.REMOVE:
        return
    (message,) = split_messages(encode(operation, 1))
    route = decode_route(message.payload)
    source = None if operation.value.attributes is None else operation.value.attributes.src
    assert route == KernelRoute(operation.key, 205, operation.value, source)


@given(operations())
def test_we_read_the_messages_of_pyroute2(operation: Operation) -> None:
    key, value = operation.key, operation.value._replace(attributes=None)
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


_EXPIRES = struct.pack("=IIi5I", 0, 0, 500, 0, 0, 0, 0, 0)
"""RTA_CACHEINFO of a route that expires after 500 ticks."""


@given(
    operations(),
    st.sampled_from([(21, bytes((1, 0, 0, 0))), (RTA_ENCAP, bytes((1, 0, 0, 0))), (12, _EXPIRES)]),
)
def test_an_attribute_that_we_never_write_makes_it_another_route(
    operation: Operation, attribute: tuple[int, bytes]
) -> None:
    if operation.kind is OpKind.REMOVE:
        return
    (message,) = split_messages(encode(operation, 1))
    number, payload = attribute
    extra = struct.pack("=HH", 4 + len(payload), number) + payload
    expected = operation.value._replace(is_altered=True)
    route = decode_route(message.payload + extra)
    source = None if expected.attributes is None else expected.attributes.src
    assert route == KernelRoute(operation.key, 205, expected, source, number == RTA_ENCAP)


@given(operations())
def test_a_metric_that_we_never_write_makes_it_another_route(operation: Operation) -> None:
    if operation.kind is OpKind.REMOVE:
        return
    (message,) = split_messages(encode(operation._replace(value=PLAIN), 1))
    metrics = struct.pack("=HHI", 8, 4, 1)  # RTAX_RTT
    extra = struct.pack("=HH", 4 + len(metrics), 8) + metrics
    route = decode_route(message.payload + extra)
    assert route is not None
    assert route.value == PLAIN._replace(is_altered=True)


@given(st.binary(max_size=40))
def test_any_bytes_are_metrics_or_a_decode_error(payload: bytes) -> None:
    try:
        decode_attributes({8: payload})
    except NetlinkDecodeError:
        pass


@given(operations(), st.integers(0, 255))
def test_another_scope_makes_it_another_route(operation: Operation, scope: int) -> None:
    if operation.kind is OpKind.REMOVE:
        return
    (message,) = split_messages(encode(operation, 1))
    payload = bytearray(message.payload)
    is_changed, payload[6] = payload[6] != scope, scope
    route = decode_route(bytes(payload))
    assert route is not None
    assert (route.value != operation.value) is is_changed


@given(st.binary(max_size=200))
def test_any_bytes_are_a_route_or_a_decode_error(payload: bytes) -> None:
    try:
        decode_route(payload)
    except NetlinkDecodeError:
        pass


@given(operations(), st.binary(max_size=40), st.integers(0, 200))
def test_a_mutated_tail_is_a_route_or_a_decode_error(
    operation: Operation, tail: bytes, cut: int
) -> None:
    message = encode(operation, 1)[NLMSG_HEADER.size :]
    try:
        decode_route(message[:cut] + tail)
    except NetlinkDecodeError:
        pass


@given(st.binary(max_size=120))
def test_any_buffer_splits_or_raises(buffer: bytes) -> None:
    try:
        for message in split_messages(buffer):
            decode_error(message)
    except NetlinkDecodeError:
        pass


@pytest.mark.parametrize(
    ("payload", "number"), [(b"", 0), (struct.pack("=i", 0), 0), (struct.pack("=i", -105), 105)]
)
def test_the_end_of_a_dump_says_whether_it_is_whole(payload: bytes, number: int) -> None:
    assert decode_end(NetlinkMessage(NLMSG_DONE, 0, 1, 0, payload)) == (number, "")


def test_an_extended_acknowledgement_has_the_kernel_s_message() -> None:
    words = b"Nexthop has invalid gateway\0"
    attribute = struct.pack("=HH", 4 + len(words), 1) + words
    echoed = NLMSG_HEADER.pack(NLMSG_HEADER.size, RTM_NEWROUTE, 0, 9, 0)
    payload = struct.pack("=i", -101) + echoed + attribute
    message = NetlinkMessage(NLMSG_ERROR, 0x200, 9, 0, payload)
    assert decode_error(message) == (101, "Nexthop has invalid gateway")


@pytest.mark.parametrize("family", [7, 28])
def test_other_families_are_ignored(family: int) -> None:
    assert decode_route(struct.pack("=BBBBBBBBI", family, 0, 0, 0, 254, 2, 0, 1, 0)) is None


@st.composite
def batches(draw: st.DrawFn) -> FibBatch:
    """Many routes of one table, of which some share their value."""
    family = draw(FAMILIES)
    hops = st.lists(next_hops(family), min_size=1, max_size=3).map(tuple)
    shapes = st.builds(RouteValue.canonical, st.just(RouteType.UNICAST), hops)
    values = draw(st.lists(shapes | st.just(RouteValue(RouteType.BLACKHOLE, ())), min_size=1))
    chosen = draw(st.lists(st.sampled_from(values), min_size=1, max_size=30))
    keys = draw(
        st.lists(
            prefixes(family).map(lambda prefix: prefix.as_int),
            min_size=len(chosen), max_size=len(chosen), unique=True,
        )
    )  # fmt: skip
    table_key = TableKey(draw(st.sampled_from([254, 100, 4711])), family, 0, 205)
    return FibBatch(OpKind.INSTALL, table_key, keys, chosen)


def as_dumped(batch: FibBatch, sequence: int, flags: int = 0) -> bytes:
    """Return the page in which the kernel would show the routes of the batch: RTA_TABLE comes
    first, and a default route has no destination.
    """
    page = b""
    for key, value in zip(batch.keys, batch.values, strict=True):
        (message,) = split_messages(
            encode_batch(batch._replace(keys=[key], values=[value]), 205, 1)
        )
        header, attributes = message.payload[:12], message.payload[12:]
        if not key & 0xFF:
            attributes = attributes[4 + batch.table_key.family.width // 8 :]
        table = struct.pack("=HHI", 8, 15, batch.table_key.table_id)
        payload = header + table + attributes
        page += NLMSG_HEADER.pack(16 + len(payload), RTM_NEWROUTE, flags, sequence, 0) + payload
    return page


class Collected:
    """Collects the routes that a dump decoder finds."""

    def __init__(self) -> None:
        self.rows: dict[tuple[TableKey, int], tuple[int, RouteValue]] = {}

    def __call__(self, seen: SeenRoute, keys: Sequence[int]) -> None:
        for key in keys:
            assert (seen.table_key, key) not in self.rows
            self.rows[seen.table_key, key] = (seen.protocol, seen.value)


@given(batches())
def test_a_page_of_many_is_read_as_its_messages_one_by_one(batch: FibBatch) -> None:
    taken = Collected()
    decoder = DumpDecoder(batch.table_key.family, 9, taken)
    decoder.page(as_dumped(batch, 9))
    expected = {
        (batch.table_key, key): (205, value)
        for key, value in zip(batch.keys, batch.values, strict=True)
    }
    assert taken.rows == expected
    assert not decoder.is_interrupted
    assert decoder.end is None


@given(batches())
def test_a_buffer_of_many_holds_each_with_its_own_sequence_number(batch: FibBatch) -> None:
    found = {}
    for message in split_messages(encode_batch(batch, 205, 100)):
        route = decode_route(message.payload)
        assert route is not None
        found[message.sequence] = (route.key.prefix.as_int, route.value)
    assert found == {
        100 + at: pair for at, pair in enumerate(zip(batch.keys, batch.values, strict=True))
    }


@given(batches(), st.integers(0, 40))
def test_an_interrupted_dump_is_recognised_by_any_of_its_messages(batch: FibBatch, at: int) -> None:
    taken = Collected()
    decoder = DumpDecoder(batch.table_key.family, 9, taken)
    for number, key in enumerate(batch.keys):
        one = batch._replace(keys=[key], values=[batch.values[number]])
        decoder.page(as_dumped(one, 9, flags=0x10 if number == at else 0))
    assert decoder.is_interrupted == (at < len(batch.keys))


@given(batches(), st.data())
def test_a_message_of_another_type_is_not_a_route_but_its_flags_count(
    batch: FibBatch, data: st.DataObject
) -> None:
    number = data.draw(st.integers(0, len(batch.keys) - 1))
    other = data.draw(st.sampled_from([NLMSG_NOOP, NLMSG_ERROR, NLMSG_DONE, RTM_DELROUTE]))
    page = b""
    for at, key in enumerate(batch.keys):
        one = batch._replace(keys=[key], values=[batch.values[at]])
        message = as_dumped(one, 9, flags=0x10 if at == number else 0)
        if at == number:
            message = message[:4] + struct.pack("=H", other) + message[6:]
        page += message
    taken = Collected()
    decoder = DumpDecoder(batch.table_key.family, 9, taken)
    decoder.page(page)
    assert taken.rows.keys() == {(batch.table_key, key) for key in batch.keys} - {
        (batch.table_key, batch.keys[number])
    }
    assert decoder.is_interrupted
    assert (decoder.end is not None) == (other in (NLMSG_DONE, NLMSG_ERROR))


@given(batches())
def test_the_rest_of_an_older_dump_is_ignored(batch: FibBatch) -> None:
    taken = Collected()
    decoder = DumpDecoder(batch.table_key.family, 9, taken)
    decoder.page(as_dumped(batch, 8) + as_dumped(batch, 9))
    assert len(taken.rows) == len(batch.keys)


@given(FAMILIES, st.binary(max_size=400))
def test_any_page_is_read_or_refused(family: Family, page: bytes) -> None:
    try:
        DumpDecoder(family, 1, Collected()).page(page)
    except NetlinkDecodeError:
        pass


@given(batches(), st.data())
def test_a_mutated_page_is_read_or_refused(batch: FibBatch, data: st.DataObject) -> None:
    page = bytearray(as_dumped(batch, 1))
    for _ in range(data.draw(st.integers(1, 4))):
        page[data.draw(st.integers(0, len(page) - 1))] = data.draw(st.integers(0, 255))
    try:
        DumpDecoder(batch.table_key.family, 1, lambda seen, keys: None).page(bytes(page))
    except NetlinkDecodeError:
        pass
