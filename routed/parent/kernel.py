"""The kernel side of the parent: the netlink sockets, and the loops that synchronise the kernel.

    EventSocket --> KernelMonitor --links--> KernelSyncs (engine, NUP sockets, watchers)
                         |---routes--> FibSync   (our routes: desired against kernel)
                         |---routes--> ImportSync (others' routes, as candidates)
                         '---rules---> RuleSync  (policy rules)

Each of the three syncs owns its state and its request socket, so that a long dump of one never
delays another. This module owns the sockets and passes each notification to the syncs that it
concerns; it makes no decisions.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Self

import trio

from ipc.lazy_dataclass import dataclass
from routed.config.schema import FibConfig, NextHopObjects, OnExit
from routed.fib.carrier import CarrierCheck
from routed.fib.compat_mode import CompatMode
from routed.fib.import_sync import ImportSync
from routed.fib.links.table import LinkChange, LinkTable
from routed.fib.monitor import KernelMonitor
from routed.fib.nexthop_sync import ObjectSync
from routed.fib.nexthops.codec import SeenNextHop
from routed.fib.nexthops.table import NexthopTable
from routed.fib.request_socket import RequestSocket
from routed.fib.routes.ownership import KernelRoute
from routed.fib.routes.tables import FibTables
from routed.fib.rule_sync import RuleSync
from routed.fib.sync import FibSync
from routed.imsg.messages import (
    FORMER_NEXT_HOPS_MAX,
    FibCommandDone,
    FibProgress,
    NextHopsReported,
    RoutesImported,
    RuleReport,
    RulesChanged,
)
from routed.log.logger import Logger
from routed.model.command import FibCommand
from routed.model.fib import FibCounters
from routed.model.link import Interface
from routed.model.prefix import Address, Prefix
from routed.netlink.socket import DumpInterrupted, EventSocket, NetlinkError
from routed.parent.engine_process.supervisor import Supervisor
from routed.parent.kernel_settings import KernelSettings
from routed.parent.nexthop_reports import report_nexthops
from routed.parent.nup_sockets import NupSockets
from routed.parent.route_admission import RouteAdmission

__all__ = ["KernelSockets", "KernelSyncs"]


@dataclass(frozen=True, slots=True)
class KernelSockets:
    """The netlink sockets: one for each task, so that no task waits for the dump of another."""

    writer: RequestSocket
    """Writes routes, and dumps them."""
    reader: RequestSocket
    """Dumps links, addresses and device routes."""
    rule_writer: RequestSocket
    import_reader: RequestSocket
    """Dumps the routes of others."""
    object_writer: RequestSocket
    """Writes and dumps nexthop objects."""
    link_asker: RequestSocket
    """Reads the state of single links, for the carrier check."""
    listener: EventSocket
    """Receives all notifications except those of our own writes of routes and nexthop objects."""

    @classmethod
    @contextmanager
    def open(cls, protocol: int) -> Iterator[Self]:
        """Open all of them.

        Args:
            protocol: our `rtm_protocol`.

        Raises:
            NetlinkError: the kernel refuses.
        """
        with (
            RequestSocket(protocol) as writer,
            RequestSocket(protocol) as reader,
            RequestSocket(protocol) as rule_writer,
            RequestSocket(protocol) as import_reader,
            RequestSocket(protocol) as object_writer,
            RequestSocket(protocol) as link_asker,
            EventSocket((writer.port_id, object_writer.port_id)) as listener,
        ):
            yield cls(
                writer, reader, rule_writer, import_reader, object_writer, link_asker, listener
            )


class KernelSyncs:
    """The owner of the syncs on the netlink sockets, which reports their results to the engine."""

    def __init__(
        self,
        settings: KernelSettings,
        sockets: KernelSockets,
        links: LinkTable,
        nup_sockets: NupSockets,
        supervisor: Supervisor,
        log: Logger,
    ) -> None:
        """Create the syncs on subscribed sockets; nothing is read before `load`.

        Args:
            settings: those of the configuration in force.
            sockets: open for as long as this is used.
            links: the table of links, kept current from now on.
            nup_sockets: opened and closed as links change.
            supervisor: owner of the engine that is notified.
            log: for changes of links, and for the events of the syncs.

        Raises:
            NetlinkError: the kernel refuses.
        """
        self.start_applied = trio.Event()
        """Set once all routes that an engine selected at its start were tried."""
        self.is_loaded = False
        """Whether the links have been read."""
        self._settings = settings
        self._links, self._link_watchers = links, list[Callable[[], None]]()
        self._nup_sockets = nup_sockets
        self._supervisor = supervisor
        self._log = log
        self._compat_mode = CompatMode()
        fib, fib_tables = settings.fib, FibTables(settings.ownership)
        self._objects = self._open_objects(fib, sockets.object_writer, fib_tables)
        self.sync = FibSync(
            fib_tables,
            sockets.writer,
            resync_s=fib.resync_s,
            log=log,
            rng=random.Random(),  # noqa: S311  (jitter, not a secret)
            on_progress=self._on_progress,
            is_link_up=self._is_link_up,
            objects=self._objects,
        )
        self.admission = RouteAdmission(self.sync, log)
        self._rules = RuleSync(
            sockets.rule_writer,
            fib.protocol,
            resync_s=fib.resync_s,
            log=log,
            on_states=self.report_rules,
        )
        self._rules.set_desired(settings.rules)
        self._learn = ImportSync(
            sockets.import_reader,
            resync_s=fib.resync_s,
            log=log,
            on_change=self._on_imported,
        )
        self._learn.set_desired(settings.imports)
        self._monitor = KernelMonitor(
            sockets.listener,
            sockets.reader,
            on_link=self._on_link,
            on_route=self._on_route,
            on_rule=self._rules.request_dump,
            on_nexthop=self._on_nexthop,
            on_overrun=self._on_overrun,
            on_failure=self._on_failed_dump,
            links=links,
        )
        answered = self._monitor.link_answered
        self._carriers = CarrierCheck(
            sockets.link_asker, self._links_up, answered, fib.carrier_check_s
        )

    def _links_up(self) -> list[int]:
        return [link.ifindex for link in self.links if link.is_up and not link.is_loopback]

    def _open_objects(
        self, config: FibConfig, kernel: RequestSocket, fib_tables: FibTables
    ) -> ObjectSync | None:
        """Create the sync of nexthop objects; None if the kernel has no nexthop objects."""
        try:
            if kernel.dump_nexthops() is None:
                return None
        except DumpInterrupted:
            pass  # objects that change so fast do exist
        is_enabled = config.nexthop_objects is NextHopObjects.AUTO
        if is_enabled:
            problem = self._compat_mode.switch_off()
            if self._compat_mode.value is not None:
                self._log.emit("nexthop-compat-mode", mode=self._compat_mode.value, problem=problem)
        fib_table = NexthopTable(
            config.protocol, is_enabled=is_enabled, is_link_up=self._is_link_up
        )
        return ObjectSync(fib_table, kernel, fib_tables, self._log, lambda: self._compat_mode.value)

    async def load(self) -> None:
        """Read the links, addresses and device routes.

        Raises:
            NetlinkError: the kernel refuses.
        """
        await self._monitor.load()
        self.is_loaded = True

    async def run(self) -> None:
        """Keep the kernel equal to the desired state until cancelled."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._monitor.run)
            nursery.start_soon(self.sync.run)
            nursery.start_soon(self._rules.run)
            nursery.start_soon(self._learn.run)
            nursery.start_soon(self._carriers.run)

    def follow(self, new: KernelSettings) -> None:
        """Switch the kernel side to another configuration, except for the martians."""
        old, self._settings = self._settings, new
        self.sync.resync_s = self._rules.resync_s = self._learn.resync_s = new.fib.resync_s
        self._rules.set_desired(new.rules)
        if old.fib.carrier_check_s != new.fib.carrier_check_s:
            self._carriers.period_s = new.fib.carrier_check_s
        if old.imports != new.imports:
            self._learn.set_desired(new.imports)
        if old.ownership != new.ownership:
            self.sync.change_ownership(new.ownership)
        if old.fib.table_id != new.fib.table_id:
            self._monitor.follow_table(new.fib.table_id)

    async def leave(self, on_exit: OnExit) -> int:
        """Remove our routes and rules, or keep them. Returns the number of routes left."""
        if on_exit is OnExit.KEEP:
            return self.counters.installed
        kept = await self.sync.flush()
        try:
            await self._rules.flush()
        except (NetlinkError, OSError) as error:
            self._log.emit("netlink-error", what="removing rules", error=error)
        return kept

    def begin_session(self) -> None:
        """Prepare to report the whole kernel state to a new engine."""
        self.sync.begin_session()
        self._learn.importer.begin_session()

    # --- queries

    @property
    def counters(self) -> FibCounters:
        """Return the counters of the FIB."""
        return self.sync.counters()

    @property
    def links(self) -> list[Interface]:
        """List the current state of every link."""
        return list(self._links.interfaces.values())

    def link(self, ifindex: int) -> Interface | None:
        """Return the current state of a link; None if there is no such link."""
        return self._links.interfaces.get(ifindex)

    def nexthops_after(self, after_id: int) -> NextHopsReported:
        """Report the next nexthop objects with ids above `after_id`."""
        states = () if self._objects is None else self._objects.states_after(after_id)
        return report_nexthops(states, self._log)

    def former_next_hops(self) -> tuple[tuple[Address, int], ...]:
        """List the gateways and links of kernel routes that an earlier run of the daemon left.

        Only routes that have been read by now are included: the daemon does not wait for a dump of
        a million routes before it starts its engine. Cost: 0.1 us per route.
        """
        fib_tables = self.sync.fib_tables
        hops = fib_tables.hops()
        if self._objects is not None:
            hops |= self._objects.nexthop_table.next_hops_of(fib_tables.nexthop_ids())
        return tuple(sorted(hops)[:FORMER_NEXT_HOPS_MAX])

    def pop_progress(self) -> FibProgress | None:
        """Return the FIB's progress as a message; None if there is none."""
        progress = self.sync.pop_progress()
        return None if progress is None else FibProgress(*progress)

    def pop_imported(self) -> RoutesImported | None:
        """Return the changes of imported routes as a message; None if there are none."""
        changes = self._learn.importer.pop_changes()
        return None if changes is None else RoutesImported(*changes)

    async def execute(self, command: FibCommand) -> FibCommandDone:
        """Carry out a command on the whole FIB. Returns the result with text for people."""
        match command:
            case FibCommand.DECOUPLE:
                left = await self.sync.decouple()
                wanted = self.counters.desired
                line = f"decoupled: {wanted} desired routes are kept, {left} in the kernel"
                return FibCommandDone(not left, (line, "`fib couple` installs them again"))
            case FibCommand.COUPLE:
                now = await self.sync.couple()
                lines = [f"coupled: {now.installed} of {now.desired} routes in the kernel"]
                if now.failed:
                    lines.append(f"{now.failed} failed; `show fib` has the reasons")
                return FibCommandDone(True, tuple(lines))
            case FibCommand.RESYNC:
                report = await self.sync.resync()
                found = f"{report.missing} were missing, {report.changed} changed"
                line = f"read {report.routes} routes in {report.took_s:.2f} s: {found}"
                return FibCommandDone(True, (line,))

    # --- notifications from the kernel

    def _is_link_up(self, ifindex: int) -> bool:
        link = self.link(ifindex)
        return link is not None and link.is_up

    def _on_overrun(self, reason: str) -> None:
        self.sync.notifications_lost()
        self._rules.request_dump()
        self._learn.request_dump()

    def _on_failed_dump(self, error: Exception) -> None:
        self._log.emit("netlink-error", what="reading links", error=error)

    def _on_route(self, route: KernelRoute, is_removed: bool, is_replacing: bool) -> None:
        self.sync.route_notified(route, is_removed, is_replacing)
        self._learn.route_notified(route, is_removed)

    def _on_nexthop(self, seen: SeenNextHop, is_removed: bool) -> None:
        self.sync.nexthop_notified(seen, is_removed)
        self._learn.nexthop_notified()

    def _cut_off(self, before: Interface, after: Interface) -> list[tuple[Address, int]]:
        """List next hops that were in a connected subnet of a link and are no longer in one."""
        old, new = before.on_link_prefixes(), after.on_link_prefixes()
        if self._objects is None or set(old) <= set(new):
            return []
        hops = self._objects.nexthop_table.next_hops_on(before.ifindex)
        return [
            (via, ifindex) for via, ifindex in hops if _is_in(via, old) and not _is_in(via, new)
        ]

    def _on_link(self, change: LinkChange) -> None:
        before, after = change.before, change.after
        was_up, is_up = before is not None and before.is_up, after is not None and after.is_up
        if is_up and not was_up and after is not None:
            self._log.emit("link-up", link=after.ifname, ifindex=change.ifindex)
        elif was_up and not is_up and before is not None:
            reason = "removed" if after is None else "carrier" if after.is_admin_up else "down"
            self._log.emit("link-down", link=before.ifname, ifindex=change.ifindex, reason=reason)
        lost_address = before is not None and (
            after is None or change.has_lost_address or not _usable(before) <= _usable(after)
        )
        may_have_lost_routes = (was_up and not is_up) or lost_address
        if is_up and before is not None and after is not None:
            self.sync.begin_verification(self._cut_off(before, after))
        if before is not None:
            self.sync.addresses_left(_own(before) - (_own(after) if after else frozenset()))
        self.sync.links_changed(may_have_lost_routes=may_have_lost_routes)
        if may_have_lost_routes:
            self._learn.request_dump()
        session = self._supervisor.running
        if session is not None:
            session.mark_link(change.ifindex)
            self._nup_sockets.handle_link_change(change)
        for watcher in self._link_watchers:
            watcher()

    def watch_links(self, watcher: Callable[[], None]) -> None:
        """Have a function called after each change of a link."""
        self._link_watchers.append(watcher)

    # --- notices to the engine

    def report_rules(self) -> None:
        """Send the engine the state of every policy rule of the configuration."""
        session = self._supervisor.running
        if session is not None:
            reports = tuple(RuleReport(*state) for state in self._rules.states)
            session.send(RulesChanged(reports))

    def _on_progress(self) -> None:
        session = self._supervisor.running
        if session is None:
            return  # the next engine receives the whole state in any case
        session.mark_progress()
        if self.sync.has_applied_start:
            self.start_applied.set()

    def _on_imported(self) -> None:
        session = self._supervisor.running
        if session is not None:
            session.mark_imported()


def _own(link: Interface) -> frozenset[Address]:
    return frozenset(entry.address for entry in link.addresses)


def _usable(link: Interface) -> set[tuple[Address, Address | None, int]]:
    return {
        (entry.address, entry.peer, entry.prefix_len) for entry in link.addresses if entry.is_usable
    }


def _is_in(via: Address, prefixes: Iterable[Prefix]) -> bool:
    return any(prefix.contains_address(via) for prefix in prefixes)
