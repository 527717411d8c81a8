"""Which interfaces are counted: names before patterns, and never more than there are counters."""

from __future__ import annotations

import random

from routed.dataplane.layout import LINKS_MAX
from routed.dataplane.plan import select_interfaces
from routed.model.link import Interface


def link(ifindex: int, ifname: str) -> Interface:
    return Interface(ifindex, ifname, True, True, 1500, ifname == "lo", True)


LINKS = [link(1, "lo"), link(2, "eth0"), link(3, "eth1"), link(4, "wan0"), link(5, "if:5")]


def names(*patterns: str) -> list[str]:
    return [found.ifname for found in select_interfaces(patterns, LINKS).links]


def test_names_and_patterns_choose() -> None:
    assert names() == []
    assert names("eth0") == ["eth0"]
    assert names("eth*") == ["eth0", "eth1"]
    assert names("wan*", "eth1") == ["eth1", "wan0"]
    assert names("*") == ["lo", "eth0", "eth1", "wan0"]  # one without a name matches nothing


def test_a_name_without_an_interface_is_reported_and_a_pattern_is_not() -> None:
    assert select_interfaces(("eth7", "ppp*"), LINKS).absent == ("eth7",)


def test_beyond_the_counters_the_lowest_indexes_are_chosen_in_whatever_order() -> None:
    links = [link(number, f"veth{number}") for number in range(1, LINKS_MAX + 11)]
    random.Random(1).shuffle(links)
    found = select_interfaces(("veth*", f"veth{LINKS_MAX + 10}"), links)
    assert [link.ifindex for link in found.links] == [LINKS_MAX + 10, *range(1, LINKS_MAX)]
    assert len(found.too_many) == 10
