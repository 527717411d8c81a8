"""A daemon that answers from a fixed table, and the real management server in front of it.

python -m tests.fakes.fake_daemon /tmp/routed.sock [ROUTES]      to try routectl by hand
"""

from __future__ import annotations

import os
import socket
import sys
import threading
from collections import Counter
from collections.abc import (
    AsyncGenerator,
    Callable,
    Collection,
    Generator,
    Iterator,
    Mapping,
    Sequence,
)
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import trio

from routed.control.bfd_views import BfdSessionView
from routed.control.changes import ChangeHub
from routed.control.daemon import CommandOutcome, EndedRecording, ParentRequest
from routed.control.injection import Injection, InjectionRefusal
from routed.control.nup_views import NupRouteView
from routed.control.policy import AccessList
from routed.control.probe_views import ProbeView
from routed.control.rows import to_row
from routed.control.selection import NupRouteSelector, RouteSelector
from routed.control.server import ManagementServer
from routed.control.tables import Position, TablePage, TablePosition
from routed.control.views import (
    ConfigView,
    CounterView,
    ExplainView,
    FibView,
    InterfaceView,
    LogView,
    MemoryView,
    NeighborView,
    NextHopObjectView,
    ProtocolView,
    RouteView,
    RuleView,
    StatusView,
    TopologyView,
)
from routed.imsg.messages import FibCommanded, LogLevelRequested, ReloadRequested
from routed.log.events import EVENTS
from routed.model.command import FibCommand, ReloadAction
from routed.model.plan_step import PlanStep
from routed.model.prefix import Address, Prefix
from routed.parent.listeners import close_listener, open_management_listener
from tests.fakes.fake_dataplane import FakeDataplane
from tests.fakes.fake_views import (
    BFD_SESSIONS,
    CHUNK,
    CONFIG,
    COUNTERS,
    COUPLED,
    EXPLAINED,
    FIB,
    INTERFACES,
    LOG,
    MEMORY,
    METRICS,
    NEIGHBORS,
    NEXTHOPS,
    NUP_ROUTES,
    PLAN,
    PROBES,
    PROTOCOLS,
    RELOADED,
    ROUTES,
    RULES,
    STATUS,
    TOPOLOGY,
    many_routes,
)


@dataclass
class FakeDaemon:
    """Answers from its fields, which a test sets."""

    status_view: StatusView = STATUS
    explained: ExplainView = EXPLAINED
    is_nup_table_busy: bool = False
    neighbor_views: tuple[NeighborView, ...] = NEIGHBORS
    route_views: tuple[RouteView, ...] = ROUTES
    fib_views: tuple[FibView, ...] = FIB
    reload_outcome: CommandOutcome = RELOADED
    plan: tuple[PlanStep, ...] = PLAN
    reloads: list[tuple[int, int]] = field(default_factory=list)
    """uid and pid of each client that requested a reload."""
    fib_outcome: CommandOutcome = COUPLED
    fib_commands: list[tuple[FibCommand, int, int]] = field(default_factory=list)
    hub: ChangeHub = field(default_factory=ChangeHub)
    injections: list[Injection] = field(default_factory=list)
    refusals: tuple[InjectionRefusal, ...] = ()
    """Refusals of the next injections."""
    configured: list[tuple[ReloadAction, float | None]] = field(default_factory=list)
    confirmed: list[str] = field(default_factory=list)
    renewals: list[tuple[str, float]] = field(default_factory=list)
    cleared: list[Address] = field(default_factory=list)
    dataplane: FakeDataplane = field(default_factory=FakeDataplane)
    is_recording: bool = False
    has_recording: bool = False
    log_levels: list[str] = field(default_factory=list)
    client_refusals: Counter[str] = field(default_factory=Counter)
    ended_sessions: list[int] = field(default_factory=list)
    chunks_given: int = 0
    """Number of chunks that dumps of routes have produced."""
    version: int = 0
    """Version of its tables."""
    _numbered: tuple[RouteView, ...] = ()
    _numbers: dict[Prefix, int] = field(default_factory=dict)
    """Position of each prefix in `_numbered`."""
    on_chunk: Callable[[], None] = lambda: None
    """Called before each chunk of routes."""

    def status(self) -> StatusView:
        return self.status_view

    def neighbors(self) -> Generator[Sequence[NeighborView], None, None]:
        yield self.neighbor_views

    def interfaces(self) -> Generator[Sequence[InterfaceView], None, None]:
        yield INTERFACES

    @property
    def parent(self) -> FakeDaemon:
        return self

    @property
    def tables(self) -> FakeDaemon:
        return self

    @property
    def injection(self) -> FakeDaemon:
        return self

    @property
    def changes(self) -> ChangeHub:
        return self.hub

    @property
    def recording(self) -> FakeDaemon:
        return self

    def metrics(self) -> str:
        return METRICS

    def routes(self, selector: RouteSelector, after: Position | None, limit: int) -> TablePage:
        assert not isinstance(after, TablePosition)
        self.on_chunk()
        self.chunks_given += 1
        start = self._position_after(after)
        chunk = self.route_views[start : start + CHUNK]
        rows = [
            to_row(view)
            for view in chunk
            if selector.matches_prefix(view.prefix)
            and selector.source in (None, view.source)
            and (view.selected or not selector.is_selected_only)
        ]
        is_over = start + CHUNK >= len(self.route_views)
        return TablePage(rows, None if is_over else chunk[-1].prefix)

    def _position_after(self, after: Prefix | None) -> int:
        if after is None:
            return 0
        if self._numbered is not self.route_views:
            self._numbered = self.route_views
            self._numbers = {view.prefix: number for number, view in enumerate(self._numbered)}
        return self._numbers[after] + 1

    @property
    def table_ids(self) -> Mapping[str, int]:
        return {"main": 254, "isp2": 100}

    def route(self, address: Address, table: str) -> Sequence[RouteView]:
        covering = [view for view in self.route_views if view.prefix.contains_address(address)]
        longest = max((view.prefix.prefix_len for view in covering), default=0)
        return [view for view in covering if view.prefix.prefix_len == longest]

    def fib(self, selector: RouteSelector, after: Position | None, limit: int) -> TablePage:
        views = [view for view in self.fib_views if selector.matches_prefix(view.prefix)]
        return TablePage([to_row(view) for view in views], None)

    def counters(self) -> Sequence[CounterView]:
        return COUNTERS

    async def nexthops(self) -> AsyncGenerator[Sequence[NextHopObjectView], None]:
        yield NEXTHOPS

    def rules(self) -> Sequence[RuleView]:
        return RULES

    def probes(self) -> Sequence[ProbeView]:
        return PROBES

    def bfd_sessions(self) -> Sequence[BfdSessionView]:
        return BFD_SESSIONS

    def configuration(
        self, section: str | None, *, is_all: bool
    ) -> Generator[Sequence[ConfigView], None, None]:
        yield [
            line
            for line in CONFIG
            if section in (None, line.option.partition(".")[0]) and (is_all or not line.is_default)
        ]

    def protocols(self) -> Sequence[ProtocolView]:
        return PROTOCOLS

    def start(self) -> bool:
        was_off, self.is_recording = not self.is_recording, True
        self.has_recording = True
        return was_off

    def stop(self) -> EndedRecording | None:
        was_on, self.is_recording = self.is_recording, False
        text = '{"routed-recording": 1}\n' + "x" * 40_000 + "\n"
        return EndedRecording(text, 0.0 if was_on else 65.0) if self.has_recording else None

    def clear_neighbor(self, neighbor: Address) -> bool:
        self.cleared.append(neighbor)
        return any(neighbor in (view.router_id, view.address) for view in self.neighbor_views)

    def log(self) -> Sequence[LogView]:
        return LOG

    def log_events(self) -> Collection[str]:
        return EVENTS

    def memory(self) -> Sequence[MemoryView]:
        return MEMORY

    def topology(self) -> Generator[Sequence[TopologyView], None, None]:
        yield TOPOLOGY

    def nup_routes(
        self, selector: NupRouteSelector
    ) -> Generator[Sequence[NupRouteView], None, None] | None:
        if self.is_nup_table_busy and selector.prefix is None:
            return None
        return (
            [view]
            for view in NUP_ROUTES
            if selector.prefix in (None, view.prefix)
            and selector.direction in (None, view.direction)
        )

    def explain(self, address: Address, table: str) -> ExplainView:
        return replace(self.explained, address=address, table=table)

    def snapshot_fd(self) -> int:
        return self._snapshot.fileno()

    def inject(self, injection: Injection) -> Sequence[InjectionRefusal]:
        self.injections.append(injection)
        return self.refusals

    def renew(self, owner: str, seconds: float) -> int:
        self.renewals.append((owner, seconds))
        return len(self.injections)

    def session_ended(self, session: int) -> None:
        self.ended_sessions.append(session)

    async def command(self, request: ParentRequest) -> CommandOutcome:
        match request:
            case FibCommanded():
                self.fib_commands.append((request.command, request.uid, request.pid))
                return self.fib_outcome
            case LogLevelRequested(level=level):
                self.log_levels.append(level)
                return CommandOutcome(True, (f"logging from {level} on",))
            case ReloadRequested():
                return self._configure(request)

    def _configure(self, request: ReloadRequested) -> CommandOutcome:
        if request.action is ReloadAction.RELOAD and request.confirm_s is None:
            self.reloads.append((request.uid, request.pid))
        self.configured.append((request.action, request.confirm_s))
        self.confirmed.append(request.token)
        if request.action is ReloadAction.PLAN:
            return CommandOutcome(True, tuple(step.packed() for step in self.plan))
        return self.reload_outcome

    def __post_init__(self) -> None:
        self._snapshot = os.fdopen(os.memfd_create("fake-snapshot"), "r+b")
        self._snapshot.write(b"snapshot")
        self._snapshot.flush()

    def publish(self, snapshot: bytes) -> None:
        """Put other bytes into the snapshot."""
        self._snapshot.seek(0)
        self._snapshot.write(snapshot)
        self._snapshot.flush()

    def close(self) -> None:
        """Release the snapshot."""
        self._snapshot.close()


class ServerThread:
    """A management server in a thread of its own, for clients that block."""

    def __init__(self, path: Path, daemon: FakeDaemon, access: AccessList) -> None:
        self.events: list[tuple[str, dict[str, str]]] = []
        self._listener = open_management_listener(str(path))
        self._server = ManagementServer(
            self._listener,
            daemon,
            access,
            lambda event, fields: self.events.append((event, fields)),
        )
        self._scope = trio.CancelScope()
        self._token: trio.lowlevel.TrioToken | None = None
        self._started = threading.Event()
        self._thread = threading.Thread(target=trio.run, args=(self._main,))

    @property
    def sessions(self) -> int:
        """Number of open sessions."""
        return self._server.sessions

    def start(self) -> None:
        """Serve from now on."""
        self._thread.start()
        assert self._started.wait(10)

    def stop(self) -> None:
        """Close every session, and the socket."""
        assert self._token is not None
        self._token.run_sync_soon(self._scope.cancel)
        self._thread.join(10)
        assert not self._thread.is_alive()
        close_listener(self._listener)

    def soon(self, call: Callable[[], None]) -> None:
        """Call something in the server's thread, after what it is doing."""
        assert self._token is not None
        self._token.run_sync_soon(call)

    def wait_until(self, check: Callable[[], bool]) -> None:
        """Wait for a state of the server's thread."""
        is_so = threading.Event()

        def look() -> None:
            if check():
                is_so.set()
            else:
                self.soon(look)

        self.soon(look)
        assert is_so.wait(10)

    async def _main(self) -> None:
        self._token = trio.lowlevel.current_trio_token()
        self._started.set()
        with self._scope:
            await self._server.run()


@contextmanager
def serving(
    path: Path, daemon: FakeDaemon, access: AccessList | None = None
) -> Iterator[ServerThread]:
    """Run a server thread until the block ends."""
    server = ServerThread(path, daemon, access or AccessList())
    server.start()
    try:
        yield server
    finally:
        server.stop()


def connect(path: Path) -> socket.socket:
    """Return a raw client connection, for messages that no client sends."""
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    connection.connect(str(path))
    return connection


def main() -> None:
    """Serve until Ctrl-C."""
    daemon = FakeDaemon()
    if len(sys.argv) > 2:
        daemon.route_views = many_routes(int(sys.argv[2]))
    listener = open_management_listener(sys.argv[1])
    server = ManagementServer(
        listener,
        daemon,
        AccessList(),
        lambda event, fields: print(event, fields, file=sys.stderr),  # noqa: T201 by hand only
    )
    try:
        trio.run(server.run)
    except KeyboardInterrupt:
        pass
    finally:
        close_listener(listener)
        daemon.close()


if __name__ == "__main__":
    main()
