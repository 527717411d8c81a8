"""Cost of one datagram: it depends on its bytes, and on no number in it.

Operations are lines of this package's code that run, counted by a trace function. Every TLV of the
registry is sent at its worst: as often as it fits, with the largest numbers that it can carry.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from routed.model.prefix import Address, Family, Prefix
from routed.nup.events import AdjacencyState, TraceCode
from routed.nup.link.state import Neighbor
from routed.nup.transport.reliable import (
    MAX_OWED,
    MAX_RUNS,
    RECEIVE_WINDOW,
    OutgoingData,
    ReceiveStream,
    ReceiveVerdict,
)
from routed.nup.wire.message import (
    HEADER_BYTES,
    MAX_ACK_RANGES,
    MAX_ACK_SPAN,
    MAX_DATAGRAM_BYTES,
    TLV_CLASSES,
    Ack,
    AckRange,
    BeginTable,
    ChallengeReply,
    ChallengeRequest,
    EndOfTable,
    Goodbye,
    HeaderFlag,
    HeartbeatRequest,
    Hello,
    LinkAddress,
    Mac,
    Message,
    MessageType,
    NeighborHeard,
    Receiver,
    Reception,
    ReplayCounter,
    RestartNotice,
    RouteUpdate,
    Sender,
    SeqnoRequest,
    Stream,
    TableRequest,
    TableVersion,
    Tlv,
    encode,
    encode_tlvs,
    tlv_bytes,
)
from tests.fakes.fake_wire import router_id
from tests.fakes.nup_pair import PEER
from tests.fakes.operations import operations
from tests.unit.nup.test_instance_transitions import Puppet

BIG = 0xFFFF_FFFF
OWED = 3000
"""Messages that the neighbor has not acknowledged when the datagram arrives."""
OPERATIONS_PER_BYTE = 25
OPERATIONS_AT_ALL = 2500
OPERATIONS_PER_OWED = 8
"""Operations per owed message to find those that an ACK names."""
OPERATIONS_PER_SETTLED = 25
"""Operations once for each message, when it is acknowledged or the adjacency ends."""


def filled(fixed: tuple[Tlv, ...], repeated: Iterator[Tlv]) -> tuple[Tlv, ...]:
    """Return some TLVs, and as many others as a datagram has room for."""
    tlvs = list(fixed)
    room = MAX_DATAGRAM_BYTES - HEADER_BYTES - len(encode_tlvs(Sender(router_id(2), 1), fixed))
    for tlv in repeated:
        room -= len(tlv_bytes(tlv))
        if room < 0:
            break
        tlvs.append(tlv)
    return tuple(tlvs)


def endless(make: Callable[[int], Tlv]) -> Iterator[Tlv]:
    return map(make, range(10_000))


def prefix(number: int) -> Prefix:
    return Prefix.trusted(Family.IPV4, (100 << 24) + (number << 8), 24)


class Victim(Puppet):
    """An instance with a neighbor that is UP and to which many messages are owed."""

    def __init__(self) -> None:
        super().__init__()
        self.reach(AdjacencyState.UP)
        for _ in range(OWED):
            link = self.instance._links[1]
            link.multicast_sequence += 1
            message = OutgoingData(Stream.MULTICAST, link.multicast_sequence, b"", 1)
            self.neighbor.exchange.sender.owe(message, self.now)

    @property
    def neighbor(self) -> Neighbor:
        (neighbor,) = self.instance._links[1].neighbors.values()
        return neighbor

    def head(self) -> tuple[Tlv, ...]:
        """Return the first TLVs of unicast DATA."""
        return (Receiver(router_id(1), self.session), TableVersion(1 << 62))


def acks(victim: Victim, runs: tuple[AckRange, ...]) -> Iterator[Tlv]:
    base = victim.instance._links[1].multicast_sequence - MAX_ACK_SPAN
    return endless(
        lambda n: Ack(router_id(1), victim.session, Stream(n % 2), (base - n) % BIG, runs)
    )


def worst(cls: type, victim: Victim) -> Iterator[tuple[MessageType, tuple[Tlv, ...]]]:
    """Yield messages in which a TLV has its most expensive value."""
    hello = Hello(10, 255, BIG, BIG)
    us = router_id(1), victim.instance.boot_id
    control, data, beat = MessageType.CONTROL, MessageType.DATA, MessageType.HEARTBEAT
    if cls is Hello:
        yield beat, (hello,)
    elif cls is NeighborHeard:
        yield beat, filled((hello,), endless(lambda n: NeighborHeard(*us, n, BIG - n, 1, BIG)))
    elif cls is Reception:
        yield beat, filled((hello,), endless(lambda n: Reception(us[0], n % 2, 255)))
    elif cls is LinkAddress:
        yield beat, filled((hello,), endless(lambda n: LinkAddress(Address(Family.IPV4, n))))
    elif cls is Ack:
        most = MAX_ACK_SPAN // MAX_ACK_RANGES - 1
        yield MessageType.ACK, filled((), acks(victim, (AckRange(1, most),) * MAX_ACK_RANGES))
        yield MessageType.ACK, filled((), acks(victim, (AckRange(1, MAX_ACK_SPAN - 1),)))
        yield MessageType.ACK, filled((), acks(victim, (AckRange(MAX_ACK_SPAN - 1, 1),)))
        yield beat, filled((hello,), acks(victim, ()))
    elif cls in (TableVersion, Receiver):
        yield data, victim.head()
    elif cls is RouteUpdate:
        updates = endless(lambda n: RouteUpdate(prefix(n), n, n, False, router_id(2), BIG - n))
        yield data, filled(victim.head(), updates)
        alike = endless(lambda n: RouteUpdate(prefix(n), BIG, 0, True, router_id(1), BIG))
        yield data, filled(victim.head(), alike)
    elif cls is SeqnoRequest:
        requests = endless(lambda n: SeqnoRequest(prefix(n), router_id(9), BIG - n, 255))
        yield data, filled(victim.head(), requests)
    elif cls is BeginTable:
        yield data, (*victim.head(), BeginTable(BIG))
    elif cls is EndOfTable:
        yield data, (*victim.head(), EndOfTable(BIG))
    elif cls is TableRequest:
        yield data, (*victim.head(), TableRequest())
    elif cls is RestartNotice:
        yield control, (RestartNotice(BIG),)
    elif cls in (ChallengeRequest, ChallengeReply):
        yield control, (cls(1 << 63), ReplayCounter(1 << 63, 1 << 63), Mac(255, bytes(32)))
    elif cls in (ReplayCounter, Mac):
        yield control, (ReplayCounter(1 << 63, 1 << 63), Mac(255, bytes(16)))
    else:
        bare: dict[type, tuple[Tlv, ...]] = {
            Sender: (),
            Goodbye: (Goodbye(),),
            HeartbeatRequest: (HeartbeatRequest(),),
        }
        yield control, bare[cls]


def cost(victim: Victim, kind: MessageType, tlvs: tuple[Tlv, ...]) -> tuple[int, int]:
    """Return operations and bytes of one datagram, including those of the messages sent in
    response."""
    instance = victim.instance
    flags = HeaderFlag.UNICAST_STREAM if kind is MessageType.DATA else HeaderFlag(0)
    sequence = victim.unicast_sequence + 900 if kind is MessageType.DATA else 1000
    data = encode(Message(kind, flags, sequence, 1, Sender(router_id(2), victim.boot_id), tlvs))
    now = victim.now

    def receive() -> None:
        instance.receive_datagram(data, PEER, 1, 255, now)
        instance.handle_timer(now + 0.02)
        instance.outputs()

    return operations(receive), len(data)


@pytest.mark.parametrize("cls", TLV_CLASSES.values(), ids=lambda cls: cls.__name__)
def test_a_tlv_at_its_worst_costs_in_proportion_to_its_bytes(cls: type) -> None:
    cases = len(list(worst(cls, Victim())))
    assert cases
    for number in range(cases):
        victim = Victim()
        kind, tlvs = list(worst(cls, victim))[number]
        spent, size = cost(victim, kind, tlvs)
        still_owed = sum(
            len(neighbor.exchange.sender._owed[Stream.MULTICAST])
            for neighbor in victim.instance._links[1].neighbors.values()
        )
        most = OPERATIONS_AT_ALL + OPERATIONS_PER_BYTE * size
        most += OPERATIONS_PER_SETTLED * (OWED - still_owed)
        if cls is Ack:
            most += OPERATIONS_PER_OWED * OWED
        assert spent <= most, f"{kind.name} of {size} bytes"


def test_runs_cost_what_is_owed_whatever_they_say() -> None:
    """One ACK TLV named four million sequences, and each of them was looked up."""
    victim = Victim()
    sender = victim.neighbor.exchange.sender
    runs = (AckRange(1, 65_535),) * MAX_ACK_RANGES
    last = victim.instance._links[1].multicast_sequence
    ack = Ack(router_id(1), victim.session, Stream.MULTICAST, last - OWED - 70_000, runs)
    most = (OPERATIONS_PER_OWED + OPERATIONS_PER_SETTLED) * OWED
    assert operations(lambda: sender.acknowledge(ack, victim.now)) <= most
    idle = Puppet()
    idle.reach(AdjacencyState.UP)
    (neighbor,) = idle.instance._links[1].neighbors.values()
    assert operations(lambda: neighbor.exchange.sender.acknowledge(ack, idle.now)) < 100


def test_what_was_acknowledged_in_runs_is_owed_no_longer() -> None:
    """Both ways of finding the messages have the same result."""
    for received in (3, OWED - 10):
        victim = Victim()
        sender, last = victim.neighbor.exchange.sender, victim.instance._links[1].multicast_sequence
        first = last - OWED + 1
        runs = (AckRange(2, received), AckRange(1, 2))
        sender.acknowledge(
            Ack(router_id(1), victim.session, Stream.MULTICAST, first - 1, runs), victim.now
        )
        left = [
            number
            for number in range(first, last + 1)
            if not sender.is_acknowledged(Stream.MULTICAST, number)
        ]
        gap = first + 2 + received
        assert left == [first, first + 1, gap, *range(gap + 3, last + 1)]


def test_an_acknowledgement_of_what_was_never_sent_is_ignored_and_counted() -> None:
    victim = Victim()
    sender, last = victim.neighbor.exchange.sender, victim.instance._links[1].multicast_sequence
    for cumulative, runs in ((last + 1, ()), (last - 1, (AckRange(1, 1),))):
        victim.send(
            MessageType.ACK,
            Ack(router_id(1), victim.session, Stream.MULTICAST, cumulative, runs),
        )
    assert not sender.is_acknowledged(Stream.MULTICAST, last)
    assert not sender.is_acknowledged(Stream.MULTICAST, last - 1)
    assert victim.instance.counters()[TraceCode.IGNORED_ACK.value] == 2


def test_of_two_acknowledgements_of_one_stream_the_first_counts() -> None:
    victim = Victim()
    sender, last = victim.neighbor.exchange.sender, victim.instance._links[1].multicast_sequence
    both = [
        Ack(router_id(1), victim.session, Stream.MULTICAST, cumulative)
        for cumulative in (last - 2, last)
    ]
    victim.send(MessageType.ACK, *both)
    assert sender.is_acknowledged(Stream.MULTICAST, last - 2)
    assert not sender.is_acknowledged(Stream.MULTICAST, last)
    assert victim.instance.counters()[TraceCode.IGNORED_ACK.value] == 1


def test_gaps_cost_a_receiver_no_more_than_the_acknowledgement_that_names_them() -> None:
    stream = ReceiveStream(base=0)
    for sequence in range(2, 2 * MAX_RUNS + 2, 2):
        assert stream.accept(sequence) is ReceiveVerdict.NEW
    assert stream.accept(2 * MAX_RUNS + 2) is ReceiveVerdict.OUT_OF_WINDOW
    assert stream.accept(2 * MAX_RUNS + 1) is ReceiveVerdict.NEW, "it begins no run"
    assert len(stream.ranges()) == MAX_ACK_RANGES
    assert operations(stream.ranges) < 10 * MAX_ACK_RANGES
    assert operations(lambda: stream.accept(3)) < 40
    assert stream.accept(1) is ReceiveVerdict.NEW
    assert stream.cumulative == 4


def test_a_receive_window_full_but_for_its_first_costs_no_walk() -> None:
    stream = ReceiveStream(base=0xFFFF_FF00)
    for step in range(2, RECEIVE_WINDOW + 1):
        assert stream.accept((0xFFFF_FF00 + step) % (1 << 32)) is ReceiveVerdict.NEW
    assert stream.ranges() == (AckRange(1, RECEIVE_WINDOW - 1),)
    assert operations(lambda: stream.accept(0xFFFF_FF01)) < 40
    assert stream.cumulative == (0xFFFF_FF00 + RECEIVE_WINDOW) % (1 << 32)
    assert not stream.has_gap


def test_the_receive_window_is_what_an_acknowledgement_can_name() -> None:
    assert RECEIVE_WINDOW == MAX_ACK_SPAN == 2 * MAX_OWED
