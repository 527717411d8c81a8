"""Ethernet frames of every kind that the programs of the dataplane distinguish."""

from __future__ import annotations

import socket
import struct

__all__ = ["CASES", "ETHER", "extension", "frame", "ipv4", "ipv6"]

ETHER = bytes.fromhex("020000000001") + bytes.fromhex("02000000000a")
"""Destination and source."""


def frame(ether_type: int, body: bytes, *tags: int) -> bytes:
    vlan = b"".join(struct.pack("!HH", tag, 7) for tag in tags)
    return ETHER + vlan + struct.pack("!H", ether_type) + body


def ipv4(
    protocol: int, payload: bytes = bytes(20), *, options: int = 0, fragment: int = 0
) -> bytes:
    size = 20 + options + len(payload)
    head = struct.pack(
        "!BBHHHBBH4s4s", 0x40 | 5 + options // 4, 0, size, 1, fragment, 64, protocol, 0,
        bytes([10, 0, 0, 2]), bytes([10, 77, 1, 2]),
    )  # fmt: skip
    return head + bytes([1]) * options + payload


def ipv6(next_header: int, payload: bytes = bytes(20)) -> bytes:
    source, destination = (socket.inet_pton(socket.AF_INET6, f"2001:db8::{n}") for n in (1, 2))
    return struct.pack("!IHBB", 0x6000_0000, len(payload), next_header, 64) + (
        source + destination + payload
    )


def extension(following: int, size: int = 8) -> bytes:
    return bytes([following, size // 8 - 1]) + bytes(size - 2)


CASES = {
    "arp": (frame(0x0806, bytes(28)), "none", "arp"),
    "other": (frame(0x88CC, bytes(40)), "none", "other"),
    "icmp": (frame(0x0800, ipv4(1)), "ipv4", "icmp"),
    "tcp": (frame(0x0800, ipv4(6)), "ipv4", "tcp"),
    "udp": (frame(0x0800, ipv4(17)), "ipv4", "udp"),
    "options": (frame(0x0800, ipv4(17, options=40)), "ipv4", "udp"),
    "fragment": (frame(0x0800, ipv4(17, fragment=0x2010)), "ipv4", "udp"),
    "unknown protocol": (frame(0x0800, ipv4(253)), "ipv4", "other"),
    "other version": (frame(0x0800, b"\x65" + ipv4(17)[1:]), "ipv4", "malformed"),
    "header too short": (frame(0x0800, b"\x44" + ipv4(17)[1:]), "ipv4", "malformed"),
    "length lie": (frame(0x0800, ipv4(17)[:2] + b"\0\1" + ipv4(17)[4:]), "ipv4", "malformed"),
    "vlan": (frame(0x0800, ipv4(6), 0x8100), "ipv4", "tcp"),
    "two vlans": (frame(0x86DD, ipv6(6), 0x88A8, 0x8100), "ipv6", "tcp"),
    "three vlans": (frame(0x0800, ipv4(6), 0x88A8, 0x8100, 0x8100), "none", "other"),
    "udp6": (frame(0x86DD, ipv6(17)), "ipv6", "udp"),
    "icmp6": (frame(0x86DD, ipv6(58)), "ipv6", "icmp"),
    "hop by hop": (frame(0x86DD, ipv6(0, extension(17, 16) + bytes(8))), "ipv6", "udp"),
    "chain": (
        frame(0x86DD, ipv6(0, extension(43) + extension(60) + extension(6) + bytes(20))),
        "ipv6", "tcp",
    ),
    "first fragment": (
        frame(0x86DD, ipv6(44, bytes([0, 0, 0, 1]) + bytes(4) + extension(17) + bytes(8))),
        "ipv6", "udp",
    ),
    "later fragment": (
        frame(0x86DD, ipv6(44, bytes([17, 0, 1, 8]) + bytes(4) + bytes(20))), "ipv6", "udp",
    ),
    "longest chain": (
        frame(0x86DD, ipv6(60, extension(60) * 9 + bytes(20))), "ipv6", "other",
    ),
    "chain beyond the end": (frame(0x86DD, ipv6(0, bytes([60, 255]))), "ipv6", "malformed"),
}  # fmt: skip
"""By name: a frame, its family, and the protocol that it counts for."""
