"""The privileged process: a composition root. It joins the kernel's side with the engine.

                  routes.yaml     signals
                       |             |
    KernelSide --links, progress--> Parent --config, links, sockets--> EngineSession --> engine
        ^                           |    |                              |
        |                  NeighborSockets  Transactions <--reloads--.   |
        +------------------------- desired routes ----------------------- EngineRequests

    routed/parent/startup.py             what can be refused at start; opens what the daemon holds
    routed/parent/kernel.py       netlink: our routes, rules, learned routes, links
    routed/parent/engine_process/journals.py          what an engine leaves to the next one
    routed/parent/nup_sockets.py  which links have a NUP socket, and which should
    routed/parent/engine_process/supervisor.py        one engine after another
    routed/parent/engine_process/session.py    one life of an engine
    routed/parent/engine_requests.py       what engines may ask, and where the answers go
    routed/parent/reload.py       reload, confirm, rollback
    routed/parent/log_output.py        where the log goes

It reads the configuration, opens sockets, writes the kernel's tables and watches the engine. It
never parses a byte from the network or from a client: those go to the engine, over sockets that
this process opened and does not read.

Start: everything that can fail is tried before "ready" is said: the pid file's lock, privileges,
the management socket, netlink, the first dump, an engine that took its configuration, and the first
routes in the kernel.

Reload is a transaction: load, check, compare, let the engine check it, and only then switch, kernel
side first, engine next. Any error before leaves everything as it was. A reload asked for while one
runs waits its turn; of several waiting ones the last is done and answers for all.

Stop: the engine says goodbye, then our routes go or stay (`fib.on_exit`), then the files go.
"""

from __future__ import annotations

import os
import signal
import time
import traceback
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass

import trio

from ipc.standard_streams import write_message
from routed import __version__
from routed.clock import origin_seqno
from routed.config.plan import LinkPlan
from routed.config.schema import Config, OnExit
from routed.fib.links.table import LinkChange
from routed.imsg.messages import (
    ConfBegin,
    Diagnose,
    JournalReady,
    LinksComplete,
    LogLine,
    ReloadFinished,
    RulesChanged,
)
from routed.netlink.socket import NetlinkError
from routed.parent import signals
from routed.parent.config_history import LastGood
from routed.parent.config_reader import ConfigReader
from routed.parent.config_switch import ConfigSwitch
from routed.parent.daemonize import ReadyPipe
from routed.parent.engine_process.journals import Journals
from routed.parent.engine_process.session import EngineFailed, EngineSession
from routed.parent.engine_process.supervisor import Supervisor
from routed.parent.engine_requests import EngineRequests
from routed.parent.former_tables import sweep_former_tables
from routed.parent.kernel import KernelSide
from routed.parent.nup_sockets import NeighborSockets
from routed.parent.orphans import is_init, reap_orphans
from routed.parent.reload import InForce, Transactions
from routed.parent.reload_phases import ReloadPhase
from routed.parent.reload_queue import ReloadRequest
from routed.parent.service_manager import ServiceManager
from routed.parent.startup import Opened, StartError, open_daemon

__all__ = ["EXIT_FAILED", "EXIT_USAGE", "StartedBy", "run_parent"]

EXIT_FAILED = 1
EXIT_USAGE = 2

STATUS_PERIOD_S = 1.0
"""How often the service manager's line is looked at again; it is sent when it has changed."""


@dataclass(frozen=True, slots=True)
class StartedBy:
    """What a daemon starts by."""

    config: Config
    """Checked."""
    text: str
    """It was decoded from this."""
    path: str
    """Of routes.yaml, absolute; read again on reload."""
    is_instead: bool = False
    """The text is the last good one: the file's is refused."""


def run_parent(start: StartedBy, ready: ReadyPipe, *, is_foreground: bool) -> int:
    """Be the daemon until it is told to stop.

    Args:
        start: the configuration, and where it came from.
        ready: told once the daemon works, or why it cannot.
        is_foreground: log to stderr unless the configuration names a file.

    Returns:
        The exit status.
    """
    try:
        opened = open_daemon(start.config, start.path, is_foreground=is_foreground)
        parent = Parent(start, opened, ready)
    except StartError as error:
        return _give_up(ready, str(error), is_foreground=is_foreground)
    except Exception as error:  # noqa: BLE001  (said to whoever waits)
        # A defect, or a system that lacks something: there may be no log yet to look into.
        trace = "".join(traceback.format_exception(error))
        message = f"internal error: {error}\n{trace.rstrip()}"
        return _give_up(ready, message, is_foreground=is_foreground)
    try:
        trio.run(parent.run)
    except BaseExceptionGroup as group:
        expected, defects = group.split((EngineFailed, NetlinkError))
        if defects is not None:
            parent.log_defect(defects)
            words = f"internal error: {_first_message(defects)}"
            return parent.fail(words, is_foreground=is_foreground)
        return parent.fail(_first_message(expected), is_foreground=is_foreground)
    finally:
        parent.close()
    return 0


def _give_up(ready: ReadyPipe, message: str, *, is_foreground: bool) -> int:
    if is_foreground or not ready.is_open:
        write_message(f"routed: {message}\n")
    ready.report(EXIT_FAILED, f"routed: {message}")
    return EXIT_FAILED


def _first_message(group: BaseException | None) -> str:
    error = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return str(error)


class Parent:
    """Owns the configuration in force and the order of things; host of the rooms."""

    def __init__(self, start: StartedBy, opened: Opened, ready: ReadyPipe) -> None:
        self._start = start
        self._opened = opened
        self._log = opened.log.logger
        self._ready = ready
        self._is_ready = False
        self._has_applied_start = trio.Event()
        self._is_stopping = False
        self._started_at_ns = time.monotonic_ns()
        self._manager = ServiceManager(os.environ)
        self._journals = Journals(self._log)
        self._supervisor = Supervisor(self._log)
        reader = self._reader = ConfigReader(start.path)
        self._switch = ConfigSwitch(
            InForce(start.config, opened.secrets), reader, opened, self._supervisor, self
        )
        self._sockets = NeighborSockets(
            lambda ifindex: self._kernel.link(ifindex), lambda: self._supervisor.running, self._log
        )
        last_good = LastGood(
            start.config.pid_file,
            lambda problem: self._log.emit("state-file-problem", problem=problem),
        )
        self._former = last_good.texts
        """What earlier lives went by."""
        self._transactions = Transactions(self, self._switch, self._log, reader, last_good)
        self._starting = trio.CancelScope()
        """Until the kernel has been read."""
        self._hung_up = trio.Event()
        self._is_serving = False
        """Whether there are a kernel's side and a desk."""
        self._kernel: KernelSide
        self._engine_requests: EngineRequests
        opened.log.on_line = self._tell_line

    # --- life

    async def run(self) -> None:
        """Start, serve, stop.

        Raises:
            EngineFailed: no engine can be kept running; the routes stay.
            NetlinkError: the kernel refuses what we cannot do without.
        """
        self._log.emit(
            "starting",
            version=__version__,
            pid=os.getpid(),
            config=self._start.path,
            router_id=self._config.router_id,
        )
        with trio.open_signal_receiver(*signals.SERVED) as numbers:
            signals.release()
            try:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(self._opened.log.run)
                    nursery.start_soon(self._reload_by_signal)
                    nursery.start_soon(self._follow_signals, numbers)
                    await self._start_and_serve()
                    nursery.cancel_scope.cancel()
            finally:
                signals.hold(*signals.SERVED)

    async def _start_and_serve(self) -> None:
        async with AsyncExitStack() as stack:
            with self._starting:
                self._kernel = await stack.enter_async_context(
                    KernelSide.open(self._config, self, self._log)
                )
            kept = 0
            if not self._starting.cancelled_caught:
                await self._serve()
                kept = await self._kernel.leave(self._config.fib.on_exit)
            self._log.emit("stopped", routes_kept=kept)

    async def _serve(self) -> None:
        config = self._config
        if config.user.uid == 0:
            self._log.emit("engine-runs-as-root", reason=f"user: {config.user.name}")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._kernel.run)
            nursery.start_soon(self._sockets.run, lambda: self._config)
            nursery.start_soon(self._transactions.run)
            nursery.start_soon(self._say_ready)
            nursery.start_soon(self._sweep_former_tables)
            if self._manager.is_there:
                nursery.start_soon(self._tell_status)
            nursery.start_soon(self._opened.instance.answer)
            if is_init():
                nursery.start_soon(reap_orphans, self._supervisor.is_own)
            nursery.start_soon(self._switch.run)
            if self._manager.watchdog_period_s is not None:
                nursery.start_soon(self._pet_watchdog, self._manager.watchdog_period_s)
            self._engine_requests = EngineRequests(
                self._kernel, self._transactions, self._opened.log, self._supervisor, nursery
            )
            self._is_serving = True
            await self._supervisor.run(
                self._engine_requests,
                config.user,
                config.sandbox,
                self._settle_engine,
                self._bury_engine,
                self._transactions.returns_from_dying_engines,
            )
            nursery.cancel_scope.cancel()

    async def _sweep_former_tables(self) -> None:
        """Remove what earlier lives left in tables that are not kept now, once it may go."""
        await self._kernel.sync.opened.wait()
        texts, self._former = set(self._former) - {self._start.text}, ()
        await sweep_former_tables(texts, self._config, self._reader, self._log)

    @property
    def _config(self) -> Config:
        return self._switch.config

    async def _pet_watchdog(self, period_s: float) -> None:
        """Show the service manager that this loop turns. The engine is ours to watch."""
        while True:
            self._manager.alive()
            await trio.sleep(period_s)

    async def _tell_status(self) -> None:
        """Keep the service manager's line what it is, once we are ready."""
        while True:
            await trio.sleep(STATUS_PERIOD_S)
            if self._is_ready:
                self._manager.status(self._health())

    def log_defect(self, error: BaseException) -> None:
        """Say where the code went wrong: nobody sees the traceback of a background daemon."""
        for line in "".join(traceback.format_exception(error)).splitlines():
            self._log.emit("internal-error", where="parent", error=line)

    def fail(self, reason: str, *, is_foreground: bool) -> int:
        """Say why the daemon ends, to whoever still waits and in the log; the exit status."""
        self._log.emit("daemon-failed", reason=reason)
        return _give_up(self._ready, reason, is_foreground=is_foreground)

    def close(self) -> None:
        """Remove what the file system has of us."""
        self._manager.close()
        self._opened.close()
        self._journals.close()
        self._sockets.close()
        self._opened.log.close()

    # --- signals

    async def _reload_by_signal(self) -> None:
        while True:
            await self._hung_up.wait()
            self._hung_up = trio.Event()
            # First of all, whatever becomes of the reload: somebody may have moved it.
            await self._opened.log.reopen()
            self._transactions.ask(ReloadRequest(0, "SIGHUP"))

    async def _follow_signals(self, numbers: AsyncIterator[int]) -> None:
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
                    if self._is_serving:
                        self._engine_requests.tell_level()

    async def _stop(self, reason: str) -> None:
        if self._is_stopping:
            return
        self._is_stopping = True
        on_exit = self._config.fib.on_exit
        self._log.emit("stopping", reason=reason, on_exit=on_exit.value)
        self._manager.stopping(reason)
        self._starting.cancel()
        await self._supervisor.stop(is_restart=on_exit is OnExit.KEEP)

    def _health(self) -> str:
        """One line for the service manager."""
        return self._kernel.counters.text

    def _log_diagnosis(self) -> None:
        if not self._is_serving:
            self._log.emit("diagnostic", what="phase", value="reading the kernel")
            return
        facts: dict[str, object] = {
            "generation": self._switch.generation,
            "config": self._transactions.phase.value,
            "links": len(self._kernel.links),
            "engine_restarts": self._supervisor.restarts,
            "engine_violations": dict(self._supervisor.conduct.violations),
            "refused_system_calls": dict(self._supervisor.conduct.refusals),
            "messages_dropped": dict(self._supervisor.conduct.messages_dropped),
            "neighbor_sockets": len(self._sockets),
            "fib": self._kernel.counters,
        }
        for what, value in facts.items():
            self._log.emit("diagnostic", what=what, value=value)
        session = self._supervisor.running
        if session is not None:
            session.send(Diagnose())

    # --- the engine

    async def _settle_engine(self, session: EngineSession) -> None:
        """Tell a new engine everything it must know."""
        self._sockets.begin_session()
        self._kernel.begin_session()
        await self._switch.configure(session)
        links = self._kernel.links
        for link in links:
            session.send_link(link.ifindex)
        for number, journal in enumerate(self._journals.copies()):
            session.send(JournalReady(number), descriptor=journal)
        session.send(LinksComplete(self._kernel.former_next_hops()))
        self.on_rules()
        session.tell_refusals()
        session.mark_learned()
        self._switch.hand_over_listeners(session)
        self._engine_requests.tell_config_state()
        self._engine_requests.tell_level()
        for line in list(self._opened.log.lines):
            session.send_line(line)
        self.adopt_sockets()

    def _bury_engine(self, session: EngineSession) -> None:
        self._switch.engine_ended()
        self._journals.engine_died(
            has_desired_routes=session.has_desired_routes,
            is_next_last=self._supervisor.is_next_last
            and self._transactions.phase is not ReloadPhase.UNCONFIRMED,
        )
        for problem in self._opened.listeners.renew():
            self._log.emit("listener-not-renewed", problem=problem)

    def _tell_line(self, line: LogLine) -> None:
        """The engine answers `show log`, and cannot read it."""
        session = self._supervisor.running
        if session is not None:
            session.send_line(line)

    def conf_begin(self, total_bytes: int) -> ConfBegin:
        """What opens a configuration of so many bytes on the channel."""
        return ConfBegin(
            generation=self._switch.generation,
            total_bytes=total_bytes,
            started_at_ns=self._started_at_ns,
            engine_restarts=self._supervisor.restarts,
            violations=dict(self._supervisor.conduct.violations),
            config_path=self._start.path,
            daemon_pid=os.getpid(),
            # Later than every life before, also than that of an engine which died a moment ago.
            origin_seqno=(origin_seqno() + self._supervisor.restarts) & 0xFFFF_FFFF,
        )

    # --- the kernel

    def on_progress(self) -> None:
        """Tell the engine; what it decided at its start was tried: the daemon works."""
        session = self._supervisor.running
        if session is None:
            return  # the next engine is told everything anyway
        session.mark_progress()
        # All static routes are in, or failed visibly.
        if self._kernel.sync.has_applied_start:
            self._has_applied_start.set()

    async def _say_ready(self) -> None:
        """Once the kernel has what was decided, and the next start knows what is in force."""
        await self._has_applied_start.wait()
        self._transactions.started(self._start.text, is_instead=self._start.is_instead)
        await self._transactions.has_kept_start.wait()
        self._is_ready = True
        took_ms = (time.monotonic_ns() - self._started_at_ns) // 1_000_000
        counters = self._kernel.counters
        self._log.emit("ready", after_ms=took_ms, routes=counters.installed, failed=counters.failed)
        hint = f"routed: {counters.text}; `routectl show fib` has the reasons"
        self._ready.report(0, hint if counters.failed else "")
        self._manager.ready(self._health())

    def on_learned(self) -> None:
        """Tell the engine of others' routes."""
        session = self._supervisor.running
        if session is not None:
            session.mark_learned()

    def on_rules(self) -> None:
        """Tell the engine how the policy rules stand."""
        session = self._supervisor.running
        if session is not None:
            session.send(RulesChanged(self._kernel.rule_reports))

    def on_link(self, change: LinkChange) -> None:
        """Tell the engine, and see to the link's NUP socket."""
        session = self._supervisor.running
        if session is None:
            return
        session.mark_link(change.ifindex)
        if change.after is None:
            self._sockets.forget(change.ifindex)
        else:
            self._sockets.settle(change.after, self._config)

    # --- reload

    def answer(self, request_id: int, answer: ReloadFinished) -> None:
        """Tell the engine how a reload went."""
        if self._is_serving:
            self._engine_requests.answer_reload(request_id, answer)

    def config_state_changed(self) -> None:
        """Tell the engine how the configuration stands."""
        self._engine_requests.tell_config_state()

    def begin_reload(self) -> None:
        """For the service manager, and for whoever has moved the log file away."""
        self._manager.reloading()
        self._opened.log.begin_reopening()

    def end_reload(self) -> None:
        """For the service manager."""
        self._manager.ready(self._health())

    def link_plans(self, new: Config) -> list[LinkPlan]:
        """Every link, with what NUP does there now and would do."""
        return [
            LinkPlan(
                link.ifname,
                self._config.interface_for(link.ifname),
                new.interface_for(link.ifname),
                has_socket=link.ifindex in self._sockets,
            )
            for link in self._kernel.links
            if not link.is_loopback
        ]

    # --- switching

    def follow(self, old: Config, new: Config) -> None:
        """Have this process follow a configuration after another."""
        self._kernel.follow(old, new)
        if old.log != new.log:
            self._opened.log.follow(new.log)

    def adopt_sockets(self) -> None:
        """Open and close NUP sockets by what is in force."""
        self._sockets.settle_all(self._kernel.links, self._config)
