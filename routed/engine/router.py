"""The router, in the unprivileged process: it connects NUP, RIB, snapshot and FIB programming.

    neighbors <--NUP--> NeighborInstance --learned--> Rib --best--> FibSnapshot (shared memory)
                              ^                        ^  \\--best--> FibProgramming --> parent
                              |                        |   \\
                              +-- Redistribution ------|----+
                              ^                        |
                              +-- FibAcknowledgements -|---------- progress of the kernel
                                                       |
    links, sockets, configuration, progress -----------+   (events, from `routed.engine.components`)

One decision task drains the RIB: whatever came in since the last round is decided together and
published in one burst. Events only enter state and wake the task, so a reader never waits for a
sender.

Invariants:
    Nothing is sent about the FIB before links are complete (`routed.engine.fib.programming`).
    After `stop` no desired route changes any more: NUP has lost the neighbors' routes by then, but
    the kernel keeps forwarding by them.
"""

from __future__ import annotations

import random
import secrets
import socket
import time
from collections.abc import Callable, Iterable, Mapping

import trio

from routed.clock import MonotonicClock, wall_time
from routed.config.interface_match import interface_for
from routed.config.schema import Config
from routed.config.tables import statics_by_table
from routed.control.changes import ChangeHub
from routed.engine.fib.acknowledgements import FibAcknowledgements
from routed.engine.fib.desired import DesiredFib
from routed.engine.fib.latency import ConvergenceClock
from routed.engine.fib.programming import FibProgramming
from routed.engine.initial_sync import InitialSync
from routed.engine.injection.service import InjectionService
from routed.engine.nup_links import NeighborLinks, longest_dead_interval
from routed.engine.nup_policy import neighbor_policy
from routed.engine.nup_recording import NupRecording
from routed.engine.redistribution import Redistribution
from routed.engine.route_sources import CandidateSources
from routed.engine.show.changes import ChangeObserver
from routed.engine.tables import RoutingTable, RoutingTables, refresh_all
from routed.engine.tracking import LivenessTracking
from routed.imsg.messages import FibProgress
from routed.log.logger import Logger
from routed.model.link import Interface
from routed.model.martians import MartianRules
from routed.model.prefix import Address, Family, Prefix
from routed.model.route import ImportedRoute
from routed.model.secret import SharedSecret
from routed.model.tables import MAIN_TABLE
from routed.nup.events import (
    AdjacencyChanged,
    AdjacencyState,
    Output,
    RouteHeld,
    RouteLost,
    RoutesLearned,
    Trace,
    TraceCode,
)
from routed.nup.instance import NeighborInstance
from routed.nup.network import NeighborNetwork
from routed.rib.table import Rib
from routed.snapshot.writer import FibSnapshot, SnapshotMemory

__all__ = ["Router"]

HEARTBEAT_S = 1.0
"""Interval of the snapshot's heartbeat. Readers consider the snapshot stale if it is late by
several intervals."""


class Router:
    """Owns the links, the configuration in force, and the components between which events pass."""

    def __init__(
        self,
        config: Config,
        *,
        daemon_pid: int,
        origin_seqno: int,
        log: Logger,
        on_change: Callable[[], None],
        snapshot_memory: SnapshotMemory | None = None,
    ) -> None:
        """Build the components.

        Args:
            config: the first configuration; `apply` is still to be called with it.
            daemon_pid: of the parent, for the snapshot's header.
            origin_seqno: above that of any earlier engine.
            log: for adjacencies and traces.
            on_change: called when `programming` may have something to send.
            snapshot_memory: made before the sandbox was entered; default: made now.
        """
        self.config = config
        """The configuration in force."""
        self.links: dict[int, Interface] = {}
        self.version = 0
        """Increases with any change of the route tables: candidates, best paths, FIB progress."""
        self.rib = Rib()
        self.desired = DesiredFib(config.fib.table_id)
        self.convergence = ConvergenceClock()
        self.programming = FibProgramming(
            config.fib, config.filters.kernel, self.rib.best, self.desired, self.convergence, log
        )
        self.snapshot = FibSnapshot(config.router_id, daemon_pid, memory=snapshot_memory)
        self._rng = random.Random(secrets.randbits(64))  # noqa: S311  (jitter; ids: `secrets`)
        self.neighbors = NeighborInstance(
            config.router_id,
            boot_id=secrets.randbits(32),
            origin_seqno=origin_seqno,
            rng=self._rng,
        )
        self.changes = ChangeHub()
        """Changes for `monitor`."""
        self._observer = ChangeObserver(self.changes, self.ifname_of)
        self._log, self._on_change = log, on_change
        self._clock = MonotonicClock()
        self.neighbors.set_wall_clock(wall_time() - self._clock.now())
        self.recording = NupRecording(self.neighbors, self._rng, self._clock.now)
        self._network = NeighborNetwork(self.neighbors, self._clock.now, self._on_neighbor_outputs)
        self.neighbor_links = NeighborLinks(self.neighbors, self._network, self._clock.now)
        self._redistribution = Redistribution(self.neighbors, self._set_summary, self.ifname_of)
        self._sources = CandidateSources(self.rib)
        main = RoutingTable(MAIN_TABLE, self.rib, self.desired, self.programming)
        self.tables = RoutingTables(main, self.programming, self.links, log)
        self._acknowledgements = FibAcknowledgements(self.neighbors, self.desired)
        self.initial_sync = InitialSync(self.neighbors, self.programming, self.rib)
        self.injection = InjectionService(self.rib, self._clock.now, log, self._wake)
        self._to_decide = trio.Event()
        self.tracking = LivenessTracking(
            self.tables, self.programming, self.links, log, self._clock.now, self._on_tracked_change
        )
        self._scope = trio.CancelScope()

    # --- run and stop

    async def run(self) -> None:
        """Serve until `stop` or until cancelled."""
        with self._scope:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._network.run)
                nursery.start_soon(self._decide_loop)
                nursery.start_soon(self._heartbeat_loop)
                nursery.start_soon(self.injection.run)
                nursery.start_soon(self.tracking.run)

    def stop(self, *, is_restart: bool) -> None:
        """Send goodbye to the neighbors; the desired routes stay as they are.

        Args:
            is_restart: ask neighbors to keep forwarding to this router until it is back.
        """
        self._scope.cancel()
        self.neighbors.stop(is_restart, self._clock.now())
        self._network.kick()
        self.snapshot.close()

    async def _heartbeat_loop(self) -> None:
        while True:
            self.snapshot.heartbeat(time.monotonic_ns())
            self.neighbors.set_wall_clock(wall_time() - self._clock.now())
            await trio.sleep(HEARTBEAT_S)

    # --- events

    def apply(self, config: Config, secrets: tuple[SharedSecret, ...]) -> None:
        """Apply a configuration, in one step."""
        self.neighbor_links.set_keys(config.keys, secrets)
        self.config = config
        self.injection.allow_martians(config.allow_martians)
        self.tracking.apply(config)
        self.tables.main.statics.apply(statics_by_table(config.static, config.tables)[None])
        for link in self.links.values():
            self.neighbor_links.reconcile(link, interface_for(config.interfaces, link.ifname))
        martians = MartianRules.of(config.allow_martians)  # a static route is no neighbor's
        self.neighbors.set_martians(martians, self._clock.now())
        self.neighbors.set_policy(
            neighbor_policy(config.filters, config.summaries), self._clock.now()
        )
        if self._redistribution.apply(config.redistribute, config.summaries, martians):
            self._redistribute_all()
        if self.programming.apply(config.fib, config.filters.kernel, config.tables):
            refresh_all(self.rib, self.programming)
        self.tables.apply(config)
        self.injection.follow_tables(
            {table.desired.table_id: table.rib for table in self.tables.by_name.values()}
        )
        self._network.kick()
        self._to_decide.set()

    def link_changed(self, link: Interface) -> None:
        """Handle a link that appeared or changed."""
        before = self.links.get(link.ifindex)
        self.links[link.ifindex] = link
        self._observer.link_changed(before, link)
        self.rib.link_changed(link)
        self.tables.link_changed(link)
        self.programming.must_verify()
        self.neighbor_links.reconcile(link, interface_for(self.config.interfaces, link.ifname))
        self._to_decide.set()

    def link_removed(self, ifindex: int) -> None:
        """Handle a link that was removed."""
        before = self.links.pop(ifindex, None)
        if before is None:
            return
        self._observer.link_changed(before, None)
        self.rib.link_removed(ifindex)
        self.tables.link_removed(ifindex)
        self.programming.must_verify()
        self.neighbor_links.remove(ifindex)
        self._to_decide.set()

    def links_complete(self, former_next_hops: Iterable[tuple[Address, int]]) -> None:
        """Handle the end of the first list of links: NUP is about to begin.

        Args:
            former_next_hops: next hops, with their links, of kernel routes of an earlier engine. If
                there are any, learned routes are kept from the kernel until NUP is loaded.
        """
        now = self._clock.now()
        in_sync_at = now + longest_dead_interval(self.links.values(), self.config.interfaces)
        self.initial_sync.links_complete(in_sync_at)
        self.tracking.links_complete()
        # A neighbor on a link that is down has lost its carrier as well, and keeps no routes of
        # this router.
        expected = [
            (ifindex, via)
            for via, ifindex in former_next_hops
            if (link := self.links.get(ifindex)) is not None and link.is_up
        ]
        self.neighbors.expect_neighbors(expected, in_sync_at)
        if expected:
            self.programming.defer_learned()
        self.neighbors.await_forwarding(not expected, now)
        self._to_decide.set()

    def kernel_routes_changed(
        self, install: Iterable[ImportedRoute], remove: Iterable[tuple[Prefix, str]]
    ) -> None:
        """Handle changes of routes that are imported from the kernel."""
        self._sources.handle_kernel_routes(install, remove)
        self._to_decide.set()

    @property
    def origins(self) -> Mapping[Prefix, Address]:
        """The router that originates each prefix that NUP has learned."""
        return self._sources.origins

    def _set_summary(self, prefix: Prefix, is_active: bool) -> None:
        self._sources.set_summary(prefix, is_active)
        self._to_decide.set()

    def _wake(self) -> None:
        self._to_decide.set()

    def _on_tracked_change(self) -> None:
        """Send next hops to verify at once, then decide without them."""
        self._on_change()
        self._to_decide.set()

    def add_nup_socket(self, ifindex: int, family: Family, opened: socket.socket) -> None:
        """Use a NUP socket for a link. It is closed at once if the link was removed meanwhile."""
        link = self.links.get(ifindex)
        if link is None:
            opened.close()
        else:
            configured = interface_for(self.config.interfaces, link.ifname)
            self.neighbor_links.add_socket(link, family, opened, configured)

    # --- neighbors

    def clear_neighbor(self, neighbor: Address) -> bool:
        """Restart the adjacencies with a router id or an address. Returns whether any was there."""
        now = self._clock.now()
        router_ids = {
            row.router_id
            for row in self.neighbors.neighbors(now)
            if row.router_id is not None and neighbor in (row.router_id, row.address)
        }
        cleared = [self.neighbors.clear_neighbor(router_id, now) for router_id in router_ids]
        self._network.kick()
        return any(cleared)

    def _on_neighbor_outputs(self, outputs: list[Output]) -> None:
        for output in outputs:
            self._on_neighbor_output(output)

    def _on_neighbor_output(self, output: Output) -> None:
        match output:
            case RoutesLearned():
                self._sources.handle_learned(output)
                self._to_decide.set()
            case RouteHeld(prefix=prefix):
                self._sources.hold(prefix)
                self._to_decide.set()
            case RouteLost(prefix=prefix):
                self._sources.withdraw(prefix)
                self._to_decide.set()
            case AdjacencyChanged():
                self._log_adjacency(output)
                if self.programming.verify_next_hops(output):
                    self._on_change()
                self._to_decide.set()
            case Trace(code=code, ifindex=ifindex, source=source, detail=detail):
                event = "nup-dropped" if code in _WORTH_A_LINE else "nup-trace"
                link = self.ifname_of(ifindex)
                self._log.emit(
                    event, code=code.value, link=link, source=source or "", detail=detail
                )

    def _log_adjacency(self, change: AdjacencyChanged) -> None:
        self._observer.neighbor_changed(change)
        where: dict[str, object] = {
            "neighbor": change.router_id,
            "link": self.ifname_of(change.ifindex),
        }
        if change.new is AdjacencyState.UP:
            self._log.emit("adjacency-up", **where, address=change.address)
        elif change.old is AdjacencyState.UP:
            self._log.emit(
                "adjacency-down", **where, address=change.address, reason=change.reason.value
            )
        self._log.emit(
            "adjacency-change",
            **where,
            old=change.old.value,
            new=change.new.value,
            reason=change.reason.value,
        )

    # --- decision

    async def _decide_loop(self) -> None:
        while True:
            with trio.move_on_after(self.initial_sync.seconds_to_check(self._clock.now())):
                await self._to_decide.wait()
            self._to_decide = trio.Event()
            self.version += 1
            has_verified = self.programming.begin_decision()
            self._decide()
            self.initial_sync.release_learned(self._clock.now())
            self.programming.end_decision(
                has_verified=has_verified,
                has_all_links=self.initial_sync.are_links_complete and self.tracking.may_decide,
            )
            if self._acknowledgements.handle_decision(self._clock.now()):
                self._network.kick()
            self.initial_sync.check(self._clock.now())
            self._on_change()

    def _decide(self) -> None:
        changes = self.rib.process()
        if changes:
            self.convergence.decided(self._clock.now())
            if self._observer.watches_routes():
                for of_family in changes:
                    self._observer.routes_changed(of_family, self.snapshot.__contains__)
            self.snapshot.apply(changes, self.ifname_of, time.monotonic_ns())
            for of_family in changes:
                self.programming.set_desired(of_family)
                self._redistribution.handle_best_paths(of_family, self._clock.now())
            self._network.kick()
        self.tables.process(changes)

    def _redistribute_all(self) -> None:
        for best_paths in self.rib.choices():
            self._redistribution.handle_best_paths(best_paths, self._clock.now())

    # --- the kernel's progress

    def handle_progress(self, progress: FibProgress) -> None:
        """Handle the parent's report on how far the kernel is."""
        self.version += 1
        self.convergence.applied(progress.applied_serial, self._clock.now())
        tried = self.programming.tables.record_progress(progress)
        if self._acknowledgements.handle_progress(tried, self._clock.now()):
            self._network.kick()

    def record_parent_alive(self) -> None:
        """Record that the parent, which programs the kernel, is alive."""
        if self.neighbors.forwarding_alive(self._clock.now()):
            self._network.kick()

    @property
    def datagrams(self) -> dict[str, int]:
        """NUP datagrams since the start, by direction."""
        return {"received": self._network.received, "sent": self._network.sent}

    @property
    def datagrams_refused(self) -> dict[str, int]:
        """NUP datagrams dropped before the protocol, by reason."""
        network = self._network
        return {
            "source_port": network.dropped_source_port,
            "by_kernel": network.dropped_by_kernel,
        }

    def ifname_of(self, ifindex: int) -> str:
        """Return a link's name, or for example `if7` for a link that was removed."""
        link = self.links.get(ifindex)
        return link.ifname if link else f"if{ifindex}"


_WORTH_A_LINE = frozenset(
    {
        TraceCode.DUPLICATE_ROUTER_ID,
        TraceCode.DUPLICATE_NEIGHBOR_ID,
        TraceCode.MTU_MISMATCH,
        TraceCode.NEIGHBOR_DAMPED,
        TraceCode.PREFIX_LIMIT,
        TraceCode.ORIGIN_LIMIT,
        TraceCode.MARTIAN_REFUSED,
        TraceCode.OWN_ID_ELSEWHERE,
        TraceCode.REFUSED_ADDRESS,
        TraceCode.DROPPED_TOO_MANY_NEIGHBORS,
        TraceCode.DROPPED_UNSIGNED,
        TraceCode.DROPPED_UNKNOWN_KEY,
        TraceCode.DROPPED_BAD_MAC,
    }
)
"""Traces that an operator should see at the default level: something is misconfigured."""
