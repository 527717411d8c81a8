"""What each counter of `show counters` counts, in a line for people.

Every one has a line of its own; a test holds the table of NUP's to its codes.
"""

from __future__ import annotations

from routed.nup.events import TraceCode

__all__ = ["FIB_COUNTERS", "NUP_COUNTERS", "SOCKET_COUNTERS", "VIOLATIONS"]

NUP_COUNTERS = {
    TraceCode.DROPPED_UNKNOWN_LINK: "datagrams from a link that NUP does not run on",
    TraceCode.DROPPED_HOP_LIMIT: "datagrams that have passed a router on their way",
    TraceCode.DROPPED_SOURCE_OFF_LINK: "datagrams from an address that is not of the link",
    TraceCode.DROPPED_TOO_SHORT: "datagrams shorter than a header",
    TraceCode.DROPPED_TOO_LONG: "datagrams over the maximum",
    TraceCode.DROPPED_BAD_VERSION: "datagrams of another version of NUP, or of something else",
    TraceCode.DROPPED_BAD_TYPE: "datagrams of a message type that does not exist",
    TraceCode.DROPPED_BAD_LENGTH: "datagrams whose length is not what they say",
    TraceCode.DROPPED_BAD_CHECKSUM: "datagrams whose checksum is wrong",
    TraceCode.DROPPED_TRUNCATED_TLV: "datagrams that end within a TLV",
    TraceCode.DROPPED_BAD_TLV_LENGTH: "datagrams with a TLV of an impossible length",
    TraceCode.DROPPED_BAD_VALUE: "datagrams with a value that cannot be",
    TraceCode.DROPPED_UNKNOWN_MANDATORY: "datagrams with a TLV that must be understood and is not",
    TraceCode.DROPPED_MISPLACED_TLV: "datagrams with a TLV that does not belong there",
    TraceCode.DROPPED_MISSING_TLV: "datagrams without a TLV that belongs there",
    TraceCode.DROPPED_UNSIGNED: "datagrams without a signature on a link with keys",
    TraceCode.DROPPED_UNKNOWN_KEY: "datagrams signed by a key that the link does not have now",
    TraceCode.DROPPED_BAD_MAC: "datagrams signed by another secret, or changed on their way",
    TraceCode.DROPPED_REPLAY: "datagrams signed rightly, and heard before",
    TraceCode.DROPPED_UNPROVEN: "datagrams of a sender that has yet to answer a challenge",
    TraceCode.DROPPED_STALE_CHALLENGE: "challenges asked too soon again, answers not waited for",
    TraceCode.CHALLENGE_ANSWERED: "challenges that we have answered",
    TraceCode.PROVEN: "senders that have answered a challenge of ours",
    TraceCode.SILENCED: "datagrams not sent: no key of the link may be sent with now",
    TraceCode.DROPPED_OWN_MESSAGE: "our own datagrams, heard again",
    TraceCode.DUPLICATE_ROUTER_ID: "datagrams of another router with our router id",
    TraceCode.DUPLICATE_NEIGHBOR_ID: "datagrams of a second neighbor with the router id of a first",
    TraceCode.REFUSED_ADDRESS: "addresses of neighbors that are ours, or no single station's",
    TraceCode.NEWCOMER_DISPLACED: "newcomers forgotten for other newcomers on a full link",
    TraceCode.DROPPED_AFTER_LEAVING: "datagrams of neighbors that have just left or restarted",
    TraceCode.IGNORED_ACK: "acknowledgements of what was never sent, or said twice",
    TraceCode.TABLE_DELAYED: "tables that waited: told to the neighbor too often",
    TraceCode.IGNORED_TABLE_REQUEST: "table requests too soon after the last one",
    TraceCode.DROPPED_TOO_MANY_NEIGHBORS: "datagrams of newcomers on a link that is full",
    TraceCode.DROPPED_UNKNOWN_NEIGHBOR: "datagrams of somebody who has not said hello",
    TraceCode.DROPPED_WRONG_SOURCE: "datagrams of a neighbor from another address than its own",
    TraceCode.DROPPED_OTHER_BOOT: "datagrams of a neighbor from another life of it",
    TraceCode.DROPPED_OLD_SEQUENCE: "heartbeats that came after a later one",
    TraceCode.DROPPED_NOT_FOR_US: "datagrams for another router",
    TraceCode.DROPPED_STALE_SESSION: "datagrams for an earlier adjacency with the neighbor",
    TraceCode.DROPPED_NOT_READY: "DATA before its stream has begun; it comes again",
    TraceCode.DROPPED_DUPLICATE: "DATA that came again",
    TraceCode.DROPPED_OUT_OF_WINDOW: "DATA too far ahead; it comes again",
    TraceCode.IGNORED_OLD_VERSION: "updates older than what the neighbor has said since",
    TraceCode.IGNORED_OWN_ORIGIN: "updates about prefixes of our own",
    TraceCode.IGNORED_TABLE_FULL: "updates that there was no room for",
    TraceCode.PREFIX_LIMIT: "times that a neighbor told more prefixes than may be learned from it",
    TraceCode.TABLE_REQUESTED: "tables asked for again, once there was room for what was refused",
    TraceCode.TABLE_COUNT_MISMATCH: "tables that came with fewer updates than announced, or more",
    TraceCode.MTU_MISMATCH: "neighbors that came with another MTU than the link's here",
    TraceCode.NEIGHBOR_DAMPED: "times that a neighbor came and went too often and was kept away",
    TraceCode.UNFEASIBLE_UPDATE: "updates that might close a loop, and were not used",
    TraceCode.HEARTBEAT_REQUESTED: "late heartbeats, asked for",
    TraceCode.IGNORED_HEARTBEAT_REQUEST: "requests for a heartbeat, of whoever does not hear us",
    TraceCode.SEQNO_REQUEST_SENT: "requests for a newer sequence number, sent",
    TraceCode.SEQNO_REQUEST_FORWARDED: "requests for a newer sequence number, passed on",
    TraceCode.IGNORED_SEQNO_REQUEST: "requests for a sequence number too far ahead, not passed on",
    TraceCode.SEQNO_RAISED: "sequence numbers of ours, raised on request",
    TraceCode.SEQNO_RAISE_REFUSED: "sequence numbers of ours not raised: too far, or too often",
    TraceCode.SEQNO_OUT_OF_REACH: "updates too far ahead of the last sequence number, or behind it",
    TraceCode.IGNORED_MARTIAN: "updates of link-local, multicast and other martian prefixes",
    TraceCode.MARTIAN_REFUSED: "times that a neighbor began to offer martian prefixes",
    TraceCode.IGNORED_ORIGINS_FULL: "updates with more origins than are remembered of a neighbor",
    TraceCode.ORIGIN_LIMIT: "times that a neighbor told more origins than are remembered of it",
    TraceCode.OWN_ID_ELSEWHERE: "times that another router was found to use our router id",
    TraceCode.FORWARDING_LATE: "news told to neighbors before the kernel had the routes",
}

SOCKET_COUNTERS = {
    "source_port": "datagrams from another port than NUP's",
    "by_kernel": "datagrams that the socket's filter refused, or that found its buffer full",
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
"""Of the kernel side: texts of `show counters`, and help texts of the metrics `routed_fib_*`."""

VIOLATIONS = {
    "channel": "engines ended for a message that they may not send",
    "flood": "engines ended for sending more than an intact engine does",
    "syscall": "engines killed by the sandbox for a forbidden system call",
}
"""Of engines, by kind."""
