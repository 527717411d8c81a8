"""Handlers of the requests about the dataplane and its traffic."""

from __future__ import annotations

from typing import Any

from ipc.control import ControlType, Result, ResultCode
from ipc.traffic import DataplaneTable, ShowDataplane, ShowTraffic, TrafficTable
from routed.control.answers import Answer, Dump, Final, Views
from routed.control.caller import Caller
from routed.control.daemon import Daemon
from routed.control.traffic import dataplane_view_of, traffic_view_of

__all__ = ["TRAFFIC_HANDLERS"]

TOP_MAX = 1000
"""Most routes in one answer."""

_NOT_CONFIGURED = "no traffic is counted: the configuration has no `dataplane: {interfaces: [...]}`"


async def show_dataplane(daemon: Daemon, request: ShowDataplane, _caller: Caller) -> Answer:
    """Answer with the configured interfaces, or with the programs in the kernel."""
    dataplane = daemon.dataplane
    if not dataplane.is_configured:
        return _not_found(_NOT_CONFIGURED)
    if request.table is DataplaneTable.PROGRAMS:
        return Views(dataplane_view_of(request.table), await dataplane.programs())
    return Views(dataplane_view_of(request.table), dataplane.attachments())


async def show_traffic(daemon: Daemon, request: ShowTraffic, _caller: Caller) -> Answer:
    """Answer with the traffic of one interface, or of all together."""
    dataplane = daemon.dataplane
    if not dataplane.is_configured:
        return _not_found(_NOT_CONFIGURED)
    if not dataplane.counts(request.interface):
        what = "no interface is" if request.interface is None else f"{request.interface} is not"
        return _not_found(f"{what} counted; `show dataplane interfaces` has the reason")
    if request.table is TrafficTable.ROUTES:
        if dataplane.routes_problem:
            return _not_found(f"the traffic of routes is not counted: {dataplane.routes_problem}")
        if not 1 <= request.top <= TOP_MAX:
            text = f"`top` is 1 to {TOP_MAX}, not {request.top}"
            return Final(Result(ResultCode.USAGE, (text,)))
        return Dump(traffic_view_of(request.table), dataplane.route_traffic(request.top))
    found = dataplane.traffic(request.table, request.interface)
    return Views(traffic_view_of(request.table), found)


def _not_found(text: str) -> Final:
    return Final(Result(ResultCode.NOT_FOUND, (text,)))


TRAFFIC_HANDLERS: dict[ControlType, Any] = {
    ControlType.SHOW_DATAPLANE: show_dataplane,
    ControlType.SHOW_TRAFFIC: show_traffic,
}
