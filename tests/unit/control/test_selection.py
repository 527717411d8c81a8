"""Requests for routes become selectors, or an error for the client."""

from __future__ import annotations

import pytest

from ipc.control import AddressFamily, ShowFib, ShowRoutes
from routed.control.selection import RouteSelector, fib_selector, route_selector, table_named
from routed.control.views import FibState
from routed.model.prefix import Address, Family, Prefix
from routed.model.route import RouteSource

TABLES = {"main": 254, "isp2": 100}


def test_every_field_of_a_request_is_in_the_selector() -> None:
    request = ShowRoutes(
        family=AddressFamily.IPV4, prefix="10.0.0.0/8", is_longer=True, source="static",
        is_selected_only=True, neighbor="10.255.0.2", interface="eth0", via="fe80::2",
        state="failed",
    )  # fmt: skip
    assert route_selector(request, TABLES) == RouteSelector(
        Family.IPV4, Prefix.parse("10.0.0.0/8"), True, RouteSource.STATIC, True,
        Address.parse("10.255.0.2"), "eth0", Address.parse("fe80::2"), FibState.FAILED,
    )  # fmt: skip
    selector = fib_selector(ShowFib(prefix="10.0.0.0/8", state="shadowed"), TABLES)
    assert selector == RouteSelector(prefix=Prefix.parse("10.0.0.0/8"), state=FibState.SHADOWED)


@pytest.mark.parametrize(
    ("request_", "error"),
    [
        (ShowRoutes(state="broken"), "'broken' is no FIB state: pending, installed, failed, "),
        (ShowRoutes(neighbor="R2"), "'R2' is not an IP address"),
        (ShowRoutes(via="eth0"), "'eth0' is not an IP address"),
    ],
)
def test_what_cannot_be_selected_is_an_error(request_: ShowRoutes, error: str) -> None:
    with pytest.raises(ValueError, match=error):
        route_selector(request_, TABLES)


def test_a_state_of_the_fib_is_checked_as_well() -> None:
    with pytest.raises(ValueError, match="'broken' is no FIB state"):
        fib_selector(ShowFib(state="broken"), TABLES)


@pytest.mark.parametrize(
    ("given", "selected"),
    [(None, "main"), ("main", "main"), ("254", "main"), ("isp2", "isp2"), ("100", "isp2")],
)
def test_a_table_is_named_by_its_name_or_number(given: str | None, selected: str) -> None:
    assert table_named(given, TABLES) == selected
    assert route_selector(ShowRoutes(table=given), TABLES).table == selected


def test_all_tables_are_selected_where_rows_name_theirs() -> None:
    assert fib_selector(ShowFib(table="all"), TABLES).table == "all"
    with pytest.raises(ValueError, match="'all' is no table of this daemon: main, isp2"):
        table_named("all", TABLES)


def test_an_unknown_table_is_refused_with_some_that_there_are() -> None:
    many = {f"t{number}": number for number in range(1, 500)}
    with pytest.raises(ValueError, match=r"'isp3' is no table of this daemon: t1, .*t20, \.\.\.$"):
        table_named("isp3", many)
