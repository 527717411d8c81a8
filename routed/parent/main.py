"""The root process: it creates its components and runs them.

                    routes.yaml, signals
                             |
     kernel <--> KernelSyncs  |  Transactions --> ConfigSwitch --configuration--> engine
                   ^    |    |       ^              |   |
                   |    |    Parent  |              |   '--> KernelSyncs, NupSockets, DaemonLog
                   |    '--state of links, routes---|-----------------------> engine
    desired routes |                 | reloads
                   '--- EngineRequests <--------------------------------------- engine

    routed/parent/startup.py                    opens what the daemon holds, refuses the start
    routed/parent/kernel.py                     netlink: our routes, rules, imported routes, links
    routed/parent/nup_sockets.py                the NUP socket of each link
    routed/parent/dataplane.py                  programs in the kernel that count traffic
    routed/parent/engine_process/supervisor.py  keeps one engine running
    routed/parent/engine_process/session.py     one engine, from its start to its end
    routed/parent/engine_process/journals.py    injected routes, kept from one engine to the next
    routed/parent/liveness.py                   the liveness process, while BFD is configured
    routed/parent/observer.py                   the observer, while flows are counted
    routed/parent/engine_requests.py            the handler of each message of the engine
    routed/parent/engine_answers.py             sends each answer to the engine of its request
    routed/parent/reload.py                     reload, confirm, rollback
    routed/parent/config_switch.py              applies a configuration to both processes
    routed/parent/log_output.py                 the destination of the log

The parent reads the configuration, opens sockets, writes the kernel's tables and watches the
engine. It never parses a byte from the network or from a client: these go to the engine, over
sockets that the parent opens and never reads.

Start: the daemon reports that it is ready after all steps that can fail: the lock of the pid file,
privileges, the management socket, netlink, the first dump, an engine that accepted its
configuration, and the first routes in the kernel.

Reload: a transaction after which either both processes use the new configuration, or both use the
old one. A reload by signal enters this module once, a reload by a client not at all: each component
has the collaborators that it needs.

Stop: the engine sends a GOODBYE to its neighbors, then the daemon's routes are kept or removed
(`fib.on_exit`), then the files are removed.
"""

from __future__ import annotations

import os
import signal
import time
import traceback
from collections.abc import AsyncIterator
from contextlib import closing

import trio

from ipc.lazy_dataclass import dataclass
from ipc.standard_streams import write_message
from routed import __version__
from routed.config.schema import Config, OnExit
from routed.fib.links.table import LinkTable
from routed.imsg.messages import Diagnose, JournalReady, LinksComplete, LogLevelChanged, LogLine
from routed.log.logger import Logger
from routed.netlink.socket import NetlinkError
from routed.parent import signals
from routed.parent.child_keeper import ChildKeeper
from routed.parent.config_history import ConfigHistory
from routed.parent.config_reader import ConfigReader
from routed.parent.config_switch import ConfigSwitch, InForce
from routed.parent.daemonize import ReadyPipe
from routed.parent.dataplane import Dataplane
from routed.parent.engine_answers import EngineAnswers
from routed.parent.engine_process.journals import Journals
from routed.parent.engine_process.session import EngineFailed, EngineSession
from routed.parent.engine_process.supervisor import EngineContext, Supervisor
from routed.parent.engine_requests import EngineRequests
from routed.parent.former_tables import sweep_former_tables
from routed.parent.kernel import KernelSockets, KernelSyncs
from routed.parent.kernel_settings import KernelSettings
from routed.parent.liveness import Liveness
from routed.parent.nup_sockets import NupSockets
from routed.parent.observer import Observer
from routed.parent.orphans import is_init, reap_orphans
from routed.parent.reload import Transactions
from routed.parent.reload_phases import ReloadPhase
from routed.parent.reload_queue import ReloadRequest
from routed.parent.service_manager import ServiceManager, ServiceReporter
from routed.parent.startup import Opened, StartError, open_daemon

__all__ = ["EXIT_FAILED", "EXIT_USAGE", "StartedBy", "run_parent"]

EXIT_FAILED = 1
EXIT_USAGE = 2


@dataclass(frozen=True, slots=True)
class StartedBy:
    """The configuration that a daemon starts with."""

    config: Config
    """The configuration, already validated."""
    text: str
    """The text from which it was decoded."""
    path: str
    """Absolute path of routes.yaml, which a reload reads again."""
    is_instead: bool = False
    """Whether the text is the last confirmed one, because the text of the file is refused."""


def run_parent(start: StartedBy, ready: ReadyPipe, *, is_foreground: bool) -> int:
    """Run the daemon until a signal or an error ends it.

    Args:
        start: the configuration and its origin.
        ready: receives the report that the daemon is ready, or the reason why it cannot start.
        is_foreground: whether to log to stderr unless the configuration names a file.

    Returns:
        The exit status.
    """
    try:
        opened = open_daemon(start.config, start.path, is_foreground=is_foreground)
    except StartError as error:
        status = EXIT_USAGE if error.is_config_wrong else EXIT_FAILED
        return _give_up(ready, str(error), status, is_foreground=is_foreground)
    except Exception as error:  # noqa: BLE001  (reported at the terminal)
        # A defect, or a system that lacks a feature: there may be no log yet.
        trace = "".join(traceback.format_exception(error))
        message = f"internal error: {error}\n{trace.rstrip()}"
        return _give_up(ready, message, is_foreground=is_foreground)
    log = opened.log.logger
    try:
        trio.run(_run, start, opened, ready)
    except BaseExceptionGroup as group:
        expected, defects = group.split((EngineFailed, NetlinkError))
        reason = _first_message(expected)
        if defects is not None:
            _log_defect(log, defects)
            reason = f"internal error: {_first_message(defects)}"
        log.emit("daemon-failed", reason=reason)
        return _give_up(ready, reason, is_foreground=is_foreground)
    finally:
        opened.close()
        opened.log.close()
    return 0


async def _run(start: StartedBy, opened: Opened, ready: ReadyPipe) -> None:
    """Open the netlink sockets, and run the parent until it has stopped."""
    config = start.config
    opened.log.logger.emit(
        "starting",
        version=__version__,
        pid=os.getpid(),
        config=start.path,
        router_id=config.router_id,
    )
    with trio.open_signal_receiver(*signals.HANDLED) as numbers:
        signals.unblock()
        try:
            async with trio.open_nursery() as nursery:
                with (
                    KernelSockets.open(config.fib.protocol) as sockets,
                    closing(Parent(start, opened, ready, sockets)) as parent,
                ):
                    nursery.start_soon(opened.log.run)
                    nursery.start_soon(parent.reload_by_signal)
                    nursery.start_soon(parent.follow_signals, numbers)
                    await parent.run()
                    nursery.cancel_scope.cancel()
        finally:
            signals.block(*signals.HANDLED)


def _give_up(
    ready: ReadyPipe, message: str, status: int = EXIT_FAILED, *, is_foreground: bool
) -> int:
    """Report at the terminal why the daemon ends. Returns the exit status."""
    if is_foreground or not ready.is_open:
        write_message(f"routed: {message}\n")
    ready.report(status, f"routed: {message}")
    return status


def _log_defect(log: Logger, error: BaseException) -> None:
    """Log the traceback of a defect; a background daemon has no other output for it."""
    for line in "".join(traceback.format_exception(error)).splitlines():
        log.emit("internal-error", where="parent", error=line)


def _first_message(group: BaseException | None) -> str:
    error = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return str(error)


class Parent:
    """The order of start, service and stop; the state is in the components."""

    def __init__(
        self, start: StartedBy, opened: Opened, ready: ReadyPipe, sockets: KernelSockets
    ) -> None:
        """Create all components; none runs yet.

        Args:
            start: the configuration and its origin.
            opened: the resources of the daemon.
            ready: receives the report that the daemon is ready.
            sockets: the netlink sockets.

        Raises:
            NetlinkError: the kernel refuses.
            OSError: there is no free descriptor.
        """
        config, log = start.config, opened.log.logger
        self._start = start
        self._opened = opened
        self._log = log
        self._ready = ready
        self._is_stopping = False
        self._hung_up = trio.Event()  # set by SIGHUP
        self._loading = trio.CancelScope()  # of reading the kernel's tables
        self._manager = ServiceManager(os.environ)
        self._journals = Journals(log)
        self._supervisor = supervisor = Supervisor(log)
        links = LinkTable(config.fib.table_id, config.fib.protocol)
        self._nup_sockets = NupSockets(config.interfaces, links, self._supervisor, log)
        settings = KernelSettings.of(config.fib, config.rules, config.learn, config.tables)
        self._kernel = KernelSyncs(settings, sockets, links, self._nup_sockets, supervisor, log)
        self._kernel.admission.follow(config.martians)
        self._dataplane = Dataplane(
            opened.dataplane, config.dataplane, links, self._supervisor, log
        )
        self._reader = ConfigReader(start.path)
        self._switch = ConfigSwitch(
            InForce(config, opened.secrets),
            self._reader,
            opened,
            self._supervisor,
            self._kernel,
            self._nup_sockets,
        )
        self._liveness = Liveness.following(self._switch, links, self._supervisor, log)
        self._observer = Observer(opened.dataplane, config.dataplane, self._supervisor, log)
        history = ConfigHistory(
            config.pid_file, lambda problem: log.emit("state-file-problem", problem=problem)
        )
        self._former_texts = history.texts  # the configurations of earlier daemons
        self._answers = EngineAnswers(self._supervisor)
        self._reporter = ServiceReporter(self._manager, self._kernel.sync)
        self._transactions = Transactions(
            self._switch, history, self._reader, opened.log, self._answers, self._reporter
        )
        opened.log.subscribe(self._send_log_line)

    def close(self) -> None:
        """Close the descriptors of the components."""
        self._dataplane.close()
        self._manager.close()
        self._journals.close()
        self._nup_sockets.close()
        self._liveness.close()

    # --- order

    async def run(self) -> None:
        """Read the kernel, serve until the daemon is stopped, then remove or keep its routes.

        Raises:
            EngineFailed: engines keep failing; the routes stay.
            NetlinkError: the kernel cannot be read.
        """
        with self._loading:
            await self._kernel.load()
        kept = 0
        if not self._loading.cancelled_caught:
            await self._serve()
            kept = await self._kernel.leave(self._switch.config.fib.on_exit)
        self._log.emit("stopped", routes_kept=kept)

    async def _serve(self) -> None:
        config = self._start.config
        if config.user.uid == 0:
            self._log.emit("engine-runs-as-root", reason=f"user: {config.user.name}")
        self._kernel.watch_links(self._dataplane.reconcile)
        self._switch.followers.append(lambda new: self._dataplane.follow(new.dataplane))
        self._switch.followers.append(lambda new: self._observer.follow(new.dataplane))
        async with trio.open_nursery() as nursery:
            for task in (
                self._kernel.run,
                self._nup_sockets.run,
                self._dataplane.run,
                self._transactions.run,
                self._sweep_former_tables,
                self._report_start,
                self._opened.instance.answer,
                self._switch.run,
                self._reporter.ping_watchdog,
            ):
                nursery.start_soon(task)
            for child in self._children:
                nursery.start_soon(child.run, config.user, config.sandbox)
            if is_init():
                nursery.start_soon(reap_orphans, self._is_own)
            requests = EngineRequests(
                self._kernel, self._transactions, self._opened.log, self._answers, nursery,
                self._dataplane,
            )  # fmt: skip
            life = EngineContext(
                state=self._kernel,
                handlers=requests.handlers,
                introduce=self._introduce_engine,
                on_death=self._handle_engine_death,
                survives_deaths=self._transactions.returns_from_dying_engines,
            )
            await self._supervisor.run(config.user, config.sandbox, life)
            nursery.cancel_scope.cancel()

    def _is_own(self, pid: int) -> bool:
        """Whether a process has a waiter of its own."""
        return self._supervisor.is_own(pid) or any(child.is_own(pid) for child in self._children)

    @property
    def _children(self) -> tuple[ChildKeeper, ...]:
        """Processes that exist while the configuration needs them."""
        return self._liveness.keeper, self._observer.keeper

    async def _report_start(self) -> None:
        """Report that the daemon is ready.

        By then each static route has been installed or has failed, and the configuration in force
        has been written to disk for the next start.
        """
        await self._kernel.start_applied.wait()
        self._transactions.started(self._start.text, is_instead=self._start.is_instead)
        await self._transactions.has_kept_start.wait()
        took_ms = (time.monotonic_ns() - self._opened.started_at_ns) // 1_000_000
        counters = self._kernel.counters
        self._log.emit("ready", after_ms=took_ms, routes=counters.installed, failed=counters.failed)
        hint = f"routed: {counters.text}; `routectl show fib` has the reasons"
        self._ready.report(0, hint if counters.failed else "")
        self._reporter.ready()
        await self._reporter.update_status()

    async def _sweep_former_tables(self) -> None:
        """Remove the routes of earlier starts from tables that are not in use now."""
        await self._kernel.sync.opened.wait()
        texts = set(self._former_texts) - {self._start.text}
        await sweep_former_tables(texts, self._switch.config, self._reader, self._log)

    # --- signals

    async def follow_signals(self, numbers: AsyncIterator[int]) -> None:
        """Handle the signals of the daemon, until cancelled."""
        async for number in numbers:
            match signal.Signals(number):
                case signal.SIGHUP:
                    self._hung_up.set()
                case signal.SIGTERM | signal.SIGINT:
                    await self._stop(signal.Signals(number).name)
                case signal.SIGUSR1:
                    self._log_diagnosis()
                case signal.SIGUSR2:
                    self._opened.log.step_level()
                    self._answers.notify(LogLevelChanged(self._opened.log.level))

    async def reload_by_signal(self) -> None:
        """Request a reload after each SIGHUP, until cancelled."""
        while True:
            await self._hung_up.wait()
            self._hung_up = trio.Event()
            # First, independent of the reload's result: the log file may have been renamed.
            await self._opened.log.reopen()
            self._transactions.ask(ReloadRequest(0, "SIGHUP"))

    async def _stop(self, reason: str) -> None:
        if self._is_stopping:
            return
        self._is_stopping = True
        on_exit = self._switch.config.fib.on_exit
        self._log.emit("stopping", reason=reason, on_exit=on_exit.value)
        self._manager.stopping(reason)
        self._loading.cancel()
        for child in self._children:
            await child.stop()
        await self._supervisor.stop(is_restart=on_exit is OnExit.KEEP)

    def _log_diagnosis(self) -> None:
        if not self._kernel.is_loaded:
            self._log.emit("diagnostic", what="phase", value="reading the kernel")
            return
        conduct = self._supervisor.conduct
        facts: dict[str, object] = {
            "generation": self._switch.generation,
            "config": self._transactions.phase.value,
            "links": len(self._kernel.links),
            "engine_restarts": self._supervisor.restarts,
            "engine_violations": dict(conduct.violations),
            "refused_system_calls": dict(conduct.refusals),
            "messages_dropped": dict(conduct.messages_dropped),
            "neighbor_sockets": len(self._nup_sockets),
            "fib": self._kernel.counters,
        }
        for what, value in facts.items():
            self._log.emit("diagnostic", what=what, value=value)
        self._answers.notify(Diagnose())

    # --- engines

    async def _introduce_engine(self, session: EngineSession) -> None:
        """Configure a new engine, and send it all state.

        Raises:
            EngineFailed: the engine does not accept its configuration.
            OSError: there is no free descriptor for its sockets.
        """
        self._nup_sockets.begin_session()
        self._kernel.begin_session()
        await self._switch.configure(session)
        for link in self._kernel.links:
            session.send_link(link.ifindex)
        self._liveness.join(session)
        self._observer.join(session)
        for number, journal in enumerate(self._journals.copies()):
            session.send(JournalReady(number), descriptor=journal)
        session.send(LinksComplete(self._kernel.former_next_hops()))
        self._kernel.report_rules()
        session.report_refusals()
        session.mark_imported()
        self._switch.hand_over_listeners(session)
        self._dataplane.hand_over(session)
        self._answers.notify(self._transactions.state)
        self._answers.notify(LogLevelChanged(self._opened.log.level))
        session.send_log(self._opened.log.lines)
        self._nup_sockets.reconcile_all()

    def _handle_engine_death(self, session: EngineSession) -> None:
        self._switch.engine_ended()
        self._journals.engine_died(
            has_desired_routes=session.has_desired_routes,
            is_next_last=self._supervisor.is_next_last
            and self._transactions.phase is not ReloadPhase.UNCONFIRMED,
        )
        for problem in self._opened.listeners.renew():
            self._log.emit("listener-not-renewed", problem=problem)

    def _send_log_line(self, line: LogLine) -> None:
        """Send a log line to the engine, which answers `show log` and cannot read the log."""
        session = self._supervisor.running
        if session is not None:
            session.send_line(line)
