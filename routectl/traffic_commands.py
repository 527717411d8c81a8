"""Commands about the dataplane and the traffic that it counts."""

from __future__ import annotations

from ipc.control import Request, Role
from ipc.traffic import DataplaneTable, ShowDataplane, ShowTraffic, TrafficTable
from routectl.grammar import Ask, Branch, Invocation, Keyword, Leaf, ValueKind
from routectl.render import traffic_views as views

__all__ = ["DATAPLANE_AND_TRAFFIC"]

_INTERFACE = Keyword("interface", ValueKind.INTERFACE, "Only this interface")


def _interfaces(_: Invocation) -> Request:
    return ShowDataplane(DataplaneTable.INTERFACES)


def _programs(_: Invocation) -> Request:
    return ShowDataplane(DataplaneTable.PROGRAMS)


def _by_interface(invocation: Invocation) -> Request:
    return _traffic(TrafficTable.INTERFACES, invocation)


def _by_protocol(invocation: Invocation) -> Request:
    return _traffic(TrafficTable.PROTOCOLS, invocation)


def _by_size(invocation: Invocation) -> Request:
    return _traffic(TrafficTable.PACKET_SIZES, invocation)


def _by_route(invocation: Invocation) -> Request:
    top = invocation.value("top")
    return ShowTraffic(TrafficTable.ROUTES, None, 20 if top is None else int(top))


def _traffic(table: TrafficTable, invocation: Invocation) -> Request:
    interface = invocation.value("interface")
    return ShowTraffic(table, None if interface is None else str(interface))


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
            (_INTERFACE,),
        ),
        Leaf(
            "protocols",
            "Packets and bytes by protocol",
            "show traffic protocols interface eth0",
            Role.READ,
            Ask(_by_protocol, views.PROTOCOL_TRAFFIC),
            (_INTERFACE,),
        ),
        Leaf(
            "packet-sizes",
            "Packets by size",
            "show traffic packet-sizes",
            Role.READ,
            Ask(_by_size, views.PACKET_SIZES),
            (_INTERFACE,),
        ),
        Leaf(
            "routes",
            "Packets and bytes by route, those with the most bytes first",
            "show traffic routes top 10",
            Role.READ,
            Ask(_by_route, views.ROUTE_TRAFFIC),
            (Keyword("top", ValueKind.NUMBER, "Number of routes, 20 by default"),),
        ),
    ),
)

DATAPLANE_AND_TRAFFIC = (_DATAPLANE, _TRAFFIC)
