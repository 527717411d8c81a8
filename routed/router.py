"""What a router does, in the unprivileged process: it joins the rooms.

    neighbors <--NUP--> NeighborInstance --learned--> Rib --best--> FibSnapshot (shared memory)
                              ^                        ^  \\--best--> FibWishes --> parent, kernel
                              |                        |   \\
                              +-- Redistribution ------|----+
                                                       |
    links, sockets, configuration, progress -----------+        (facts, from `routed.engine`)

One decision task drains the RIB: whatever came in since the last round is decided in one go and
published in one burst. Facts only enter state and wake it, so a reader never waits for a sender.

In sync. Nothing of an earlier life is swept from the kernel before this router has said that it
wants no more: links are complete, and every neighbor that can be expected to be there has told its
table. An expected neighbor is heard within its dead interval; so the word is given when that has
passed and NUP calls itself loaded, at the latest after SYNC_LIMIT_S.

Invariants:
    Nothing is said of the FIB before links are complete: a first decision without them would take
    back routes that the kernel rightly has.
    After `stop` no wish changes any more: the neighbors' routes are lost to NUP then, but the
    kernel goes on with them.
"""

from __future__ import annotations

import random
import secrets
import socket
import time
from collections.abc import Callable, Container, Iterable, Iterator, Sequence
from typing import Protocol

import trio

from ipc.columns import pack_keys
from ipc.internal import FibProgress, FibUpdate, NextHopsSuspected, SharedSecret
from routed.clock import MonotonicClock, wall_time
from routed.config.schema import Config
from routed.injection import Attributes, InjectedRoutes, Problem
from routed.injection_journal import Journal, Kept, Removed, Renewed
from routed.kernel_filter import KernelFilter
from routed.latency import ConvergenceClock
from routed.log import Logger
from routed.model.link import Interface
from routed.model.prefix import Address, Family, Prefix
from routed.model.route import (
    DEFAULT_DISTANCE,
    METRIC_INFINITY,
    LearnedRoute,
    PathAttributes,
    Route,
    RouteColumn,
    RouteSource,
    RouteType,
)
from routed.neighbor.events import (
    AdjacencyChanged,
    AdjacencyState,
    Output,
    RouteHeld,
    RouteLearned,
    RouteLost,
    Trace,
    TraceCode,
)
from routed.neighbor.instance import NeighborInstance
from routed.neighbor.network import NeighborNetwork
from routed.neighbor_links import NeighborLinks, longest_dead_interval
from routed.neighbor_policy import neighbor_policy
from routed.redistribution import SUMMARY_OWNER, Redistribution
from routed.rib.snapshot import FibSnapshot
from routed.rib.table import BestChanges, Rib, Selection
from routed.wishes import FibWishes, Wish

__all__ = ["KERNELS_OWN", "Observer", "Router"]

SYNC_LIMIT_S = 30.0
"""After this long the router says that it is in sync whatever its neighbors do."""

HEARTBEAT_S = 1.0
"""How often the snapshot's heartbeat is written; readers call it stale after some of them."""

SUSPECTS_MAX = 1000
"""Next hops in one message; what is beyond waits for the RIB."""

_NUP_OWNER = "nup"


class Observer(Protocol):
    """Who wants to know what happens."""

    def watches_routes(self) -> bool:
        """Whether `routes_changed` is worth a call now."""
        ...

    def routes_changed(self, changes: BestChanges, known: Container[Prefix]) -> None:
        """The choice for some prefixes changed; `known` had one before."""
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
        on_news: Callable[[], None],
    ) -> None:
        """Build the rooms.

        Args:
            config: the first configuration; it still has to be applied.
            daemon_pid: of the parent, for the snapshot's header.
            origin_seqno: above that of any earlier life.
            log: where adjacencies and traces go.
            on_news: called when `next_update` or `take_in_sync` may have something to say.
        """
        self.links: dict[int, Interface] = {}
        self.observer: Observer | None = None
        """Told of changes, for `monitor`."""
        self.version = 0
        """Raised by any change of what the tables show: candidates, the choice, the kernel's
        progress."""
        self.convergence = ConvergenceClock()
        self.rib = Rib()
        self.wishes = FibWishes(config.fib.table_id, self._wish_of)
        self.snapshot = FibSnapshot(config.router_id, daemon_pid=daemon_pid)
        self._rng = random.Random(secrets.randbits(64))  # noqa: S311  (jitter; ids: `secrets`)
        self.neighbors = NeighborInstance(
            config.router_id,
            boot_id=secrets.randbits(32),
            origin_seqno=origin_seqno,
            rng=self._rng,
        )
        self.kernel_filter = KernelFilter(config.filters.kernel)
        """What the RIB decides and the kernel does not get."""
        self._config = config
        self._log = log
        self._on_news = on_news
        self._clock = MonotonicClock()
        self.neighbors.set_wall_clock(wall_time() - self._clock.now())
        self._network = NeighborNetwork(self.neighbors, self._clock.now, self._on_neighbor_outputs)
        self.neighbor_links = NeighborLinks(self.neighbors, self._network, self._clock.now)
        self._redistribution = Redistribution(self.neighbors, self._set_summary, self.ifname_of)
        self.injected = InjectedRoutes(self.rib)
        self._journal: Journal | None = None
        self._to_expire = trio.Event()
        self._statics: dict[tuple[Prefix, str], Route] = {}
        self.origins: dict[Prefix, Address] = {}
        """The router that announces each prefix which NUP has learned."""
        self._learned: dict[Prefix, RouteSource] = {}

        self._suspects: dict[tuple[Address, int], None] = {}
        """Next hops that are likely dead, and the parent does not know."""
        self._must_judge = False
        """Something may be suspected that the RIB has not decided about."""
        self._has_judged = False
        self._to_decide = trio.Event()
        self._scope = trio.CancelScope()
        self._are_links_complete = False
        self._has_decided = False
        self._has_said_first = False
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
                nursery.start_soon(self._expire_loop)

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
        self.neighbor_links.take_keys(config, secrets)
        old, self._config = self._config, config
        self._apply_statics(config)
        for link in self.links.values():
            self.neighbor_links.settle(link, config)
        self.neighbors.set_policy(neighbor_policy(config), self._clock.now())
        if self._redistribution.follow(config):
            self._redistribute_all()
        self.kernel_filter = KernelFilter(config.filters.kernel)
        has_new_table = old.fib.table_id != config.fib.table_id
        if has_new_table:
            self.wishes.table_id = config.fib.table_id  # the parent gives up the old one by itself
        if has_new_table or old.filters.kernel != config.filters.kernel:
            for prefix, _ in self._all_selections():
                self.wishes.changed(prefix.family, [prefix.as_int], [self._wish_of(prefix)])
        self._network.kick()
        self._to_decide.set()

    def link_changed(self, link: Interface) -> None:
        """A link is there, or is different."""
        before = self.links.get(link.ifindex)
        self.links[link.ifindex] = link
        if self.observer is not None:
            self.observer.link_changed(before, link)
        self.rib.link_changed(link)
        self._must_judge = True
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
        self._must_judge = True
        self.neighbor_links.remove(ifindex)
        self._to_decide.set()

    def links_complete(self) -> None:
        """Every link that there is has been told."""
        self._are_links_complete = True
        dead_interval_s = longest_dead_interval(self.links.values(), self._config)
        self._in_sync_at = self._clock.now() + dead_interval_s
        self._to_decide.set()

    def routes_learned(
        self, install: Iterable[LearnedRoute], remove: Iterable[tuple[Prefix, str]]
    ) -> None:
        """What others keep in the kernel has changed."""
        for learned in install:
            self.rib.install(
                Route(
                    prefix=learned.prefix,
                    source=RouteSource.KERNEL,
                    distance=learned.distance,
                    metric=learned.metric,
                    tag=learned.tag,
                    type=learned.type,
                    next_hops=learned.next_hops,
                    owner=learned.owner,
                )
            )
        for prefix, owner in remove:
            self.rib.withdraw(prefix, RouteSource.KERNEL, owner)
        self._to_decide.set()

    def take_socket(self, ifindex: int, family: Family, opened: socket.socket) -> None:
        """Take over a link's NUP socket; closed at once when the link has gone meanwhile."""
        link = self.links.get(ifindex)
        if link is None:
            opened.close()
        else:
            self.neighbor_links.take_socket(link, family, opened, self._config)

    def _apply_statics(self, config: Config) -> None:
        before, self._statics = self._statics, _static_routes(config)
        for key, route in before.items():
            if key not in self._statics:
                self.rib.withdraw(route.prefix, route.source, route.owner)
        for key, route in self._statics.items():
            if before.get(key) != route:
                self.rib.install(route)

    # --- injected routes

    def keep_injected(self, journal: Journal) -> None:
        """Take up what an earlier engine left, and keep what comes for the next one."""
        self._journal = journal
        now, routes = self._clock.now(), 0
        for kept in journal.restore(now):
            column = kept.column()
            routes += len(column.keys)
            self.injected.put(
                kept.owner,
                [column],
                kept.attributes,
                is_replace=True,
                lease_s=None if kept.until is None else kept.until - now,
                session=None,
                now=now,
            )
        if routes:
            self._log.emit("injected-restored", routes=routes)
        self._to_decide.set()
        self._to_expire.set()

    def put_injected(
        self,
        owner: str,
        routes: Sequence[RouteColumn],
        attributes: Sequence[Attributes],
        *,
        is_replace: bool,
        lease_s: float | None,
        session: int | None,
    ) -> list[Problem]:
        """Install routes of one owner; arguments and result as `InjectedRoutes.put`."""
        now = self._clock.now()
        problems = self.injected.put(
            owner,
            routes,
            attributes,
            is_replace=is_replace,
            lease_s=lease_s,
            session=session,
            now=now,
        )
        if self._journal is not None and not problems and session is None:
            until = None if lease_s is None else now + lease_s
            for column in routes:
                if column.keys:
                    self._journal.append(Kept.of(owner, column, attributes, until), now)
        self._to_decide.set()
        self._to_expire.set()
        return problems

    def delete_injected(
        self, owners: tuple[str, ...], routes: Sequence[RouteColumn]
    ) -> list[Problem]:
        """Take injected routes away; arguments and result as `InjectedRoutes.delete`."""
        problems = self.injected.delete(owners, routes, self._keep_removal)
        self._to_decide.set()
        return problems

    def _keep_removal(self, owner: str, family: Family, keys: list[int]) -> None:
        if self._journal is not None:
            self._journal.append(Removed(owner, family, pack_keys(family, keys)), self._clock.now())

    def renew_injected(self, owner: str, lease_s: float) -> int:
        """Begin an owner's timed leases anew; returns how many there are."""
        now = self._clock.now()
        count = self.injected.renew(owner, lease_s, now)
        if self._journal is not None and count:
            self._journal.append(Renewed(owner, now, now + lease_s), now, renewals=count)
        self.version += 1
        self._to_expire.set()
        return count

    def end_session(self, session: int) -> None:
        """A management session has ended, and what was leased for it goes."""
        count = self.injected.end_session(session)
        if count:
            self._log.emit("lease-ended", owner=f"session {session}", routes=count, why="session")
            self._to_decide.set()

    async def _expire_loop(self) -> None:
        while True:
            with trio.move_on_after(max(self.injected.next_expiry() - self._clock.now(), 0.0)):
                await self._to_expire.wait()
                self._to_expire = trio.Event()
                continue
            for owner, count in self.injected.expire(self._clock.now()).items():
                self._log.emit("lease-ended", owner=owner, routes=count, why="time")
            self._to_decide.set()

    # --- neighbors

    def start_recording(self) -> bool:
        """Write down what goes into NUP from now on; False when that is so already."""
        if self.neighbors.recorder is not None:
            return False
        self.neighbors.start_recording(secrets.token_bytes(32), self._clock.now())
        return True

    def stop_recording(self) -> str | None:
        """End that; its text, or None when nothing was being recorded."""
        if self.neighbors.recorder is None:
            return None
        text = self.neighbors.stop_recording(self._clock.now())
        self._rng.seed(secrets.randbits(64))  # whoever gets the text shall not foretell it
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
        """Take what NUP says, routes in batches: a table arrives a thousand at a time."""
        learned: dict[Prefix, RouteLearned] = {}
        for output in outputs:
            if isinstance(output, RouteLearned):
                learned[output.prefix] = output  # the last word holds
                continue
            if learned and isinstance(output, (RouteHeld, RouteLost)):
                self._learn(learned.values())
                learned = {}
            self._on_neighbor_output(output)
        if learned:
            self._learn(learned.values())

    def _on_neighbor_output(self, output: Output) -> None:
        match output:
            case RouteHeld(prefix=prefix):
                self._hold(prefix)
            case RouteLost(prefix=prefix):
                self._forget(prefix)
            case AdjacencyChanged():
                self._log_adjacency(output)
                self._suspect(output)
                self._to_decide.set()
            case Trace(code=code, ifindex=ifindex, source=source, detail=detail):
                event = "nup-dropped" if code in _WORTH_A_LINE else "nup-trace"
                link = self.ifname_of(ifindex)
                self._log.emit(
                    event, code=code.value, link=link, source=source or "", detail=detail
                )

    def _learn(self, routes: Iterable[RouteLearned]) -> None:
        """Offer what NUP has chosen, all that have the same attributes together."""
        alike: dict[tuple[object, ...], tuple[RouteLearned, list[int]]] = {}
        for route in routes:
            prefix, metric, tag, is_external, origin, next_hops, distance = route
            source = RouteSource.REDISTRIBUTED if is_external else RouteSource.NEIGHBOR
            self.origins[prefix] = origin
            self._note_source(prefix, source)
            # Next hops by identity: a batch shares them, and equal ones apart cost a call more.
            kind = (prefix.family, source, metric, tag, distance, id(next_hops))
            group = alike.get(kind)
            if group is None:
                alike[kind] = (route, [prefix.as_int])
            else:
                group[1].append(prefix.as_int)
        for route, keys in alike.values():
            source = self._learned[route.prefix]
            attributes = PathAttributes(
                route.distance or DEFAULT_DISTANCE[source],
                route.metric,
                source,
                _NUP_OWNER,
                tag=route.tag,
                next_hops=route.next_hops,
            )
            self.rib.install_all(route.prefix.family, keys, attributes)
        self._to_decide.set()

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
        self._note_source(route.prefix, route.source)
        self.rib.install(route)
        self._to_decide.set()

    def _note_source(self, prefix: Prefix, source: RouteSource) -> None:
        """NUP offers a prefix from one source at a time."""
        before = self._learned.get(prefix)
        if before is not source:
            if before is not None:
                self.rib.withdraw(prefix, before, _NUP_OWNER)
            self._learned[prefix] = source

    def _forget(self, prefix: Prefix) -> None:
        self.origins.pop(prefix, None)
        source = self._learned.pop(prefix, None)
        if source is not None:
            self.rib.withdraw(prefix, source, _NUP_OWNER)
            self._to_decide.set()

    def _suspect(self, change: AdjacencyChanged) -> None:
        """Have what is lost taken out of the kernel's groups, before anything is decided."""
        if change.lost_next_hops:
            legs = [(hop.via, hop.ifindex) for hop in change.lost_next_hops if hop.via is not None]
            self._suspects.update(dict.fromkeys(legs))
            self._must_judge = True
            self._on_news()

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
            must_judge, self._must_judge = self._must_judge, False
            self._decide()
            self._has_judged |= must_judge
            self._settle_sync()
            self._on_news()

    def _decide(self) -> None:
        changes = self.rib.process()
        if changes:
            self.convergence.decided(self._clock.now())
            self._tell_observer(changes)
            self.snapshot.apply(changes, self.ifname_of, time.monotonic_ns())
            for of_family in changes:
                self._wish(of_family)
                self._redistribution.follow_best(of_family, self._clock.now())
            self._network.kick()
        self._has_decided = self._are_links_complete

    def _tell_observer(self, changes: Sequence[BestChanges]) -> None:
        if self.observer is not None and self.observer.watches_routes():
            for of_family in changes:
                known = {prefix for prefix, _ in of_family.items() if prefix in self.snapshot}
                self.observer.routes_changed(of_family, known)

    def _wish(self, changes: BestChanges) -> None:
        """Want in the kernel what was decided.

        Neighbors of the table are told far apart: the kernel takes a sorted million out three times
        slower than a shuffled one (peers.md section 1).
        """
        family, keys, selections = changes
        distinct = {id(selection): selection for selection in selections}
        wishes = {number: _wish_for(selection) for number, selection in distinct.items()}
        for first in range(min(_SCATTER, len(keys))):
            some = [wishes[id(selection)] for selection in selections[first::_SCATTER]]
            if self.kernel_filter:
                some = self._filtered(changes, first, some)
            self.wishes.changed(family, keys[first::_SCATTER], some)

    def _filtered(
        self, changes: BestChanges, first: int, wishes: list[Wish | None]
    ) -> list[Wish | None]:
        """The same wishes, without those that stay out of the kernel."""
        family, keys, selections = changes
        rows = zip(keys[first::_SCATTER], selections[first::_SCATTER], wishes, strict=True)
        return [
            None
            if wish is None or self._kept_out(Prefix.from_int(family, key), selection)
            else wish
            for key, selection, wish in rows
        ]

    def _kept_out(self, prefix: Prefix, selection: Selection | None) -> bool:
        if selection is None or not self.kernel_filter:
            return False
        best = selection.attributes
        return bool(self.kernel_filter.refusal(prefix, best.source, best.tag))

    def _wish_of(self, prefix: Prefix) -> Wish | None:
        selection = self.rib.best(prefix)
        return None if self._kept_out(prefix, selection) else _wish_for(selection)

    def _set_summary(self, prefix: Prefix, is_active: bool) -> None:
        """What a summary covers and nobody reaches ends here, rather than at a default route."""
        if not is_active:
            self.rib.withdraw(prefix, RouteSource.STATIC, SUMMARY_OWNER)
        else:
            self.rib.install(
                Route(
                    prefix=prefix,
                    source=RouteSource.STATIC,
                    distance=DEFAULT_DISTANCE[RouteSource.STATIC],
                    metric=0,
                    type=RouteType.UNREACHABLE,
                    owner=SUMMARY_OWNER,
                )
            )
        self._to_decide.set()

    def _redistribute_all(self) -> None:
        now = self._clock.now()
        for prefix, selection in self._all_selections():
            best = None if selection is None else selection.attributes
            self._redistribution.settle(prefix, best, now)

    def _all_selections(self) -> Iterator[tuple[Prefix, Selection | None]]:
        for chunk in self._all_prefixes():
            for prefix in chunk:
                yield prefix, self.rib.best(prefix)

    def _all_prefixes(self) -> Iterator[Sequence[Prefix]]:
        after: Prefix | None = None
        while chunk := self.rib.prefixes_after(after, 1000):
            yield chunk
            after = chunk[-1]

    # --- what the parent is told

    def next_update(self) -> FibUpdate | None:
        """The next wishes to send; None when there is nothing to say now.

        The first update is sent even when nothing is wanted: it says "I have decided", on which the
        daemon's readiness waits.
        """
        if not self._has_decided:
            return None
        if self._has_said_first:
            update = self.wishes.take_update()
        else:
            self._has_said_first = True
            update = self.wishes.take_first_update()
        if update is not None:
            self.convergence.said(update.serial, is_all=not self.wishes.has_unsaid)
        return update

    def progressed(self, progress: FibProgress) -> None:
        """The parent says how far the kernel has followed."""
        self.version += 1
        self.convergence.applied(progress.applied_serial, self._clock.now())
        self.wishes.progress(
            progress.applied_serial, progress.failures, progress.recovered, progress.counters
        )

    @property
    def datagrams(self) -> dict[str, int]:
        """NUP datagrams since the start, by direction."""
        return {"received": self._network.received, "sent": self._network.sent}

    def take_suspects(self) -> NextHopsSuspected | None:
        """Next hops that are likely dead, to be said before everything else."""
        legs, self._suspects = tuple(self._suspects), {}
        return NextHopsSuspected(legs[:SUSPECTS_MAX]) if legs else None

    def take_judged(self) -> bool:
        """Whether "judged" is to be said now: after every wish that follows from it."""
        if not self._has_judged or self._must_judge or self.wishes.has_unsaid:
            return False
        self._has_judged = False
        return True

    def take_in_sync(self) -> bool:
        """Whether "in sync" is to be said now: once, and after every wish."""
        if not self._is_in_sync or self._has_said_in_sync or self.wishes.has_unsaid:
            return False
        self._has_said_in_sync = True
        return True

    def _seconds_to_sync_check(self) -> float:
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

KERNELS_OWN = frozenset({RouteSource.CONNECTED, RouteSource.KERNEL})
"""Best routes that the kernel has by itself."""

_WORTH_A_LINE = frozenset(
    {
        TraceCode.DUPLICATE_ROUTER_ID,
        TraceCode.DUPLICATE_NEIGHBOR_ID,
        TraceCode.MTU_MISMATCH,
        TraceCode.NEIGHBOR_DAMPED,
        TraceCode.DROPPED_UNSIGNED,
        TraceCode.DROPPED_UNKNOWN_KEY,
        TraceCode.DROPPED_BAD_MAC,
    }
)
"""Traces that an operator should see without asking: somebody misconfigured something."""


_SCATTER = 64


def _wish_for(selection: Selection | None) -> Wish | None:
    """What the kernel should have; None where it has a route by itself."""
    if selection is None or selection.attributes.source in KERNELS_OWN:
        return None
    return Wish(selection.attributes.type, selection.next_hops)


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
