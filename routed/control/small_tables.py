"""Requests for tables that the configuration bounds; see `handlers`."""

from __future__ import annotations

from ipc.control import Result, ResultCode, ShowBfdSessions, ShowProbes, ShowRules
from ipc.route_rules import quoted
from routed.control.answers import Answer, Final, Views
from routed.control.bfd_views import BfdSessionView
from routed.control.caller import Caller
from routed.control.daemon import Daemon
from routed.control.probe_views import ProbeView
from routed.control.views import RuleView

__all__ = ["show_bfd_sessions", "show_probes", "show_rules"]


async def show_rules(daemon: Daemon, _request: ShowRules, _caller: Caller) -> Answer:
    """Answer with all policy rules."""
    return Views(RuleView, daemon.rules())


async def show_bfd_sessions(daemon: Daemon, request: ShowBfdSessions, _caller: Caller) -> Answer:
    """Answer with all BFD sessions, or the named one."""
    views = daemon.bfd_sessions()
    if request.name is None:
        return Views(BfdSessionView, views)
    found = [view for view in views if view.name == request.name]
    if not found:
        text = f"no BFD session {quoted(request.name)}"
        return Final(Result(ResultCode.NOT_FOUND, (text,)))
    return Views(BfdSessionView, found)


async def show_probes(daemon: Daemon, request: ShowProbes, _caller: Caller) -> Answer:
    """Answer with all probes, or the named one."""
    views = daemon.probes()
    if request.name is None:
        return Views(ProbeView, views)
    found = [view for view in views if view.name == request.name]
    if not found:
        return Final(Result(ResultCode.NOT_FOUND, (f"no probe {quoted(request.name)}",)))
    return Views(ProbeView, found)
