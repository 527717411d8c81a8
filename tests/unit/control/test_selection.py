"""Requests for routes become selectors, or an error for the client."""

from __future__ import annotations

import pytest

from ipc.control import AddressFamily, ShowFib, ShowRoutes
from routed.control.selection import RouteSelector, fib_selector, route_selector
from routed.control.views import FibState
from routed.model.prefix import Address, Family, Prefix
from routed.model.route import RouteSource


def test_every_field_of_a_request_is_in_the_selector() -> None:
    request = ShowRoutes(
        family=AddressFamily.IPV4, prefix="10.0.0.0/8", is_longer=True, source="static",
        is_selected_only=True, neighbor="10.255.0.2", interface="eth0", via="fe80::2",
        state="failed",
    )  # fmt: skip
    assert route_selector(request) == RouteSelector(
        Family.IPV4, Prefix.parse("10.0.0.0/8"), True, RouteSource.STATIC, True,
        Address.parse("10.255.0.2"), "eth0", Address.parse("fe80::2"), FibState.FAILED,
    )  # fmt: skip
    selector = fib_selector(ShowFib(prefix="10.0.0.0/8", state="shadowed"))
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
        route_selector(request_)


def test_a_state_of_the_fib_is_checked_as_well() -> None:
    with pytest.raises(ValueError, match="'broken' is no FIB state"):
        fib_selector(ShowFib(state="broken"))
