"""An answer goes to the engine that asked, and to no later one."""

from __future__ import annotations

from typing import Any

import pytest
import trio

from ipc.framing import IpcError
from routed.config.schema import LogConfig
from routed.imsg.messages import (
    FibCommandDone,
    FibCommanded,
    LogLevelChanged,
    LogLevelRequested,
    NextHopsReported,
    ReloadFinished,
    ReloadRequested,
)
from routed.model.command import FibCommand
from routed.parent.engine_requests import EngineRequests
from routed.parent.log_output import DaemonLog
from routed.parent.reload_queue import ReloadRequest

DONE = FibCommandDone(True, ("done",))


class Engine:
    """A session that remembers what it was sent."""

    def __init__(self) -> None:
        self.got: list[tuple[object, int]] = []

    def send(self, message: object, *, request_id: int = 0) -> None:
        self.got.append((message, request_id))


class Engines:
    """A supervisor whose engines die when a test says so."""

    def __init__(self) -> None:
        self.restarts = 0
        self.running: Engine | None = Engine()

    def die(self) -> None:
        self.running = None
        self.restarts += 1

    def start(self) -> Engine:
        self.running = Engine()
        return self.running


class Kernel:
    """Carries a command out when it may."""

    def __init__(self) -> None:
        self.may_finish = trio.Event()

    async def carry_out(self, command: FibCommand) -> FibCommandDone:
        await self.may_finish.wait()
        return DONE

    def nexthops_after(self, after_id: int) -> NextHopsReported:
        return NextHopsReported((), is_last=True)


class Transactions:
    def __init__(self) -> None:
        self.asked: list[ReloadRequest] = []

    def ask(self, request: ReloadRequest) -> None:
        self.asked.append(request)


class Counter:
    """A desk with everything around it."""

    def __init__(self, nursery: trio.Nursery) -> None:
        self.engines, self.kernel, self.transactions = Engines(), Kernel(), Transactions()
        kernel: Any = self.kernel
        transactions: Any = self.transactions
        engines: Any = self.engines
        log = DaemonLog(LogConfig(), is_foreground=True)
        self.engine_requests = EngineRequests(kernel, transactions, log, engines, nursery)


async def test_an_answer_reaches_the_engine_that_asked(nursery: trio.Nursery) -> None:
    counter = Counter(nursery)
    engine = counter.engines.running
    assert engine is not None
    counter.engine_requests.fib_commanded(7, FibCommanded(FibCommand.RESYNC, 0, 1))
    counter.engine_requests.nexthops_asked(8, 0)
    counter.engine_requests.log_level_requested(9, LogLevelRequested("debug"))
    counter.kernel.may_finish.set()
    await trio.testing.wait_all_tasks_blocked()
    assert engine.got == [
        (NextHopsReported((), is_last=True), 8), (LogLevelChanged("debug"), 9), (DONE, 7),
    ]  # fmt: skip


async def test_the_next_engine_does_not_get_its_predecessors_answers(
    nursery: trio.Nursery,
) -> None:
    """Its own request may have the same id."""
    counter = Counter(nursery)
    counter.engine_requests.fib_commanded(1, FibCommanded(FibCommand.RESYNC, 0, 1))
    counter.engine_requests.reload_requested(2, ReloadRequested(0, 1))
    await trio.testing.wait_all_tasks_blocked()
    counter.engines.die()
    counter.engine_requests.tell_level()  # nobody is there to hear it
    successor = counter.engines.start()
    counter.engine_requests.reload_requested(2, ReloadRequested(0, 1))
    counter.kernel.may_finish.set()
    first, second = counter.transactions.asked
    counter.engine_requests.answer_reload(first.request_id, ReloadFinished(False, ("the first",)))
    counter.engine_requests.answer_reload(second.request_id, ReloadFinished(True, ("the second",)))
    await trio.testing.wait_all_tasks_blocked()
    assert successor.got == [(ReloadFinished(True, ("the second",)), 2)]


async def test_whichever_engine_there_is_hears_of_a_reload_by_signal(
    nursery: trio.Nursery,
) -> None:
    counter = Counter(nursery)
    counter.engines.die()
    engine = counter.engines.start()
    answer = ReloadFinished(True, ("nothing changed",))
    counter.engine_requests.answer_reload(0, answer)
    assert engine.got == [(answer, 0)]


async def test_a_level_that_does_not_exist_breaks_a_rule(nursery: trio.Nursery) -> None:
    counter = Counter(nursery)
    with pytest.raises(IpcError, match="log level 'loud' does not exist"):
        counter.engine_requests.log_level_requested(1, LogLevelRequested("loud"))
