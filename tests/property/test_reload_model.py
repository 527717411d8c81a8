"""A configuration change while either process is killed, or the engine stopped, at every step.

A change that a requester got a success for is in force, in both processes; and a daemon that was
killed starts with the confirmed configuration. The real `Transactions`, `ConfigSwitch`,
`ConfigHistory` and the command line's choice of the configuration run against a virtual clock, with
engines and files that may end the process.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import pytest
import trio
import trio.testing
from hypothesis import example, given, settings
from hypothesis import strategies as st

from routed.cli import _choose_start
from routed.config.load import load_text
from routed.config.schema import Config
from routed.imsg.messages import ReloadFinished
from routed.model.command import ReloadAction
from routed.parent.config_history import ConfigHistory
from routed.parent.engine_answers import EngineAnswers
from routed.parent.log_output import DaemonLog
from routed.parent.reload import Transactions
from routed.parent.reload_phases import ReloadPhase
from routed.parent.reload_queue import ReloadRequest
from routed.parent.service_manager import ServiceReporter
from tests.fakes.fake_engines import FakeAnswers, FakeEngine, FakeParent, FakeReporter

CONFIRM_S = 60.0
STEPS = ("prepare", "prepared", "commit", "committed")


class ParentKilledError(BaseException):
    """SIGKILL: no handler of the daemon runs, and nothing is written after it."""


@dataclass(frozen=True, slots=True)
class Fault:
    """A fault during an operation."""

    to: str
    """engine or parent."""
    deed: str = "kill"
    step: str = "commit"
    """Of an engine: the step."""
    point: int = 0
    """Of the parent: the engine's steps and each side of each file's writing, counted."""


@dataclass(frozen=True, slots=True)
class Operation:
    """One action of an administrator."""

    what: str
    number: int = 0
    """With `write`: the text."""
    fault: Fault | None = None


faults = st.one_of(
    st.none(),
    st.builds(Fault, st.just("engine"), st.sampled_from(["kill", "stop"]), st.sampled_from(STEPS)),
    st.builds(Fault, st.just("parent"), point=st.integers(0, 12)),
)
operations = st.builds(
    Operation,
    st.sampled_from(
        ["write", "reload", "reload-confirm", "confirm", "rollback", "hang-up", "wait", "kill"]
    ),
    st.integers(1, 3),
    faults,
)


class KillableFiles(ConfigHistory):
    """Files where each side of each write may be the last action of the parent."""

    def __init__(self, directory: Path, point: Callable[[], None]) -> None:
        super().__init__(str(directory / "routed.pid"), pytest.fail)
        self._point = point

    def _write(self, name: str, text: str) -> bool:
        self._point()
        is_written = super()._write(name, text)
        self._point()
        return is_written

    def _remove(self, name: str) -> bool:
        self._point()
        is_removed = super()._remove(name)
        self._point()
        return is_removed


class World:
    """The state that survives a daemon: the files, and the results that requesters got."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.path = directory / "routes.yaml"
        self.write(0)
        self.confirmed = self.file
        """The text that was last reported as in force for good."""
        self.refused: str | None = None
        """The texts that were reported as unconfirmed, or rolled back."""
        self.was_applied = False
        """Whether an engine began to apply the file's text in the current operation."""
        self.has_to_be_confirmed = False
        """Whether that operation is a reload with a confirmation."""
        self.may_start_by: set[str] = {self.file}

    def text(self, number: int) -> str:
        return (
            f"router_id: 10.255.0.1\nuser: root\npid_file: {self.directory}/routed.pid\n"
            f"static: [{{prefix: 10.9.{number}.0/24, type: blackhole}}]\n"
        )

    @property
    def file(self) -> str:
        return self.path.read_text()

    def write(self, number: int) -> None:
        self.path.write_text(self.text(number))

    def starts_by(self, confirmed: str, refused: str | None) -> str:
        return confirmed if self.file == refused else self.file


class Daemon:
    """One daemon, from its start to its end."""

    def __init__(self, world: World) -> None:
        self.world = world
        start = _choose_start(load_text(world.file), world.file, str(world.path))
        assert start.text in world.may_start_by, "what was confirmed, or what the file says"
        self.parent = FakeParent(world.path, start.config)
        self.parent.on_step = self.on_step
        self.last_good = KillableFiles(world.directory, self.on_point)
        answers = FakeAnswers()
        self.answers = answers.answers
        self.transactions = Transactions(
            self.parent.switch,
            self.last_good,
            self.parent.reader,
            cast("DaemonLog", self.parent.opened.log),
            cast("EngineAnswers", answers),
            cast("ServiceReporter", FakeReporter()),
        )
        self.fault: Fault | None = None
        self.points = 0
        self.start = start
        self.former: Config | None = None
        self.last_id = 0

    # --- faults

    def on_step(self, name: str, engine: FakeEngine) -> None:
        if name == "commit" and engine.prepared == load_text(self.world.file):
            self.world.was_applied = True
        fault = self.fault
        if fault is not None and fault.to == "engine" and fault.step == name:
            self.fault = None
            if fault.deed == "kill":
                engine.kill()
            else:
                engine.is_stopped = True
        self.on_point()

    def on_point(self) -> None:
        fault = self.fault
        if fault is not None and fault.to == "parent":
            if self.points == fault.point:
                raise ParentKilledError
            self.points += 1

    # --- operations

    async def run(self, work: list[Operation]) -> None:
        """Carry out operations until there are no more, or until it is killed."""
        world = self.world
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.parent.run_engines)
            nursery.start_soon(self.transactions.run)
            self.transactions.started(self.start.text, is_instead=self.start.is_instead)
            world.confirmed, world.refused = self.start.text, self.last_good.refused
            await self.check(load_text(self.start.text))
            while work:
                operation = work.pop(0)
                self.fault, self.points, world.was_applied = operation.fault, 0, False
                world.has_to_be_confirmed = operation.what == "reload-confirm"
                await self.carry_out(operation)
                self.fault = None
                world.may_start_by = {world.starts_by(world.confirmed, world.refused)}
            nursery.cancel_scope.cancel()

    async def carry_out(self, operation: Operation) -> None:
        match operation.what:
            case "write":
                self.world.write(operation.number)
            case "reload":
                await self.reload(ReloadRequest(self.new_id(), "test", uid=0, login=1))
            case "reload-confirm":
                request = ReloadRequest(self.new_id(), "test", confirm_s=CONFIRM_S, uid=0, login=1)
                await self.reload(request)
            case "hang-up":
                await self.reload(ReloadRequest(0, "SIGHUP"))
            case "confirm":
                await self.confirm()
            case "rollback":
                await self.roll_back()
            case "wait":
                await self.wait()
            case "kill":
                raise ParentKilledError

    def new_id(self) -> int:
        self.last_id += 1
        return self.last_id

    async def ask(self, request: ReloadRequest) -> ReloadFinished:
        self.transactions.ask(request)
        answered, answer = await self.answers.receive()
        assert answered == request.ticket
        return answer

    def may_end_as(self, outcomes: Iterable[tuple[str, str | None]]) -> None:
        """Return the configurations that a start may use if the parent is killed now: the
        earlier and the later one.
        """
        world = self.world
        before = world.starts_by(world.confirmed, world.refused)
        world.may_start_by = {before, *(world.starts_by(*outcome) for outcome in outcomes)}

    async def reload(self, request: ReloadRequest) -> None:
        world, before = self.world, self.parent.switch.config
        text, was_refused = world.file, self.last_good.refused
        is_waiting = self.transactions.phase is ReloadPhase.UNCONFIRMED
        if not is_waiting:
            outcomes: list[tuple[str, str | None]] = [(world.confirmed, text)]  # an engine ended
            if request.confirm_s is None:
                outcomes.append((text, None))
            self.may_end_as(outcomes)
        answer = await self.ask(request)
        if not answer.is_ok:
            world.refused = self.last_good.refused
            await self.check(before)
            return
        assert not is_waiting
        assert not (request.is_signal and text == was_refused)
        if request.confirm_s is None:
            world.confirmed = text
        else:
            self.former = before
            assert self.last_good.refused == text or text == world.confirmed
        world.refused = self.last_good.refused
        await self.check(load_text(text))

    async def confirm(self) -> None:
        world, before = self.world, self.parent.switch.config
        waiting = self.transactions._unconfirmed
        if waiting is not None:
            self.may_end_as([(waiting.text, None)])
        token = "" if waiting is None else waiting.token
        request = ReloadRequest(self.new_id(), "test", ReloadAction.CONFIRM, token=token)
        answer = await self.ask(request)
        assert answer.is_ok is (waiting is not None)
        if waiting is not None:
            world.confirmed, world.refused = waiting.text, self.last_good.refused
            assert world.refused != waiting.text
        await self.check(before)

    async def roll_back(self) -> None:
        world, before = self.world, self.parent.switch.config
        is_waiting = self.transactions.phase is ReloadPhase.UNCONFIRMED
        previous = self.last_good.previous
        if not is_waiting and previous is not None:
            self.may_end_as([(previous, world.confirmed), (world.confirmed, world.confirmed)])
        answer = await self.ask(ReloadRequest(self.new_id(), "test", ReloadAction.ROLLBACK))
        if is_waiting:
            assert answer.is_ok, "the way back does not fail"
            assert self.former is not None
            await self.check(self.former)
        elif answer.is_ok:
            assert previous is not None
            world.confirmed = previous
            await self.check(load_text(previous))
        else:
            await self.check(before)
        world.refused = self.last_good.refused

    async def wait(self) -> None:
        before = self.parent.switch.config
        is_waiting = self.transactions.phase is ReloadPhase.UNCONFIRMED
        await trio.sleep(CONFIRM_S + 60)
        if is_waiting:
            assert self.former is not None
            answered, answer = await self.answers.receive()
            assert (answered, answer.is_ok) == (0, False)
            before = self.former
        self.world.refused = self.last_good.refused
        await self.check(before)

    async def check(self, config: Config) -> None:
        """Assert that both processes have a configuration."""
        await self.parent.switch.wait_for_engine()
        engine = self.parent.running
        assert engine is not None
        assert engine.runs_by == self.parent.switch.config == config
        assert self.parent.follows(config)


async def run_world(directory: Path, work: list[Operation]) -> None:
    world = World(directory)
    while True:
        daemon = Daemon(world)
        killed = False
        try:
            await daemon.run(work)
        except* ParentKilledError:
            killed = True
        if not killed:
            return
        if world.was_applied and world.has_to_be_confirmed:
            world.may_start_by = {world.confirmed}


@settings(max_examples=100, deadline=None, derandomize=True)
@given(st.lists(operations, min_size=1, max_size=9))
@example(
    [
        Operation("write", 1),
        Operation("reload-confirm"),
        Operation("wait", fault=Fault("engine", "stop", "prepare")),
    ]
)
@example([Operation("write", 1), Operation("reload", fault=Fault("engine", "kill", "commit"))])
@example([Operation("write", 1), Operation("reload", fault=Fault("engine", "stop", "committed"))])
@example([Operation("write", 1), Operation("reload-confirm"), Operation("kill")])
def test_a_reported_success_is_in_force_whichever_process_is_killed(work: list[Operation]) -> None:
    with tempfile.TemporaryDirectory() as directory:
        clock = trio.testing.MockClock(autojump_threshold=0)
        trio.run(run_world, Path(directory), list(work), clock=clock)


@pytest.mark.parametrize("point", range(14))
@pytest.mark.parametrize("what", ["reload", "reload-confirm", "hang-up", "rollback", "confirm"])
def test_the_parent_is_killed_at_every_step_of_every_change(
    tmp_path: Path, what: str, point: int
) -> None:
    before = [Operation("write", 1), Operation("reload"), Operation("write", 2)]
    if what == "confirm":
        before.append(Operation("reload-confirm"))
    work = [*before, Operation(what, fault=Fault("parent", point=point)), Operation("hang-up")]
    clock = trio.testing.MockClock(autojump_threshold=0)
    trio.run(run_world, tmp_path, work, clock=clock)
