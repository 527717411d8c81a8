"""Reports over a real channel: routes, next hops to verify, and what breaks the rules."""

from __future__ import annotations

import dataclasses
import socket
from collections.abc import Iterator
from functools import partial
from typing import Any

import pytest
import trio
import trio.testing

from ipc.framing import INTERNAL_FRAME_MAX_BYTES, Frame, pack_frame
from routed.config.bfd import BfdConfig
from routed.config.schema import Config
from routed.config.static import StaticConfig
from routed.engine.tracking import FIRST_REPORT_S, LivenessTracking
from routed.imsg.frames import frames_of
from routed.imsg.liveness import LIVENESS_CLASSES, BfdReported
from routed.log.events import Level
from routed.log.logger import Logger, LogRecord
from routed.model.bfd import BfdReport
from routed.model.prefix import Address, Prefix
from routed.rib.table import Rib
from tests.fakes.operations import operations
from tests.unit.engine.test_bfd_states import DOWN, UP, UPLINK
from tests.unit.rib.test_trackers import ETH0

VIA = Address.parse("192.0.2.2")
STATICS = (
    StaticConfig(Prefix.parse("10.0.0.0/8"), via=VIA, bfd="uplink"),
    StaticConfig(Prefix.parse("11.0.0.0/8"), via=VIA, bfd="uplink"),
    StaticConfig(Prefix.parse("12.0.0.0/8"), via=VIA),
)


def configured(**changes: Any) -> Config:
    """A configuration with one session, and routes that name it."""
    plain = Config(Address.parse("10.255.0.1"), bfd=BfdConfig((UPLINK,)), static=STATICS)
    return dataclasses.replace(plain, **changes)


class Scene:
    """A tracking with one session, and the other end of its channel."""

    def __init__(self) -> None:
        self.now = 0.0
        self.verified: list[tuple[Address, int]] = []
        self.lines: list[str] = []
        self.changes = 0
        rib = Rib(lambda: 0.0)
        rib.link_changed(ETH0)
        links = {ETH0.ifindex: ETH0}
        log = Logger(self, "engine", Level.DEBUG)
        self.tracking = LivenessTracking(
            rib, self_programming(self), links, log, self.clock, self.changed
        )
        self.tracking.apply(configured())
        self.theirs, ours = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.tracking.connect(ours)

    def clock(self) -> float:
        return self.now

    def changed(self) -> None:
        self.changes += 1

    def write(self, record: LogRecord) -> None:
        self.lines.append(record.event)

    def close(self) -> None:
        """A logger closes its sink."""

    def report(self, *reports: BfdReport, is_complete: bool = True) -> None:
        message = BfdReported(reports, ended=(), dropped={"version": 2}, is_complete=is_complete)
        for frame in frames_of(message, types=LIVENESS_CLASSES):
            self.theirs.send(pack_frame(frame, INTERNAL_FRAME_MAX_BYTES))


def self_programming(scene: Scene) -> Any:
    """What the tracking uses of FibProgramming."""

    class Programming:
        def verify(self, lost: list[tuple[Address, int]]) -> None:
            scene.verified += lost

    return Programming()


@pytest.fixture
def idle() -> Iterator[Scene]:
    """A tracking that does not run yet."""
    made = Scene()
    with made.theirs:
        yield made


@pytest.fixture
async def scene(nursery: trio.Nursery, idle: Scene) -> Scene:
    nursery.start_soon(idle.tracking.run)
    await trio.testing.wait_all_tasks_blocked()
    return idle


async def test_a_session_that_goes_down_loses_its_next_hops_at_once(scene: Scene) -> None:
    scene.report(UP)
    await trio.testing.wait_all_tasks_blocked()
    assert scene.tracking.may_decide
    assert scene.tracking.bfd.problems() == {"bfd uplink": ""}
    assert scene.verified == []
    scene.report(DOWN)
    await trio.testing.wait_all_tasks_blocked()
    assert scene.verified == [(VIA, ETH0.ifindex)], "once, for all routes"
    assert scene.lines == ["bfd-up", "bfd-down"]
    assert scene.changes >= 2
    assert scene.tracking.bfd.dropped == {"version": 2}


async def test_users_are_the_next_hops_that_name_a_session(scene: Scene) -> None:
    assert scene.tracking.users == {"bfd uplink": 2}
    scene.tracking.apply(configured(static=STATICS[1:]))
    assert scene.tracking.users == {"bfd uplink": 1}
    assert list(scene.tracking.bfd.sessions) == ["uplink"]


async def test_routes_wait_for_the_first_states_and_not_longer(
    nursery: trio.Nursery, idle: Scene, autojump_clock: trio.testing.MockClock
) -> None:
    scene = idle
    scene.tracking._now = trio.current_time
    nursery.start_soon(scene.tracking.run)
    scene.tracking.links_complete()
    assert not scene.tracking.may_decide
    await trio.sleep(FIRST_REPORT_S + 0.1)
    assert scene.tracking.may_decide


async def test_an_incomplete_report_is_waited_for(scene: Scene) -> None:
    scene.report(UP, is_complete=False)
    await trio.testing.wait_all_tasks_blocked()
    assert not scene.tracking.may_decide


async def test_nothing_waits_without_sessions(scene: Scene) -> None:
    scene.tracking.apply(configured(bfd=BfdConfig(), static=()))
    assert scene.tracking.may_decide


@pytest.mark.parametrize("kind", [999, 106, 1])
async def test_a_message_out_of_place_ends_the_channel_and_changes_nothing(
    scene: Scene, kind: int
) -> None:
    scene.report(UP)
    await trio.testing.wait_all_tasks_blocked()
    scene.theirs.send(pack_frame(Frame(kind, 0, b""), INTERNAL_FRAME_MAX_BYTES))
    await trio.testing.wait_all_tasks_blocked()
    assert "internal-error" in scene.lines
    assert scene.tracking.bfd.problems() == {"bfd uplink": ""}
    assert not scene.tracking.bfd.sessions["uplink"].is_current
    with pytest.raises(OSError):  # noqa: PT011  (EPIPE, or ECONNRESET)
        scene.theirs.send(b"x")


@pytest.mark.parametrize("state", [UP, DOWN])
async def test_a_report_that_changes_nothing_costs_the_same_whatever_the_number_of_sessions(
    scene: Scene, state: BfdReport
) -> None:
    """Each session is reported once a second: together they must not cost the square."""
    costs = []
    for count in (1, 1000):
        sessions = [dataclasses.replace(UPLINK, name=f"s{number}") for number in range(count)]
        scene.tracking.apply(configured(bfd=BfdConfig(tuple(sessions))))
        reports = tuple(dataclasses.replace(state, name=each.name) for each in sessions)
        scene.tracking._handle(BfdReported(reports, (), {}, is_complete=True))
        one = BfdReported(reports[:1], (), {}, is_complete=True)
        costs.append(operations(partial(scene.tracking._handle, one)))
    assert costs[0] == costs[1]


@pytest.mark.parametrize("is_noticed", [True, False])
async def test_what_counts_after_a_restart_of_the_liveness_process_is_given_up_in_time(
    scene: Scene, autojump_clock: trio.testing.MockClock, is_noticed: bool
) -> None:
    """Whether or not the end of the former one was noticed before the next one was there."""
    scene.report(UP)
    await trio.testing.wait_all_tasks_blocked()
    scene.theirs.close()
    if is_noticed:
        await trio.testing.wait_all_tasks_blocked()
    scene.theirs, ours = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with scene.theirs:
        scene.tracking.connect(ours)
        await trio.testing.wait_all_tasks_blocked()
        changes = scene.changes
        scene.report(dataclasses.replace(DOWN, has_been_up=False))
        await trio.testing.wait_all_tasks_blocked()
        assert scene.changes == changes
        scene.now += 10.0
        await trio.sleep(10.1)
        assert scene.changes == changes + 1
        assert scene.lines[-1] == "bfd-down"
