"""The privileged process: a composition root. It joins the kernel's side with the engine.

                  routes.yaml     signals
                       |             |
    kernel --links--> Parent <---reload, stop---+
      ^               |    \\--config, links, sockets, progress--> Supervisor --> engine
      |               |                                              |
      +---FibSync <---+-------------- wishes ------------------------+

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
import random
import signal
import socket
import sys
import time
import traceback
from collections import deque
from pathlib import Path

import trio

from ipc.framing import IpcError
from ipc.internal import (
    ConfBegin,
    FibCommand,
    FibCommandDone,
    FibCommanded,
    FibProgress,
    FibUpdate,
    LinksComplete,
    LogLine,
    Phase,
    ReloadFinished,
    ReloadRequested,
    RoutesLearned,
    RuleReport,
    RulesChanged,
    SharedSecret,
    SocketKind,
    SocketReady,
)
from routed import __version__
from routed.clock import origin_seqno
from routed.config.diff import ConfigDelta
from routed.config.plan import LinkPlan
from routed.config.schema import Config, FibConfig, LogConfig, LogFormat, MetricsConfig, OnExit
from routed.daemonize import ReadyPipe
from routed.fib.learn import LearnRule
from routed.fib.learn_sync import LearnSync
from routed.fib.ledger import Ledger
from routed.fib.links import LinkChange
from routed.fib.monitor import KernelMonitor
from routed.fib.netlink import EventSocket, NetlinkError, RequestSocket
from routed.fib.ownership import KernelRoute, Ownership
from routed.fib.rules import RuleSync
from routed.fib.sync import FibSync
from routed.fib_updates import judge_update
from routed.keyfiles import KeyFileError, read_secrets
from routed.last_good import LastGood
from routed.listener import (
    ListenerError,
    close_listener,
    open_management_listener,
    open_metrics_listener,
)
from routed.log import (
    FileSink,
    Level,
    Logger,
    Record,
    Sink,
    StreamSink,
    format_text,
    is_journal,
    system_sink,
    wall_time,
)
from routed.model.link import Interface
from routed.model.prefix import Family
from routed.model.rule import Rule
from routed.notify import ServiceManager
from routed.pidfile import AlreadyRunning, PidFile
from routed.privsep import is_uid_mapped
from routed.sandbox import capabilities
from routed.sandbox.capabilities import Capability
from routed.sandbox.confine import ConfinementError, confine_parent
from routed.sockets import open_neighbor_socket
from routed.supervisor import LOG_LINES_KEPT, EngineFailed, EngineSession, Supervisor
from routed.transaction import ReloadRequest, SwitchError, Transactions

__all__ = ["EXIT_FAILED", "EXIT_USAGE", "StartError", "run_parent"]

SOCKET_RETRY_S = 0.25
"""After this long a NUP socket that could not be opened is tried again."""

EXIT_FAILED = 1
EXIT_USAGE = 2

UPDATES_WAITING_MAX = 32
"""Four times what `routed.wishes` ever has on its way."""
ROUTES_MAX = 4_000_000
"""What an engine may want at once: four times the full tables of today. Without a bound an engine
that went mad would fill this process and the kernel until the machine is out of memory."""


class StartError(Exception):
    """The daemon cannot start here; the message says why and what to do."""


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
        parent = _open_parent(config, config_path, ready, is_foreground=is_foreground)
    except StartError as error:
        return _give_up(ready, str(error), is_foreground=is_foreground)
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


def _open_parent(
    config: Config, config_path: str, ready: ReadyPipe, *, is_foreground: bool
) -> Parent:
    """Try everything that can be refused before anything is changed."""
    _check_privileges(config)
    try:
        secrets = read_secrets(config, config_path)
    except KeyFileError as error:
        raise StartError(str(error)) from error
    try:
        pid_file = PidFile(config.pid_file)
    except AlreadyRunning as error:
        raise StartError(str(error)) from error
    except OSError as error:
        raise StartError(f"pid file {config.pid_file}: {error.strerror}") from error
    try:
        sink = _open_sink(config.log, is_foreground=is_foreground)
    except OSError as error:
        raise StartError(f"log file {config.log.file}: {error.strerror}") from error
    log = Logger(sink, "parent", Level[config.log.level.name])
    parent = Parent(config, config_path, secrets, pid_file, log, ready, is_foreground=is_foreground)
    try:
        kept = confine_parent(config.user.uid)
    except ConfinementError as error:
        parent.close()
        raise StartError(str(error)) from error
    log.emit("privileges-dropped", kept=capabilities.names_of(kept))
    if not os.access(config_path, os.R_OK):
        # Root read it by CAP_DAC_OVERRIDE, which is gone: say so now, not at the first reload.
        log.emit("config-out-of-reach", path=config_path, uid=os.getuid())
    return parent


def _check_privileges(config: Config) -> None:
    if not capabilities.has(Capability.NET_ADMIN):
        raise StartError(
            "needs the capability CAP_NET_ADMIN to write routes: run it as root, by the systemd "
            "unit in configs/, or in a namespace of your own"
        )
    uid = config.user.uid
    if uid == os.getuid():
        return
    if not capabilities.has(Capability.SETUID):
        raise StartError(
            f"cannot run the engine as user {config.user.name!r} without CAP_SETUID: run as root, "
            "or set `user:` to the user that starts the daemon"
        )
    if not is_uid_mapped(uid):
        raise StartError(
            f"user {config.user.name!r} (uid {uid}) does not exist in this user namespace; "
            "set `user: root`, which is the user that made the namespace"
        )


def _open_sink(config: LogConfig, *, is_foreground: bool) -> Sink:
    as_json = config.format is LogFormat.JSON
    if config.file is not None:
        return FileSink(config.file, as_json=as_json)
    if is_foreground:
        if is_journal(sys.stderr.fileno(), os.environ):
            return system_sink(as_json=as_json)
        return StreamSink(sys.stderr, as_json=as_json)
    return system_sink(as_json=as_json)


def _open_metrics(config: MetricsConfig) -> socket.socket | None:
    if config.listen is None:
        return None
    return open_metrics_listener(config.listen.path, config.listen.host, config.listen.port)


def _learn_rules(config: Config) -> list[LearnRule]:
    return [
        LearnRule(entry.protocol, entry.table, entry.distance, entry.tag, entry.accepts)
        for entry in config.learn
    ]


def _rules_of(config: Config) -> list[Rule]:
    return [rule for entry in config.rules for rule in entry.rules]


def _ownership(fib: FibConfig) -> Ownership:
    return Ownership(fib.protocol, fib.priority, frozenset({fib.table_id}))


class Parent:
    """Owns the configuration, the kernel side and the sockets; host of the engine."""

    def __init__(
        self,
        config: Config,
        config_path: str,
        secrets: tuple[SharedSecret, ...],
        pid_file: PidFile,
        log: Logger,
        ready: ReadyPipe,
        *,
        is_foreground: bool,
    ) -> None:
        self._config = config
        self._config_path = config_path
        self._secrets = secrets
        self._generation = 0
        self._pid_file = pid_file
        self._log = log
        self._ready = ready
        self._is_ready = False
        self._is_foreground = is_foreground
        self._started_at_ns = time.monotonic_ns()
        self._log_lines: deque[LogLine] = deque(maxlen=LOG_LINES_KEPT)
        log.on_record = self._remember_line
        self._manager = ServiceManager(os.environ)
        self._supervisor = Supervisor(self, log)
        self._neighbor_sockets: dict[int, Family] = {}
        """What the present engine was handed, by link."""
        self._sockets_to_retry: set[int] = set()
        self._transactions = Transactions(
            self,
            log,
            config_path,
            LastGood(
                Path(config.pid_file).parent,
                lambda problem: log.emit("internal-error", where="last good", error=problem),
            ),
        )
        self._wishes_since_counted = 0
        """At least as many as there are: counting them anew is not for every update."""
        self._is_stopping = False
        self._nursery: trio.Nursery | None = None
        try:
            self._listener = open_management_listener(config.management.socket)
        except ListenerError as error:
            pid_file.remove()
            raise StartError(str(error)) from error
        try:
            self._metrics_listener = _open_metrics(config.metrics)
        except ListenerError as error:
            close_listener(self._listener)
            pid_file.remove()
            raise StartError(str(error)) from error

    # --- life

    async def run(self) -> None:
        """Start, serve, stop."""
        config = self._config
        self._log.emit(
            "starting",
            version=__version__,
            pid=os.getpid(),
            config=self._config_path,
            router_id=config.router_id,
        )
        with (
            trio.open_signal_receiver(*_SIGNALS) as signals,
            RequestSocket(config.fib.protocol) as writer,
            RequestSocket(config.fib.protocol) as reader,
            RequestSocket(config.fib.protocol) as rule_writer,
            RequestSocket(config.fib.protocol) as learn_reader,
            EventSocket(writer.port_id) as listener,
        ):
            self._sync = FibSync(
                Ledger(_ownership(config.fib)),
                writer,
                resync_s=config.fib.resync_s,
                log=self._log,
                rng=random.Random(),  # noqa: S311  (jitter, not a secret)
                on_progress=self._on_progress,
                is_link_up=self._is_link_up,
            )
            self._rules = RuleSync(
                rule_writer,
                config.fib.protocol,
                resync_s=config.fib.resync_s,
                log=self._log,
                on_states=self._tell_rules,
            )
            self._rules.want(_rules_of(config))
            self._learn = LearnSync(
                learn_reader,
                resync_s=config.fib.resync_s,
                log=self._log,
                on_news=self._on_learned,
            )
            self._learn.want(_learn_rules(config))
            self._monitor = KernelMonitor(
                listener,
                reader,
                on_link=self._on_link,
                on_route=self._on_route,
                on_rule=self._rules.look_again,
                on_overrun=self._on_overrun,
            )
            await self._monitor.load()
            await self._serve(signals)
            await self._leave()

    async def _serve(self, signals: trio.abc.ReceiveChannel[int] | object) -> None:
        if self._config.user.uid == 0:
            self._log.emit("engine-runs-as-root", reason=f"user: {self._config.user.name}")
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            nursery.start_soon(self._follow_signals, signals)
            nursery.start_soon(self._monitor.run)
            nursery.start_soon(self._sync.run)
            nursery.start_soon(self._rules.run)
            nursery.start_soon(self._learn.run)
            nursery.start_soon(self._transactions.run)
            if self._manager.watchdog_period_s is not None:
                nursery.start_soon(self._pet_watchdog, self._manager.watchdog_period_s)
            config = self._config
            await self._supervisor.run(config.user, config.sandbox, self._settle_engine)
            nursery.cancel_scope.cancel()
        self._nursery = None

    async def _pet_watchdog(self, period_s: float) -> None:
        """Show the service manager that this loop turns. The engine is ours to watch."""
        while True:
            self._manager.alive()
            await trio.sleep(period_s)

    async def _leave(self) -> None:
        """After the engine's goodbye: flush or keep."""
        kept = self._sync.counters().installed
        if self._config.fib.on_exit is OnExit.FLUSH:
            kept = await self._sync.flush()
            await self._rules.flush()
        self._log.emit("stopped", routes_kept=kept)

    def log_defect(self, error: BaseException) -> None:
        """Say where the code went wrong: nobody sees the traceback of a background daemon."""
        for line in "".join(traceback.format_exception(error)).splitlines():
            self._log.emit("internal-error", where="parent", error=line)

    def close(self) -> None:
        """Remove what the file system has of us."""
        self._manager.close()
        close_listener(self._listener)
        if self._metrics_listener is not None:
            close_listener(self._metrics_listener)
        self._pid_file.remove()

    # --- signals

    async def _follow_signals(self, signals: object) -> None:
        async for number in signals:  # type: ignore[attr-defined]
            match signal.Signals(number):
                case signal.SIGHUP:
                    self._transactions.ask(ReloadRequest(0, "SIGHUP"))
                case signal.SIGTERM | signal.SIGINT:
                    await self._stop(signal.Signals(number).name)
                case signal.SIGUSR1:
                    self._log_diagnosis()
                case signal.SIGUSR2:
                    self._step_log_level()

    async def _stop(self, reason: str) -> None:
        if self._is_stopping:
            return
        self._is_stopping = True
        on_exit = self._config.fib.on_exit
        self._log.emit("stopping", reason=reason, on_exit=on_exit.value)
        self._manager.stopping(reason)
        session = self._supervisor.session
        if session is not None and session.phase is Phase.RUNNING:
            await session.stop(is_restart=on_exit is OnExit.KEEP)
        if session is not None:
            session.phase = Phase.STOPPING
            session.kill()

    def _health(self) -> str:
        """One line for the service manager."""
        counters = self._sync.counters()
        return f"{counters.installed} of {counters.desired} routes in the kernel"

    def _log_diagnosis(self) -> None:
        facts: dict[str, object] = {
            "generation": self._generation,
            "links": len(self._monitor.links.interfaces),
            "engine_restarts": self._supervisor.restarts,
            "engine_violations": dict(self._supervisor.violations),
            "neighbor_sockets": len(self._neighbor_sockets),
            "fib": self._sync.counters(),
        }
        for what, value in facts.items():
            self._log.emit("diagnostic", what=what, value=value)

    def _step_log_level(self) -> None:
        levels = list(Level)
        position = levels.index(self._log.level)
        self._log.level = levels[position - 1]  # one more verbose, from debug round to error
        self._log.emit("log-level", level=self._log.level.name.lower())

    # --- the engine

    async def _settle_engine(self, session: EngineSession) -> None:
        """Tell a new engine everything it must know."""
        self._neighbor_sockets.clear()
        self._sync.begin_session()
        self._generation += 1
        await session.prepare(self._config, self._secrets, self._conf_begin)
        await session.commit()
        for ifindex in self._monitor.links.interfaces:
            session.send_link(ifindex)
        session.send(LinksComplete())
        self._tell_rules()
        self._learn.learner.begin_session()
        session.mark_learned()
        session.send(
            SocketReady(SocketKind.MANAGEMENT, 0, None), descriptor=os.dup(self._listener.fileno())
        )
        self._hand_over_metrics(session)
        for line in list(self._log_lines):
            session.send_line(line)
        for link in self._monitor.links.interfaces.values():
            self._settle_socket(link)

    def _hand_over_metrics(self, session: EngineSession) -> None:
        if self._metrics_listener is not None:
            copy = os.dup(self._metrics_listener.fileno())
            session.send(SocketReady(SocketKind.METRICS, 0, None), descriptor=copy)

    def _remember_line(self, record: Record) -> None:
        """Keep a line for `show log`, and tell the engine, which answers for it."""
        if record.level < Level.INFO:
            return
        level, text = record.level.name.lower(), format_text(record)
        line = LogLine(wall_time(), level, record.process, record.event, text)
        self._log_lines.append(line)
        session = self._running_session()
        if session is not None:
            session.send_line(line)

    def _conf_begin(self, total_bytes: int) -> ConfBegin:
        return ConfBegin(
            generation=self._generation,
            total_bytes=total_bytes,
            started_at_ns=self._started_at_ns,
            engine_restarts=self._supervisor.restarts,
            violations=dict(self._supervisor.violations),
            config_path=self._config_path,
            daemon_pid=os.getpid(),
            # Later than every life before, also than that of an engine which died a moment ago.
            origin_seqno=(origin_seqno() + self._supervisor.restarts) & 0xFFFF_FFFF,
        )

    def _running_session(self) -> EngineSession | None:
        session = self._supervisor.session
        return session if session is not None and session.phase is Phase.RUNNING else None

    def link(self, ifindex: int) -> Interface | None:
        """A link as it is now."""
        return self._monitor.links.interfaces.get(ifindex)

    def _is_link_up(self, ifindex: int) -> bool:
        link = self.link(ifindex)
        return link is not None and link.is_up

    def take_progress(self) -> FibProgress | None:
        """The FIB's news as a message."""
        progress = self._sync.take_progress()
        return None if progress is None else FibProgress(*progress)

    def fib_update(self, update: FibUpdate) -> None:
        """The engine's wishes, judged before they are taken."""
        self._check_flood()
        judged, refused = judge_update(update, self._sync.ledger.ownership)
        self._check_amount(sum(len(rows.keys) for rows in judged.install))
        self._sync.refused += len(refused)
        for prefix, problem in refused:
            self._log.emit("fib-route-refused", prefix=prefix, problem=problem)
        self._sync.update(judged)

    def fib_in_sync(self) -> None:
        """The engine has said everything."""
        self._check_flood()
        self._sync.in_sync()

    def _check_flood(self) -> None:
        """Refuse to pile up what an engine says faster than the kernel follows.

        Raises:
            IpcError: an honest engine waits (`routed.wishes`).
        """
        if self._sync.updates_waiting >= UPDATES_WAITING_MAX:
            raise IpcError(f"more than {UPDATES_WAITING_MAX} updates at once")

    def _check_amount(self, routes: int) -> None:
        """Refuse to want more routes than can be meant.

        Raises:
            IpcError: the engine has gone mad.
        """
        self._wishes_since_counted += routes
        if self._wishes_since_counted > ROUTES_MAX:
            self._wishes_since_counted = self._sync.counters().desired + routes
        if self._wishes_since_counted > ROUTES_MAX:
            raise IpcError(f"more than {ROUTES_MAX} routes wanted")

    def fib_commanded(self, request_id: int, request: FibCommanded) -> None:
        """A client asks; the answer follows when it is carried out."""
        assert self._nursery is not None  # an engine runs
        self._log.emit("fib-command", command=request.command.value, uid=request.uid)
        self._nursery.start_soon(self._carry_out, request_id, request.command)

    async def _carry_out(self, request_id: int, command: FibCommand) -> None:
        done = await _do_to_fib(self._sync, command)
        session = self._running_session()
        if session is not None:
            session.send(done, request_id=request_id)

    def reload_requested(self, request_id: int, request: ReloadRequested) -> None:
        """A client asks."""
        who = f"uid {request.uid} pid {request.pid}"
        self._transactions.ask(ReloadRequest(request_id, who, request.action, request.confirm_s))

    def _on_progress(self) -> None:
        session = self._running_session()
        if session is not None:
            session.mark_progress()
        # The engine's first update has been tried: static routes are in, or failed visibly.
        if not self._is_ready and self._sync.has_applied_first_update:
            self._transactions.started()
            self._is_ready = True
            took_ms = (time.monotonic_ns() - self._started_at_ns) // 1_000_000
            self._log.emit("ready", after_ms=took_ms, routes=self._sync.counters().installed)
            self._ready.report(0)
            self._manager.ready(self._health())

    # --- links and sockets

    def _tell_rules(self) -> None:
        session = self._running_session()
        if session is not None:
            session.send(RulesChanged(tuple(RuleReport(*state) for state in self._rules.states)))

    def _on_overrun(self, reason: str) -> None:
        self._sync.notifications_lost()
        self._rules.look_again()
        self._learn.look_again()

    def _on_route(self, route: KernelRoute, is_removed: bool) -> None:
        self._sync.route_notified(route, is_removed)
        self._learn.route_notified(route, is_removed)

    def _on_learned(self) -> None:
        session = self._running_session()
        if session is not None:
            session.mark_learned()

    def take_learned(self) -> RoutesLearned | None:
        """Others' routes as a message."""
        news = self._learn.learner.take_news()
        return None if news is None else RoutesLearned(*news)

    def _on_link(self, change: LinkChange) -> None:
        before, after = change.before, change.after
        was_up, is_up = before is not None and before.is_up, after is not None and after.is_up
        if is_up and not was_up and after is not None:
            self._log.emit("link-up", link=after.ifname, ifindex=change.ifindex)
        elif was_up and not is_up and before is not None:
            reason = "removed" if after is None else "carrier" if after.is_admin_up else "down"
            self._log.emit("link-down", link=before.ifname, ifindex=change.ifindex, reason=reason)
        lost_address = before is not None and (
            after is None or not set(before.addresses) <= set(after.addresses)
        )
        may_have_lost_routes = (was_up and not is_up) or lost_address
        self._sync.links_changed(may_have_lost_routes=may_have_lost_routes)
        if may_have_lost_routes:
            self._learn.look_again()
        session = self._running_session()
        if session is not None:
            session.mark_link(change.ifindex)
            if after is None:
                self._neighbor_sockets.pop(change.ifindex, None)
            else:
                self._settle_socket(after)

    def _settle_socket(self, link: Interface) -> None:
        """Hand the engine a NUP socket for a link, if it should have one and does not yet."""
        session = self._running_session()
        family = self._neighbor_family(link)
        if family is None:
            self._neighbor_sockets.pop(link.ifindex, None)
            return
        if session is None:
            return
        if self._neighbor_sockets.get(link.ifindex) is family:
            return
        try:
            opened = open_neighbor_socket(link.ifindex, link.ifname, family)
        except OSError as error:
            self._log.emit("socket-failed", link=link.ifname, problem=error.strerror or error)
            self._retry_socket_later(link.ifindex)
            return
        self._neighbor_sockets[link.ifindex] = family
        self._log.emit("socket-opened", link=link.ifname, family=family.name.lower())
        session.send_link(link.ifindex)  # the engine must know the link before its socket comes
        session.send(
            SocketReady(SocketKind.NEIGHBOR, link.ifindex, family), descriptor=opened.detach()
        )

    def _retry_socket_later(self, ifindex: int) -> None:
        """A link that was down for a moment has its old socket still in the engine's hands."""
        if self._nursery is not None and ifindex not in self._sockets_to_retry:
            self._sockets_to_retry.add(ifindex)
            self._nursery.start_soon(self._retry_socket, ifindex)

    async def _retry_socket(self, ifindex: int) -> None:
        await trio.sleep(SOCKET_RETRY_S)
        self._sockets_to_retry.discard(ifindex)
        link = self.link(ifindex)
        if link is not None:
            self._settle_socket(link)

    def _neighbor_family(self, link: Interface) -> Family | None:
        """What NUP speaks over on a link: IPv6 if it can, else IPv4; None where it does not run.

        While an IPv6 address is still being checked for duplicates nothing is opened: it will be
        usable in a second, and the adjacency should not move from one family to the other.
        """
        entry = self._config.interface_for(link.ifname)
        if entry is None or not link.is_up or link.is_loopback:
            return None
        if not entry.neighbors and not link.has_multicast:
            return None
        if entry.neighbors and entry.neighbors[0].family is Family.IPV4:
            return Family.IPV4 if any(link.usable_addresses(Family.IPV4)) else None
        if link.link_local() is not None:
            return Family.IPV6
        if any(entry.address.is_link_local and not entry.is_usable for entry in link.addresses):
            return None
        return Family.IPV4 if any(link.usable_addresses(Family.IPV4)) else None

    # --- reload

    @property
    def config(self) -> Config:
        """In force."""
        return self._config

    def answer(self, request_id: int, answer: ReloadFinished) -> None:
        """Tell the engine how a reload went."""
        session = self._running_session()
        if session is not None:
            session.send(answer, request_id=request_id)

    def begin_reload(self) -> None:
        """For the service manager, and for whoever has moved the log file away."""
        self._manager.reloading()
        self._reopen_log()

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
                has_socket=link.ifindex in self._neighbor_sockets,
            )
            for link in self._monitor.links.interfaces.values()
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
        session = self._running_session()
        if session is None:
            raise SwitchError(["the engine is restarting; try again in a moment"])
        try:
            await self._switch(session, delta, secrets)
        except ListenerError as error:
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
        old = self._config
        has_new_metrics = old.metrics != delta.effective.metrics
        metrics_listener = _open_metrics(delta.effective.metrics) if has_new_metrics else None
        try:
            await session.prepare(delta.effective, secrets, self._conf_begin)
        except BaseException:
            if metrics_listener is not None:
                close_listener(metrics_listener)
            raise
        self._config = delta.effective
        self._secrets = secrets
        self._sync.resync_s = self._rules.resync_s = delta.effective.fib.resync_s
        self._rules.want(_rules_of(delta.effective))
        self._learn.resync_s = delta.effective.fib.resync_s
        if old.learn != delta.effective.learn:
            self._learn.want(_learn_rules(delta.effective))
        if old.fib != delta.effective.fib:
            self._sync.change_ownership(_ownership(delta.effective.fib))
        if old.log != delta.effective.log:
            self._log.level = Level[delta.effective.log.level.name]
            self._change_sink(delta.effective.log)
        await session.commit()
        if has_new_metrics:
            if self._metrics_listener is not None:
                close_listener(self._metrics_listener)
            self._metrics_listener = metrics_listener
            self._hand_over_metrics(session)
        for link in self._monitor.links.interfaces.values():
            self._settle_socket(link)

    def _change_sink(self, config: LogConfig) -> None:
        """Log elsewhere from now on; where that fails, go on as before and say so."""
        try:
            sink = _open_sink(config, is_foreground=self._is_foreground)
        except OSError as error:
            self._log.emit("internal-error", where="log file", error=error.strerror)
            return
        self._log.sink.close()
        self._log.sink = sink

    def _reopen_log(self) -> None:
        if isinstance(self._log.sink, FileSink):
            try:
                self._log.sink.reopen()
            except OSError as error:
                self._log.emit("internal-error", where="log file", error=error.strerror)


async def _do_to_fib(sync: FibSync, command: FibCommand) -> FibCommandDone:
    """Carry a command out and say in words how that went."""
    match command:
        case FibCommand.DECOUPLE:
            left = await sync.decouple()
            wanted = sync.counters().desired
            lines = [f"decoupled: {wanted} wanted routes are kept in mind, {left} in the kernel"]
            return FibCommandDone(not left, (*lines, "`fib couple` puts them back"))
        case FibCommand.COUPLE:
            counters = await sync.couple()
            lines = [f"coupled: {counters.installed} of {counters.desired} routes in the kernel"]
            if counters.failed:
                lines.append(f"{counters.failed} failed; `show fib` says why")
            return FibCommandDone(True, tuple(lines))
        case FibCommand.RESYNC:
            report = await sync.resync()
            found = f"{report.missing} were missing, {report.changed} changed"
            line = f"read {report.routes} routes in {report.took_s:.2f} s: {found}"
            return FibCommandDone(True, (line,))


_SIGNALS = (
    signal.SIGHUP,
    signal.SIGTERM,
    signal.SIGINT,
    signal.SIGUSR1,
    signal.SIGUSR2,
)
