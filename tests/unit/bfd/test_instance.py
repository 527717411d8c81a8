"""Which packet is for which session, and packets that are for none."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest

from routed.bfd import instance as bfd_instance
from routed.bfd.auth import AuthState, section_bytes
from routed.bfd.instance import STALE_TIMERS_MAX, BfdInstance, Origin
from routed.bfd.outputs import SendControl
from routed.bfd.wire import ControlPacket, decode, encode
from routed.model.bfd import (
    BfdAuthType,
    BfdDiagnostic,
    BfdDrop,
    BfdKey,
    BfdSettings,
    BfdState,
)
from routed.model.prefix import Address
from tests.fakes.bfd_pair import A, B, settings

OTHER = Address.parse("198.51.100.9")
FROM_B = Origin(B, A, 7, 255, is_multihop=False)
HELLO = ControlPacket(
    state=BfdState.DOWN,
    diagnostic=BfdDiagnostic.NONE,
    multiplier=3,
    my_discriminator=77,
    your_discriminator=0,
    desired_min_tx_us=1_000_000,
    required_min_rx_us=50_000,
)


def made(*wanted: BfdSettings) -> BfdInstance:
    instance = BfdInstance(random.Random(5))
    instance.configure(wanted, 0.0)
    return instance


def state(instance: BfdInstance, name: str = "s") -> BfdState:
    report = instance.report(name, 0.0)
    assert report is not None
    return report.state


def drops(instance: BfdInstance) -> dict[str, int]:
    found = dict(instance.counts())
    for name in instance.names:
        report = instance.report(name, 0.0)
        assert report is not None
        for reason, count in report.dropped.items():
            found[reason] = found.get(reason, 0) + count
    return found


def test_the_first_packet_finds_its_session_by_the_sender() -> None:
    instance = made(settings(B, "s"), settings(OTHER, "t"))
    instance.receive_datagram(encode(HELLO), FROM_B, 0.0)
    assert state(instance, "s") is BfdState.INIT
    assert state(instance, "t") is BfdState.DOWN


def test_a_session_of_a_link_hears_that_link_only() -> None:
    """Two links may lead to the same address."""
    instance = made(settings(B, "s", ifindex=7), settings(B, "t", ifindex=8))
    instance.receive_datagram(encode(HELLO), FROM_B._replace(ifindex=8), 0.0)
    assert state(instance, "s") is BfdState.DOWN
    assert state(instance, "t") is BfdState.INIT
    instance.receive_datagram(encode(HELLO), FROM_B._replace(ifindex=9), 0.0)
    assert drops(instance) == {"no_session": 1}


def test_a_session_with_a_source_hears_packets_for_that_address_only() -> None:
    instance = made(settings(B, "s", source=A))
    instance.receive_datagram(encode(HELLO), FROM_B._replace(destination=OTHER), 0.0)
    assert drops(instance) == {"no_session": 1}
    instance.receive_datagram(encode(HELLO), FROM_B, 0.0)
    assert state(instance) is BfdState.INIT


def test_single_hop_and_multihop_are_different_sessions() -> None:
    instance = made(settings(B, "s"), settings(B, "far", is_multihop=True))
    far = FROM_B._replace(is_multihop=True, hop_limit=61)
    instance.receive_datagram(encode(HELLO), far, 0.0)
    assert state(instance, "s") is BfdState.DOWN
    assert state(instance, "far") is BfdState.INIT


@pytest.mark.parametrize("hop_limit", [254, 1, 0, None])
def test_a_single_hop_packet_that_a_router_has_forwarded_is_dropped(hop_limit: int | None) -> None:
    instance = made(settings())
    instance.receive_datagram(encode(HELLO), FROM_B._replace(hop_limit=hop_limit), 0.0)
    assert drops(instance) == {"hop_limit": 1}
    assert state(instance) is BfdState.DOWN


def known(instance: BfdInstance) -> ControlPacket:
    report = instance.report("s", 0.0)
    assert report is not None
    return HELLO._replace(state=BfdState.UP, your_discriminator=report.local_discriminator)


@pytest.mark.parametrize(
    ("change", "origin", "reason"),
    [
        (lambda packet: packet, FROM_B._replace(source=OTHER), BfdDrop.SOURCE),
        (lambda packet: packet, FROM_B._replace(is_multihop=True), BfdDrop.SOURCE),
        (lambda packet: packet, FROM_B._replace(hop_limit=254), BfdDrop.HOP_LIMIT),
        (
            lambda packet: packet._replace(your_discriminator=packet.your_discriminator ^ 1),
            FROM_B,
            BfdDrop.YOUR_DISCRIMINATOR,
        ),
        (
            lambda packet: packet._replace(your_discriminator=0, state=BfdState.DOWN),
            FROM_B._replace(source=OTHER),
            BfdDrop.NO_SESSION,
        ),
        (lambda packet: packet._replace(my_discriminator=0), FROM_B, BfdDrop.MY_DISCRIMINATOR),
        (lambda packet: packet._replace(multiplier=0), FROM_B, BfdDrop.MULTIPLIER),
    ],
)
def test_a_spoofed_packet_changes_nothing(
    change: Callable[[ControlPacket], ControlPacket], origin: Origin, reason: BfdDrop
) -> None:
    instance = made(settings())
    instance.receive_datagram(encode(HELLO), FROM_B, 0.0)
    before = state(instance)
    instance.receive_datagram(encode(change(known(instance))), origin, 0.0)
    assert state(instance) is before is BfdState.INIT
    assert drops(instance) == {reason.value: 1}


def test_discriminators_are_unique_and_not_zero() -> None:
    class Poor(random.Random):
        """Gives each number several times, and 0 first."""

        def __init__(self) -> None:
            super().__init__(0)
            self.count = 0

        def getrandbits(self, k: int, /) -> int:
            assert k == 32
            self.count += 1
            return self.count // 5

    instance = BfdInstance(Poor())
    instance.configure([settings(B, str(number), ifindex=number) for number in range(50)], 0.0)
    found = set()
    for name in instance.names:
        report = instance.report(name, 0.0)
        assert report is not None
        found.add(report.local_discriminator)
    assert len(found) == 50
    assert 0 not in found


def test_a_session_that_has_ended_leaves_nothing() -> None:
    instance = made(settings())
    packet = known(instance)
    instance.outputs()
    instance.configure((), 1.0)
    (output,) = instance.outputs()[-1:]
    assert isinstance(output, (SendControl, tuple))
    assert len(instance) == 0
    instance.handle_timer(100.0)
    assert instance.outputs() == []
    assert instance.next_timer() is None
    instance.receive_datagram(encode(packet), FROM_B, 2.0)
    assert drops(instance) == {"your_discriminator": 1}


def test_the_end_of_one_session_leaves_the_others_of_the_peer() -> None:
    """FRR#19014."""
    instance = made(settings(B, "s", ifindex=7), settings(B, "t", ifindex=8))
    instance.configure([settings(B, "t", ifindex=8)], 0.0)
    instance.receive_datagram(encode(HELLO), FROM_B._replace(ifindex=8), 0.0)
    assert state(instance, "t") is BfdState.INIT


def test_other_timers_keep_a_session_and_another_address_makes_a_new_one() -> None:
    instance = made(settings())
    before = instance.report("s", 0.0)
    instance.configure([settings(transmit_us=20_000)], 0.0)
    kept = instance.report("s", 0.0)
    instance.configure([settings(OTHER)], 0.0)
    fresh = instance.report("s", 0.0)
    assert before is not None
    assert kept is not None
    assert fresh is not None
    assert before.local_discriminator == kept.local_discriminator != fresh.local_discriminator


def test_a_flood_makes_no_session_and_no_timer() -> None:
    instance = made(settings())
    instance.handle_timer(0.0)
    instance.outputs()
    for number in range(2000):
        source = Address.parse(f"203.0.113.{number % 250}")
        instance.receive_datagram(encode(HELLO), FROM_B._replace(source=source), 0.0)
    assert len(instance) == 1
    assert instance.outputs() == []
    assert drops(instance) == {"no_session": 2000}


def test_a_peer_that_moves_its_timers_again_and_again_fills_no_memory() -> None:
    """Each far timer that a near one replaces stays on the heap until then: 70 minutes here."""
    instance = made(settings(), settings(OTHER, "t"))
    now = 0.0
    far = known(instance)._replace(
        state=BfdState.DOWN, multiplier=255, desired_min_tx_us=2**32 - 1,
        required_min_rx_us=2**32 - 1,
    )  # fmt: skip
    near = far._replace(required_min_rx_us=10_000)
    for number in range(4000):
        instance.receive_datagram(encode(near if number % 2 else far), FROM_B, now)
        instance.handle_timer(now)
        now += 1.5
        instance.handle_timer(now)
        instance.outputs()
    assert instance.timers <= 2 * len(instance) + STALE_TIMERS_MAX
    instance.handle_timer(now + 1e6)
    assert instance.outputs(), "a timer that counts was not removed"


def test_a_packet_costs_the_same_whatever_the_number_of_sessions_with_its_sender(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A thousand links may lead to the same link-local address."""
    fitted = list[object]()
    fits = bfd_instance._fits

    def counted(wanted: BfdSettings, origin: Origin) -> bool:
        fitted.append(wanted)
        return fits(wanted, origin)

    monkeypatch.setattr(bfd_instance, "_fits", counted)
    instance = made(*[settings(B, str(number), ifindex=number) for number in range(1, 1001)])
    for ifindex in (1, 1000, 2000):
        instance.receive_datagram(encode(HELLO), FROM_B._replace(ifindex=ifindex), 0.0)
    assert len(fitted) == 2
    assert (state(instance, "1"), state(instance, "1000")) == (BfdState.INIT, BfdState.INIT)
    assert drops(instance) == {"no_session": 1}


def test_the_most_specific_session_gets_the_first_packet() -> None:
    instance = made(
        settings(B, "any"), settings(B, "link", ifindex=7), settings(B, "own", source=A)
    )
    instance.receive_datagram(encode(HELLO), FROM_B, 0.0)
    instance.receive_datagram(encode(HELLO), FROM_B._replace(destination=OTHER), 0.0)
    instance.receive_datagram(encode(HELLO), FROM_B._replace(destination=OTHER, ifindex=8), 0.0)
    assert [state(instance, name) for name in ("own", "link", "any")] == [BfdState.INIT] * 3


FORGED = FROM_B._replace(source_port=55_555)


def up(key: BfdKey | None = None) -> tuple[BfdInstance, AuthState]:
    """A session that is up, with a peer that sends from one port."""
    instance, signer = made(settings(key=key)), AuthState(5)
    for step in (BfdState.DOWN, BfdState.INIT):
        packet = known(instance)._replace(state=step)
        instance.receive_datagram(signed(packet, key, signer), FROM_B, 0.0)
    assert state(instance) is BfdState.UP
    return instance, signer


def signed(packet: ControlPacket, key: BfdKey | None, signer: AuthState) -> bytes:
    data = encode(packet, section_bytes(key))
    return data if key is None else signer.sign(data, key)


@pytest.mark.parametrize("forged", [BfdState.DOWN, BfdState.ADMIN_DOWN])
def test_a_user_of_the_peers_machine_takes_no_session_down(forged: BfdState) -> None:
    """It has the peer's address and hop limit, but neither the port nor the discriminator."""
    instance, _ = up()
    for _ in range(10):
        instance.receive_datagram(encode(HELLO._replace(state=forged)), FORGED, 0.1)
    assert state(instance) is BfdState.UP
    assert drops(instance) == {"source_port": 10}


def test_a_peer_that_has_lost_us_is_heard_at_once() -> None:
    """It names no discriminator any more, and sends from the port that it had."""
    instance, _ = up()
    instance.receive_datagram(encode(HELLO), FROM_B, 0.1)
    assert state(instance) is BfdState.DOWN


def test_a_peer_that_was_started_again_is_heard_after_the_detection_time() -> None:
    instance, _ = up()
    instance.receive_datagram(encode(HELLO), FORGED, 0.1)
    instance.handle_timer(10.0)
    assert state(instance) is BfdState.DOWN
    instance.receive_datagram(encode(HELLO), FORGED, 10.1)
    assert state(instance) is BfdState.INIT


def test_a_peer_that_proves_itself_may_change_its_port() -> None:
    instance, _ = up()
    instance.receive_datagram(encode(known(instance)), FORGED, 0.1)
    instance.receive_datagram(encode(HELLO), FROM_B, 0.1)
    assert state(instance) is BfdState.UP
    instance.receive_datagram(encode(HELLO), FORGED, 0.1)
    assert state(instance) is BfdState.DOWN


SHA1 = BfdKey(BfdAuthType.METICULOUS_KEYED_SHA1, 1, b"secret")


def test_a_key_is_a_proof() -> None:
    instance, signer = up(SHA1)
    instance.receive_datagram(signed(HELLO, SHA1, signer), FORGED, 0.1)
    assert state(instance) is BfdState.DOWN


def test_recorded_packets_bring_no_session_up_again() -> None:
    """The peer is gone for so long that its sequence numbers are forgotten, and somebody repeats
    all that it sent."""
    instance, signer = made(settings(key=SHA1)), AuthState(5)
    recorded = [
        signed(known(instance)._replace(state=step), SHA1, signer)
        for step in (BfdState.DOWN, BfdState.INIT, BfdState.UP, BfdState.UP)
    ]
    before = known(instance).your_discriminator
    for number, data in enumerate(recorded):
        instance.receive_datagram(data, FROM_B, number / 10)
    assert state(instance) is BfdState.UP
    instance.handle_timer(5.0)
    instance.handle_timer(20.0)
    assert state(instance) is BfdState.DOWN
    assert known(instance).your_discriminator != before
    for number, data in enumerate(recorded):
        instance.receive_datagram(data, FROM_B, 20 + number / 10)
    assert state(instance) is BfdState.DOWN
    assert drops(instance) == {"your_discriminator": 4}


def test_a_session_without_a_key_keeps_its_discriminator() -> None:
    instance, _ = up()
    before = known(instance).your_discriminator
    instance.handle_timer(20.0)
    assert known(instance).your_discriminator == before


def test_packets_that_the_network_did_not_take_are_counted() -> None:
    instance = made(settings())
    instance.record_send_error("s")
    instance.record_send_error("unknown")
    report = instance.report("s", 0.0)
    assert report is not None
    assert report.send_errors == 1


def test_the_first_packet_of_a_session_says_down() -> None:
    instance = made(settings())
    instance.handle_timer(0.0)
    (output,) = instance.outputs()
    assert isinstance(output, SendControl)
    packet, _ = decode(output.data)
    assert (packet.state, packet.your_discriminator) == (BfdState.DOWN, 0)
