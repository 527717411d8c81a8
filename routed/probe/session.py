"""One probe: its attempts, their results, and the state that follows from them. Pure.

    now ----handle_timer--> begin an attempt; an attempt without an answer in time fails
    answer ---answered----> success, with its round-trip time
    refusal --failed------> failure
    no socket --broken----> failure or nothing, as `fails_on_error` says

At most one attempt is outstanding, because the timeout is not longer than the interval. While the
state is unknown the next attempt follows a result within FIRST_PAUSE_S, so that the state is known
soon after a start. A combination has no attempts: `follow` gives it its state.

Invariants:
    An answer of another attempt than the outstanding one changes nothing.
    `in_a_row` counts results of one kind; attempts that are ignored do not end a row.
"""

from __future__ import annotations

import math
import random
from collections import deque

from routed.model.probe import (
    HISTORY_MAX,
    NO_ANSWER,
    ProbeReport,
    ProbeSettings,
    ProbeState,
    pack_history,
)
from routed.probe.outputs import BeginAttempt, EndAttempt, ProbeChanged, ProbeOutput
from routed.probe.quality import Quality
from routed.probe.transitions import TRANSITIONS, ProbeEvent

__all__ = ["FIRST_PAUSE_S", "START_SPREAD_S", "ProbeSession"]

FIRST_PAUSE_S = 0.05
"""Longest pause between two attempts while the state is unknown."""
START_SPREAD_S = 0.2
"""Time over which the first attempts of all probes are spread."""

_NEVER = math.inf


class ProbeSession:
    """Owns the state of one probe."""

    def __init__(self, settings: ProbeSettings, rng: random.Random, now: float) -> None:
        """Begin in the state UNKNOWN.

        Args:
            settings: what the probe is to do.
            rng: for jitter and the first number of an attempt.
            now: seconds, monotonic.
        """
        self.settings = settings
        self.state = ProbeState.UNKNOWN
        self.scheduled_at = _NEVER
        """When the instance will call `handle_timer`; the instance's."""
        self._rng = rng
        self._attempt = rng.getrandbits(31)
        self._began_at: float | None = None
        """When the outstanding attempt began; None without one."""
        self._next_attempt = _NEVER if settings.kind.is_combination else now + self._spread_s()
        self._last_is_success: bool | None = None
        self._in_a_row = 0
        self._changed_at = now
        self._change_reason = self._last_reason = ""
        self._hint = ""
        """What an unauthenticated sender reports about the outstanding attempt: only shown."""
        self._attempts = self._failures = self._errors = 0
        self._times_up = self._times_down = 0
        self._history: deque[int] = deque(maxlen=HISTORY_MAX)
        self._quality = Quality()
        self._outputs: list[ProbeOutput] = []

    # --- inputs

    def handle_timer(self, now: float) -> None:
        """Do what is due: the timeout of an attempt before the next one."""
        if self._began_at is not None and now >= self._began_at + self.settings.timeout_s:
            reason = f"no answer within {_time_text(self.settings.timeout_s)}"
            self._finish(now, is_success=False, reason=self._hint or reason)
        if now >= self._next_attempt:
            self._began_at = now
            self._attempt = (self._attempt + 1) & 0x7FFF_FFFF
            self._next_attempt = now + self._interval_s()
            self._hint = ""
            self._outputs.append(BeginAttempt(self.settings.name, self._attempt))

    def answered(self, number: int, now: float) -> None:
        """Handle the answer to an attempt."""
        if self._is_outstanding(number):
            assert self._began_at is not None  # an attempt is outstanding
            rtt_us = max(round((now - self._began_at) * 1e6), 0)
            self._finish(now, is_success=True, rtt_us=rtt_us)

    def failed(self, number: int, reason: str, now: float) -> None:
        """Handle an answer that is a failure."""
        if self._is_outstanding(number):
            self._finish(now, is_success=False, reason=reason)

    def broken(self, number: int, problem: str, now: float) -> None:
        """Handle an attempt that could not be made."""
        if not self._is_outstanding(number):
            return
        self._errors += 1
        if self.settings.fails_on_error:
            # Not inverted: what could not be measured is no success.
            self._record(now, is_success=False, reason=problem)
        else:
            self._attempts += 1
            self._last_reason = problem
            self._end_attempt(now)

    def hint(self, reason: str) -> None:
        """Record why an answer may not come, from a sender that is not authenticated."""
        if self._began_at is not None:
            self._hint = reason

    def follow(self, is_up: bool | None, reason: str, now: float) -> None:
        """Give a combination the state that follows from its members."""
        if is_up is None:
            self._fire(ProbeEvent.FORGOTTEN, reason, now)
            return
        is_up = is_up is not self.settings.is_inverted
        self._last_reason = "" if is_up else reason
        self._fire(ProbeEvent.RISEN if is_up else ProbeEvent.FALLEN, reason, now)

    def hasten(self, now: float) -> None:
        """Make the next attempt at once: what it looks at has changed."""
        if self._began_at is None:
            self._next_attempt = min(self._next_attempt, now)

    def reconfigure(self, settings: ProbeSettings, now: float) -> None:
        """Apply other times, counts or members, without forgetting the state.

        Args:
            settings: with the same kind, target and sockets as before.
            now: seconds, monotonic.
        """
        self.settings = settings
        if not settings.kind.is_combination:
            self._next_attempt = min(self._next_attempt, now + settings.interval_s)

    def next_timer(self) -> float:
        """Return when `handle_timer` is to be called; infinite if never."""
        if self._began_at is None:
            return self._next_attempt
        return min(self._next_attempt, self._began_at + self.settings.timeout_s)

    def drain(self) -> list[ProbeOutput]:
        """Take the outputs so far."""
        outputs, self._outputs = self._outputs, []
        return outputs

    @property
    def attempt(self) -> int | None:
        """The number of the outstanding attempt; None without one."""
        return None if self._began_at is None else self._attempt

    # --- results

    def _is_outstanding(self, number: int) -> bool:
        return self._began_at is not None and number == self._attempt

    def _finish(self, now: float, *, is_success: bool, reason: str = "", rtt_us: int = 0) -> None:
        result = rtt_us if is_success else NO_ANSWER
        problem = self._quality.add(result, self.settings)
        if is_success and problem:
            is_success, reason = False, problem
        if self.settings.is_inverted:
            is_success, reason = not is_success, "it succeeded, and `invert` is set"
        self._record(now, is_success=is_success, reason=reason, result=result)

    def _record(
        self, now: float, *, is_success: bool, reason: str, result: int = NO_ANSWER
    ) -> None:
        settings = self.settings
        self._attempts += 1
        self._failures += not is_success
        self._history.append(result)
        self._in_a_row = self._in_a_row + 1 if is_success is self._last_is_success else 1
        self._last_is_success = is_success
        self._last_reason = "" if is_success else reason
        if is_success:
            has_all = self._in_a_row >= settings.rise
            event = ProbeEvent.RISEN if has_all else ProbeEvent.PASSED
            text = f"{settings.rise} of {settings.rise} succeeded"
        else:
            has_all = self._in_a_row >= settings.fall
            event = ProbeEvent.FALLEN if has_all else ProbeEvent.FAILED
            text = f"{settings.fall} of {settings.fall} failed: {reason}"
        self._fire(event, text, now)
        self._end_attempt(now)

    def _end_attempt(self, now: float) -> None:
        self._began_at = None
        self._outputs.append(EndAttempt(self.settings.name))
        if self.state is ProbeState.UNKNOWN:
            self._next_attempt = min(self._next_attempt, now + FIRST_PAUSE_S)

    def _fire(self, event: ProbeEvent, reason: str, now: float) -> None:
        before, self.state = self.state, TRANSITIONS[self.state, event]
        if self.state.is_up is before.is_up:
            return
        self._changed_at, self._change_reason = now, reason
        self._times_up += self.state.is_up is True
        self._times_down += self.state.is_up is False
        self._outputs.append(ProbeChanged(self.settings.name))

    def _spread_s(self) -> float:
        return self._rng.uniform(0, min(START_SPREAD_S, self.settings.interval_s))

    def _interval_s(self) -> float:
        settings = self.settings
        return settings.interval_s - self._rng.uniform(0, settings.jitter_s)

    # --- for display

    def report(self, now: float) -> ProbeReport:
        """Describe the probe."""
        return ProbeReport(
            name=self.settings.name,
            state=self.state,
            age_s=now - self._changed_at,
            change_reason=self._change_reason,
            last_reason=self._last_reason,
            in_a_row=self._in_a_row,
            attempts=self._attempts,
            failures=self._failures,
            errors=self._errors,
            times_up=self._times_up,
            times_down=self._times_down,
            history=pack_history(self._history),
        )


def _time_text(seconds: float) -> str:
    return f"{seconds:g} s" if seconds >= 1 else f"{seconds * 1000:g} ms"
