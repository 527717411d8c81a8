"""Reloads in virtual time: nothing half done, and the way back."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio
import trio.testing

from ipc.internal import ReloadAction, ReloadFinished
from routed.config.diff import ConfigDelta
from routed.config.load import load_text, read_text
from routed.config.plan import LinkPlan, plan
from routed.config.schema import Config
from routed.config_reader import ConfigReader
from routed.last_good import LastGood
from routed.log import Level, Logger, Record
from routed.reload_queue import ReloadRequest
from routed.transaction import InForce, SwitchError, Transactions

BASE = "router_id: 10.255.0.1\nuser: root\ninterfaces: {eth0: {cost: 10}}\n"


def text_with(*numbers: int, cost: int = 10) -> str:
    routes = "".join(f"  - {{prefix: 10.9.{n}.0/24, type: blackhole}}\n" for n in numbers)
    return BASE.replace("cost: 10", f"cost: {cost}") + ("static:\n" + routes if routes else "")


class Sink:
    def __init__(self) -> None:
        self.records: list[Record] = []

    def write(self, record: Record) -> None:
        self.records.append(record)

    def close(self) -> None:
        pass


class DirectReader(ConfigReader):
    """Reads at once: a thread and a virtual clock do not know of each other."""

    async def load(self) -> tuple[Config, str]:
        text = read_text(self.path)
        return await self.decode(text, self.path), text

    async def decode(self, text: str, name: str) -> Config:
        await trio.lowlevel.checkpoint()
        return load_text(text, name)


class Host:
    """A daemon that follows every configuration, unless it is told not to."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.in_force = InForce(load_text(path.read_text()))
        self.switches: list[tuple[str, ...]] = []
        self.failures: list[SwitchError] = []
        """What the next switches fail by."""
        self.secret_problems: list[str] = []
        self.has_engine = trio.Event()
        self.has_engine.set()
        self.may_switch = trio.Event()
        self.may_switch.set()
        self.answers_in, self.answers = trio.open_memory_channel[tuple[int, ReloadFinished]](100)
        self.on_switch: Callable[[], None] = lambda: None
        self.reloads = 0
        """As the service manager hears of them."""

    @property
    def config(self) -> Config:
        return self.in_force.config

    async def problems_of(self, new: Config) -> list[str]:
        return self.secret_problems

    async def switch(self, new: Config, delta: ConfigDelta) -> list[str]:
        await self.may_switch.wait()
        self.on_switch()
        if self.failures:
            raise self.failures.pop(0)
        if not delta.is_empty:
            self.switches.append(delta.changes)
            self.in_force = InForce(delta.effective)
        return []

    async def switch_back(self, former: InForce) -> list[str]:
        self.in_force = former
        await self.has_engine.wait()
        return []

    async def wait_for_engine(self) -> None:
        await self.has_engine.wait()

    def link_plans(self, new: Config) -> list[LinkPlan]:
        entries = self.config.interface_for("eth0"), new.interface_for("eth0")
        return [LinkPlan("eth0", *entries, has_socket=True)]

    def answer(self, request_id: int, answer: ReloadFinished) -> None:
        self.answers_in.send_nowait((request_id, answer))

    def config_state_changed(self) -> None:
        pass

    def begin_reload(self) -> None:
        self.reloads += 1

    def end_reload(self) -> None:
        pass


class Scene:
    def __init__(self, directory: Path) -> None:
        self.path = directory / "routes.yaml"
        if not self.path.exists():
            self.write(1)
        self.host = Host(self.path)
        self.sink = Sink()
        self.complaints: list[str] = []
        self.last_good = LastGood(directory, self.complaints.append)
        self.transactions = Transactions(
            self.host,
            self.host,
            Logger(self.sink, "parent", Level.DEBUG),
            DirectReader(str(self.path)),
            self.last_good,
        )
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
        answered, answer = await self.host.answers.receive()
        assert answered == request_id
        return answer

    async def hang_up(self) -> ReloadFinished:
        """SIGHUP, and what became of it."""
        self.transactions.ask(ReloadRequest(0, "SIGHUP"))
        answered, answer = await self.host.answers.receive()
        assert answered == 0
        return answer

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
async def running(directory: Path) -> AsyncIterator[Scene]:
    scene = Scene(directory)
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
            ReloadAction.CHECK: (f"{scene.path} is right; a reload would make 3 changes",),
            ReloadAction.DIFF: (
                "interface eth0 changed", "static 10.9.1.0/24 removed", "static 10.9.2.0/24 added",
            ),
            ReloadAction.PLAN: (
                "kernel      install 10.9.2.0/24 blackhole",
                "kernel      remove 10.9.1.0/24 blackhole",
                "adjacency   eth0: cost 10 -> 77, stays up",
            ),
        }[action] == answer.lines  # fmt: skip
        assert scene.host.switches == []
        scene.path.write_text("router_id: nonsense\n")
        answer = await scene.ask(action)
        assert not answer.is_ok
        assert f"{scene.path}:1:12: router_id:" in answer.lines[0]


async def test_what_is_not_confirmed_goes_back_by_itself(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    async with running(tmp_path) as scene:
        scene.write(1, 2)
        answer = await scene.ask(confirm_s=60.0)
        assert answer.lines[0] == "static 10.9.2.0/24 added"
        assert "say `confirm` within 60 s" in answer.lines[-1]
        began = trio.current_time()
        request_id, answer = await scene.host.answers.receive()
        assert (request_id, answer.is_ok) == (0, False)
        assert answer.lines[:2] == (
            "not confirmed in time: rolled back",
            "static 10.9.2.0/24 removed",
        )
        assert trio.current_time() - began == pytest.approx(60.0)
        assert scene.host.config == load_text(text_with(1))
        assert scene.last_good.running == text_with(1)


async def test_what_is_confirmed_stays(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    async with running(tmp_path) as scene:
        scene.write(1, 2)
        await scene.ask(confirm_s=60.0)
        assert (await scene.ask(ReloadAction.CONFIRM)).is_ok
        await trio.sleep(120)
        assert scene.host.config == load_text(text_with(1, 2))
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
        assert (answer.is_ok, "waits for `confirm` (60 s left)" in answer.lines[0]) == (False, True)
        answer = await scene.ask(ReloadAction.ROLLBACK)
        assert answer.is_ok
        assert scene.host.config == load_text(text_with(1))
        assert (await scene.ask()).is_ok, "and now the next one may come"


async def test_rollback_goes_back_and_forth_also_after_a_restart(tmp_path: Path) -> None:
    async with running(tmp_path) as scene:
        scene.write(2)
        assert (await scene.ask()).is_ok
    async with running(tmp_path) as scene:
        answer = await scene.ask(ReloadAction.ROLLBACK)
        assert answer.lines == (
            "static 10.9.2.0/24 removed",
            "static 10.9.1.0/24 added",
            f"{scene.path} still says otherwise: mend it before the next reload",
        )
        assert (await scene.ask(ReloadAction.ROLLBACK)).is_ok
        assert scene.host.config == load_text(text_with(2))
        assert "rolled-back" in scene.events


async def test_no_start_goes_by_what_was_taken_back_or_not_confirmed(tmp_path: Path) -> None:
    async with running(tmp_path) as scene:
        scene.write(2)
        assert (await scene.ask(confirm_s=60.0)).is_ok
        assert scene.last_good.instead_of(text_with(2)) == text_with(1), "not confirmed yet"
        assert LastGood(tmp_path, print).instead_of(text_with(2)) == text_with(1)
        assert (await scene.ask(ReloadAction.CONFIRM)).is_ok
        assert scene.last_good.instead_of(text_with(2)) is None
        assert (await scene.ask(ReloadAction.ROLLBACK)).is_ok
        assert scene.last_good.instead_of(text_with(2)) == text_with(1), "taken back"
        assert scene.last_good.instead_of(text_with(3)) is None, "somebody has mended the file"
        assert (await scene.ask()).is_ok
        assert LastGood(tmp_path, print).instead_of(text_with(2)) is None, "wanted after all"
    assert not (tmp_path / "refused.yaml").exists()


def test_a_start_by_the_last_good_one_is_in_the_log(tmp_path: Path) -> None:
    scene = Scene(tmp_path)
    scene.transactions.started(text_with(1), is_instead=True)
    assert scene.events == ["config-refused"]


async def test_nothing_to_go_back_to_is_said(tmp_path: Path) -> None:
    async with running(tmp_path) as scene:
        answer = await scene.ask(ReloadAction.ROLLBACK)
        assert (answer.is_ok, answer.lines) == (
            False, ("there is no earlier configuration to go back to",),
        )  # fmt: skip


async def test_a_switch_that_fails_changes_nothing_and_waits_for_nothing(tmp_path: Path) -> None:
    async with running(tmp_path) as scene:
        scene.write(2)
        scene.host.failures = [SwitchError(["the engine is restarting; try again in a moment"])]
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
        answers = [await scene.host.answers.receive() for _ in range(4)]
        nursery.cancel_scope.cancel()
    by_id = dict(answers)
    assert by_id.keys() == {1, 2, 3, 4}
    assert by_id[1].lines == by_id[2].lines == ("superseded by a newer reload",)
    assert by_id[3].is_ok


def test_the_files_are_for_the_daemon_alone_and_a_full_disk_is_said(tmp_path: Path) -> None:
    complaints: list[str] = []
    last_good = LastGood(tmp_path, complaints.append)
    last_good.put_in_force("a")
    last_good.put_in_force("b")
    assert {path.name: path.stat().st_mode & 0o777 for path in tmp_path.iterdir()} == {
        "running.yaml": 0o600, "previous.yaml": 0o600,
    }  # fmt: skip
    again = LastGood(tmp_path, complaints.append)
    assert (again.running, again.previous, complaints) == ("b", "a", [])
    nowhere = LastGood(tmp_path / "nowhere", complaints.append)
    nowhere.put_in_force("a")
    nowhere.put_in_force("b")
    assert nowhere.previous == "a", "in memory it is kept all the same"
    assert "No such file" in complaints[0]


def test_a_plan_names_sockets_and_announcements() -> None:
    old, new = (
        load_text(BASE),
        load_text(BASE.replace("eth0", "eth1") + "redistribute: [{source: static}]\n"),
    )
    links = [
        LinkPlan(name, old.interface_for(name), new.interface_for(name), has_socket=name == "eth0")
        for name in ("eth0", "eth1")
    ]
    assert plan(old, new, links) == [
        "adjacency   eth0: ends, neighbors are told goodbye",
        "socket      eth0: closed",
        "adjacency   eth1: begins",
        "socket      eth1: opened",
        "announced   redistribution changes: neighbors are told the difference",
    ]
