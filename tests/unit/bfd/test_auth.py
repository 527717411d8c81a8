"""Authentication: vectors made by hand, and the rules for sequence numbers."""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Callable
from typing import Any

import pytest

from routed.bfd.auth import AuthState, section_bytes
from routed.bfd.wire import HEADER_BYTES, DecodeError
from routed.model.bfd import BfdAuthType, BfdDrop, BfdKey

HEADER = bytes(range(HEADER_BYTES))
PASSWORD = BfdKey(BfdAuthType.SIMPLE_PASSWORD, 9, b"secret")
KEYED = BfdKey(BfdAuthType.KEYED_SHA1, 7, b"0123456789abcdef")
METICULOUS = BfdKey(BfdAuthType.METICULOUS_KEYED_SHA1, 7, b"0123456789abcdef")


def sealed(key: BfdKey, sequence: int) -> bytes:
    """A packet as RFC 5880, section 6.7.4, describes it, by other code than the product's."""
    head = HEADER + struct.pack("!BBBBI", key.type, 28, key.id, 0, sequence)
    return head + hashlib.sha1(head + key.secret + bytes(20 - len(key.secret))).digest()


def accept(auth: AuthState, key: BfdKey, data: bytes, multiplier: int = 3) -> None:
    auth.verify(data, data[HEADER_BYTES:], key, multiplier)


def reason_of(auth: AuthState, key: BfdKey, data: bytes) -> BfdDrop:
    with pytest.raises(DecodeError) as caught:
        accept(auth, key, data)
    return caught.value.reason


def test_a_password_stands_behind_the_header() -> None:
    assert AuthState(1).sign(HEADER, PASSWORD) == HEADER + bytes([1, 9, 9]) + b"secret"
    assert section_bytes(PASSWORD) == 9
    assert section_bytes(None) == 0


@pytest.mark.parametrize("key", [KEYED, METICULOUS])
def test_the_digest_covers_header_and_section(key: BfdKey) -> None:
    auth = AuthState(41)
    assert auth.sign(HEADER, key) == sealed(key, 41)
    assert auth.sign(HEADER, key) == sealed(key, 42)
    assert len(sealed(key, 41)) == HEADER_BYTES + section_bytes(key)


def test_the_sequence_number_wraps() -> None:
    auth = AuthState(0xFFFF_FFFF)
    auth.sign(HEADER, KEYED)
    assert auth.sign(HEADER, KEYED) == sealed(KEYED, 0)


@pytest.mark.parametrize("key", [PASSWORD, KEYED, METICULOUS])
def test_a_signed_packet_is_accepted(key: BfdKey) -> None:
    accept(AuthState(0), key, AuthState(5).sign(HEADER, key))


@pytest.mark.parametrize("key", [PASSWORD, KEYED, METICULOUS])
@pytest.mark.parametrize("at", [24, 25, 26, -1])
def test_a_changed_section_is_refused(key: BfdKey, at: int) -> None:
    data = bytearray(AuthState(5).sign(HEADER, key))
    data[at] ^= 1
    assert reason_of(AuthState(0), key, bytes(data)) is BfdDrop.AUTHENTICATION


def test_a_changed_header_is_refused() -> None:
    data = sealed(KEYED, 5)
    assert reason_of(AuthState(0), KEYED, b"\xff" + data[1:]) is BfdDrop.AUTHENTICATION


@pytest.mark.parametrize(
    ("key", "sequence", "is_accepted"),
    [
        (KEYED, 10, True),
        (METICULOUS, 10, False),
        (METICULOUS, 11, True),
        (KEYED, 19, True),
        (METICULOUS, 19, True),
        (KEYED, 20, False),
        (METICULOUS, 20, False),
        (KEYED, 9, False),
    ],
)
def test_the_window_is_three_times_the_multiplier(
    key: BfdKey, sequence: int, is_accepted: bool
) -> None:
    auth = AuthState(0)
    accept(auth, key, sealed(key, 10))
    if is_accepted:
        accept(auth, key, sealed(key, sequence))
    else:
        assert reason_of(auth, key, sealed(key, sequence)) is BfdDrop.SEQUENCE


def test_the_window_crosses_the_end_of_the_numbers() -> None:
    auth = AuthState(0)
    accept(auth, METICULOUS, sealed(METICULOUS, 0xFFFF_FFFF))
    accept(auth, METICULOUS, sealed(METICULOUS, 2))


def test_a_forged_packet_moves_nothing() -> None:
    auth = AuthState(0)
    accept(auth, KEYED, sealed(KEYED, 10))
    forged = sealed(KEYED, 15)[:-1] + b"\0"
    assert reason_of(auth, KEYED, forged) is BfdDrop.AUTHENTICATION
    accept(auth, KEYED, sealed(KEYED, 10))


def test_another_system_begins_with_any_number_once_the_first_is_forgotten() -> None:
    auth = AuthState(0)
    accept(auth, METICULOUS, sealed(METICULOUS, 10))
    auth.forget()
    accept(auth, METICULOUS, sealed(METICULOUS, 3))


def test_the_secret_is_in_no_representation() -> None:
    assert "0123" not in repr(KEYED)


@pytest.mark.parametrize(
    ("change", "digests"),
    [
        (lambda section: bytes((4,)) + section[1:], 0),  # the type
        (lambda section: section[:2] + bytes((9,)) + section[3:], 0),  # the key
        (lambda section: section[:-1], 0),
        (lambda section: section[:4] + bytes(4) + section[8:], 0),  # the sequence number
        (lambda section: section[:-1] + b"!", 1),
    ],
)
def test_a_forged_packet_costs_one_digest_at_most(
    change: Callable[[bytes], bytes], digests: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    state, signer = AuthState(1), AuthState(500)
    for _ in range(2):
        packet = signer.sign(HEADER, METICULOUS)
        state.verify(packet, packet[24:], METICULOUS, 3)
    packet = signer.sign(HEADER, METICULOUS)
    made = list[bytes]()
    sha1 = hashlib.sha1

    def counted(data: bytes) -> Any:
        made.append(data)
        return sha1(data)

    monkeypatch.setattr(hashlib, "sha1", counted)
    with pytest.raises(DecodeError):
        state.verify(packet, change(packet[24:]), METICULOUS, 3)
    assert len(made) == digests
