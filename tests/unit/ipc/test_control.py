"""The management protocol's declarations: complete, stable, and consistent with the codec."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from ipc.codec import CodecError, decode, encode
from ipc.control import (
    REQUEST_CLASSES,
    REQUEST_TYPES,
    AddressFamily,
    ClearNeighbor,
    ClientHello,
    Configure,
    ControlType,
    Explain,
    Fib,
    RecordNup,
    Request,
    Result,
    ResultCode,
    Role,
    RouteAttributes,
    RouteChange,
    RouteOperation,
    RouteRenew,
    Rows,
    SetLogLevel,
    ShowFib,
    ShowNeighbors,
    ShowRoute,
    ShowRoutes,
    Welcome,
)
from ipc.traffic import ShowRouteTraffic

MESSAGES: list[object] = [
    ClientHello(1),
    Welcome(1, "0.1.0", "10.255.0.1", Role.READ),
    Rows(("prefix", "next_hops"), (("10.0.0.0/8", [{"via": None, "dev": "eth0", "weight": 1}]),)),
    Result(ResultCode.NOT_FOUND, ("no route covers 192.0.2.1",)),
    ShowNeighbors("10.255.0.2", "eth0"),
    ShowRoutes(AddressFamily.IPV6, "2001:db8::/32", True, "static", True),
    ShowRoute("192.0.2.1"),
    ShowFib(AddressFamily.IPV4, "10.0.0.0/8", True),
]


@pytest.mark.parametrize("message", MESSAGES)
def test_messages_survive_the_codec(message: object) -> None:
    assert decode(type(message), encode(message)) == message


SMALLEST: dict[type[Request], Request] = {
    ShowRoute: ShowRoute("::1"),
    Explain: Explain("::1"),
    ClearNeighbor: ClearNeighbor("10.255.0.2"),
    Configure: Configure("diff"),
    Fib: Fib("couple"),
    SetLogLevel: SetLogLevel("debug"),
    RecordNup: RecordNup("on"),
    RouteChange: RouteChange(RouteOperation.ADD, (RouteAttributes("blackhole"),)),
    RouteRenew: RouteRenew(30.0),
    ShowRouteTraffic: ShowRouteTraffic("10.0.0.0/8"),
}
"""Smallest requests of classes that need arguments."""


@pytest.mark.parametrize("request_class", list(REQUEST_TYPES))
def test_every_request_with_its_defaults_survives_the_codec(
    request_class: type[Request],
) -> None:
    make: Callable[[], Request] = request_class
    request = SMALLEST.get(request_class) or make()
    assert decode(request_class, encode(request)) == request


def test_every_frame_type_that_is_no_answer_is_a_request() -> None:
    answers = {ControlType.HELLO, ControlType.ROWS, ControlType.LAST_ROWS, ControlType.RESULT}
    assert set(REQUEST_CLASSES) == set(ControlType) - answers
    assert len(REQUEST_TYPES) == len(REQUEST_CLASSES)


def test_numbers_on_the_wire_never_change() -> None:
    assert {member.name: member.value for member in ControlType} == {
        "HELLO": 1,
        "ROWS": 2,
        "RESULT": 3,
        "LAST_ROWS": 4,
        "SHOW_STATUS": 10,
        "SHOW_NEIGHBORS": 11,
        "SHOW_INTERFACES": 12,
        "SHOW_ROUTES": 13,
        "SHOW_ROUTE": 14,
        "SHOW_FIB": 15,
        "SHOW_COUNTERS": 16,
        "SHOW_LOG": 22,
        "SHOW_CONFIG": 23,
        "SHOW_PROTOCOL": 24,
        "SHOW_MEMORY": 17,
        "SHOW_NEXTHOPS": 25,
        "SHOW_METRICS": 26,
        "SHOW_DATAPLANE": 27,
        "SHOW_TRAFFIC": 28,
        "SHOW_BFD_SESSIONS": 29,
        "SHOW_NUP_ROUTES": 32,
        "SHOW_RULES": 18,
        "TOPOLOGY": 19,
        "EXPLAIN": 20,
        "MONITOR": 21,
        "SNAPSHOT_OPEN": 30,
        "SHOW_ROUTE_TRAFFIC": 31,
        "SHOW_PROBES": 33,
        "RELOAD": 40,
        "FIB": 41,
        "CONFIGURE": 43,
        "CLEAR_NEIGHBOR": 44,
        "LOG_LEVEL": 45,
        "RECORD": 46,
        "CLEAR_TRAFFIC": 47,
        "ROUTE_CHANGE": 50,
        "ROUTE_RENEW": 51,
    }


def test_a_row_that_is_no_list_is_refused() -> None:
    with pytest.raises(CodecError, match="expected an array"):
        decode(Rows, encode(Rows(("a",), (("x",),))).replace(b"\x91\xa1x", b"\xa1x"))


def test_a_family_that_does_not_exist_is_refused() -> None:
    with pytest.raises(CodecError, match="5 is no AddressFamily"):
        decode(ShowRoutes, encode(ShowRoutes(AddressFamily.IPV4)).replace(b"\x04", b"\x05"))
