"""Handler of the request for NUP's own table; `handlers` explains what a handler is."""

from __future__ import annotations

from typing import Any

from ipc.control import ControlType, Result, ResultCode
from ipc.nup_requests import ShowNupRoutes
from routed.control.answers import Answer, Dump, Final
from routed.control.caller import Caller
from routed.control.daemon import Daemon
from routed.control.nup_views import NupRouteView
from routed.control.selection import NupRouteSelector
from routed.model.prefix import Address, Prefix

__all__ = ["DIRECTIONS", "NUP_HANDLERS"]

DIRECTIONS = ("received", "advertised")


async def show_nup_routes(daemon: Daemon, request: ShowNupRoutes, _caller: Caller) -> Answer:
    """Answer with the routes that the request selects, by prefix."""
    if request.direction not in (None, *DIRECTIONS):
        return _failed(ResultCode.USAGE, f"a direction is {' or '.join(DIRECTIONS)}")
    try:
        prefix = None if request.prefix is None else Prefix.parse(request.prefix)
        neighbor = None if request.neighbor is None else Address.parse(request.neighbor)
    except ValueError as error:
        return _failed(ResultCode.USAGE, str(error))
    chunks = daemon.nup_routes(NupRouteSelector(prefix, neighbor, request.direction))
    if chunks is None:
        text = "other clients read the whole table of NUP; try again, or name a prefix"
        return _failed(ResultCode.BUSY, text)
    return Dump(NupRouteView, chunks, Result(ResultCode.NOT_FOUND, ("NUP has no such route",)))


def _failed(code: ResultCode, text: str) -> Final:
    return Final(Result(code, (text,)))


NUP_HANDLERS: dict[ControlType, Any] = {ControlType.SHOW_NUP_ROUTES: show_nup_routes}
