"""The configuration in force, and the switch of both processes to another one.

    switch        the engine checks --> the kernel side follows --> the engine applies
                                          |                           | it ends, or times out
                                          +<------ back at once ------+
    switch_back   the kernel side follows --> the engine applies, or is killed and replaced

Three facts are kept separately, because the engine may end at any moment:

    in_force   the configuration of the kernel side, which a reload compares with
    agreed     the configuration of a new engine: one that an engine has already applied
    followed   the configuration of the current engine; None between two engines

A switch that fails has changed nothing: when an engine ends while it applies a configuration, the
next one starts with the old configuration. A switch back does not fail: it needs no file and no
approval of the engine, and a metrics address that is in use meanwhile is retried until it is free.

Bounds: an engine that does not switch back within SWITCH_BACK_TIMEOUT_S is killed.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable

import trio

from ipc.lazy_dataclass import dataclass
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
from routed.parent.kernel import KernelSyncs
from routed.parent.kernel_settings import KernelSettings
from routed.parent.listeners import Listener, ListenerError
from routed.parent.nup_sockets import NupSockets
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
"""Longest time that an engine may take to switch back."""

METRICS_RETRY_S = 5.0
"""Seconds between two attempts to listen on the former metrics address."""

SECRETS_CHANGED = "secrets changed"

LOCK_RETRY_S = 60.0
"""Seconds between two attempts to bind the name that shows a second daemon that this one runs."""


class SwitchError(Exception):
    """The daemon could not switch; the old configuration is in force. `lines` has the reasons."""

    def __init__(
        self, lines: Iterable[str], *, was_applied: bool = False, is_engine_gone: bool = False
    ) -> None:
        """Keep the reasons.

        Args:
            lines: the reasons, one line each.
            was_applied: whether the engine ended, or may have ended, because of the new
                configuration.
            is_engine_gone: whether there was no engine, or it ended before it had received all
                messages of the configuration.
        """
        self.lines = tuple(lines)
        self.was_applied = was_applied
        self.is_engine_gone = is_engine_gone
        super().__init__("; ".join(self.lines))


@dataclass(frozen=True, slots=True)
class InForce:
    """A configuration, and the secrets of its keys at the time it was loaded."""

    config: Config
    secrets: tuple[SharedSecret, ...] = ()


class ConfigSwitch:
    """The owner of the configuration in force."""

    def __init__(
        self,
        started_by: InForce,
        reader: ConfigReader,
        opened: Opened,
        supervisor: Supervisor,
        kernel: KernelSyncs,
        nup_sockets: NupSockets,
    ) -> None:
        """Create the switch with the configuration that the daemon has started with.

        Args:
            started_by: that configuration.
            reader: of key files.
            opened: the listeners, the instance lock and the log, which depend on a configuration.
            supervisor: the owner of the engine.
            kernel: the kernel side, which switches before the engine does.
            nup_sockets: opened and closed once the engine has switched.
        """
        self.nup_sockets = nup_sockets
        self.followers: list[Callable[[Config], None]] = []
        """Called with each configuration that comes into force, after the kernel side."""
        self.in_force = started_by
        self.generation = 0
        """Incremented whenever a configuration is sent to an engine."""
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
        self._engine_changed = trio.Event()
        self._metrics_at = started_by.config.metrics.listen
        self._is_metrics_missing = trio.Event()

    @property
    def config(self) -> Config:
        """The configuration in force."""
        return self.in_force.config

    # --- engines

    async def configure(self, session: EngineSession) -> None:
        """Send the agreed configuration to a new engine.

        Raises:
            EngineFailed: it does not accept it, or another one was agreed meanwhile.
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
            # Higher than that of every earlier engine, also of one that ended a moment ago.
            origin_seqno=(origin_seqno() + self._supervisor.restarts) & 0xFFFF_FFFF,
        )

    def engine_ended(self) -> None:
        """Record that there is no engine until the next one is configured."""
        self._set_followed(None)

    async def wait_for_engine(self) -> None:
        """Return once an engine has applied the agreed configuration."""
        while self._followed is not self._agreed or self._supervisor.running is None:
            await self._engine_changed.wait()

    def _end(self, session: EngineSession) -> None:
        """Kill an engine that does not switch; it counts as ended at once."""
        session.kill()
        self._set_followed(None)

    def _set_followed(self, followed: InForce | None) -> None:
        self._followed = followed
        self._engine_changed.set()
        self._engine_changed = trio.Event()

    # --- switching

    async def compare_secrets(self, new: Config) -> list[str]:
        """List what a switch would change besides the configuration: the secrets in its key files.

        Raises:
            SwitchError: the key files cannot be read.
        """
        return self._compare_secrets(await self._secrets(new))

    async def _secrets(self, new: Config) -> tuple[SharedSecret, ...]:
        try:
            return await self._reader.secrets(new)
        except KeyFileError as error:
            raise SwitchError(error.problems) from error

    def _compare_secrets(self, secrets: tuple[SharedSecret, ...]) -> list[str]:
        return [] if secrets == self.in_force.secrets else [SECRETS_CHANGED]

    async def switch(self, new: Config, delta: ConfigDelta) -> list[str]:
        """Switch both processes to a configuration.

        Args:
            new: the configuration that was loaded.
            delta: its difference from the one in force.

        Returns:
            What changed besides the delta.

        Raises:
            SwitchError: it cannot be; the old one is in force.
        """
        secrets = await self._secrets(new)
        secret_changes = self._compare_secrets(secrets)
        if delta.is_empty and not secret_changes:
            return secret_changes
        session = self._supervisor.running
        if session is None:
            raise SwitchError(
                ["the engine is restarting; try again in a moment"], is_engine_gone=True
            )
        await self._switch(session, InForce(delta.effective, secrets))
        return secret_changes

    async def _switch(self, session: EngineSession, new: InForce) -> None:
        """Let the engine check the new configuration, then switch both processes to it.

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
        """Switch the kernel side to the new configuration, then let the engine apply it."""
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
            self._end(session)  # its configuration is unknown; the next one starts with the old one
            raise SwitchError([str(error)], was_applied=True) from error

    def _put_in_force(self, new: InForce) -> None:
        old, self.in_force = self.in_force, new
        config = new.config
        self._kernel.follow(
            KernelSettings.of(config.fib, config.rules, config.learn, config.tables)
        )
        self._kernel.admission.follow(new.config.martians)
        self.nup_sockets.follow(new.config.interfaces)
        for follow in self.followers:
            follow(new.config)
        if old.config.log != new.config.log:
            self._daemon_log.follow(new.config.log)

    async def _claim_later(self) -> None:
        """Bind the name of our protocol number if it was in use before: any local user may occupy
        it for a while."""
        reported = ""
        while not self._instance.is_held:
            await trio.sleep(LOCK_RETRY_S)
            try:
                problem = await self._instance.claim_again()
            except OtherInstanceError as error:
                problem = str(error)
            if not problem:
                self._log.emit("instance-lock-held")
            elif problem != reported:
                self._log.emit("instance-lock-missing", reason=problem)
            reported = problem

    # --- switching back

    async def switch_back(self, former: InForce) -> list[str]:
        """Return to the configuration that was in force before, whatever the engine does.

        Args:
            former: that configuration.

        Returns, once an engine has applied it:
            What could not be restored and is retried.
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
            self._end(self._supervisor.session)  # stopped, or being configured with the other one
        await self.wait_for_engine()
        return problems

    async def _follows(self, session: EngineSession, former: InForce) -> bool:
        """Let an engine apply the former configuration. Returns whether it did so in time."""
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
        """Send a new engine the sockets on which clients and scrapers connect."""
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
        """Listen on the former metrics address. Returns the reason if that fails; it is retried."""
        try:
            self._serve_metrics(self._listeners.prepare_metrics(wanted), wanted)
        except ListenerError as error:
            self._serve_metrics(None, None)
            self._is_metrics_missing.set()
            self._log.emit("metrics-not-served", problem=error)
            return [f"{error}; it is tried again"]
        return []

    async def run(self) -> None:
        """Retry what has failed: to listen on the former metrics address, to bind our name."""
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
