"""Reloads in virtual time: nothing half done, and the way back."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import cast

import pytest
import trio
import trio.testing

from routed.config.diff import ConfigDelta
from routed.config.interface_match import interface_for
from routed.config.load import load_text
from routed.config.plan import LinkPlan, plan
from routed.config.schema import Config, InterfaceConfig
from routed.imsg.messages import ConfigState, ReloadFinished
from routed.log.events import Level
from routed.log.logger import Logger
from routed.model.command import ReloadAction
from routed.parent.config_history import ConfigHistory
from routed.parent.config_switch import ConfigSwitch, InForce, SwitchError
from routed.parent.engine_answers import EngineAnswers
from routed.parent.log_output import DaemonLog
from routed.parent.reload import (
    AMBIGUOUS_S,
    KEEP_RETRY_S,
    SIGNAL_ATTEMPTS,
    Transactions,
)
from routed.parent.reload_phases import TRANSITIONS, Action, Event, ReloadPhase
from routed.parent.reload_queue import QUEUE_MAX, ReloadRequest
from routed.parent.service_manager import ServiceReporter
from tests.fakes.fake_engines import DirectReader, FakeAnswers, FakeLog, FakeReporter, Sink
from tests.transition_text import table_text

BASE = "router_id: 10.255.0.1\nuser: root\ninterfaces: {eth0: {cost: 10}}\n"


def text_with(*numbers: int, cost: int = 10) -> str:
    routes = "".join(f"  - {{prefix: 10.9.{n}.0/24, type: blackhole}}\n" for n in numbers)
    return BASE.replace("cost: 10", f"cost: {cost}") + ("static:\n" + routes if routes else "")


class Switch:
    """Follows every configuration, unless a test wants it to fail."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.in_force = InForce(load_text(path.read_text()))
        self.switches: list[tuple[str, ...]] = []
        self.failures: list[SwitchError] = []
        """What the next switches fail by."""
        self.secret_problems: list[str] = []
        self.changed_secrets: list[str] = []
        self.has_engine = trio.Event()
        self.has_engine.set()
        self.may_switch, self.may_review = trio.Event(), trio.Event()
        self.may_switch.set()
        self.may_review.set()
        self.on_switch: Callable[[], None] = lambda: None
        self.nup_sockets = self

    @property
    def config(self) -> Config:
        return self.in_force.config

    async def compare_secrets(self, new: Config) -> list[str]:
        await self.may_review.wait()
        if self.secret_problems:
            raise SwitchError(self.secret_problems)
        return self.changed_secrets

    async def switch(self, new: Config, delta: ConfigDelta) -> list[str]:
        await self.may_switch.wait()
        self.on_switch()
        if self.failures:
            raise self.failures.pop(0)
        if not delta.is_empty:
            self.switches.append(delta.changes)
            self.in_force = InForce(delta.effective)
        return self.changed_secrets

    async def switch_back(self, former: InForce) -> list[str]:
        self.in_force = former
        await self.has_engine.wait()
        return []

    async def wait_for_engine(self) -> None:
        await self.has_engine.wait()

    def link_plans(self, new: tuple[InterfaceConfig, ...]) -> list[LinkPlan]:
        entries = interface_for(self.config.interfaces, "eth0"), interface_for(new, "eth0")
        return [LinkPlan("eth0", *entries, has_socket=True)]


def last_good_of(directory: Path, complain: Callable[[str], None] = print) -> ConfigHistory:
    return ConfigHistory(str(directory / "routed.pid"), complain)


class Scene:
    def __init__(
        self, directory: Path, state: Path | None = None, *, is_ready: bool = True
    ) -> None:
        self.path = directory / "routes.yaml"
        if not self.path.exists():
            self.write(1)
        self.switch = Switch(self.path)
        self.answers, self.reporter = FakeAnswers(), FakeReporter()
        self.sink = Sink()
        self.complaints: list[str] = []
        self.last_good = last_good_of(state or directory, self.complaints.append)
        self.transactions = Transactions(
            cast("ConfigSwitch", self.switch),
            self.last_good,
            DirectReader(str(self.path)),
            cast("DaemonLog", FakeLog(Logger(self.sink, "parent", Level.DEBUG))),
            cast("EngineAnswers", self.answers),
            cast("ServiceReporter", self.reporter),
        )
        if is_ready:
            self.transactions.started(self.path.read_text())

    def write(self, *numbers: int, cost: int = 10) -> None:
        self.path.write_text(text_with(*numbers, cost=cost))

    async def ask(
        self,
        action: ReloadAction = ReloadAction.RELOAD,
        confirm_s: float | None = None,
        *,
        uid: int = 0,
        login: int | None = 1,
        token: str = "",
        request_id: int = 7,
    ) -> ReloadFinished:
        self.transactions.ask(
            ReloadRequest(request_id, "test", action, confirm_s, uid, login, token)
        )
        answered, answer = await self.answers.answers.receive()
        assert answered == request_id
        return answer

    async def hang_up(self) -> ReloadFinished:
        """SIGHUP, and what became of it."""
        self.transactions.ask(ReloadRequest(0, "SIGHUP"))
        answered, answer = await self.answers.answers.receive()
        assert answered == 0
        return answer

    @property
    def phase_name(self) -> str:
        return self.transactions.phase.value

    @property
    def token(self) -> str:
        return self.transactions.state.token

    @property
    def problems(self) -> list[str]:
        """What the log says of failed reloads."""
        found = [record for record in self.sink.records if record.event == "reload-failed"]
        return [str(dict(record.fields)["problem"]) for record in found]

    @property
    def events(self) -> list[str]:
        return [record.event for record in self.sink.records]


@asynccontextmanager
async def running(directory: Path, state: Path | None = None) -> AsyncIterator[Scene]:
    scene = Scene(directory, state)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(scene.transactions.run)
        yield scene
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("action", [ReloadAction.CHECK, ReloadAction.DIFF, ReloadAction.PLAN])
async def test_looking_changes_nothing(tmp_path: Path, action: ReloadAction) -> None:
    async with running(tmp_path) as scene:
        scene.write(2, cost=77)
        answer = await scene.ask(action)
        assert (answer.is_ok, answer.changes_state) == (True, False)
        assert {
            ReloadAction.CHECK: (f"{scene.path} is valid; a reload would make 3 changes",),
            ReloadAction.DIFF: (
                "interface eth0 changed", "static 10.9.1.0/24 removed", "static 10.9.2.0/24 added",
            ),
            ReloadAction.PLAN: (
                '["install","route 10.9.2.0/24",null,"blackhole"]',
                '["remove","route 10.9.1.0/24","blackhole",null]',
                '["change","adjacency eth0","cost 10","cost 77",'
                '"adjacency   eth0: cost 10 -> 77, stays up"]',
            ),
        }[action] == answer.lines  # fmt: skip
        assert scene.switch.switches == []
        scene.path.write_text("router_id: nonsense\n")
        answer = await scene.ask(action)
        assert not answer.is_ok
        assert f"{scene.path}:1:12: router_id:" in answer.lines[0]


async def test_an_unconfirmed_reload_is_rolled_back_by_itself(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    async with running(tmp_path) as scene:
        scene.write(1, 2)
        answer = await scene.ask(confirm_s=60.0)
        assert answer.lines[0] == "static 10.9.2.0/24 added"
        assert "run `confirm` within 60 s" in answer.lines[-1]
        began = trio.current_time()
        request_id, answer = await scene.answers.answers.receive()
        assert (request_id, answer.is_ok) == (0, False)
        assert answer.lines[:2] == (
            "not confirmed in time: rolled back",
            "static 10.9.2.0/24 removed",
        )
        assert trio.current_time() - began == pytest.approx(60.0)
        assert scene.switch.config == load_text(text_with(1))
        assert scene.last_good.running == text_with(1)


async def test_a_confirmed_reload_stays(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    async with running(tmp_path) as scene:
        scene.write(1, 2)
        await scene.ask(confirm_s=60.0)
        assert (await scene.ask(ReloadAction.CONFIRM)).is_ok
        await trio.sleep(120)
        assert scene.switch.config == load_text(text_with(1, 2))
        assert not (await scene.ask(ReloadAction.CONFIRM)).is_ok
        assert (scene.last_good.running, scene.last_good.previous) == (
            text_with(1, 2),
            text_with(1),
        )


async def test_while_one_waits_no_other_is_loaded(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    async with running(tmp_path) as scene:
        scene.write(1, 2)
        await scene.ask(confirm_s=60.0)
        scene.write(3)
        answer = await scene.ask()
        assert not answer.is_ok
        assert "waits for `confirm` or `rollback` (60 s left)" in answer.lines[0]
        answer = await scene.ask(ReloadAction.ROLLBACK)
        assert answer.is_ok
        assert scene.switch.config == load_text(text_with(1))
        assert (await scene.ask()).is_ok, "and now the next one may come"


async def test_two_rollbacks_return_to_the_same_also_after_a_restart(tmp_path: Path) -> None:
    async with running(tmp_path) as scene:
        scene.write(2)
        assert (await scene.ask()).is_ok
    async with running(tmp_path) as scene:
        answer = await scene.ask(ReloadAction.ROLLBACK)
        assert answer.lines == (
            "static 10.9.2.0/24 removed",
            "static 10.9.1.0/24 added",
            f"{scene.path} is not in force: correct it before the next reload",
        )
        answer = await scene.ask(ReloadAction.ROLLBACK)
        assert answer.lines == ("static 10.9.1.0/24 removed", "static 10.9.2.0/24 added"), (
            "the file says just this"
        )
        assert scene.switch.config == load_text(text_with(2))
        assert "rolled-back" in scene.events


async def test_a_rollback_to_the_text_of_the_file_does_not_refuse_it(tmp_path: Path) -> None:
    async with running(tmp_path) as scene:
        scene.write(2)
        assert (await scene.ask(confirm_s=60.0)).is_ok
        scene.write(1)
        answer = await scene.ask(ReloadAction.ROLLBACK)
        assert answer.lines == ("static 10.9.2.0/24 removed", "static 10.9.1.0/24 added")


async def test_a_rollback_without_a_readable_file_gives_the_reason(tmp_path: Path) -> None:
    async with running(tmp_path) as scene:
        scene.write(2)
        assert (await scene.ask(confirm_s=60.0)).is_ok
        scene.path.unlink()
        answer = await scene.ask(ReloadAction.ROLLBACK)
        assert answer.is_ok
        assert "No such file or directory: correct it before the next reload" in answer.lines[-1]


async def test_no_start_uses_a_configuration_that_was_rolled_back_or_unconfirmed(
    tmp_path: Path,
) -> None:
    async with running(tmp_path) as scene:
        scene.write(2)
        assert (await scene.ask(confirm_s=60.0)).is_ok
        assert scene.last_good.instead_of(text_with(2)) == text_with(1), "not confirmed yet"
        assert last_good_of(tmp_path, print).instead_of(text_with(2)) == text_with(1)
        assert (await scene.ask(ReloadAction.CONFIRM)).is_ok
        assert scene.last_good.instead_of(text_with(2)) is None
        assert (await scene.ask(ReloadAction.ROLLBACK)).is_ok
        assert scene.last_good.instead_of(text_with(2)) == text_with(1), "taken back"
        assert scene.last_good.instead_of(text_with(3)) is None, "somebody has mended the file"
        assert (await scene.ask()).is_ok
        assert last_good_of(tmp_path, print).instead_of(text_with(2)) is None, "wanted after all"
    assert not (tmp_path / "routed.pid.refused.yaml").exists()


def test_a_start_by_the_last_good_one_is_in_the_log(tmp_path: Path) -> None:
    scene = Scene(tmp_path)
    scene.transactions.started(text_with(1), is_instead=True)
    assert scene.events == ["config-refused"]


async def test_the_state_shows_whether_the_file_is_in_force(tmp_path: Path) -> None:
    async with running(tmp_path) as scene:

        def is_in_force() -> bool:
            return scene.transactions.state.is_file_in_force

        assert is_in_force()
        scene.path.write_text("router_id: nonsense\n")
        assert not (await scene.ask()).is_ok
        assert not is_in_force(), "a reload has failed"
        scene.write(2)
        assert (await scene.ask()).is_ok
        assert is_in_force()
        assert (await scene.ask(ReloadAction.ROLLBACK)).is_ok
        assert not is_in_force(), "the file has what was taken back"
        scene.write(1)
        assert (await scene.ask()).is_ok
        assert is_in_force()
        scene.write(3)
        assert (await scene.ask(confirm_s=100)).is_ok
        assert is_in_force(), "it is, until it is taken back"
        assert (await scene.ask(ReloadAction.ROLLBACK)).is_ok
        assert not is_in_force()


def test_a_start_by_another_than_the_file_is_in_the_state(tmp_path: Path) -> None:
    """The engine has had the state before by then, and reported `ok` for ever."""
    scene = Scene(tmp_path, is_ready=False)
    scene.transactions.started(scene.path.read_text(), is_instead=True)
    assert not scene.transactions.state.is_file_in_force
    states = [each for each in scene.answers.notices if isinstance(each, ConfigState)]
    assert [each.is_file_in_force for each in states] == [False]


async def test_a_rollback_without_an_earlier_configuration_is_an_error(tmp_path: Path) -> None:
    async with running(tmp_path) as scene:
        answer = await scene.ask(ReloadAction.ROLLBACK)
        assert (answer.is_ok, answer.lines) == (
            False, ("there is no earlier configuration",),
        )  # fmt: skip
        assert not answer.changes_state, "it is no reload that has failed"
        assert scene.transactions.state.is_file_in_force


@pytest.mark.parametrize("damage", ["nonsense", "switch"])
async def test_a_rollback_that_fails_leaves_the_file_in_force(tmp_path: Path, damage: str) -> None:
    async with running(tmp_path) as scene:
        scene.write(2)
        assert (await scene.ask()).is_ok
        if damage == "switch":
            scene.switch.failures = [SwitchError(["the engine is restarting"])]
        else:
            scene.last_good.previous = "router_id: nonsense\n"
        assert not (await scene.ask(ReloadAction.ROLLBACK)).is_ok
        assert scene.transactions.state.is_file_in_force
        assert scene.transactions.phase is ReloadPhase.CONFIRMED


async def test_a_switch_that_fails_changes_nothing_and_waits_for_nothing(tmp_path: Path) -> None:
    async with running(tmp_path) as scene:
        scene.write(2)
        scene.switch.failures = [SwitchError(["the engine is restarting; try again in a moment"])]
        answer = await scene.ask(confirm_s=60.0)
        assert answer.lines == ("the engine is restarting; try again in a moment",)
        assert not (await scene.ask(ReloadAction.CONFIRM)).is_ok
        assert scene.last_good.running == text_with(1)


async def test_of_several_waiting_reloads_the_last_answers_for_all(tmp_path: Path) -> None:
    scene = Scene(tmp_path)
    for request_id in (1, 2, 3):
        scene.transactions.ask(ReloadRequest(request_id, "test"))
    scene.transactions.ask(ReloadRequest(4, "test", ReloadAction.DIFF))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(scene.transactions.run)
        answers = [await scene.answers.answers.receive() for _ in range(4)]
        nursery.cancel_scope.cancel()
    by_id = dict(answers)
    assert by_id.keys() == {1, 2, 3, 4}
    assert by_id[1].lines == by_id[2].lines == ("superseded by a newer reload",)
    assert by_id[3].is_ok


def test_the_files_are_for_the_daemon_alone_and_a_full_disk_is_reported(tmp_path: Path) -> None:
    complaints: list[str] = []
    last_good = last_good_of(tmp_path, complaints.append)
    put_in_force(last_good, "a", "b")
    assert {path.name: path.stat().st_mode & 0o777 for path in tmp_path.iterdir()} == {
        "routed.pid.running.yaml": 0o600, "routed.pid.previous.yaml": 0o600,
    }  # fmt: skip
    again = last_good_of(tmp_path, complaints.append)
    assert (again.running, again.previous, complaints) == ("b", "a", [])
    nowhere = last_good_of(tmp_path / "nowhere", complaints.append)
    put_in_force(nowhere, "a", "b")
    assert nowhere.previous == "a", "in memory it is kept all the same"
    assert "No such file" in complaints[0]
    count = len(complaints)
    put_in_force(nowhere, "b")
    assert len(complaints) == count, "the same is said once"
    (tmp_path / "nowhere").mkdir()
    was_kept = nowhere.is_kept
    put_in_force(nowhere, "b")
    assert (was_kept, nowhere.is_kept) == (False, True), (
        "what could not be written is written later"
    )
    later = last_good_of(tmp_path / "nowhere", complaints.append)
    assert (later.running, later.previous) == ("b", "a")


async def test_a_start_is_kept_before_the_daemon_calls_itself_ready(
    tmp_path: Path, apart: Path, autojump_clock: trio.testing.MockClock
) -> None:
    """Killed right after its start, it left routes of which the next one knew nothing."""
    async with running(tmp_path, apart) as scene:
        with trio.fail_after(30):
            await scene.transactions.has_kept_start.wait()
        assert last_good_of(apart).running == text_with(1)
    with full_disk(apart):
        async with running(tmp_path, apart) as scene:
            with trio.fail_after(30):
                await scene.transactions.has_kept_start.wait()


def put_in_force(last_good: ConfigHistory, *texts: str) -> None:
    for text in texts:
        last_good.put_in_force(text)
        last_good.keep()
        last_good.report_problems()


def test_a_plan_names_sockets_and_announcements() -> None:
    old, new = (
        load_text(BASE),
        load_text(BASE.replace("eth0", "eth1") + "redistribute: [{source: static}]\n"),
    )
    links = [
        LinkPlan(
            name,
            interface_for(old.interfaces, name),
            interface_for(new.interfaces, name),
            has_socket=name == "eth0",
        )
        for name in ("eth0", "eth1")
    ]
    assert [step.text for step in plan(old, new, links)] == [
        "adjacency   eth0: ends with a GOODBYE to the neighbors",
        "socket      eth0: closed",
        "adjacency   eth1: begins",
        "socket      eth1: opened",
        "announced   redistribution changes: the differences are advertised",
    ]


# --- what is told is in force


async def test_a_way_back_without_an_engine_lasts_until_there_is_one(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    """S6: rolled back once, in vain, and the unconfirmed configuration stayed for ever."""
    async with running(tmp_path) as scene:
        scene.write(1, 2)
        await scene.ask(confirm_s=60.0)
        scene.switch.has_engine = trio.Event()
        await trio.sleep(100)
        assert scene.phase_name == "returning"
        assert scene.switch.config == load_text(text_with(1)), "the parent is back at once"
        scene.transactions.ask(ReloadRequest(9, "test", ReloadAction.CONFIRM))
        scene.switch.has_engine.set()
        first, second = [await scene.answers.answers.receive() for _ in range(2)]
        assert (first[0], first[1].lines[0]) == (0, "not confirmed in time: rolled back")
        assert (second[0], second[1].lines) == (9, ("no configuration waits for a confirmation",))
        assert scene.phase_name == "confirmed"


async def test_the_way_back_needs_no_file(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    async with running(tmp_path) as scene:
        scene.write(1, 2)
        await scene.ask(confirm_s=60.0)
        for name in ("routed.pid.running.yaml", "routes.yaml"):
            (tmp_path / name).unlink()
        await trio.sleep(100)
        assert scene.switch.config == load_text(text_with(1))


async def test_engines_that_die_with_an_unconfirmed_configuration_cause_a_rollback(
    tmp_path: Path,
) -> None:
    async with running(tmp_path) as scene:
        assert not scene.transactions.returns_from_dying_engines(), "it is confirmed"
        scene.write(1, 2)
        await scene.ask(confirm_s=3600.0)
        assert scene.transactions.returns_from_dying_engines()
        _, answer = await scene.answers.answers.receive()
        assert answer.lines[0] == "engines kept dying by it: rolled back"
        assert scene.switch.config == load_text(text_with(1))
        assert not scene.transactions.returns_from_dying_engines()


async def test_a_review_holds_up_neither_the_timer_nor_a_rollback(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    async with running(tmp_path) as scene:
        scene.write(1, 2)
        await scene.ask(confirm_s=60.0)

        scene.switch.may_review = trio.Event()
        scene.transactions.ask(ReloadRequest(8, "test", ReloadAction.CHECK))
        await trio.sleep(100)
        assert scene.transactions.phase is ReloadPhase.CONFIRMED
        assert scene.switch.config == load_text(text_with(1))


async def test_an_unconfirmed_configuration_is_refused_on_disk_before_the_switch(
    tmp_path: Path,
) -> None:
    async with running(tmp_path) as scene:
        seen: list[str | None] = []
        scene.switch.on_switch = lambda: seen.append(
            last_good_of(tmp_path, print).instead_of(scene.path.read_text())
        )
        scene.write(2)
        await scene.ask(confirm_s=60.0)
        assert seen == [text_with(1)]
        await scene.ask(ReloadAction.ROLLBACK)
        scene.write(3)
        await scene.ask()
        assert seen == [text_with(1)] * 2, "a plain one, too, until it has succeeded"
        assert last_good_of(tmp_path, print).instead_of(text_with(3)) is None


@pytest.mark.parametrize("confirm_s", [None, 60.0])
async def test_a_configuration_that_ends_engines_is_refused_by_the_next_start(
    tmp_path: Path, confirm_s: float | None
) -> None:
    async with running(tmp_path) as scene:
        scene.write(2)
        scene.switch.failures = [SwitchError(["it died"], was_applied=True)]
        assert not (await scene.ask(confirm_s=confirm_s)).is_ok
        assert scene.transactions.phase is ReloadPhase.CONFIRMED
        assert last_good_of(tmp_path, print).instead_of(text_with(2)) == text_with(1)


async def test_a_reload_that_failed_before_the_switch_is_not_refused(tmp_path: Path) -> None:
    async with running(tmp_path) as scene:
        scene.write(2)
        scene.switch.failures = [SwitchError(["metrics at 127.0.0.1 port 1: in use"])]
        assert not (await scene.ask(confirm_s=60.0)).is_ok
        assert last_good_of(tmp_path, print).instead_of(text_with(2)) is None


async def test_a_reload_with_confirmation_needs_a_history_that_can_be_written(
    tmp_path: Path,
) -> None:
    async with running(tmp_path) as scene:
        (tmp_path / "routed.pid.refused.yaml").mkdir()  # as good as a full disk
        scene.write(2)
        answer = await scene.ask(confirm_s=60.0)
        assert answer.lines == (f"{tmp_path} cannot be written: no rollback",)
        assert scene.switch.config == load_text(text_with(1))
        assert (await scene.ask()).is_ok, "without a confirmation it is loaded all the same"
        pid_file = f"pid_file: {tmp_path}/elsewhere/routed.pid\n"
        scene.path.write_text(text_with(3) + pid_file)
        answer = await scene.ask(confirm_s=60.0)
        assert "pid_file" in answer.lines[0]


@contextlib.contextmanager
def full_disk(directory: Path) -> Iterator[None]:
    """Nothing can be written or removed, also by root: the directory has been moved away."""
    moved = directory.rename(directory.with_name("moved"))
    try:
        directory.write_text("in its place")
        yield
    finally:
        directory.unlink()
        moved.rename(directory)


@pytest.fixture
def apart(tmp_path: Path) -> Path:
    """A place for the state files that is not that of the configuration."""
    directory = tmp_path / "state"
    directory.mkdir()
    return directory


async def test_a_confirmation_that_cannot_be_written_is_reported_and_written_later(
    tmp_path: Path, apart: Path, autojump_clock: trio.testing.MockClock
) -> None:
    """The answer was "confirmed", and the next start went by the former configuration."""
    async with running(tmp_path, apart) as scene:
        scene.write(2)
        assert (await scene.ask(confirm_s=60.0)).is_ok
        with full_disk(apart):
            answer = await scene.ask(ReloadAction.CONFIRM)
            assert answer.lines == (
                "confirmed",
                f"{apart} cannot be written: the next start uses the former configuration, "
                f"{apart}/routed.pid.running.yaml",
            )
            await trio.sleep(10 * KEEP_RETRY_S)
        assert last_good_of(apart, print).instead_of(text_with(2)) == text_with(1)
        await trio.sleep(KEEP_RETRY_S)
        while scene.events[-1] != "state-files-written":  # by a thread, which has no virtual time
            await trio.lowlevel.checkpoint()
        assert last_good_of(apart, print).instead_of(text_with(2)) is None
        assert last_good_of(apart, print).running == text_with(2)
        assert len(scene.complaints) == 3, "each file once"


async def test_a_reload_with_confirmation_works_when_the_disk_has_space_again(
    tmp_path: Path, apart: Path
) -> None:
    """After one write that failed it was refused for good."""
    async with running(tmp_path, apart) as scene:
        scene.write(2)
        with full_disk(apart):
            answer = await scene.ask()
            warning = f"{apart} cannot be written: the next start uses {scene.path}"
            assert answer.lines == (
                "static 10.9.1.0/24 removed", "static 10.9.2.0/24 added", warning,
            )  # fmt: skip
            scene.write(3)
            answer = await scene.ask(confirm_s=60.0)
            assert answer.lines == (f"{apart} cannot be written: no rollback",)
        assert (await scene.ask(confirm_s=60.0)).is_ok
        assert last_good_of(apart, print).instead_of(text_with(3)) == text_with(2)


async def test_no_start_uses_the_configuration_before_the_previous_one(
    tmp_path: Path, apart: Path
) -> None:
    async with running(tmp_path, apart) as scene:
        assert (await scene.ask(ReloadAction.DIFF)).is_ok
        assert last_good_of(apart, print).running == text_with(1)
        scene.write(2)
        (apart / "routed.pid.running.new").mkdir()  # no running.yaml can be written
        assert (await scene.ask()).is_ok
        seen: list[str | None] = []
        scene.switch.on_switch = lambda: seen.append(
            last_good_of(apart, print).instead_of(text_with(3))
        )
        scene.write(3)
        assert (await scene.ask()).is_ok
        assert seen == [None], "a new daemon goes by the file rather than by the first text"


async def test_a_rollback_that_moves_the_pid_file_warns_that_no_start_finds_it(
    tmp_path: Path,
) -> None:
    async with running(tmp_path) as scene:
        scene.path.write_text(text_with(2) + "pid_file: /nonexistent/elsewhere/routed.pid\n")
        assert (await scene.ask()).lines[-1] == "pid_file changes at the next restart only"
        answer = await scene.ask(ReloadAction.ROLLBACK)
        assert answer.lines[2] == (
            f"{scene.path} names another pid_file: the next start uses it, because only {tmp_path} "
            "records that it was reverted"
        )
        scene.write(3)
        assert (await scene.ask()).is_ok
        assert "another pid_file" not in str((await scene.ask(ReloadAction.ROLLBACK)).lines)


def test_a_start_with_a_refused_configuration_for_want_of_another_is_logged(
    tmp_path: Path,
) -> None:
    """It was started by without a word, and was confirmed by that."""
    first = last_good_of(tmp_path, pytest.fail)
    first.put_in_force(text_with(1))
    first.refuse(text_with(2))
    first.keep()
    (tmp_path / "routed.pid.running.yaml").unlink()
    scene = Scene(tmp_path, is_ready=False)
    scene.transactions.started(text_with(2))
    assert scene.events == ["config-refused-in-force"]


async def test_looking_at_secrets_that_a_reload_would_change_names_them(tmp_path: Path) -> None:
    async with running(tmp_path) as scene:
        scene.switch.changed_secrets = ["secrets changed"]
        assert (await scene.ask(ReloadAction.DIFF)).lines == ("secrets changed",)
        assert (await scene.ask(ReloadAction.PLAN)).lines == (
            '["change","secrets",null,null,'
            '"adjacency   secrets changed: links sign and verify accordingly"]',
        )
        assert (await scene.ask(ReloadAction.CHECK)).lines[0].endswith("would make 1 change")


async def test_unconfirmed_secrets_are_reported_as_the_ones_that_a_start_reads(
    tmp_path: Path,
) -> None:
    async with running(tmp_path) as scene:
        scene.switch.changed_secrets = ["secrets changed"]
        answer = await scene.ask(confirm_s=60.0)
        assert answer.lines[:2] == (
            "secrets changed",
            "a new daemon would read the key files as they are, confirmed or not",
        )
        answer = await scene.ask(ReloadAction.ROLLBACK)
        assert "key files have changed: correct them before the next reload" in answer.lines


async def test_a_rollback_that_a_restart_would_lose_is_reported(tmp_path: Path) -> None:
    async with running(tmp_path) as scene:
        scene.write(2)
        assert (await scene.ask()).is_ok
        (tmp_path / "routed.pid.refused.yaml").mkdir()  # as good as a full disk
        answer = await scene.ask(ReloadAction.ROLLBACK)
        assert answer.is_ok
        assert scene.switch.config == load_text(text_with(1))
        warning = f"{tmp_path} cannot be written: the next start uses {scene.path}"
        assert warning in answer.lines


async def test_a_rollback_ignores_edits_of_the_file_during_the_start(
    tmp_path: Path,
) -> None:
    """The daemon knows the text that it started by, whatever the file says since."""
    scene = Scene(tmp_path)
    scene.write(5)
    scene.transactions.started(text_with(1))
    assert scene.last_good.running == text_with(1)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(scene.transactions.run)
        assert (await scene.ask(confirm_s=3600.0)).is_ok
        assert (await scene.ask(ReloadAction.ROLLBACK)).is_ok
        assert scene.switch.config == load_text(text_with(1))
        nursery.cancel_scope.cancel()


# --- none is lost


async def test_a_signal_is_served_although_a_check_follows_it(tmp_path: Path) -> None:
    """S7: whatever came later answered for a plain reload that waited."""
    async with running(tmp_path) as scene:
        scene.switch.may_switch = trio.Event()
        scene.write(2)
        scene.transactions.ask(ReloadRequest(1, "test"))
        await trio.testing.wait_all_tasks_blocked()
        scene.write(3)
        for request_id, action in (
            (0, ReloadAction.RELOAD),
            (2, ReloadAction.CHECK),
            (3, ReloadAction.DIFF),
            (4, ReloadAction.CONFIRM),
        ):
            scene.transactions.ask(ReloadRequest(request_id, "test", action))
        scene.switch.may_switch.set()
        answers = dict([await scene.answers.answers.receive() for _ in range(5)])
        assert answers[0].is_ok
        assert "superseded" not in str(answers)
        assert scene.switch.config == load_text(text_with(3))


async def test_a_signal_waits_for_the_next_engine(tmp_path: Path) -> None:
    """S30: a SIGHUP between two engines was lost."""
    async with running(tmp_path) as scene:
        scene.switch.has_engine = trio.Event()
        scene.write(2)
        scene.transactions.ask(ReloadRequest(0, "SIGHUP"))
        await trio.testing.wait_all_tasks_blocked()
        assert scene.switch.config == load_text(text_with(1))
        scene.switch.has_engine.set()
        request_id, answer = await scene.answers.answers.receive()
        assert (request_id, answer.is_ok) == (0, True)
        assert scene.switch.config == load_text(text_with(2))


async def test_a_signal_is_retried_with_the_next_engines_and_a_client_gets_an_error(
    tmp_path: Path,
) -> None:
    async with running(tmp_path) as scene:
        gone = SwitchError(["the engine is restarting"], is_engine_gone=True)
        scene.write(2)
        scene.switch.failures = [gone] * (SIGNAL_ATTEMPTS - 1)
        assert (await scene.hang_up()).is_ok
        scene.write(3)
        scene.switch.failures = [gone] * SIGNAL_ATTEMPTS
        assert not (await scene.hang_up()).is_ok
        assert scene.problems == ["the engine is restarting"], "and that is said"
        scene.switch.failures = [gone]
        assert not (await scene.ask()).is_ok


async def test_a_signal_before_the_daemon_is_ready_is_followed_then(tmp_path: Path) -> None:
    """B6."""
    scene = Scene(tmp_path, is_ready=False)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(scene.transactions.run)
        scene.transactions.ask(ReloadRequest(0, "SIGHUP"))
        scene.write(2)
        await trio.testing.wait_all_tasks_blocked()
        assert scene.switch.switches == []
        scene.transactions.started(text_with(1))
        assert (await scene.answers.answers.receive())[1].is_ok
        assert scene.switch.config == load_text(text_with(2))
        nursery.cancel_scope.cancel()


async def test_signals_fit_into_a_full_queue_and_every_client_is_answered(tmp_path: Path) -> None:
    scene = Scene(tmp_path)
    for request_id in range(1, QUEUE_MAX + 3):
        scene.transactions.ask(ReloadRequest(request_id, "test", ReloadAction.ROLLBACK))
    for _ in range(1000):
        scene.transactions.ask(ReloadRequest(0, "SIGHUP"))
    assert [answer.lines for _, answer in drain(scene)] == [("too many reloads are waiting",)] * 2
    assert len(scene.transactions._queue) == QUEUE_MAX + 1


# --- what was taken back


async def test_a_signal_does_not_load_a_file_that_was_rolled_back(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    """UX 5: `kill -HUP`, by a log rotation, loaded what had just been rolled back."""
    async with running(tmp_path) as scene:
        scene.write(2)
        await scene.ask(confirm_s=60.0)
        answer = await scene.hang_up()
        assert "waits for `confirm`" in answer.lines[0]
        assert (await scene.ask(ReloadAction.ROLLBACK)).is_ok
        answer = await scene.hang_up()
        assert "SIGHUP does not load it" in answer.lines[0]
        assert scene.problems[-1] == answer.lines[0]
        assert scene.switch.config == load_text(text_with(1))
        reloads = scene.reporter.reloads
        scene.path.write_text(text_with(2) + "# edited\n")
        assert (await scene.hang_up()).is_ok
        assert scene.reporter.reloads == reloads + 1
        await scene.ask(ReloadAction.ROLLBACK)
        scene.write(2)
        assert (await scene.ask()).is_ok, "whoever asks for it gets it"
        assert scene.switch.config == load_text(text_with(2))
        assert (await scene.hang_up()).is_ok


async def test_a_signal_for_a_refused_reload_is_answered_to_the_service_manager(
    tmp_path: Path,
) -> None:
    async with running(tmp_path) as scene:
        scene.write(2)
        await scene.ask(confirm_s=3600.0)
        before = scene.reporter.reloads
        assert not (await scene.hang_up()).is_ok
        assert scene.reporter.reloads == before + 1


# --- what a confirmation is for


async def test_a_late_confirm_does_not_confirm_another_reload(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    """S31: A loads, B takes that back and loads another one, A confirms: B's."""
    async with running(tmp_path) as scene:
        scene.write(2)
        answer = await scene.ask(confirm_s=60.0, login=1)
        a_token = scene.token
        assert answer.lines[-1].endswith(f"; this one is {a_token}")
        await scene.ask(ReloadAction.ROLLBACK, login=2)
        scene.write(3)
        await scene.ask(confirm_s=3600.0, login=2)
        b_token = scene.token
        assert b_token != a_token
        answer = await scene.ask(ReloadAction.CONFIRM, login=1)
        assert "another configuration was reverted" in answer.lines[0]
        assert b_token in answer.lines[0]
        answer = await scene.ask(ReloadAction.CONFIRM, login=1, token=a_token)
        assert f"{a_token} is not the configuration that waits" in answer.lines[0]
        assert scene.transactions.phase is ReloadPhase.UNCONFIRMED
        answer = await scene.ask(ReloadAction.CONFIRM, login=2)
        assert answer.is_ok, "who loaded it from here need not name it"
        assert scene.switch.config == load_text(text_with(3))


async def test_another_user_must_name_the_reload_to_confirm(tmp_path: Path) -> None:
    async with running(tmp_path) as scene:
        scene.write(2)
        await scene.ask(confirm_s=3600.0, uid=1000)
        answer = await scene.ask(ReloadAction.CONFIRM, uid=1001)
        assert "another user loaded the one that waits" in answer.lines[0]
        assert (await scene.ask(ReloadAction.CONFIRM, uid=1001, token=scene.token)).is_ok


async def test_the_same_user_may_confirm_from_another_login(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    """The usual way: reload, lose the connection, come back by the new configuration, confirm."""
    async with running(tmp_path) as scene:
        scene.write(2)
        await scene.ask(confirm_s=60.0, login=1)
        assert (await scene.ask(ReloadAction.CONFIRM, login=2)).is_ok
        scene.write(3)
        await scene.ask(confirm_s=60.0, login=1)
        await trio.sleep(61)
        assert (await scene.answers.answers.receive())[0] == 0
        await trio.sleep(AMBIGUOUS_S)
        await scene.ask(confirm_s=60.0, login=1)
        assert (await scene.ask(ReloadAction.CONFIRM, login=None)).is_ok, "that is long ago"


# --- every phase, every event


def drive(scene: Scene, event: Event) -> None:
    """Have an event happen, as it does in the daemon."""
    ask = scene.transactions.ask
    match event:
        case Event.RELOAD:
            ask(ReloadRequest(7, "test", uid=0, login=1))
        case Event.SIGHUP:
            ask(ReloadRequest(0, "SIGHUP"))
        case Event.CONFIRM:
            ask(ReloadRequest(7, "test", ReloadAction.CONFIRM, uid=0, login=1))
        case Event.CONFIRM_OTHER:
            ask(ReloadRequest(7, "test", ReloadAction.CONFIRM, token="another"))
        case Event.ROLLBACK:
            ask(ReloadRequest(7, "test", ReloadAction.ROLLBACK, uid=0, login=1))
        case Event.ENGINES_DYING:
            scene.transactions.returns_from_dying_engines()
        case Event.ENGINE_FOLLOWS:
            scene.switch.has_engine.set()
        case Event.SWITCHED | Event.SWITCHED_UNCONFIRMED:
            scene.switch.may_switch.set()
        case Event.FAILED:
            scene.switch.failures = [SwitchError(["no"])]
            scene.switch.may_switch.set()
        case Event.TIME_UP:
            pass  # the caller lets it pass


async def reach(scene: Scene, phase: ReloadPhase, *, confirm_s: float | None) -> None:
    """Bring a daemon into a phase, and hold it there."""
    scene.write(1, 2)
    match phase:
        case ReloadPhase.SWITCHING:
            scene.switch.may_switch = trio.Event()
            scene.transactions.ask(ReloadRequest(1, "test", confirm_s=confirm_s, uid=0, login=1))
        case ReloadPhase.UNCONFIRMED | ReloadPhase.RETURNING:
            await scene.ask(confirm_s=60.0)
            if phase is ReloadPhase.RETURNING:
                scene.switch.has_engine = trio.Event()
                scene.transactions.ask(ReloadRequest(2, "test", ReloadAction.ROLLBACK))
    await trio.testing.wait_all_tasks_blocked()
    assert scene.transactions.phase is phase


@pytest.mark.parametrize("event", list(Event))
@pytest.mark.parametrize("phase", list(ReloadPhase))
async def test_each_event_in_each_phase_agrees_with_the_table(
    tmp_path: Path, autojump_clock: trio.testing.MockClock, phase: ReloadPhase, event: Event
) -> None:
    follows, action = TRANSITIONS[phase, event]
    async with running(tmp_path) as scene:
        await reach(scene, phase, confirm_s=60.0 if event is Event.SWITCHED_UNCONFIRMED else None)
        if action is Action.DEFECT:
            scene.transactions._step(event)
            assert scene.transactions.phase is phase
            assert scene.events[-1] == "internal-error"
            return
        if action is Action.SWITCH:
            scene.switch.may_switch = trio.Event()  # to see it under way
            if event is Event.ROLLBACK:
                scene.last_good.previous = text_with(4)
        if action is Action.GO_BACK:
            scene.switch.has_engine = trio.Event()
        drive(scene, event)
        await trio.testing.wait_all_tasks_blocked()
        if event is Event.TIME_UP:
            autojump_clock.jump(61)
            await trio.testing.wait_all_tasks_blocked()
        assert scene.transactions.phase is follows
        answered = [request_id for request_id, _ in drain(scene)]
        if action is Action.WAIT:
            assert not {0, 7} & set(answered), "it waits"
            assert len(scene.transactions._queue) == 1
        if action is Action.REFUSE:
            assert {0, 7} & set(answered), "it is answered"


def drain(scene: Scene) -> list[tuple[int, ReloadFinished]]:
    found = []
    with contextlib.suppress(trio.WouldBlock):
        while True:
            found.append(scene.answers.answers.receive_nowait())
    return found


def test_the_table_is_complete_and_so_is_the_page() -> None:
    assert set(TRANSITIONS) == {(phase, event) for phase in ReloadPhase for event in Event}
    page = Path(__file__).resolve().parents[3] / "docs" / "reliability.md"
    assert table_text(TRANSITIONS) in page.read_text(encoding="utf-8")
