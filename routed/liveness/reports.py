"""Reports to the engine: at once when a state changes, and all of them in turn.

    BfdInstance ----BfdReports---.
                                  +--> StateReporter (one each) --> EngineLink --> engine
    ProbeInstance --ProbeReports-'

A report of what has changed goes before all others. The others follow, spread over REFRESH_S, so
that counters are fresh and no burst delays a packet. A new engine gets all of them at once.

Bounds: what waits is a set of names. An engine that does not read gets newer reports later.
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import Protocol

import trio

from ipc.channel import Channel, ChannelClosed
from ipc.framing import INTERNAL_FRAME_MAX_BYTES, FrameError
from routed.bfd.instance import BfdInstance
from routed.imsg.frames import frames_of
from routed.imsg.liveness import BFD_REPORTS_MAX, LIVENESS_CLASSES, BfdReported
from routed.imsg.liveness_probes import PROBE_REPORTS_MAX, ProbesReported
from routed.probe.instance import ProbeInstance

__all__ = ["REFRESH_S", "BfdReports", "EngineLink", "ProbeReports", "StateReporter"]

REFRESH_S = 1.0
"""Time in which everything is reported once."""


class ReportSource(Protocol):
    """What a reporter reports, by name."""

    most: int
    """Names in one message at most."""
    in_turn: int
    """Names that are reported together when nothing has changed."""

    @property
    def names(self) -> list[str]:
        """Everything there is to report."""

    def message(self, names: list[str], *, is_complete: bool) -> object:
        """Describe some names, which may have ended."""


class BfdReports:
    """The sessions of BFD."""

    most = BFD_REPORTS_MAX
    in_turn = 1

    def __init__(
        self,
        instance: BfdInstance,
        clock: Callable[[], float],
        dropped_by_kernel: Callable[[], int],
    ) -> None:
        """Report the sessions of an instance.

        Args:
            instance: has the sessions.
            clock: seconds, monotonic.
            dropped_by_kernel: packets that never reached this process.
        """
        self._instance = instance
        self._clock = clock
        self._dropped_by_kernel = dropped_by_kernel

    @property
    def names(self) -> list[str]:
        """The names of all sessions."""
        return self._instance.names

    def message(self, names: list[str], *, is_complete: bool) -> BfdReported:
        """Describe some sessions."""
        now = self._clock()
        found = [(name, self._instance.report(name, now)) for name in names]
        dropped = {**self._instance.counts(), "by_kernel": self._dropped_by_kernel()}
        return BfdReported(
            reports=tuple(report for _, report in found if report is not None),
            ended=tuple(name for name, report in found if report is None),
            dropped=dropped,
            is_complete=is_complete,
        )


class ProbeReports:
    """The probes."""

    most = PROBE_REPORTS_MAX
    in_turn = 10

    def __init__(self, instance: ProbeInstance, clock: Callable[[], float]) -> None:
        """Report the probes of an instance.

        Args:
            instance: has the probes.
            clock: seconds, monotonic.
        """
        self._instance = instance
        self._clock = clock

    @property
    def names(self) -> list[str]:
        """The names of all probes."""
        return self._instance.names

    def message(self, names: list[str], *, is_complete: bool) -> ProbesReported:
        """Describe some probes."""
        now = self._clock()
        found = [(name, self._instance.report(name, now)) for name in names]
        return ProbesReported(
            reports=tuple(report for _, report in found if report is not None),
            ended=tuple(name for name, report in found if report is None),
            is_complete=is_complete,
        )


class EngineLink:
    """Owns the channel to the engine, which all reporters use."""

    def __init__(self) -> None:
        self.number = 0
        """Of the engine that is connected; another one has another number."""
        self._channel: Channel | None = None
        self._sending = trio.Lock()
        self._reporters: list[StateReporter] = []

    def add(self, reporter: StateReporter) -> None:
        """Have a reporter begin again with each engine."""
        self._reporters.append(reporter)

    def connect(self, connection: socket.socket) -> None:
        """Report to an engine from now on, in place of an earlier one."""
        if self._channel is not None:
            self._channel.close()
        self._channel = Channel(connection, INTERNAL_FRAME_MAX_BYTES)
        self.number += 1
        for reporter in self._reporters:
            reporter.begin()

    @property
    def is_connected(self) -> bool:
        """Whether there is an engine."""
        return self._channel is not None

    async def send(self, message: object) -> None:
        """Send to the engine of now; no effect without one."""
        async with self._sending:  # two tasks may not wait for one socket
            channel = self._channel
            if channel is None:
                return
            try:
                for frame in frames_of(message, types=LIVENESS_CLASSES):
                    await channel.send(frame)
            except (ChannelClosed, FrameError):
                # The engine is gone. The parent sends the channel of the next one.
                channel.close()
                if self._channel is channel:
                    self._channel = None


class StateReporter:
    """Reports one kind of thing, as it changes and in turn."""

    def __init__(self, source: ReportSource, link: EngineLink) -> None:
        """Begin with nothing reported.

        Args:
            source: what there is to report.
            link: to the engine.
        """
        self._source = source
        self._link = link
        self._changed: dict[str, None] = {}
        self._has_changed = trio.Event()
        self._turn = 0
        self._is_complete = False
        """Whether the engine has been sent everything."""
        link.add(self)

    def begin(self) -> None:
        """Report everything: there is another engine."""
        self._is_complete = False
        self._changed = dict.fromkeys(self._source.names)
        self._has_changed.set()

    def mark(self, name: str) -> None:
        """Report something as soon as possible."""
        self._changed[name] = None
        self._has_changed.set()

    async def run(self) -> None:
        """Report until cancelled."""
        while True:
            names, in_turn = self._source.names, self._source.in_turn
            with trio.move_on_after(REFRESH_S * min(in_turn / max(len(names), 1), 1)):
                await self._has_changed.wait()
            self._has_changed = trio.Event()
            if not self._link.is_connected:
                self._changed.clear()
            elif self._changed or not self._is_complete:
                await self._report_changed()
            elif names:
                first = self._turn % len(names)
                self._turn = first + in_turn
                await self._report(names[first : first + in_turn])

    async def _report_changed(self) -> None:
        number = self._link.number
        while number == self._link.number and (self._changed or not self._is_complete):
            names = list(self._changed)[: self._source.most]
            for name in names:
                del self._changed[name]
            self._is_complete |= not self._changed
            await self._report(names)

    async def _report(self, names: list[str]) -> None:
        await self._link.send(self._source.message(names, is_complete=self._is_complete))
