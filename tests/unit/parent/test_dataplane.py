"""The parent keeps the programs at the configured interfaces, on a kernel that fails on demand."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from typing import Any

import pytest

from routed.config.schema import DataplaneConfig
from routed.dataplane.kernel import AttachType
from routed.dataplane.layout import LINKS_MAX
from routed.imsg.dataplane import DataplaneArrayReady, DataplaneChanged, ProgramsReported
from routed.log.events import Level
from routed.log.logger import Logger
from routed.model.dataplane import DataplaneArray, DataplaneReason, Hook
from routed.model.link import Interface
from routed.parent.dataplane import Dataplane, Loaded, load_dataplane
from tests.fakes.fake_bpf import FakeBpf
from tests.unit.fib.test_sync import ListSink

ETH = DataplaneConfig(interfaces=("eth*", "wan0"))


def link(ifindex: int, ifname: str) -> Interface:
    return Interface(ifindex, ifname, True, True, 1500, False, True)


class Engine:
    """A session that keeps what it was sent."""

    def __init__(self) -> None:
        self.got: list[Any] = []

    def send(self, message: object, *, request_id: int = 0, descriptor: int | None = None) -> None:
        del request_id
        self.got.append(message)
        if descriptor is not None:
            os.close(descriptor)


class Scene:
    """A dataplane, its links, its engine and its log."""

    def __init__(self, config: DataplaneConfig = ETH, kernel: FakeBpf | None = None) -> None:
        self.kernel = kernel or FakeBpf()
        self.interfaces = {2: link(2, "eth0"), 3: link(3, "eth1"), 4: link(4, "lan0")}
        self.running: Engine | None = Engine()
        self.lines = ListSink()
        log = Logger(self.lines, "parent", Level.INFO)
        loaded = load_dataplane(config, self.kernel)
        self.dataplane = Dataplane(loaded, config, self, self, log, self.kernel)
        self.dataplane.reconcile()

    def close(self) -> None:
        self.dataplane.close()

    @property
    def hooks(self) -> set[tuple[int, AttachType]]:
        return {(ifindex, where) for _, ifindex, where in self.kernel.links.values()}

    @property
    def shown(self) -> dict[str, tuple[Hook, DataplaneReason, str]]:
        """What the engine knows now."""
        engine = Engine()
        self.dataplane.hand_over(engine)
        return {
            entry.interface: (entry.hook, entry.reason, entry.detail)
            for entry in engine.got[-1].attachments
        }


@pytest.fixture
def scene() -> Iterator[Scene]:
    with closing(Scene()) as built:
        yield built
    assert built.kernel.links == {}
    assert built.kernel.leaked == set()


def both(*ifindexes: int) -> set[tuple[int, AttachType]]:
    return {(ifindex, where) for ifindex in ifindexes for where in AttachType}


def test_the_configured_interfaces_have_both_programs(scene: Scene) -> None:
    assert scene.hooks == both(2, 3)
    assert scene.shown == {
        "eth0": (Hook.TCX, DataplaneReason.NONE, ""),
        "eth1": (Hook.TCX, DataplaneReason.NONE, ""),
        "wan0": (Hook.NONE, DataplaneReason.NO_SUCH_INTERFACE, ""),
    }
    assert [(record.event, dict(record.fields)) for record in scene.lines.records] == [
        ("dataplane-attached", {"link": "eth0", "hook": "tcx"}),
        ("dataplane-attached", {"link": "eth1", "hook": "tcx"}),
        (
            "dataplane-not-attached",
            {"link": "wan0", "reason": "no-such-interface", "detail": ""},
        ),
    ]


def test_a_reload_detaches_and_attaches_only_the_difference(scene: Scene) -> None:
    scene.dataplane.follow(replace(ETH, interfaces=("eth1", "lan0")))
    assert scene.hooks == both(3, 4)
    assert scene.kernel.calls["attach"] == 6
    scene.dataplane.follow(DataplaneConfig())
    assert scene.hooks == set()
    assert scene.shown == {}
    calls = scene.kernel.calls.copy()
    scene.dataplane.reconcile()
    assert scene.kernel.calls == calls  # nothing configured, nothing done


def test_added_removed_and_renamed_interfaces_are_followed(scene: Scene) -> None:
    engine = scene.running
    assert engine is not None
    scene.interfaces[9] = link(9, "wan0")
    scene.dataplane.reconcile()
    assert scene.hooks == both(2, 3, 9)
    del scene.interfaces[2]
    scene.interfaces[3] = link(3, "lan1")
    scene.dataplane.reconcile()
    assert scene.hooks == both(9)
    (entry,) = engine.got[-1].attachments
    assert (entry.interface, entry.ifindex, entry.hook) == ("wan0", 9, Hook.TCX)
    before = len(engine.got)
    scene.dataplane.reconcile()
    assert len(engine.got) == before  # no change, no message


@pytest.mark.parametrize(
    ("number", "reason"),
    [
        (errno.EINVAL, DataplaneReason.KERNEL_TOO_OLD),
        (errno.EPERM, DataplaneReason.NO_CAPABILITY),
        (errno.ENOMEM, DataplaneReason.NO_MEMORY),
        (errno.EBUSY, DataplaneReason.REFUSED),
    ],
)
def test_a_refused_attachment_is_named_undone_and_tried_again(
    number: int, reason: DataplaneReason
) -> None:
    kernel = FakeBpf()
    kernel.fail("attach:TCX_EGRESS", number)
    with closing(Scene(kernel=kernel)) as scene:
        assert scene.hooks == both(3)  # of the first one, the other direction was undone
        assert scene.shown["eth0"] == (Hook.NONE, reason, os.strerror(number))
        scene.dataplane.reconcile()
        assert scene.hooks == both(2, 3)
        assert scene.shown["eth0"] == (Hook.TCX, DataplaneReason.NONE, "")
    assert kernel.leaked == set()


def test_an_interface_that_went_while_it_was_attached_is_named(scene: Scene) -> None:
    scene.interfaces[9] = link(9, "wan0")
    scene.kernel.missing.add(9)
    scene.dataplane.reconcile()
    assert scene.shown["wan0"][:2] == (Hook.NONE, DataplaneReason.NO_SUCH_INTERFACE)


def test_an_unknown_type_of_link_is_not_counted(scene: Scene) -> None:
    scene.interfaces[9] = link(9, "wan0")
    scene.kernel.types["wan0"] = 512  # PPP
    scene.dataplane.reconcile()
    assert scene.hooks == both(2, 3)
    assert scene.shown["wan0"][:2] == (Hook.NONE, DataplaneReason.LINK_TYPE)


def test_programs_of_others_stay_and_are_named(scene: Scene) -> None:
    scene.kernel.foreign[2] = (41, 42)
    scene.dataplane.reconcile()
    engine = scene.running
    assert engine is not None
    assert engine.got[-1].attachments[0].others == (41, 42)
    assert len(scene.lines.records) == 3  # no line: the interface is counted as before


def test_beyond_the_counters_interfaces_are_named() -> None:
    config = DataplaneConfig(interfaces=("veth*",))
    with closing(Scene(config)) as scene:
        for number in range(10, 10 + LINKS_MAX + 2):
            scene.interfaces[number] = link(number, f"veth{number}")
        scene.dataplane.reconcile()
        assert scene.hooks == both(*range(10, 10 + LINKS_MAX))
        assert scene.shown[f"veth{10 + LINKS_MAX}"][1] is DataplaneReason.TOO_MANY


def test_without_programs_the_daemon_continues_and_gives_the_reason() -> None:
    kernel = FakeBpf()
    kernel.fail("create_array:places", errno.EPERM)
    with closing(Scene(kernel=kernel)) as scene:
        detail = os.strerror(errno.EPERM)
        assert scene.shown["eth0"] == (Hook.NONE, DataplaneReason.NO_CAPABILITY, detail)
        assert scene.dataplane.report_programs() == ProgramsReported(())
        assert kernel.calls["attach"] == 0
    assert kernel.leaked == set()


def test_a_daemon_that_started_without_a_dataplane_needs_a_restart() -> None:
    with closing(Scene(DataplaneConfig())) as scene:
        assert scene.kernel.calls.total() == 0
        scene.dataplane.follow(ETH)
        assert scene.shown["eth0"][:2] == (Hook.NONE, DataplaneReason.RESTART_NEEDED)
        assert scene.kernel.calls.total() == 0


def test_an_engine_gets_memory_and_no_program(scene: Scene) -> None:
    engine = Engine()
    scene.dataplane.hand_over(engine)
    *arrays, last = engine.got
    assert all(isinstance(message, DataplaneArrayReady) for message in arrays)
    of_the_engine = ("links", "activity", "words", "routes")
    assert tuple(message.array.value for message in arrays) == of_the_engine
    assert isinstance(last, DataplaneChanged)


def test_without_routes_the_engine_gets_the_counters_of_interfaces_alone() -> None:
    with closing(Scene(replace(ETH, routes=0))) as scene:
        engine = Engine()
        scene.dataplane.hand_over(engine)
        assert [type(message) for message in engine.got] == [DataplaneArrayReady, DataplaneChanged]
        assert engine.got[0].array is DataplaneArray.LINKS


def test_programs_are_described(scene: Scene) -> None:
    report = scene.dataplane.report_programs()
    assert [(entry.name, entry.interfaces) for entry in report.programs] == [
        ("received", 2), ("sent", 2),
    ]  # fmt: skip
    assert not report.programs[0].has_statistics
    assert report.programs[0].code_bytes == 4096
    assert report.memory_bytes > 200_000


def test_nothing_is_loaded_without_interfaces() -> None:
    assert load_dataplane(DataplaneConfig(statistics=True)) == Loaded()
