"""What the daemon runs by, and how both of its processes come to run by something else.

    switch        the engine checks --> the kernel's side follows --> the engine applies
                                          |                             | it ends, or says nothing
                                          +<------- back at once -------+
    switch_back   the kernel's side follows --> the engine applies, or is ended and replaced

Three facts are kept apart, because the engine may end at any moment:

    in_force   what the kernel's side follows, and what a reload compares with
    agreed     what a new engine starts by: nothing that has not proven itself with an engine
    followed   what the engine runs by that is there; None between two engines

A switch that fails has changed nothing: an engine that ends while it applies a configuration is
followed by one that starts by the old one. A way back does not fail: it needs no file and no
consent of the engine, and a metrics address that is taken meanwhile is tried until it is free.

Bounds: an engine that does not follow the way back within SWITCH_BACK_TIMEOUT_S ends.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass

import trio

from routed.clock import origin_seqno
from routed.config.diff import ConfigDelta
from routed.config.scalars import ListenAddress
from routed.config.schema import Config
from routed.config.secrets import KeyFileError
from routed.imsg.messages import ConfBegin, SocketKind, SocketReady
from routed.model.secret import SharedSecret
from routed.parent.config_reader import ConfigReader
from routed.parent.engine_process.session import EngineFailed, EngineSession
from routed.parent.engine_process.supervisor import Supervisor
from routed.parent.instance_lock import OtherInstanceError
from routed.parent.kernel import KernelSide
from routed.parent.listeners import Listener, ListenerError
from routed.parent.nup_sockets import NeighborSockets
from routed.parent.startup import Opened

__all__ = [
    "LOCK_RETRY_S",
    "METRICS_RETRY_S",
    "SECRETS_CHANGED",
    "SWITCH_BACK_TIMEOUT_S",
    "ConfigSwitch",
    "InForce",
    "SwitchError",
]

SWITCH_BACK_TIMEOUT_S = 5.0
"""How long an engine may take to follow the way back."""

METRICS_RETRY_S = 5.0
"""Between two attempts to listen where metrics were served before."""

SECRETS_CHANGED = "secrets changed"

LOCK_RETRY_S = 60.0
"""Between two attempts to have the name that tells a second daemon of this one."""


class SwitchError(Exception):
    """The daemon could not switch; it runs by the old configuration. The lines say why."""

    def __init__(
        self, lines: Iterable[str], *, was_applied: bool = False, is_engine_gone: bool = False
    ) -> None:
        """Args:
        lines: the reasons.
        was_applied: the engine ended on the new configuration, or may have.
        is_engine_gone: there was no engine, or it ended before it had seen everything.
        """
        self.lines = tuple(lines)
        self.was_applied = was_applied
        self.is_engine_gone = is_engine_gone
        super().__init__("; ".join(self.lines))


@dataclass(frozen=True, slots=True)
class InForce:
    """All that a daemon runs by: a configuration, and the secrets that its keys had."""

    config: Config
    secrets: tuple[SharedSecret, ...] = ()


class ConfigSwitch:
    """Owns the configuration in force."""

    def __init__(
        self,
        started_by: InForce,
        reader: ConfigReader,
        opened: Opened,
        supervisor: Supervisor,
        kernel: KernelSide,
        nup_sockets: NeighborSockets,
    ) -> None:
        """Begin with the configuration that the daemon has started with.

        Args:
            started_by: that configuration.
            reader: of key files.
            opened: the listeners, the instance lock and the log, which follow a configuration.
            supervisor: of the engines.
            kernel: follows a configuration before the engine does.
            nup_sockets: follow it, too; they are opened and closed once the engine does.
        """
        self.nup_sockets = nup_sockets
        self.in_force = started_by
        self.generation = 0
        """Raised whenever an engine is given a configuration."""
        self._agreed = started_by
        self._followed: InForce | None = None
        self._reader = reader
        self._listeners = opened.listeners
        self._instance = opened.instance
        self._daemon_log = opened.log
        self._log = opened.log.logger
        self._started_at_ns = opened.started_at_ns
        self._supervisor = supervisor
        self._kernel = kernel
        self._engine_news = trio.Event()
        self._metrics_at = started_by.config.metrics.listen
        self._is_metrics_missing = trio.Event()

    @property
    def config(self) -> Config:
        """In force."""
        return self.in_force.config

    # --- engines

    async def configure(self, session: EngineSession) -> None:
        """Give a new engine what is agreed.

        Raises:
            EngineFailed: it does not take it, or something else was agreed meanwhile.
        """
        self.generation += 1
        agreed = self._agreed
        await session.prepare(agreed.config, agreed.secrets, self._conf_begin)
        await session.commit()
        if agreed is not self._agreed:
            raise EngineFailed("the configuration has changed while the engine started")
        self._set_followed(agreed)

    def _conf_begin(self, total_bytes: int) -> ConfBegin:
        """Make the message that opens a configuration of a number of bytes on the channel."""
        return ConfBegin(
            generation=self.generation,
            total_bytes=total_bytes,
            started_at_ns=self._started_at_ns,
            engine_restarts=self._supervisor.restarts,
            violations=dict(self._supervisor.conduct.violations),
            config_path=self._reader.path,
            daemon_pid=os.getpid(),
            # Later than that of every earlier engine, also of one that died a moment ago.
            origin_seqno=(origin_seqno() + self._supervisor.restarts) & 0xFFFF_FFFF,
        )

    def engine_ended(self) -> None:
        """There is no engine until the next one is configured."""
        self._set_followed(None)

    async def wait_for_engine(self) -> None:
        """Return once there is an engine that runs by what is agreed."""
        while self._followed is not self._agreed or self._supervisor.running is None:
            await self._engine_news.wait()

    def _end(self, session: EngineSession) -> None:
        """End an engine that does not follow; it counts as gone, although it may take a moment."""
        session.kill()
        self._set_followed(None)

    def _set_followed(self, followed: InForce | None) -> None:
        self._followed = followed
        self._engine_news.set()
        self._engine_news = trio.Event()

    # --- there

    async def changes_beside(self, new: Config) -> list[str]:
        """What a switch would change beside the configuration: the secrets in its key files.

        Raises:
            SwitchError: they cannot be read.
        """
        return self._beside(await self._secrets(new))

    async def _secrets(self, new: Config) -> tuple[SharedSecret, ...]:
        try:
            return await self._reader.secrets(new)
        except KeyFileError as error:
            raise SwitchError(error.problems) from error

    def _beside(self, secrets: tuple[SharedSecret, ...]) -> list[str]:
        return [] if secrets == self.in_force.secrets else [SECRETS_CHANGED]

    async def switch(self, new: Config, delta: ConfigDelta) -> list[str]:
        """Follow a configuration on both sides.

        Args:
            new: as the file says.
            delta: from the one in force.

        Returns:
            What changed beside the delta.

        Raises:
            SwitchError: it cannot be; the old one is in force.
        """
        secrets = await self._secrets(new)
        beside = self._beside(secrets)
        if delta.is_empty and not beside:
            return beside
        session = self._supervisor.running
        if session is None:
            raise SwitchError(
                ["the engine is restarting; try again in a moment"], is_engine_gone=True
            )
        await self._switch(session, InForce(delta.effective, secrets))
        return beside

    async def _switch(self, session: EngineSession, new: InForce) -> None:
        """Let the engine check the new configuration, then follow it on both sides.

        Raises:
            SwitchError: it cannot be; the old one is in force.
        """
        wanted = new.config.metrics.listen
        is_moved = wanted != self._metrics_at
        try:
            metrics = self._listeners.prepare_metrics(wanted) if is_moved else None
        except ListenerError as error:
            raise SwitchError([str(error)]) from error
        try:
            await self._apply(session, new)
        except BaseException:
            if metrics is not None:
                metrics.close()
            raise
        self._agreed = new
        self._set_followed(new)
        if is_moved:
            self._serve_metrics(metrics, wanted)
            self._hand_over_metrics(session)
        self.nup_sockets.reconcile_all()

    async def _apply(self, session: EngineSession, new: InForce) -> None:
        """Have the engine run by the new one, with the kernel's side following first."""
        old = self.in_force
        self.generation += 1
        try:
            await session.prepare(new.config, new.secrets, self._conf_begin)
        except EngineFailed as error:
            is_engine_gone = not session.is_running
            self._end(session)
            raise SwitchError([str(error)], is_engine_gone=is_engine_gone) from error
        self._put_in_force(new)
        try:
            await session.commit()
        except EngineFailed as error:
            self._put_in_force(old)
            self._end(session)  # whatever it runs by; the next one starts by the old one
            raise SwitchError([str(error)], was_applied=True) from error

    def _put_in_force(self, new: InForce) -> None:
        old, self.in_force = self.in_force, new
        self._kernel.follow(old.config, new.config)
        self.nup_sockets.follow(new.config)
        if old.config.log != new.config.log:
            self._daemon_log.follow(new.config.log)

    async def _claim_later(self) -> None:
        """Have the name of our protocol number, when it could not be had: any local user may have
        it for a while."""
        told = ""
        while not self._instance.is_held:
            await trio.sleep(LOCK_RETRY_S)
            try:
                problem = await self._instance.claim_again()
            except OtherInstanceError as error:
                problem = str(error)
            if not problem:
                self._log.emit("instance-lock-held")
            elif problem != told:
                self._log.emit("instance-lock-missing", reason=problem)
            told = problem

    # --- and back

    async def switch_back(self, former: InForce) -> list[str]:
        """Return to what was in force before, whatever the engine does.

        Args:
            former: that.

        Returns, once an engine runs by it:
            What could not be restored and is tried on.
        """
        self._agreed = former
        self._put_in_force(former)
        wanted = former.config.metrics.listen
        is_moved = wanted != self._metrics_at
        problems = self._restore_metrics(wanted) if is_moved else []
        session = self._supervisor.running
        if session is not None and await self._follows(session, former):
            self._set_followed(former)
            if is_moved:
                self._hand_over_metrics(session)
            self.nup_sockets.reconcile_all()
        elif self._supervisor.session is not None:
            self._end(self._supervisor.session)  # stopped, or just being given the other one
        await self.wait_for_engine()
        return problems

    async def _follows(self, session: EngineSession, former: InForce) -> bool:
        """Whether an engine takes the former configuration in time."""
        self.generation += 1
        try:
            with trio.fail_after(SWITCH_BACK_TIMEOUT_S):
                await session.prepare(former.config, former.secrets, self._conf_begin)
                await session.commit()
        except (EngineFailed, trio.TooSlowError):
            return False
        return True

    # --- metrics

    def hand_over_listeners(self, session: EngineSession) -> None:
        """Give a new engine the sockets that clients and scrapers come to."""
        session.send(
            SocketReady(SocketKind.MANAGEMENT, 0, None),
            descriptor=self._listeners.copy_management(),
        )
        self._hand_over_metrics(session)

    def _hand_over_metrics(self, session: EngineSession) -> None:
        copy = self._listeners.copy_metrics()
        if copy is not None:
            session.send(SocketReady(SocketKind.METRICS, 0, None), descriptor=copy)

    def _serve_metrics(self, listener: Listener | None, at: ListenAddress | None) -> None:
        self._listeners.replace_metrics(listener)
        self._metrics_at = at

    def _restore_metrics(self, wanted: ListenAddress | None) -> list[str]:
        """Listen where metrics were served before; why not, if so, and then it is tried on."""
        try:
            self._serve_metrics(self._listeners.prepare_metrics(wanted), wanted)
        except ListenerError as error:
            self._serve_metrics(None, None)
            self._is_metrics_missing.set()
            self._log.emit("metrics-not-served", problem=error)
            return [f"{error}; it is tried again"]
        return []

    async def run(self) -> None:
        """Try on what has failed: to serve metrics where they were before, to be the only one."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._claim_later)
            await self._serve_metrics_later()

    async def _serve_metrics_later(self) -> None:
        while True:
            await self._is_metrics_missing.wait()
            await trio.sleep(METRICS_RETRY_S)
            self._is_metrics_missing = trio.Event()
            wanted = self.config.metrics.listen
            session = self._supervisor.running
            if wanted == self._metrics_at or self._restore_metrics(wanted):
                continue
            if session is not None:
                self._hand_over_metrics(session)
