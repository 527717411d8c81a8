"""Probes as values: what a probe is to do, and what is reported of it.

The parent sends settings to the liveness process, which sends reports to the engine
(`routed.imsg.liveness_probes`).
"""

from __future__ import annotations

import array
import enum
from collections.abc import Iterable
from typing import Annotated

from ipc.lazy_dataclass import dataclass
from routed.model.bounds import Items, TextBytes
from routed.model.prefix import Address

__all__ = [
    "HISTORY_MAX",
    "MEMBERS_MAX",
    "NO_ANSWER",
    "PROBES_MAX",
    "RCODES",
    "ProbeKind",
    "ProbeName",
    "ProbeReport",
    "ProbeSettings",
    "ProbeState",
    "RecordType",
    "pack_history",
    "unpack_history",
]

PROBES_MAX = 1000
"""Most configured probes."""

HISTORY_MAX = 60
"""Most results of a probe that are kept for display."""

MEMBERS_MAX = 64
"""Most members of a combination."""

NO_ANSWER = -1
"""A failed attempt in a history, in place of a round-trip time."""

RCODES = ("noerror", "formerr", "servfail", "nxdomain", "notimp", "refused")
"""The response codes of DNS that a probe can expect, by number."""

ProbeName = Annotated[str, TextBytes(64)]
_Reason = Annotated[str, TextBytes(200)]


class ProbeKind(enum.Enum):
    """What a probe does."""

    ICMP = "icmp"
    """An ICMP or ICMPv6 echo request, and its reply."""
    TCP = "tcp"
    """A TCP connection that is opened, and closed at once."""
    DNS = "dns"
    """A DNS query over UDP, and the answer that is expected."""
    CARRIER = "carrier"
    """The carrier of an interface."""
    BFD = "bfd"
    """The state of a BFD session."""
    ALL = "all"
    """Every one of other probes is up."""
    ANY = "any"
    """At least one of other probes is up."""
    AT_LEAST = "at-least"
    """A number of other probes is up."""

    @property
    def is_combination(self) -> bool:
        """Whether its state follows from other probes, without attempts of its own."""
        return self in (ProbeKind.ALL, ProbeKind.ANY, ProbeKind.AT_LEAST)

    @property
    def has_target(self) -> bool:
        """Whether it sends packets to an address."""
        return self in (ProbeKind.ICMP, ProbeKind.TCP, ProbeKind.DNS)


class RecordType(enum.Enum):
    """The types of records that a DNS probe can query."""

    A = "a"
    NS = "ns"
    SOA = "soa"
    TXT = "txt"
    AAAA = "aaaa"


class ProbeState(enum.IntEnum):
    """The state of a probe."""

    UNKNOWN = 0
    """Neither `rise` successes nor `fall` failures in a row so far."""
    DOWN = 1
    RISING = 2
    """Down, and the last attempts succeeded."""
    UP = 3
    FALLING = 4
    """Up, and the last attempts failed."""

    @property
    def label(self) -> str:
        """The word that users see."""
        return self.name.lower()

    @property
    def is_up(self) -> bool | None:
        """Whether it counts as up; None while it is unknown."""
        if self is ProbeState.UNKNOWN:
            return None
        return self in (ProbeState.UP, ProbeState.FALLING)


@dataclass(frozen=True, slots=True)
class ProbeSettings:
    """What a probe is to do. Times are in seconds."""

    name: ProbeName
    kind: ProbeKind
    target: Address | None
    """None for a kind that sends nothing."""
    port: int
    """0 for a kind without ports."""
    source: Address | None
    """Address of this system; None: the kernel's choice."""
    interface: Annotated[str, TextBytes(15)]
    """Name of the link of its packets, or whose carrier counts; empty: any."""
    mark: int
    """Firewall mark of its packets; 0: none."""
    session: ProbeName
    """The BFD session that counts; empty for other kinds."""
    interval_s: float
    timeout_s: float
    """At most `interval_s`."""
    jitter_s: float
    """An interval is shortened by up to this time at random; less than `interval_s`."""
    rise: int
    """Successes in a row that take it up."""
    fall: int
    """Failures in a row that take it down."""
    members: Annotated[tuple[ProbeName, ...], Items(MEMBERS_MAX)]
    """The probes that a combination follows."""
    least: int
    """How many of them must be up."""
    is_inverted: bool
    """Whether a success counts as a failure, and the reverse."""
    fails_on_error: bool
    """Whether an attempt that could not be made counts as a failure, or not at all."""
    rtt_max_s: float = 0.0
    """Limit of the mean round-trip time of the window; 0: none."""
    loss_max: int = 100
    """Limit of the loss in the window, in percent; 100: none."""
    window: int = 20
    """Attempts over which both are calculated, 1 to HISTORY_MAX."""
    query: Annotated[str, TextBytes(255)] = ""
    """The domain name that a DNS probe queries."""
    query_type: RecordType = RecordType.A
    rcode: int = 0
    """The response code that it expects."""
    answer: Address | None = None
    """The address that its answer must have; None: any."""


@dataclass(frozen=True, slots=True)
class ProbeReport:
    """The state of a probe. Ages are in seconds."""

    name: ProbeName
    state: ProbeState
    age_s: float
    """Since it came up or went down, or since it exists."""
    change_reason: _Reason
    """Why it came up or went down last; empty before the first time."""
    last_reason: _Reason
    """Why the last attempt failed; empty if it succeeded."""
    in_a_row: int
    """How many of the last attempts had the same result."""
    attempts: int
    failures: int
    errors: int
    """Attempts that could not be made."""
    times_up: int
    times_down: int
    history: Annotated[bytes, TextBytes(4 * HISTORY_MAX)]
    """The last results, oldest first (`pack_history`)."""


def pack_history(results: Iterable[int]) -> bytes:
    """Encode results: round-trip times in microseconds, or NO_ANSWER."""
    return array.array("i", results).tobytes()


def unpack_history(packed: bytes) -> list[int]:
    """Decode what `pack_history` made; a part of a result at the end is left out."""
    results = array.array("i")
    results.frombytes(packed[: len(packed) // results.itemsize * results.itemsize])
    return results.tolist()
