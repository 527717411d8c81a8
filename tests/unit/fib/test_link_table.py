"""The table of links: VRFs, thousands of addresses, and what happens within one burst."""

from __future__ import annotations

import pytest

from routed.fib.links.table import AddressEvent, LinkEvent, LinkTable
from routed.fib.routes.ownership import KernelRoute, RouteKey, RouteValue
from routed.model.link import Interface, InterfaceAddress
from routed.model.prefix import Address, Prefix
from routed.model.route import NextHop, RouteType

KERNEL, MAIN, RED = 2, 254, 1001


def link(ifindex: int, *, master: int = 0, vrf_table: int = 0, is_up: bool = True) -> LinkEvent:
    return LinkEvent(
        ifindex, f"e{ifindex}", False, is_up, is_up, 1500, False, True,
        master=master, vrf_table=vrf_table,
    )  # fmt: skip


def address(ifindex: int, text: str, *, is_removed: bool = False) -> AddressEvent:
    host, _, length = text.partition("/")
    return AddressEvent(ifindex, InterfaceAddress(Address.parse(host), int(length)), is_removed)


def subnet(ifindex: int, prefix: str, table_id: int = MAIN) -> KernelRoute:
    value = RouteValue(RouteType.UNICAST, (NextHop(None, ifindex),))
    return KernelRoute(RouteKey(table_id, Prefix.parse(prefix), 0, 0), KERNEL, value)


def connected(table: LinkTable, ifindex: int) -> list[str]:
    return [str(prefix) for prefix in table.interfaces[ifindex].connected_prefixes()]


def filled(table_id: int, *links: LinkEvent) -> LinkTable:
    """Each link has a subnet and an address of its own; the subnet's route is where the kernel
    puts it."""
    table = LinkTable(table_id)
    addresses, routes = [], []
    for each in links:
        number = each.ifindex
        addresses += [
            address(number, f"10.{number}.0.1/24"),
            address(number, f"10.9.9.{number}/32"),
        ]
        routes.append(subnet(number, f"10.{number}.0.0/24", RED if each.master else MAIN))
    table.replace(links, addresses)
    table.replace_routes(route for route in routes if route.key.table_id in table.tables)
    return table


def manual(ifindex: int, prefix: str, priority: int) -> KernelRoute:
    """As `ip route add PREFIX dev LINK metric PRIORITY` makes it."""
    value = RouteValue(RouteType.UNICAST, (NextHop(None, ifindex),))
    return KernelRoute(RouteKey(MAIN, Prefix.parse(prefix), 0, priority), 3, value)


def on_link(table: LinkTable, ifindex: int, via: str) -> bool:
    return table.interfaces[ifindex].owner_of_subnet(Address.parse(via)) is not None


def test_a_subnet_is_connected_by_the_link_that_packets_take() -> None:
    """The other link has it still, for gateways that name that link."""
    table = filled(MAIN, link(1), link(2))
    for each in (
        (subnet(1, "10.1.0.0/24"), True),
        (manual(1, "10.1.0.0/24", 50), False),
        (manual(2, "10.1.0.0/24", 40), False),
    ):
        route, is_removed = each
        table.record_route(route, is_removed=is_removed, is_replacing=False)
    table.pop_changes()
    assert "10.1.0.0/24" not in connected(table, 1)
    assert on_link(table, 1, "10.1.0.9")
    table.record(address(2, "10.1.0.2/24"))
    assert [change.ifindex for change in table.pop_changes()] == [2]
    assert "10.1.0.0/24" in connected(table, 2)
    assert "10.1.0.0/24" not in connected(table, 1)
    table.record_route(manual(2, "10.1.0.0/24", 40), is_removed=True, is_replacing=False)
    assert sorted(change.ifindex for change in table.pop_changes()) == [1, 2]
    assert "10.1.0.0/24" in connected(table, 1)
    assert "10.1.0.0/24" not in connected(table, 2)


def test_a_link_that_goes_down_leaves_its_subnets_to_the_next() -> None:
    table = filled(MAIN, link(1), link(2))
    table.record_route(subnet(1, "10.1.0.0/24"), is_removed=True, is_replacing=False)
    table.record(address(2, "10.1.0.2/24"))
    for ifindex, priority in ((1, 600), (2, 100)):
        route = manual(ifindex, "10.1.0.0/24", priority)
        table.record_route(route, is_removed=False, is_replacing=False)
    table.pop_changes()
    assert "10.1.0.0/24" not in connected(table, 1)
    table.apply(link(2, is_up=False))
    table.pop_changes()
    assert "10.1.0.0/24" in connected(table, 1)


def test_of_routes_of_one_priority_each_connects() -> None:
    table = filled(MAIN, link(1), link(2))
    table.record(address(2, "10.1.0.2/24"))
    table.record_route(subnet(2, "10.1.0.0/24"), is_removed=False, is_replacing=False)
    table.pop_changes()
    assert "10.1.0.0/24" in connected(table, 1)
    assert "10.1.0.0/24" in connected(table, 2)


VRF = link(9, vrf_table=RED)


@pytest.mark.parametrize(
    ("table_id", "in_main", "in_red"),
    [(MAIN, True, False), (RED, False, True), (100, True, False)],
    ids=["main", "the VRF's", "another table"],
)
def test_links_of_another_vrf_connect_nothing(table_id: int, in_main: bool, in_red: bool) -> None:
    table = filled(table_id, VRF, link(2), link(3, master=9))
    assert connected(table, 2) == (["10.2.0.0/24", "10.9.9.2/32"] if in_main else [])
    assert connected(table, 3) == (["10.3.0.0/24", "10.9.9.3/32"] if in_red else [])
    own = Address.parse("10.9.9.3")
    assert (own in table.interfaces[3].own_addresses()) is in_red


def test_a_link_that_moves_into_a_vrf_takes_its_addresses_along() -> None:
    table = filled(MAIN, VRF, link(3))
    assert connected(table, 3) == ["10.3.0.0/24", "10.9.9.3/32"]
    table.record_route(subnet(3, "10.3.0.0/24"), is_removed=True, is_replacing=False)
    table.apply(link(3, master=9))
    table.pop_changes()
    assert connected(table, 3) == []


def test_a_vrf_that_is_made_for_our_table_makes_main_anothers() -> None:
    table = filled(RED, link(2))
    assert table.tables == {MAIN, RED}
    table.apply(VRF)
    assert table.device_routes.is_doubtful, "the routes are to be read again"
    assert table.tables == {RED}


def test_a_link_with_thousands_of_addresses_is_composed_once_a_burst(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """16,000 addresses that come one by one were 16,000 links of up to 16,000 addresses."""
    table, composed = filled(MAIN, link(2)), list[int]()
    compose = LinkTable._compose

    def counted(self: LinkTable, ifindex: int) -> Interface | None:
        composed.append(ifindex)
        return compose(self, ifindex)

    monkeypatch.setattr(LinkTable, "_compose", counted)
    for number in range(16_000):
        table.record(address(2, f"10.77.{number >> 8}.{number & 255}/32"))
    (change,) = table.pop_changes()
    assert composed == [2]
    assert change.after is not None
    assert len(change.after.addresses) == 16_002


def test_an_address_that_went_and_came_back_within_a_burst_is_told_as_lost() -> None:
    """IPv4 routes may have gone with it."""
    table = filled(MAIN, link(2))
    for is_removed in (True, False):
        table.record(address(2, "10.2.0.1/24", is_removed=is_removed))
    (change,) = table.pop_changes()
    assert change.before == change.after
    assert change.has_lost_address
    assert table.pop_changes() == []


def test_a_link_that_goes_down_is_told_at_once_with_what_was_noted() -> None:
    table = filled(MAIN, link(2))
    table.record(address(2, "198.51.100.1/32"))
    change = table.apply(link(2, is_up=False))
    assert change is not None
    assert change.after is not None
    assert len(change.after.addresses) == 3
    assert table.pop_changes() == []
    table.apply(link(2))
    assert connected(table, 2) == ["10.9.9.2/32", "198.51.100.1/32"], "its subnet route is gone"
