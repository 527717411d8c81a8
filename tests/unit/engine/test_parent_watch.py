"""A silent parent: reported once, and not by an engine that was stopped itself."""

from __future__ import annotations

import trio
import trio.testing

from routed.engine.parent_watch import SILENT_TICKS, TICK_S, ParentWatch
from routed.log.events import Level
from routed.log.logger import Logger
from routed.parent.engine_process.session import PULSE_S
from tests.fakes.fake_engines import Sink


def test_the_engine_expects_what_the_parent_sends() -> None:
    assert TICK_S == PULSE_S


async def test_silence_is_logged_once_and_so_is_its_end(
    autojump_clock: trio.testing.MockClock,
) -> None:
    sink = Sink()
    watch = ParentWatch(trio.current_time, Logger(sink, "engine", Level.DEBUG))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(watch.run)
        for _ in range(10):
            await trio.sleep(TICK_S)
            watch.record_message()
        assert sink.records == []
        await trio.sleep(TICK_S / 2)
        watch.record_message()
        heard_at = trio.current_time()
        await trio.sleep((SILENT_TICKS - 1) * TICK_S)
        assert sink.records == []
        await trio.sleep(100 * TICK_S)
        assert watch.silent_since == heard_at
        watch.record_message()
        assert [record.event for record in sink.records] == ["parent-silent", "parent-back"]
        nursery.cancel_scope.cancel()


async def test_an_engine_that_was_stopped_itself_reports_no_silence(
    mock_clock: trio.testing.MockClock,
) -> None:
    """One tick has passed for it, however long it was stopped."""
    sink = Sink()
    watch = ParentWatch(trio.current_time, Logger(sink, "engine", Level.DEBUG))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(watch.run)
        await trio.testing.wait_all_tasks_blocked()
        mock_clock.jump(1000)
        await trio.testing.wait_all_tasks_blocked()
        assert watch.silent_since is None
        assert sink.records == []
        nursery.cancel_scope.cancel()
