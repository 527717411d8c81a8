"""BFD sessions as values: what a session is to do, and what is reported of it.

The parent sends settings to the liveness process, which sends reports to the engine
(`routed.imsg.liveness`). Names and numbers are those of RFC 5880, section 4.1.
"""

from __future__ import annotations

import enum
from typing import Annotated

from ipc.lazy_dataclass import dataclass, field
from routed.model.bounds import Items, TextBytes
from routed.model.prefix import Address

__all__ = [
    "BFD_SESSIONS_MAX",
    "BfdAuthType",
    "BfdDiagnostic",
    "BfdDrop",
    "BfdKey",
    "BfdReport",
    "BfdSettings",
    "BfdState",
    "SessionName",
]

BFD_SESSIONS_MAX = 1000
"""Most configured sessions."""

SessionName = Annotated[str, TextBytes(64)]


class BfdState(enum.IntEnum):
    """The state of a session (Sta)."""

    ADMIN_DOWN = 0
    DOWN = 1
    INIT = 2
    UP = 3

    @property
    def label(self) -> str:
        """The word that users see."""
        return self.name.lower()


class BfdDiagnostic(enum.IntEnum):
    """The reason for the last change to another state (Diag)."""

    NONE = 0
    DETECTION_TIME_EXPIRED = 1
    ECHO_FAILED = 2
    NEIGHBOR_SIGNALED_DOWN = 3
    FORWARDING_PLANE_RESET = 4
    PATH_DOWN = 5
    CONCATENATED_PATH_DOWN = 6
    ADMINISTRATIVELY_DOWN = 7
    REVERSE_CONCATENATED_PATH_DOWN = 8

    @property
    def label(self) -> str:
        """The word that users see."""
        return self.name.lower()


class BfdAuthType(enum.IntEnum):
    """The type of an authentication section (Auth Type). 2 and 3 are MD5, which is refused."""

    SIMPLE_PASSWORD = 1
    KEYED_SHA1 = 4
    METICULOUS_KEYED_SHA1 = 5


class BfdDrop(enum.Enum):
    """Why a received packet was dropped."""

    LENGTH = "length"
    """Shorter than its header says, or than a header."""
    VERSION = "version"
    MULTIPLIER = "multiplier"
    """Detect Mult is 0."""
    MULTIPOINT = "multipoint"
    MY_DISCRIMINATOR = "my_discriminator"
    """It is 0."""
    YOUR_DISCRIMINATOR = "your_discriminator"
    """No session has it, or it is 0 in a state in which it must be known."""
    NO_SESSION = "no_session"
    """No session is configured for the sender."""
    SOURCE = "source"
    """The discriminator belongs to a session with another system."""
    SOURCE_PORT = "source_port"
    """The session is up, and the packet neither names its discriminator nor comes from the port
    that the other system sends from."""
    HOP_LIMIT = "hop_limit"
    """Not 255 on a single hop (RFC 5881, section 5)."""
    AUTHENTICATION = "authentication"
    """Missing, unexpected, of another type or key, or wrong."""
    SEQUENCE = "sequence"
    """A replay, by the rules of RFC 5880, section 6.7."""
    FLAPPING = "flapping"
    """The packet would take the session up, which has come up too often."""


@dataclass(frozen=True, slots=True)
class BfdKey:
    """How the packets of a session are authenticated."""

    type: BfdAuthType
    id: int
    """0 to 255."""
    secret: Annotated[bytes, TextBytes(20)] = field(repr=False)


@dataclass(frozen=True, slots=True)
class BfdSettings:
    """What a session is to do."""

    name: SessionName
    peer: Address
    source: Address | None
    """Address of this system; None: any."""
    ifindex: int
    """The link of the session; 0: any."""
    is_multihop: bool
    is_passive: bool
    """Whether to send nothing before the other system does."""
    transmit_us: int
    """Desired Min TX Interval while up, in microseconds."""
    receive_us: int
    """Required Min RX Interval, in microseconds."""
    multiplier: int
    """Detect Mult, 1 to 255."""
    key: BfdKey | None = None


@dataclass(frozen=True, slots=True)
class BfdReport:
    """The state of a session. Intervals are in microseconds, ages in seconds."""

    name: SessionName
    state: BfdState
    diagnostic: BfdDiagnostic
    local_discriminator: int
    remote_state: BfdState
    remote_diagnostic: BfdDiagnostic
    remote_discriminator: int
    """0 while it is unknown."""
    has_been_up: bool
    """Whether this process has seen the session up."""
    transmit_interval_us: int
    """The interval at which this system sends, before jitter; 0: it does not send."""
    detection_time_us: int
    """0 while nothing was received."""
    remote_transmit_us: int
    remote_receive_us: int
    remote_multiplier: int
    is_remote_demand: bool
    is_polling: bool
    age_s: float
    """Since the last change of the state."""
    packets_sent: int
    packets_received: int
    times_up: int
    times_down: int
    send_errors: int
    dropped: Annotated[dict[Annotated[str, TextBytes(32)], int], Items(16)]
    """Packets dropped after the session was found, by the value of `BfdDrop`."""
