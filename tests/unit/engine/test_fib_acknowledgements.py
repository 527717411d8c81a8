"""Acknowledgements of the kernel reach NUP, prefix by prefix."""

from __future__ import annotations

import random
from collections.abc import Iterable

from routed.engine.fib.acknowledgements import FibAcknowledgements
from routed.engine.fib.desired import DesiredFib, DesiredRoute
from routed.model.fib import FibCounters
from routed.model.prefix import Prefix
from routed.model.route import RouteType
from routed.nup.instance import NeighborInstance
from tests.fakes.fake_wire import router_id

A = Prefix.parse("10.1.0.0/16")
B = Prefix.parse("2001:db8:b::/48")
BLACKHOLE = DesiredRoute(RouteType.BLACKHOLE, ())


class _Listening(NeighborInstance):
    """Records its inputs."""

    def __init__(self) -> None:
        super().__init__(router_id(1), 1, 1, random.Random(1))
        self.followed: list[Prefix] = []

    def forwarding_updated(self, prefixes: Iterable[Prefix], now: float) -> None:
        told = list(prefixes)
        self.followed += told
        super().forwarding_updated(told, now)


class Scene:
    """An instance that waits, desired routes, and the acknowledgements between them."""

    def __init__(self) -> None:
        self.instance = _Listening()
        self.instance.await_forwarding(True, 0.0)
        self.desired = DesiredFib(254)
        self.acknowledgements = FibAcknowledgements(self.instance, self.desired)

    def choose(self, prefix: Prefix, metric: int) -> None:
        self.instance.originate(prefix, metric, 0, False, 0.0)

    def set_desired(self, prefix: Prefix) -> None:
        self.desired.set_routes(prefix.family, [prefix.as_int], [BLACKHOLE])

    def say(self) -> int:
        update = self.desired.pop_update()
        assert update is not None
        return update.serial

    def applied(self, serial: int) -> bool:
        tried = self.desired.record_progress(serial, [], [], FibCounters())
        return self.acknowledgements.handle_progress(tried, 0.0)


def test_a_changed_prefix_is_acknowledged_when_the_kernel_has_tried_it() -> None:
    scene = Scene()
    for prefix in (A, B):
        scene.choose(prefix, 0)
        scene.set_desired(prefix)
    assert not scene.acknowledgements.handle_decision(0.0)
    serial = scene.say()
    assert not scene.applied(serial - 1)
    assert scene.instance.followed == []
    assert scene.applied(serial)
    assert scene.instance.followed == [A, B]


def test_an_unchanged_prefix_is_acknowledged_when_it_is_decided() -> None:
    scene = Scene()
    scene.choose(A, 0)
    assert scene.acknowledgements.handle_decision(0.0)
    assert scene.instance.followed == [A]
    assert not scene.acknowledgements.handle_decision(0.0)


def test_a_prefix_that_changes_again_is_acknowledged_with_its_last_update() -> None:
    scene = Scene()
    scene.choose(A, 0)
    scene.set_desired(A)
    scene.acknowledgements.handle_decision(0.0)
    first = scene.say()
    scene.set_desired(A)
    assert not scene.applied(first)
    second = scene.say()
    assert scene.applied(second)
    assert scene.instance.followed == [A]


def test_a_prefix_that_is_not_awaited_is_not_reported() -> None:
    scene = Scene()
    scene.set_desired(A)
    scene.acknowledgements.handle_decision(0.0)
    assert not scene.applied(scene.say())
    assert scene.instance.followed == []
