"""Links are asked about in their time; only news is passed on."""

from __future__ import annotations

import struct

import pytest
import trio
import trio.testing
from trio.testing import MockClock

from routed.fib.carrier import LINKS_EACH_LOOK, CarrierCheck
from routed.netlink.message import NetlinkMessage
from routed.netlink.socket import NetlinkError

UP, DOWN = 0x11043, 0x1003


class Kernel:
    """Links by ifindex, and when they were asked about."""

    def __init__(self) -> None:
        self.flags: dict[int, int | Exception | None] = {2: UP, 3: UP}
        self.asked: list[tuple[float, int]] = []

    def ask_link(self, ifindex: int) -> NetlinkMessage | None:
        self.asked.append((round(trio.current_time(), 6), ifindex))
        flags = self.flags[ifindex]
        if isinstance(flags, Exception):
            raise flags
        if flags is None:
            return None
        if flags < 0:
            return NetlinkMessage(16, 0, 1, 0, b"short")
        return NetlinkMessage(16, 0, 1, 0, struct.pack("=BxHiII", 0, 1, ifindex, flags, 0))


class Bench:
    def __init__(self, period_s: float | None) -> None:
        self.kernel = Kernel()
        self.answers: list[int] = []
        self.check = CarrierCheck(
            self.kernel, lambda: self.kernel.flags, self._record, period_s=period_s
        )

    def _record(self, message: NetlinkMessage) -> None:
        self.answers.append(struct.unpack_from("=i", message.payload, 4)[0])


async def test_news_is_passed_on_once(autojump_clock: MockClock) -> None:
    bench = Bench(None)
    bench.check.look()
    assert bench.answers == [2, 3], "all is news at first"
    bench.check.look()
    bench.kernel.flags[3] = DOWN
    bench.check.look()
    bench.check.look()
    assert bench.answers == [2, 3, 3]
    bench.kernel.flags[3] = UP
    bench.check.look()
    assert bench.answers == [2, 3, 3, 3]


@pytest.mark.parametrize("problem", [NetlinkError("no"), OSError(105, "no room"), -1])
async def test_a_question_that_fails_keeps_nobody_else_waiting(
    problem: Exception | int, autojump_clock: MockClock
) -> None:
    bench = Bench(None)
    bench.kernel.flags[2] = problem
    bench.check.look()
    assert bench.answers == [3]
    assert bench.check.failures == 1
    bench.kernel.flags[2] = UP
    bench.check.look()
    assert bench.answers == [3, 2]


async def test_a_link_that_is_gone_is_new_when_it_comes_back(autojump_clock: MockClock) -> None:
    bench = Bench(None)
    bench.check.look()
    bench.kernel.flags[2] = None
    bench.check.look()
    bench.kernel.flags[2] = UP
    bench.check.look()
    assert bench.answers == [2, 3, 2]


async def test_the_period_can_change_and_end_while_it_runs(autojump_clock: MockClock) -> None:
    bench = Bench(None)
    began = trio.current_time()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(bench.check.run)
        await trio.sleep(5)
        assert bench.kernel.asked == []
        bench.check.period_s = 0.5
        await trio.sleep(1.6)
        times = [round(at - began, 3) for at, ifindex in bench.kernel.asked if ifindex == 2]
        assert times == [5.5, 6.0, 6.5]
        bench.check.period_s = None
        await trio.testing.wait_all_tasks_blocked()
        bench.kernel.asked.clear()
        await trio.sleep(5)
        assert bench.kernel.asked == []
        nursery.cancel_scope.cancel()


async def test_a_look_asks_about_a_bounded_number_of_links_and_all_have_their_turn(
    autojump_clock: MockClock,
) -> None:
    """Q13: the cost of a look does not grow with the links."""
    bench = Bench(None)
    count = 10 * LINKS_EACH_LOOK + 7
    bench.kernel.flags = dict.fromkeys(range(2, count + 2), UP)
    for _ in range(11):
        before = len(bench.kernel.asked)
        bench.check.look()
        assert len(bench.kernel.asked) - before == LINKS_EACH_LOOK
    assert {ifindex for _, ifindex in bench.kernel.asked} == bench.kernel.flags.keys()
    bench.answers.clear()
    bench.kernel.flags[100] = DOWN
    for _ in range(22):
        bench.check.look()
    assert bench.answers == [100], "what was not asked about in between is no news"
