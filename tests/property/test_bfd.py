"""Laws of BFD: any bytes decode or are refused with a reason; two systems agree after any loss."""

from __future__ import annotations

import contextlib
import random

from hypothesis import given
from hypothesis import strategies as st

from routed.bfd.instance import BfdInstance, Origin
from routed.bfd.wire import ControlPacket, DecodeError, decode, encode
from routed.model.bfd import BfdAuthType, BfdDiagnostic, BfdKey, BfdState
from tests.fakes.bfd_pair import A, B, BfdPair, settings

U32 = st.integers(0, 2**32 - 1)
PACKETS = st.builds(
    ControlPacket,
    state=st.sampled_from(BfdState),
    diagnostic=st.sampled_from(BfdDiagnostic),
    multiplier=st.integers(1, 255),
    my_discriminator=U32.filter(bool),
    your_discriminator=U32.filter(bool),
    desired_min_tx_us=U32,
    required_min_rx_us=U32,
    required_min_echo_rx_us=U32,
    is_poll=st.booleans(),
    is_final=st.booleans(),
    is_demand=st.booleans(),
    is_authenticated=st.just(False),
)
KEYS = st.none() | st.builds(
    BfdKey, st.sampled_from(BfdAuthType), st.integers(0, 255), st.binary(min_size=1, max_size=16)
)


@given(PACKETS)
def test_decoding_undoes_encoding(packet: ControlPacket) -> None:
    assert decode(encode(packet)) == (packet, b"")


@given(st.binary(max_size=80))
def test_any_bytes_decode_or_have_a_reason(data: bytes) -> None:
    with contextlib.suppress(DecodeError):
        packet, section = decode(data)
        assert packet.my_discriminator
        assert packet.multiplier
        assert bool(section) is packet.is_authenticated


@given(
    st.lists(st.binary(max_size=60) | PACKETS.map(encode), max_size=30),
    KEYS,
    st.floats(0, 5),
)
def test_a_session_works_after_any_packets_of_the_peer(
    packets: list[bytes], key: BfdKey | None, pause_s: float
) -> None:
    instance = BfdInstance(random.Random(1))
    instance.configure([settings(key=key)], 0.0)
    now, given_in = 0.0, 0
    for data in packets:
        instance.receive_datagram(data, Origin(B, A, 1, 255, is_multihop=False), now)
        now += pause_s
        instance.handle_timer(now)
    report = instance.report("s", now)
    assert report is not None
    given_in = sum(report.dropped.values()) + sum(instance.counts().values())
    assert report.packets_received + given_in == len(packets), "each counts once"
    assert report.state is not BfdState.ADMIN_DOWN
    assert len(instance) == 1


@given(
    seed=st.integers(0, 1000),
    loss=st.floats(0, 0.9),
    multipliers=st.tuples(st.integers(1, 5), st.integers(1, 5)),
    intervals=st.tuples(*[st.sampled_from([10_000, 50_000, 300_000, 2_000_000])] * 4),
    key=KEYS,
)
def test_two_systems_agree_while_the_network_works_and_detect_when_it_does_not(
    seed: int,
    loss: float,
    multipliers: tuple[int, int],
    intervals: tuple[int, int, int, int],
    key: BfdKey | None,
) -> None:
    a = settings(
        multiplier=multipliers[0], transmit_us=intervals[0], receive_us=intervals[1], key=key
    )
    b = settings(
        A, multiplier=multipliers[1], transmit_us=intervals[2], receive_us=intervals[3], key=key
    )
    pair, rng = BfdPair(a, b, seed), random.Random(seed)
    pair.loses = lambda _side: rng.random() < loss
    pair.run(3.0)
    pair.loses = lambda _side: False
    pair.run(30.0)  # more than the longest detection time, and then three slow packets
    assert pair.states == (BfdState.UP, BfdState.UP)
    before = len(pair.changes)
    pair.run(10.0)
    assert len(pair.changes) == before, "no false alarm without loss"
    detection_s = max(pair.report(side).detection_time_us for side in (0, 1)) / 1e6
    pair.loses = lambda _side: True
    pair.run(detection_s + 0.001)
    assert BfdState.UP not in pair.states
