"""Requests to the parent: each gets its own answer, once, or none in time."""

from __future__ import annotations

import trio
import trio.testing

from routed.control.daemon import CommandOutcome
from routed.engine.parent_client import REQUEST_TIMEOUT_S, ParentClient
from routed.imsg.messages import (
    FibCommandDone,
    FibCommanded,
    LogLevelChanged,
    LogLevelRequested,
    NextHopsAsked,
    NextHopsReported,
    ReloadFinished,
    ReloadRequested,
)
from routed.model.command import FibCommand


class Parent:
    """The messages that a client has sent."""

    def __init__(self) -> None:
        self.sent: list[tuple[object, int]] = []
        self.client = ParentClient(
            lambda message, request_id: self.sent.append((message, request_id))
        )


async def test_answers_reach_their_requests_in_any_order() -> None:
    parent = Parent()
    outcomes: dict[str, CommandOutcome] = {}

    async def reload() -> None:
        outcomes["reload"] = await parent.client.command(ReloadRequested(0, 1))

    async def fib() -> None:
        outcomes["fib"] = await parent.client.command(FibCommanded(FibCommand.RESYNC, 0, 1))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(reload)
        nursery.start_soon(fib)
        await trio.testing.wait_all_tasks_blocked()
        ids = {type(message): request_id for message, request_id in parent.sent}
        parent.client.receive_answer(ids[FibCommanded], FibCommandDone(is_ok=False, lines=("no",)))
        parent.client.receive_answer(
            ids[ReloadRequested], ReloadFinished(is_ok=True, lines=("done",), changes_state=True)
        )
    assert {name: (outcome.is_ok, outcome.lines) for name, outcome in outcomes.items()} == {
        "reload": (True, ("done",)),
        "fib": (False, ("no",)),
    }
    assert len({request_id for _, request_id in parent.sent}) == 2


async def test_the_first_answer_counts_and_one_of_another_kind_does_not() -> None:
    parent = Parent()
    found: list[NextHopsReported | None] = []

    async def ask() -> None:
        found.append(await parent.client.ask_nexthops(7))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(ask)
        await trio.testing.wait_all_tasks_blocked()
        ((message, request_id),) = parent.sent
        assert message == NextHopsAsked(7)
        first = NextHopsReported((), is_last=True)
        parent.client.receive_answer(request_id, LogLevelChanged("info"))
        parent.client.receive_answer(request_id, first)
        parent.client.receive_answer(request_id, NextHopsReported((), is_last=False))
        parent.client.receive_answer(request_id + 1, first)
    assert found == [first]


async def test_a_request_without_an_answer_times_out(
    autojump_clock: trio.testing.MockClock,
) -> None:
    parent = Parent()
    outcome = await parent.client.command(LogLevelRequested("debug"))
    assert (outcome.is_ok, outcome.lines) == (False, ("no answer within 120 s",))
    assert trio.current_time() >= REQUEST_TIMEOUT_S
    ((_, request_id),) = parent.sent
    parent.client.receive_answer(request_id, LogLevelChanged("debug"))
