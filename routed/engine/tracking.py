"""BFD and probes in the engine: reports of the liveness process, and their effect on routes.

    liveness --BFD_REPORTED----> BfdStates ----.--problems--> RIB: next hops that are not used
             --PROBES_REPORTED-> ProbeStates --'--lost------> next hops to verify, out of all groups

What goes down takes its next hops out of the kernel's groups before anything is decided, with one
message for each group, whatever the number of routes; then the RIB decides without them.

After the start of an engine no route is programmed before the states are known, at most for
FIRST_REPORT_S: an engine that has just started must not withdraw what an earlier one rightly used.

Failure: a liveness process that breaks the rules of the channel is no longer listened to, as if it
had died; the parent's channel to it is another one.
"""

from __future__ import annotations

import math
import socket
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from typing import Protocol

import trio

from ipc import codec
from ipc.channel import Channel, ChannelClosed
from ipc.framing import INTERNAL_FRAME_MAX_BYTES, IpcError
from routed.config.schema import Config
from routed.engine.bfd_states import BfdStates, SessionTransition
from routed.engine.fib.programming import FibProgramming
from routed.engine.probe_states import ProbeStates, ProbeTransition
from routed.imsg.liveness import BfdReported, LivenessEnd, check_liveness_message
from routed.imsg.liveness_probes import ProbesReported
from routed.log.logger import Logger
from routed.model.link import Interface
from routed.model.prefix import Address
from routed.model.route import Gateway, probe_tracker

__all__ = ["FIRST_REPORT_S", "LivenessTracking"]

FIRST_REPORT_S = 2.0
"""Longest wait for the first states after the links are complete."""


class TrackedRoutes(Protocol):
    """The RIBs, as far as they are concerned here."""

    def set_trackers(self, problems: Mapping[str, str]) -> None:
        """Decide with these states of trackers, in place of earlier ones."""


class LivenessTracking:
    """Owns the states of BFD sessions and probes, and the channel to the liveness process."""

    def __init__(
        self,
        rib: TrackedRoutes,
        programming: FibProgramming,
        links: Mapping[int, Interface],
        log: Logger,
        now: Callable[[], float],
        on_change: Callable[[], None],
    ) -> None:
        """Begin without sessions and probes.

        Args:
            rib: decides with the states, in all tables.
            programming: removes next hops from the kernel's groups.
            links: all links of this system, by index.
            log: for what comes up and goes down.
            now: seconds, monotonic.
            on_change: called when the RIB is to decide again, and there may be something to send.
        """
        self.bfd = BfdStates()
        self.probes = ProbeStates()
        self.users: dict[str, int] = {}
        """How many next hops of static routes name each tracker."""
        self._rib = rib
        self._programming = programming
        self._links = links
        self._log = log
        self._now = now
        self._on_change = on_change
        self._gateways: dict[str, set[Gateway]] = {}
        """Next hops with an address, by tracker."""
        self._problems: dict[str, str] = {}
        self._channel: Channel | None = None
        self._has_channel = trio.Event()
        self._wake = trio.Event()
        self._has_sessions = False
        """Whether a liveness process has reported all sessions."""
        self._may_decide = False
        self._wait_until = math.inf

    # --- inputs

    def apply(self, config: Config) -> None:
        """Follow a configuration: sessions, probes, and the static routes that name them."""
        self.bfd.configure(config.bfd)
        self.probes.configure(config.probes)
        gateways: defaultdict[str, set[Gateway]] = defaultdict(set)
        users: defaultdict[str, int] = defaultdict(int)
        for static in config.static:
            for gateway in static.gateways:
                if gateway.tracker:
                    users[gateway.tracker] += 1
                    gateways[gateway.tracker].add(gateway)
        self._gateways = gateways
        self._problems = self._all_problems()
        self.users = {tracker: users[tracker] for tracker in self._problems}
        self._rib.set_trackers(self._problems)
        self._wake.set()

    def connect(self, connection: socket.socket) -> None:
        """Listen to a liveness process from now on, in place of an earlier one."""
        if self._channel is not None:
            # The end of the earlier process has not been noticed yet, and will not be any more.
            self._channel.close()
            self.bfd.channel_lost()
            self.probes.channel_lost()
        self._channel = Channel(connection, INTERNAL_FRAME_MAX_BYTES)
        self._has_channel.set()

    def links_complete(self) -> None:
        """Begin to wait for the first states."""
        self._wait_until = self._now() + FIRST_REPORT_S
        self._wake.set()

    @property
    def may_decide(self) -> bool:
        """Whether routes may be programmed: the states are known, or were awaited for long
        enough."""
        return self._may_decide or not (self.bfd.sessions or self.probes.probes)

    def dated(self, problem: str, gateways: Iterable[Gateway]) -> str:
        """Insert how long each probe has been down into the problem of a candidate.

        Args:
            problem: as the RIB has it, without times, so that time alone changes no candidate.
            gateways: of the candidate.
        """
        now = self._now()
        for name, known in self.probes.probes.items():
            tracker = probe_tracker(name)
            if known.is_up is False and any(gateway.tracker == tracker for gateway in gateways):
                since = f"{tracker}: down since {now - known.changed_at:.0f} s ("
                problem = problem.replace(f"{tracker}: down (", since)
        return problem

    # --- service

    async def run(self) -> None:
        """Listen, and keep time, until cancelled."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._keep_time)
            while True:
                await self._has_channel.wait()
                self._has_channel = trio.Event()
                channel = self._channel
                assert channel is not None  # the event was set by `connect`
                try:
                    await self._listen(channel)
                finally:
                    channel.close()
                if channel is self._channel:
                    self._channel = None
                    self.bfd.channel_lost()
                    self.probes.channel_lost()

    async def _listen(self, channel: Channel) -> None:
        """Handle reports until the channel ends."""
        try:
            while True:
                frame, descriptor = await channel.receive()
                if descriptor is not None:
                    channel.discard([descriptor])
                message_class = check_liveness_message(
                    frame.type, LivenessEnd.REPORTER, has_descriptor=descriptor is not None
                )
                self._handle(codec.decode(message_class, frame.body))
        except ChannelClosed:
            return
        except IpcError as error:
            self._log.emit("internal-error", where="liveness channel", error=error)

    def _handle(self, message: BfdReported | ProbesReported) -> None:
        match message:
            case BfdReported():
                self._handle_sessions(message)
            case ProbesReported():
                for change in self.probes.receive(message.reports, self._now()):
                    self._log_probe(change)
                self._apply_states(self.probes.problems(each.name for each in message.reports))

    def _handle_sessions(self, message: BfdReported) -> None:
        for transition in self.bfd.receive(message.reports, self._now()):
            self._log_session(transition)
        self.bfd.end(message.ended)
        self.bfd.dropped = message.dropped
        self._has_sessions |= message.is_complete
        names = [*(report.name for report in message.reports), *message.ended]
        self._apply_states(self.bfd.problems(names))
        if not self._may_decide or self.bfd.waits(names):
            self._wake.set()

    def _all_problems(self) -> dict[str, str]:
        return {**self.bfd.problems(), **self.probes.problems()}

    @property
    def _is_complete(self) -> bool:
        """Whether every state is known."""
        return (self._has_sessions or not self.bfd.sessions) and self.probes.are_known

    def _apply_states(self, problems: Mapping[str, str]) -> None:
        """Have the RIB decide with the present states, if they differ from before.

        Args:
            problems: of the trackers that may differ.

        Cost: linear in these while none differs. Each session is reported once a second, in a
        message of its own.
        """
        before = self._problems
        changed = {tracker: why for tracker, why in problems.items() if before.get(tracker) != why}
        if changed:
            self._problems = before | changed
            lost = [tracker for tracker, why in changed.items() if why and not before.get(tracker)]
            self._programming.verify(self._hops_of(lost))
            self._rib.set_trackers(self._problems)
            self._on_change()
        if not self._may_decide and (self._is_complete or self._now() >= self._wait_until):
            self._may_decide = True
            self._on_change()

    def _hops_of(self, trackers: Iterable[str]) -> list[tuple[Address, int]]:
        """Return the gateways, with their links, that depend on trackers."""
        return [
            (gateway.via, ifindex)
            for tracker in trackers
            for gateway in self._gateways.get(tracker, ())
            if gateway.via is not None
            for ifindex in self._links_of(gateway.via, gateway.ifname)
        ]

    def _links_of(self, via: Address, ifname: str | None) -> list[int]:
        return [
            link.ifindex
            for link in self._links.values()
            if (link.ifname == ifname if ifname is not None else link.owner_of_subnet(via))
        ]

    def _log_session(self, transition: SessionTransition) -> None:
        session, report = transition.session, transition.report
        if transition.is_up:
            self._log.emit("bfd-up", session=session.name, peer=session.peer)
            return
        self._log.emit(
            "bfd-down",
            session=session.name,
            peer=session.peer,
            diagnostic=report.diagnostic.label,
            remote_state=report.remote_state.label,
        )

    def _log_probe(self, change: ProbeTransition) -> None:
        event = "probe-up" if change.is_up else "probe-down"
        self._log.emit(event, probe=change.probe, reason=change.reason)

    async def _keep_time(self) -> None:
        """Serve what only time changes."""
        while True:
            due = self.bfd.next_check()
            if not self._may_decide:
                due = min(due, self._wait_until)
            with trio.move_on_after(max(due - self._now(), 0)):
                await self._wake.wait()
            self._wake = trio.Event()
            for transition in self.bfd.check(self._now()):
                self._log_session(transition)
            self._apply_states(self._all_problems())
