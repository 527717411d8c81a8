"""Messages of the liveness process: with the parent, and with the engine.

    parent                                liveness                              engine
      |  <-- HELLO ---------------------    |
      |  -- BFD_CONFIGURED ------------->   |
      |  -- BFD_SOCKET + descriptor ---->   |
      |  -- ENGINE_CHANNEL + descriptor ->  |  (LIVENESS_CHANNEL + descriptor --> engine)
      |                                     |  -- BFD_REPORTED ----------------->  |
      |  -- PING ----------------------->   |
      |  <-- PONG ----------------------    |
      |  -- STOP ----------------------->   |     sends AdminDown to the peers, and exits

Messages about probes are those of `routed.imsg.liveness_probes`.

The two channels have a table of their own: liveness cannot name a message of the engine, nor the
engine one of liveness. The engine sends nothing on its channel. A message from the wrong side, or
with or without a descriptor against the table, ends the process that sent it.

Numbers are never reused, and differ from those of `routed.imsg.authority`.
"""

from __future__ import annotations

import enum
from typing import Annotated, NamedTuple

from ipc.framing import IpcError
from ipc.lazy_dataclass import dataclass
from routed.imsg.liveness_probes import (
    ProbeObserved,
    ProbesConfigured,
    ProbeSocketFailed,
    ProbeSocketReady,
    ProbeSocketRequest,
    ProbesReported,
)
from routed.imsg.messages import EngineHello, Ping, Pong
from routed.model.bfd import BfdReport, BfdSettings, SessionName
from routed.model.bounds import Items, TextBytes
from routed.model.prefix import Family

__all__ = [
    "BFD_REPORTS_MAX",
    "LIVENESS_CLASSES",
    "LIVENESS_MESSAGES",
    "BfdConfigured",
    "BfdReported",
    "BfdSocketReady",
    "EngineChannelReady",
    "LivenessEnd",
    "LivenessMessage",
    "LivenessStop",
    "check_liveness_message",
]

BFD_REPORTS_MAX = 50
"""Most reports in one message."""


class LivenessMessage(enum.IntEnum):
    """Frame types of both channels of the liveness process."""

    HELLO = 100
    BFD_CONFIGURED = 101
    BFD_SOCKET = 102
    ENGINE_CHANNEL = 103
    PING = 104
    PONG = 105
    STOP = 106
    BFD_REPORTED = 110
    PROBES_CONFIGURED = 111
    PROBE_OBSERVED = 112
    PROBE_SOCKET = 113
    PROBE_SOCKET_FAILED = 114
    PROBE_SOCKET_REQUEST = 115
    PROBES_REPORTED = 116


@dataclass(frozen=True, slots=True)
class BfdConfigured:
    """All BFD sessions; others end. Takes effect with the message that does not continue."""

    sessions: Annotated[tuple[BfdSettings, ...], Items(200)]
    continues: bool = False
    """More sessions follow in the next message."""

    def halves(self) -> tuple[BfdConfigured, ...]:
        """Return equivalent shorter messages; none if it cannot be divided."""
        if len(self.sessions) < 2:
            return ()
        middle = len(self.sessions) // 2
        return (
            BfdConfigured(self.sessions[:middle], continues=True),
            BfdConfigured(self.sessions[middle:], self.continues),
        )


@dataclass(frozen=True, slots=True)
class BfdSocketReady:
    """A UDP socket; the message carries its descriptor. It replaces an earlier one."""

    session: SessionName
    """The session that sends through it; empty for a socket that receives for all sessions of a
    family and kind."""
    family: Family
    is_multihop: bool


@dataclass(frozen=True, slots=True)
class EngineChannelReady:
    """The channel to an engine; the message carries its descriptor. It replaces an earlier one."""


@dataclass(frozen=True, slots=True)
class LivenessStop:
    """Request to take all sessions down administratively, and to exit."""


@dataclass(frozen=True, slots=True)
class BfdReported:
    """The state of some sessions, to the engine."""

    reports: Annotated[tuple[BfdReport, ...], Items(BFD_REPORTS_MAX)]
    ended: Annotated[tuple[SessionName, ...], Items(BFD_REPORTS_MAX)]
    """Sessions that no longer exist: they are not configured, or their interface was removed."""
    dropped: Annotated[dict[Annotated[str, TextBytes(32)], int], Items(16)]
    """Packets dropped before their session was found, by the value of `BfdDrop`."""
    is_complete: bool
    """Whether every session has been reported on this channel."""


class LivenessEnd(enum.Enum):
    """The ends of the two channels."""

    PARENT = "parent"
    LIVENESS = "liveness"
    """On the channel to the parent."""
    REPORTER = "liveness, to the engine"


class _Rule(NamedTuple):
    sender: LivenessEnd
    message: type
    carries_descriptor: bool = False


LIVENESS_MESSAGES: dict[LivenessMessage, _Rule] = {
    LivenessMessage.HELLO: _Rule(LivenessEnd.LIVENESS, EngineHello),
    LivenessMessage.BFD_CONFIGURED: _Rule(LivenessEnd.PARENT, BfdConfigured),
    LivenessMessage.BFD_SOCKET: _Rule(LivenessEnd.PARENT, BfdSocketReady, True),
    LivenessMessage.ENGINE_CHANNEL: _Rule(LivenessEnd.PARENT, EngineChannelReady, True),
    LivenessMessage.PING: _Rule(LivenessEnd.PARENT, Ping),
    LivenessMessage.PONG: _Rule(LivenessEnd.LIVENESS, Pong),
    LivenessMessage.STOP: _Rule(LivenessEnd.PARENT, LivenessStop),
    LivenessMessage.BFD_REPORTED: _Rule(LivenessEnd.REPORTER, BfdReported),
    LivenessMessage.PROBES_CONFIGURED: _Rule(LivenessEnd.PARENT, ProbesConfigured),
    LivenessMessage.PROBE_OBSERVED: _Rule(LivenessEnd.PARENT, ProbeObserved),
    LivenessMessage.PROBE_SOCKET: _Rule(LivenessEnd.PARENT, ProbeSocketReady, True),
    LivenessMessage.PROBE_SOCKET_FAILED: _Rule(LivenessEnd.PARENT, ProbeSocketFailed),
    LivenessMessage.PROBE_SOCKET_REQUEST: _Rule(LivenessEnd.LIVENESS, ProbeSocketRequest),
    LivenessMessage.PROBES_REPORTED: _Rule(LivenessEnd.REPORTER, ProbesReported),
}

LIVENESS_CLASSES: dict[type, int] = {
    rule.message: number for number, rule in LIVENESS_MESSAGES.items()
}
"""The frame type of each message class."""


def check_liveness_message(type_number: int, sender: LivenessEnd, *, has_descriptor: bool) -> type:
    """Check a message against the table before its body is decoded.

    Args:
        type_number: the frame's type, as received.
        sender: the end that the frame came from.
        has_descriptor: whether a descriptor was received with the frame.

    Returns:
        The class to decode the body as.

    Raises:
        IpcError: unknown type, wrong sender, unexpected or missing descriptor.
    """
    try:
        message_type = LivenessMessage(type_number)
    except ValueError:
        raise IpcError(f"message type {type_number} does not exist") from None
    rule = LIVENESS_MESSAGES[message_type]
    if rule.sender is not sender:
        raise IpcError(f"{message_type.name} is not for the {sender.value} to send")
    if rule.carries_descriptor is not has_descriptor:
        word = "lacks its" if rule.carries_descriptor else "carries a"
        raise IpcError(f"{message_type.name} {word} descriptor")
    return rule.message
