"""The liveness process, while BFD or probes are configured: started, configured, joined to the
engine.

    configuration --follow-------.
    links         --link_changed-+--> settings, sockets --> ChildSession --> liveness
    engine        --join---------'--> a pair of sockets --> engine and liveness

The process is started with the first session or probe and stopped after the last (`ChildKeeper`).
Its death changes no route: the engine keeps the states that it knows (`routed.engine.tracking`).

Each engine and each liveness process get one end of a new pair, over which liveness reports states
to the engine without this process in between.
"""

from __future__ import annotations

import socket

import trio

from routed.fib.links.table import LinkTable
from routed.imsg.liveness import (
    LIVENESS_CLASSES,
    BfdConfigured,
    EngineChannelReady,
    LivenessEnd,
    LivenessStop,
    check_liveness_message,
)
from routed.imsg.liveness_channel import LivenessChannelReady
from routed.imsg.liveness_probes import ProbesConfigured, ProbeSocketRequest
from routed.log.logger import Logger
from routed.model.bfd import BfdSettings
from routed.parent.bfd_sockets import SOCKET_RETRY_S, BfdSockets, bfd_settings
from routed.parent.child_keeper import ChildKeeper, ChildKind
from routed.parent.child_session import ChildProtocol, ChildSession
from routed.parent.config_switch import ConfigSwitch, InForce
from routed.parent.engine_process import spawn
from routed.parent.engine_process.session import EngineSession
from routed.parent.engine_process.supervisor import Supervisor
from routed.parent.probe_sockets import ProbeSockets, probe_settings

__all__ = ["LIVENESS_PROTOCOL", "Liveness"]


BACKLOG_MAX = 256
"""Requests are not answered while so many messages wait: each answer holds a descriptor."""


def _check(type_number: int, has_descriptor: bool) -> type:
    return check_liveness_message(type_number, LivenessEnd.LIVENESS, has_descriptor=has_descriptor)


def _weight(message: object) -> int:
    """Return how many sessions, probes or sockets a message is about."""
    match message:
        case BfdConfigured():
            return 1 + len(message.sessions)
        case ProbesConfigured():
            return 1 + len(message.probes)
    return 1


LIVENESS_PROTOCOL = ChildProtocol(
    LIVENESS_CLASSES,
    _check,
    LivenessStop(),
    _weight,
    (ProbeSocketRequest,),
    "liveness-misbehaved",
    "liveness-output",
)
"""The messages of the liveness process."""

_KIND = ChildKind(
    spawn.LIVENESS_COMMAND,
    LIVENESS_PROTOCOL,
    "liveness-started",
    "liveness-stopped",
    "liveness-died",
)


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
        self._in_force = in_force
        self._links = links
        self._supervisor = supervisor
        self._log = log
        self._sockets = BfdSockets(log)
        self._probes = ProbeSockets(log, trio.current_time)
        self.keeper = ChildKeeper(
            _KIND, lambda: self._is_wanted, self._serve, log, self._answer_request
        )
        """Owns the process."""

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
        self.keeper.wake()

    def link_changed(self) -> None:
        """Follow a change of the links, which sessions and probes may be bound to."""
        if self._is_wanted:
            self.keeper.wake()

    def join(self, engine: EngineSession) -> None:
        """Connect an engine with the process, if there is one.

        Raises:
            OSError: there is no descriptor to spare.
        """
        session = self.keeper.session
        if session is None or not session.is_running:
            return
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        session.send(EngineChannelReady(), ours.detach())
        engine.send(LivenessChannelReady(), descriptor=theirs.detach())

    # --- the process

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

    async def _serve(self, session: ChildSession) -> None:
        """Send the process what it needs, and what changes; stop it when nothing is left."""
        self._sockets.begin_process()
        self._probes.begin_process()
        engine = self._supervisor.running
        while True:
            is_complete = self._reconcile(session)
            if engine is not None:
                self._join_or_log(engine)
                engine = None
            await self.keeper.changed(float("inf") if is_complete else SOCKET_RETRY_S)
            if not self._is_wanted:
                self._sockets.close()
                await session.stop()
                return

    def _reconcile(self, session: ChildSession) -> bool:
        """Send what has changed. Returns whether the process has all sockets."""
        links = self._links.interfaces.values()
        ifnames = {link.ifindex: link.ifname for link in links}
        has_senders = self._sockets.reconcile(self._settings(), ifnames, session.send)
        probes = probe_settings(self._in_force.config.probes)
        by_name = {link.ifname: link for link in links}
        return self._probes.reconcile(probes, by_name, session.send) and has_senders

    def _answer_request(self, request: object) -> None:
        """Answer a request, unless the process does not read: the attempt times out then."""
        session = self.keeper.session
        if session is not None and session.backlog < BACKLOG_MAX:
            assert isinstance(request, ProbeSocketRequest)  # by LIVENESS_PROTOCOL
            self._probes.answer(request, session.send)

    def _join_or_log(self, engine: EngineSession) -> None:
        try:
            self.join(engine)
        except OSError as error:
            self._log.emit("bfd-socket-failed", session="engine", problem=error.strerror)
