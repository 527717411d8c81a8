"""The inputs and outputs of NUP: every noun, frozen.

Inputs are method calls on `NeighborInstance` that carry `LinkSettings`; outputs are drained as a
list. The rows at the end are what `show` reads.

A `TraceCode` is the reason why a message was dropped or refused, or an event worth a line in the
log. Each is counted (`NeighborInstance.counters`), so that every datagram without effect can be
accounted for.
"""

from __future__ import annotations

import enum
from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol, TypeAlias

from ipc.lazy_dataclass import dataclass
from routed.model.prefix import Address, Family, Prefix
from routed.model.route import NextHop

__all__ = [
    "AdjacencyChanged",
    "AdjacencyReason",
    "AdjacencyState",
    "Datagram",
    "InputRecorder",
    "LearnedPath",
    "LearnedRow",
    "NeighborRow",
    "Output",
    "RouteHeld",
    "RouteLost",
    "RoutesLearned",
    "SendDatagram",
    "Trace",
    "TraceCode",
]


class Datagram(NamedTuple):
    """A datagram received on a link."""

    data: bytes
    """The UDP payload."""
    source: Address
    ifindex: int
    """The link it arrived on, as the kernel says."""
    hop_limit: int | None
    """Hop limit or TTL on arrival; None (unknown) is refused, because Linux does not enforce a
    minimum for UDP."""


class AdjacencyState(enum.Enum):
    """The state of the adjacency with one neighbor; see `adjacency.TRANSITIONS`."""

    DOWN = "down"
    INIT = "init"
    TWO_WAY = "two_way"
    LOADING = "loading"
    UP = "up"

    @property
    def exchanges_routes(self) -> bool:
        """Whether DATA flows, both ways."""
        return self in (AdjacencyState.LOADING, AdjacencyState.UP)


class AdjacencyReason(enum.Enum):
    """The reason of a change of an adjacency's state."""

    HEARD = "heard"
    HEARD_BOTH_WAYS = "heard both ways"
    TABLES_BEGUN = "exchanging tables"
    TABLES_EXCHANGED = "tables exchanged"
    ONE_WAY = "the neighbor no longer hears us"
    NEIGHBOR_RESET = "the neighbor started the adjacency afresh"
    NEIGHBOR_RESTARTED = "the neighbor restarted"
    RESTART_ANNOUNCED = "the neighbor announced a restart"
    GOODBYE = "the neighbor said goodbye"
    DEAD_INTERVAL = "silent for its dead interval"
    UNACKNOWLEDGED = "data went unacknowledged for too long"
    LINK_DOWN = "the link went down"
    ADDRESS_CHANGED = "the neighbor changed its address"
    DISPLACED = "never heard both ways, and the link is full"
    CLEARED = "cleared by the operator"


class TraceCode(enum.Enum):
    """Conditions that are counted; the value is the name in counters and logs."""

    DROPPED_UNKNOWN_LINK = "dropped_unknown_link"
    DROPPED_HOP_LIMIT = "dropped_hop_limit"
    DROPPED_SOURCE_OFF_LINK = "dropped_source_off_link"
    # One for every wire.DecodeReason, by name.
    DROPPED_TOO_SHORT = "dropped_too_short"
    DROPPED_TOO_LONG = "dropped_too_long"
    DROPPED_BAD_VERSION = "dropped_bad_version"
    DROPPED_BAD_TYPE = "dropped_bad_type"
    DROPPED_BAD_LENGTH = "dropped_bad_length"
    DROPPED_BAD_CHECKSUM = "dropped_bad_checksum"
    DROPPED_TRUNCATED_TLV = "dropped_truncated_tlv"
    DROPPED_BAD_TLV_LENGTH = "dropped_bad_tlv_length"
    DROPPED_BAD_VALUE = "dropped_bad_value"
    DROPPED_UNKNOWN_MANDATORY = "dropped_unknown_mandatory"
    DROPPED_MISPLACED_TLV = "dropped_misplaced_tlv"
    DROPPED_MISSING_TLV = "dropped_missing_tlv"
    DROPPED_UNSIGNED = "dropped_unsigned"
    """The link has keys, and the message has no signature."""
    DROPPED_UNKNOWN_KEY = "dropped_unknown_key"
    """Signed by a key id that the link does not have, or that is not valid now."""
    DROPPED_BAD_MAC = "dropped_bad_mac"
    """Signed by another secret, or changed in transit."""
    DROPPED_REPLAY = "dropped_replay"
    """Validly signed, and heard before."""
    DROPPED_UNPROVEN = "dropped_unproven"
    """Validly signed, by a sender that has yet to answer a challenge."""
    DROPPED_STALE_CHALLENGE = "dropped_stale_challenge"
    """A challenge repeated too soon, or an answer that is not awaited."""
    CHALLENGE_ANSWERED = "challenge_answered"
    PROVEN = "proven"
    """A sender has answered a challenge."""
    SILENCED = "silenced"
    """A datagram was not sent, because no key of the link is valid for sending now."""
    DROPPED_OWN_MESSAGE = "dropped_own_message"
    """Looped back to us, or heard on a second link of ours to the same wire."""
    DUPLICATE_ROUTER_ID = "duplicate_router_id"
    """Our own router id with another boot id: two routers are configured alike."""
    DUPLICATE_NEIGHBOR_ID = "duplicate_neighbor_id"
    """Two neighbors on one link claim the same router id; the first one heard is kept."""
    REFUSED_ADDRESS = "refused_address"
    """The source or a named next hop is an address of ours, or not a unicast address of a
    station."""
    DROPPED_TOO_MANY_NEIGHBORS = "dropped_too_many_neighbors"
    NEWCOMER_DISPLACED = "newcomer_displaced"
    """Never heard both ways, and removed for another newcomer on a full link."""
    DROPPED_AFTER_LEAVING = "dropped_after_leaving"
    """The message belongs to a boot that has just sent GOODBYE or RESTART."""
    DROPPED_UNKNOWN_NEIGHBOR = "dropped_unknown_neighbor"
    DROPPED_WRONG_SOURCE = "dropped_wrong_source"
    DROPPED_OTHER_BOOT = "dropped_other_boot"
    DROPPED_OLD_SEQUENCE = "dropped_old_sequence"
    DROPPED_NOT_FOR_US = "dropped_not_for_us"
    DROPPED_STALE_SESSION = "dropped_stale_session"
    DROPPED_NOT_READY = "dropped_not_ready"
    """DATA before its stream has begun; it is not acknowledged and comes again."""
    DROPPED_DUPLICATE = "dropped_duplicate"
    DROPPED_OUT_OF_WINDOW = "dropped_out_of_window"
    IGNORED_ACK = "ignored_ack"
    """The ACK names an unsent message, or is the second for a stream in one message."""
    TABLE_DELAYED = "table_delayed"
    """A neighbor got our table too often: it waits before the next dump begins."""
    IGNORED_TABLE_REQUEST = "ignored_table_request"
    """Too soon after the last one."""
    IGNORED_OLD_VERSION = "ignored_old_version"
    IGNORED_OWN_ORIGIN = "ignored_own_origin"
    IGNORED_TABLE_FULL = "ignored_table_full"
    """An update beyond the limit of its neighbor."""
    PREFIX_LIMIT = "prefix_limit"
    """A neighbor advertises more prefixes than may be learned from it; traced once until there is
    room."""
    TABLE_REQUESTED = "table_requested"
    """A neighbor was asked for its table again: there is room for updates that were refused."""
    TABLE_COUNT_MISMATCH = "table_count_mismatch"
    MTU_MISMATCH = "mtu_mismatch"
    NEIGHBOR_DAMPED = "neighbor_damped"
    """It flapped too often, and is suppressed for a while."""
    UNFEASIBLE_UPDATE = "unfeasible_update"
    HEARTBEAT_REQUESTED = "heartbeat_requested"
    IGNORED_HEARTBEAT_REQUEST = "ignored_heartbeat_request"
    """The requesting neighbor does not hear us: our silence costs it nothing."""
    SEQNO_REQUEST_SENT = "seqno_request_sent"
    SEQNO_REQUEST_FORWARDED = "seqno_request_forwarded"
    IGNORED_SEQNO_REQUEST = "ignored_seqno_request"
    """The requested seqno is too far ahead of all that is known of the origin."""
    SEQNO_RAISED = "seqno_raised"
    SEQNO_RAISE_REFUSED = "seqno_raise_refused"
    """Requested, or received, too far ahead of ours or too often."""
    SEQNO_OUT_OF_REACH = "seqno_out_of_reach"
    """An update whose seqno is too far from the last one used of its origin."""
    IGNORED_MARTIAN = "ignored_martian"
    """An update of a prefix that no protocol may announce."""
    MARTIAN_REFUSED = "martian_refused"
    """A neighbor advertises martians; traced once until it advertises none."""
    IGNORED_ORIGINS_FULL = "ignored_origins_full"
    """An update with an origin that cannot be remembered."""
    ORIGIN_LIMIT = "origin_limit"
    """A neighbor advertises more origins than are remembered; traced once until its table is
    complete."""
    OWN_ID_ELSEWHERE = "own_id_elsewhere"
    """Another router announces prefixes with our router id."""
    FORWARDING_LATE = "forwarding_late"
    """Advertised before the kernel was updated, because that took too long."""


@dataclass(frozen=True, slots=True)
class SendDatagram:
    """Send a datagram on a link, to one neighbor or to the group."""

    ifindex: int
    destination: Address | None
    """Address of one neighbor; None for the multicast group."""
    data: bytes
    source: Address | None = None
    """The source address: signatures cover it. None leaves it to the kernel."""


@dataclass(frozen=True, slots=True)
class AdjacencyChanged:
    """The adjacency with a neighbor changed its state."""

    router_id: Address
    ifindex: int
    address: Address
    old: AdjacencyState
    new: AdjacencyState
    reason: AdjacencyReason
    lost_next_hops: tuple[NextHop, ...] = ()
    """Next hops to the neighbor that are lost with the adjacency."""


class LearnedPath(NamedTuple):
    """A path that was learned; prefixes share it."""

    metric: int
    tag: int
    is_external: bool
    origin: Address
    next_hops: tuple[NextHop, ...]
    """All next hops, equal in cost, sorted by `NextHop.sort_key`; at least one."""
    distance: int | None = None
    """Distance set by a filter; None for the default of the kind of route."""


class RoutesLearned(NamedTuple):
    """These prefixes are reached by this path now; replaces what was learned before."""

    family: Family
    prefixes: tuple[Prefix, ...]
    """Prefixes of the family, each once; at least one."""
    path: LearnedPath


@dataclass(frozen=True, slots=True)
class RouteHeld:
    """A prefix has become unreachable, and its retraction is on the way to neighbors that may use
    us.

    Until `RouteLost` or `RoutesLearned` follows, packets to it should be refused rather than follow
    a shorter prefix: that path may lead to a neighbor that would send them straight back.
    """

    prefix: Prefix


@dataclass(frozen=True, slots=True)
class RouteLost:
    """A prefix is no longer learned, and every neighbor that had it from us has acknowledged
    that."""

    prefix: Prefix


@dataclass(frozen=True, slots=True)
class Trace:
    """A message was dropped or refused, or a condition is worth knowing."""

    code: TraceCode
    ifindex: int
    source: Address | None
    detail: str


Output: TypeAlias = SendDatagram | AdjacencyChanged | RoutesLearned | RouteHeld | RouteLost | Trace


class InputRecorder(Protocol):
    """The receiver of an instance's inputs and outputs (`recorder`)."""

    def record_input(self, name: str, arguments: tuple[Any, ...]) -> None:
        """Record an input before it is carried out: the method's name and its arguments."""
        ...

    def record_outputs(self, outputs: Sequence[Output]) -> None:
        """Record outputs that were drained."""
        ...


@dataclass(frozen=True, slots=True)
class NeighborRow:
    """One adjacency, for `show neighbors`."""

    router_id: Address | None
    """Router id; None for a refused sender."""
    ifindex: int
    ifname: str
    address: Address
    state: AdjacencyState
    uptime_s: float
    """Since it went UP; 0 when it is not."""
    dead_in_s: float
    """Time until the neighbor counts as dead, if no message is heard before."""
    rtt_ms: float | None
    """Smoothed, by heartbeats; None before the first sample."""
    rto_ms: float
    cost: int
    loss_here: float
    """Share of its last heartbeats that did not arrive, 0 to 1."""
    loss_there: float
    """Share of our last heartbeats that did not arrive there, as the neighbor reports, 0 to 1."""
    retransmissions: int
    prefixes: int
    """Learned from it and reachable."""
    infeasible: int
    """Number of these prefixes whose route may not be used until its origin's seqno is newer."""
    is_restarting: bool
    """Whether its routes are kept although the adjacency is not UP."""
    window: int
    """Messages that may be unacknowledged at once."""
    in_flight: int
    sent: int
    """DATA messages, first transmissions."""
    received: int
    """DATA messages, each once."""
    duplicates: int
    out_of_order: int
    """DATA messages that came after a later one of their stream."""
    problem: str
    """The problem that an operator should fix; empty when there is none."""
    mtu: int | None = None
    """MTU of its interface in bytes, as it reports; None before its first hello."""


@dataclass(frozen=True, slots=True)
class LearnedRow:
    """One route as one neighbor advertises it, for debugging."""

    prefix: Prefix
    router_id: Address
    ifindex: int
    metric: int
    """Metric as advertised, without our link's cost."""
    tag: int
    is_external: bool
    origin: Address
    seqno: int
    is_feasible: bool
    is_selected: bool
    is_stale: bool
