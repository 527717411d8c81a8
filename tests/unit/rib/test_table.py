"""The RIB: candidates, links, recursive next hops, and exactly the changes that happened."""

from __future__ import annotations

import dataclasses

import pytest

from routed.model.link import Interface, InterfaceAddress
from routed.model.prefix import Address, Prefix
from routed.model.route import Gateway, NextHop, Route, RouteSource, RouteType
from routed.rib.table import Rib


def link(ifindex: int, ifname: str, *addresses: str, **changes: bool) -> Interface:
    entries = []
    for text in addresses:
        address, _, length = text.partition("/")
        entries.append(InterfaceAddress(Address.parse(address), int(length)))
    plain = Interface(ifindex, ifname, True, True, 1500, False, True, tuple(entries))
    return dataclasses.replace(plain, **changes)  # type: ignore[arg-type]


ETH0 = link(2, "eth0", "192.0.2.1/24", "2001:db8:1::1/64", "fe80::1/64")
ETH1 = link(3, "eth1", "198.51.100.1/24", "fe80::1/64")


def gateway(text: str) -> Gateway:
    """Parse `192.0.2.2`, `fe80::2%eth0`, `%eth0`, with `*3` for a weight."""
    text, _, weight = text.partition("*")
    via, _, dev = text.partition("%")
    return Gateway(Address.parse(via) if via else None, dev or None, int(weight or 1))


def static(prefix: str, *gateways: str, metric: int = 0, distance: int = 1) -> Route:
    return Route(
        Prefix.parse(prefix), RouteSource.STATIC, distance, metric,
        gateways=tuple(map(gateway, gateways)), owner=f"{distance}/{metric}",
    )  # fmt: skip


def hop(via: str | None, ifindex: int, weight: int = 1) -> NextHop:
    return NextHop(Address.parse(via) if via else None, ifindex, weight)


@pytest.fixture
def rib() -> Rib:
    rib = Rib(lambda: 0.0)
    for each in (ETH0, ETH1):
        rib.link_changed(each)
    rib.process()
    return rib


def install_and_process(rib: Rib, *routes: Route) -> dict[str, tuple[NextHop, ...] | None]:
    """Install routes. Returns the changed prefixes and their next hops."""
    for route in routes:
        rib.install(route)
    return {
        str(prefix): best_path.next_hops if best_path else None
        for changes in rib.process()
        for prefix, best_path in changes.items()
    }


def problem(rib: Rib, prefix: str) -> str:
    (candidate,) = rib.candidates(Prefix.parse(prefix))
    return candidate.problem


def test_links_that_are_up_make_connected_routes() -> None:
    rib = Rib(lambda: 0.0)
    rib.link_changed(ETH0)
    assert install_and_process(rib) == {
        "192.0.2.0/24": (hop(None, 2),),
        "2001:db8:1::/64": (hop(None, 2),),
    }
    rib.link_changed(dataclasses.replace(ETH0, has_carrier=False))
    assert install_and_process(rib) == {"192.0.2.0/24": None, "2001:db8:1::/64": None}
    rib.link_changed(ETH0)
    install_and_process(rib)
    rib.link_removed(2)
    assert install_and_process(rib) == {"192.0.2.0/24": None, "2001:db8:1::/64": None}
    assert len(rib) == 0


@pytest.mark.parametrize(
    ("prefix", "gateways", "expected"),
    [
        ("10.0.0.0/8", ["192.0.2.2"], [hop("192.0.2.2", 2)]),
        ("10.0.0.0/8", ["192.0.2.2%eth0"], [hop("192.0.2.2", 2)]),
        ("10.0.0.0/8", ["%eth1"], [hop(None, 3)]),
        ("10.0.0.0/8", ["fe80::2%eth1"], [hop("fe80::2", 3)]),
        ("10.0.0.0/8", ["2001:db8:1::2"], [hop("2001:db8:1::2", 2)]),
        ("2001:db8::/32", ["fe80::2%eth0"], [hop("fe80::2", 2)]),
        (
            "10.0.0.0/8",
            ["192.0.2.2*3", "198.51.100.2"],
            [hop("192.0.2.2", 2, 3), hop("198.51.100.2", 3, 1)],
        ),
        ("10.0.0.0/8", ["203.0.113.9", "198.51.100.2"], [hop("198.51.100.2", 3)]),
    ],
)
def test_gateways_resolve(
    rib: Rib, prefix: str, gateways: list[str], expected: list[NextHop]
) -> None:
    assert install_and_process(rib, static(prefix, *gateways)) == {prefix: tuple(expected)}


@pytest.mark.parametrize(
    ("gateways", "why"),
    [
        (["203.0.113.9"], "203.0.113.9 is not reachable: no route that routed knows covers it"),
        (["%eth7"], "link eth7 does not exist"),
        (["192.0.2.2%eth1"], "192.0.2.2 is on no subnet of eth1"),
        (["10.9.9.9"], "10.9.9.9 is not reachable: 10.0.0.0/8 would resolve through itself"),
    ],
)
def test_what_cannot_be_resolved_says_why(rib: Rib, gateways: list[str], why: str) -> None:
    assert install_and_process(rib, static("10.0.0.0/8", *gateways)) == {}
    assert problem(rib, "10.0.0.0/8").startswith(why)
    assert rib.best(Prefix.parse("10.0.0.0/8")) is None


def test_a_default_route_resolves_no_gateway(rib: Rib) -> None:
    install_and_process(rib, static("0.0.0.0/0", "192.0.2.2"))
    assert install_and_process(rib, static("10.0.0.0/8", "203.0.113.9")) == {}
    assert "only the default route covers it, of those that routed knows" in problem(
        rib, "10.0.0.0/8"
    )


def test_a_link_that_goes_down_takes_its_routes_and_brings_them_back(rib: Rib) -> None:
    install_and_process(rib, static("10.0.0.0/8", "192.0.2.2"), static("10.1.0.0/16", "%eth0"))
    rib.link_changed(dataclasses.replace(ETH0, is_admin_up=False, has_carrier=False))
    changes = install_and_process(rib)
    assert changes["10.0.0.0/8"] is None
    assert changes["10.1.0.0/16"] is None
    assert problem(rib, "10.1.0.0/16") == "link eth0 is down"
    rib.link_changed(ETH0)
    changes = install_and_process(rib)
    assert changes["10.0.0.0/8"] == (hop("192.0.2.2", 2),)
    assert changes["10.1.0.0/16"] == (hop(None, 2),)


def test_a_link_made_anew_under_the_same_name_is_followed_by_name(rib: Rib) -> None:
    install_and_process(rib, static("10.0.0.0/8", "%eth0"))
    rib.link_removed(2)
    assert install_and_process(rib)["10.0.0.0/8"] is None
    rib.link_changed(dataclasses.replace(ETH0, ifindex=9))
    assert install_and_process(rib)["10.0.0.0/8"] == (hop(None, 9),)


def test_a_renamed_link_is_no_longer_the_one_that_a_route_named(rib: Rib) -> None:
    install_and_process(rib, static("10.0.0.0/8", "%eth0"))
    rib.link_changed(dataclasses.replace(ETH0, ifname="lan0"))
    assert install_and_process(rib)["10.0.0.0/8"] is None


def test_a_floating_route_takes_over_and_hands_back(rib: Rib) -> None:
    install_and_process(
        rib, static("10.0.0.0/8", "192.0.2.2"), static("10.0.0.0/8", "198.51.100.2", distance=200)
    )
    rib.link_changed(dataclasses.replace(ETH0, has_carrier=False))
    assert install_and_process(rib)["10.0.0.0/8"] == (hop("198.51.100.2", 3),)
    rib.link_changed(ETH0)
    assert install_and_process(rib)["10.0.0.0/8"] == (hop("192.0.2.2", 2),)


def test_recursion_takes_over_next_hops_and_follows_them(rib: Rib) -> None:
    install_and_process(
        rib,
        static("203.0.113.0/24", "192.0.2.2*2", "198.51.100.2"),
        static("10.0.0.0/8", "203.0.113.1"),
        static("172.16.0.0/12", "10.1.1.1"),
    )
    both = (hop("192.0.2.2", 2, 2), hop("198.51.100.2", 3, 1))
    assert rib.best(Prefix.parse("172.16.0.0/12")) is not None
    changes = install_and_process(rib, static("203.0.113.0/24", "192.0.2.3"))
    assert changes["172.16.0.0/12"] == (hop("192.0.2.3", 2),)
    changes = install_and_process(rib, static("203.0.113.0/24", "192.0.2.2*2", "198.51.100.2"))
    assert changes["10.0.0.0/8"] == both
    rib.withdraw(Prefix.parse("203.0.113.0/24"), RouteSource.STATIC, "1/0")
    changes = install_and_process(rib)
    assert changes == {"203.0.113.0/24": None, "10.0.0.0/8": None, "172.16.0.0/12": None}


def test_a_more_specific_route_moves_the_routes_that_resolve_through_it(rib: Rib) -> None:
    install_and_process(
        rib, static("203.0.113.0/24", "192.0.2.2"), static("10.0.0.0/8", "203.0.113.1")
    )
    changes = install_and_process(rib, static("203.0.113.1/32", "198.51.100.2"))
    assert changes["10.0.0.0/8"] == (hop("198.51.100.2", 3),)


def test_routes_that_rest_on_one_another_are_not_used(rib: Rib) -> None:
    for _ in range(2):  # in either order of arrival
        install_and_process(
            rib, static("10.0.0.0/8", "172.16.0.1"), static("172.16.0.0/12", "10.0.0.1")
        )
        assert rib.best(Prefix.parse("10.0.0.0/8")) is None
        assert rib.best(Prefix.parse("172.16.0.0/12")) is None
        # The circle opens as soon as one of them has firm ground.
        changes = install_and_process(rib, static("172.16.0.0/12", "192.0.2.2"))
        assert changes["10.0.0.0/8"] == (hop("192.0.2.2", 2),)
        install_and_process(rib, static("172.16.0.0/12", "10.0.0.1"))
        assert rib.best(Prefix.parse("10.0.0.0/8")) is None


def test_a_circle_with_a_way_out_comes_to_rest(rib: Rib) -> None:
    """Each resolves by a shorter route until the other appears: that must end without a loop."""
    install_and_process(rib, static("0.0.0.0/1", "192.0.2.2"), static("128.0.0.0/1", "192.0.2.2"))
    install_and_process(
        rib, static("10.0.0.0/8", "172.16.0.1"), static("172.16.0.0/12", "10.0.0.1")
    )
    assert rib.process() == []
    for prefix in ("10.0.0.0/8", "172.16.0.0/12"):
        best_path = rib.best(Prefix.parse(prefix))
        assert best_path is None or best_path.next_hops == (hop("192.0.2.2", 2),)


def test_a_gateway_behind_a_blackhole_is_not_reachable(rib: Rib) -> None:
    blackhole = Route(
        Prefix.parse("203.0.113.0/24"), RouteSource.STATIC, 1, type=RouteType.BLACKHOLE
    )
    install_and_process(rib, blackhole)
    assert install_and_process(rib, static("10.0.0.0/8", "203.0.113.1")) == {}
    assert "203.0.113.0/24 is blackhole" in problem(rib, "10.0.0.0/8")


def test_a_gateway_reached_by_an_on_link_route_is_a_neighbor(rib: Rib) -> None:
    assert install_and_process(rib, static("0.0.0.0/0", "203.0.113.1%eth0")) == {}
    changes = install_and_process(rib, static("203.0.113.1/32", "%eth0"))
    assert changes["0.0.0.0/0"] == (hop("203.0.113.1", 2),)


def test_what_ends_up_as_it_was_is_not_reported(rib: Rib) -> None:
    install_and_process(rib, static("10.0.0.0/8", "192.0.2.2"))
    rib.withdraw(Prefix.parse("10.0.0.0/8"), RouteSource.STATIC, "1/0")
    rib.install(static("10.0.0.0/8", "192.0.2.2"))
    assert rib.process() == []


def test_candidates_come_in_order_with_their_reasons(rib: Rib) -> None:
    install_and_process(
        rib,
        static("10.0.0.0/8", "192.0.2.2", metric=5),
        static("10.0.0.0/8", "203.0.113.9"),
        static("10.0.0.0/8", "192.0.2.3", distance=255),
        static("10.0.0.0/8", "192.0.2.4", metric=9),
    )
    found = rib.candidates(Prefix.parse("10.0.0.0/8"))
    assert [candidate.is_selected for candidate in found] == [True, False, False, False]
    assert [candidate.route.owner for candidate in found] == ["1/5", "1/9", "1/0", "255/0"]
    assert "no route that routed knows covers it" in found[2].problem
    assert "255" in found[3].problem


def test_a_walk_over_all_choices_answers_as_each_prefix_does(rib: Rib) -> None:
    install_and_process(
        rib,
        static("10.0.0.0/8", "192.0.2.2", metric=5),
        static("10.0.0.0/8", "192.0.2.3"),
        static("10.1.0.0/16", "203.0.113.9"),
        *[static(f"11.{number // 250}.{number % 250}.0/24", "192.0.2.2") for number in range(1500)],
        static("2001:db8::/32", "192.0.2.3"),
    )
    rib.withdraw(Prefix.parse("11.0.7.0/24"), RouteSource.STATIC, "1/0")
    rib.install(static("11.0.8.0/24", "192.0.2.3"))
    walked = {prefix: found for part in rib.choices() for prefix, found in part.items()}
    assert len(walked) > 1500
    assert walked[Prefix.parse("10.1.0.0/16")] is None, "no candidate of it can be used"
    assert walked[Prefix.parse("11.0.8.0/24")] is not None
    assert walked == {prefix: rib.best(prefix) for prefix in rib.prefixes_after(None, 10_000)}


def test_listing_survives_changes_between_chunks(rib: Rib) -> None:
    install_and_process(rib, *[static(f"10.{number}.0.0/16", "192.0.2.2") for number in range(50)])
    seen = rib.prefixes_after(None, 20)
    rib.withdraw(Prefix.parse("10.45.0.0/16"), RouteSource.STATIC, "1/0")
    install_and_process(rib, static("10.44.1.0/24", "192.0.2.2"), static("9.0.0.0/8", "192.0.2.2"))
    while chunk := rib.prefixes_after(seen[-1], 7):
        seen += chunk
    assert seen == sorted(seen)
    texts = set(map(str, seen))
    assert "10.44.1.0/24" in texts
    assert "10.45.0.0/16" not in texts
    assert len(seen) == len(texts) == 53


@pytest.mark.parametrize("prefix", ["192.0.2.0/24", "2001:db8:1::/64"])
def test_a_neighbors_route_to_a_connected_prefix_is_used_only_without_the_link(
    rib: Rib, prefix: str
) -> None:
    """Whatever distance an import rule gives it; another router's link is the way round."""
    via = "fe80::9"
    learned = Route(
        Prefix.parse(prefix), RouteSource.NEIGHBOR, 1, 0, next_hops=(hop(via, 3),), owner="nup"
    )
    assert install_and_process(rib, learned) == {}
    rib.link_changed(dataclasses.replace(ETH0, has_carrier=False))
    assert install_and_process(rib)[prefix] == (hop(via, 3),)
    rib.link_changed(ETH0)
    assert install_and_process(rib)[prefix] == (hop(None, 2),)
