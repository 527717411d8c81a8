"""What the parent is asked for after a restart, before NUP has heard everybody."""

from __future__ import annotations

import pytest

from routed.config.load import load_text
from routed.fib_requests import FibRequests
from routed.model.link import Interface, InterfaceAddress
from routed.model.prefix import Address, Prefix
from routed.model.route import Gateway, Route, RouteSource
from routed.rib.table import Rib

LEARNED, BROUGHT_IN, STATIC = (Prefix.parse(f"10.{second}.0.0/16") for second in (1, 2, 3))


@pytest.fixture
def rib() -> Rib:
    """Two routes that NUP has brought and a static one."""
    rib = Rib(now=lambda: 0.0)
    rib.link_changed(
        Interface(
            ifindex=2, ifname="eth0", is_admin_up=True, has_carrier=True, mtu=1500,
            is_loopback=False, has_multicast=True,
            addresses=(InterfaceAddress(Address.parse("192.0.2.9"), 24),),
        )
    )  # fmt: skip
    gateways = (Gateway(Address.parse("192.0.2.1"), None),)
    for prefix, source in (
        (LEARNED, RouteSource.NEIGHBOR),
        (BROUGHT_IN, RouteSource.REDISTRIBUTED),
        (STATIC, RouteSource.STATIC),
    ):
        rib.install(Route(prefix=prefix, source=source, distance=1, metric=0, gateways=gateways))
    return rib


def pending(requests: FibRequests) -> set[Prefix]:
    return {each for each in (LEARNED, BROUGHT_IN, STATIC) if requests.wishes.is_pending(each)}


@pytest.mark.parametrize("is_restart", [False, True], ids=["cold", "restart"])
def test_a_restarted_router_leaves_what_was_learned_as_it_is_in_the_kernel(
    rib: Rib, is_restart: bool
) -> None:
    requests = FibRequests(load_text("router_id: 10.255.0.1\nuser: root\n"), rib.best)
    requests.defers_learned = is_restart
    for changes in rib.process():
        requests.want(changes)
    expected = {STATIC} if is_restart else {LEARNED, BROUGHT_IN, STATIC}
    assert pending(requests) == expected
    requests.want_again(LEARNED)  # as a reload does
    assert pending(requests) == expected
    requests.defers_learned = False
    requests.want_again(LEARNED)
    assert pending(requests) == expected | {LEARNED}
