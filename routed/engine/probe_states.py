"""Probes as the engine knows them: what was reported, and what it means for routes. Pure.

    report up or falling                       used
    report down or rising                      not used
    report unknown, it was known before        as before
    report unknown, it is another probe now    as `initial` says
    the liveness process has died              as before

"As before" keeps a crash of the liveness process from withdrawing anything: its successor begins
with probes that are unknown, and knows them after `rise` or `fall` attempts.

Invariants:
    A probe that is not configured has no state. One whose kind, target or socket has changed begins
    without one.
"""

from __future__ import annotations

from collections.abc import Iterable

from ipc.lazy_dataclass import dataclass
from routed.config.probes import ProbeConfig, ProbeInitial
from routed.model.probe import ProbeReport, ProbeState
from routed.model.route import probe_tracker

__all__ = ["KnownProbe", "ProbeStates", "ProbeTransition"]


@dataclass(frozen=True, slots=True)
class ProbeTransition:
    """A probe has come up or gone down."""

    probe: str
    is_up: bool
    reason: str


@dataclass(slots=True)
class KnownProbe:
    """What is known of one probe."""

    config: ProbeConfig
    report: ProbeReport | None = None
    """The last report; None before the first."""
    reported_at: float = 0.0
    is_current: bool = False
    """Whether the last report is of the liveness process that runs now."""
    is_up: bool | None = None
    """The last known state; None before anything is known."""
    reason: str = ""
    """Why it came up or went down last."""
    changed_at: float = 0.0
    """When it did, or when the engine first received that it had."""

    @property
    def is_used(self) -> bool:
        """Whether what names the probe is used."""
        return self.config.initial is ProbeInitial.UP if self.is_up is None else self.is_up

    @property
    def problem(self) -> str:
        """Return why what names the probe is not used; empty if it is."""
        if self.is_used:
            return ""
        return "nothing is known of it yet" if self.is_up is None else f"down ({self.reason})"


class ProbeStates:
    """Owns what is known of each configured probe."""

    def __init__(self) -> None:
        self.probes: dict[str, KnownProbe] = {}
        """By name, in the order of the configuration."""

    def configure(self, probes: Iterable[ProbeConfig]) -> None:
        """Follow a configuration."""
        before, self.probes = self.probes, {}
        for config in probes:
            known = before.get(config.name)
            if known is None or known.config.identity != config.identity:
                known = KnownProbe(config)
            known.config = config
            self.probes[config.name] = known

    def receive(self, reports: Iterable[ProbeReport], now: float) -> list[ProbeTransition]:
        """Handle reports; those of probes that are not configured (any more) are ignored.

        Returns:
            The probes that came up or went down.
        """
        transitions = []
        for report in reports:
            known = self.probes.get(report.name)
            if known is None:
                continue
            if _is_another(known, report):
                known = self.probes[report.name] = KnownProbe(known.config)
            known.report, known.reported_at, known.is_current = report, now, True
            is_up = report.state.is_up
            if is_up is None or is_up is known.is_up:
                continue
            known.is_up, known.reason = is_up, report.change_reason
            known.changed_at = now - report.age_s
            transitions.append(ProbeTransition(report.name, is_up, report.change_reason))
        return transitions

    def channel_lost(self) -> None:
        """Record that the liveness process has gone."""
        for known in self.probes.values():
            known.is_current = False

    @property
    def are_known(self) -> bool:
        """Whether the state of every probe is known."""
        return all(known.is_up is not None for known in self.probes.values())

    def problems(self, names: Iterable[str] | None = None) -> dict[str, str]:
        """Return by tracker why what names it is not used; empty if it is.

        Args:
            names: of the probes; default: all. Those that are not configured are left out.
        """
        return {
            probe_tracker(name): self.probes[name].problem
            for name in (self.probes if names is None else names)
            if name in self.probes
        }


def _is_another(known: KnownProbe, report: ProbeReport) -> bool:
    """Whether a report is of another probe of the same name and process than the one before."""
    before = known.report
    return (
        known.is_current
        and before is not None
        and report.state is ProbeState.UNKNOWN
        and report.attempts < before.attempts
    )
