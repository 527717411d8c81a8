"""`show nup routes`: the rows of a real instance, in order, in chunks, and bounded."""

from __future__ import annotations

from typing import cast

import pytest

from routed.control.nup_views import NupRouteView
from routed.control.selection import NupRouteSelector
from routed.engine.router import Router
from routed.engine.show import nup_routes
from routed.engine.show.nup_routes import WALKS_MAX, NupRouteTable
from routed.model.prefix import Address, Prefix
from routed.nup.instance import NeighborInstance
from routed.nup.routes.policy import NeighborRule, Policy
from tests.fakes.fake_wire import router_id
from tests.fakes.nup_pair import IPV6, LOOPBACK, pair

OURS = Prefix.parse("192.0.2.0/24")


class FakeRouter:
    """The parts of a router that the table reads."""

    def __init__(self, instance: NeighborInstance) -> None:
        self.neighbors = instance

    def ifname_of(self, ifindex: int) -> str:
        return f"eth{ifindex}"


@pytest.fixture
def instance() -> NeighborInstance:
    """The second router of a pair, which has learned two prefixes and has one of its own."""
    wire, _, b = pair()
    wire.run(2.0)
    b.instance.originate(OURS, 5, 0, is_external=False, now=wire.now)
    return b.instance


def table_of(instance: NeighborInstance) -> NupRouteTable:
    return NupRouteTable(cast("Router", FakeRouter(instance)))


def views(instance: NeighborInstance, **selection: object) -> list[NupRouteView]:
    chunks = table_of(instance).rows(NupRouteSelector(**selection))  # type: ignore[arg-type]
    assert chunks is not None
    return [view for chunk in chunks for view in chunk]


def test_received_and_advertised_routes_are_rows_in_the_order_of_prefixes(
    instance: NeighborInstance,
) -> None:
    found = [(view.prefix, view.direction, view.state) for view in views(instance)]
    assert found == [
        (LOOPBACK, "received", "selected"),
        (OURS, "advertised", "advertised"),
        (IPV6, "received", "selected"),
    ]


def test_a_received_route_names_its_origin_seqno_and_distance(instance: NeighborInstance) -> None:
    (view,) = views(instance, prefix=LOOPBACK, direction="received")
    assert (view.neighbor, view.interface, view.origin) == (router_id(1), "eth1", router_id(1))
    assert (view.metric, view.distance_metric) == (0, 10)
    assert view.distance_seqno == view.seqno


def test_split_horizon_leaves_no_row(instance: NeighborInstance) -> None:
    assert views(instance, prefix=LOOPBACK, direction="advertised") == []
    (ours,) = views(instance, prefix=OURS)
    assert (ours.direction, ours.neighbor, ours.metric) == ("advertised", None, 5)
    assert ours.origin == router_id(2)


def test_a_neighbor_selects_by_router_id_and_by_address(instance: NeighborInstance) -> None:
    everything = views(instance)
    assert views(instance, neighbor=router_id(1)) == everything
    (row,) = instance.neighbors(2.0)
    assert views(instance, neighbor=row.address) == everything
    assert views(instance, neighbor=Address.parse("10.9.9.9")) == []


def test_a_route_that_the_import_policy_refuses_has_a_row(instance: NeighborInstance) -> None:
    instance.set_policy(Policy(imports=(NeighborRule(is_accepted=False),)), 2.0)
    states = {view.state for view in views(instance, direction="received")}
    assert states == {"refused"}


def test_no_more_than_some_walks_exist_at_once(instance: NeighborInstance) -> None:
    table = table_of(instance)
    walks = [table.rows(NupRouteSelector()) for _ in range(WALKS_MAX)]
    assert table.rows(NupRouteSelector()) is None
    assert table.rows(NupRouteSelector(prefix=LOOPBACK)) is not None
    del walks[0]  # never begun
    walks.append(table.rows(NupRouteSelector()))
    assert table.rows(NupRouteSelector()) is None
    assert walks[0] is not None
    assert any(walks[0])  # to its end
    for _ in walks[0]:
        pass
    assert table.rows(NupRouteSelector()) is not None


def test_runs_are_merged(instance: NeighborInstance, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = views(instance)
    monkeypatch.setattr(nup_routes, "_RUN", 1)
    monkeypatch.setattr(nup_routes, "_CHUNK", 1)
    assert views(instance) == expected
