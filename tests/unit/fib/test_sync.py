"""The loop around the ledger, in virtual time, against the fake kernel."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import pytest
import trio
from trio.testing import MockClock

from routed.fib.ledger import Ledger
from routed.fib.ownership import Ownership, RouteKey, RouteValue
from routed.fib.plan import OpKind
from routed.fib.sync import FibSync
from routed.log import Level, Logger, Record
from routed.model.prefix import Prefix
from routed.model.route import FibRoute, NextHop, RouteType
from tests.fakes.fake_kernel import FakeKernel


class ListSink:
    """Keeps records."""

    def __init__(self) -> None:
        self.records: list[Record] = []

    def write(self, record: Record) -> None:
        self.records.append(record)

    def close(self) -> None:
        self.records.clear()

    def events(self, name: str) -> list[Record]:
        return [record for record in self.records if record.event == name]


def route(prefix: str) -> FibRoute:
    return FibRoute(254, Prefix.parse(prefix), RouteType.BLACKHOLE)


def key(prefix: str) -> RouteKey:
    return RouteKey(254, Prefix.parse(prefix), 0, 205)


class Bench:
    def __init__(self) -> None:
        self.kernel = FakeKernel()
        self.sink = ListSink()
        self.progress = 0
        self.sync = FibSync(
            Ledger(Ownership(205, 205, frozenset({254}))),
            self.kernel,
            resync_s=300,
            log=Logger(self.sink, "parent", Level.DEBUG, now=trio.current_time),
            rng=random.Random(1),
            on_progress=self._count,
        )

    def _count(self) -> None:
        self.progress += 1

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.sync.run)
            await self.quiet()
            yield
            nursery.cancel_scope.cancel()

    async def quiet(self) -> None:
        """Until the loop has nothing to do now."""
        await trio.testing.wait_all_tasks_blocked()


# pytest-trio runs on the clock that the test function itself names, hence the argument everywhere.


@pytest.fixture
def bench() -> Iterator[Bench]:
    bench = Bench()
    yield bench
    assert bench.kernel.unconsumed == []


async def test_wishes_reach_the_kernel_and_the_serial_follows(
    bench: Bench, autojump_clock: MockClock
) -> None:
    async with bench.running():
        bench.sync.update(1, [route("10.1.0.0/16"), route("10.2.0.0/16")], [])
        await bench.quiet()
        assert set(bench.kernel.ours()) == {key("10.1.0.0/16"), key("10.2.0.0/16")}
        progress = bench.sync.take_progress()
        assert progress is not None
        assert progress.applied_serial == 1
        assert progress.counters.installed == 2
        assert bench.sync.take_progress() is None, "told already"
        bench.sync.update(2, [], [(254, Prefix.parse("10.1.0.0/16"))])
        await bench.quiet()
        assert len(bench.kernel.ours()) == 2, "the gate is closed"
        bench.sync.in_sync()
        await bench.quiet()
        assert set(bench.kernel.ours()) == {key("10.2.0.0/16")}
        assert len(bench.sink.events("fib-in-sync")) == 1


async def test_what_the_engine_may_not_ask_for_is_not_taken(
    bench: Bench, autojump_clock: MockClock
) -> None:
    async with bench.running():
        wrong_table = FibRoute(100, Prefix.parse("10.1.0.0/16"), RouteType.BLACKHOLE)
        no_hops = FibRoute(254, Prefix.parse("10.2.0.0/16"), RouteType.UNICAST)
        bad_hop = FibRoute(254, Prefix.parse("10.3.0.0/16"), RouteType.UNICAST, (NextHop(None, 0),))
        refused = bench.sync.update(1, [wrong_table, no_hops, bad_hop, route("10.4.0.0/16")], [])
        await bench.quiet()
    assert [str(prefix) for prefix, _ in refused] == ["10.1.0.0/16", "10.2.0.0/16", "10.3.0.0/16"]
    assert set(bench.kernel.ours()) == {key("10.4.0.0/16")}


async def test_an_interrupted_dump_is_repeated_and_judges_nothing(
    bench: Bench, autojump_clock: MockClock
) -> None:
    bench.kernel.put(key("10.1.0.0/16"), RouteValue(RouteType.BLACKHOLE, ()), 205)
    bench.kernel.interrupt_dumps = 3
    async with bench.running():
        assert bench.kernel.dumps == 4
        bench.sync.update(1, [route("10.1.0.0/16")], [])
        bench.sync.in_sync()
        await bench.quiet()
    assert bench.kernel.writes == [], "adopted"


async def test_a_refused_dump_is_logged_and_asked_for_again_later(
    bench: Bench, autojump_clock: MockClock
) -> None:
    bench.kernel.refuse_dump = True
    async with bench.running():
        assert len(bench.sink.events("netlink-error")) == 1
        await trio.sleep(2)
        assert bench.kernel.dumps == 2


async def test_lost_answers_lead_to_a_resync_and_the_right_table(
    bench: Bench, autojump_clock: MockClock
) -> None:
    async with bench.running():
        bench.kernel.refuse_apply = True
        bench.sync.update(1, [route("10.1.0.0/16")], [])
        await trio.sleep(2)
        assert set(bench.kernel.ours()) == {key("10.1.0.0/16")}
    assert bench.kernel.dumps == 2


async def test_lost_notifications_lead_to_a_resync(bench: Bench, autojump_clock: MockClock) -> None:
    async with bench.running():
        bench.sync.update(1, [route("10.1.0.0/16")], [])
        await bench.quiet()
        bench.kernel.lose([key("10.1.0.0/16")])
        bench.sync.notifications_lost()
        await bench.quiet()
        assert set(bench.kernel.ours()) == {key("10.1.0.0/16")}
        assert bench.sync.counters().overruns == 1
        assert bench.sync.counters().repaired == 1
        assert bench.sink.events("fib-drift")


async def test_a_silent_loss_is_found_by_the_timer(bench: Bench, autojump_clock: MockClock) -> None:
    async with bench.running():
        bench.sync.update(1, [route("10.1.0.0/16")], [])
        await bench.quiet()
        bench.kernel.lose([key("10.1.0.0/16")])
        await trio.sleep(300 * 1.3)
        assert set(bench.kernel.ours()) == {key("10.1.0.0/16")}


async def test_a_link_that_goes_down_makes_us_look_again(
    bench: Bench, autojump_clock: MockClock
) -> None:
    async with bench.running():
        dumps = bench.kernel.dumps
        bench.sync.links_changed(may_have_lost_routes=True)
        bench.sync.links_changed(may_have_lost_routes=True)
        await bench.quiet()
        assert bench.kernel.dumps == dumps + 1, "several requests are one dump"


async def test_a_failed_route_is_retried_by_itself(bench: Bench, autojump_clock: MockClock) -> None:
    bench.kernel.refuse_next(OpKind.INSTALL, key("10.1.0.0/16"), 101)
    async with bench.running():
        bench.sync.update(1, [route("10.1.0.0/16")], [])
        await bench.quiet()
        progress = bench.sync.take_progress()
        assert progress is not None
        assert progress.applied_serial == 1, "tried counts"
        assert [str(failure.prefix) for failure in progress.failures] == ["10.1.0.0/16"]
        await trio.sleep(2)
        progress = bench.sync.take_progress()
        assert progress is not None
        assert [str(prefix) for _, prefix in progress.recovered] == ["10.1.0.0/16"]


async def test_a_new_engine_is_told_every_failure_that_stands(
    bench: Bench, autojump_clock: MockClock
) -> None:
    bench.kernel.refuse_next(OpKind.INSTALL, key("10.1.0.0/16"), 101)
    async with bench.running():
        bench.sync.update(1, [route("10.1.0.0/16")], [])
        await bench.quiet()
        bench.sync.take_progress()
        bench.sync.begin_session()
        progress = bench.sync.take_progress()
        assert progress is not None
        assert len(progress.failures) == 1


async def test_flush_takes_out_ours_and_leaves_the_rest(
    bench: Bench, autojump_clock: MockClock
) -> None:
    bench.kernel.put(key("10.9.0.0/16"), RouteValue(RouteType.BLACKHOLE, ()), 12)
    async with bench.running():
        bench.sync.update(1, [route("10.1.0.0/16")], [])
        await bench.quiet()
    assert await bench.sync.flush() == 0
    assert set(bench.kernel.routes) == {key("10.9.0.0/16")}
