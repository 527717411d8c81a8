"""An answer goes to the engine that asked, and to no later one."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import trio

from ipc.framing import IpcError
from routed.config.schema import LogConfig
from routed.imsg.authority import AUTHORITY, ChannelEnd
from routed.imsg.dataplane import ProgramsAsked, ProgramsReported
from routed.imsg.messages import (
    ConfApplied,
    ConfReady,
    EngineHello,
    FibCommandDone,
    FibCommanded,
    LogEvent,
    LogLevelChanged,
    LogLevelRequested,
    NextHopsAsked,
    NextHopsReported,
    Pong,
    ReloadFinished,
    ReloadRequested,
    Stopped,
)
from routed.model.command import FibCommand
from routed.parent.engine_answers import EngineAnswers
from routed.parent.engine_requests import EngineRequests
from routed.parent.log_output import DaemonLog
from routed.parent.reload_queue import ReloadRequest

DONE = FibCommandDone(True, ("done",))
PROGRAMS = ProgramsReported((), 4096)


class Engine:
    """A session that remembers what it was sent."""

    def __init__(self) -> None:
        self.got: list[tuple[object, int]] = []
        self.arrived = trio.Event()
        """Set by each message."""

    def send(self, message: object, *, request_id: int = 0) -> None:
        self.got.append((message, request_id))
        self.arrived.set()

    async def next_answer(self) -> object:
        """Wait for one more message, which a thread may delay."""
        with trio.fail_after(60):
            await self.arrived.wait()
        self.arrived = trio.Event()
        return self.got[-1][0]


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
        self.admission = SimpleNamespace(
            handle_update=None, handle_in_sync=None, handle_to_verify=None, handle_verified=None
        )

    async def execute(self, command: FibCommand) -> FibCommandDone:
        await self.may_finish.wait()
        return DONE

    def nexthops_after(self, after_id: int) -> NextHopsReported:
        return NextHopsReported((), is_last=True)


class Transactions:
    def __init__(self) -> None:
        self.asked: list[ReloadRequest] = []

    def ask(self, request: ReloadRequest) -> None:
        self.asked.append(request)


class Scene:
    """The dispatch table with fakes of everything around it."""

    def __init__(self, nursery: trio.Nursery, log_config: LogConfig | None = None) -> None:
        self.engines, self.kernel, self.transactions = Engines(), Kernel(), Transactions()
        kernel: Any = self.kernel
        transactions: Any = self.transactions
        engines: Any = self.engines
        self.log = log = DaemonLog(log_config or LogConfig(), is_foreground=True)
        self.answers = EngineAnswers(engines)
        dataplane: Any = SimpleNamespace(report_programs=lambda: PROGRAMS)
        requests = EngineRequests(kernel, transactions, log, self.answers, nursery, dataplane)
        self.handlers = requests.handlers

    def request(self, message: object, request_id: int) -> None:
        """Handle a message of the present engine."""
        self.handlers.requests[type(message)](message, request_id)


async def test_an_answer_reaches_the_engine_of_the_request(nursery: trio.Nursery) -> None:
    scene = Scene(nursery)
    engine = scene.engines.running
    assert engine is not None
    scene.request(FibCommanded(FibCommand.RESYNC, 0, 1), 7)
    scene.request(NextHopsAsked(0), 8)
    scene.request(LogLevelRequested("debug"), 9)
    scene.request(ProgramsAsked(), 10)
    scene.kernel.may_finish.set()
    await trio.testing.wait_all_tasks_blocked()
    assert engine.got == [
        (NextHopsReported((), is_last=True), 8), (LogLevelChanged("debug"), 9),
        (PROGRAMS, 10), (DONE, 7),
    ]  # fmt: skip


async def test_the_next_engine_does_not_get_its_predecessors_answers(
    nursery: trio.Nursery,
) -> None:
    """Its own request may have the same id."""
    scene = Scene(nursery)
    scene.request(FibCommanded(FibCommand.RESYNC, 0, 1), 1)
    scene.request(ReloadRequested(0, 1), 2)
    await trio.testing.wait_all_tasks_blocked()
    scene.engines.die()
    scene.answers.notify(LogLevelChanged("info"))  # dropped: no engine is running
    successor = scene.engines.start()
    scene.request(ReloadRequested(0, 1), 2)
    scene.kernel.may_finish.set()
    first, second = scene.transactions.asked
    scene.answers.send(first.ticket, ReloadFinished(False, ("the first",)))
    scene.answers.send(second.ticket, ReloadFinished(True, ("the second",)))
    await trio.testing.wait_all_tasks_blocked()
    assert successor.got == [(ReloadFinished(True, ("the second",)), 2)]


async def test_the_current_engine_is_notified_of_a_reload_by_signal(
    nursery: trio.Nursery,
) -> None:
    scene = Scene(nursery)
    scene.engines.die()
    engine = scene.engines.start()
    answer = ReloadFinished(True, ("nothing changed",))
    scene.answers.send(0, answer)
    assert engine.got == [(answer, 0)]


async def test_a_log_file_is_opened_again_and_a_failure_is_reported(
    nursery: trio.Nursery, tmp_path: Path
) -> None:
    path = tmp_path / "log" / "routed.log"
    path.parent.mkdir()
    scene = Scene(nursery, LogConfig(file=str(path)))
    engine = scene.engines.running
    assert engine is not None
    path.rename(path.with_suffix(".1"))
    scene.request(LogLevelRequested(""), 1)
    assert await engine.next_answer() == LogLevelChanged("info", True, "the log file is open again")
    assert path.exists()
    path.parent.rename(tmp_path / "elsewhere")
    scene.request(LogLevelRequested(""), 2)
    text = f"{path}: No such file or directory"
    assert await engine.next_answer() == LogLevelChanged("info", False, text)
    scene.log.close()


async def test_a_log_without_a_file_cannot_be_opened_again(nursery: trio.Nursery) -> None:
    scene = Scene(nursery)
    engine = scene.engines.running
    assert engine is not None
    scene.request(LogLevelRequested(""), 1)
    assert await engine.next_answer() == LogLevelChanged("info", False, "the log is not a file")


async def test_a_level_that_does_not_exist_breaks_a_rule(nursery: trio.Nursery) -> None:
    scene = Scene(nursery)
    with pytest.raises(IpcError, match="log level 'loud' does not exist"):
        scene.request(LogLevelRequested("loud"), 1)


async def test_the_table_and_the_session_handle_every_message_of_an_engine(
    nursery: trio.Nursery,
) -> None:
    scene = Scene(nursery)
    by_session = {EngineHello, ConfReady, ConfApplied, Pong, LogEvent, Stopped}
    tables = [set(scene.handlers.notices), set(scene.handlers.requests), by_session]
    sent = {
        entry.message
        for entry in AUTHORITY.values()
        if entry.sender is ChannelEnd.ENGINE and not entry.carries_descriptor
    }
    assert set().union(*tables) == sent
    assert sum(len(table) for table in tables) == len(sent)
