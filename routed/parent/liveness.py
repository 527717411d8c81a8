"""The liveness process, while BFD or probes are configured: started, configured, joined to the
engine.

    configuration --follow-------.
    links         --link_changed-+--> settings, sockets --> LivenessSession --> liveness
    engine        --join---------'--> a pair of sockets --> engine and liveness

The process is started with the first session or probe and stopped after the last. When it dies it
is started again, with a pause that doubles up to RESTART's limit, for as long as any is configured.
Its death changes no route: the engine keeps the states that it knows (`routed.engine.tracking`).

Each engine and each liveness process get one end of a new pair, over which liveness reports states
to the engine without this process in between.
"""

from __future__ import annotations

import socket

import trio

from ipc.closing import Closer
from routed.config.scalars import EngineUser
from routed.config.schema import SandboxMode
from routed.fib.links.table import LinkTable
from routed.imsg.liveness import EngineChannelReady
from routed.imsg.liveness_channel import LivenessChannelReady
from routed.imsg.liveness_probes import ProbeSocketRequest
from routed.log.logger import Logger
from routed.model.backoff import Backoff
from routed.model.bfd import BfdSettings
from routed.parent.bfd_sockets import SOCKET_RETRY_S, BfdSockets, bfd_settings
from routed.parent.config_switch import ConfigSwitch, InForce
from routed.parent.engine_process import spawn
from routed.parent.engine_process.session import EngineSession
from routed.parent.engine_process.supervisor import Supervisor
from routed.parent.liveness_process import LivenessSession
from routed.parent.probe_sockets import ProbeSockets, probe_settings

__all__ = ["Liveness"]

RESTART = Backoff(first_s=0.05, limit_s=5.0)
STEADY_S = 60.0
"""A process that has lived this long begins with the shortest pause again."""

BACKLOG_MAX = 256
"""Requests are not answered while so many messages wait: each answer holds a descriptor."""

_CHANNEL_BUFFER_BYTES = 256 * 1024


class Liveness:
    """Owns the liveness process, and decides when there is one."""

    def __init__(
        self, in_force: InForce, links: LinkTable, supervisor: Supervisor, log: Logger
    ) -> None:
        """Begin without a process.

        Args:
            in_force: the configuration, with its secrets.
            links: all links, as they are now.
            supervisor: of the engine.
            log: for starts and ends.
        """
        self.restarts = 0
        """Number of liveness processes that have died."""
        self._in_force = in_force
        self._links = links
        self._supervisor = supervisor
        self._log = log
        self._sockets = BfdSockets(log)
        self._probes = ProbeSockets(log, trio.current_time)
        self._session: LivenessSession | None = None
        self._is_ending = False
        self._has_changed = trio.Event()
        self._closer = Closer()

    @classmethod
    def following(
        cls, switch: ConfigSwitch, links: LinkTable, supervisor: Supervisor, log: Logger
    ) -> Liveness:
        """Make one that follows each configuration that is put in force, and all links."""
        liveness = cls(switch.in_force, links, supervisor, log)
        switch.followers.append(lambda _config: liveness.follow(switch.in_force))
        links.subscribe(liveness.link_changed)
        return liveness

    # --- inputs

    def follow(self, in_force: InForce) -> None:
        """Follow another configuration."""
        self._in_force = in_force
        self._wake()

    def link_changed(self) -> None:
        """Follow a change of the links, which sessions and probes may be bound to."""
        if self._is_wanted:
            self._wake()

    def join(self, engine: EngineSession) -> None:
        """Connect an engine with the process, if there is one.

        Raises:
            OSError: there is no descriptor to spare.
        """
        session = self._session
        if session is None or not session.is_running:
            return
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        session.send(EngineChannelReady(), ours.detach())
        engine.send(LivenessChannelReady(), descriptor=theirs.detach())

    def is_own(self, pid: int) -> bool:
        """Whether a process is the liveness process, whose exit status its session collects."""
        return self._session is not None and self._session.process.pid == pid

    def _wake(self) -> None:
        self._has_changed.set()

    # --- the process

    async def run(self, user: EngineUser, sandbox: SandboxMode) -> None:
        """Keep a process running while it has something to do, until `stop` or cancelled.

        Args:
            user: user the process runs as.
            sandbox: how it is confined.
        """
        failures = 0
        while not self._is_ending:
            if not self._is_wanted:
                await self._changed()
                continue
            began = trio.current_time()
            await self._run_process(user, sandbox)
            failures = 1 if trio.current_time() - began > STEADY_S else failures + 1
            if self._is_wanted and not self._is_ending:
                await trio.sleep(RESTART.pause_s(failures))

    async def stop(self) -> None:
        """Stop the process: it notifies the other systems that the sessions end."""
        self._is_ending = True
        self._wake()
        if self._session is not None:
            await self._session.stop()

    def close(self) -> None:
        """Close the sockets."""
        self._sockets.close()

    @property
    def _is_wanted(self) -> bool:
        """Whether sessions or probes are configured, even if none of their interfaces exists."""
        config = self._in_force.config
        return bool(config.bfd.sessions or config.probes)

    def _settings(self) -> dict[str, BfdSettings]:
        in_force = self._in_force
        return bfd_settings(in_force.config, in_force.secrets, self._links.interfaces.values())

    async def _changed(self, within_s: float = float("inf")) -> None:
        """Wait until something may have changed, or for a time."""
        with trio.move_on_after(within_s):
            await self._has_changed.wait()
        self._has_changed = trio.Event()

    async def _run_process(self, user: EngineUser, sandbox: SandboxMode) -> None:
        """Run one process until it ends."""
        try:
            process = spawn.start_engine(
                user.uid, user.gid, sandbox.value, _CHANNEL_BUFFER_BYTES, spawn.LIVENESS_COMMAND
            )
        except OSError as error:
            self._log.emit("liveness-died", pid=0, status=f"cannot be started: {error}")
            return
        self._log.emit("liveness-started", pid=process.pid, restarts=self.restarts)
        self._sockets.begin_process()
        self._probes.begin_process()
        session = self._session = LivenessSession(
            process, self._log, self._closer, self._answer_request
        )
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._serve, session)
            status = await session.run()
            nursery.cancel_scope.cancel()
        self._session = None
        if self._is_ending or not self._is_wanted:
            self._log.emit("liveness-stopped", pid=process.pid)
            return
        self.restarts += 1
        self._log.emit("liveness-died", pid=process.pid, status=status)

    async def _serve(self, session: LivenessSession) -> None:
        """Send the process what it needs, and what changes; stop it when nothing is left."""
        if not await session.wait_greeted():
            return
        engine = self._supervisor.running
        while True:
            is_complete = self._reconcile(session)
            if engine is not None:
                self._join_or_log(engine)
                engine = None
            await self._changed(float("inf") if is_complete else SOCKET_RETRY_S)
            if not self._is_wanted:
                self._sockets.close()
                await session.stop()
                return

    def _reconcile(self, session: LivenessSession) -> bool:
        """Send what has changed. Returns whether the process has all sockets."""
        links = self._links.interfaces.values()
        ifnames = {link.ifindex: link.ifname for link in links}
        has_senders = self._sockets.reconcile(self._settings(), ifnames, session.send)
        probes = probe_settings(self._in_force.config.probes)
        by_name = {link.ifname: link for link in links}
        return self._probes.reconcile(probes, by_name, session.send) and has_senders

    def _answer_request(self, request: ProbeSocketRequest) -> None:
        """Answer a request, unless the process does not read: the attempt times out then."""
        if self._session is not None and self._session.backlog < BACKLOG_MAX:
            self._probes.answer(request, self._session.send)

    def _join_or_log(self, engine: EngineSession) -> None:
        try:
            self.join(engine)
        except OSError as error:
            self._log.emit("bfd-socket-failed", session="engine", problem=error.strerror)
