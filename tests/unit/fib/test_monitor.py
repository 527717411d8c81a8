"""Links that change faster than they can be read: the daemon asks on, and says so."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from typing import cast

import pytest
import trio
import trio.testing

from routed.fib.links.table import AddressEvent, LinkEvent
from routed.fib.monitor import RETRY, KernelMonitor
from routed.fib.request_socket import RequestSocket
from routed.fib.routes.ownership import KernelRoute
from routed.netlink.message import NetlinkMessage
from routed.netlink.socket import DUMP_ATTEMPTS, DumpInterrupted, EventSocket, NetlinkError, Overrun

Dump = tuple[list[LinkEvent], list[AddressEvent]]


class Requests:
    """A kernel whose first dumps fail."""

    def __init__(self, failures: list[Exception]) -> None:
        self.failures = failures
        self.asked_at: list[float] = []

    async def dump_links(self) -> Dump:
        self.asked_at.append(trio.current_time())
        if self.failures:
            raise self.failures.pop(0)
        return [], []

    async def dump_device_routes(self, tables: Iterable[int]) -> list[KernelRoute]:
        assert set(tables) == {254}
        return []


class Events:
    """Notifications: one overrun, and then silence."""

    def __init__(self) -> None:
        self.items: Iterator[Exception] = iter([Overrun("lost")])

    async def receive(self) -> list[NetlinkMessage]:
        for error in self.items:
            raise error
        await trio.Event().wait()
        return []


class Scene:
    def __init__(self, failures: list[Exception]) -> None:
        self.requests = Requests(failures)
        self.failures: list[str] = []
        self.overruns: list[str] = []
        self.news = trio.Event()
        self.monitor = KernelMonitor(
            cast("EventSocket", Events()),
            cast("RequestSocket", self.requests),
            on_link=lambda _change: None,
            on_route=lambda _route, _is_removed, _is_replacing: None,
            on_rule=lambda: None,
            on_nexthop=lambda _seen, _is_removed: None,
            on_overrun=self._overrun,
            on_failure=lambda error: self.failures.append(str(error)),
        )

    def _overrun(self, reason: str) -> None:
        self.overruns.append(reason)
        self.news.set()


def interrupted(rounds: int) -> list[Exception]:
    return [DumpInterrupted("changed under the dump")] * (rounds * DUMP_ATTEMPTS)


async def test_interrupted_dumps_after_an_overrun_are_repeated_for_ever(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """S10: five interrupted dumps after lost notifications ended the parent."""
    rounds = 40
    scene = Scene(interrupted(rounds))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(scene.monitor.run)
        await scene.news.wait()
        nursery.cancel_scope.cancel()
    assert scene.overruns == ["lost"]
    assert scene.failures == ["changed under the dump"] * rounds, "each round is said"
    asked = scene.requests.asked_at
    assert len(asked) == rounds * DUMP_ATTEMPTS + 1
    pauses = [round(later - earlier, 6) for earlier, later in itertools.pairwise(asked)]
    longer = [pause for pause in pauses if pause > 0]
    assert len(longer) == rounds
    assert longer == sorted(longer), "the back-off only grows"
    assert max(longer) == pytest.approx(RETRY.limit_s)


@pytest.mark.parametrize("error", [NetlinkError("refused"), OSError(105, "no buffer space")])
async def test_a_first_dump_that_fails_is_repeated_too(
    autojump_clock: trio.testing.MockClock, error: Exception
) -> None:
    scene = Scene([error, *interrupted(2)])
    await scene.monitor.load()
    assert len(scene.failures) == 3


async def test_waiting_for_the_next_attempt_can_be_cancelled(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """SIGTERM during a start that cannot read the links is obeyed."""
    scene = Scene(interrupted(1000))
    with trio.move_on_after(30) as scope:
        await scene.monitor.load()
    assert scope.cancelled_caught
