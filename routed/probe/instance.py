"""All probes of this system: the timers of all, and the combinations of several. Pure.

    handle_timer --> probes that are due --> BeginAttempt
    answered, failed, broken, observe -----> results --> ProbeChanged --> combinations

A probe of a carrier or of a BFD session sends nothing: an attempt takes the last observation, and
another observation makes an attempt at once. A combination counts members that are up, and is
unknown while those that are unknown could still decide:

    up if at least `least` members are up; down if the others are too few; else unknown

Invariants:
    Outputs are in order; a ProbeChanged of a member precedes that of its combinations.

Cost: an answer costs a dictionary look-up; a timer costs one operation on a heap.
"""

from __future__ import annotations

import heapq
import itertools
import random
from collections.abc import Iterable
from typing import NamedTuple

from routed.model.probe import ProbeKind, ProbeReport, ProbeSettings
from routed.probe.outputs import BeginAttempt, EndAttempt, ProbeChanged, ProbeOutput
from routed.probe.session import ProbeSession

__all__ = ["ProbeInstance"]

_OBSERVED_KINDS = (ProbeKind.CARRIER, ProbeKind.BFD)


class _Observation(NamedTuple):
    is_up: bool | None
    """None: what is observed does not exist."""
    reason: str


_NOTHING_OBSERVED = _Observation(None, "nothing is known of it yet")


class ProbeInstance:
    """Owns the probes."""

    def __init__(self, rng: random.Random) -> None:
        """Begin without probes.

        Args:
            rng: for jitter and the numbers of attempts.
        """
        self._rng = rng
        self._probes: dict[str, ProbeSession] = {}
        self._observed: dict[str, _Observation] = {}
        """By probe."""
        self._followers: dict[str, list[str]] = {}
        """The combinations with each member."""
        self._due: list[tuple[float, int, ProbeSession]] = []
        self._order = itertools.count()
        self._outputs: list[ProbeOutput] = []

    def __len__(self) -> int:
        return len(self._probes)

    # --- inputs

    def configure(self, wanted: Iterable[ProbeSettings], now: float) -> None:
        """Have exactly these probes. Other times, counts and members keep the state of a probe;
        another kind, target or socket makes a new one."""
        by_name = {settings.name: settings for settings in wanted}
        for name, probe in list(self._probes.items()):
            settings = by_name.get(name)
            if settings is None or identity(settings) != identity(probe.settings):
                probe.scheduled_at = float("nan")  # equal to no moment
                del self._probes[name]
                self._observed.pop(name, None)
            elif settings != probe.settings:
                probe.reconfigure(settings, now)
        for name, settings in by_name.items():
            if name not in self._probes:
                self._probes[name] = ProbeSession(settings, self._rng, now)
        self._probes = {name: self._probes[name] for name in by_name}
        self._followers = {}
        for name, settings in by_name.items():
            for member in settings.members:
                self._followers.setdefault(member, []).append(name)
        for name, settings in by_name.items():
            self._finish(name, now)
            if settings.kind.is_combination:
                self._combine(name, now)

    def observe(self, name: str, is_up: bool | None, reason: str, now: float) -> None:
        """Record what a probe looks at, and act on it at once if it has changed.

        Args:
            name: of the probe; one that does not exist is ignored.
            is_up: None if what it looks at does not exist.
            reason: why it is not up.
            now: seconds, monotonic.
        """
        observation = _Observation(is_up, reason)
        probe = self._probes.get(name)
        if probe is None or self._observed.get(name) == observation:
            return
        self._observed[name] = observation
        probe.hasten(now)
        self._finish(name, now)

    def answered(self, name: str, number: int, now: float) -> None:
        """Handle the answer to an attempt; one that is not outstanding is ignored."""
        probe = self._probes.get(name)
        if probe is not None:
            probe.answered(number, now)
            self._finish(name, now)

    def failed(self, name: str, number: int, reason: str, now: float) -> None:
        """Handle an answer that is a failure."""
        probe = self._probes.get(name)
        if probe is not None:
            probe.failed(number, reason, now)
            self._finish(name, now)

    def broken(self, name: str, number: int, problem: str, now: float) -> None:
        """Handle an attempt that could not be made."""
        probe = self._probes.get(name)
        if probe is not None:
            probe.broken(number, problem, now)
            self._finish(name, now)

    def hint(self, name: str, reason: str) -> None:
        """Record why an answer may not come, from a sender that is not authenticated."""
        probe = self._probes.get(name)
        if probe is not None:
            probe.hint(reason)

    def handle_timer(self, now: float) -> None:
        """Do what is due."""
        while self._due and self._due[0][0] <= now:
            due, _, probe = heapq.heappop(self._due)
            if due != probe.scheduled_at:
                continue  # it was scheduled for an earlier moment meanwhile, or removed
            probe.scheduled_at = float("inf")
            probe.handle_timer(now)
            self._finish(probe.settings.name, now)

    def next_timer(self) -> float | None:
        """Return when `handle_timer` is to be called; None if never. It may be too early."""
        return self._due[0][0] if self._due else None

    def outputs(self) -> list[ProbeOutput]:
        """Take the outputs so far, in order."""
        outputs, self._outputs = self._outputs, []
        return outputs

    # --- for the adapter and for display

    @property
    def names(self) -> list[str]:
        """The names of the probes."""
        return list(self._probes)

    def settings(self, name: str) -> ProbeSettings | None:
        """Return what a probe is to do; None if there is none of this name."""
        probe = self._probes.get(name)
        return None if probe is None else probe.settings

    def attempt(self, name: str) -> int | None:
        """Return the number of the outstanding attempt of a probe; None without one."""
        probe = self._probes.get(name)
        return None if probe is None else probe.attempt

    def due(self, now: float) -> list[str]:
        """Return the probes that `handle_timer` will serve, and perhaps more.

        Cost: linear in what it returns.
        """
        found, places = [], [0]
        while places:
            at = places.pop()
            if at < len(self._due) and self._due[at][0] <= now:
                found.append(self._due[at][2].settings.name)
                places += (2 * at + 1, 2 * at + 2)
        return found

    def report(self, name: str, now: float) -> ProbeReport | None:
        """Describe a probe; None if there is none of this name."""
        probe = self._probes.get(name)
        return None if probe is None else probe.report(now)

    # --- results

    def _finish(self, name: str, now: float) -> None:
        """Take a probe's outputs, make the attempts that only look, and schedule its next timer."""
        probe = self._probes[name]
        if probe.next_timer() <= now and probe.settings.kind in _OBSERVED_KINDS:
            probe.handle_timer(now)
        for output in probe.drain():
            match output:
                case BeginAttempt(number=number) if probe.settings.kind in _OBSERVED_KINDS:
                    self._look(probe, number, now)
                case EndAttempt() if probe.settings.kind in _OBSERVED_KINDS:
                    pass
                case _:
                    self._emit(output, now)
        for output in probe.drain():
            if isinstance(output, ProbeChanged):
                self._emit(output, now)
        due = probe.next_timer()
        if due < probe.scheduled_at:
            probe.scheduled_at = due
            heapq.heappush(self._due, (due, next(self._order), probe))

    def _look(self, probe: ProbeSession, number: int, now: float) -> None:
        """Give an attempt the last observation as its result."""
        observed = self._observed.get(probe.settings.name, _NOTHING_OBSERVED)
        if observed.is_up is None:
            probe.broken(number, observed.reason, now)
        elif observed.is_up:
            probe.answered(number, now)
        else:
            probe.failed(number, observed.reason, now)

    def _emit(self, output: ProbeOutput, now: float) -> None:
        self._outputs.append(output)
        if isinstance(output, ProbeChanged):
            for follower in self._followers.get(output.probe, ()):
                self._combine(follower, now)

    def _combine(self, name: str, now: float) -> None:
        """Give a combination the state that follows from its members."""
        combination = self._probes[name]
        settings = combination.settings
        states = [
            None if (member := self._probes.get(each)) is None else member.state.is_up
            for each in settings.members
        ]
        up, unknown = states.count(True), states.count(None)
        is_up: bool | None = None
        if up >= settings.least:
            is_up = True
        elif up + unknown < settings.least:
            is_up = False
        combination.follow(is_up, f"{up} of {len(states)} up, {settings.least} needed", now)
        for output in combination.drain():
            self._emit(output, now)


def identity(settings: ProbeSettings) -> tuple[object, ...]:
    """Return what makes it another probe when it changes."""
    return (
        settings.kind,
        settings.target,
        settings.port,
        settings.source,
        settings.interface,
        settings.mark,
        settings.session,
        settings.is_inverted,
        settings.query,
        settings.query_type,
        settings.rcode,
        settings.answer,
    )
