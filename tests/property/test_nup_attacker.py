"""An attacker on an authenticated wire reads everything, sends anything, and changes nothing.

The attacker has every datagram ever sent on the wire, and on another wire of the same routers with
the same key. It can repeat, change, truncate, redirect and reflect them and create others; it does
not have the secret. After any of its datagrams the routers' state is the same as without it.
"""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from routed.model.prefix import Address
from routed.nup.events import Output, SendDatagram, Trace, TraceCode
from routed.nup.wire.message import (
    Goodbye,
    HeaderFlag,
    Message,
    MessageType,
    RestartNotice,
    Sender,
    Tlv,
    checksum,
    decode,
    encode,
)
from tests.fakes.fake_wire import FakeWire, Node, router_id
from tests.fakes.nup_keys import key, ring

Recorded = tuple[Node, bytes]


def recorded_network(seed: int, rotation: bool) -> tuple[FakeWire, list[Recorded]]:
    """Two routers on two wires, an hour of operation in a few seconds, and all datagrams."""
    wire = FakeWire(seed)
    wire.add_node("a")
    wire.add_node("b")
    rings = dict.fromkeys("ab", ring(key(1), key(2, secret=b"the second secret")))
    heard: list[Recorded] = []

    def record(sender: Node, _receiver: Node, data: bytes) -> bool:
        heard.append((sender, data))
        return False

    for _ in range(2):
        wire.connect("a", "b", key_rings=rings).drops = record
    wire.originate("a", "10.255.0.1/32", "2001:db8:1::/48")
    wire.originate("b", "10.255.0.2/32")
    wire.run(2)
    wire.withdraw("a", "10.255.0.1/32")
    wire.run(1)
    if rotation:
        wire.crash("b")
        wire.run(0.5)
        wire.revive("b")
        wire.run(3)
    return wire, heard


def state_of(node: Node, now: float) -> object:
    """Return the state that a forged datagram must not change."""
    instance = node.instance
    believed = [row for row in instance.neighbors(now) if row.router_id is not None]
    return believed, instance.learned(), node.learned, set(node.held), instance.is_loaded(now)


def is_harmless(output: Output) -> bool:
    """Whether a router may send this answer to an unauthenticated sender: nothing, or an
    authenticated challenge.
    """
    match output:
        case Trace(code=code):
            return code is not TraceCode.PROVEN
        case SendDatagram(data=data):
            return decode(data).type is MessageType.CONTROL
    return False


def resealed(data: bytes) -> bytes:
    """Correct the length and the checksum, so that only the digest is wrong."""
    mutable = bytearray(data)
    mutable[12:14] = (len(data) - 16).to_bytes(2, "big")
    mutable[14:16] = bytes(2)
    mutable[14:16] = checksum(bytes(mutable)).to_bytes(2, "big")
    return bytes(mutable)


def flipped(data: bytes, rng: random.Random) -> bytes:
    position = rng.randrange(16, len(data))
    changed = bytearray(data)
    changed[position] ^= 1 << rng.randrange(8)
    return resealed(bytes(changed))


def header_changed(data: bytes, rng: random.Random) -> bytes:
    position = rng.choice([1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11])
    changed = bytearray(data)
    changed[position] = (changed[position] + rng.randrange(1, 256)) % 256
    return resealed(bytes(changed))


def cut_short(data: bytes, rng: random.Random) -> bytes:
    return resealed(data[: rng.randrange(16, len(data))])


def unsigned(data: bytes, rng: random.Random) -> bytes:
    notice: Tlv = Goodbye() if rng.random() < 0.5 else RestartNotice(30_000)
    sender = decode(data).sender
    return encode(Message(MessageType.CONTROL, HeaderFlag(0), 2**31, 0, sender, (notice,)))


def signed_by_another(data: bytes, rng: random.Random) -> bytes:
    changed = bytearray(data)
    changed[-16:] = rng.randbytes(16)
    return resealed(bytes(changed))


def unchanged(data: bytes, _rng: random.Random) -> bytes:
    return data


ATTACKS: list[Callable[[bytes, random.Random], bytes]] = [
    unchanged, flipped, header_changed, cut_short, unsigned, signed_by_another,
]  # fmt: skip


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32), st.booleans())
def test_no_forged_or_repeated_datagram_changes_any_state(seed: int, rotation: bool) -> None:
    wire, heard = recorded_network(seed % 5, rotation)
    rng = random.Random(seed)
    addresses = [settings_.local_address for node in wire.nodes.values()
                 for _, settings_ in node.links.values()]  # fmt: skip
    addresses.append(Address.parse("fe80::bad"))
    for node in wire.nodes.values():
        node.instance.handle_timer(wire.now)
        node.instance.outputs()
        before = state_of(node, wire.now)
        for sender, data in rng.sample(heard, 40):
            attack = rng.choice(ATTACKS)
            ifindex = rng.choice(list(node.links))
            source = rng.choice(
                [*addresses, *(link[1].local_address for link in sender.links.values())]
            )
            node.instance.receive_datagram(attack(data, rng), source, ifindex, 255, wire.now)
            outputs = node.instance.outputs()
            assert all(map(is_harmless, outputs)), (attack, outputs)
            assert state_of(node, wire.now) == before, attack


def test_the_attacks_above_work_where_nothing_is_signed() -> None:
    """The same goodbye that is dropped above ends an adjacency without keys."""
    wire = FakeWire(1)
    _, b = wire.add_node("a"), wire.add_node("b")
    wire.connect("a", "b")
    wire.originate("a", "10.255.0.1/32")
    wire.run(1)
    before = state_of(b, wire.now)
    a = wire.nodes["a"]
    sender = Sender(router_id(1), a.instance.boot_id)
    forged = encode(Message(MessageType.CONTROL, HeaderFlag(0), 2**31 - 1, 0, sender, (Goodbye(),)))
    b.instance.receive_datagram(forged, a.links[1][1].local_address, 1, 255, wire.now)
    assert state_of(b, wire.now) != before


@pytest.mark.parametrize("seed", range(3))
def test_an_attacker_who_repeats_everything_at_once_does_not_end_an_adjacency(seed: int) -> None:
    wire, _ = recorded_network(seed, False)
    for segment in wire.segments:
        segment.drops = None
    wire.faults.duplication = 1.0
    wire.faults.jitter_s = 0.005
    changes = [len(node.adjacency_log) for node in wire.nodes.values()]
    wire.run(20)
    assert [len(node.adjacency_log) for node in wire.nodes.values()] == changes
    assert wire.all_up()
