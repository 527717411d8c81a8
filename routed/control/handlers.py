"""Requests of clients: one handler for each, and the table of them.

A handler validates the meaning of its request (the codec has validated its form, the policy its
sender), asks the daemon, and returns an answer as a value (`routed/control/answers.py`), which the
server sends as fast as the client reads. So all handlers are tested without a socket.

Failure: for a fault of the client the answer is a `Final` with a result code; an exception is a
defect.
"""

from __future__ import annotations

import functools
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from ipc.control import (
    CONFIG_SECTIONS,
    ClearNeighbor,
    Configure,
    ControlType,
    Explain,
    Fib,
    Monitor,
    RecordNup,
    Reload,
    Result,
    ResultCode,
    RouteChange,
    RouteOperation,
    RouteRenew,
    SetLogLevel,
    ShowConfig,
    ShowCounters,
    ShowFib,
    ShowInterfaces,
    ShowLog,
    ShowMemory,
    ShowMetrics,
    ShowNeighbors,
    ShowNextHops,
    ShowProtocol,
    ShowRoute,
    ShowRoutes,
    ShowStatus,
    SnapshotOpen,
    Topology,
)
from ipc.route_rules import quoted
from routed.control.answers import Answer, Dump, Final, RowStream, Views
from routed.control.caller import Caller
from routed.control.changes import WATCHES_PER_USER, ChangeView, Topic
from routed.control.daemon import Daemon, ParentRequest, RouteTables
from routed.control.injection import (
    LEASE_MAX_S,
    LEASE_MIN_S,
    BatchError,
    InjectionRefusal,
    owner_of,
    read_change,
)
from routed.control.nup_handlers import NUP_HANDLERS
from routed.control.rows import columns_of
from routed.control.selection import (
    LOG_LEVELS,
    RouteSelector,
    fib_selector,
    log_lines,
    no_level,
    route_selector,
    table_named,
)
from routed.control.small_tables import show_bfd_sessions, show_probes, show_rules
from routed.control.tables import Position, ResultTable, TablePage
from routed.control.traffic_handlers import TRAFFIC_HANDLERS
from routed.control.views import (
    ConfigView,
    CounterView,
    ExplainView,
    FibView,
    InterfaceView,
    LogView,
    MemoryView,
    MetricLineView,
    NeighborView,
    NextHopObjectView,
    ProtocolView,
    RecordingView,
    RouteView,
    StatusView,
    TopologyView,
)
from routed.imsg.messages import FibCommanded, LogLevelRequested, ReloadRequested
from routed.model.command import FibCommand, ReloadAction
from routed.model.plan_step import PlanStep
from routed.model.prefix import Address

__all__ = ["HANDLERS", "Handler"]

_PIECE = 30_000
"""Characters of a recording in one row; each row is a page."""
CONFIRM_MIN_S = 1.0
CONFIRM_MAX_S = 3600.0
"""An operator does not wait for longer than an hour; meanwhile no other change is accepted."""

TOKEN_MAX = 40
"""Characters of a confirm token; the daemon's tokens have six."""

Handler = Callable[[Daemon, Any, Caller], Awaitable[Answer]]


async def show_status(daemon: Daemon, _request: ShowStatus, _caller: Caller) -> Answer:
    """Answer with one row."""
    return Views(StatusView, [daemon.status()])


async def show_neighbors(daemon: Daemon, request: ShowNeighbors, _caller: Caller) -> Answer:
    """Answer with all neighbors, those of an interface, or those with a router id or address."""
    found = (
        [
            view
            for view in chunk
            if request.interface in (None, view.interface)
            and request.neighbor in (None, str(view.router_id), str(view.address))
        ]
        for chunk in daemon.neighbors()
    )
    if request.neighbor is None:
        return Dump(NeighborView, found)
    return Dump(NeighborView, found, _not_found(f"no neighbor {request.neighbor}").result)


async def show_interfaces(daemon: Daemon, request: ShowInterfaces, _caller: Caller) -> Answer:
    """Answer with all interfaces, or the named one."""
    found = (
        [view for view in chunk if request.interface in (None, view.interface)]
        for chunk in daemon.interfaces()
    )
    if request.interface is None:
        return Dump(InterfaceView, found)
    return Dump(InterfaceView, found, _not_found(f"no interface {request.interface}").result)


async def show_routes(daemon: Daemon, request: ShowRoutes, _caller: Caller) -> Answer:
    """Answer with the candidates that the request selects."""
    try:
        selector = route_selector(request, daemon.tables.table_ids)
    except ValueError as error:
        return _usage(str(error))
    return _table(RouteView, daemon.tables, selector, daemon.tables.routes)


async def show_route(daemon: Daemon, request: ShowRoute, _caller: Caller) -> Answer:
    """Answer with the candidates of the longest match."""
    try:
        address = Address.parse(request.address)
        table = table_named(request.table, daemon.tables.table_ids)
    except ValueError as error:
        return _usage(str(error))
    found = daemon.tables.route(address, table)
    if not found:
        return _not_found(f"no route covers {address}")
    return Views(RouteView, found)


async def show_fib(daemon: Daemon, request: ShowFib, _caller: Caller) -> Answer:
    """Answer with the desired routes that the request selects."""
    try:
        selector = fib_selector(request, daemon.tables.table_ids)
    except ValueError as error:
        return _usage(str(error))
    return _table(FibView, daemon.tables, selector, daemon.tables.fib)


def _table(
    view_class: type,
    tables: RouteTables,
    selector: RouteSelector,
    page: Callable[[RouteSelector, Position | None, int], TablePage],
) -> ResultTable:
    return ResultTable(
        columns_of(view_class),
        (view_class, selector),
        lambda: tables.version,
        functools.partial(page, selector),
    )


async def show_counters(daemon: Daemon, _request: ShowCounters, _caller: Caller) -> Answer:
    """Answer with all counters."""
    return Views(CounterView, daemon.counters())


async def show_nexthops(daemon: Daemon, _request: ShowNextHops, _caller: Caller) -> Answer:
    """Answer with all kernel nexthop objects, as the parent reports them."""
    return Dump(NextHopObjectView, daemon.nexthops())


async def show_config(daemon: Daemon, request: ShowConfig, _caller: Caller) -> Answer:
    """Answer with all lines of the configuration, or those of one section."""
    if request.section not in (None, *CONFIG_SECTIONS):
        return _usage(
            f"{quoted(request.section)} is no section of the configuration: "
            f"{', '.join(CONFIG_SECTIONS)}"
        )
    chunks = daemon.configuration(request.section, is_all=request.is_all)
    return Dump(ConfigView, chunks)


async def show_protocol(daemon: Daemon, _request: ShowProtocol, _caller: Caller) -> Answer:
    """Answer with all sources of routes."""
    return Views(ProtocolView, daemon.protocols())


async def show_log(daemon: Daemon, request: ShowLog, _caller: Caller) -> Answer:
    """Answer with the log lines at or above a level, of one event or of all."""
    try:
        found = log_lines(request, daemon.log(), daemon.log_events())
    except ValueError as error:
        return _usage(str(error))
    return Views(LogView, found)


async def show_memory(daemon: Daemon, _request: ShowMemory, _caller: Caller) -> Answer:
    """Answer with the memory of all parts."""
    return Views(MemoryView, daemon.memory())


async def show_metrics(daemon: Daemon, _request: ShowMetrics, _caller: Caller) -> Answer:
    """Answer with the metrics, line by line."""
    return Views(MetricLineView, [MetricLineView(line) for line in daemon.metrics().splitlines()])


async def show_topology(daemon: Daemon, _request: Topology, _caller: Caller) -> Answer:
    """Answer with this router, then its neighbors, then other routers by router id."""
    return Dump(TopologyView, daemon.topology())


async def explain(daemon: Daemon, request: Explain, _caller: Caller) -> Answer:
    """Answer with one row; an address without a route is explained as well."""
    try:
        address = Address.parse(request.address)
        table = table_named(request.table, daemon.tables.table_ids)
    except ValueError as error:
        return _usage(str(error))
    return Views(ExplainView, [daemon.explain(address, table)])


async def monitor(daemon: Daemon, request: Monitor, caller: Caller) -> Answer:
    """Answer with changes until the client disconnects."""
    known = {topic.value: topic for topic in Topic}
    for name in request.topics:
        if name not in known:
            return _usage(f"{name!r} cannot be watched: {', '.join(known)}")
    topics = frozenset(known[name] for name in request.topics) or frozenset(Topic)
    feed = daemon.changes.watch(topics, caller.uid)
    if feed is None:
        text = f"uid {caller.uid} has {WATCHES_PER_USER} monitors, which is all that one may have"
        return Final(Result(ResultCode.BUSY, (text,)))
    return RowStream(ChangeView, feed)


async def open_snapshot(daemon: Daemon, _request: SnapshotOpen, _caller: Caller) -> Answer:
    """Answer with the descriptor of the snapshot. Everyone who may read may map it."""
    return Final(descriptor=daemon.snapshot_fd())


async def command_fib(daemon: Daemon, request: Fib, caller: Caller) -> Answer:
    """Couple, decouple or resync the FIB."""
    try:
        command = FibCommand(request.command)
    except ValueError:
        known = ", ".join(command.value for command in FibCommand)
        return _usage(f"no fib command {request.command!r}; there are {known}")
    return await _command(daemon, FibCommanded(command, caller.uid, caller.pid))


async def reload(daemon: Daemon, _request: Reload, caller: Caller) -> Answer:
    """Reload the configuration. On failure nothing has changed, and the lines say why."""
    return await _command(daemon, ReloadRequested(caller.uid, caller.pid))


async def configure(daemon: Daemon, request: Configure, caller: Caller) -> Answer:
    """Review, reload, confirm or roll back a configuration."""
    try:
        action = ReloadAction(request.action)
    except ValueError:
        known = ", ".join(known.value for known in ReloadAction)
        return _usage(f"{request.action!r} is no action for a configuration: {known}")
    confirm_s = request.confirm_s
    if confirm_s is not None:
        if action is not ReloadAction.RELOAD:
            return _usage(f"`confirm` belongs to a reload, not to {action.value}")
        if not CONFIRM_MIN_S <= confirm_s <= CONFIRM_MAX_S:
            limits = f"{CONFIRM_MIN_S:g} to {CONFIRM_MAX_S:g} seconds"
            return _usage(f"the time for a confirmation is {limits}, not {confirm_s:g}")
    if request.token and action is not ReloadAction.CONFIRM:
        return _usage(f"a name belongs to `confirm`, not to {action.value}")
    token = request.token[:TOKEN_MAX]
    answer = await _command(
        daemon, ReloadRequested(caller.uid, caller.pid, action, confirm_s, token)
    )
    if action is ReloadAction.PLAN and answer.result.code is ResultCode.OK:
        return Views(PlanStep, [PlanStep.unpacked(line) for line in answer.result.lines])
    return answer


async def clear_neighbor(daemon: Daemon, request: ClearNeighbor, _caller: Caller) -> Answer:
    """Clear a neighbor."""
    try:
        neighbor = Address.parse(request.neighbor)
    except ValueError as error:
        return _usage(str(error))
    if not daemon.clear_neighbor(neighbor):
        return _not_found(f"no adjacency with {neighbor}")
    return Final(Result(ResultCode.OK, (f"cleared {neighbor}",)))


async def record(daemon: Daemon, request: RecordNup, _caller: Caller) -> Answer:
    """Begin a recording, or end it and answer with its text, again until the next begins."""
    if request.action == "on":
        if not daemon.recording.start():
            return _failed("a recording is under way; end it with `record off`")
        return Final(Result(ResultCode.OK, ("recording what NUP receives",)))
    if request.action != "off":
        return _usage(f"{request.action!r} is no action for a recording: on, off")
    ended = daemon.recording.stop()
    if ended is None:
        return _not_found("nothing is being recorded; begin with `record on`")
    text, ended_s = ended.text, round(ended.ended_s, 3)
    pieces = (text[at : at + _PIECE] for at in range(0, len(text), _PIECE))
    return Dump(RecordingView, ([RecordingView(piece, ended_s)] for piece in pieces))


async def set_log_level(daemon: Daemon, request: SetLogLevel, _caller: Caller) -> Answer:
    """Set the log level of the daemon, or open the file of its log again."""
    if request.level == "reopen":
        return await _command(daemon, LogLevelRequested(""))
    if request.level not in LOG_LEVELS:
        return _usage(no_level(request.level))
    return await _command(daemon, LogLevelRequested(request.level))


async def change_routes(daemon: Daemon, request: RouteChange, caller: Caller) -> Answer:
    """Inject, replace or delete routes. If any is refused, nothing changes, and each has a row."""
    try:
        injection = read_change(request, caller, daemon.tables.table_ids)
    except BatchError as error:
        return _usage(str(error))
    if isinstance(injection, list):
        return _refused(injection, ResultCode.USAGE)
    refusals = daemon.injection.inject(injection)
    if refusals:
        is_delete = request.operation is RouteOperation.DELETE
        return _refused(refusals, ResultCode.NOT_FOUND if is_delete else ResultCode.FAILED)
    return Final(Result(ResultCode.OK, (_done(request.operation, injection.count),)))


async def renew_routes(daemon: Daemon, request: RouteRenew, caller: Caller) -> Answer:
    """Renew leases. An owner without leased routes is too late and gets an error."""
    if not LEASE_MIN_S <= request.seconds <= LEASE_MAX_S:
        return _usage(
            f"a lease lasts {LEASE_MIN_S:g} to {LEASE_MAX_S:g} seconds, not {request.seconds:g}"
        )
    try:
        owner = owner_of(caller, request.owner, is_session=False)
    except BatchError as error:
        return _usage(str(error))
    count = daemon.injection.renew(owner, request.seconds)
    if not count:
        return _not_found(f"{owner} has no leased routes")
    return Final(Result(ResultCode.OK, (f"renewed {_routes(count)}",)))


def _refused(refusals: Sequence[InjectionRefusal], code: ResultCode) -> Views:
    more = f" (and {len(refusals) - 1} more)" if len(refusals) > 1 else ""
    return Views(InjectionRefusal, refusals, Result(code, (refusals[0].problem + more,)))


def _done(operation: RouteOperation, count: int) -> str:
    texts = {
        RouteOperation.ADD: "added",
        RouteOperation.REPLACE: "put in place",
        RouteOperation.DELETE: "deleted",
    }
    return f"{texts[operation]} {_routes(count)}"


def _routes(count: int) -> str:
    return f"{count} route" if count == 1 else f"{count} routes"


HANDLERS: dict[ControlType, Handler] = {
    ControlType.SHOW_STATUS: show_status,
    ControlType.SHOW_NEIGHBORS: show_neighbors,
    ControlType.SHOW_INTERFACES: show_interfaces,
    ControlType.SHOW_ROUTES: show_routes,
    ControlType.SHOW_ROUTE: show_route,
    ControlType.SHOW_FIB: show_fib,
    ControlType.SHOW_COUNTERS: show_counters,
    ControlType.SHOW_LOG: show_log,
    ControlType.SHOW_MEMORY: show_memory,
    ControlType.SHOW_METRICS: show_metrics,
    ControlType.SHOW_RULES: show_rules,
    ControlType.SHOW_NEXTHOPS: show_nexthops,
    ControlType.SHOW_BFD_SESSIONS: show_bfd_sessions,
    ControlType.SHOW_PROBES: show_probes,
    ControlType.SHOW_CONFIG: show_config,
    ControlType.SHOW_PROTOCOL: show_protocol,
    ControlType.TOPOLOGY: show_topology,
    ControlType.EXPLAIN: explain,
    ControlType.MONITOR: monitor,
    ControlType.SNAPSHOT_OPEN: open_snapshot,
    ControlType.FIB: command_fib,
    ControlType.RELOAD: reload,
    ControlType.CONFIGURE: configure,
    ControlType.CLEAR_NEIGHBOR: clear_neighbor,
    ControlType.LOG_LEVEL: set_log_level,
    ControlType.RECORD: record,
    ControlType.ROUTE_CHANGE: change_routes,
    ControlType.ROUTE_RENEW: renew_routes,
    **NUP_HANDLERS,
    **TRAFFIC_HANDLERS,
}


async def _command(daemon: Daemon, request: ParentRequest) -> Final:
    outcome = await daemon.parent.command(request)
    code = ResultCode.OK if outcome.is_ok else ResultCode.FAILED
    return Final(Result(code, outcome.lines))


def _failed(text: str) -> Final:
    return Final(Result(ResultCode.FAILED, (text,)))


def _not_found(text: str) -> Final:
    return Final(Result(ResultCode.NOT_FOUND, (text,)))


def _usage(text: str) -> Final:
    return Final(Result(ResultCode.USAGE, (text,)))
