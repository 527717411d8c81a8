"""The smallest networks: one instance that listens, and two on one wire."""

from __future__ import annotations

import random

from routed.model.prefix import Address, Prefix
from routed.nup.events import AdjacencyState
from routed.nup.instance import NeighborInstance
from routed.nup.wire.message import (
    HeaderFlag,
    Hello,
    Message,
    MessageType,
    NeighborHeard,
    Sender,
    Tlv,
    encode,
)
from tests.fakes.fake_wire import FakeWire, Node, WireFaults, link_settings, router_id

__all__ = [
    "IPV6",
    "LOOPBACK",
    "PEER",
    "heartbeat",
    "listening_instance",
    "make_instance",
    "many_prefixes",
    "pair",
    "states",
]

LOOPBACK = Prefix.parse("10.255.0.1/32")
IPV6 = Prefix.parse("2001:db8:1::/48")
PEER = Address.parse("fe80::2:1")


def make_instance(number: int = 1) -> NeighborInstance:
    return NeighborInstance(router_id(number), 100 + number, 1000, random.Random(number))


def heartbeat(number: int, sequence: int = 1, heard: tuple[NeighborHeard, ...] = ()) -> bytes:
    tlvs: tuple[Tlv, ...] = (Hello(1000, 3, 1500, 0), *heard)
    sender = Sender(router_id(number), 7)
    return encode(Message(MessageType.HEARTBEAT, HeaderFlag(0), sequence, 1, sender, tlvs))


def listening_instance() -> NeighborInstance:
    instance = make_instance()
    instance.link_up(link_settings(1, 1), 0.0)
    instance.outputs()
    return instance


def pair(faults: WireFaults | None = None, **link: float | bool) -> tuple[FakeWire, Node, Node]:
    """a and b on one wire; a brings in a prefix of each family."""
    wire = FakeWire(1, faults)
    a, b = wire.add_node("a"), wire.add_node("b")
    wire.connect("a", "b", **link)  # type: ignore[arg-type]
    wire.originate("a", str(LOOPBACK), str(IPV6))
    return wire, a, b


def many_prefixes(count: int) -> list[str]:
    """172.16.0.0/24 and those after it."""
    return [f"172.{16 + number // 256}.{number % 256}.0/24" for number in range(count)]


def states(node: Node) -> list[AdjacencyState]:
    return [change.new for change in node.adjacency_log]
