"""Next hops that a tracker keeps from being used."""

from __future__ import annotations

import pytest

from routed.model.link import Interface, InterfaceAddress
from routed.model.prefix import Address, Prefix
from routed.model.route import Gateway, NextHop, Route, RouteSource, bfd_tracker
from routed.rib.table import Rib

ETH0 = Interface(
    2, "eth0", True, True, 1500, False, True, (InterfaceAddress(Address.parse("192.0.2.1"), 24),)
)
FIRST, SECOND = Address.parse("192.0.2.2"), Address.parse("192.0.2.3")
PREFIX = Prefix.parse("10.0.0.0/8")
TRACKER = bfd_tracker("one")


@pytest.fixture
def rib() -> Rib:
    rib = Rib(lambda: 0.0)
    rib.link_changed(ETH0)
    rib.process()
    return rib


def install(rib: Rib, *gateways: Gateway, prefix: Prefix = PREFIX, metric: int = 0) -> None:
    owner = str(metric)
    rib.install(Route(prefix, RouteSource.STATIC, 1, metric, gateways=gateways, owner=owner))
    rib.process()


def hops(rib: Rib, prefix: Prefix = PREFIX) -> list[Address | None]:
    best = rib.best(prefix)
    return [] if best is None else [hop.via for hop in best.next_hops]


TRACKED = Gateway(FIRST, tracker=TRACKER)


def test_a_next_hop_leaves_and_joins_its_group(rib: Rib) -> None:
    rib.set_trackers({TRACKER: ""})
    install(rib, TRACKED, Gateway(SECOND))
    assert hops(rib) == [FIRST, SECOND]
    rib.set_trackers({TRACKER: "it is down"})
    (changes,) = rib.process()
    assert [best and best.next_hops for _, best in changes.items()] == [(NextHop(SECOND, 2),)]
    (candidate,) = rib.candidates(PREFIX)
    assert candidate.problem == "192.0.2.2 is not used: bfd one: it is down"
    rib.set_trackers({TRACKER: ""})
    rib.process()
    assert hops(rib) == [FIRST, SECOND]


def test_a_route_without_another_next_hop_gives_way_to_a_worse_one(rib: Rib) -> None:
    rib.set_trackers({TRACKER: ""})
    install(rib, TRACKED)
    install(rib, Gateway(SECOND), metric=10)
    assert hops(rib) == [FIRST]
    rib.set_trackers({TRACKER: "it is down"})
    rib.process()
    assert hops(rib) == [SECOND]


def test_a_tracker_that_is_not_known_is_not_used(rib: Rib) -> None:
    install(rib, TRACKED)
    assert hops(rib) == []
    (candidate,) = rib.candidates(PREFIX)
    assert "its state is not known yet" in candidate.problem


def test_the_same_address_without_a_tracker_is_used(rib: Rib) -> None:
    other = Prefix.parse("11.0.0.0/8")
    rib.set_trackers({TRACKER: "it is down"})
    install(rib, TRACKED)
    install(rib, Gateway(FIRST), prefix=other)
    assert hops(rib) == []
    assert hops(rib, other) == [FIRST]


def test_a_recursive_route_follows_the_route_that_it_rests_on(rib: Rib) -> None:
    behind = Prefix.parse("172.16.0.0/12")
    rib.set_trackers({TRACKER: ""})
    install(rib, TRACKED)
    install(rib, Gateway(Address.parse("10.1.1.1")), prefix=behind)
    assert hops(rib, behind) == [FIRST]
    rib.set_trackers({TRACKER: "it is down"})
    rib.process()
    assert hops(rib, behind) == []


def test_only_what_names_a_changed_tracker_is_resolved_again(rib: Rib) -> None:
    other = bfd_tracker("two")
    rib.set_trackers({TRACKER: "", other: ""})
    install(rib, TRACKED)
    install(rib, Gateway(SECOND, tracker=other), prefix=Prefix.parse("11.0.0.0/8"))
    rib.set_trackers({TRACKER: "", other: "it is down"})
    (changes,) = rib.process()
    assert [str(prefix) for prefix, _ in changes.items()] == ["11.0.0.0/8"]
