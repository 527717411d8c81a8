"""The engine's end of the channel: messages in parts, and messages that cannot be sent."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any, cast

import pytest
import trio

from ipc.channel import Channel
from ipc.codec import decode
from ipc.framing import INTERNAL_FRAME_MAX_BYTES
from routed.engine.main import Engine
from routed.engine.show.memory import ProcessMemory
from routed.imsg.authority import AUTHORITY, ImsgType
from routed.imsg.frames import frames_of
from routed.imsg.messages import (
    ConfBegin,
    ConfSecrets,
    LinkChanged,
    LogEvent,
    MessagesDropped,
    NextHopsReported,
    Pong,
    RuleReport,
    RulesChanged,
)
from routed.model.link import Interface, InterfaceAddress
from routed.model.prefix import Address, Family
from routed.model.rule import PolicyRule
from routed.model.secret import SharedSecret
from routed.snapshot.writer import SnapshotMemory


class Rooms:
    """Remembers what it is told."""

    def __init__(self) -> None:
        self.links: list[Interface] = []
        self.router = SimpleNamespace(link_changed=self.links.append)
        self.reporter = SimpleNamespace(rule_reports=())


@pytest.fixture
def ends() -> Iterator[tuple[Engine, socket.socket, Rooms]]:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs:
        confinement = cast("Any", SimpleNamespace(missing=()))
        memory = SnapshotMemory(trie_words=1 << 18, data_words=1 << 12)
        engine = Engine(theirs, confinement, ProcessMemory(), memory)
        rooms = Rooms()
        engine._rooms = cast("Any", rooms)
        yield engine, ours, rooms
        memory.close()


def give(engine: Engine, message: object) -> int:
    """What the parent sends for a message; returns in how many parts."""
    frames = frames_of(message)
    for frame in frames:
        message_class = AUTHORITY[ImsgType(frame.type)].message
        engine._take(decode(message_class, frame.body), 0, None)
    return len(frames)


def link(count: int, ifindex: int = 7) -> Interface:
    addresses = tuple(InterfaceAddress(Address(Family.IPV4, n), 32) for n in range(count))
    return Interface(ifindex, "lo", True, True, 65536, True, False, addresses)


Ends = tuple[Engine, socket.socket, Rooms]


@pytest.mark.parametrize("count", [0, 1, 1500, 1501, 16_000])
def test_a_link_with_thousands_of_addresses_arrives_whole(ends: Ends, count: int) -> None:
    """16,000 on `lo` ended the daemon at its start (S1d)."""
    engine, _, rooms = ends
    parts = give(engine, LinkChanged(link(count)))
    assert (parts > 1) == (count > 1500)
    give(engine, LinkChanged(link(2, ifindex=8)))
    assert rooms.links == [link(count), link(2, ifindex=8)], "each once, and never in part"


def test_thousands_of_policy_rules_arrive_whole(ends: Ends) -> None:
    """9,000 ended the daemon, and every restart (S1c)."""
    engine, _, rooms = ends
    reports = tuple(
        RuleReport(PolicyRule(Family.IPV4, n, table_id=9), "x" * 200) for n in range(9000)
    )
    assert give(engine, RulesChanged(reports)) > 1
    assert rooms.reporter.rule_reports == reports
    give(engine, RulesChanged(reports[:1]))
    assert rooms.reporter.rule_reports == reports[:1]


def test_hundreds_of_secrets_arrive_whole_and_replace_those_before(ends: Ends) -> None:
    engine, _, _ = ends
    secrets = tuple(SharedSecret("a", n, bytes(1024)) for n in range(500))
    begin = ConfBegin(1, 0, 0, 0, {}, "/etc/routed/routes.yaml", 1, 1)
    for several in (secrets, secrets[:3]):
        give(engine, begin)
        give(engine, ConfSecrets(several))
        assert engine._secrets == several


def test_what_the_parent_could_not_send_is_counted_with_us(ends: Ends) -> None:
    engine, _, rooms = ends
    give(engine, MessagesDropped(3))
    assert rooms.reporter.parent_messages_dropped == 3


def test_a_second_answer_to_one_question_ends_nothing(ends: Ends) -> None:
    engine, _, _ = ends
    taken: list[object] = []

    class Full:
        def send_nowait(self, answer: object) -> None:
            if taken:
                raise trio.WouldBlock
            taken.append(answer)

    engine._nexthops[5] = cast("Any", Full())
    for _ in range(2):
        engine._take(NextHopsReported((), is_last=True), 5, None)
    assert len(taken) == 1


async def test_a_message_that_cannot_be_sent_costs_that_message(ends: Ends) -> None:
    engine, ours, _ = ends
    engine._rooms = None
    engine._say(object())
    engine._say(LogEvent("sandboxed", {"by": cast("Any", 5)}))
    engine._say(Pong())
    await engine._send_all()
    channel = Channel(ours, INTERNAL_FRAME_MAX_BYTES)
    first = (await channel.receive()).frame
    assert first.type == ImsgType.PONG, "what was queued after them"
    dropped = [
        decode(LogEvent, (await channel.receive()).frame.body).fields["message"] for _ in range(2)
    ]
    assert dropped == ["object", "LogEvent"]
    assert engine._messages_dropped == 2
