"""Rows of views: plain values, the documented columns, pages below the limit."""

from __future__ import annotations

from dataclasses import dataclass, replace

import pytest

from ipc.codec import decode
from ipc.control import PAGE_BYTES, Rows
from routed.control.rows import columns_of, pack_pages, to_row
from routed.control.selection import RouteSelector
from routed.control.views import (
    CounterView,
    FibView,
    LogView,
    NeighborView,
    NextHopView,
    RouteView,
    StatusView,
)
from routed.model.prefix import Address, Family, Prefix
from tests.fakes.fake_views import FIB, INTERFACES, NEIGHBORS, ROUTES, STATUS, many_routes

PROMISED = {
    NeighborView: "router_id interface address state uptime_s dead_in_s rtt_ms rto_ms cost "
    "retransmissions prefixes problem window in_flight sent received duplicates out_of_order "
    "is_restarting loss_here loss_there infeasible mtu",
    RouteView: "prefix type source distance metric tag next_hops selected fib_state fib_reason "
    "age_s owner lease_s attributes table",
    StatusView: "version pid uptime_s router_id config_path last_reload routes neighbors fib "
    "engine_restarts sandbox sandbox_refusals config_state confirm_left_s confirm_token "
    "parent_silent_s config_in_sync health problems network_namespace",
    FibView: "prefix table type next_hops state reason attributes",
    CounterView: "name value help",
    LogView: "time level process event text",
}


@pytest.mark.parametrize("view_class", list(PROMISED))
def test_columns_for_scripts_are_there_in_order(view_class: type) -> None:
    assert columns_of(view_class) == tuple(PROMISED[view_class].split())


def test_a_route_becomes_plain_values() -> None:
    assert dict(zip(columns_of(RouteView), to_row(ROUTES[1]), strict=True)) == {
        "prefix": "10.1.0.0/16",
        "type": "unicast",
        "source": "static",
        "distance": 1,
        "metric": 10,
        "tag": 7,
        "next_hops": [
            {"via": "fe80::2", "dev": "eth0", "weight": 2},
            {"via": "192.0.2.9", "dev": "eth1", "weight": 1},
        ],
        "selected": True,
        "fib_state": "installed",
        "fib_reason": "",
        "age_s": 65.0,
        "owner": "",
        "lease_s": None,
        "attributes": {},
        "table": "main",
    }


def test_nested_views_become_maps_and_absent_ones_nothing() -> None:
    row = dict(zip(columns_of(StatusView), to_row(STATUS), strict=True))
    assert row["fib"] == {
        "desired": 4, "installed": 3, "failed": 1, "pending": 0, "stale": 0,
        "coupled": True, "nexthop_objects": 3,
        "nexthops": "objects (net.ipv4.nexthop_compat_mode=0)", "shadowed": 0,
    }  # fmt: skip
    assert row["last_reload"] == {"ok": True, "age_s": 65.0, "text": "2 static routes added"}
    assert row["router_id"] == "10.255.0.1"
    assert to_row(replace(STATUS, last_reload=None))[5] is None


@pytest.mark.parametrize("view", [STATUS, *NEIGHBORS, *INTERFACES, *ROUTES, *FIB])
def test_every_view_survives_the_wire(view: object) -> None:
    (body,) = pack_pages(type(view), [view])
    page = decode(Rows, body)
    assert page.columns == columns_of(type(view))
    assert page.values == (to_row(view),)


def test_no_views_are_no_page() -> None:
    assert list(pack_pages(RouteView, [])) == []


def test_a_page_that_is_too_long_is_split_and_keeps_its_order() -> None:
    views = many_routes(2000)
    bodies = list(pack_pages(RouteView, views))
    assert len(bodies) > 1
    assert max(map(len, bodies)) <= PAGE_BYTES
    rows = [values for body in bodies for values in decode(Rows, body).values]
    assert [values[0] for values in rows] == [str(view.prefix) for view in views]


def test_one_row_that_is_longer_than_a_page_gets_a_page_of_its_own() -> None:
    hop = NextHopView(Address.parse("2001:db8:1234:5678:9abc:def0:1234:5678"), "eth0")
    wide = replace(ROUTES[1], next_hops=(hop,) * 600)
    assert [len(decode(Rows, body).values) for body in pack_pages(RouteView, [wide, wide])] == [
        1,
        1,
    ]


def test_a_view_of_an_unknown_type_is_a_defect() -> None:
    @dataclass(frozen=True)
    class Odd:
        value: complex

    with pytest.raises(TypeError, match="cannot show"):
        to_row(Odd(1j))


@pytest.mark.parametrize(
    ("selector", "expected"),
    [
        (RouteSelector(), True),
        (RouteSelector(family=Family.IPV4), True),
        (RouteSelector(family=Family.IPV6), False),
        (RouteSelector(prefix=Prefix.parse("10.1.0.0/16")), True),
        (RouteSelector(prefix=Prefix.parse("10.0.0.0/8")), False),
        (RouteSelector(prefix=Prefix.parse("10.0.0.0/8"), is_longer=True), True),
        (RouteSelector(prefix=Prefix.parse("::/0"), is_longer=True), False),
    ],
)
def test_selectors_choose_prefixes(selector: RouteSelector, expected: bool) -> None:
    assert selector.matches_prefix(Prefix.parse("10.1.0.0/16")) is expected
