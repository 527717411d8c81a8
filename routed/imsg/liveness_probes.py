"""Messages about probes, on the channels of the liveness process (`routed.imsg.liveness`).

parent                                liveness                              engine
  |  -- PROBES_CONFIGURED ---------->   |
  |  -- PROBE_OBSERVED ------------->   |  the carrier of an interface
  |  -- PROBE_SOCKET + descriptor -->   |  for all attempts of an ICMP probe
  |                                     |
  |  <-- PROBE_SOCKET_REQUEST -------   |  an attempt of a TCP or DNS probe begins
  |  -- PROBE_SOCKET + descriptor -->   |  connecting to the target of the probe
  |  -- PROBE_SOCKET_FAILED -------->   |  or the reason why there is none
  |                                     |  -- PROBES_REPORTED ------------->  |
"""

from __future__ import annotations

from typing import Annotated

from ipc.lazy_dataclass import dataclass
from routed.model.bounds import Items, TextBytes
from routed.model.probe import ProbeName, ProbeReport, ProbeSettings

__all__ = [
    "PROBE_REPORTS_MAX",
    "ProbeObserved",
    "ProbeSocketFailed",
    "ProbeSocketReady",
    "ProbeSocketRequest",
    "ProbesConfigured",
    "ProbesReported",
]

PROBE_REPORTS_MAX = 50
"""Most reports in one message."""


@dataclass(frozen=True, slots=True)
class ProbesConfigured:
    """All probes; others end. Takes effect with the message that does not continue."""

    probes: Annotated[tuple[ProbeSettings, ...], Items(10)]
    continues: bool = False
    """More probes follow in the next message."""

    def halves(self) -> tuple[ProbesConfigured, ...]:
        """Return equivalent shorter messages; none if it cannot be divided."""
        if len(self.probes) < 2:
            return ()
        middle = len(self.probes) // 2
        return (
            ProbesConfigured(self.probes[:middle], continues=True),
            ProbesConfigured(self.probes[middle:], self.continues),
        )


@dataclass(frozen=True, slots=True)
class ProbeObserved:
    """The carrier of the interface of a probe."""

    probe: ProbeName
    is_up: bool | None
    """None: the interface does not exist."""
    reason: Annotated[str, TextBytes(100)]
    """Why it is not up; else empty."""


@dataclass(frozen=True, slots=True)
class ProbeSocketReady:
    """A socket of a probe; the message carries its descriptor. It replaces an earlier one."""

    probe: ProbeName
    number: int
    """Of the attempt that it is for; 0: of all attempts."""
    identifier: int
    """ICMP: the identifier of requests and replies."""
    has_ip_header: bool
    """ICMP: whether received packets begin with an IPv4 header."""


@dataclass(frozen=True, slots=True)
class ProbeSocketFailed:
    """There is no socket for a probe."""

    probe: ProbeName
    number: int
    """Of the attempt that it was for; 0: of all attempts."""
    problem: Annotated[str, TextBytes(100)]
    is_refusal: bool = False
    """Whether the target refused a connection at once, which is a result; else none was begun."""


@dataclass(frozen=True, slots=True)
class ProbeSocketRequest:
    """Request for a socket that connects to the target of a probe. The answer is
    `ProbeSocketReady` or `ProbeSocketFailed`."""

    probe: ProbeName
    number: int


@dataclass(frozen=True, slots=True)
class ProbesReported:
    """The state of some probes, to the engine."""

    reports: Annotated[tuple[ProbeReport, ...], Items(PROBE_REPORTS_MAX)]
    ended: Annotated[tuple[ProbeName, ...], Items(PROBE_REPORTS_MAX)]
    """Probes that no longer exist."""
    is_complete: bool
    """Whether every probe has been reported on this channel."""
