"""Handlers of the requests about the dataplane and its traffic."""

from __future__ import annotations

from typing import Any

from ipc.control import ControlType, Result, ResultCode
from ipc.traffic import (
    ClearTraffic,
    DataplaneTable,
    ShowDataplane,
    ShowRouteTraffic,
    ShowTraffic,
    TrafficTable,
)
from routed.control.answers import Answer, Dump, Final, Views
from routed.control.caller import Caller
from routed.control.daemon import Daemon
from routed.control.traffic import (
    DataplaneViews,
    RouteRateView,
    dataplane_view_of,
    traffic_view_of,
)
from routed.model.prefix import Prefix

__all__ = ["TRAFFIC_HANDLERS"]

TOP_MAX = 1000
"""Most rows in one answer."""
WINDOW_MAX_S = 60
"""Longest window of time: as long as counters are kept."""

_NOT_CONFIGURED = "no traffic is counted: the configuration has no `dataplane: {interfaces: [...]}`"
_OF_FLOWS = (TrafficTable.FLOWS, TrafficTable.HOSTS, TrafficTable.PORTS)
_NO_ROUTES = "the traffic of routes is not counted: "


async def show_dataplane(daemon: Daemon, request: ShowDataplane, _caller: Caller) -> Answer:
    """Answer with the configured interfaces, or with the programs in the kernel."""
    dataplane = daemon.dataplane
    if not dataplane.is_configured:
        return _not_found(_NOT_CONFIGURED)
    if request.table is DataplaneTable.PROGRAMS:
        return Views(dataplane_view_of(request.table), await dataplane.programs())
    if request.table is DataplaneTable.EXPORT:
        return Views(dataplane_view_of(request.table), dataplane.export())
    return Views(dataplane_view_of(request.table), dataplane.attachments())


async def show_traffic(daemon: Daemon, request: ShowTraffic, _caller: Caller) -> Answer:
    """Answer with the traffic of one interface, or of all together."""
    dataplane = daemon.dataplane
    if (refusal := _refusal(dataplane, request.interface)) is not None:
        return refusal
    if request.top is not None and not 1 <= request.top <= TOP_MAX:
        return _usage(f"`top` is 1 to {TOP_MAX}, not {request.top}")
    if request.last_s is not None and not 1 <= request.last_s <= WINDOW_MAX_S:
        return _usage(f"`last` is 1s to {WINDOW_MAX_S}s, not {request.last_s:g}s")
    if request.table is TrafficTable.ROUTES:
        if dataplane.routes_problem:
            return _not_found(_NO_ROUTES + dataplane.routes_problem)
        return Dump(traffic_view_of(request.table), dataplane.route_traffic(request))
    if request.table in _OF_FLOWS:
        if request.interface is not None or request.last_s is not None:
            return _usage(f"{request.table.value} takes neither `interface` nor `last`")
        found = await dataplane.flow_traffic(request)
        if isinstance(found, str):
            return _not_found(found)
        return Views(traffic_view_of(request.table), found)
    return Views(traffic_view_of(request.table), dataplane.traffic(request))


async def show_route_traffic(daemon: Daemon, request: ShowRouteTraffic, _caller: Caller) -> Answer:
    """Answer with the traffic of one route."""
    dataplane = daemon.dataplane
    if (refusal := _refusal(dataplane)) is not None:
        return refusal
    if dataplane.routes_problem:
        return _not_found(_NO_ROUTES + dataplane.routes_problem)
    try:
        prefix = Prefix.parse(request.prefix)
    except ValueError as error:
        return _usage(str(error))
    views = dataplane.route_rates(prefix)
    if not views:
        return _not_found(f"{prefix} is no route, and was none that has carried anything")
    return Views(RouteRateView, views)


async def clear_traffic(daemon: Daemon, _request: ClearTraffic, _caller: Caller) -> Answer:
    """Let the counters that are shown begin at zero."""
    dataplane = daemon.dataplane
    if (refusal := _refusal(dataplane)) is not None:
        return refusal
    dataplane.clear_traffic()
    return Final(Result(ResultCode.OK, ("the counters of `show traffic` begin at zero",)))


def _refusal(dataplane: DataplaneViews, interface: str | None = None) -> Final | None:
    """Say why there is no traffic to be shown of an interface, or of any."""
    if not dataplane.is_configured:
        return _not_found(_NOT_CONFIGURED)
    if not dataplane.counts(interface):
        what = "no interface is" if interface is None else f"{interface} is not"
        return _not_found(f"{what} counted; `show dataplane interfaces` has the reason")
    return None


def _usage(text: str) -> Final:
    return Final(Result(ResultCode.USAGE, (text,)))


def _not_found(text: str) -> Final:
    return Final(Result(ResultCode.NOT_FOUND, (text,)))


TRAFFIC_HANDLERS: dict[ControlType, Any] = {
    ControlType.SHOW_DATAPLANE: show_dataplane,
    ControlType.SHOW_TRAFFIC: show_traffic,
    ControlType.SHOW_ROUTE_TRAFFIC: show_route_traffic,
    ControlType.CLEAR_TRAFFIC: clear_traffic,
}
