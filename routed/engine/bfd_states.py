"""BFD sessions as the engine knows them: what was reported, and what it means for routes. Pure.

    report up                                  used
    report not up, it was up in this process   not used
        the other system is AdminDown          as before (RFC 5882, section 3.2)
    report not up, it was never up             as before, for `bfd.relearn`; then not used
        nothing was known before               as `initial` says
    the liveness process has died              as before; shown as unknown
    its interface was removed                  as `initial` says

"As before" keeps a crash of the liveness process from withdrawing anything: its successor begins
with sessions that were never up.

Invariants:
    A session that is not configured has no state. One whose peer, addresses, link or kind have
    changed begins without one.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

from ipc.lazy_dataclass import dataclass
from routed.config.bfd import BfdConfig, BfdInitial, BfdSessionConfig
from routed.model.bfd import BfdReport, BfdState
from routed.model.route import bfd_tracker

__all__ = ["BfdStates", "KnownSession", "SessionTransition"]


@dataclass(frozen=True, slots=True)
class SessionTransition:
    """A session has come up or gone down."""

    session: BfdSessionConfig
    is_up: bool
    report: BfdReport


@dataclass(slots=True)
class KnownSession:
    """What is known of one session."""

    config: BfdSessionConfig
    report: BfdReport | None = None
    """The last report; None before the first."""
    reported_at: float = 0.0
    is_current: bool = False
    """Whether the last report is of the liveness process that runs now."""
    is_used: bool | None = None
    """Whether next hops that name the session are used; None before anything is known."""
    keep_until: float = math.inf
    """When the state before a restart of the liveness process ceases to count."""

    @property
    def is_up(self) -> bool:
        """Whether it was up in the last report."""
        return self.report is not None and self.report.state is BfdState.UP

    @property
    def problem(self) -> str:
        """Return why next hops that name the session are not used; empty if they are."""
        if self.is_used or (self.is_used is None and self.config.initial is BfdInitial.UP):
            return ""
        report = self.report
        if report is None:
            return "nothing is known of the session yet"
        if not report.has_been_up:
            return "the session has not been up yet"
        reason = report.diagnostic.label.replace("_", " ")
        return f"the session is {report.state.label} ({reason})"


class BfdStates:
    """Owns what is known of each configured session."""

    def __init__(self) -> None:
        self.sessions: dict[str, KnownSession] = {}
        """By name, in the order of the configuration."""
        self.dropped: dict[str, int] = {}
        """Packets of no session that were dropped, by reason."""
        self._relearn_s = 0.0

    def configure(self, bfd: BfdConfig) -> None:
        """Follow a configuration."""
        before, self.sessions = self.sessions, {}
        self._relearn_s = bfd.relearn_s
        for config in bfd.sessions:
            known = before.get(config.name)
            if known is None or known.config.identity != config.identity:
                known = KnownSession(config)
            known.config = config
            self.sessions[config.name] = known

    def receive(self, reports: Iterable[BfdReport], now: float) -> list[SessionTransition]:
        """Handle reports; those of sessions that are not configured (any more) are ignored.

        Returns:
            The sessions that came up or went down.
        """
        transitions = []
        for report in reports:
            known = self.sessions.get(report.name)
            if known is None:
                continue
            was_up = known.is_up
            if not known.is_current:
                known.keep_until = now + self._relearn_s
            known.report, known.reported_at, known.is_current = report, now, True
            known.is_used = _is_used(known, report, now)
            # A session that a new process has not seen up yet did not go down.
            if known.is_up is not was_up and (known.is_up or report.has_been_up):
                transitions.append(SessionTransition(known.config, known.is_up, report))
        return transitions

    def end(self, names: Iterable[str]) -> None:
        """Handle the end of sessions; one that is still configured has lost its interface."""
        for name in names:
            if name in self.sessions:
                self.sessions[name] = KnownSession(self.sessions[name].config)

    def channel_lost(self) -> None:
        """Record that the liveness process has gone."""
        for known in self.sessions.values():
            known.is_current = False

    def check(self, now: float) -> list[SessionTransition]:
        """Give up what was kept across a restart of the liveness process for long enough.

        Returns:
            The sessions that count as down from now on.
        """
        transitions = []
        for known in self.sessions.values():
            report = known.report
            if report is None or not known.is_current or not known.is_used:
                continue
            known.is_used = _is_used(known, report, now)
            if not known.is_used:
                transitions.append(SessionTransition(known.config, is_up=False, report=report))
        return transitions

    def next_check(self) -> float:
        """Return when `check` may change something; infinite if never."""
        waiting = (
            known.keep_until
            for known in self.sessions.values()
            if known.is_current and known.is_used and not known.is_up
        )
        return min(waiting, default=math.inf)

    def problems(self, names: Iterable[str] | None = None) -> dict[str, str]:
        """Return by tracker why its next hops are not used; empty if they are.

        Args:
            names: of sessions, configured or not; default: all that are configured.
        """
        sessions = self.sessions
        return {
            bfd_tracker(name): sessions[name].problem
            for name in (sessions if names is None else names)
            if name in sessions
        }

    def waits(self, names: Iterable[str]) -> bool:
        """Return whether `next_check` counts on one of these sessions."""
        found = (self.sessions.get(name) for name in names)
        return any(known is not None and known.keep_until < math.inf for known in found)


def _is_used(known: KnownSession, report: BfdReport, now: float) -> bool | None:
    """Decide whether next hops are used, from a report and from what counted before."""
    if report.state is BfdState.UP:
        known.keep_until = math.inf
        return True
    if report.has_been_up:
        is_administrative = report.remote_state is BfdState.ADMIN_DOWN
        return known.is_used is not False if is_administrative else False
    if known.is_used and now >= known.keep_until:
        return False
    return known.is_used
