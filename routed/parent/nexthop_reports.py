"""Kernel nexthop objects as messages to the engine, for `show nexthops`."""

from __future__ import annotations

from collections.abc import Iterable

from routed.fib.nexthops.table import NextHopState
from routed.imsg.messages import NextHopReport, NextHopsReported
from routed.log.logger import Logger
from routed.model.route import NEXT_HOPS_MAX

__all__ = [
    "NEXTHOPS_REPORTED_MAX",
    "NEXTHOP_MEMBERS_MAX",
    "report_nexthop",
    "report_nexthops",
]

NEXTHOPS_REPORTED_MAX = 100
"""Most objects in one answer; fewer if they have so many next hops that they do not fit
(`NextHopsReported.halves`)."""

NEXTHOP_MEMBERS_MAX = 2000
"""Most next hops of these objects, desired and in the kernel: some milliseconds of work."""


def report_nexthops(states: Iterable[NextHopState], log: Logger) -> NextHopsReported:
    """Report the first of some nexthop objects: as many as fit in a message and take little time.

    Cost: NEXTHOPS_REPORTED_MAX objects, and NEXTHOP_MEMBERS_MAX next hops of them and those of
    one object more, however many there are.
    """
    reports: list[NextHopReport] = []
    members = 0
    for state in states:
        if len(reports) == NEXTHOPS_REPORTED_MAX or members >= NEXTHOP_MEMBERS_MAX:
            return NextHopsReported(tuple(reports), is_last=False)
        reports.append(report_nexthop(state, log))
        members += len(state.next_hops) + len(state.active)
    return NextHopsReported(tuple(reports), is_last=True)


def report_nexthop(state: NextHopState, log: Logger) -> NextHopReport:
    """Describe one nexthop object for people. An object that was replaced from outside may have
    more members than are shown; that is logged."""
    longest = max(len(state.next_hops), len(state.active))
    if longest > NEXT_HOPS_MAX:
        log.emit("nexthop-cut", id=state.id, next_hops=longest, shown=NEXT_HOPS_MAX)
    return NextHopReport(
        state.id,
        state.next_hops[:NEXT_HOPS_MAX],
        state.active[:NEXT_HOPS_MAX],
        state.problem,
        max(longest - NEXT_HOPS_MAX, 0),
    )
