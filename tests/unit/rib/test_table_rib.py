"""The RIB of another table: gateways resolve in it and in the main RIB, and follow both."""

from __future__ import annotations

import pytest

from routed.model.link import Interface, InterfaceAddress
from routed.model.prefix import Address, Family, Prefix
from routed.model.route import Gateway, NextHop, Route, RouteSource, RouteType
from routed.rib.table import BestPathChanges, Rib
from routed.rib.table_rib import KEYS_MAX, TableRib

ETH0, ETH1 = 2, 3


def link(ifindex: int, address: str, *, has_carrier: bool = True) -> Interface:
    return Interface(
        ifindex=ifindex, ifname=f"eth{ifindex - 2}", is_admin_up=True, has_carrier=has_carrier,
        mtu=1500, is_loopback=False, has_multicast=True,
        addresses=(InterfaceAddress(Address.parse(address), 24),),
    )  # fmt: skip


class Tables:
    """A main RIB and another one, decided in this order."""

    def __init__(self) -> None:
        self.main = Rib(now=lambda: 0.0)
        self.other = TableRib(self.main.find_cover, now=lambda: 0.0)
        for each in (link(ETH0, "192.0.2.9"), link(ETH1, "198.51.100.9")):
            self.link_changed(each)

    def link_changed(self, changed: Interface) -> None:
        self.main.link_changed(changed)
        self.other.link_changed(changed)

    def decide(self) -> list[BestPathChanges]:
        self.other.main_changed(self.main.process())
        return self.other.process()

    def hops(self, prefix: str) -> tuple[NextHop, ...] | None:
        best = self.other.best(Prefix.parse(prefix))
        return None if best is None else best.next_hops

    def problem(self, prefix: str) -> str:
        return self.other.candidates(Prefix.parse(prefix))[0].problem


@pytest.fixture
def tables() -> Tables:
    return Tables()


def static(prefix: str, via: str | None = None, dev: str | None = None) -> Route:
    gateway = Gateway(None if via is None else Address.parse(via), dev)
    kind = RouteType.UNICAST if via or dev else RouteType.BLACKHOLE
    gateways = (gateway,) if via or dev else ()
    return Route(Prefix.parse(prefix), RouteSource.STATIC, 1, type=kind, gateways=gateways)


def hop(via: str, ifindex: int) -> tuple[NextHop, ...]:
    return (NextHop(Address.parse(via), ifindex),)


def test_it_has_no_connected_routes_and_resolves_over_those_of_main(tables: Tables) -> None:
    tables.other.install(static("0.0.0.0/0", "192.0.2.1"))
    tables.other.install(static("10.0.0.0/8", "198.51.100.1", "eth1"))
    tables.decide()
    assert tables.hops("0.0.0.0/0") == hop("192.0.2.1", ETH0)
    assert tables.hops("10.0.0.0/8") == hop("198.51.100.1", ETH1)
    assert [str(prefix) for prefix in tables.other.prefixes_after(None, 9)] == [
        "0.0.0.0/0", "10.0.0.0/8",
    ]  # fmt: skip


def test_a_gateway_follows_the_routes_of_main(tables: Tables) -> None:
    tables.other.install(static("10.0.0.0/8", "172.16.0.1"))
    tables.decide()
    assert "172.16.0.1 is not reachable" in tables.problem("10.0.0.0/8")
    tables.main.install(static("172.16.0.0/12", "192.0.2.1"))
    tables.decide()
    assert tables.hops("10.0.0.0/8") == hop("192.0.2.1", ETH0)
    tables.main.install(static("172.16.0.0/12", "198.51.100.1"))
    tables.decide()
    assert tables.hops("10.0.0.0/8") == hop("198.51.100.1", ETH1)
    tables.main.withdraw(Prefix.parse("172.16.0.0/12"), RouteSource.STATIC, "")
    tables.decide()
    assert tables.hops("10.0.0.0/8") is None


def test_many_changes_of_main_are_followed_as_well(tables: Tables) -> None:
    tables.other.install(static("10.0.0.0/8", "172.16.0.1"))
    tables.decide()
    tables.main.install(static("172.16.0.0/12", "192.0.2.1"))
    for number in range(KEYS_MAX + 1):
        tables.main.install(static(f"203.{number >> 8}.{number & 0xFF}.0/24", "192.0.2.1"))
    (changes,) = tables.main.process()
    assert len(changes.keys) > KEYS_MAX
    tables.other.main_changed([changes])
    tables.other.process()
    assert tables.hops("10.0.0.0/8") == hop("192.0.2.1", ETH0)


def test_the_longer_match_of_both_tables_decides(tables: Tables) -> None:
    tables.main.install(static("172.16.0.0/12", "192.0.2.1"))
    tables.other.install(static("172.16.5.0/24", "198.51.100.1"))
    tables.other.install(static("10.0.0.0/8", "172.16.5.1"))
    tables.decide()
    assert tables.hops("10.0.0.0/8") == hop("198.51.100.1", ETH1)
    tables.other.withdraw(Prefix.parse("172.16.5.0/24"), RouteSource.STATIC, "")
    tables.decide()
    assert tables.hops("10.0.0.0/8") == hop("192.0.2.1", ETH0)


def test_equal_prefixes_of_main_are_no_circle(tables: Tables) -> None:
    """The main table's 10.0.0.0/8 rests on its 172.16.0.0/12; the other table has both prefixes,
    too, and neither is the same route."""
    tables.main.install(static("172.16.0.0/12", "192.0.2.1"))
    tables.main.install(static("10.0.0.0/8", "172.16.0.1"))
    tables.other.install(static("172.16.0.0/12", "10.1.1.1"))
    tables.decide()
    assert tables.hops("172.16.0.0/12") == hop("192.0.2.1", ETH0)


def test_a_route_that_covers_its_own_gateway_is_refused_whatever_main_has(tables: Tables) -> None:
    tables.main.install(static("10.0.0.0/8", "192.0.2.1"))
    tables.other.install(static("10.1.0.0/16", "10.1.1.1"))
    for _ in range(3):
        tables.decide()
        assert "would resolve through itself" in tables.problem("10.1.0.0/16")


def test_the_default_route_of_neither_table_resolves_a_gateway(tables: Tables) -> None:
    tables.main.install(static("0.0.0.0/0", "192.0.2.1"))
    tables.other.install(static("0.0.0.0/0", "198.51.100.1"))
    tables.other.install(static("10.0.0.0/8", "172.16.0.1"))
    tables.decide()
    assert "only the default route covers it" in tables.problem("10.0.0.0/8")


def test_a_lost_carrier_takes_the_route_away(tables: Tables) -> None:
    tables.other.install(static("0.0.0.0/0", "192.0.2.1"))
    tables.decide()
    tables.link_changed(link(ETH0, "192.0.2.9", has_carrier=False))
    (changes,) = tables.decide()
    assert (changes.family, changes.best_paths) == (Family.IPV4, [None])
