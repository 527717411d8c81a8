"""Authentication of control packets: sign, verify, and the rules for sequence numbers. Pure.

    simple password          type, length, key id, password
    keyed SHA1 (meticulous)  type, length, key id, 0, sequence (4), SHA1 of the packet with the
                             secret, padded to 20 bytes, in the place of the digest

Sequence numbers stop replays. A receiver that knows one accepts the next 3 times Detect Mult, the
present one included; meticulous types do not accept the present one again. The first packet that
verifies teaches the number, and it is forgotten after two detection times without a packet.

MD5 is refused: collisions are computed in seconds, and a system that speaks it speaks SHA1, too.
Simple passwords are sent in clear text and protect against misconfiguration only.

Source: RFC 5880, sections 4.2 to 4.4 and 6.7.
"""

from __future__ import annotations

import hashlib
import hmac
import struct

from routed.bfd.wire import HEADER_BYTES, DecodeError
from routed.model.bfd import BfdAuthType, BfdDrop, BfdKey

__all__ = ["AuthState", "section_bytes"]

_SHA1_SECTION = struct.Struct("!BBBxI20s")
_SHA1_BYTES = _SHA1_SECTION.size
_DIGEST_BYTES = 20
_PASSWORD_OFFSET = 3
_METICULOUS = BfdAuthType.METICULOUS_KEYED_SHA1
_SEQUENCE_MASK = 0xFFFF_FFFF


def section_bytes(key: BfdKey | None) -> int:
    """Return the length of the authentication section that a key makes; 0 without a key."""
    if key is None:
        return 0
    if key.type is BfdAuthType.SIMPLE_PASSWORD:
        return _PASSWORD_OFFSET + len(key.secret)
    return _SHA1_BYTES


class AuthState:
    """The sequence numbers of one session, in both directions."""

    def __init__(self, first_sequence: int) -> None:
        """Begin without a known sequence number of the other system.

        Args:
            first_sequence: 32 bits, random (RFC 5880, section 6.8.1).
        """
        self._next_sequence = first_sequence
        self._received: int | None = None
        """The last sequence number received; None while it is unknown."""

    def forget(self) -> None:
        """Forget the other system's sequence number: it may have restarted."""
        self._received = None

    def sign(self, header: bytes, key: BfdKey) -> bytes:
        """Return the whole packet: the encoded header and its authentication section."""
        if key.type is BfdAuthType.SIMPLE_PASSWORD:
            length = section_bytes(key)
            return header + bytes((key.type, length, key.id)) + key.secret
        sequence = self._next_sequence
        # A keyed SHA1 that is not meticulous may repeat a number; each packet gets a new one here.
        self._next_sequence = (sequence + 1) & _SEQUENCE_MASK
        section = _SHA1_SECTION.pack(key.type, _SHA1_BYTES, key.id, sequence, _padded(key.secret))
        digest = hashlib.sha1(header + section).digest()  # noqa: S324  (as the RFC has it)
        return header + section[:-_DIGEST_BYTES] + digest

    def verify(self, data: bytes, section: bytes, key: BfdKey, multiplier: int) -> None:
        """Accept the packet's authentication, or raise.

        Args:
            data: the whole packet.
            section: its authentication section.
            key: of the session.
            multiplier: Detect Mult of this system's session.

        Raises:
            DecodeError: the packet is not authentic, or it is a replay.
        """
        if section[0] != key.type or section[1] != len(section) or len(section) < _PASSWORD_OFFSET:
            raise DecodeError(BfdDrop.AUTHENTICATION)
        if section[2] != key.id:
            raise DecodeError(BfdDrop.AUTHENTICATION)
        if key.type is BfdAuthType.SIMPLE_PASSWORD:
            if not hmac.compare_digest(section[_PASSWORD_OFFSET:], key.secret):
                raise DecodeError(BfdDrop.AUTHENTICATION)
            return
        if len(section) != _SHA1_BYTES:
            raise DecodeError(BfdDrop.AUTHENTICATION)
        *_, sequence, digest = _SHA1_SECTION.unpack(section)
        self._check_sequence(sequence, key.type, multiplier)
        signed = data[: HEADER_BYTES + _SHA1_BYTES - _DIGEST_BYTES] + _padded(key.secret)
        expected = hashlib.sha1(signed).digest()  # noqa: S324  (as the RFC has it)
        if not hmac.compare_digest(digest, expected):
            raise DecodeError(BfdDrop.AUTHENTICATION)
        self._received = sequence

    def _check_sequence(self, sequence: int, auth_type: BfdAuthType, multiplier: int) -> None:
        if self._received is None:
            return
        ahead = (sequence - self._received) & _SEQUENCE_MASK
        least = 1 if auth_type is _METICULOUS else 0
        if not least <= ahead <= 3 * multiplier:
            raise DecodeError(BfdDrop.SEQUENCE)


def _padded(secret: bytes) -> bytes:
    return secret.ljust(_DIGEST_BYTES, b"\0")
