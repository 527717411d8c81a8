"""The engine's end of the channel: messages in parts, and messages that cannot be sent."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any, cast

import pytest

from ipc.channel import Channel
from ipc.codec import decode
from ipc.framing import INTERNAL_FRAME_MAX_BYTES
from routed.engine.components import Components, ProcessResources
from routed.engine.dataplane import Dataplane
from routed.engine.main import Engine
from routed.engine.show.memory import ProcessMemory
from routed.engine.show.parent_reports import ParentReports
from routed.imsg.authority import AUTHORITY, ImsgType
from routed.imsg.frames import frames_of
from routed.imsg.messages import (
    LinkChanged,
    LogEvent,
    MessagesDropped,
    Pong,
    RuleReport,
    RulesChanged,
)
from routed.model.link import Interface, InterfaceAddress
from routed.model.prefix import Address, Family
from routed.model.rule import PolicyRule
from routed.snapshot.writer import SnapshotMemory

Scene = tuple[Engine, socket.socket, list[Interface], ParentReports]


@pytest.fixture
def scene() -> Iterator[Scene]:
    """Provide a running engine, the parent's end, the links of its router, and its reports."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs:
        confinement = cast("Any", SimpleNamespace(missing=()))
        memory = SnapshotMemory(trie_words=1 << 18, data_words=1 << 12)
        engine = Engine(theirs, ProcessResources(confinement, ProcessMemory(), memory))
        links: list[Interface] = []
        router = cast("Any", SimpleNamespace(link_changed=links.append, config=None))
        reports = ParentReports()
        unused = cast("Any", None)
        engine.components = Components(
            router, reports, unused, unused, unused, Dataplane(unused, unused, unused)
        )
        yield engine, ours, links, reports
        memory.close()


def give(engine: Engine, message: object) -> int:
    """Send a message as the parent does. Returns the number of its parts."""
    frames = frames_of(message)
    for frame in frames:
        message_class = AUTHORITY[ImsgType(frame.type)].message
        engine._handle(decode(message_class, frame.body), 0, None, cast("Any", None))
    return len(frames)


def link(count: int, ifindex: int = 7) -> Interface:
    addresses = tuple(InterfaceAddress(Address(Family.IPV4, n), 32) for n in range(count))
    return Interface(ifindex, "lo", True, True, 65536, True, False, addresses)


@pytest.mark.parametrize("count", [0, 1, 1500, 1501, 16_000])
def test_a_link_with_thousands_of_addresses_arrives_whole(scene: Scene, count: int) -> None:
    """16,000 on `lo` ended the daemon at its start (S1d)."""
    engine, _, links, _ = scene
    parts = give(engine, LinkChanged(link(count)))
    assert (parts > 1) == (count > 1500)
    give(engine, LinkChanged(link(2, ifindex=8)))
    assert links == [link(count), link(2, ifindex=8)], "each once, and never in part"


def test_thousands_of_policy_rules_arrive_whole(scene: Scene) -> None:
    """9,000 ended the daemon, and every restart (S1c)."""
    engine, _, _, reports = scene
    rules = tuple(
        RuleReport(PolicyRule(Family.IPV4, n, table_id=9), "x" * 200) for n in range(9000)
    )
    assert give(engine, RulesChanged(rules)) > 1
    assert reports.rules == rules
    give(engine, RulesChanged(rules[:1]))
    assert reports.rules == rules[:1]


def test_messages_that_the_parent_could_not_send_are_reported(scene: Scene) -> None:
    engine, _, _, reports = scene
    give(engine, MessagesDropped(3))
    assert reports.messages_dropped == 3


async def test_a_message_that_cannot_be_sent_is_dropped_and_counted(scene: Scene) -> None:
    engine, ours, _, _ = scene
    queue = engine._parent.queue
    queue.send(object())
    queue.send(LogEvent("sandboxed", {"by": cast("Any", 5)}))
    queue.send(Pong())
    await queue.send_all()
    channel = Channel(ours, INTERNAL_FRAME_MAX_BYTES)
    first = (await channel.receive()).frame
    assert first.type == ImsgType.PONG, "what was queued after them"
    dropped = [
        decode(LogEvent, (await channel.receive()).frame.body).fields["message"] for _ in range(2)
    ]
    assert dropped == ["object", "LogEvent"]
    assert queue.messages_dropped == 2
