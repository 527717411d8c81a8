"""The order of messages to the parent, and the bound of log records that wait."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from typing import cast

import pytest

from ipc.channel import Channel
from ipc.framing import INTERNAL_FRAME_MAX_BYTES
from routed.engine.fib.programming import FibProgramming
from routed.engine.send_queue import LOG_BACKLOG, SendQueue
from routed.imsg.authority import ImsgType
from routed.imsg.messages import FibUpdate, NextHopsToVerify, Pong
from routed.model.prefix import Address


class Programming:
    """Has one message of each kind to send."""

    def __init__(self) -> None:
        self.to_verify: list[NextHopsToVerify] = [
            NextHopsToVerify(((Address.parse("192.0.2.1"), 2),))
        ]
        self.updates = [FibUpdate(1, (), (), ()), FibUpdate(2, (), (), ())]
        self.ends = ["verified", "in sync"]

    def pop_next_hops_to_verify(self) -> NextHopsToVerify | None:
        return self.to_verify.pop() if self.to_verify else None

    def pop_update(self) -> FibUpdate | None:
        return self.updates.pop(0) if self.updates else None

    def pop_next_hops_verified(self) -> bool:
        return self.ends[:1] == ["verified"] and bool(self.ends.pop(0))

    def pop_in_sync(self) -> bool:
        return self.ends[:1] == ["in sync"] and bool(self.ends.pop(0))


@pytest.fixture
def ends() -> Iterator[tuple[SendQueue, Channel]]:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs:
        limit = INTERNAL_FRAME_MAX_BYTES
        yield SendQueue(Channel(ours, limit)), Channel(theirs, limit)


async def received(channel: Channel, count: int) -> list[int]:
    return [(await channel.receive()).frame.type for _ in range(count)]


async def test_urgent_messages_are_sent_first_and_in_sync_last(
    ends: tuple[SendQueue, Channel],
) -> None:
    queue, parent = ends
    queue.send_desired_routes(cast("FibProgramming", Programming()))
    queue.log.emit("sandboxed", by="a test")
    queue.send(Pong())
    await queue.send_all()
    assert await received(parent, 7) == [
        ImsgType.NEXTHOPS_TO_VERIFY, ImsgType.PONG, ImsgType.FIB_UPDATE, ImsgType.FIB_UPDATE,
        ImsgType.LOG_EVENT, ImsgType.NEXTHOPS_VERIFIED, ImsgType.FIB_IN_SYNC,
    ]  # fmt: skip


async def test_before_there_are_desired_routes_answers_and_log_lines_are_sent(
    ends: tuple[SendQueue, Channel],
) -> None:
    queue, parent = ends
    queue.log.emit("sandboxed", by="a test")
    queue.send(Pong())
    await queue.send_all()
    assert await received(parent, 2) == [ImsgType.PONG, ImsgType.LOG_EVENT]


async def test_the_oldest_log_records_are_dropped_for_a_parent_that_does_not_read(
    ends: tuple[SendQueue, Channel],
) -> None:
    queue, _ = ends
    for number in range(LOG_BACKLOG + 5):
        queue.log.write("sandboxed", {"by": str(number)}, "engine")
    assert len(queue._log_records) == LOG_BACKLOG
    assert queue._log_records[0].fields["by"] == "5"
