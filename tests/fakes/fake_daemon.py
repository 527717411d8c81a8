"""A daemon that answers from a fixed table, and the real management server in front of it.

python -m tests.fakes.fake_daemon /tmp/routed.sock [ROUTES]      to try routectl by hand
"""

from __future__ import annotations

import os
import socket
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import trio

from ipc.internal import FibCommand, ReloadAction
from routed.control.changes import ChangeFeed, ChangeHub, Topic
from routed.control.daemon import Outcome
from routed.control.injection import Injection, Refusal
from routed.control.policy import AccessList
from routed.control.server import ManagementServer
from routed.control.tables import TablePage
from routed.control.views import (
    ConfigView,
    CounterView,
    ExplainedCandidate,
    ExplainView,
    FibState,
    FibTotals,
    FibView,
    InterfaceView,
    LogView,
    MemoryView,
    NeighborView,
    NextHopObjectView,
    NextHopView,
    ProtocolView,
    ReloadView,
    RouteSelector,
    RouteView,
    RuleView,
    StatusView,
    TopologyView,
    to_row,
)
from routed.listener import close_listener, open_management_listener
from routed.model.prefix import Address, Family, Prefix
from routed.model.route import RouteSource, RouteType

STATUS = StatusView(
    version="0.1.0",
    pid=4711,
    uptime_s=3725.0,
    router_id=Address.parse("10.255.0.1"),
    config_path="/etc/routed/routes.yaml",
    last_reload=ReloadView(True, 65.0, "2 static routes added"),
    routes=5,
    neighbors=1,
    fib=FibTotals(
        desired=4,
        installed=3,
        failed=1,
        pending=0,
        coupled=True,
        nexthop_objects=3,
        nexthops="objects (net.ipv4.nexthop_compat_mode=0)",
    ),
    engine_restarts=0,
    sandbox="seccomp, landlock abi 7, uid 998",
    sandbox_refusals=2,
)

NEIGHBORS = (
    NeighborView(
        router_id=Address.parse("10.255.0.2"),
        interface="eth0",
        address=Address.parse("fe80::2"),
        state="up",
        uptime_s=3600.0,
        dead_in_s=2.4,
        rtt_ms=0.31,
        rto_ms=100.0,
        cost=10,
        retransmissions=3,
        prefixes=2,
    ),
    NeighborView(
        router_id=None,
        interface="eth1",
        address=Address.parse("192.0.2.9"),
        state="init",
        uptime_s=None,
        dead_in_s=1.0,
        rtt_ms=None,
        rto_ms=None,
        cost=10,
        retransmissions=0,
        prefixes=0,
    ),
)

INTERFACES = (
    InterfaceView("eth0", 2, "up", 1500, ("10.0.0.1/24", "fe80::1/64"), True, 10, 1.0, 1),
    InterfaceView("eth1", 3, "no_carrier", 9000, (), False, None, None, 0),
)

_VIA_2 = NextHopView(Address.parse("fe80::2"), "eth0")
_VIA_9 = NextHopView(Address.parse("192.0.2.9"), "eth1")

ROUTES = (
    RouteView(
        prefix=Prefix.parse("10.0.0.0/24"),
        type=RouteType.UNICAST,
        source=RouteSource.CONNECTED,
        distance=0,
        metric=0,
        tag=0,
        next_hops=(NextHopView(None, "eth0"),),
        selected=True,
        fib_state=None,
        fib_reason="",
        age_s=3725.0,
        owner="",
        lease_s=None,
    ),
    RouteView(
        prefix=Prefix.parse("10.1.0.0/16"),
        type=RouteType.UNICAST,
        source=RouteSource.STATIC,
        distance=1,
        metric=10,
        tag=7,
        next_hops=(replace(_VIA_2, weight=2), _VIA_9),
        selected=True,
        fib_state=FibState.INSTALLED,
        fib_reason="",
        age_s=65.0,
        owner="",
        lease_s=None,
    ),
    RouteView(
        prefix=Prefix.parse("10.1.0.0/16"),
        type=RouteType.UNICAST,
        source=RouteSource.NEIGHBOR,
        distance=90,
        metric=20,
        tag=0,
        next_hops=(_VIA_2,),
        selected=False,
        fib_state=None,
        fib_reason="",
        age_s=9.5,
        owner="",
        lease_s=None,
    ),
    RouteView(
        prefix=Prefix.parse("198.51.100.0/24"),
        type=RouteType.BLACKHOLE,
        source=RouteSource.STATIC,
        distance=1,
        metric=0,
        tag=0,
        next_hops=(),
        selected=True,
        fib_state=FibState.INSTALLED,
        fib_reason="",
        age_s=200_000.0,
        owner="",
        lease_s=None,
    ),
    RouteView(
        prefix=Prefix.parse("2001:db8:5::/48"),
        type=RouteType.UNICAST,
        source=RouteSource.NEIGHBOR,
        distance=90,
        metric=30,
        tag=0,
        next_hops=(_VIA_2,),
        selected=True,
        fib_state=FibState.FAILED,
        fib_reason="Network is unreachable",
        age_s=12.0,
        owner="",
        lease_s=None,
    ),
)

FIB = tuple(
    FibView(
        view.prefix,
        254,
        view.type,
        view.next_hops,
        view.fib_state or FibState.PENDING,
        view.fib_reason,
    )
    for view in ROUTES
    if view.selected and view.source is not RouteSource.CONNECTED
)

COUNTERS = (
    CounterView("nup_dropped_bad_checksum", 2, "datagrams whose checksum is wrong"),
    CounterView("nup_received", 12345, "datagrams taken in"),
)

LOG = (
    LogView(
        "2026-01-02T03:04:05.006Z", "info", "parent", "ready", "ready after_ms=412 routes=3"
    ),
    LogView(
        "2026-01-02T03:04:06.007Z", "warning", "parent", "fib-drift",
        "fib-drift prefix=10.1.0.0/16 what=deleted",
    ),
)  # fmt: skip

MEMORY = (
    MemoryView("process", 41_943_040, None, "resident set of the engine"),
    MemoryView("trie", 65_536, 5, "LC-trie, shared with readers of the snapshot"),
)

_FIRST = NextHopView(Address.parse("192.0.2.9"), "eth0", 1)
_SECOND = NextHopView(Address.parse("fe80::2"), "eth1", 2)

NEXTHOPS = (
    NextHopObjectView(205_000_001, (_FIRST,), (_FIRST,), FibState.INSTALLED, ""),
    NextHopObjectView(205_000_002, (_SECOND,), (), FibState.FAILED, "Network is down"),
    NextHopObjectView(205_000_003, (_FIRST, _SECOND), (_FIRST,), FibState.INSTALLED, ""),
)

RULES = (
    RuleView(1000, "ipv4", "1000: from 10.1.0.0/16 lookup 100", FibState.INSTALLED, ""),
    RuleView(
        1010, "ipv6", "1010: from all oif eth9 prohibit", FibState.FAILED, "Operation not permitted"
    ),
)

CONFIG = (
    ConfigView("router_id", "10.255.0.1", False, "router_id: 10.255.0.1"),
    ConfigView("fib", None, False, "fib:"),
    ConfigView("fib.table", "main", True, "  table: main"),
    ConfigView("fib.resync", "60s", False, "  resync: 60s"),
)

PROTOCOLS = (
    ProtocolView("connected", "up", 0, 3, "2 of 3 links up"),
    ProtocolView("neighbor", "down", 90, 0, "NUP on 1 link, 0 of 0 adjacencies up"),
    ProtocolView("kernel", "off", 254, 0, "nothing under `learn`"),
)

COUPLED = Outcome(True, ("coupled: 3 of 3 routes in the kernel",))
RELOADED = Outcome(True, ("1 static route added",))

EXPLAINED = ExplainView(
    address=Address.parse("10.1.2.3"),
    prefix=Prefix.parse("10.1.0.0/16"),
    candidates=(
        ExplainedCandidate(
            source=RouteSource.STATIC,
            owner="",
            distance=1,
            metric=10,
            type=RouteType.UNICAST,
            next_hops=ROUTES[1].next_hops,
            selected=True,
            fib_state=FibState.INSTALLED,
            fib_reason="",
            rule=None,
            verdict="wins",
        ),
        ExplainedCandidate(
            source=RouteSource.NEIGHBOR,
            owner="",
            distance=90,
            metric=20,
            type=RouteType.UNICAST,
            next_hops=(_VIA_2,),
            selected=False,
            fib_state=None,
            fib_reason="",
            rule=2,
            verdict="loses by rule 2 (lower distance): 90 against 1",
        ),
    ),
    unusable=("10.1.2.0/24",),
    shorter=("10.0.0.0/8", "0.0.0.0/0"),
    trie_path=(
        "directory of 18 bits, slot 0x2804: a bucket",
        "bucket of 2 ranges, number 1: record 2",
        "default route: record 1",
    ),
)

TOPOLOGY = (
    TopologyView(Address.parse("10.255.0.1"), "self", "", None, None, None, None, 0, ()),
    TopologyView(
        Address.parse("10.255.0.2"), "neighbor", "eth0", Address.parse("fe80::2"), "up", 10,
        10, 2, ("10.255.0.2",),
    ),
    TopologyView(
        None, "neighbor", "eth1", Address.parse("192.0.2.9"), "init", 10, None, 0, ()
    ),
    TopologyView(
        Address.parse("10.255.0.3"), "router", "", None, None, None, 20, 1, ("10.255.0.2",)
    ),
)  # fmt: skip

CHUNK = 100


def many_routes(count: int) -> tuple[RouteView, ...]:
    """That many routes, like ROUTES[1], each with a prefix of its own."""
    return tuple(
        replace(ROUTES[1], prefix=Prefix(Family.IPV4, (11 << 24) + (number << 8), 24))
        for number in range(count)
    )


@dataclass
class FakeDaemon:
    """Answers from its fields, which a test sets."""

    status_view: StatusView = STATUS
    neighbor_views: tuple[NeighborView, ...] = NEIGHBORS
    route_views: tuple[RouteView, ...] = ROUTES
    fib_views: tuple[FibView, ...] = FIB
    reload_outcome: Outcome = RELOADED
    reloads: list[tuple[int, int]] = field(default_factory=list)
    """uid and pid of whoever asked."""
    fib_outcome: Outcome = COUPLED
    fib_commands: list[tuple[FibCommand, int, int]] = field(default_factory=list)
    hub: ChangeHub = field(default_factory=ChangeHub)
    injections: list[Injection] = field(default_factory=list)
    refusals: tuple[Refusal, ...] = ()
    """What becomes of the next injections."""
    configured: list[tuple[ReloadAction, float | None]] = field(default_factory=list)
    renewals: list[tuple[str, float]] = field(default_factory=list)
    cleared: list[Address] = field(default_factory=list)
    is_recording: bool = False
    log_levels: list[str] = field(default_factory=list)
    ended_sessions: list[int] = field(default_factory=list)
    chunks_given: int = 0
    """How far dumps of routes have come."""
    version: int = 0
    """Of its tables."""
    _numbered: tuple[RouteView, ...] = ()
    _numbers: dict[Prefix, int] = field(default_factory=dict)
    """Of each prefix, its position in `_numbered`."""
    on_chunk: Callable[[], None] = lambda: None
    """Called before each chunk of routes."""

    def status(self) -> StatusView:
        return self.status_view

    def neighbors(self) -> Sequence[NeighborView]:
        return self.neighbor_views

    def interfaces(self) -> Sequence[InterfaceView]:
        return INTERFACES

    def tables_version(self) -> int:
        return self.version

    def routes(self, selector: RouteSelector, after: Prefix | None, limit: int) -> TablePage:
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

    def route(self, address: Address) -> Sequence[RouteView]:
        covering = [view for view in self.route_views if view.prefix.contains_address(address)]
        longest = max((view.prefix.prefix_len for view in covering), default=0)
        return [view for view in covering if view.prefix.prefix_len == longest]

    def fib(self, selector: RouteSelector, after: Prefix | None, limit: int) -> TablePage:
        views = [view for view in self.fib_views if selector.matches_prefix(view.prefix)]
        return TablePage([to_row(view) for view in views], None)

    def counters(self) -> Sequence[CounterView]:
        return COUNTERS

    async def nexthops(self) -> Sequence[NextHopObjectView]:
        return NEXTHOPS

    def rules(self) -> Sequence[RuleView]:
        return RULES

    def configuration(self, section: str | None, *, is_all: bool) -> Iterator[Sequence[ConfigView]]:
        yield [
            line
            for line in CONFIG
            if section in (None, line.option.partition(".")[0]) and (is_all or not line.is_default)
        ]

    def protocols(self) -> Sequence[ProtocolView]:
        return PROTOCOLS

    def start_recording(self) -> bool:
        was_off, self.is_recording = not self.is_recording, True
        return was_off

    def stop_recording(self) -> str | None:
        was_on, self.is_recording = self.is_recording, False
        return '{"routed-recording": 1}\n' + "x" * 40_000 + "\n" if was_on else None

    def clear_neighbor(self, neighbor: Address) -> bool:
        self.cleared.append(neighbor)
        return any(neighbor in (view.router_id, view.address) for view in self.neighbor_views)

    async def set_log_level(self, level: str) -> Outcome:
        self.log_levels.append(level)
        return Outcome(True, (f"logging from {level} on",))

    def log(self) -> Sequence[LogView]:
        return LOG

    def memory(self) -> Sequence[MemoryView]:
        return MEMORY

    def topology(self) -> Iterator[Sequence[TopologyView]]:
        yield TOPOLOGY

    def explain(self, address: Address) -> ExplainView:
        return replace(EXPLAINED, address=address)

    def watch(self, topics: frozenset[Topic]) -> ChangeFeed:
        return self.hub.watch(topics)

    def snapshot_fd(self) -> int:
        return self._snapshot.fileno()

    async def command_fib(self, command: FibCommand, uid: int, pid: int) -> Outcome:
        self.fib_commands.append((command, uid, pid))
        return self.fib_outcome

    def inject(self, injection: Injection) -> Sequence[Refusal]:
        self.injections.append(injection)
        return self.refusals

    def renew(self, owner: str, seconds: float) -> int:
        self.renewals.append((owner, seconds))
        return len(self.injections)

    def session_ended(self, session: int) -> None:
        self.ended_sessions.append(session)

    async def configure(
        self, action: ReloadAction, confirm_s: float | None, uid: int, pid: int
    ) -> Outcome:
        if action is ReloadAction.RELOAD and confirm_s is None:
            self.reloads.append((uid, pid))
        self.configured.append((action, confirm_s))
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
        """How many are open."""
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
    """A server thread for the length of a block."""
    server = ServerThread(path, daemon, access or AccessList())
    server.start()
    try:
        yield server
    finally:
        server.stop()


def connect(path: Path) -> socket.socket:
    """A raw client connection, for a test that says what no client would."""
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
