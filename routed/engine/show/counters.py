"""Texts of counters: what each counter of `show counters` counts, in one line. Pure.

Every counter has its own text; a test compares the table of NUP's counters with its trace codes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from routed.control.views import CounterView
from routed.nup.events import TraceCode

__all__ = ["FIB_COUNTERS", "NUP_COUNTERS", "VIOLATIONS", "datagram_counters"]

NUP_COUNTERS = {
    TraceCode.DROPPED_UNKNOWN_LINK: "datagrams from a link on which NUP does not run",
    TraceCode.DROPPED_HOP_LIMIT: "datagrams that were forwarded by a router",
    TraceCode.DROPPED_SOURCE_OFF_LINK: "datagrams from an address that is not on the link",
    TraceCode.DROPPED_TOO_SHORT: "datagrams shorter than a header",
    TraceCode.DROPPED_TOO_LONG: "datagrams longer than the maximum",
    TraceCode.DROPPED_BAD_VERSION: "datagrams of another version of NUP or another protocol",
    TraceCode.DROPPED_BAD_TYPE: "datagrams of an unknown message type",
    TraceCode.DROPPED_BAD_LENGTH: "datagrams whose length field is wrong",
    TraceCode.DROPPED_BAD_CHECKSUM: "datagrams whose checksum is wrong",
    TraceCode.DROPPED_TRUNCATED_TLV: "datagrams that end inside a TLV",
    TraceCode.DROPPED_BAD_TLV_LENGTH: "datagrams with a TLV of invalid length",
    TraceCode.DROPPED_BAD_VALUE: "datagrams with an invalid value",
    TraceCode.DROPPED_UNKNOWN_MANDATORY: "datagrams with an unknown mandatory TLV",
    TraceCode.DROPPED_MISPLACED_TLV: "datagrams with a TLV in the wrong place",
    TraceCode.DROPPED_MISSING_TLV: "datagrams without a required TLV",
    TraceCode.DROPPED_UNSIGNED: "datagrams without a signature on a link with keys",
    TraceCode.DROPPED_UNKNOWN_KEY: "datagrams signed with a key that is not valid on the link now",
    TraceCode.DROPPED_BAD_MAC: "datagrams with a wrong signature",
    TraceCode.DROPPED_REPLAY: "datagrams correctly signed and received before (replays)",
    TraceCode.DROPPED_UNPROVEN: "datagrams of a sender that has not answered a challenge yet",
    TraceCode.DROPPED_STALE_CHALLENGE: "challenges repeated too soon, and unexpected answers",
    TraceCode.CHALLENGE_ANSWERED: "challenges answered by this router",
    TraceCode.PROVEN: "senders that have answered a challenge of this router",
    TraceCode.SILENCED: "datagrams not sent: no key of the link may be used to send now",
    TraceCode.DROPPED_OWN_MESSAGE: "datagrams of this router, received by itself",
    TraceCode.DUPLICATE_ROUTER_ID: "datagrams of another router with this router's id",
    TraceCode.DUPLICATE_NEIGHBOR_ID: "datagrams of a neighbor with the router id of another one",
    TraceCode.REFUSED_ADDRESS: "addresses of neighbors that are this router's or not unicast",
    TraceCode.NEWCOMER_DISPLACED: "new neighbors displaced by other new ones on a full link",
    TraceCode.DROPPED_AFTER_LEAVING: "datagrams of neighbors that have just left or restarted",
    TraceCode.IGNORED_ACK: "acknowledgements of unsent data, or repeated ones",
    TraceCode.TABLE_DELAYED: "tables delayed: sent to the neighbor too often",
    TraceCode.IGNORED_TABLE_REQUEST: "table requests too soon after the last one",
    TraceCode.DROPPED_TOO_MANY_NEIGHBORS: "datagrams of new neighbors on a full link",
    TraceCode.DROPPED_UNKNOWN_NEIGHBOR: "datagrams of a router from which no hello was received",
    TraceCode.DROPPED_WRONG_SOURCE: "datagrams of a neighbor from another address than its own",
    TraceCode.DROPPED_OTHER_BOOT: "datagrams of a neighbor from another boot",
    TraceCode.DROPPED_OLD_SEQUENCE: "heartbeats received after a later one",
    TraceCode.DROPPED_NOT_FOR_US: "datagrams for another router",
    TraceCode.DROPPED_STALE_SESSION: "datagrams for an earlier adjacency with the neighbor",
    TraceCode.DROPPED_NOT_READY: "DATA before its stream has begun; it is sent again",
    TraceCode.DROPPED_DUPLICATE: "DATA received again",
    TraceCode.DROPPED_OUT_OF_WINDOW: "DATA too far ahead; it is sent again",
    TraceCode.IGNORED_OLD_VERSION: "updates older than a later one of the neighbor",
    TraceCode.IGNORED_OWN_ORIGIN: "updates about prefixes that this router originates",
    TraceCode.IGNORED_TABLE_FULL: "updates for which there was no room",
    TraceCode.PREFIX_LIMIT: "times that a neighbor exceeded its prefix limit",
    TraceCode.TABLE_REQUESTED: "tables requested again, once there was room for all prefixes",
    TraceCode.TABLE_COUNT_MISMATCH: "tables received with another number of updates than announced",
    TraceCode.MTU_MISMATCH: "neighbors with another MTU than this router has on the link",
    TraceCode.NEIGHBOR_DAMPED: "times that a neighbor flapped too often and was suppressed",
    TraceCode.UNFEASIBLE_UPDATE: "infeasible updates (they might form a loop), not used",
    TraceCode.HEARTBEAT_REQUESTED: "late heartbeats, requested",
    TraceCode.IGNORED_HEARTBEAT_REQUEST: "heartbeat requests of routers that do not hear this one",
    TraceCode.SEQNO_REQUEST_SENT: "requests for a newer sequence number, sent",
    TraceCode.SEQNO_REQUEST_FORWARDED: "requests for a newer sequence number, forwarded",
    TraceCode.IGNORED_SEQNO_REQUEST: "requests for a sequence number too far ahead, not forwarded",
    TraceCode.SEQNO_RAISED: "sequence numbers of this router, raised on request",
    TraceCode.SEQNO_RAISE_REFUSED: "sequence numbers of this router not raised: too far, or often",
    TraceCode.SEQNO_OUT_OF_REACH: "updates too far ahead of the last sequence number, or behind it",
    TraceCode.IGNORED_MARTIAN: "updates of link-local, multicast and other martian prefixes",
    TraceCode.MARTIAN_REFUSED: "times that a neighbor began to advertise martian prefixes",
    TraceCode.IGNORED_ORIGINS_FULL: "updates beyond the limit of origins of a neighbor",
    TraceCode.ORIGIN_LIMIT: "times that a neighbor exceeded its limit of origins",
    TraceCode.OWN_ID_ELSEWHERE: "times that another router was found to use this router's id",
    TraceCode.FORWARDING_LATE: "updates advertised before the kernel had the routes",
}

_SOCKET_COUNTERS = {
    "source_port": "datagrams from another port than NUP's",
    "by_kernel": "datagrams dropped by the socket's filter, or because its buffer was full",
}

FIB_COUNTERS = {
    "adopted": "kernel routes of an earlier engine or daemon that were equal and kept",
    "swept": "stale kernel routes of an earlier engine or daemon, removed",
    "repaired": "routes that another program deleted or changed, restored",
    "shadowed": "routes of routed found to lose against a foreign route of better priority",
    "resyncs": "times that the kernel table was read and compared",
    "overruns": "times that the kernel dropped notifications (ENOBUFS)",
    "kernel_writes": "operations sent to the kernel",
    "refused": "desired routes of the engine that the parent did not admit",
}
"""Texts of the kernel side's counters, also used as help of the metrics `routed_fib_*`."""

VIOLATIONS = {
    "channel": "engines ended for a message that they may not send",
    "flood": "engines ended for sending more than an intact engine does",
    "syscall": "engines killed by the sandbox for a forbidden system call",
}
"""Texts of the counters of violations, by kind."""


def datagram_counters(
    datagrams: Mapping[str, int], refused: Mapping[str, int]
) -> Iterator[CounterView]:
    """List NUP's datagrams by direction, and those dropped before the protocol by reason."""
    for direction, count in datagrams.items():
        yield CounterView(f"nup_{direction}", count, f"NUP datagrams {direction}")
    for reason, count in refused.items():
        yield CounterView(f"nup_dropped_{reason}", count, _SOCKET_COUNTERS[reason])
