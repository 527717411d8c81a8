"""Routes for a TOS: a prefix moves to another key of the kernel when its TOS changes."""

from __future__ import annotations

import pytest

from routed.fib.routes.ownership import Ownership, RouteKey, RouteValue
from routed.fib.routes.plan import OpKind
from routed.fib.routes.tables import FibTables
from routed.model.kernel_attributes import KernelAttributes
from routed.model.prefix import Family, Prefix
from routed.model.route import RouteType
from tests.fakes.fake_kernel import FakeKernel, operations_of

pytestmark = pytest.mark.usefixtures("kernel_tables")

PREFIX, OTHER = Prefix.parse("10.0.0.0/8"), Prefix.parse("10.1.0.0/16")
PLAIN = RouteValue(RouteType.BLACKHOLE, ())
OF_TOS = PLAIN._replace(attributes=KernelAttributes(tos=16))
WITH_MTU = PLAIN._replace(attributes=KernelAttributes(tos=8, mtu=1400))


def key(prefix: Prefix, tos: int) -> RouteKey:
    return RouteKey(254, prefix, tos, 205)


class Scene:
    def __init__(self) -> None:
        self.tables = FibTables(Ownership(205, 205, frozenset({254})))
        self.kernel = FakeKernel()
        self.tables.open_gate()

    def desire(self, *values: RouteValue) -> None:
        """Desire the values for PREFIX and OTHER, as far as there are values."""
        prefixes = [PREFIX, OTHER][: len(values)]
        keys = [prefix.as_int for prefix in prefixes]
        self.tables.set_desired(254, Family.IPV4, keys, list(values))

    def write(self) -> list[tuple[OpKind, RouteKey]]:
        done: list[tuple[OpKind, RouteKey]] = []
        while batches := self.tables.plan(0.0):
            done += [(operation.kind, operation.key) for operation in operations_of(batches)]
            assert self.tables.record(batches, self.kernel.apply(batches), 0.0)
        return done


def test_the_tos_is_in_the_key_and_not_in_the_value() -> None:
    scene = Scene()
    scene.desire(OF_TOS, WITH_MTU)
    scene.write()
    assert scene.kernel.ours() == {
        key(PREFIX, 16): PLAIN,
        key(OTHER, 8): PLAIN._replace(attributes=KernelAttributes(mtu=1400)),
    }
    assert scene.tables.totals == (2, 2, 0, 0)


def test_another_tos_is_installed_before_the_old_one_is_removed() -> None:
    scene = Scene()
    scene.desire(OF_TOS, PLAIN)
    scene.write()
    scene.desire(PLAIN)
    assert scene.write() == [(OpKind.INSTALL, key(PREFIX, 0)), (OpKind.REMOVE, key(PREFIX, 16))]
    scene.desire(WITH_MTU)
    assert scene.write() == [(OpKind.INSTALL, key(PREFIX, 8)), (OpKind.REMOVE, key(PREFIX, 0))]
    scene.desire(WITH_MTU, PLAIN)
    assert scene.write() == []


def test_a_withdrawn_route_goes_whatever_its_tos() -> None:
    scene = Scene()
    scene.desire(OF_TOS, PLAIN)
    scene.write()
    scene.tables.withdraw(254, Family.IPV4, [PREFIX.as_int, OTHER.as_int])
    scene.write()
    assert scene.kernel.ours() == {}
    scene.desire(PLAIN)
    assert scene.write() == [(OpKind.INSTALL, key(PREFIX, 0))]


def test_the_next_engine_claims_a_route_under_its_tos() -> None:
    scene = Scene()
    scene.desire(OF_TOS, OF_TOS)
    scene.write()
    scene.tables.begin_session()
    scene.desire(OF_TOS)
    scene.tables.open_gate()
    assert scene.write() == [(OpKind.REMOVE, key(OTHER, 16))]
    scene.tables.change_ownership(Ownership(205, 205, frozenset({254, 100})))
    assert scene.write() == [], "the routes of the tables that are kept stay"
    scene.tables.clear_desired()
    scene.write()
    assert scene.kernel.ours() == {}
