"""The observer, while flows are counted: started, given memory, joined to the engine.

    programs      --memory----.
    configuration --timeouts--+--> ChildSession --> observer
    collectors    --sockets---|
    engine        --join------'--> a pair of sockets --> engine and observer

It is started only if the programs are loaded and count flows. The memory belongs to this process,
so the death of an observer loses no count: the next one finds the flows of before.
"""

from __future__ import annotations

import os
import socket

from routed.config.schema import DataplaneConfig
from routed.imsg.dataplane import DataplaneArrayReady
from routed.imsg.observer import (
    OBSERVER_CLASSES,
    Collector,
    ObserverConfigured,
    ObserverEnd,
    ObserverEngineReady,
    ObserverStop,
    check_observer_message,
)
from routed.imsg.observer_channel import ObserverChannelReady
from routed.log.logger import Logger
from routed.model.dataplane import DataplaneArray
from routed.parent.child_keeper import ChildKeeper, ChildKind
from routed.parent.child_session import ChildProtocol, ChildSession
from routed.parent.collector_sockets import SOCKET_RETRY_S, CollectorSockets
from routed.parent.dataplane import Loaded
from routed.parent.engine_process import spawn
from routed.parent.engine_process.session import EngineSession
from routed.parent.engine_process.supervisor import Supervisor

__all__ = ["Observer"]

_ARRAYS = (
    DataplaneArray.ACTIVITY, DataplaneArray.FLOWS, DataplaneArray.TAGS, DataplaneArray.ENDED,
    DataplaneArray.RINGS,
)  # fmt: skip
"""The memory that an observer receives."""


def _check(type_number: int, has_descriptor: bool) -> type:
    return check_observer_message(type_number, ObserverEnd.OBSERVER, has_descriptor=has_descriptor)


_KIND = ChildKind(
    spawn.OBSERVER_COMMAND,
    ChildProtocol(
        OBSERVER_CLASSES,
        _check,
        ObserverStop(),
        lambda _message: 1,
        (),
        "observer-misbehaved",
        "observer-output",
    ),
    "observer-started",
    "observer-stopped",
    "observer-died",
)


class Observer:
    """The parent's side of the observer."""

    def __init__(
        self, loaded: Loaded, config: DataplaneConfig, supervisor: Supervisor, log: Logger
    ) -> None:
        """Begin without a process.

        Args:
            loaded: the programs and their memory, which stay the caller's.
            config: the section `dataplane` in force.
            supervisor: of the engine.
            log: for starts and ends.
        """
        self._programs = loaded.programs
        self._config = config
        self._supervisor = supervisor
        self._log = log
        self._sockets = CollectorSockets(log)
        self.keeper = ChildKeeper(
            _KIND, lambda: self._is_wanted, self._serve, log, lambda _request: None
        )
        """Owns the process."""

    @property
    def _is_wanted(self) -> bool:
        has_flows = self._programs is not None and self._programs.sizes.flow_sets > 0
        return has_flows and bool(self._config.interfaces)

    def follow(self, config: DataplaneConfig) -> None:
        """Follow another section `dataplane`."""
        self._config = config
        self.keeper.wake()

    def join(self, engine: EngineSession) -> None:
        """Connect an engine with the observer, if there is one.

        Raises:
            OSError: there is no descriptor to spare.
        """
        session = self.keeper.session
        if session is None or not session.is_running:
            return
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        session.send(ObserverEngineReady(), ours.detach())
        engine.send(ObserverChannelReady(), descriptor=theirs.detach())

    async def _serve(self, session: ChildSession) -> None:
        """Send the observer what it needs, and what changes; stop it when it is not needed."""
        programs, engine = self._programs, self._supervisor.running
        assert programs is not None  # else there is no observer
        try:
            for array in _ARRAYS:
                session.send(
                    DataplaneArrayReady(array, *programs.sizes),
                    os.dup(programs.arrays[array.value]),
                )
            if engine is not None:
                self.join(engine)
        except OSError as error:
            # Without its memory it is of no use: it is ended, and started again.
            self._log.emit("observer-misbehaved", problem=error.strerror)
            session.kill()
            return
        self._sockets.begin_process()
        while True:
            flows, collectors = self._config.flows, self._config.export.ipfix
            session.send(
                ObserverConfigured(
                    _ns(flows.idle_s),
                    _ns(flows.active_s),
                    tuple(Collector(str(each.to), each.domain) for each in collectors),
                )
            )
            is_complete = self._sockets.reconcile(collectors, session.send)
            await self.keeper.changed(float("inf") if is_complete else SOCKET_RETRY_S)
            if not self._is_wanted:
                await session.stop()
                return


def _ns(seconds: float) -> int:
    return round(seconds * 1e9)
