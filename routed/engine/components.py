"""The components that exist once a configuration is in force, and the messages meant for them.

    parent --links, sockets, progress, reports--> Components --> Router, ParentReports,
                                                                 ClientServers

Components are built once, when the first configuration takes effect; each later one is applied to
them in one step.
"""

from __future__ import annotations

import dataclasses
import socket
import time

import trio

from ipc.lazy_dataclass import dataclass
from routed.engine.client_servers import ClientServers
from routed.engine.config_receiver import ReceivedConfig
from routed.engine.dataplane import Dataplane
from routed.engine.injection.journal import Journal
from routed.engine.parent_channel import ParentChannel
from routed.engine.router import Router
from routed.engine.send_queue import SendQueue
from routed.engine.show.daemon import DaemonFacts, Reporter
from routed.engine.show.diagnosis import engine_facts
from routed.engine.show.memory import ProcessMemory
from routed.engine.show.parent_reports import ParentReports
from routed.imsg.dataplane import DataplaneArrayReady, DataplaneChanged
from routed.imsg.liveness_channel import LivenessChannelReady
from routed.imsg.messages import (
    ConfBegin,
    ConfigState,
    Diagnose,
    FibProgress,
    JournalReady,
    LinkChanged,
    LinkRemoved,
    LinksComplete,
    LogLine,
    MessagesDropped,
    RefusalsCounted,
    ReloadFinished,
    RoutesImported,
    RulesChanged,
    SocketKind,
    SocketReady,
)
from routed.imsg.observer_channel import ObserverChannelReady
from routed.log.events import Level
from routed.log.logger import Logger
from routed.model.link import InterfaceAddress
from routed.sandbox.confine import Confinement
from routed.snapshot.writer import SnapshotMemory

__all__ = ["Components", "ProcessResources", "build_components"]


@dataclass(frozen=True, slots=True)
class ProcessResources:
    """Resources that the process has acquired before it was confined."""

    confinement: Confinement
    memory: ProcessMemory
    snapshot_memory: SnapshotMemory
    network_namespace: int | None = None
    """Inode of the network namespace; None without /proc."""


class Components:
    """Hands each message of the parent to the component that it is for."""

    def __init__(
        self, router: Router, reports: ParentReports, servers: ClientServers, reporter: Reporter,
        queue: SendQueue, dataplane: Dataplane,
    ) -> None:  # fmt: skip
        """Begin with components that are built and not configured yet.

        Args:
            router: for links, sockets of NUP, routes and progress.
            reports: for what is only shown.
            servers: for sockets of clients.
            reporter: for a diagnosis.
            queue: is woken by progress, and has the log.
            dataplane: for counters of traffic.
        """
        self.router = router
        self.reports = reports
        self._servers = servers
        self._reporter = reporter
        self._queue = queue
        self._dataplane = dataplane
        self._addresses: list[InterfaceAddress] = []
        """Addresses received so far of a link that comes in several messages."""
        self._journal_files: list[int] = []

    def apply(self, received: ReceivedConfig) -> None:
        """Switch to a configuration in one step."""
        config = received.config
        if self.router.config.log != config.log:
            self._queue.log.level = Level[config.log.level.name]
        self.router.apply(config, received.secrets)
        self._servers.apply(config.management, config.metrics)

    def handle(self, message: object, descriptor: int | None, now: float) -> None:
        """Handle one message.

        Args:
            message: any that the authority table allows while the engine runs.
            descriptor: received with it; becomes the component's.
            now: seconds, monotonic.
        """
        match message:
            case LinkChanged():
                self._handle_link(message)
            case LinkRemoved(ifindex=ifindex):
                self.router.link_removed(ifindex)
            case LinksComplete(former_next_hops=former_next_hops):
                self.router.links_complete(former_next_hops)
            case SocketReady():
                assert descriptor is not None  # the authority table requires it
                self._handle_socket(message, socket.socket(fileno=descriptor))
            case JournalReady():
                assert descriptor is not None  # the authority table requires it
                self._handle_journal(descriptor)
            case DataplaneArrayReady():
                assert descriptor is not None  # the authority table requires it
                self._dataplane.handle_array(message, descriptor)
            case DataplaneChanged():
                self._dataplane.handle_changed(message)
            case LivenessChannelReady():
                assert descriptor is not None  # the authority table requires it
                self.router.tracking.connect(socket.socket(fileno=descriptor))
            case ObserverChannelReady():
                assert descriptor is not None  # the authority table requires it
                self._dataplane.observer.connect(socket.socket(fileno=descriptor))
            case FibProgress():
                self.router.handle_progress(message)
                self._queue.wake()  # there is room for more desired routes
            case RoutesImported():
                self.router.kernel_routes_changed(message.install, message.remove)
            case Diagnose():
                for name, value in engine_facts(self._reporter):
                    self._queue.log.emit("diagnostic", what=name, value=value)
            case _:
                self._handle_report(message, now)

    def _handle_report(self, message: object, now: float) -> None:
        match message:
            case RulesChanged():
                self.reports.handle_rules(message)
            case ConfigState():
                self.reports.handle_config_state(message, now)
            case RefusalsCounted():
                self.reports.handle_refusals(message)
            case MessagesDropped():
                self.reports.handle_dropped(message)
            case LogLine():
                self.reports.handle_log_line(message)
            case ReloadFinished():
                self.reports.handle_reload(message, now)

    def _handle_link(self, message: LinkChanged) -> None:
        """Handle a link, once all of its addresses are there."""
        link = message.link
        if message.continues or self._addresses:
            self._addresses += link.addresses
        if message.continues:
            return
        if self._addresses:
            link = dataclasses.replace(link, addresses=tuple(self._addresses))
            self._addresses = []
        self.router.link_changed(link)

    def _handle_socket(self, message: SocketReady, opened: socket.socket) -> None:
        match message:
            case SocketReady(kind=SocketKind.MANAGEMENT):
                self._servers.serve_management(opened)
            case SocketReady(kind=SocketKind.METRICS):
                self._servers.serve_metrics(opened)
            case SocketReady(ifindex=ifindex, family=family):
                assert family is not None  # kind NEIGHBOR
                self.router.add_nup_socket(ifindex, family, opened)

    def _handle_journal(self, descriptor: int) -> None:
        """Restore injected routes of the engine before this one, once both files are there."""
        self._journal_files.append(descriptor)
        if len(self._journal_files) == 2:
            journal = Journal(self._journal_files, self._log_journal_problem)
            self.router.injection.restore(journal)

    def _log_journal_problem(self, problem: str) -> None:
        self._queue.log.emit("internal-error", where="injected routes", error=problem)


def build_components(
    received: ReceivedConfig,
    resources: ProcessResources,
    parent: ParentChannel,
    nursery: trio.Nursery,
) -> Components:
    """Build the components, when the first configuration takes effect.

    Args:
        received: the first configuration; it is still to be applied.
        resources: of this process.
        parent: the objects that talk to the parent.
        nursery: runs the components' tasks.
    """
    begin, log = received.begin, parent.queue.log
    confinement = resources.confinement
    _log_confinement(begin, confinement, log)
    router = Router(
        received.config,
        daemon_pid=begin.daemon_pid,
        origin_seqno=begin.origin_seqno,
        log=log,
        on_change=parent.queue.wake,
        snapshot_memory=resources.snapshot_memory,
    )
    parent.queue.send_desired_routes(router.programming)
    nursery.start_soon(router.run)
    facts = DaemonFacts(
        begin,
        str(confinement),
        confinement.listener is not None,
        resources.memory,
        resources.network_namespace,
    )
    reports = ParentReports()
    dataplane = Dataplane(router.snapshot, time.monotonic, log)
    nursery.start_soon(dataplane.run)
    reporter = Reporter(facts, router, reports, parent, dataplane)
    servers = ClientServers(nursery, router, reporter, log)
    return Components(router, reports, servers, reporter, parent.queue, dataplane)


def _log_confinement(begin: ConfBegin, confinement: Confinement, log: Logger) -> None:
    """Log what confines this engine, and once for each daemon what the sandbox lacks.

    An older landlock is information: the distribution's kernel is the same at each start.
    """
    log.emit("sandboxed", by=confinement)
    if not confinement.missing or begin.engine_restarts:
        return
    event = "sandbox-degraded" if confinement.is_degraded else "sandbox-limited"
    log.emit(event, missing=", ".join(confinement.missing))
