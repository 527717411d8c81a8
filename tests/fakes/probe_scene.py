"""A probe instance in virtual time, with systems that answer as a test says."""

from __future__ import annotations

import dataclasses
import random

from routed.model.prefix import Address
from routed.model.probe import ProbeKind, ProbeReport, ProbeSettings, ProbeState
from routed.probe.instance import ProbeInstance
from routed.probe.outputs import BeginAttempt, EndAttempt, ProbeChanged

__all__ = ["TARGET", "ProbeScene", "probe_settings"]

TARGET = Address.parse("192.0.2.1")

Answer = float | str | None
"""Seconds until the answer comes; a text: why it is a failure; None: no answer."""


def probe_settings(name: str = "p", **changes: object) -> ProbeSettings:
    """An ICMP probe of TARGET each second, up after 2 and down after 3."""
    plain = ProbeSettings(
        name=name,
        kind=ProbeKind.ICMP,
        target=TARGET,
        port=0,
        source=None,
        interface="",
        mark=0,
        session="",
        interval_s=1.0,
        timeout_s=0.5,
        jitter_s=0.0,
        rise=2,
        fall=3,
        members=(),
        least=0,
        is_inverted=False,
        fails_on_error=True,
    )
    return dataclasses.replace(plain, **changes)  # type: ignore[arg-type]


class ProbeScene:
    """An instance, and what its attempts find."""

    def __init__(self, *probes: ProbeSettings, seed: int = 1) -> None:
        self.now = 100.0
        self.answers: dict[str, Answer] = {}
        """By probe; one that is absent answers after a millisecond."""
        self.errors: dict[str, str] = {}
        """By probe: why an attempt cannot be made."""
        self.began: list[tuple[float, str]] = []
        self.changes: list[tuple[float, str, ProbeState]] = []
        self.ended: list[str] = []
        self.instance = ProbeInstance(random.Random(seed))
        self._coming: list[tuple[float, str, int]] = []
        self.configure(*probes)

    def configure(self, *probes: ProbeSettings) -> None:
        """Give the instance other probes."""
        self.instance.configure(probes, self.now)
        self._drain()

    def observe(self, name: str, is_up: bool | None, reason: str = "") -> None:
        """Let a probe see something."""
        self.instance.observe(name, is_up, reason, self.now)
        self._drain()

    def report(self, name: str = "p") -> ProbeReport:
        """Describe a probe."""
        report = self.instance.report(name, self.now)
        assert report is not None
        return report

    def state(self, name: str = "p") -> ProbeState:
        """The state of a probe."""
        return self.report(name).state

    def run(self, seconds: float) -> None:
        """Let time pass."""
        end = self.now + seconds
        while True:
            timer = self.instance.next_timer()
            moments = [moment for moment, _, _ in self._coming] + ([] if timer is None else [timer])
            moment = min(moments, default=end)
            if moment > end:
                self.now = end
                return
            self.now = max(moment, self.now)
            for answer in [each for each in self._coming if each[0] <= self.now]:
                self._coming.remove(answer)
                self.instance.answered(answer[1], answer[2], self.now)
            self.instance.handle_timer(self.now)
            self._drain()
            if moment >= end:
                return

    def _drain(self) -> None:
        while outputs := self.instance.outputs():
            for output in outputs:
                match output:
                    case BeginAttempt(probe=name, number=number):
                        self._attempt(name, number)
                    case EndAttempt(probe=name):
                        self.ended.append(name)
                    case ProbeChanged(probe=name):
                        self.changes.append((self.now, name, self.state(name)))

    def _attempt(self, name: str, number: int) -> None:
        self.began.append((self.now, name))
        if name in self.errors:
            self.instance.broken(name, number, self.errors[name], self.now)
            return
        answer = self.answers.get(name, 0.001)
        if isinstance(answer, str):
            self.instance.failed(name, number, answer, self.now)
        elif answer is not None:
            self._coming.append((self.now + answer, name, number))
