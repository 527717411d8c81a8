"""Control packets: vectors, and every reason to drop one."""

from __future__ import annotations

import pytest

from routed.bfd.wire import ControlPacket, DecodeError, decode, encode
from routed.model.bfd import BfdDiagnostic, BfdDrop, BfdState

UP = ControlPacket(
    state=BfdState.UP,
    diagnostic=BfdDiagnostic.DETECTION_TIME_EXPIRED,
    multiplier=3,
    my_discriminator=0x01020304,
    your_discriminator=0x0A0B0C0D,
    desired_min_tx_us=50_000,
    required_min_rx_us=60_000,
    is_poll=True,
)
BYTES = bytes.fromhex("21e00318010203040a0b0c0d0000c3500000ea6000000000")


def test_a_packet_has_the_layout_of_the_specification() -> None:
    assert encode(UP) == BYTES
    assert decode(BYTES) == (UP, b"")


def test_each_flag_has_its_bit() -> None:
    assert encode(UP._replace(is_poll=False, is_final=True))[1] == 0xD0
    assert encode(UP._replace(is_poll=False, is_demand=True))[1] == 0xC2
    assert encode(UP._replace(is_poll=False), auth_bytes=28)[1] == 0xC4


def test_the_diagnostics_have_the_numbers_of_the_specification() -> None:
    assert list(range(9)) == [
        BfdDiagnostic.NONE,
        BfdDiagnostic.DETECTION_TIME_EXPIRED,
        BfdDiagnostic.ECHO_FAILED,
        BfdDiagnostic.NEIGHBOR_SIGNALED_DOWN,
        BfdDiagnostic.FORWARDING_PLANE_RESET,
        BfdDiagnostic.PATH_DOWN,
        BfdDiagnostic.CONCATENATED_PATH_DOWN,
        BfdDiagnostic.ADMINISTRATIVELY_DOWN,
        BfdDiagnostic.REVERSE_CONCATENATED_PATH_DOWN,
    ]


def test_a_reserved_diagnostic_counts_as_none() -> None:
    packet, _ = decode(bytes([0x3F]) + BYTES[1:])
    assert packet.diagnostic is BfdDiagnostic.NONE


def test_what_follows_the_packet_is_ignored() -> None:
    assert decode(BYTES + b"trailer") == (UP, b"")


def changed(at: int, value: int) -> bytes:
    return BYTES[:at] + bytes([value]) + BYTES[at + 1 :]


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", BfdDrop.LENGTH),
        (BYTES[:23], BfdDrop.LENGTH),
        (changed(3, 23), BfdDrop.LENGTH),
        (changed(3, 25), BfdDrop.LENGTH),
        (changed(1, 0xC4), BfdDrop.LENGTH),
        (changed(0, 0x01), BfdDrop.VERSION),
        (changed(0, 0x41), BfdDrop.VERSION),
        (changed(2, 0), BfdDrop.MULTIPLIER),
        (changed(1, 0xC1), BfdDrop.MULTIPOINT),
        (BYTES[:4] + bytes(4) + BYTES[8:], BfdDrop.MY_DISCRIMINATOR),
        (BYTES[:8] + bytes(4) + BYTES[12:], BfdDrop.YOUR_DISCRIMINATOR),
    ],
)
def test_a_packet_that_must_be_dropped_has_a_reason(data: bytes, reason: BfdDrop) -> None:
    with pytest.raises(DecodeError) as caught:
        decode(data)
    assert caught.value.reason is reason


@pytest.mark.parametrize("state", [BfdState.DOWN, BfdState.ADMIN_DOWN])
def test_the_first_packets_do_not_know_the_receiver(state: BfdState) -> None:
    packet = UP._replace(state=state, your_discriminator=0)
    assert decode(encode(packet)) == (packet, b"")
