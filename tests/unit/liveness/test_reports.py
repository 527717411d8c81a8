"""Reports to the engine: the last state of each session, however often it changes."""

from __future__ import annotations

import random
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import trio

from ipc import codec
from ipc.channel import Channel
from ipc.framing import INTERNAL_FRAME_MAX_BYTES
from routed.bfd.instance import BfdInstance
from routed.imsg.liveness import BFD_REPORTS_MAX, BfdReported
from routed.liveness.reports import BfdReports, EngineLink, StateReporter
from routed.model.prefix import Address
from tests.fakes.bfd_pair import settings

DEADLINE_S = 30.0
SESSIONS = 120


@asynccontextmanager
async def reporting() -> AsyncIterator[tuple[StateReporter, EngineLink, Channel]]:
    """A reporter of many sessions, and the engine's end of its channel."""
    instance = BfdInstance(random.Random(1))
    instance.configure(
        [settings(Address.parse("192.0.2.1"), str(n), ifindex=n) for n in range(1, SESSIONS + 1)],
        0.0,
    )
    link = EngineLink()
    reporter = StateReporter(BfdReports(instance, trio.current_time, lambda: 7), link)
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    engine = Channel(theirs, INTERNAL_FRAME_MAX_BYTES)
    with trio.fail_after(DEADLINE_S):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(reporter.run)
            link.connect(ours)
            yield reporter, link, engine
            nursery.cancel_scope.cancel()
    engine.close()
    ours.close()


async def report(engine: Channel) -> BfdReported:
    frame, _ = await engine.receive()
    return codec.decode(BfdReported, frame.body)


async def test_a_new_engine_gets_every_session_and_then_knows_that_it_has_all() -> None:
    async with reporting() as (_, _, engine):
        found = [await report(engine) for _ in range(-(-SESSIONS // BFD_REPORTS_MAX))]
    names = [each.name for message in found for each in message.reports]
    assert sorted(names, key=int) == [str(n) for n in range(1, SESSIONS + 1)]
    assert [message.is_complete for message in found] == [False] * (len(found) - 1) + [True]
    assert found[0].dropped == {"by_kernel": 7}


async def test_what_waits_is_one_report_for_each_session_however_often_it_changes() -> None:
    async with reporting() as (reporter, _, engine):
        while not (await report(engine)).is_complete:
            pass
        for _ in range(1000):
            for name in ("1", "2"):
                reporter.mark(name)
        message = await report(engine)
        while len(message.reports) != 2:  # one of the periodic reports
            message = await report(engine)
        assert [each.name for each in message.reports] == ["1", "2"]
        following = await report(engine)
        assert len(following.reports) == 1, "a periodic report, and no second of these"


async def test_a_session_that_is_not_there_has_ended() -> None:
    async with reporting() as (reporter, _, engine):
        while not (await report(engine)).is_complete:
            pass
        reporter.mark("gone")
        message = await report(engine)
        while not message.ended:
            message = await report(engine)
        assert message.ended == ("gone",)


async def test_an_engine_that_has_gone_is_let_go_and_the_next_gets_everything() -> None:
    async with reporting() as (reporter, link, engine):
        engine.close()
        reporter.mark("1")
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        following = Channel(theirs, INTERNAL_FRAME_MAX_BYTES)
        link.connect(ours)
        names: set[str] = set()
        while len(names) < SESSIONS:
            names |= {each.name for each in (await report(following)).reports}
        following.close()
        ours.close()
