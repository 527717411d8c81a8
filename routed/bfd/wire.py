"""BFD control packets: encode and decode. Pure.

     0                   1                   2                   3
    |Vers |  Diag   |Sta|P|F|C|A|D|M|  Detect Mult  |    Length     |
    |                       My Discriminator                        |
    |                      Your Discriminator                       |
    |                    Desired Min TX Interval                    |
    |                   Required Min RX Interval                    |
    |                 Required Min Echo RX Interval                 |
    |  authentication section, if A is set: type, length, ...       |

The checks are those of RFC 5880, section 6.8.6, that need no session. They raise `DecodeError` with
the reason to count. Bytes behind the length that the packet declares are ignored.

Source: RFC 5880, section 4.1.
"""

from __future__ import annotations

import struct
from typing import NamedTuple

from routed.model.bfd import BfdDiagnostic, BfdDrop, BfdState

__all__ = ["HEADER_BYTES", "PACKET_BYTES_MAX", "ControlPacket", "DecodeError", "decode", "encode"]

VERSION = 1
HEADER_BYTES = 24
PACKET_BYTES_MAX = 255
"""The largest length that a packet can declare."""

_HEADER = struct.Struct("!BBBBIIIII")
_POLL, _FINAL, _AUTHENTICATED, _DEMAND, _MULTIPOINT = 32, 16, 4, 2, 1
_AUTH_BYTES_MIN = 2
_RESERVED_DIAGNOSTIC = BfdDiagnostic.NONE
"""Stands for the diagnostics 9 to 31, which are reserved."""


class DecodeError(Exception):
    """The packet is to be dropped; it is the sender's fault."""

    def __init__(self, reason: BfdDrop) -> None:
        super().__init__(reason.value)
        self.reason = reason


class ControlPacket(NamedTuple):
    """One control packet without its authentication section. Intervals are in microseconds."""

    state: BfdState
    diagnostic: BfdDiagnostic
    multiplier: int
    my_discriminator: int
    your_discriminator: int
    desired_min_tx_us: int
    required_min_rx_us: int
    required_min_echo_rx_us: int = 0
    is_poll: bool = False
    is_final: bool = False
    is_demand: bool = False
    is_authenticated: bool = False


def encode(packet: ControlPacket, auth_bytes: int = 0) -> bytes:
    """Encode a packet; the authentication section is appended by the caller.

    Args:
        packet: the values of the header.
        auth_bytes: length of the section that will follow; with 0 the A bit is clear.
    """
    flags = (
        (_POLL if packet.is_poll else 0)
        | (_FINAL if packet.is_final else 0)
        | (_AUTHENTICATED if auth_bytes else 0)
        | (_DEMAND if packet.is_demand else 0)
    )
    return _HEADER.pack(
        VERSION << 5 | packet.diagnostic,
        packet.state << 6 | flags,
        packet.multiplier,
        HEADER_BYTES + auth_bytes,
        packet.my_discriminator,
        packet.your_discriminator,
        packet.desired_min_tx_us,
        packet.required_min_rx_us,
        packet.required_min_echo_rx_us,
    )


def decode(data: bytes) -> tuple[ControlPacket, bytes]:
    """Decode a packet.

    Args:
        data: the UDP payload, of any length.

    Returns:
        The packet, and its authentication section (empty without the A bit).

    Raises:
        DecodeError: it must be dropped, whatever session it is for.
    """
    if len(data) < HEADER_BYTES:
        raise DecodeError(BfdDrop.LENGTH)
    first, second, multiplier, length, mine, yours, tx, rx, echo = _HEADER.unpack_from(data)
    if first >> 5 != VERSION:
        raise DecodeError(BfdDrop.VERSION)
    is_authenticated = bool(second & _AUTHENTICATED)
    shortest = HEADER_BYTES + (_AUTH_BYTES_MIN if is_authenticated else 0)
    if not shortest <= length <= len(data):
        raise DecodeError(BfdDrop.LENGTH)
    if multiplier == 0:
        raise DecodeError(BfdDrop.MULTIPLIER)
    if second & _MULTIPOINT:
        raise DecodeError(BfdDrop.MULTIPOINT)
    if mine == 0:
        raise DecodeError(BfdDrop.MY_DISCRIMINATOR)
    state = BfdState(second >> 6)
    if yours == 0 and state not in (BfdState.DOWN, BfdState.ADMIN_DOWN):
        raise DecodeError(BfdDrop.YOUR_DISCRIMINATOR)
    number = first & 0x1F
    packet = ControlPacket(
        state=state,
        diagnostic=BfdDiagnostic(number) if number in _DIAGNOSTICS else _RESERVED_DIAGNOSTIC,
        multiplier=multiplier,
        my_discriminator=mine,
        your_discriminator=yours,
        desired_min_tx_us=tx,
        required_min_rx_us=rx,
        required_min_echo_rx_us=echo,
        is_poll=bool(second & _POLL),
        is_final=bool(second & _FINAL),
        is_demand=bool(second & _DEMAND),
        is_authenticated=is_authenticated,
    )
    return packet, data[HEADER_BYTES:length] if is_authenticated else b""


_DIAGNOSTICS = frozenset(BfdDiagnostic)
