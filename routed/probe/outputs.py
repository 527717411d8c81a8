"""The outputs of a probe instance: what its adapter is to do, in order."""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["BeginAttempt", "EndAttempt", "ProbeChanged", "ProbeOutput"]


class BeginAttempt(NamedTuple):
    """Send the request of a probe, or begin to connect."""

    probe: str
    number: int
    """Of the attempt; answers carry it."""


class EndAttempt(NamedTuple):
    """Give up what was begun for the last attempt of a probe: it has a result."""

    probe: str


class ProbeChanged(NamedTuple):
    """A probe came up, went down, or is unknown again."""

    probe: str


ProbeOutput = BeginAttempt | EndAttempt | ProbeChanged
