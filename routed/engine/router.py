"""What a router does, in the unprivileged process: it joins the rooms.

    neighbors <--NUP--> NeighborInstance --learned--> Rib --best--> FibSnapshot (shared memory)
                              ^                        ^  \\--best--> DesiredFib --> parent, kernel
                              |                        |   \\
                              +-- Redistribution ------|----+
                              ^                        |
                              +------ FibAcknowledgements ------+----- what the kernel has followed
                              in
                                                       |
    links, sockets, configuration, progress -----------+        (facts, from `routed.engine.main`)

One decision task drains the RIB: whatever came in since the last round is decided in one go and
published in one burst. Facts only enter state and wake it, so a reader never waits for a sender.

In sync. Nothing of an earlier life is swept from the kernel before this router has said that it
wants no more: links are complete, and every neighbor that can be expected to be there has told its
table. An expected neighbor is heard within its dead interval; so the word is given when that has
passed and NUP calls itself loaded, at the latest after SYNC_LIMIT_S.

Invariants:
    Nothing is said of the FIB before links are complete: a first decision without them would take
    back routes that the kernel rightly has.
    After `stop` no desired route changes any more: the neighbors' routes are lost to NUP then, but
    the kernel goes on with them.
"""

from __future__ import annotations

import random
import secrets
import socket
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Protocol

import trio

from routed.clock import MonotonicClock, wall_time
from routed.config.schema import Config
from routed.engine.fib.acknowledgements import FibAcknowledgements
from routed.engine.fib.latency import ConvergenceClock
from routed.engine.fib.programming import FibRequests, is_learned
from routed.engine.injection.service import Injecting
from routed.engine.nup_links import NeighborLinks, longest_dead_interval
from routed.engine.nup_policy import neighbor_policy
from routed.engine.redistribution import Redistribution
from routed.engine.route_sources import CandidateSources
from routed.imsg.messages import FibProgress, FibUpdate
from routed.log.logger import Logger
from routed.model.link import Interface
from routed.model.martians import MartianRules
from routed.model.prefix import Address, Family, Prefix
from routed.model.route import (
    ImportedRoute,
)
from routed.model.secret import SharedSecret
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
from routed.nup.recording.recorder import Recorder
from routed.rib.table import BestPathChanges, Rib
from routed.snapshot.writer import FibSnapshot, SnapshotMemory

__all__ = ["Observer", "Router"]

SYNC_LIMIT_S = 30.0
"""After this long the router says that it is in sync whatever its neighbors do."""

HEARTBEAT_S = 1.0
"""How often the snapshot's heartbeat is written; readers call it stale after some of them."""

NEXT_HOPS_TO_VERIFY_MAX = 1000
"""Next hops in one message; what is beyond waits for the RIB."""

_NUP_OWNER = "nup"


class Observer(Protocol):
    """Who wants to know what happens."""

    def watches_routes(self) -> bool:
        """Whether `routes_changed` is worth a call now."""
        ...

    def routes_changed(self, changes: BestPathChanges, had_route: Callable[[Prefix], bool]) -> None:
        """The choice for some prefixes changes; `had_route` is asked about them meanwhile."""
        ...

    def neighbor_changed(self, change: AdjacencyChanged) -> None:
        """An adjacency moved."""
        ...

    def link_changed(self, before: Interface | None, after: Interface | None) -> None:
        """A link is there, is different, or is gone."""
        ...


class Router:
    """Owns the rooms. Each room owns its state; here is only what lies between them."""

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
        """Build the rooms.

        Args:
            config: the first configuration; it still has to be applied.
            daemon_pid: of the parent, for the snapshot's header.
            origin_seqno: above that of any earlier life.
            log: where adjacencies and traces go.
            on_change: called when `next_update` or `receive_in_sync` may have something to say.
            snapshot_memory: made before the sandbox was entered; default: made now.
        """
        self.links: dict[int, Interface] = {}
        self.observer: Observer | None = None
        """Told of changes, for `monitor`."""
        self.version = 0
        """Raised by any change of what the tables show: candidates, the choice, the kernel's
        progress."""
        self.convergence = ConvergenceClock()
        self.rib = Rib()
        self.fib = FibRequests(config, self.rib.best, log)
        self.snapshot = FibSnapshot(config.router_id, daemon_pid, memory=snapshot_memory)
        self._rng = random.Random(secrets.randbits(64))  # noqa: S311  (jitter; ids: `secrets`)
        self.neighbors = NeighborInstance(
            config.router_id,
            boot_id=secrets.randbits(32),
            origin_seqno=origin_seqno,
            rng=self._rng,
        )
        self._config = config
        self._log = log
        self._on_change = on_change
        self._clock = MonotonicClock()
        self.neighbors.set_wall_clock(wall_time() - self._clock.now())
        self._recorder: Recorder | None = None
        self._network = NeighborNetwork(self.neighbors, self._clock.now, self._on_neighbor_outputs)
        self.neighbor_links = NeighborLinks(self.neighbors, self._network, self._clock.now)
        self._redistribution = Redistribution(self.neighbors, self._set_summary, self.ifname_of)
        self._sources = CandidateSources(self.rib)
        self._acknowledgements = FibAcknowledgements(self.neighbors, self.fib.desired)
        self.injected = Injecting(self.rib, self._clock.now, log, self._wake)
        self._to_decide = trio.Event()
        self._scope = trio.CancelScope()
        self._are_links_complete = False
        self._has_decided = False
        self._is_in_sync = False
        self._has_said_in_sync = False
        self._in_sync_at = 0.0

    # --- life

    async def run(self) -> None:
        """Serve until `stop` or until cancelled."""
        with self._scope:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._network.run)
                nursery.start_soon(self._decide_loop)
                nursery.start_soon(self._heartbeat_loop)
                nursery.start_soon(self.injected.run)

    def stop(self, *, is_restart: bool) -> None:
        """Say goodbye to the neighbors; what is wanted in the kernel stays as it is.

        Args:
            is_restart: ask them to keep forwarding to us until we are back.
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

    # --- facts

    def apply(self, config: Config, secrets: tuple[SharedSecret, ...]) -> None:
        """Follow a configuration, in one step."""
        self.neighbor_links.set_keys(config, secrets)
        self._config = config
        self._sources.follow_statics(config)
        for link in self.links.values():
            self.neighbor_links.settle(link, config)
        martians = MartianRules.of(config.allow_martians)  # a static route is no neighbor's
        self.neighbors.set_martians(martians, self._clock.now())
        self.neighbors.set_policy(neighbor_policy(config), self._clock.now())
        if self._redistribution.follow(config):
            self._redistribute_all()
        if self.fib.follow(config):
            for family, keys, _ in self.rib.choices():
                for key in keys:
                    self.fib.want_again(Prefix.from_int(family, key))
        self._network.kick()
        self._to_decide.set()

    def link_changed(self, link: Interface) -> None:
        """A link is there, or is different."""
        before = self.links.get(link.ifindex)
        self.links[link.ifindex] = link
        if self.observer is not None:
            self.observer.link_changed(before, link)
        self.rib.link_changed(link)
        self.fib.must_verify()
        self.neighbor_links.settle(link, self._config)
        self._to_decide.set()

    def link_removed(self, ifindex: int) -> None:
        """A link is gone."""
        before = self.links.pop(ifindex, None)
        if before is None:
            return
        if self.observer is not None:
            self.observer.link_changed(before, None)
        self.rib.link_removed(ifindex)
        self.fib.must_verify()
        self.neighbor_links.remove(ifindex)
        self._to_decide.set()

    def links_complete(self, former_next_hops: Iterable[tuple[Address, int]]) -> None:
        """Every link that there is has been told, and NUP is about to begin.

        Args:
            former_next_hops: next hops, with their links, that kernel routes of an earlier life go
                through. With them, learned routes are kept from the kernel until NUP is loaded.
        """
        self._are_links_complete = True
        dead_interval_s = longest_dead_interval(self.links.values(), self._config)
        self._in_sync_at = self._clock.now() + dead_interval_s
        # Who was on a link that is down has seen its carrier go, too, and keeps nothing for us.
        legs = [
            (ifindex, via)
            for via, ifindex in former_next_hops
            if (link := self.links.get(ifindex)) is not None and link.is_up
        ]
        self.neighbors.expect_neighbors(legs, self._in_sync_at)
        self.fib.defers_learned = bool(legs)
        self.neighbors.await_forwarding(not legs, self._clock.now())
        self._to_decide.set()

    def kernel_routes_changed(
        self, install: Iterable[ImportedRoute], remove: Iterable[tuple[Prefix, str]]
    ) -> None:
        """What others keep in the kernel has changed."""
        self._sources.follow_kernel(install, remove)
        self._to_decide.set()

    @property
    def origins(self) -> Mapping[Prefix, Address]:
        """The router that announces each prefix which NUP has learned."""
        return self._sources.origins

    def _set_summary(self, prefix: Prefix, is_active: bool) -> None:
        self._sources.set_summary(prefix, is_active)
        self._to_decide.set()

    def _wake(self) -> None:
        self._to_decide.set()

    def take_socket(self, ifindex: int, family: Family, opened: socket.socket) -> None:
        """Take over a link's NUP socket; closed at once when the link has gone meanwhile."""
        link = self.links.get(ifindex)
        if link is None:
            opened.close()
        else:
            self.neighbor_links.take_socket(link, family, opened, self._config)

    # --- neighbors

    def start_recording(self) -> bool:
        """Write down what goes into NUP from now on; False when that is so already."""
        if self._recorder is not None:
            return False
        self._recorder = Recorder(self.neighbors, secrets.token_bytes(32), self._clock.now())
        self.neighbors.record_to(self._recorder)
        return True

    def stop_recording(self) -> str | None:
        """End that; its text, or None when nothing was being recorded."""
        if self._recorder is None:
            return None
        recorder, self._recorder = self._recorder, None
        self.neighbors.record_to(None)
        text = recorder.text(self.neighbors, self._clock.now())
        self._rng.seed(secrets.randbits(64))  # the text shows the state of the generator
        return text

    def clear_neighbor(self, neighbor: Address) -> bool:
        """Begin the adjacencies with a router id, or an address, afresh; whether there were any."""
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
                self._sources.learn(output)
                self._to_decide.set()
            case RouteHeld(prefix=prefix):
                self._sources.hold(prefix)
                self._to_decide.set()
            case RouteLost(prefix=prefix):
                self._sources.forget(prefix)
                self._to_decide.set()
            case AdjacencyChanged():
                self._log_adjacency(output)
                if self.fib.suspect(output):
                    self._on_change()
                self._to_decide.set()
            case Trace(code=code, ifindex=ifindex, source=source, detail=detail):
                event = "nup-dropped" if code in _WORTH_A_LINE else "nup-trace"
                link = self.ifname_of(ifindex)
                self._log.emit(
                    event, code=code.value, link=link, source=source or "", detail=detail
                )

    def _log_adjacency(self, change: AdjacencyChanged) -> None:
        if self.observer is not None:
            self.observer.neighbor_changed(change)
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
            with trio.move_on_after(self._seconds_to_sync_check()):
                await self._to_decide.wait()
            self._to_decide = trio.Event()
            self.version += 1
            is_judgment = self.fib.begin_decision()
            self._decide()
            self._release_learned()
            self.fib.end_decision(is_judgment=is_judgment)
            if self._acknowledgements.decided(self._clock.now()):
                self._network.kick()
            self._settle_sync()
            self._on_change()

    def _decide(self) -> None:
        changes = self.rib.process()
        if changes:
            self.convergence.decided(self._clock.now())
            self._tell_observer(changes)
            self.snapshot.apply(changes, self.ifname_of, time.monotonic_ns())
            for of_family in changes:
                self.fib.set_desired(of_family)
                self._redistribution.follow_best(of_family, self._clock.now())
            self._network.kick()
        self._has_decided = self._are_links_complete

    def _tell_observer(self, changes: Sequence[BestPathChanges]) -> None:
        if self.observer is not None and self.observer.watches_routes():
            for of_family in changes:
                self.observer.routes_changed(of_family, self.snapshot.__contains__)

    def _redistribute_all(self) -> None:
        for choices in self.rib.choices():
            self._redistribution.follow_best(choices, self._clock.now())

    # --- what the parent is told

    def next_update(self) -> FibUpdate | None:
        """The next desired routes to send; None when there is nothing to say now, or nothing
        decided."""
        update = self.fib.next_update() if self._has_decided else None
        if update is not None:
            self.convergence.said(update.serial, is_all=not self.fib.desired.has_unsent)
        return update

    def progressed(self, progress: FibProgress) -> None:
        """The parent says how far the kernel has followed."""
        self.version += 1
        self.convergence.applied(progress.applied_serial, self._clock.now())
        tried = self.fib.desired.progress(
            progress.applied_serial,
            progress.failures,
            progress.recovered,
            progress.counters,
            progress.preferred,
            progress.unpreferred,
        )
        if self._acknowledgements.tried(tried, self._clock.now()):
            self._network.kick()

    def parent_heard(self) -> None:
        """The process that writes the kernel for us is alive."""
        if self.neighbors.forwarding_alive(self._clock.now()):
            self._network.kick()

    @property
    def datagrams(self) -> dict[str, int]:
        """NUP datagrams since the start, by direction."""
        return {"received": self._network.received, "sent": self._network.sent}

    @property
    def datagrams_refused(self) -> dict[str, int]:
        """NUP datagrams that never came as far as the protocol, by reason."""
        network = self._network
        return {
            "source_port": network.dropped_source_port,
            "by_kernel": network.dropped_by_kernel,
        }

    def receive_in_sync(self) -> bool:
        """Whether "in sync" is to be said now: once, and after every desired route."""
        if not self._is_in_sync or self._has_said_in_sync or self.fib.desired.has_unsent:
            return False
        self._has_said_in_sync = True
        return True

    def _release_learned(self) -> None:
        """Let the kernel follow what was learned, once that is the whole of it."""
        now = self._clock.now()
        is_whole = self.neighbors.is_loaded(now) and not self.neighbors.awaits_links
        if not self.fib.defers_learned or not (is_whole or now >= self._in_sync_at):
            return
        self.fib.defers_learned = False
        self.neighbors.await_forwarding(True, now)
        for choices in self.rib.choices():
            for prefix, best_path in choices.items():
                if is_learned(best_path):
                    self.fib.want_again(prefix)

    def _seconds_to_sync_check(self) -> float:
        if self.fib.defers_learned:
            return _SYNC_POLL_S
        if self._is_in_sync or not self._are_links_complete:
            return float("inf")
        # Adjacencies wake the loop when they move; the rest is a matter of time.
        return max(self._in_sync_at - self._clock.now(), _SYNC_POLL_S)

    def _settle_sync(self) -> None:
        if self._is_in_sync or not self._are_links_complete:
            return
        now = self._clock.now()
        is_late = now >= self._in_sync_at + SYNC_LIMIT_S
        self._is_in_sync = now >= self._in_sync_at and (is_late or self.neighbors.is_loaded(now))

    def ifname_of(self, ifindex: int) -> str:
        """A link's name, or `if7` for one that has gone."""
        link = self.links.get(ifindex)
        return link.ifname if link else f"if{ifindex}"


_SYNC_POLL_S = 0.05

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
"""Traces that an operator should see without asking: somebody misconfigured something."""
