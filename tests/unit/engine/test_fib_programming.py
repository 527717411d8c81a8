"""Desired routes after a restart, before NUP is loaded, and next hops that are left out."""

from __future__ import annotations

import pytest

from routed.config.load import load_text
from routed.engine.fib.desired import DesiredFib
from routed.engine.fib.latency import ConvergenceClock
from routed.engine.fib.programming import FibProgramming
from routed.engine.show.daemon import nexthop_reason
from routed.fib.nexthops.table import NextHopState
from routed.log.events import Level
from routed.log.logger import Logger
from routed.model.link import Interface, InterfaceAddress
from routed.model.prefix import Address, Family, Prefix
from routed.model.route import NEXT_HOPS_MAX, Gateway, NextHop, Route, RouteSource
from routed.parent.nexthop_reports import report_nexthop
from routed.rib.table import Rib
from tests.unit.fib.test_sync import ListSink

BASE = "router_id: 10.255.0.1\nuser: root\n"
LOG = Logger(ListSink(), "engine", Level.INFO)
LEARNED, BROUGHT_IN, STATIC = (Prefix.parse(f"10.{second}.0.0/16") for second in (1, 2, 3))


@pytest.fixture
def rib() -> Rib:
    """Return a RIB with two learned routes and a static one."""
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


def programming_of(rib: Rib, log: Logger = LOG) -> tuple[FibProgramming, DesiredFib]:
    desired = DesiredFib(254)
    fib = load_text(BASE).fib
    return FibProgramming(fib, (), rib.best, desired, ConvergenceClock(), log), desired


def pending(desired: DesiredFib) -> set[Prefix]:
    return {each for each in (LEARNED, BROUGHT_IN, STATIC) if desired.is_pending(each)}


@pytest.mark.parametrize("is_restart", [False, True], ids=["cold", "restart"])
def test_a_restarted_router_leaves_learned_routes_in_the_kernel_as_they_are(
    rib: Rib, is_restart: bool
) -> None:
    programming, desired = programming_of(rib)
    if is_restart:
        programming.defer_learned()
    for changes in rib.process():
        programming.set_desired(changes)
    expected = {STATIC} if is_restart else {LEARNED, BROUGHT_IN, STATIC}
    assert pending(desired) == expected
    programming.refresh(LEARNED)  # as a reload does
    assert pending(desired) == expected
    programming.release_learned(rib.choices())
    assert pending(desired) == {LEARNED, BROUGHT_IN, STATIC}


@pytest.mark.parametrize(
    ("changed", "is_wanted_again"),
    [
        ("fib: {table: 100}", True),
        ("fib: {priority: 9}", True),
        ("filters: {kernel: [{match: [10.1.0.0/16], action: deny}]}", True),
        ("fib: {resync: 30s, on_exit: keep}", False),
        ("", False),
    ],
)
def test_a_change_of_table_priority_or_filter_refreshes_every_route(
    rib: Rib, changed: str, is_wanted_again: bool
) -> None:
    """A reload that changed the priority once removed every route from the kernel."""
    programming, _ = programming_of(rib)
    for text in (f"{BASE}{changed}\n", BASE):
        config = load_text(text)
        assert programming.apply(config.fib, config.filters.kernel) is is_wanted_again


@pytest.mark.parametrize("changed", ["fib: {table: 100}", "fib: {priority: 9}"])
def test_in_sync_is_sent_once_more_for_another_table_or_priority(rib: Rib, changed: str) -> None:
    """The parent keeps the former routes until then."""
    programming, desired = programming_of(rib)
    programming.set_in_sync()
    assert [programming.pop_in_sync(), programming.pop_in_sync()] == [True, False]
    config = load_text(f"{BASE}{changed}\n")
    programming.apply(config.fib, config.filters.kernel)
    desired.set_routes(Family.IPV4, [Prefix.parse("10.1.0.0/16").as_int], [None])
    assert desired.has_unsent
    assert not programming.pop_in_sync(), "not before every route"
    desired.pop_first_update()
    assert [programming.pop_in_sync(), programming.pop_in_sync()] == [True, False]
    programming.apply(config.fib, config.filters.kernel)
    assert not programming.pop_in_sync()


def wide(first: int, count: int) -> tuple[NextHop, ...]:
    return tuple(NextHop(Address(Family.IPV4, 0xCB00_0000 + first + n), 2) for n in range(count))


def test_more_next_hops_than_a_route_may_have_are_left_out_and_logged() -> None:
    """With both numbers: ready next hops, and those that gateways resolve to."""
    rib = Rib(now=lambda: 0.0)
    for number in (1, 2):  # what the gateways rest on
        rib.install(
            Route(
                prefix=Prefix.parse(f"198.51.{number}.0/24"), source=RouteSource.NEIGHBOR,
                distance=1, metric=0, next_hops=wide(number << 16, 600),
            )
        )  # fmt: skip
    gateways = tuple(Gateway(Address.parse(f"198.51.{number}.1"), None) for number in (1, 2))
    rib.install(
        Route(prefix=STATIC, source=RouteSource.STATIC, distance=1, metric=0, gateways=gateways)
    )
    ready = wide(0, NEXT_HOPS_MAX + 76)
    rib.install(
        Route(prefix=LEARNED, source=RouteSource.NEIGHBOR, distance=1, metric=0, next_hops=ready)
    )
    sink = ListSink()
    log = Logger(sink, "engine", Level.INFO)
    programming, _ = programming_of(rib, log)
    for changes in rib.process():
        programming.set_desired(changes)
    said = {each.fields["prefix"]: each.fields for each in sink.events("next-hops-left-out")}
    assert said == {
        str(LEARNED): {"prefix": str(LEARNED), "next_hops": "1100", "used": "1024"},
        str(STATIC): {"prefix": str(STATIC), "next_hops": "1200", "used": "1024"},
    }
    desired_route = programming.desired_for(LEARNED)
    assert desired_route is not None
    assert (desired_route.next_hops, desired_route.left_out) == (ready[:NEXT_HOPS_MAX], 76)
    (candidate,) = rib.candidates(STATIC)
    assert len(candidate.next_hops) == NEXT_HOPS_MAX


def test_a_nexthop_object_that_is_shown_in_part_says_so() -> None:
    """Another program has replaced a group of routed by a larger one."""
    sink = ListSink()
    log = Logger(sink, "parent", Level.INFO)
    members = wide(0, NEXT_HOPS_MAX + 5)
    report = report_nexthop(NextHopState(205_000_001, members[:2], members, ""), log)
    assert (report.next_hops, report.active) == (members[:2], members[:NEXT_HOPS_MAX])
    assert nexthop_reason(report) == "1029 next hops, and 1024 of them are shown"
    (said,) = sink.events("nexthop-cut")
    assert said.fields == {"id": "205000001", "next_hops": "1029", "shown": "1024"}
    whole = report_nexthop(NextHopState(205_000_002, members[:2], members[:2], "refused"), log)
    assert (whole.left_out, nexthop_reason(whole)) == (0, "refused")
    assert len(sink.events("nexthop-cut")) == 1
