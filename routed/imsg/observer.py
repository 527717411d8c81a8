"""Messages of the observer: with the parent, and with the engine.

    parent                                observer                              engine
      |  <-- HELLO ---------------------    |
      |  -- OBSERVER_ARRAY + descriptor ->  |      memory, once for each observer
      |  -- OBSERVER_CONFIGURED -------->   |
      |  -- COLLECTOR_SOCKET + descriptor > |      one for each collector
      |  -- ENGINE_CHANNEL + descriptor ->  |  (OBSERVER_CHANNEL + descriptor --> engine)
      |                                     |  <-- SNAPSHOT + descriptor -------   |
      |                                     |  <-- FLOWS_ASKED -----------------   |
      |                                     |  -- FLOWS_ANSWERED -------------->   |
      |                                     |  -- FLOWS_COUNTED --------------->   |  once a second
      |                                     |  -- COLLECTORS_REPORTED --------->   |  once a second
      |  -- PING ----------------------->   |
      |  <-- PONG ----------------------    |
      |  -- STOP ----------------------->   |

The two channels have a table of their own. The observer receives memory and no program, and no
message of it reaches the parent but HELLO and PONG. A message from the wrong side, or with or
without a descriptor against the table, ends the process that sent it.

Numbers are never reused, and differ from those of `routed.imsg.authority` and of
`routed.imsg.liveness`.
"""

from __future__ import annotations

import enum
from typing import Annotated, NamedTuple

from ipc.framing import IpcError
from ipc.lazy_dataclass import dataclass
from routed.imsg.dataplane import DataplaneArrayReady
from routed.imsg.messages import EngineHello, Ping, Pong
from routed.model.bounds import Items, TextBytes
from routed.model.prefix import Address

__all__ = [
    "COLLECTORS_MAX",
    "FLOW_ROWS_MAX",
    "OBSERVER_CLASSES",
    "OBSERVER_MESSAGES",
    "Collector",
    "CollectorReport",
    "CollectorSocketReady",
    "CollectorsReported",
    "FlowRow",
    "FlowTableKind",
    "FlowsAnswered",
    "FlowsAsked",
    "FlowsCounted",
    "ObserverConfigured",
    "ObserverEnd",
    "ObserverEngineReady",
    "ObserverMessage",
    "ObserverStop",
    "SnapshotReady",
    "check_observer_message",
]

COLLECTORS_MAX = 16
FLOW_ROWS_MAX = 1000
"""Most rows of one answer."""


class ObserverMessage(enum.IntEnum):
    """Frame types of both channels of the observer."""

    HELLO = 120
    OBSERVER_ARRAY = 121
    OBSERVER_CONFIGURED = 122
    ENGINE_CHANNEL = 123
    PING = 124
    PONG = 125
    STOP = 126
    COLLECTOR_SOCKET = 127
    FLOWS_ASKED = 130
    FLOWS_ANSWERED = 131
    FLOWS_COUNTED = 132
    COLLECTORS_REPORTED = 133
    SNAPSHOT = 134


CollectorName = Annotated[str, TextBytes(64)]
"""Address and port, such as `192.0.2.9:4739`."""


@dataclass(frozen=True, slots=True)
class Collector:
    """A collector of IPFIX."""

    to: CollectorName
    domain: int


@dataclass(frozen=True, slots=True)
class CollectorSocketReady:
    """A connected UDP socket; the message carries its descriptor. It replaces an earlier one."""

    to: CollectorName


@dataclass(frozen=True, slots=True)
class CollectorReport:
    """What a collector was sent."""

    to: CollectorName
    domain: int
    has_socket: bool
    messages: int
    records: int
    bytes: int
    lost_records: int
    """Of messages that could not be sent."""
    problem: Annotated[str, TextBytes(100)]
    """Of the last message that could not be sent; empty if none since."""


@dataclass(frozen=True, slots=True)
class CollectorsReported:
    """All collectors."""

    collectors: Annotated[tuple[CollectorReport, ...], Items(COLLECTORS_MAX)]


@dataclass(frozen=True, slots=True)
class SnapshotReady:
    """The engine's forwarding table; the message carries its descriptor. It replaces an earlier
    one."""

    size_bytes: int


@dataclass(frozen=True, slots=True)
class ObserverConfigured:
    """The settings of the observer, in place of earlier ones."""

    idle_ns: int
    active_ns: int
    """As in `routed.dataplane.flows.Timeouts`."""
    collectors: Annotated[tuple[Collector, ...], Items(COLLECTORS_MAX)]
    """All of them; others are not sent anything any more."""


@dataclass(frozen=True, slots=True)
class ObserverEngineReady:
    """The channel to an engine; the message carries its descriptor. It replaces an earlier one."""


@dataclass(frozen=True, slots=True)
class ObserverStop:
    """Request to exit."""


class FlowTableKind(enum.Enum):
    """What the flows are added up by."""

    FLOWS = "flows"
    HOSTS = "hosts"
    PORTS = "ports"


@dataclass(frozen=True, slots=True)
class FlowsAsked:
    """A client's request for the flows of the present; the answer repeats the request id."""

    table: FlowTableKind
    top: int
    """Most rows, 1 to FLOW_ROWS_MAX."""
    by_packets: bool


@dataclass(frozen=True, slots=True)
class FlowRow:
    """One flow, or all flows of one host or port; what does not apply is None or 0."""

    source: Address | None
    destination: Address | None
    """Of a flow. A host is the source here."""
    source_port: int
    destination_port: int
    """Of a flow. A port is the destination's here."""
    protocol: int
    received_ifindex: int
    sent_ifindex: int
    packets: int
    bytes: int
    """Of a host: sent by it."""
    received_packets: int
    received_bytes: int
    """Of a host: sent to it. Of a port: from it."""
    flows: int
    """Added up in this row."""
    age_ms: int
    """Since the first packet."""
    idle_ms: int
    """Since the last packet."""
    tcp_flags: int


@dataclass(frozen=True, slots=True)
class FlowsAnswered:
    """Rows in order, those with the most bytes or packets first."""

    rows: Annotated[tuple[FlowRow, ...], Items(200)]
    continues: bool = False

    def halves(self) -> tuple[FlowsAnswered, ...]:
        """Return two messages with half of the rows each; none for one row."""
        middle = len(self.rows) // 2
        if not middle:
            return ()
        return (
            FlowsAnswered(self.rows[:middle], True),
            FlowsAnswered(self.rows[middle:], self.continues),
        )


@dataclass(frozen=True, slots=True)
class FlowsCounted:
    """The observer's counters, for metrics."""

    active: int
    begun: int
    ended: int
    """Flows that were reported."""
    lost_flows: int
    lost_packets: int


class ObserverEnd(enum.Enum):
    """The ends of the two channels."""

    PARENT = "parent"
    OBSERVER = "observer"
    """On the channel to the parent."""
    ENGINE = "engine"
    REPORTER = "observer, to the engine"


class _Rule(NamedTuple):
    sender: ObserverEnd
    message: type
    carries_descriptor: bool = False


OBSERVER_MESSAGES: dict[ObserverMessage, _Rule] = {
    ObserverMessage.HELLO: _Rule(ObserverEnd.OBSERVER, EngineHello),
    ObserverMessage.OBSERVER_ARRAY: _Rule(ObserverEnd.PARENT, DataplaneArrayReady, True),
    ObserverMessage.OBSERVER_CONFIGURED: _Rule(ObserverEnd.PARENT, ObserverConfigured),
    ObserverMessage.ENGINE_CHANNEL: _Rule(ObserverEnd.PARENT, ObserverEngineReady, True),
    ObserverMessage.PING: _Rule(ObserverEnd.PARENT, Ping),
    ObserverMessage.PONG: _Rule(ObserverEnd.OBSERVER, Pong),
    ObserverMessage.STOP: _Rule(ObserverEnd.PARENT, ObserverStop),
    ObserverMessage.COLLECTOR_SOCKET: _Rule(ObserverEnd.PARENT, CollectorSocketReady, True),
    ObserverMessage.SNAPSHOT: _Rule(ObserverEnd.ENGINE, SnapshotReady, True),
    ObserverMessage.COLLECTORS_REPORTED: _Rule(ObserverEnd.REPORTER, CollectorsReported),
    ObserverMessage.FLOWS_ASKED: _Rule(ObserverEnd.ENGINE, FlowsAsked),
    ObserverMessage.FLOWS_ANSWERED: _Rule(ObserverEnd.REPORTER, FlowsAnswered),
    ObserverMessage.FLOWS_COUNTED: _Rule(ObserverEnd.REPORTER, FlowsCounted),
}

OBSERVER_CLASSES: dict[type, int] = {
    rule.message: number for number, rule in OBSERVER_MESSAGES.items()
}
"""The frame type of each message class."""


def check_observer_message(type_number: int, sender: ObserverEnd, *, has_descriptor: bool) -> type:
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
        rule = OBSERVER_MESSAGES[ObserverMessage(type_number)]
    except ValueError:
        raise IpcError(f"message type {type_number} does not exist") from None
    name = ObserverMessage(type_number).name
    if rule.sender is not sender:
        raise IpcError(f"{name} is not for the {sender.value} to send")
    if rule.carries_descriptor is not has_descriptor:
        word = "lacks its" if rule.carries_descriptor else "carries a"
        raise IpcError(f"{name} {word} descriptor")
    return rule.message
