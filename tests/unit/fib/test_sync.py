"""The loop around the ledger, in virtual time, against the fake kernel."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager

import pytest
import trio
from trio.testing import MockClock

from ipc.codec import encode
from ipc.framing import INTERNAL_FRAME_MAX_BYTES
from routed.fib.messages import DesiredChanges, FibRemovals, FibRows
from routed.fib.routes.ownership import Ownership, RouteKey, RouteValue
from routed.fib.routes.plan import OpKind
from routed.fib.routes.tables import FibTables
from routed.fib.sync import EVALUATION_S, FibSync
from routed.imsg.messages import FibProgress
from routed.log.events import Level
from routed.log.logger import Logger, LogRecord
from routed.model.fib import PreferredRoute
from routed.model.prefix import Address, Family, Prefix
from routed.model.route import NextHop, RouteType
from routed.netlink.socket import NetlinkError
from tests.fakes.fake_kernel import FakeKernel


class ListSink:
    """Keeps records."""

    def __init__(self) -> None:
        self.records: list[LogRecord] = []

    def write(self, record: LogRecord) -> None:
        self.records.append(record)

    def close(self) -> None:
        self.records.clear()

    def events(self, name: str) -> list[LogRecord]:
        return [record for record in self.records if record.event == name]


BLACKHOLE = RouteValue(RouteType.BLACKHOLE, ())


def update(serial: int, *install: str, remove: Sequence[str] = ()) -> DesiredChanges:
    """Blackholes for these IPv4 prefixes, and none for those."""
    desired = [Prefix.parse(prefix).as_int for prefix in install]
    gone = [Prefix.parse(prefix).as_int for prefix in remove]
    rows = FibRows(254, Family.IPV4, desired, [BLACKHOLE] * len(desired))
    return DesiredChanges(serial, [rows], [FibRemovals(254, Family.IPV4, gone)])


def key(prefix: str) -> RouteKey:
    return RouteKey(254, Prefix.parse(prefix), 0, 205)


class Bench:
    def __init__(self) -> None:
        self.kernel = FakeKernel()
        self.sink = ListSink()
        self.progress = 0
        self.sync = FibSync(
            FibTables(Ownership(205, 205, frozenset({254}))),
            self.kernel,
            resync_s=300,
            log=Logger(self.sink, "parent", Level.DEBUG, now=trio.current_time),
            rng=random.Random(1),
            on_progress=self._count,
            is_link_up=lambda ifindex: ifindex not in self.kernel.down_links,
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
        bench.sync.update(update(1, "10.1.0.0/16", "10.2.0.0/16"))
        await bench.quiet()
        assert set(bench.kernel.ours()) == {key("10.1.0.0/16"), key("10.2.0.0/16")}
        progress = bench.sync.pop_progress()
        assert progress is not None
        assert progress.applied_serial == 1
        assert progress.counters.installed == 2
        assert bench.sync.pop_progress() is None, "told already"
        bench.sync.update(update(2, remove=["10.1.0.0/16"]))
        await bench.quiet()
        assert len(bench.kernel.ours()) == 2, "the gate is closed"
        bench.sync.in_sync()
        await bench.quiet()
        assert set(bench.kernel.ours()) == {key("10.2.0.0/16")}
        assert len(bench.sink.events("fib-in-sync")) == 1


async def test_a_start_is_applied_when_all_of_it_was_tried(
    bench: Bench, autojump_clock: MockClock
) -> None:
    seen: list[bool] = []

    async def look() -> None:
        seen.append(bench.sync.has_applied_start)
        await bench.quiet()
        seen.append(bench.sync.has_applied_start)

    async with bench.running():
        bench.sync.update(update(1, "10.1.0.0/16"))
        await look()
        assert seen == [False, False], "there is more of it"
        bench.sync.update(update(2, "10.2.0.0/16")._replace(completes_start=True))
        bench.sync.update(update(3, "10.3.0.0/16"))
        await look()
        assert seen[2:] == [False, True]
        bench.sync.begin_session()
        bench.sync.update(update(1, "10.1.0.0/16"))
        bench.sync.update(update(2, "10.2.0.0/16"))
        await look()
        assert seen[4:] == [False, False], "the next engine has a start of its own"


async def test_a_sweep_removes_every_route_of_ours_in_its_table_and_no_other(
    bench: Bench, autojump_clock: MockClock
) -> None:
    ours = [key(f"10.{number}.0.0/16")._replace(priority=number) for number in range(4)]
    for each in ours:
        bench.kernel.put(each, BLACKHOLE, 205)
    others = [ours[1]._replace(priority=77), ours[2]._replace(table_id=100)]
    bench.kernel.put(others[0], BLACKHOLE, 12)
    bench.kernel.put(others[1], BLACKHOLE, 205)
    assert await bench.sync.sweep_all() == 0
    assert set(bench.kernel.routes) == set(others)
    assert bench.sync.counters().swept == 4


async def test_a_sweep_that_cannot_read_the_kernel_says_so(
    bench: Bench, autojump_clock: MockClock
) -> None:
    bench.kernel.put(key("10.1.0.0/16"), BLACKHOLE, 205)
    bench.kernel.refuse_dump = True
    with pytest.raises(NetlinkError, match="cannot be read"):
        await bench.sync.sweep_all()
    assert set(bench.kernel.routes) == {key("10.1.0.0/16")}


async def test_an_interrupted_dump_is_repeated_and_judges_nothing(
    bench: Bench, autojump_clock: MockClock
) -> None:
    bench.kernel.put(key("10.1.0.0/16"), RouteValue(RouteType.BLACKHOLE, ()), 205)
    bench.kernel.interrupt_dumps = 3
    async with bench.running():
        assert bench.kernel.dumps == 4
        bench.sync.update(update(1, "10.1.0.0/16"))
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
        bench.sync.update(update(1, "10.1.0.0/16"))
        await trio.sleep(2)
        assert set(bench.kernel.ours()) == {key("10.1.0.0/16")}
    assert bench.kernel.dumps == 2


async def test_lost_notifications_lead_to_a_resync(bench: Bench, autojump_clock: MockClock) -> None:
    async with bench.running():
        bench.sync.update(update(1, "10.1.0.0/16"))
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
        bench.sync.update(update(1, "10.1.0.0/16"))
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
        bench.sync.update(update(1, "10.1.0.0/16"))
        await bench.quiet()
        progress = bench.sync.pop_progress()
        assert progress is not None
        assert progress.applied_serial == 1, "tried counts"
        assert [str(failure.prefix) for failure in progress.failures] == ["10.1.0.0/16"]
        await trio.sleep(2)
        progress = bench.sync.pop_progress()
        assert progress is not None
        assert [str(prefix) for _, prefix in progress.recovered] == ["10.1.0.0/16"]


async def test_a_new_engine_is_told_every_failure_that_stands(
    bench: Bench, autojump_clock: MockClock
) -> None:
    bench.kernel.refuse_next(OpKind.INSTALL, key("10.1.0.0/16"), 101)
    async with bench.running():
        bench.sync.update(update(1, "10.1.0.0/16"))
        await bench.quiet()
        bench.sync.pop_progress()
        bench.sync.begin_session()
        progress = bench.sync.pop_progress()
        assert progress is not None
        assert len(progress.failures) == 1


async def test_commands_are_answered_when_they_are_carried_out(
    bench: Bench, autojump_clock: MockClock
) -> None:
    async with bench.running():
        bench.sync.update(update(1, "10.1.0.0/16", "10.2.0.0/16"))
        await bench.quiet()
        bench.kernel.lose([key("10.1.0.0/16")])
        bench.kernel.put(key("10.2.0.0/16"), RouteValue(RouteType.PROHIBIT, ()), 205)
        report = await bench.sync.resync()
        assert (report.routes, report.missing, report.changed) == (1, 1, 1)
        await bench.quiet()
        assert len(bench.kernel.ours()) == 2
        assert await bench.sync.decouple() == 0
        assert bench.kernel.ours() == {}
        assert not bench.sync.counters().is_coupled
        counters = await bench.sync.couple()
        assert (counters.installed, counters.is_coupled) == (2, True)
        assert len(bench.kernel.ours()) == 2


async def test_a_resync_by_command_repairs_at_once_what_was_repaired_often(
    bench: Bench, autojump_clock: MockClock
) -> None:
    async with bench.running():
        bench.sync.update(update(1, "10.1.0.0/16"))
        await bench.quiet()
        for _ in range(4):
            bench.kernel.lose([key("10.1.0.0/16")])
            await bench.sync.resync()
            assert len(bench.kernel.ours()) == 1


async def test_flush_takes_out_ours_and_leaves_the_rest(
    bench: Bench, autojump_clock: MockClock
) -> None:
    bench.kernel.put(key("10.9.0.0/16"), RouteValue(RouteType.BLACKHOLE, ()), 12)
    async with bench.running():
        bench.sync.update(update(1, "10.1.0.0/16"))
        await bench.quiet()
    assert await bench.sync.flush() == 0
    assert set(bench.kernel.routes) == {key("10.9.0.0/16")}


async def test_updates_are_tried_one_after_the_other(
    bench: Bench, autojump_clock: MockClock
) -> None:
    bench.kernel.refuse_next(OpKind.INSTALL, key("10.1.0.0/16"), 101)
    async with bench.running():
        bench.sync.update(update(1, "10.1.0.0/16"))
        bench.sync.update(update(2, "10.2.0.0/16"))
        bench.sync.in_sync()
        bench.sync.update(update(3, "10.3.0.0/16", remove=["10.2.0.0/16"]))
        await bench.quiet()
        progress = bench.sync.pop_progress()
        assert progress is not None
        assert progress.applied_serial == 3, "a failure holds nobody up"
        assert [str(write.key.prefix) for write in bench.kernel.writes] == [
            "10.1.0.0/16", "10.2.0.0/16", "10.3.0.0/16", "10.2.0.0/16",
        ]  # fmt: skip


async def test_a_flush_by_somebody_else_is_repaired_with_a_few_lines_of_log(
    bench: Bench, autojump_clock: MockClock
) -> None:
    prefixes = [f"10.{number >> 8}.{number & 255}.0/24" for number in range(1000)]
    async with bench.running():
        bench.sync.update(update(1, *prefixes))
        await bench.quiet()
        for gone in bench.kernel.lose([key(prefix) for prefix in prefixes]):
            bench.sync.route_notified(gone, True)
        await bench.quiet()
        assert len(bench.kernel.ours()) == 1000
        assert bench.sync.counters().repaired == 1000
        assert len(bench.sink.events("fib-drift")) <= 5
        (storm,) = bench.sink.events("fib-drift-storm")
        assert storm.fields["routes"] == "1000"
        for gone in bench.kernel.lose([key(prefix) for prefix in prefixes]):
            bench.sync.route_notified(gone, True)
        await bench.quiet()
        assert bench.kernel.ours() == {}, "the second time we wait a little"
        assert bench.sync.counters().failed == 1000
        await trio.sleep(2)
        assert len(bench.kernel.ours()) == 1000
        assert len(bench.sink.records) < 40


async def test_what_goes_with_its_link_is_no_drift(bench: Bench, autojump_clock: MockClock) -> None:
    value = RouteValue(RouteType.UNICAST, (NextHop(Address.parse("192.0.2.1"), 7),))
    rows = FibRows(254, Family.IPV4, [Prefix.parse("10.1.0.0/16").as_int], [value])
    async with bench.running():
        bench.sync.update(DesiredChanges(1, [rows], []))
        await bench.quiet()
        bench.kernel.down_links.add(7)
        bench.kernel.lose([key("10.1.0.0/16")])
        bench.sync.links_changed(may_have_lost_routes=True)
        await bench.quiet()
        assert not bench.sink.events("fib-drift")
        bench.kernel.down_links.clear()
        bench.sync.links_changed(may_have_lost_routes=False)
        await bench.quiet()
        assert bench.kernel.ours() == {key("10.1.0.0/16"): value}


async def test_many_failures_are_told_in_pieces_that_fit_a_frame(
    bench: Bench, autojump_clock: MockClock
) -> None:
    prefixes = [f"10.{number >> 8}.{number & 255}.0/24" for number in range(1000)]
    for prefix in prefixes:
        bench.kernel.refuse_next(OpKind.INSTALL, key(prefix), 101, "no " * 1000)
    async with bench.running():
        bench.sync.update(update(1, *prefixes))
        await bench.quiet()
        told: list[str] = []
        while (progress := bench.sync.pop_progress()) is not None:
            message = FibProgress(*progress)
            assert len(encode(message)) < INTERNAL_FRAME_MAX_BYTES - 64
            told += [str(failure.prefix) for failure in progress.failures]
        assert sorted(told) == sorted(prefixes)
        assert len(bench.sink.events("fib-route-failed")) < 100
        bench.sync.links_changed(may_have_lost_routes=False)
        await bench.quiet()
        ended = 0
        while (progress := bench.sync.pop_progress()) is not None:
            ended += len(progress.recovered)
        assert ended == 1000


async def lose_link(bench: Bench) -> None:
    """A route is there, and goes with its link."""
    value = RouteValue.canonical(RouteType.UNICAST, (NextHop(Address.parse("192.0.2.1"), 2),))
    rows = FibRows(254, Family.IPV4, [key("10.1.0.0/16").prefix.as_int], [value])
    bench.sync.update(DesiredChanges(1, [rows], []))
    await bench.quiet()
    bench.kernel.down_links.add(2)
    bench.kernel.lose([key("10.1.0.0/16")])
    bench.sync.links_changed(may_have_lost_routes=True)
    await bench.quiet()


async def test_what_went_with_a_link_is_told_once_the_engine_has_judged(
    bench: Bench, autojump_clock: MockClock
) -> None:
    async with bench.running():
        await lose_link(bench)
        progress = bench.sync.pop_progress()
        assert progress is None or progress.failures == ()
        bench.sync.next_hops_evaluated()
        await bench.quiet()
        progress = bench.sync.pop_progress()
        assert progress is not None
        assert [failure.reason for failure in progress.failures] == ["its link is down"]
    assert bench.sink.events("fib-drift") == []
    assert bench.sink.events("fib-route-failed") == []


async def test_what_the_engine_wants_elsewhere_is_never_told_as_failed(
    bench: Bench, autojump_clock: MockClock
) -> None:
    async with bench.running():
        await lose_link(bench)
        bench.sync.update(update(2, "10.1.0.0/16"))
        bench.sync.next_hops_evaluated()
        await bench.quiet()
        progress = bench.sync.pop_progress()
        assert progress is not None
        assert (progress.applied_serial, progress.failures, progress.recovered) == (2, (), ())
        assert progress.counters.installed == 1


async def test_an_engine_that_does_not_judge_is_told_all_the_same(
    bench: Bench, autojump_clock: MockClock
) -> None:
    async with bench.running():
        await lose_link(bench)
        bench.sync.pop_progress()
        told = bench.progress
        await trio.sleep(EVALUATION_S)
        await bench.quiet()
        assert bench.progress > told, "nobody else would have asked"
        progress = bench.sync.pop_progress()
        assert progress is not None
        assert len(progress.failures) == 1


# --- foreign routes that the kernel prefers


def told_preferred(bench: Bench) -> tuple[set[PreferredRoute], set[str]]:
    """Every change that the engine is sent until it knows all of them."""
    preferred: set[PreferredRoute] = set()
    ended: set[str] = set()
    while (progress := bench.sync.pop_progress()) is not None:
        assert not {(route.table_id, route.prefix) for route in progress.preferred} & set(
            progress.unpreferred
        )
        preferred |= set(progress.preferred)
        ended |= {str(prefix) for _, prefix in progress.unpreferred}
    return preferred, ended


async def test_a_route_that_loses_in_the_kernel_is_told_with_the_one_that_wins(
    bench: Bench, autojump_clock: MockClock
) -> None:
    better = key("10.1.0.0/16")._replace(priority=0)
    a = Prefix.parse("10.1.0.0/16")
    async with bench.running():
        bench.sync.update(update(1, "10.1.0.0/16", "10.2.0.0/16"))
        await bench.quiet()
        assert told_preferred(bench) == (set(), set())
        boot = bench.kernel.put(better, BLACKHOLE, 3)
        bench.sync.route_notified(boot, is_removed=False)
        await bench.quiet()
        assert told_preferred(bench) == ({PreferredRoute(254, a, "boot", 0)}, set())
        assert bench.sync.counters().shadowed_now == 1
        assert bench.sync.counters().installed == 2, "it is there, for the day the other goes"
        bench.sync.begin_session()
        bench.sync.update(update(1, "10.1.0.0/16", "10.2.0.0/16"))
        await bench.quiet()
        assert told_preferred(bench)[0] == {PreferredRoute(254, a, "boot", 0)}, "a new engine, too"
        del bench.kernel.routes[better]
        await bench.sync.resync()
        assert told_preferred(bench) == (set(), {"10.1.0.0/16"})
        assert bench.sync.counters().shadowed_now == 0
    assert len(bench.sink.events("fib-route-shadowed")) == 1


async def test_another_winner_is_told_and_logged_once(
    bench: Bench, autojump_clock: MockClock
) -> None:
    a = Prefix.parse("10.1.0.0/16")
    async with bench.running():
        bench.sync.update(update(1, "10.1.0.0/16"))
        for priority, protocol in ((100, 16), (32, 12)):
            foreign = key("10.1.0.0/16")._replace(priority=priority)
            bench.sync.route_notified(
                bench.kernel.put(foreign, BLACKHOLE, protocol), is_removed=False
            )
            await bench.quiet()
        preferred, _ = told_preferred(bench)
        assert preferred == {PreferredRoute(254, a, "bird", 32)}
        bench.sync.update(update(2, remove=["10.1.0.0/16"]))
        await bench.quiet()
        assert told_preferred(bench) == (set(), {"10.1.0.0/16"}), "what is not wanted cannot lose"
    assert len(bench.sink.events("fib-route-shadowed")) == 1


async def test_a_changed_priority_has_the_kernel_read_for_what_wins_now(
    bench: Bench, autojump_clock: MockClock
) -> None:
    bench.kernel.put(key("10.1.0.0/16")._replace(priority=250), BLACKHOLE, 186)
    async with bench.running():
        bench.sync.update(update(1, "10.1.0.0/16"))
        await bench.quiet()
        assert told_preferred(bench) == (set(), set())
        bench.sync.change_ownership(Ownership(205, 300, frozenset({254})))
        bench.sync.update(update(2, "10.1.0.0/16"))
        await bench.quiet()
        (preferred,) = told_preferred(bench)[0]
        assert (str(preferred.prefix), preferred.priority) == ("10.1.0.0/16", 250)


async def test_many_that_lose_are_told_in_pieces_that_fit_a_frame(
    bench: Bench, autojump_clock: MockClock
) -> None:
    prefixes = [f"10.{number >> 8}.{number & 255}.0/24" for number in range(1000)]
    for prefix in prefixes:
        bench.kernel.put(key(prefix)._replace(priority=2**32 - 2 - 2**31), BLACKHOLE, 250)
    bench.sync.change_ownership(Ownership(205, 2**32 - 1, frozenset({254})))
    async with bench.running():
        bench.sync.update(update(1, *prefixes))
        await bench.quiet()
        seen = 0
        while (progress := bench.sync.pop_progress()) is not None:
            message = FibProgress(*progress)
            assert len(encode(message)) < INTERNAL_FRAME_MAX_BYTES - 64
            seen += len(message.preferred)
        assert seen == 1000
