"""What the parent tells of nexthop objects costs little at a time, however many there are."""

from __future__ import annotations

import errno

from routed.fib.nexthops.table import NexthopTable
from routed.fib.routes.ownership import RouteValue
from routed.fib.routes.plan import KernelRefusal
from routed.log.events import Level
from routed.log.logger import Logger
from routed.model.prefix import Address
from routed.model.route import NextHop, RouteType
from routed.parent.nexthop_reports import (
    NEXTHOP_MEMBERS_MAX,
    NEXTHOPS_REPORTED_MAX,
    report_nexthops,
)
from tests.fakes.operations import operations
from tests.unit.fib.test_sync import ListSink

LOG = Logger(ListSink(), "parent", Level.INFO)


def hop(number: int, weight: int = 1) -> NextHop:
    return NextHop(Address.parse(f"10.0.{number >> 8}.{number & 255}"), 2, weight)


def objects_of(groups: int, members: int) -> NexthopTable:
    """A book with so many groups of the same next hops, in other weights."""
    fib_table = NexthopTable(205, is_enabled=True, is_link_up=lambda _ifindex: True)
    fib_table.read(())
    for group in range(groups):
        hops = tuple(hop(number, 1 + (group if number == 0 else 0)) for number in range(members))
        fib_table.value_for(RouteValue.canonical(RouteType.UNICAST, hops))
    while writes := fib_table.plan(0.0, 500):
        fib_table.record(writes, [KernelRefusal(0, "")] * len(writes), 0.0)
    return fib_table


def test_an_answer_has_a_bounded_number_of_next_hops_and_several_have_all() -> None:
    fib_table = objects_of(groups=40, members=100)
    after, seen = 0, []
    while True:
        told = report_nexthops(fib_table.states_after(after), LOG)
        seen += [report.id for report in told.objects]
        assert len(told.objects) <= NEXTHOPS_REPORTED_MAX
        shown = sum(len(report.next_hops) + len(report.active) for report in told.objects)
        assert shown <= NEXTHOP_MEMBERS_MAX + 200
        if told.is_last:
            break
        after = told.objects[-1].id
    assert len(seen) == 140
    assert seen == sorted(set(seen))


def test_the_last_answer_costs_no_more_than_the_first() -> None:
    fib_table = objects_of(groups=200, members=20)
    first = operations(lambda: report_nexthops(fib_table.states_after(0), LOG))
    ids = [state.id for state in fib_table.states_after(0)]
    late = ids[-20]
    last = operations(lambda: report_nexthops(fib_table.states_after(late), LOG))
    assert last < 2 * first


def test_an_object_that_the_kernel_refused_has_its_reason() -> None:
    fib_table = NexthopTable(205, is_enabled=True, is_link_up=lambda _ifindex: True)
    fib_table.read(())
    fib_table.value_for(RouteValue.canonical(RouteType.UNICAST, (hop(1),)))
    writes = fib_table.plan(0.0, 10)
    fib_table.record(
        writes, [KernelRefusal(errno.ENETUNREACH, "no such network")] * len(writes), 0.0
    )
    (report,) = report_nexthops(fib_table.states_after(0), LOG).objects
    assert "no such network" in report.problem
    assert report.active == ()
