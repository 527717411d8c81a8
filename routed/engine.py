"""The unprivileged process: a composition root. It builds the rooms and joins them.

    neighbors <--NUP--> NeighborInstance --learned--> Rib --best--> FibSnapshot (shared memory)
                              ^                        ^  \\--best--> FibWishes --> parent, kernel
                              |                        |   \\
                              +----- originated -------|----+ (redistribution)
                                                       |
    parent --config, links, sockets, progress----------+
    clients <--> ManagementServer <--> Reporter (views of all of the above)

One decision task drains the RIB: whatever came in since the last round is decided in one go,
published in one burst, and sent to the parent in as few messages as it takes. Inputs only enter
facts and wake it, so a reader never waits for a sender.

In sync. Nothing of an earlier life is swept from the kernel before this engine has said that it
wants no more (FIB_IN_SYNC): links are complete, and every neighbor that can be expected to be there
has told its table. An expected neighbor is heard within its dead interval; so the word is given
when that has passed and NUP calls itself loaded, at the latest after SYNC_LIMIT_S.

Privileges are dropped after every import and before the first byte is read.

Failure: an exception ends the process with its traceback on stderr, which the parent logs; the
kernel routes stay, and the next engine takes over.
"""

from __future__ import annotations

import random
import secrets
import socket
import sys
import time
from collections import deque

import trio

from ipc import codec
from ipc.channel import Channel, ChannelClosed
from ipc.framing import INTERNAL_FRAME_MAX_BYTES, Frame
from ipc.internal import (
    MESSAGE_CLASSES,
    ConfApplied,
    ConfBegin,
    ConfDone,
    ConfDrain,
    ConfItem,
    ConfReady,
    FibInSync,
    FibProgress,
    FibUpdate,
    LinkChanged,
    LinkRemoved,
    LinksComplete,
    LogEvent,
    Phase,
    ReloadFinished,
    ReloadRequested,
    Role,
    SocketKind,
    SocketReady,
    Stop,
    Stopped,
    check_authority,
)
from routed.clock import MonotonicClock
from routed.config.schema import Config, RedistributeSource
from routed.control.handlers import ReloadOutcome
from routed.control.policy import AccessList
from routed.control.server import ManagementServer
from routed.log import Level, Logger, Record
from routed.model.link import Interface
from routed.model.prefix import Address, Family, Prefix
from routed.model.route import (
    DEFAULT_DISTANCE,
    METRIC_INFINITY,
    FibRoute,
    Route,
    RouteSource,
    RouteType,
)
from routed.neighbor.events import (
    AdjacencyChanged,
    AdjacencyState,
    LinkSettings,
    Output,
    RouteHeld,
    RouteLearned,
    RouteLost,
    Trace,
    TraceCode,
)
from routed.neighbor.instance import NeighborInstance
from routed.neighbor.network import NeighborNetwork
from routed.privsep import CHANNEL_FD, PrivsepError, drop_privileges
from routed.reporter import LastReload, Reporter
from routed.rib.snapshot import FibSnapshot
from routed.rib.table import BestChange, Rib
from routed.wishes import FibUpdateBatch, FibWishes

__all__ = ["Engine", "run_engine"]

SYNC_LIMIT_S = 30.0
"""After this long the engine says that it is in sync whatever its neighbors do."""

HEARTBEAT_S = 1.0
"""How often the snapshot's heartbeat is written; readers call it stale after some of them."""

RELOAD_TIMEOUT_S = 120.0
"""How long a client waits for a reload."""

_LOG_BACKLOG = 1000
"""Lines kept for a parent that does not read; the oldest go."""

_NUP_OWNER = "nup"


def run_engine(uid: int, gid: int) -> int:
    """Be the engine until the parent says stop or goes away.

    Args:
        uid: whom to become.
        gid: its group.

    Returns:
        The exit status.
    """
    channel = socket.socket(fileno=CHANNEL_FD)
    try:
        drop_privileges(uid, gid)
        trio.run(Engine(channel).run)
    except PrivsepError as error:
        print(f"routed engine: {error}", file=sys.stderr)  # noqa: T201  (its only way to speak)
        return 1
    return 0


class _ParentSink:
    """Log records on their way to the parent, bounded."""

    def __init__(self, wake: trio.Event) -> None:
        self.records: deque[Record] = deque(maxlen=_LOG_BACKLOG)
        self.wake = wake

    def write(self, record: Record) -> None:
        """Queue one record."""
        self.records.append(record)
        self.wake.set()

    def close(self) -> None:
        """The channel is the engine's to close."""


class Engine:
    """Joins the rooms. Each room owns its state; here is only what lies between them."""

    def __init__(self, connection: socket.socket) -> None:
        self._channel = Channel(connection, INTERNAL_FRAME_MAX_BYTES)
        self._clock = MonotonicClock()
        self._phase = Phase.CONFIGURING
        self._to_send = trio.Event()
        self._to_decide = trio.Event()
        self._answers: deque[tuple[object, int]] = deque()
        self._log_sink = _ParentSink(self._to_send)
        self._log = Logger(self._log_sink, "engine", Level.DEBUG)

        self._begin: ConfBegin | None = None
        self._pieces: list[bytes] = []
        self._prepared: Config | None = None
        self._config: Config | None = None

        self._links: dict[int, Interface] = {}
        self._are_links_complete = False
        self._has_said_first = False
        self._is_in_sync = False
        self._in_sync_at = 0.0
        self._rib = Rib()
        self._wishes = FibWishes()
        self._learned: dict[Prefix, RouteSource] = {}
        self._originated: set[Prefix] = set()
        self._waiting_sockets: dict[int, tuple[Family, socket.socket]] = {}
        """Handed over, and NUP does not run on the link yet."""
        self._nup_links: dict[int, Family] = {}
        """Where NUP runs, and over what."""
        self._server: ManagementServer | None = None
        self._reloads: dict[int, trio.MemorySendChannel[ReloadFinished]] = {}
        self._next_reload_id = 1
        self._last_reload: LastReload | None = None

    # --- life

    async def run(self) -> None:
        """Take the configuration, build the rooms, run them."""
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            nursery.start_soon(self._send_loop)
            await self._receive_loop()
            nursery.cancel_scope.cancel()

    def _build_rooms(self, begin: ConfBegin, config: Config) -> None:
        """Once, when the first configuration takes effect."""
        self._snapshot = FibSnapshot(config.router_id, daemon_pid=begin.daemon_pid)
        self._nup = NeighborInstance(
            config.router_id,
            boot_id=secrets.randbits(32),
            origin_seqno=begin.origin_seqno,
            rng=random.Random(secrets.randbits(64)),  # noqa: S311  (jitter; ids come from `secrets`)
        )
        self._network = NeighborNetwork(self._nup, self._clock.now, self._on_neighbor_output)
        self.reporter = Reporter(
            begin=begin,
            config=config,
            links=self._links,
            rib=self._rib,
            wishes=self._wishes,
            neighbors=self._nup,
            nup_links=self._nup_links,
            snapshot=self._snapshot,
            reload=self._reload,
        )
        self._nursery.start_soon(self._network.run)
        self._nursery.start_soon(self._decide_loop)
        self._nursery.start_soon(self._heartbeat_loop)

    async def _heartbeat_loop(self) -> None:
        while True:
            self._snapshot.heartbeat(_now_ns())
            await trio.sleep(HEARTBEAT_S)

    # --- the parent

    async def _receive_loop(self) -> None:
        while True:
            try:
                frame, descriptor = await self._channel.receive()
            except ChannelClosed:
                return  # the parent is gone, and we with it
            message_class = check_authority(
                frame.type, Role.PARENT, self._phase, has_descriptor=descriptor is not None
            )
            message: object = codec.decode(message_class, frame.body)
            if isinstance(message, Stop):
                self._phase = Phase.STOPPING
                await self._say_goodbye(message)
                return
            self._take(message, frame.request_id, descriptor)

    def _take(self, message: object, request_id: int, descriptor: int | None) -> None:
        match message:
            case ConfBegin() | ConfItem() | ConfDrain() | ConfDone():
                self._take_configuration(message)
            case LinkChanged(link=link):
                self._link_changed(link)
            case LinkRemoved(ifindex=ifindex):
                self._link_removed(ifindex)
            case LinksComplete():
                self._are_links_complete = True
                self._in_sync_at = trio.current_time() + self._longest_dead_interval()
                self._to_decide.set()
            case SocketReady():
                assert descriptor is not None  # the authority table says so
                self._take_socket(message, socket.socket(fileno=descriptor))
            case FibProgress():
                self._wishes.progress(
                    message.applied_serial, message.failures, message.recovered, message.counters
                )
            case ReloadFinished():
                self._reload_finished(request_id, message)

    def _say(self, message: object, request_id: int = 0) -> None:
        self._answers.append((message, request_id))
        self._to_send.set()

    async def _send_loop(self) -> None:
        while True:
            await self._to_send.wait()
            self._to_send = self._log_sink.wake = trio.Event()
            while (item := self._next_message()) is not None:
                message, request_id = item
                await self._send(message, request_id)

    async def _send(self, message: object, request_id: int = 0) -> None:
        frame = Frame(MESSAGE_CLASSES[type(message)], request_id, codec.encode(message))
        await self._channel.send(frame)

    def _next_message(self) -> tuple[object, int] | None:
        """What to say next: answers, then log lines, then wishes, then "in sync"."""
        if self._answers:
            return self._answers.popleft()
        if self._log_sink.records:
            record = self._log_sink.records.popleft()
            return LogEvent(record.event, dict(record.fields)), 0
        if not self._has_said_first:
            return None
        batch = self._wishes.take_update()
        return None if batch is None else (_update_message(batch), 0)

    async def _say_goodbye(self, stop: Stop) -> None:
        if self._config is not None:
            self._nup.stop(stop.is_restart, self._clock.now())
            self._network.kick()
            self._snapshot.close()
        self._say(Stopped())
        while (item := self._next_message()) is not None:
            await self._send(*item)

    # --- configuration

    def _take_configuration(self, message: ConfBegin | ConfItem | ConfDrain | ConfDone) -> None:
        match message:
            case ConfBegin():
                self._begin, self._pieces, self._prepared = message, [], None
            case ConfItem(piece=piece):
                self._pieces.append(piece)
            case ConfDrain():
                assert self._begin is not None  # the parent is trusted with the order
                self._say(ConfReady(self._begin.generation, self._prepare(self._begin)))
            case ConfDone():
                assert self._begin is not None
                assert self._prepared is not None
                self._apply(self._begin, self._prepared)
                self._phase = Phase.RUNNING
                self._say(ConfApplied(self._begin.generation))

    def _prepare(self, begin: ConfBegin) -> str:
        """Decode the configuration; returns what is wrong with it."""
        encoded = b"".join(self._pieces)
        self._pieces = []
        if len(encoded) != begin.total_bytes:
            return f"{len(encoded)} bytes came of {begin.total_bytes}"
        try:
            self._prepared = codec.decode(Config, encoded)
        except codec.CodecError as error:
            return str(error)
        return ""

    def _apply(self, begin: ConfBegin, config: Config) -> None:
        """Switch to a configuration in one step."""
        old, self._config = self._config, config
        self._log.level = Level[config.log.level.name]
        if old is None:
            self._build_rooms(begin, config)
        self.reporter.config = config
        self._apply_statics(old, config)
        if old is not None:
            for link in self._links.values():
                self._settle_neighbor_link(link)
            if old.redistribute != config.redistribute:
                self._redistribute_all()
            if old.fib.table_id != config.fib.table_id:
                for prefix in self._wishes.prefixes():
                    self._settle_wish(prefix)
            self._network.kick()
        if self._server is not None:
            self._server.access = _access_list(config)
        self._to_decide.set()

    def _apply_statics(self, old: Config | None, new: Config) -> None:
        before = _static_routes(old) if old is not None else {}
        after = _static_routes(new)
        for key, route in before.items():
            if key not in after:
                self._rib.withdraw(route.prefix, route.source, route.owner)
        for key, route in after.items():
            if before.get(key) != route:
                self._rib.install(route)

    # --- links and sockets

    def _link_changed(self, link: Interface) -> None:
        self._links[link.ifindex] = link
        self._rib.link_changed(link)
        self._settle_neighbor_link(link)
        self._network.kick()
        self._to_decide.set()

    def _link_removed(self, ifindex: int) -> None:
        if self._links.pop(ifindex, None) is None:
            return
        self._rib.link_removed(ifindex)
        self._close_neighbor_link(ifindex)
        self._network.kick()
        self._to_decide.set()

    def _take_socket(self, message: SocketReady, opened: socket.socket) -> None:
        if message.kind is SocketKind.MANAGEMENT:
            assert self._config is not None  # phase RUNNING
            self._server = ManagementServer(
                opened, self.reporter, _access_list(self._config), self._log_management
            )
            self._nursery.start_soon(self._server.run)
            return
        link = self._links.get(message.ifindex)
        if link is None or message.family is None:
            opened.close()
            return
        self._close_neighbor_link(link.ifindex)
        self._waiting_sockets[link.ifindex] = message.family, opened
        self._settle_neighbor_link(link)
        self._network.kick()

    def _settle_neighbor_link(self, link: Interface) -> None:
        """Make NUP run on a link exactly when it can and should, with the present settings."""
        ifindex = link.ifindex
        settings = self._link_settings(link)
        now = self._clock.now()
        if settings is None:
            self._close_neighbor_link(ifindex)
        elif ifindex in self._nup_links:
            self._nup.link_changed(settings, now)
        else:
            family, opened = self._waiting_sockets.pop(ifindex)
            self._nup_links[ifindex] = family
            self._network.add_socket(ifindex, family, opened)
            self._nup.link_up(settings, now)

    def _close_neighbor_link(self, ifindex: int) -> None:
        if self._nup_links.pop(ifindex, None) is not None:
            self._nup.link_down(ifindex, self._clock.now())
            self._network.kick()
            self._network.remove_socket(ifindex)
        waiting = self._waiting_sockets.pop(ifindex, None)
        if waiting is not None:
            waiting[1].close()

    def _link_settings(self, link: Interface) -> LinkSettings | None:
        """How NUP runs on a link; None when it cannot or should not."""
        assert self._config is not None  # phase RUNNING
        wanted = self._config.interface_for(link.ifname)
        family = self._nup_links.get(link.ifindex)
        if family is None and link.ifindex in self._waiting_sockets:
            family = self._waiting_sockets[link.ifindex][0]
        if wanted is None or family is None or not link.is_up:
            return None
        local = _local_address(link, family)
        if local is None:
            return None
        return LinkSettings(
            ifindex=link.ifindex,
            ifname=link.ifname,
            cost=wanted.cost,
            hello_interval_s=wanted.hello_s,
            multiplier=wanted.multiplier,
            mtu=link.mtu,
            local_address=local,
            addresses=link.addresses,
        )

    def _longest_dead_interval(self) -> float:
        """Within this time every neighbor that is there has been heard."""
        assert self._config is not None
        intervals = [
            entry.hello_s * entry.multiplier
            for link in self._links.values()
            if link.is_up and not link.is_loopback
            if (entry := self._config.interface_for(link.ifname)) is not None
        ]
        return max(intervals, default=0.0)

    # --- neighbors

    def _on_neighbor_output(self, output: Output) -> None:
        match output:
            case RouteLearned():
                self._learn(output)
            case RouteHeld(prefix=prefix):
                self._hold(prefix)
            case RouteLost(prefix=prefix):
                self._forget(prefix)
            case AdjacencyChanged():
                self._log_adjacency(output)
                self._to_decide.set()
            case Trace(code=code, ifindex=ifindex, source=source, detail=detail):
                event = "nup-dropped" if code in _WORTH_A_LINE else "nup-trace"
                link = self._links.get(ifindex)
                self._log.emit(
                    event,
                    code=code.value,
                    link=link.ifname if link else ifindex,
                    source=source or "",
                    detail=detail,
                )

    def _learn(self, learned: RouteLearned) -> None:
        source = RouteSource.REDISTRIBUTED if learned.is_external else RouteSource.NEIGHBOR
        self._install_learned(
            Route(
                prefix=learned.prefix,
                source=source,
                distance=DEFAULT_DISTANCE[source],
                metric=learned.metric,
                tag=learned.tag,
                next_hops=learned.next_hops,
                owner=_NUP_OWNER,
            )
        )

    def _hold(self, prefix: Prefix) -> None:
        """Refuse packets while neighbors are told: a shorter prefix might lead them in a circle."""
        source = self._learned.get(prefix, RouteSource.NEIGHBOR)
        self._install_learned(
            Route(
                prefix=prefix,
                source=source,
                distance=DEFAULT_DISTANCE[source],
                metric=METRIC_INFINITY - 1,
                type=RouteType.UNREACHABLE,
                owner=_NUP_OWNER,
            )
        )

    def _install_learned(self, route: Route) -> None:
        before = self._learned.get(route.prefix)
        if before is not None and before is not route.source:
            self._rib.withdraw(route.prefix, before, _NUP_OWNER)
        self._learned[route.prefix] = route.source
        self._rib.install(route)
        self._to_decide.set()

    def _forget(self, prefix: Prefix) -> None:
        source = self._learned.pop(prefix, None)
        if source is not None:
            self._rib.withdraw(prefix, source, _NUP_OWNER)
            self._to_decide.set()

    def _log_adjacency(self, change: AdjacencyChanged) -> None:
        link = self._links.get(change.ifindex)
        ifname = link.ifname if link else str(change.ifindex)
        if change.new is AdjacencyState.UP:
            self._log.emit(
                "adjacency-up", neighbor=change.router_id, link=ifname, address=change.address
            )
        elif change.old is AdjacencyState.UP:
            self._log.emit(
                "adjacency-down",
                neighbor=change.router_id,
                link=ifname,
                address=change.address,
                reason=change.reason.value,
            )
        self._log.emit(
            "adjacency-change",
            neighbor=change.router_id,
            link=ifname,
            old=change.old.value,
            new=change.new.value,
            reason=change.reason.value,
        )

    # --- decision

    async def _decide_loop(self) -> None:
        while True:
            with trio.move_on_at(self._next_sync_check()):
                await self._to_decide.wait()
            self._to_decide = trio.Event()
            self._decide()
            self._settle_sync()

    def _decide(self) -> None:
        changes = self._rib.process()
        if changes:
            self._snapshot.apply(changes, self._ifname_of, _now_ns())
            for change in changes:
                self._follow(change)
            self._network.kick()
        if self._are_links_complete and not self._has_said_first:
            self._has_said_first = True
            self._say(_update_message(self._wishes.take_first_update()))
        self._to_send.set()

    def _follow(self, change: BestChange) -> None:
        """One prefix has another best route: tell the kernel and the neighbors."""
        self._settle_wish(change.prefix)
        self._settle_origin(change.prefix)

    def _settle_wish(self, prefix: Prefix) -> None:
        assert self._config is not None
        selection = self._rib.best(prefix)
        if selection is None or selection.route.source in _KERNELS_OWN:
            self._wishes.want_no_more(prefix)
            return
        self._wishes.want(
            FibRoute(self._config.fib.table_id, prefix, selection.route.type, selection.next_hops)
        )

    def _settle_origin(self, prefix: Prefix) -> None:
        """Announce a prefix when our best route to it is one that we redistribute."""
        assert self._config is not None
        now = self._clock.now()
        selection = self._rib.best(prefix)
        rule = None
        if selection is not None:
            word = _REDISTRIBUTABLE.get(selection.route.source)
            rule = next(
                (
                    rule
                    for rule in self._config.redistribute
                    if rule.source is word and rule.accepts(prefix)
                ),
                None,
            )
        if rule is None or selection is None:
            if prefix in self._originated:
                self._originated.discard(prefix)
                self._nup.withdraw(prefix, now)
            return
        self._originated.add(prefix)
        tag = selection.route.tag if rule.tag is None else rule.tag
        is_external = selection.route.source is not RouteSource.CONNECTED
        self._nup.originate(prefix, rule.metric, tag, is_external, now)

    def _redistribute_all(self) -> None:
        after: Prefix | None = None
        while chunk := self._rib.prefixes_after(after, 1000):
            for prefix in chunk:
                self._settle_origin(prefix)
            after = chunk[-1]

    def _next_sync_check(self) -> float:
        if self._is_in_sync or not self._are_links_complete:
            return float("inf")
        # Adjacencies wake the loop when they move; the rest is a matter of time.
        return max(self._in_sync_at, trio.current_time() + 0.05)

    def _settle_sync(self) -> None:
        if self._is_in_sync or not self._has_said_first:
            return
        now = trio.current_time()
        is_late = now >= self._in_sync_at + SYNC_LIMIT_S
        if now >= self._in_sync_at and (is_late or self._nup.is_loaded(self._clock.now())):
            self._is_in_sync = True
            while (batch := self._wishes.take_update()) is not None:
                self._say(_update_message(batch))
            self._say(FibInSync(0))

    def _ifname_of(self, ifindex: int) -> str:
        link = self._links.get(ifindex)
        return link.ifname if link else f"if{ifindex}"

    # --- management

    async def _reload(self, uid: int, pid: int) -> ReloadOutcome:
        request_id = self._next_reload_id
        self._next_reload_id += 1
        answers_in, answers = trio.open_memory_channel[ReloadFinished](1)
        self._reloads[request_id] = answers_in
        self._say(ReloadRequested(uid, pid), request_id)
        try:
            with trio.move_on_after(RELOAD_TIMEOUT_S):
                answer = await answers.receive()
                return ReloadOutcome(answer.is_ok, answer.lines)
            return ReloadOutcome(False, (f"no answer within {RELOAD_TIMEOUT_S:g} s",))
        finally:
            del self._reloads[request_id]

    def _reload_finished(self, request_id: int, answer: ReloadFinished) -> None:
        self.reporter.last_reload = LastReload(
            answer.is_ok, self._clock.now(), answer.lines[0] if answer.lines else ""
        )
        waiting = self._reloads.get(request_id)
        if waiting is not None:
            waiting.send_nowait(answer)

    def _log_management(self, event: str, fields: dict[str, str]) -> None:
        self._log.write(event, fields, "engine")


_KERNELS_OWN = frozenset({RouteSource.CONNECTED, RouteSource.KERNEL})
"""Best routes that the kernel has by itself."""

_REDISTRIBUTABLE = {
    RouteSource.CONNECTED: RedistributeSource.CONNECTED,
    RouteSource.STATIC: RedistributeSource.STATIC,
}

_WORTH_A_LINE = frozenset(
    {TraceCode.DUPLICATE_ROUTER_ID, TraceCode.DUPLICATE_NEIGHBOR_ID, TraceCode.MTU_MISMATCH}
)
"""Traces that an operator should see without asking: somebody misconfigured something."""


def _static_routes(config: Config) -> dict[tuple[Prefix, str], Route]:
    routes = {}
    for static in config.static:
        # Two static routes of one prefix differ in distance or metric (config/check.py).
        owner = f"{static.distance}/{static.metric}"
        routes[static.prefix, owner] = Route(
            prefix=static.prefix,
            source=RouteSource.STATIC,
            distance=static.distance,
            metric=static.metric,
            tag=static.tag,
            type=static.type.route_type,
            gateways=static.gateways,
            owner=owner,
        )
    return routes


def _access_list(config: Config) -> AccessList:
    management = config.management
    return AccessList.from_principals(
        [(principal.kind.value, principal.id) for principal in management.read],
        [(principal.kind.value, principal.id) for principal in management.admin],
    )


def _local_address(link: Interface, family: Family) -> Address | None:
    if family is Family.IPV6:
        return link.link_local()
    return min((entry.address for entry in link.usable_addresses(family)), default=None)


def _update_message(batch: FibUpdateBatch) -> FibUpdate:
    return FibUpdate(batch.serial, batch.install, batch.remove)


def _now_ns() -> int:
    return time.monotonic_ns()
