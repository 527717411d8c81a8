"""Commands about the dataplane and the traffic that it counts."""

from __future__ import annotations

from ipc.control import Request, Role
from ipc.traffic import (
    ClearTraffic,
    DataplaneTable,
    ShowDataplane,
    ShowRouteTraffic,
    ShowTraffic,
    TrafficOrder,
    TrafficTable,
)
from routectl.grammar import (
    Ask,
    Branch,
    Command,
    Fields,
    Invocation,
    Keyword,
    Leaf,
    Positional,
    ValueKind,
)
from routectl.render import traffic_views as views

__all__ = ["CLEAR_TRAFFIC", "DATAPLANE_AND_TRAFFIC"]

_INTERFACE = Keyword("interface", ValueKind.INTERFACE, "Only this interface")
_TOP = Keyword("top", ValueKind.NUMBER, "Only so many rows, those with the most traffic")
_TOP_20 = Keyword("top", ValueKind.NUMBER, "Number of rows, 20 by default")
_BY = Keyword("by", ValueKind.ORDER, "What decides which rows come first")
_LAST = Keyword("last", ValueKind.DURATION, "Only the last seconds, 60 at most, with rates")


def _interfaces(_: Invocation) -> Request:
    return ShowDataplane(DataplaneTable.INTERFACES)


def _programs(_: Invocation) -> Request:
    return ShowDataplane(DataplaneTable.PROGRAMS)


def _export(_: Invocation) -> Request:
    return ShowDataplane(DataplaneTable.EXPORT)


def _by_interface(invocation: Invocation) -> Request:
    return _traffic(TrafficTable.INTERFACES, invocation)


def _by_protocol(invocation: Invocation) -> Request:
    return _traffic(TrafficTable.PROTOCOLS, invocation)


def _by_size(invocation: Invocation) -> Request:
    return _traffic(TrafficTable.PACKET_SIZES, invocation)


def _by_route(invocation: Invocation) -> Request:
    return _traffic(TrafficTable.ROUTES, invocation)


def _by_flow(invocation: Invocation) -> Request:
    return _traffic(TrafficTable.FLOWS, invocation)


def _by_host(invocation: Invocation) -> Request:
    return _traffic(TrafficTable.HOSTS, invocation)


def _by_port(invocation: Invocation) -> Request:
    return _traffic(TrafficTable.PORTS, invocation)


def _traffic(table: TrafficTable, invocation: Invocation) -> Request:
    interface, top = invocation.value("interface"), invocation.value("top")
    by, last = invocation.value("by"), invocation.value("last")
    return ShowTraffic(
        table,
        None if interface is None else str(interface),
        None if top is None else int(top),
        None if by is None else TrafficOrder(by),
        None if last is None else float(last),
    )


_DATAPLANE = Branch(
    "dataplane",
    "The programs in the kernel that count traffic",
    (
        Leaf(
            "interfaces",
            "The configured interfaces, and how the traffic of each is counted, or why not",
            "show dataplane interfaces",
            Role.READ,
            Ask(_interfaces, views.DATAPLANE_INTERFACES),
        ),
        Leaf(
            "programs",
            "The programs: where they are attached, runs and their duration, memory",
            "show dataplane programs",
            Role.READ,
            Ask(_programs, views.DATAPLANE_PROGRAMS),
        ),
    ),
)

_TRAFFIC = Branch(
    "traffic",
    "The traffic of the interfaces in `dataplane.interfaces`",
    (
        Leaf(
            "interfaces",
            "Packets and bytes by interface",
            "show traffic interfaces",
            Role.READ,
            Ask(_by_interface, views.INTERFACE_TRAFFIC),
            (_INTERFACE, _TOP, _BY, _LAST),
        ),
        Leaf(
            "protocols",
            "Packets and bytes by protocol",
            "show traffic protocols interface eth0",
            Role.READ,
            Ask(_by_protocol, views.PROTOCOL_TRAFFIC),
            (_INTERFACE, _TOP, _BY, _LAST),
        ),
        Leaf(
            "packet-sizes",
            "Packets by size",
            "show traffic packet-sizes",
            Role.READ,
            Ask(_by_size, views.PACKET_SIZES),
            (_INTERFACE, _LAST),
        ),
        Leaf(
            "routes",
            "Packets and bytes by route, those with the most bytes first",
            "show traffic routes top 10 last 10s",
            Role.READ,
            Ask(_by_route, views.ROUTE_TRAFFIC),
            (_TOP_20, _BY, _LAST),
        ),
        Leaf(
            "flows",
            "The flows of the present, those with the most bytes first",
            "show traffic flows top 10",
            Role.READ,
            Ask(_by_flow, views.FLOW_TRAFFIC),
            (_TOP_20, _BY),
        ),
        Leaf(
            "hosts",
            "The flows of the present, added up by host",
            "show traffic hosts by packets",
            Role.READ,
            Ask(_by_host, views.HOST_TRAFFIC),
            (_TOP_20, _BY),
        ),
        Leaf(
            "ports",
            "The flows of the present, added up by the lower port",
            "show traffic ports",
            Role.READ,
            Ask(_by_port, views.PORT_TRAFFIC),
            (_TOP_20, _BY),
        ),
        Leaf(
            "route",
            "Packets and bytes of one route, in all and in each second of the last minute",
            "show traffic route 10.1.0.0/16",
            Role.READ,
            Ask(Fields(ShowRouteTraffic, ("prefix",)), views.ROUTE_RATES),
            (Positional("prefix", ValueKind.PREFIX, "Exactly this route", is_required=True),),
        ),
    ),
)

_EXPORT = Leaf(
    "export",
    "The collectors that flows are sent to, with what was sent and lost",
    "show export",
    Role.READ,
    Ask(_export, views.EXPORT),
)

DATAPLANE_AND_TRAFFIC = (_DATAPLANE, _TRAFFIC, _EXPORT)

CLEAR_TRAFFIC = Leaf(
    "traffic",
    "Let the counters of `show traffic` begin at zero; metrics go on",
    "clear traffic",
    Role.ADMIN,
    Command(Fields(ClearTraffic)),
)
