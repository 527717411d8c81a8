"""Both sides run by the same configuration, whichever of them ends when."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio
import trio.testing

from routed.config.diff import compare
from routed.config.load import load_text
from routed.config.schema import Config
from routed.parent import config_switch
from routed.parent.config_switch import (
    METRICS_RETRY_S,
    SWITCH_BACK_TIMEOUT_S,
    InForce,
    SwitchError,
)
from tests.fakes.fake_engines import FakeEngine, FakeParent

OLD = load_text("router_id: 10.255.0.1\nuser: root\ninterfaces: {eth0: {cost: 10}}\n")
NEW = load_text("router_id: 10.255.0.1\nuser: root\ninterfaces: {eth0: {cost: 77}}\n")
OLD_METRICS = load_text("router_id: 10.255.0.1\nuser: root\nmetrics: {listen: '127.0.0.1:9705'}\n")

STEPS = ("prepare", "prepared", "commit", "committed")


@asynccontextmanager
async def running(
    tmp_path: Path, config: Config = OLD, *, is_locked: bool = True
) -> AsyncIterator[FakeParent]:
    parent = FakeParent(tmp_path / "routes.yaml", config)
    if not is_locked:
        parent.opened.instance.is_held = False
        parent.opened.instance.problem = "uid 2 (pid 7) has its name"
    async with trio.open_nursery() as nursery:
        nursery.start_soon(parent.run_engines)
        nursery.start_soon(parent.switch.run)
        await parent.switch.wait_for_engine()
        yield parent
        nursery.cancel_scope.cancel()


def at(step: str, deed: str, times: int = 1) -> object:
    """What happens to an engine at a step, so many times."""
    left = times

    def hook(name: str, engine: FakeEngine) -> None:
        nonlocal left
        if name == step and left:
            left -= 1
            if deed == "kill":
                engine.kill()
            else:
                engine.is_stopped = True

    return hook


@pytest.mark.parametrize("deed", ["kill", "stop"])
@pytest.mark.parametrize("step", STEPS)
async def test_a_switch_that_fails_leaves_the_old_one_in_force_everywhere(
    tmp_path: Path, autojump_clock: trio.testing.MockClock, step: str, deed: str
) -> None:
    """S8: an engine that died on CONF_DONE left the new configuration in force, told as failed."""
    async with running(tmp_path) as parent:
        parent.on_step = at(step, deed)  # type: ignore[assignment]
        with pytest.raises(SwitchError) as caught:
            await parent.switch.switch(NEW, compare(OLD, NEW))
        is_late = step in ("commit", "committed")
        assert (caught.value.was_applied, caught.value.is_engine_gone) == (
            is_late,
            not is_late and deed == "kill",
        )
        assert parent.switch.in_force == InForce(OLD)
        assert parent.follows(OLD)
        await parent.switch.wait_for_engine()
        engine = parent.running
        assert engine is not None
        assert engine.runs_by == OLD, "the next engine starts by what is in force"


@pytest.mark.parametrize("deed", ["kill", "stop"])
@pytest.mark.parametrize("step", STEPS)
async def test_a_rollback_succeeds_whatever_the_engine_does(
    tmp_path: Path, autojump_clock: trio.testing.MockClock, step: str, deed: str
) -> None:
    """S6, S6b: with a dead or a stopped engine the unconfirmed configuration stayed."""
    async with running(tmp_path) as parent:
        await parent.switch.switch(NEW, compare(OLD, NEW))
        assert parent.follows(NEW)
        parent.on_step = at(step, deed, times=3)  # type: ignore[assignment]
        began = trio.current_time()
        assert await parent.switch.switch_back(InForce(OLD)) == []
        assert parent.switch.in_force == InForce(OLD)
        assert parent.follows(OLD)
        engine = parent.running
        assert engine is not None
        assert engine.runs_by == OLD
        if deed == "kill":
            assert trio.current_time() - began < SWITCH_BACK_TIMEOUT_S


async def test_the_way_back_waits_for_no_engine_that_is_dead_already(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    async with running(tmp_path) as parent:
        await parent.switch.switch(NEW, compare(OLD, NEW))
        assert parent.session is not None
        parent.session.kill()
        await parent.switch.switch_back(InForce(OLD))
        assert parent.running is not None
        assert parent.running.runs_by == OLD


async def test_an_engine_that_was_just_being_given_the_other_one_does_not_stay(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    async with running(tmp_path) as parent:
        await parent.switch.switch(NEW, compare(OLD, NEW))
        reached = trio.Event()

        def halt(name: str, engine: FakeEngine) -> None:
            engine.is_stopped = name == "committed"
            if engine.is_stopped:
                reached.set()

        parent.on_step = halt
        assert parent.session is not None
        parent.session.kill()
        await reached.wait()
        parent.on_step = lambda _name, _engine: None
        await parent.switch.switch_back(InForce(OLD))
        assert parent.running is not None
        assert parent.running.runs_by == OLD


async def test_a_metrics_address_in_use_does_not_stop_a_rollback(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    async with running(tmp_path, OLD_METRICS) as parent:
        await parent.switch.switch(OLD, compare(OLD_METRICS, OLD))
        parent.opened.listeners.is_taken = True
        (problem,) = await parent.switch.switch_back(InForce(OLD_METRICS))
        assert "in use; it is tried again" in problem
        assert parent.running is not None
        assert parent.running.runs_by == OLD_METRICS
        parent.opened.listeners.is_taken = False
        await trio.sleep(2 * METRICS_RETRY_S)
        said = [record.event for record in parent.sink.records]
        assert said == ["metrics-not-served"], "once, and then it was free"


async def test_a_name_in_use_is_ours_as_soon_as_it_is_free(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever had it for a moment at the start took the protection away for good."""
    monkeypatch.setattr(config_switch, "LOCK_RETRY_S", 0.01)
    async with running(tmp_path, is_locked=False) as parent:
        instance = parent.opened.instance

        async def said(*events: str) -> None:
            with trio.fail_after(30):
                while [record.event for record in parent.sink.records] != list(events):  # noqa: ASYNC110
                    await trio.sleep(0.01)

        await said("instance-lock-missing")
        instance.problem, instance.is_taken = "", True
        await said("instance-lock-missing", "instance-lock-missing")
        instance.is_taken = False
        await said("instance-lock-missing", "instance-lock-missing", "instance-lock-held")
        assert instance.is_held
