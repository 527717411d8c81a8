"""Which packet is for which session, and packets that are for none."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest

from routed.bfd.instance import BfdInstance, Origin
from routed.bfd.outputs import SendControl
from routed.bfd.wire import ControlPacket, decode, encode
from routed.model.bfd import BfdDiagnostic, BfdDrop, BfdSettings, BfdState
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
