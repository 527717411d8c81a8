"""Fuzz targets of the liveness process: BFD packets, and the messages of its two channels."""

from __future__ import annotations

import contextlib
import random
import struct
from collections.abc import Iterator

from ipc import codec
from ipc.framing import INTERNAL_FRAME_MAX_BYTES, IpcError, unpack_frame
from routed.bfd.auth import AuthState, section_bytes
from routed.bfd.instance import BfdInstance, Origin
from routed.bfd.outputs import SendControl
from routed.bfd.wire import HEADER_BYTES, ControlPacket, DecodeError, decode, encode
from routed.imsg.liveness import LIVENESS_MESSAGES, LivenessEnd, check_liveness_message
from routed.model.bfd import BfdAuthType, BfdDiagnostic, BfdKey, BfdSettings, BfdState
from routed.model.prefix import Address
from tests.fakes.bfd_pair import settings
from tests.fuzz.target import Target, frame_with, frames_of

__all__ = ["LIVENESS_TARGETS"]

KEYS = (
    None,
    BfdKey(BfdAuthType.SIMPLE_PASSWORD, 1, b"sixteen bytes ok"),
    BfdKey(BfdAuthType.KEYED_SHA1, 2, b"k" * 20),
    BfdKey(BfdAuthType.METICULOUS_KEYED_SHA1, 3, b"m"),
)
"""Of the sessions of `bfd_instance`, in order; the peer of each is 192.0.2.1 and so on."""


# --- packets


def _packet(data: bytes) -> None:
    """Decode a packet and encode it again: only reserved bits and diagnostics may differ."""
    try:
        packet, section = decode(data)
    except DecodeError:
        return
    again = encode(packet._replace(is_authenticated=False), len(section)) + section
    assert decode(again) == (packet, section)
    assert again[HEADER_BYTES:] == section
    assert again[4:HEADER_BYTES] == data[4:HEADER_BYTES]


def _packets() -> Iterator[bytes]:
    packet = ControlPacket(BfdState.DOWN, BfdDiagnostic.NONE, 3, 7, 0, 1_000_000, 50_000)
    yield encode(packet)
    up = packet._replace(state=BfdState.UP, your_discriminator=9, desired_min_tx_us=50_000)
    for changed in (up, up._replace(is_poll=True), up._replace(is_final=True, is_demand=True)):
        yield encode(changed)
    for key in filter(None, KEYS):
        yield AuthState(1).sign(encode(up, section_bytes(key)), key)


# --- an instance

_STEP = struct.Struct("!BBB")
"""Flags, hundredths of a second that pass, length of the datagram."""
_OF_SESSION, _IS_STRANGER, _IS_MULTIHOP, _IS_FORWARDED, _IS_KNOWING = 0x03, 0x04, 0x08, 0x10, 0x20
"""Flags: the session; another source; the other port; another hop limit; the discriminator and the
signature are right, so that damage reaches what they protect."""


def _instance(data: bytes) -> None:
    """Feed datagrams to four sessions with and without a key: nothing is raised, and each is
    counted once.
    """
    sessions = _sessions()
    instance = BfdInstance(random.Random(1))
    instance.configure(sessions, 0.0)
    now, at, given, signer = 0.0, 0, 0, AuthState(0)
    while at + _STEP.size <= len(data):
        flags, pause, length = _STEP.unpack_from(data, at)
        at += _STEP.size
        datagram = data[at : at + length]
        at += length
        session = sessions[flags & _OF_SESSION]
        if flags & _IS_KNOWING:
            datagram = _known(instance, session, datagram, signer, now)
        source = Address.parse("198.51.100.9") if flags & _IS_STRANGER else session.peer
        hop_limit = 64 if flags & _IS_FORWARDED else 255
        origin = Origin(source, None, 7, hop_limit, bool(flags & _IS_MULTIHOP))
        instance.receive_datagram(datagram, origin, now)
        given += 1
        now += pause / 100
        instance.handle_timer(now)
        sent = [output for output in instance.outputs() if isinstance(output, SendControl)]
        assert len(sent) <= 4 * (len(KEYS) + 1)
        for output in sent:
            decode(output.data)
    _check(instance, given, now)


def _known(
    instance: BfdInstance, session: BfdSettings, data: bytes, signer: AuthState, now: float
) -> bytes:
    """Return a packet with the version, the discriminator and the signature of a peer."""
    report = instance.report(session.name, now)
    assert report is not None
    header = bytearray(data[:HEADER_BYTES].ljust(HEADER_BYTES, b"\1"))
    header[0] = header[0] & 0x1F | 0x20
    header[1] = header[1] & 0xFA | (4 if session.key is not None else 0)
    header[3] = HEADER_BYTES + section_bytes(session.key)
    header[8:12] = struct.pack("!I", report.local_discriminator)
    return bytes(header) if session.key is None else signer.sign(bytes(header), session.key)


def _check(instance: BfdInstance, given: int, now: float) -> None:
    counted = sum(instance.counts().values())
    for name in instance.names:
        report = instance.report(name, now)
        assert report is not None
        assert report.state is not BfdState.ADMIN_DOWN
        assert codec.decode(type(report), codec.encode(report)) == report
        counted += report.packets_received + sum(report.dropped.values())
    assert counted == given


def _sessions() -> list[BfdSettings]:
    return [
        settings(Address.parse(f"192.0.2.{number}"), str(number), key=key)
        for number, key in enumerate(KEYS, 1)
    ]


def _sequences() -> Iterator[bytes]:
    """Yield the packets of a peer that comes up, stays, and leaves; for each session."""
    header = ControlPacket(BfdState.DOWN, BfdDiagnostic.NONE, 3, 7, 0, 50_000, 50_000)
    states = (BfdState.DOWN, BfdState.INIT, BfdState.UP, BfdState.UP, BfdState.ADMIN_DOWN)
    for session in range(len(KEYS)):
        yield b"".join(
            _STEP.pack(session | _IS_KNOWING, 5, HEADER_BYTES)
            + encode(header._replace(state=state, your_discriminator=1))
            for state in states
        )
    for packet in _packets():
        yield _STEP.pack(0, 5, len(packet)) + packet


# --- messages

_CLASSES = {int(number): rule.message for number, rule in LIVENESS_MESSAGES.items()}


def _authority(data: bytes) -> None:
    """Check frames from each end, with and without a descriptor: they are accepted or refused
    before a body is decoded.
    """
    for end in LivenessEnd:
        for has_descriptor in (False, True):
            with contextlib.suppress(IpcError):
                frame = unpack_frame(data, INTERNAL_FRAME_MAX_BYTES)
                message_class = check_liveness_message(
                    frame.type, end, has_descriptor=has_descriptor
                )
                rule = next(
                    rule for rule in LIVENESS_MESSAGES.values() if rule.message is message_class
                )
                assert (rule.sender, rule.carries_descriptor) == (end, has_descriptor)


_FRAMES = frames_of(_CLASSES, INTERNAL_FRAME_MAX_BYTES)

LIVENESS_TARGETS: dict[str, Target] = {
    "bfd_packet": Target(_packet, _packets, 255),
    "bfd_instance": Target(_instance, _sequences, 4096),
    "liveness_frame": Target(frame_with(_CLASSES, INTERNAL_FRAME_MAX_BYTES), _FRAMES),
    "liveness_authority": Target(_authority, _FRAMES),
}
