"""The privileged process: a composition root. It joins the kernel's side with the engine.

                  routes.yaml     signals
                       |             |
    KernelSide --links, progress--> Parent --config, links, sockets--> EngineSession --> engine
        ^                           |    |                              |
        |                  NeighborSockets  Transactions <--reloads--.   |
        +------------------------- wishes ----------------------- EngineDesk

    routed/start.py             what can be refused at start; opens what the daemon holds
    routed/kernel_side.py       netlink: our routes, rules, learned routes, links
    routed/journals.py          what an engine leaves to the next one
    routed/neighbor_sockets.py  which links have a NUP socket, and which should
    routed/supervisor.py        one engine after another
    routed/engine_session.py    one life of an engine
    routed/engine_desk.py       what engines may ask, and where the answers go
    routed/transaction.py       reload, confirm, rollback
    routed/daemon_log.py        where the log goes

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
import sys
import time
import traceback
from collections.abc import AsyncIterator
from pathlib import Path

import trio

from ipc.internal import (
    ConfBegin,
    Diagnose,
    JournalReady,
    LinksComplete,
    LogLine,
    ReloadFinished,
    RulesChanged,
    SharedSecret,
    SocketKind,
    SocketReady,
)
from routed import __version__
from routed.clock import origin_seqno
from routed.config.diff import ConfigDelta
from routed.config.plan import LinkPlan
from routed.config.schema import Config, OnExit
from routed.daemonize import ReadyPipe
from routed.engine_desk import EngineDesk
from routed.engine_session import EngineFailed, EngineSession
from routed.fib.links import LinkChange
from routed.fib.netlink import NetlinkError
from routed.instance_lock import OtherInstanceError
from routed.journals import Journals
from routed.kernel_side import KernelSide
from routed.keyfiles import KeyFileError, read_secrets
from routed.last_good import LastGood
from routed.listener import ListenerError
from routed.neighbor_sockets import NeighborSockets
from routed.notify import ServiceManager
from routed.start import Opened, StartError, open_daemon
from routed.supervisor import Supervisor
from routed.transaction import ReloadRequest, SwitchError, Transactions

__all__ = ["EXIT_FAILED", "EXIT_USAGE", "run_parent"]

EXIT_FAILED = 1
EXIT_USAGE = 2

STATUS_PERIOD_S = 1.0
"""How often the service manager's line is looked at again; it is sent when it has changed."""

_SIGNALS = (signal.SIGHUP, signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGUSR2)


def run_parent(config: Config, config_path: str, ready: ReadyPipe, *, is_foreground: bool) -> int:
    """Be the daemon until it is told to stop.

    Args:
        config: checked.
        config_path: absolute; read again on reload.
        ready: told once the daemon works, or why it cannot.
        is_foreground: log to stderr unless the configuration names a file.

    Returns:
        The exit status.
    """
    try:
        opened = open_daemon(config, config_path, is_foreground=is_foreground)
    except StartError as error:
        return _give_up(ready, str(error), is_foreground=is_foreground)
    parent = Parent(config, config_path, opened, ready)
    try:
        trio.run(parent.run)
    except BaseExceptionGroup as group:
        expected, defects = group.split((EngineFailed, NetlinkError))
        if defects is not None:
            parent.log_defect(defects)
            return _give_up(
                ready, f"internal error: {_first_message(defects)}", is_foreground=is_foreground
            )
        return _give_up(ready, _first_message(expected), is_foreground=is_foreground)
    finally:
        parent.close()
    return 0


def _give_up(ready: ReadyPipe, message: str, *, is_foreground: bool) -> int:
    if is_foreground or not ready.is_open:
        print(f"routed: {message}", file=sys.stderr)  # noqa: T201  (the last word of a foreground run)
    ready.report(EXIT_FAILED, f"routed: {message}")
    return EXIT_FAILED


def _first_message(group: BaseException | None) -> str:
    error = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return str(error)


class Parent:
    """Owns the configuration in force and the order of things; host of the rooms."""

    def __init__(self, config: Config, config_path: str, opened: Opened, ready: ReadyPipe) -> None:
        self._config = config
        self._config_path = config_path
        self._opened = opened
        self._secrets: tuple[SharedSecret, ...] = opened.secrets
        self._log = opened.log.logger
        self._ready = ready
        self._generation = 0
        self._is_ready = False
        self._is_stopping = False
        self._started_at_ns = time.monotonic_ns()
        self._manager = ServiceManager(os.environ)
        self._journals = Journals(self._log)
        self._supervisor = Supervisor(self._log)
        self._sockets = NeighborSockets(
            lambda ifindex: self._kernel.link(ifindex), lambda: self._supervisor.running, self._log
        )
        self._transactions = Transactions(
            self,
            self._log,
            config_path,
            LastGood(
                Path(config.pid_file).parent,
                lambda problem: self._log.emit("state-file-problem", problem=problem),
            ),
        )
        self._kernel: KernelSide
        self._desk: EngineDesk
        self._nursery: trio.Nursery
        opened.log.on_line = self._tell_line

    # --- life

    async def run(self) -> None:
        """Start, serve, stop.

        Raises:
            EngineFailed: no engine can be kept running; the routes stay.
            NetlinkError: the kernel refuses what we cannot do without.
        """
        config = self._config
        self._log.emit(
            "starting",
            version=__version__,
            pid=os.getpid(),
            config=self._config_path,
            router_id=config.router_id,
        )
        with trio.open_signal_receiver(*_SIGNALS) as signals:
            async with KernelSide.open(config, self, self._log) as self._kernel:
                await self._serve(signals)
                kept = await self._kernel.leave(self._config.fib.on_exit)
                self._log.emit("stopped", routes_kept=kept)

    async def _serve(self, signals: AsyncIterator[int]) -> None:
        if self._config.user.uid == 0:
            self._log.emit("engine-runs-as-root", reason=f"user: {self._config.user.name}")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._follow_signals, signals)
            nursery.start_soon(self._kernel.run)
            nursery.start_soon(self._sockets.run, lambda: self._config)
            nursery.start_soon(self._transactions.run)
            if self._manager.is_there:
                nursery.start_soon(self._tell_status)
            nursery.start_soon(self._opened.instance.answer)
            if self._manager.watchdog_period_s is not None:
                nursery.start_soon(self._pet_watchdog, self._manager.watchdog_period_s)
            config = self._config
            self._desk = EngineDesk(
                self._kernel, self._transactions, self._opened.log, self._supervisor, nursery
            )
            await self._supervisor.run(
                self._desk, config.user, config.sandbox, self._settle_engine, self._bury_engine
            )
            nursery.cancel_scope.cancel()

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

    def close(self) -> None:
        """Remove what the file system has of us."""
        self._manager.close()
        self._opened.close()
        self._journals.close()

    # --- signals

    async def _follow_signals(self, signals: AsyncIterator[int]) -> None:
        async for number in signals:
            match signal.Signals(number):
                case signal.SIGHUP:
                    self._transactions.ask(ReloadRequest(0, "SIGHUP"))
                case signal.SIGTERM | signal.SIGINT:
                    await self._stop(signal.Signals(number).name)
                case signal.SIGUSR1:
                    self._log_diagnosis()
                case signal.SIGUSR2:
                    self._opened.log.step_level()
                    self._desk.tell_level()

    async def _stop(self, reason: str) -> None:
        if self._is_stopping:
            return
        self._is_stopping = True
        on_exit = self._config.fib.on_exit
        self._log.emit("stopping", reason=reason, on_exit=on_exit.value)
        self._manager.stopping(reason)
        await self._supervisor.stop(is_restart=on_exit is OnExit.KEEP)

    def _health(self) -> str:
        """One line for the service manager."""
        return self._kernel.counters.text

    def _log_diagnosis(self) -> None:
        facts: dict[str, object] = {
            "generation": self._generation,
            "links": len(self._kernel.links),
            "engine_restarts": self._supervisor.restarts,
            "engine_violations": dict(self._supervisor.conduct.violations),
            "refused_system_calls": dict(self._supervisor.conduct.refusals),
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
        self._generation += 1
        await session.prepare(self._config, self._secrets, self._conf_begin)
        await session.commit()
        links = self._kernel.links
        for link in links:
            session.send_link(link.ifindex)
        for number, journal in enumerate(self._journals.copies()):
            session.send(JournalReady(number), descriptor=journal)
        session.send(LinksComplete(self._kernel.former_legs()))
        self.on_rules()
        session.tell_refusals()
        session.mark_learned()
        session.send(
            SocketReady(SocketKind.MANAGEMENT, 0, None),
            descriptor=self._opened.listeners.copy_management(),
        )
        self._hand_over_metrics(session)
        self._desk.tell_level()
        for line in list(self._opened.log.lines):
            session.send_line(line)
        self._sockets.settle_all(links, self._config)

    def _bury_engine(self, session: EngineSession) -> None:
        self._journals.engine_died(has_wished=session.has_wished)
        for problem in self._opened.listeners.renew():
            self._log.emit("listener-not-renewed", problem=problem)

    def _hand_over_metrics(self, session: EngineSession) -> None:
        copy = self._opened.listeners.copy_metrics()
        if copy is not None:
            session.send(SocketReady(SocketKind.METRICS, 0, None), descriptor=copy)

    def _tell_line(self, line: LogLine) -> None:
        """The engine answers `show log`, and cannot read it."""
        session = self._supervisor.running
        if session is not None:
            session.send_line(line)

    def _conf_begin(self, total_bytes: int) -> ConfBegin:
        return ConfBegin(
            generation=self._generation,
            total_bytes=total_bytes,
            started_at_ns=self._started_at_ns,
            engine_restarts=self._supervisor.restarts,
            violations=dict(self._supervisor.conduct.violations),
            config_path=self._config_path,
            daemon_pid=os.getpid(),
            # Later than every life before, also than that of an engine which died a moment ago.
            origin_seqno=(origin_seqno() + self._supervisor.restarts) & 0xFFFF_FFFF,
        )

    # --- the kernel

    def on_progress(self) -> None:
        """Tell the engine; its first update tried means that the daemon works."""
        session = self._supervisor.running
        if session is None:
            return  # the next engine is told everything anyway
        session.mark_progress()
        # Static routes are in, or failed visibly.
        if not self._is_ready and self._kernel.sync.has_applied_first_update:
            self._transactions.started()
            self._is_ready = True
            took_ms = (time.monotonic_ns() - self._started_at_ns) // 1_000_000
            counters = self._kernel.counters
            self._log.emit(
                "ready", after_ms=took_ms, routes=counters.installed, failed=counters.failed
            )
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

    @property
    def config(self) -> Config:
        """In force."""
        return self._config

    def answer(self, request_id: int, answer: ReloadFinished) -> None:
        """Tell the engine how a reload went."""
        self._desk.answer_reload(request_id, answer)

    def begin_reload(self) -> None:
        """For the service manager, and for whoever has moved the log file away."""
        self._manager.reloading()
        self._opened.log.reopen()

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

    async def problems_of(self, new: Config) -> list[str]:
        """What is wrong with the key files that a configuration names."""
        try:
            await trio.to_thread.run_sync(read_secrets, new, self._config_path)
        except KeyFileError as error:
            return list(error.problems)
        return []

    async def switch(self, new: Config, delta: ConfigDelta) -> list[str]:
        """Follow a configuration on both sides; what changed beside the delta.

        Raises:
            SwitchError: it cannot be; nothing has changed.
        """
        try:
            secrets = await trio.to_thread.run_sync(read_secrets, new, self._config_path)
        except KeyFileError as error:
            raise SwitchError(error.problems) from error
        beside = [] if secrets == self._secrets else ["secrets changed"]
        if delta.is_empty and not beside:
            return beside
        session = self._supervisor.running
        if session is None:
            raise SwitchError(["the engine is restarting; try again in a moment"])
        try:
            await self._switch(session, delta, secrets)
        except (ListenerError, OtherInstanceError) as error:
            raise SwitchError([str(error)]) from error
        except EngineFailed as error:
            session.kill()  # it comes back with the configuration that is in force
            raise SwitchError([str(error)]) from error
        return beside

    async def _switch(
        self, session: EngineSession, delta: ConfigDelta, secrets: tuple[SharedSecret, ...]
    ) -> None:
        """Let the engine check the new configuration, then follow it on both sides."""
        self._generation += 1
        old, new = self._config, delta.effective
        await self._claim_table(new.fib.table_id)
        listeners = self._opened.listeners
        has_new_metrics = old.metrics != new.metrics
        metrics = listeners.prepare_metrics(new.metrics.listen) if has_new_metrics else None
        try:
            await session.prepare(new, secrets, self._conf_begin)
        except BaseException:
            if metrics is not None:
                metrics.close()
            raise
        self._config = new
        self._secrets = secrets
        self._kernel.follow(old, new)
        if old.log != new.log:
            self._opened.log.follow(new.log)
        await session.commit()
        if has_new_metrics:
            listeners.replace_metrics(metrics)
            self._hand_over_metrics(session)
        self._opened.instance.keep_only(new.fib.table_id)
        self._sockets.settle_all(self._kernel.links, new)

    async def _claim_table(self, table: int) -> None:
        """Make sure that no other daemon keeps a table; the present one stays ours.

        Raises:
            OtherInstanceError: another one does.
        """
        warning = await trio.to_thread.run_sync(self._opened.instance.claim, table)
        if warning:
            self._log.emit("instance-lock-missing", reason=warning)
