"""IPFIX messages: flows that have ended, with their route. Pure.

    flow + route --> data record --.
                     templates ----+--> message of at most MESSAGE_MAX bytes --> collectors

One template for each family. It is sent with the first message, and again every TEMPLATE_S, because
a collector may start at any time and UDP loses.

Sources: RFC 7011 (messages, section 8.1: templates over UDP); RFC 7012; the registry of information
elements of IANA.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from routed.dataplane.flows import EndReason, Flow
from routed.model.prefix import Address, Family

__all__ = ["MESSAGE_MAX", "TEMPLATE_S", "FlowRecord", "IpfixEncoder"]

MESSAGE_MAX = 1232
"""Bytes; fits every path of IPv6 with the headers of IPv6 and UDP."""
TEMPLATE_S = 60.0

_VERSION = 10
_TEMPLATE_SET = 2
_HEADER = struct.Struct("!HHIII")
_SET = struct.Struct("!HH")

_INGRESS, _EGRESS = 0, 1

# Information elements: number, bytes.
_COMMON = (
    (4, 1),  # protocolIdentifier
    (7, 2),  # sourceTransportPort
    (11, 2),  # destinationTransportPort
    (6, 2),  # tcpControlBits
    (10, 4),  # ingressInterface
    (14, 4),  # egressInterface
    (61, 1),  # flowDirection
    (2, 8),  # packetDeltaCount
    (1, 8),  # octetDeltaCount
    (152, 8),  # flowStartMilliseconds
    (153, 8),  # flowEndMilliseconds
    (136, 1),  # flowEndReason
)
_TAIL = struct.Struct("!BHHHIIBQQQQB")
_ELEMENTS = {
    # sourceIPv4Address, destinationIPv4Address, ipNextHopIPv4Address, destinationIPv4PrefixLength
    Family.IPV4: ((8, 4), (12, 4), (15, 4), (13, 1), *_COMMON),
    # sourceIPv6Address, destinationIPv6Address, ipNextHopIPv6Address, destinationIPv6PrefixLength
    Family.IPV6: ((27, 16), (28, 16), (62, 16), (30, 1), *_COMMON),
}
_TEMPLATE = {Family.IPV4: 256, Family.IPV6: 257}
_RECORD_BYTES = {
    family: sum(size for _, size in elements) for family, elements in _ELEMENTS.items()
}


class FlowRecord(NamedTuple):
    """A flow that has ended, and what is known about it."""

    flow: Flow
    reason: EndReason
    prefix_len: int
    """Of the route to the destination; 0 without a route, too."""
    next_hop: Address | None
    """None: on the link, of the other family, or not known."""


class IpfixEncoder:
    """Makes the messages of one observation domain for one collector."""

    def __init__(self, domain: int) -> None:
        """Begin with sequence number 0.

        Args:
            domain: observation domain id, 32 bits.
        """
        self._domain = domain
        self._sequence = 0
        self._templates_at = float("-inf")

    def messages(
        self, records: Iterable[FlowRecord], now: float, wall_ms: int, now_ns: int
    ) -> Iterator[tuple[bytes, int]]:
        """Encode flows; templates are added when they are due.

        Args:
            records: in any order.
            now: seconds, monotonic.
            wall_ms: milliseconds since 1970.
            now_ns: CLOCK_MONOTONIC at the same moment.

        Returns:
            Messages, each with the number of its records.

        Cost: 4 us for each record.
        """
        by_family: dict[Family, list[bytes]] = {family: [] for family in Family}
        for record in records:
            by_family[record.flow.family].append(_encode(record, wall_ms, now_ns))
        for family, data in by_family.items():
            position = 0
            while position < len(data):
                templates = self._due_templates(now)
                space = MESSAGE_MAX - _HEADER.size - len(templates) - _SET.size
                part = data[position : position + space // _RECORD_BYTES[family]]
                position += len(part)
                body = templates + _set_of(_TEMPLATE[family], b"".join(part))
                yield self._message(body, len(part), wall_ms), len(part)

    def _due_templates(self, now: float) -> bytes:
        if now < self._templates_at + TEMPLATE_S:
            return b""
        self._templates_at = now
        return _set_of(_TEMPLATE_SET, b"".join(map(_template, Family)))

    def _message(self, body: bytes, records: int, wall_ms: int) -> bytes:
        """Put the header before the sets. The sequence number counts records (RFC 7011, 3.1)."""
        head = _HEADER.pack(
            _VERSION, _HEADER.size + len(body), wall_ms // 1000, self._sequence, self._domain
        )
        self._sequence = self._sequence + records & 0xFFFF_FFFF
        return head + body


def _set_of(number: int, content: bytes) -> bytes:
    return _SET.pack(number, _SET.size + len(content)) + content


def _template(family: Family) -> bytes:
    elements = _ELEMENTS[family]
    head = struct.pack("!HH", _TEMPLATE[family], len(elements))
    return head + b"".join(struct.pack("!HH", *element) for element in elements)


def _encode(record: FlowRecord, wall_ms: int, now_ns: int) -> bytes:
    flow = record.flow
    size = flow.family.width // 8
    hop = record.next_hop
    via = hop.addr_bits if hop is not None and hop.family is flow.family else 0
    addresses = b"".join(
        bits.to_bytes(size, "big") for bits in (flow.source, flow.destination, via)
    )
    started, ended = (
        wall_ms - (now_ns - moment) // 1_000_000 for moment in (flow.first_ns, flow.last_ns)
    )
    return addresses + bytes([record.prefix_len]) + _TAIL.pack(
        flow.protocol, flow.source_port, flow.destination_port, flow.tcp_flags,
        flow.received_ifindex, flow.sent_ifindex,
        _INGRESS if flow.received_ifindex else _EGRESS,
        flow.packets, flow.bytes, started, ended, record.reason,
    )  # fmt: skip
