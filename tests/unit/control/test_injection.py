"""Requests to inject routes: their content, their owner, and refused routes."""

from __future__ import annotations

import dataclasses

import pytest

from ipc.control import (
    Lease,
    PackedRoutes,
    ResultCode,
    RouteAttributes,
    RouteChange,
    RouteNextHop,
    RouteOperation,
    RouteRenew,
)
from ipc.route_rules import ROUTE_METRIC_MAX, ROUTE_TYPES, ROUTE_WEIGHT_MAX
from ipc.routes import BATCH_ROUTES, BatchPacker
from routed.control.answers import Final, Views
from routed.control.caller import Caller
from routed.control.handlers import change_routes, renew_routes
from routed.control.injection import (
    BatchError,
    Injection,
    InjectionRefusal,
    find_martian_routes,
    read_change,
)
from routed.control.rows import to_row
from routed.model.prefix import Address, Family, Prefix
from routed.model.route import MAX_WEIGHT, METRIC_INFINITY, Gateway, RouteColumn, RouteType
from tests.fakes.fake_daemon import FakeDaemon

CALLER = Caller(uid=1000, pid=42, session=7)
VIA = RouteAttributes(next_hops=(RouteNextHop("192.0.2.1", "eth0", 2, True),), metric=10, tag=7)
NO_LEASE = Lease()
BLACKHOLE = RouteAttributes("blackhole")


def change(
    *routes: tuple[str, RouteAttributes],
    operation: RouteOperation = RouteOperation.ADD,
    lease: Lease = NO_LEASE,
    owner: str = "",
) -> RouteChange:
    packer = BatchPacker(operation, lease, owner)
    for position, (text, attributes) in enumerate(routes):
        address, _, length = text.partition("/")
        packed = Address.parse(address).packed
        packer.add(packed, int(length), packer.number_of(attributes), position)
    return packer.pop()[0]


def read(request: RouteChange) -> Injection:
    injection = read_change(request, CALLER)
    assert isinstance(injection, Injection)
    return injection


def test_columns_become_prefixes_with_what_they_share() -> None:
    injection = read(
        change(
            ("2001:db8::/32", BLACKHOLE), ("10.0.0.0/8", VIA), ("10.1.0.0/16", BLACKHOLE),
            lease=Lease(30.0),
        )
    )  # fmt: skip
    assert [prefix for column in injection.routes for prefix in column.prefixes()] == [
        Prefix.parse("10.0.0.0/8"), Prefix.parse("10.1.0.0/16"), Prefix.parse("2001:db8::/32"),
    ]  # fmt: skip
    numbers = [number for column in injection.routes for number in column.numbers]
    of_each = [injection.attributes[number] for number in numbers]
    assert [attributes.type for attributes in of_each] == [
        RouteType.UNICAST, RouteType.BLACKHOLE, RouteType.BLACKHOLE,
    ]  # fmt: skip
    assert of_each[0].gateways == (Gateway(Address.parse("192.0.2.1"), "eth0", 2, True),)
    assert (of_each[0].metric, of_each[0].tag) == (10, 7)
    assert (injection.lease_s, injection.session) == (30.0, None)


@pytest.mark.parametrize(
    ("operation", "lease", "owner", "owners"),
    [
        (RouteOperation.ADD, Lease(), "", ("uid1000",)),
        (RouteOperation.ADD, Lease(5.0), "web", ("uid1000/web",)),
        (RouteOperation.ADD, Lease(is_session=True), "", ("uid1000/pid42.7",)),
        (RouteOperation.DELETE, Lease(), "", ("uid1000/pid42.7", "uid1000")),
        (RouteOperation.DELETE, Lease(), "web", ("uid1000/web",)),
        (RouteOperation.DELETE, Lease(), "uid0/pid1.2", ("uid0/pid1.2",)),
    ],
)
def test_the_owner_is_the_kernels_uid_and_a_name(
    operation: RouteOperation, lease: Lease, owner: str, owners: tuple[str, ...]
) -> None:
    request = change(("10.0.0.0/8", BLACKHOLE), operation=operation, lease=lease, owner=owner)
    assert read(request).owners == owners


def test_every_wrong_route_is_reported_by_its_number() -> None:
    request = change(("10.0.0.0/8", VIA), ("10.0.0.1/8", VIA), ("2001:db8::1/32", BLACKHOLE))
    assert read_change(request, CALLER) == [
        InjectionRefusal(1, "10.0.0.1/8 has host bits set; did you mean 10.0.0.0/8?"),
        InjectionRefusal(2, "2001:db8::1/32 has host bits set; did you mean 2001:db8::/32?"),
    ]
    request = change(("10.0.0.0/8", BLACKHOLE), ("2001:db8::/32", VIA))
    assert read_change(request, CALLER) == [
        InjectionRefusal(1, "an IPv6 route needs an IPv6 next hop")
    ]


@pytest.mark.parametrize("operation", list(RouteOperation))
def test_a_prefix_that_occurs_twice_is_refused_by_both_numbers(operation: RouteOperation) -> None:
    """One of the routes would be lost, and which one depended on the batches of the sender."""
    of_metric = dataclasses.replace(VIA, metric=20)
    request = change(
        ("10.0.0.0/8", VIA), ("10.0.0.0/9", VIA), ("10.0.0.0/8", of_metric), ("10.0.0.0/8", VIA),
        ("::/8", BLACKHOLE), ("2001:db8::/32", BLACKHOLE), ("2001:db8::/32", BLACKHOLE),
        operation=operation,
    )  # fmt: skip
    assert read_change(request, CALLER) == [
        InjectionRefusal(2, "10.0.0.0/8 occurs twice in the request, as routes 0 and 2"),
        InjectionRefusal(3, "10.0.0.0/8 occurs twice in the request, as routes 0 and 3"),
        InjectionRefusal(6, "2001:db8::/32 occurs twice in the request, as routes 5 and 6"),
    ]


def test_an_invalid_prefix_length_is_refused() -> None:
    good = change(("10.0.0.0/8", BLACKHOLE))
    bad = dataclasses.replace(good, ipv4=dataclasses.replace(good.ipv4, prefix_lens=b"\x21"))
    assert read_change(bad, CALLER) == [InjectionRefusal(0, "a prefix length is 0 to 32, not 33")]


@pytest.mark.parametrize(
    ("request_", "text"),
    [
        (change(), "no routes"),
        (change(("10.0.0.0/8", BLACKHOLE), lease=Lease(0.5)), "a lease lasts 1 to 86400 seconds"),
        (change(("10.0.0.0/8", BLACKHOLE), lease=Lease(float("nan"))), "a lease lasts"),
        (change(("10.0.0.0/8", BLACKHOLE), owner="a b"), "'a b' is no name of an owner"),
        (
            change(("10.0.0.0/8", BLACKHOLE), owner="web", lease=Lease(is_session=True)),
            "leave `owner` out",
        ),
        (
            RouteChange(RouteOperation.ADD, (BLACKHOLE,), PackedRoutes(b"\n\0\0\0", b"\x08", b"")),
            "1 prefix lengths, but 4 bytes of addresses and 0 of attributes",
        ),
        (
            RouteChange(
                RouteOperation.ADD, (BLACKHOLE,), PackedRoutes(b"\n\0\0\0", b"\x08", b"\0\x05")
            ),
            "a route refers to attributes 5, but there are 1 sets",
        ),
        (
            RouteChange(
                RouteOperation.DELETE,
                (),
                PackedRoutes(
                    bytes(4 * BATCH_ROUTES + 4),
                    bytes(BATCH_ROUTES + 1),
                    bytes(2 * BATCH_ROUTES + 2),
                ),
            ),
            f"{BATCH_ROUTES + 1} routes in one request; at most {BATCH_ROUTES}",
        ),
    ],
)
def test_a_fault_of_the_whole_request_is_reported(request_: RouteChange, text: str) -> None:
    with pytest.raises(BatchError) as caught:
        read_change(request_, CALLER)
    assert text in str(caught.value)


@pytest.mark.parametrize(
    ("attributes", "text"),
    [
        (RouteAttributes("nat"), "'nat' is no type of route"),
        (RouteAttributes("local"), "a local route needs `dev`, and no `via`"),
        (RouteAttributes("throw", kernel_attributes=(("mtu", "67"),)), "mtu: 68 to 65520 is"),
        (RouteAttributes("throw", kernel_attributes=(("mut", "67"),)), "'mut' is no attribute"),
        (RouteAttributes("throw", kernel_attributes=(("mtu", "70"),) * 2), "`mtu` is given twice"),
        (RouteAttributes("throw", kernel_attributes=(("pref", "low"),)), "pref: is for unicast"),
        (RouteAttributes(), "a unicast route needs a next hop"),
        (dataclasses.replace(VIA, type="blackhole"), "a route of type blackhole has no next hop"),
        (dataclasses.replace(BLACKHOLE, metric=-1), "a metric is 0 to"),
        (dataclasses.replace(BLACKHOLE, metric=METRIC_INFINITY), "a metric is 0 to"),
        (dataclasses.replace(BLACKHOLE, tag=1 << 32), "a tag is 0 to"),
        (RouteAttributes(next_hops=(RouteNextHop("fe80::1"),)), "name the interface with `dev`"),
        (RouteAttributes(next_hops=(RouteNextHop("fe80::1%a", "a"),)), "carries a zone"),
        (RouteAttributes(next_hops=(RouteNextHop("127.0.0.1"),)), "127.0.0.1 cannot be a next hop"),
        (RouteAttributes(next_hops=(RouteNextHop("x" * 900),)), "...' is not an IP address"),
        (RouteAttributes(next_hops=(RouteNextHop(None, "e" * 16),)), "is no name of an interface"),
        (RouteAttributes(next_hops=(RouteNextHop(None, "e", 300),)), "a weight is 1 to 256"),
        (RouteAttributes(next_hops=(RouteNextHop(None, "e", is_onlink=True),)), "`onlink` needs"),
        (RouteAttributes(next_hops=(RouteNextHop(),)), "a next hop needs `via`, `dev` or both"),
    ],
)
def test_attributes_that_no_route_can_have_are_refused_route_by_route(
    attributes: RouteAttributes, text: str
) -> None:
    """So that a client can report the lines of its input."""
    request = change(
        ("10.0.0.0/8", BLACKHOLE),
        ("10.1.0.0/16", attributes),
        ("10.2.0.0/16", BLACKHOLE),
        ("2001:db8::1/32", attributes),
    )
    refusals = read_change(request, CALLER)
    assert isinstance(refusals, list)
    assert [refusal.route for refusal in refusals] == [1, 3]
    assert text in refusals[0].problem
    assert len(refusals[0].problem) < 200


def test_wrong_attributes_of_no_route_are_an_error_of_the_request() -> None:
    """They are not skipped: the numbers of the other attributes would mean something else."""
    good = change(("10.0.0.0/8", BLACKHOLE))
    wrong = dataclasses.replace(good, attributes=(BLACKHOLE, RouteAttributes("local")))
    with pytest.raises(BatchError):
        read_change(wrong, CALLER)


def test_the_rules_of_clients_are_those_of_the_model() -> None:
    assert ROUTE_METRIC_MAX == METRIC_INFINITY - 1
    assert ROUTE_WEIGHT_MAX == MAX_WEIGHT
    assert set(ROUTE_TYPES) == {route_type.name.lower() for route_type in RouteType}


async def test_the_handler_reports_routes_by_row_and_changes_nothing_itself() -> None:
    daemon = FakeDaemon()
    daemon.refusals = (InjectionRefusal(0, "there already"), InjectionRefusal(1, "this one, too"))
    answer = await change_routes(daemon, change(("10.0.0.0/8", BLACKHOLE)), CALLER)
    assert isinstance(answer, Views)
    assert [to_row(row) for row in answer.views] == [(0, "there already"), (1, "this one, too")]
    assert answer.result.code is ResultCode.FAILED
    assert answer.result.lines == ("there already (and 1 more)",)
    daemon.close()


async def test_renewing_without_leases_is_not_found() -> None:
    daemon = FakeDaemon()
    answer = await renew_routes(daemon, RouteRenew(30.0, "web"), CALLER)
    assert isinstance(answer, Final)
    assert answer.result.code is ResultCode.NOT_FOUND
    assert daemon.renewals == [("uid1000/web", 30.0)]
    daemon.close()


def test_martians_are_refused_by_number_and_name_the_option_that_allows_them() -> None:
    routes = [
        RouteColumn(Family.IPV4, [Prefix.parse(text).as_int for text in V4], ()),
        RouteColumn(Family.IPV6, [Prefix.parse(text).as_int for text in V6], ()),
    ]
    refused = find_martian_routes(routes, [Prefix.parse("127.0.0.0/8")])
    assert [each.route for each in refused] == [1, 4]
    assert "169.254.1.0/24 is a martian (link-local); `allow_martians`" in refused[0].problem
    assert find_martian_routes(routes, [Prefix.parse("0.0.0.0/0"), Prefix.parse("::/0")]) == []


V4, V6 = ("10.0.0.0/8", "169.254.1.0/24", "127.0.0.1/32"), ("2001:db8::/32", "fe80::/64", "::/0")


@pytest.mark.parametrize(("given", "table_id"), [("", 0), ("main", 0), ("isp2", 100), ("100", 100)])
def test_a_request_names_its_table(given: str, table_id: int) -> None:
    packer = BatchPacker(RouteOperation.ADD, NO_LEASE, table=given)
    packer.add(Address.parse("10.0.0.0").packed, 8, packer.number_of(BLACKHOLE), 0)
    injection = read_change(packer.pop()[0], CALLER, {"main": 254, "isp2": 100})
    assert isinstance(injection, Injection)
    assert injection.table_id == table_id


def test_a_table_that_there_is_not_refuses_the_request() -> None:
    packer = BatchPacker(RouteOperation.ADD, NO_LEASE, table="isp3")
    packer.add(Address.parse("10.0.0.0").packed, 8, packer.number_of(BLACKHOLE), 0)
    with pytest.raises(BatchError, match="'isp3' is no table of this daemon: main, isp2"):
        read_change(packer.pop()[0], CALLER, {"main": 254, "isp2": 100})
