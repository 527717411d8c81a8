"""Policy rules: added, adopted, removed, refused, and nobody else's touched."""

from __future__ import annotations

import errno
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import trio
from trio.testing import MockClock

from routed.fib.routes.plan import KernelRefusal
from routed.fib.rule_codec import SeenRule
from routed.fib.rule_sync import RuleSync
from routed.log.events import Level
from routed.log.logger import Logger
from routed.model.prefix import Family, Prefix
from routed.model.rule import ANY_MARK, PolicyRule, RuleAction
from tests.fakes.fake_kernel import FakeRuleKernel
from tests.unit.fib.test_sync import ListSink

A = PolicyRule(Family.IPV4, 1000, RuleAction.LOOKUP, 100, source=Prefix.parse("10.1.0.0/16"))
B = PolicyRule(Family.IPV6, 1001, RuleAction.PROHIBIT, iif="eth0")


class Bench:
    def __init__(self) -> None:
        self.kernel = FakeRuleKernel()
        self.own = len(self.kernel.rules)
        self.sink = ListSink()
        log = Logger(self.sink, "parent", Level.DEBUG, now=trio.current_time)
        self.told = 0
        self.sync = RuleSync(self.kernel, 205, resync_s=300, log=log, on_states=self._count)

    def _count(self) -> None:
        self.told += 1

    def ours(self) -> set[PolicyRule]:
        return {seen.rule for seen in self.kernel.rules if seen.protocol == 205}

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.sync.run)
            await trio.testing.wait_all_tasks_blocked()
            yield
            nursery.cancel_scope.cancel()


async def test_rules_follow_the_configuration(autojump_clock: MockClock) -> None:
    bench = Bench()
    bench.sync.set_desired([A])
    async with bench.running():
        assert bench.ours() == {A}
        bench.sync.set_desired([B])
        await trio.testing.wait_all_tasks_blocked()
        assert bench.ours() == {B}
        assert bench.kernel.writes == [("add", A), ("add", B), ("remove", A)], "new ones first"
        bench.sync.set_desired([B])
        await trio.testing.wait_all_tasks_blocked()
        assert len(bench.kernel.writes) == 3
    assert await bench.sync.flush() == 0
    assert len(bench.kernel.rules) == bench.own


async def test_equal_leftovers_are_adopted_and_stale_ones_removed(
    autojump_clock: MockClock,
) -> None:
    bench = Bench()
    stale = A._replace(priority=900)
    foreign = SeenRule(A._replace(priority=901), 12)
    bench.kernel.rules += [SeenRule(A, 205), SeenRule(stale, 205), foreign]
    bench.sync.set_desired([A])
    async with bench.running():
        assert bench.ours() == {A}
    assert bench.kernel.writes == [("remove", stale)]
    assert foreign in bench.kernel.rules


async def test_a_rule_that_was_deleted_by_hand_comes_back(autojump_clock: MockClock) -> None:
    bench = Bench()
    bench.sync.set_desired([A])
    async with bench.running():
        bench.kernel.rules.remove(SeenRule(A, 205))
        bench.sync.request_dump()
        await trio.testing.wait_all_tasks_blocked()
        assert bench.ours() == {A}
        bench.kernel.rules.remove(SeenRule(A, 205))
        await trio.sleep(301)
        assert bench.ours() == {A}, "found by the timer, too"


async def test_a_refused_rule_is_told_once_and_tried_again(autojump_clock: MockClock) -> None:
    bench = Bench()
    bench.kernel.refuse[A] = KernelRefusal(errno.EINVAL, "Invalid table")
    bench.sync.set_desired([A, B])
    async with bench.running():
        assert bench.ours() == {B}, "it stops no other"
        assert [state.problem for state in bench.sync.states] == [
            "Invalid table (Invalid argument)", "",
        ]  # fmt: skip
        await trio.sleep(30)
        assert len(bench.sink.events("rule-failed")) == 1
        assert bench.told == 1
        bench.kernel.refuse.clear()
        await trio.sleep(6)
        assert bench.ours() == {A, B}
        assert not any(state.problem for state in bench.sync.states)
        assert bench.told == 2


async def test_a_dump_that_fails_is_asked_for_again(autojump_clock: MockClock) -> None:
    bench = Bench()
    bench.kernel.refuse_dump = True
    bench.sync.set_desired([A])
    async with bench.running():
        assert bench.kernel.writes == []
        await trio.sleep(6)
        assert bench.ours() == {A}


def test_a_rule_reads_as_ip_rule_writes_it() -> None:
    assert str(A) == "1000: from 10.1.0.0/16 lookup 100"
    assert str(B) == "1001: from all iif eth0 prohibit"
    marked = PolicyRule(Family.IPV4, 7, RuleAction.LOOKUP, 254, oif="eth1", fwmark=16, fwmask=255)
    assert str(marked) == "7: from all oif eth1 fwmark 0x10/0xff lookup main"
    assert "fwmark 0x10 lookup" in str(marked._replace(fwmask=ANY_MARK))
