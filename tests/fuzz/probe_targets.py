"""The parsers of what the targets of probes send."""

from __future__ import annotations

import random
import struct
from collections.abc import Iterator

from routed.model.prefix import Family
from routed.model.probe import RecordType
from routed.probe import dns
from routed.probe.icmp import decode_reply, encode_request
from tests.fuzz.target import Target

__all__ = ["PROBE_TARGETS"]


def _icmp_reply(data: bytes) -> None:
    """The first byte: the family, and whether an IPv4 header comes first."""
    kind, packet = (data[0], data[1:]) if data else (0, b"")
    family = Family.IPV6 if kind & 1 else Family.IPV4
    reply = decode_reply(family, packet, has_ip_header=bool(kind & 2))
    if reply is not None:
        request = encode_request(family, *reply)
        assert packet.endswith(request[4:]), "what counts is at the end, and nothing follows"


def _icmp_seeds() -> Iterator[bytes]:
    for family, kind, head in (
        (Family.IPV4, b"\0", b"\0"),
        (Family.IPV6, b"\1", b"\x81"),
        (Family.IPV4, b"\2", b"\x45" + bytes(19) + b"\0"),
    ):
        yield kind + head + encode_request(family, 7, 9, bytes(range(16)))[1:]


_DNS_QUERY = dns.make_query("www.example.org", RecordType.AAAA, random.Random(7))


def _dns_answer(data: bytes) -> None:
    """Flags, counts, and what follows the question of a fixed query: input reaches the records."""
    flags, body = data[:10].ljust(10, b"\0"), data[10:]
    packet = _DNS_QUERY.data[:2] + flags + _DNS_QUERY.question + body
    answer = dns.decode_answer(packet, _DNS_QUERY)
    if answer is not None:
        assert len(answer.addresses) <= answer.records <= dns.ANSWER_RECORDS_MAX
        assert answer.records <= len(body) / 11, "each record has its bytes"


def _dns_seeds() -> Iterator[bytes]:
    head = struct.pack(">HHHHH", 0x8180, 1, 1, 0, 0)
    for name in (b"\0", b"\xc0\x0c", b"\1a\xc0\x0c"):
        yield head + name + struct.pack(">HHIH", 28, 1, 60, 16) + bytes(16)


PROBE_TARGETS: dict[str, Target] = {
    "icmp_reply": Target(_icmp_reply, _icmp_seeds, 100),
    "dns_answer": Target(_dns_answer, _dns_seeds, 600),
}
