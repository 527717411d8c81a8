"""Topologies as data: names, addresses, shortest paths, and the configurations that are derived
from them.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import kernel
import router_config
import topology
from convergence import fib_differences, path_gaps
from kernel import KernelNextHop, KernelRoute
from pinger import Echoes
from routed.config.interface_match import interface_for
from routed.config.load import load_text
from waiting import DeadlineExceededError, wait_until

_NAMES = sorted(path.stem for path in topology.DIRECTORY.glob("*.yaml"))


def test_the_documented_topologies_exist() -> None:
    assert {"line3", "triangle", "ring8", "grid16", "lan4"} <= set(_NAMES)


@pytest.mark.parametrize("name", _NAMES)
def test_every_topology_is_connected_and_its_addresses_are_unique(name: str) -> None:
    network = topology.load(name)
    assert all(network.first_hops().values())
    addresses = [
        address.ip
        for segment in network.segments
        for port in segment.ports
        for address in port.addresses
    ]
    addresses += [address.ip for node in network.nodes.values() for address in node.loopbacks]
    assert len(addresses) == len(set(addresses))


@pytest.mark.parametrize("name", _NAMES)
@pytest.mark.parametrize("is_rootless", [False, True])
def test_every_generated_configuration_is_accepted(name: str, is_rootless: bool) -> None:
    for node in topology.load(name).nodes.values():
        config = load_text(router_config.config_of(node, is_rootless=is_rootless))
        assert str(config.router_id) == node.router_id
        assert config.user.name == ("root" if is_rootless else "routed")
        assert interface_for(config.interfaces, "eth-A") is not None


def test_addresses_follow_from_the_order_in_the_file() -> None:
    network = topology.load("line3")
    left, right = network.segments[1].ports
    assert (left.node, left.ifname, right.node, right.ifname) == ("R", "eth-B", "B", "eth-R")
    assert [str(address) for address in right.addresses] == ["10.0.2.2/30", "2001:db8:2::2/64"]
    assert right.mac.hex(":") == "02:00:00:00:02:03"
    assert [str(address) for address in network.nodes["B"].loopbacks] == [
        "10.255.0.3/32",
        "2001:db8:ff::3/128",
    ]


def test_given_subnets_and_configuration_take_precedence() -> None:
    network = topology.compute(
        {
            "nodes": {"A": {"config": {"log": {"level": "debug"}, "static": []}}, "B": None},
            "links": [{"between": "A-B", "ipv4": "192.0.2.0/31", "ipv6": "2001:db8:99::/64"}],
        }
    )
    assert [str(address) for address in network.segments[0].ports[0].addresses] == [
        "192.0.2.1/31",
        "2001:db8:99::1/64",
    ]
    text = router_config.config_of(network.nodes["A"], is_rootless=True)
    assert "level: debug" in text
    assert "file: " in text  # merged, not replaced
    assert "static: []" in text


@pytest.mark.parametrize(
    ("document", "complaint"),
    [
        ([], "expected a mapping with at least `nodes`"),
        ({"nodes": {"A": {}}, "link": []}, r"unknown keys \['link'\]"),
        ({"nodes": {"A-B": {}}}, "'A-B' cannot name a node"),
        ({"nodes": {"A": {"cfg": 1}}}, r"node A: unknown keys \['cfg'\]"),
        ({"nodes": {"A": {}}, "links": ["A-A"]}, "expected two different nodes"),
        ({"nodes": {"A": {}}, "links": ["A-B"]}, "A-B: there is no node 'B'"),
        ({"nodes": {"A": {}, "B": {}}, "links": ["A-B", "B-A"]}, "has a link of this name"),
        (
            {"nodes": {"A": {}, "B": {}}, "links": [{"between": "A-B", "ipv4": "10.0.0.1/30"}]},
            "link A-B: 10.0.0.1/30 has host bits set",
        ),
        ({"nodes": {"A": {}}, "lans": {"A": ["A"]}}, "is a node's name, too"),
    ],
)
def test_a_wrong_topology_is_refused_by_name(document: object, complaint: str) -> None:
    with pytest.raises(topology.TopologyError, match=complaint):
        topology.compute(document)


def test_an_unknown_topology_lists_the_existing_ones() -> None:
    with pytest.raises(topology.TopologyError, match="there are grid16, lan4, line3"):
        topology.load("line4")


def test_a_topology_may_be_a_file_anywhere(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text("nodes: {A: {}, B: {}}\nlinks: [A-B]\n", encoding="ascii")
    assert list(topology.load(str(file)).nodes) == ["A", "B"]


def test_first_hops_use_the_shorter_direction_of_a_ring() -> None:
    hops = topology.load("ring8").first_hops()
    assert hops["r1", "r4"] == {"eth-r2"}
    assert hops["r1", "r5"] == {"eth-r2", "eth-r8"}
    assert hops["r1", "r6"] == {"eth-r8"}


COSTLY: dict[str, object] = {
    "nodes": {"A": None, "B": None, "C": None},
    "links": [{"between": "A-B", "cost": 100}, "B-C", "A-C"],
}


def test_the_cost_of_a_link_lengthens_the_paths_over_it() -> None:
    network = topology.compute(COSTLY)
    hops = network.first_hops()
    assert hops["A", "B"] == {"eth-C"}
    assert hops["B", "A"] == {"eth-C"}
    assert hops["A", "C"] == {"eth-C"}
    assert network.first_hops(frozenset({("A", "eth-C")}))["A", "B"] == {"eth-B"}
    config = load_text(router_config.config_of(network.nodes["A"], is_rootless=True))
    costs = [interface_for(config.interfaces, name) for name in ("eth-B", "eth-C")]
    assert [entry.cost for entry in costs if entry] == [100, topology.DEFAULT_COST]


def test_a_configured_cost_counts_in_its_direction() -> None:
    config = {"interfaces": {"eth-[BX]": {"cost": 21}}}
    links = ["A-B", "B-C", "A-C"]
    nodes = {"A": {"config": config}, "B": None, "C": None}
    hops = topology.compute({"nodes": nodes, "links": links}).first_hops()
    assert hops["A", "B"] == {"eth-B"}, "the pattern eth* goes before"
    config["interfaces"] = {"eth-B": {"cost": 20}}
    hops = topology.compute({"nodes": nodes, "links": links}).first_hops()
    assert hops["A", "B"] == {"eth-B", "eth-C"}
    assert hops["B", "A"] == {"eth-A"}


@pytest.mark.parametrize("cost", [0, 65536, "10", True, 1.5])
def test_a_wrong_cost_is_refused(cost: object) -> None:
    with pytest.raises(topology.TopologyError, match="cost of 1 to 65535"):
        topology.compute({"nodes": {"A": {}, "B": {}}, "links": [{"between": "A-B", "cost": cost}]})


def test_a_cut_port_ends_its_pair_in_both_directions() -> None:
    hops = topology.load("ring8").first_hops(frozenset({("r1", "eth-r2")}))
    assert hops["r1", "r2"] == {"eth-r8"}
    assert hops["r2", "r1"] == {"eth-r3"}


def test_a_cut_port_of_a_lan_ends_that_router_alone() -> None:
    hops = topology.load("lan4").first_hops(frozenset({("A", "eth-lan")}))
    assert hops["A", "B"] == frozenset()
    assert hops["B", "A"] == frozenset()
    assert hops["B", "C"] == {"eth-lan"}


def _route(prefix: str, dev: str, **changes: Any) -> KernelRoute:
    values: dict[str, Any] = {
        "prefix": prefix,
        "next_hops": (KernelNextHop("fe80::1", dev),),
        "type": "unicast",
        "protocol": 205,
        "priority": 205,
        "table": 254,
    }
    return KernelRoute(**(values | changes))


def test_path_gaps_distinguish_detours_and_routes_to_nowhere() -> None:
    network = topology.compute({"nodes": {"A": {}, "B": {}, "C": {}}, "links": ["A-B", "B-C"]})
    cut = network.first_hops(frozenset({("B", "eth-C")}))
    routes = {
        "A": [
            _route("10.255.0.2/32", "eth-B"),
            _route("2001:db8:ff::2/128", "eth-X"),
            _route("10.255.0.3/32", "eth-B"),
        ],
        "B": [_route("10.255.0.1/32", "eth-A"), _route("2001:db8:ff::1/128", "eth-A")],
        "C": [],
    }
    assert path_gaps(network, cut, routes) == [
        "A: 2001:db8:ff::2 (B): goes by eth-X, the shortest path by eth-B",
        "A: 10.255.0.3 (C): a route, although it is out of reach",
    ]


def test_fib_differences_compare_route_by_route() -> None:
    hop = {"via": "fe80::1", "dev": "eth-B", "weight": 1}
    row = {"table": 254, "type": "unicast", "next_hops": [hop], "state": "installed"}
    rows = [
        {**row, "prefix": "10.0.0.0/8"},
        {**row, "prefix": "10.1.0.0/16"},
        {**row, "prefix": "10.2.0.0/16", "state": "failed"},
        {**row, "prefix": "10.3.0.0/16"},
    ]
    routes = [
        _route("10.0.0.0/8", "eth-B"),
        _route("10.3.0.0/16", "eth-B", type="blackhole", next_hops=()),
        _route("10.4.0.0/16", "eth-B"),
    ]
    assert fib_differences(rows, routes) == [
        "10.1.0.0/16 table 254: not in the kernel",
        "10.2.0.0/16 table 254: show fib says failed",
        "10.3.0.0/16 table 254: show fib says unicast, the kernel has blackhole",
        "10.4.0.0/16 table 254: in the kernel, not in show fib",
    ]


@pytest.mark.parametrize(
    ("route", "text"),
    [
        (_route("0.0.0.0/0", "e0"), "default via inet6 fe80::1 dev e0 proto 205 metric 205"),
        (_route("2001:db8::/32", "e0"), "2001:db8::/32 via fe80::1 dev e0 proto 205 metric 205"),
        (
            _route("10.0.0.1/32", "e0", type="blackhole", next_hops=()),
            "blackhole 10.0.0.1 proto 205 metric 205",
        ),
        (
            _route(
                "10.0.0.0/8",
                "e0",
                next_hops=(KernelNextHop("192.0.2.1", "e0", 1), KernelNextHop(None, "e1", 2)),
            ),
            "10.0.0.0/8 proto 205 metric 205 "
            "\n\tnexthop via 192.0.2.1 dev e0 weight 1 \n\tnexthop dev e1 weight 2",
        ),
    ],
)
def test_routes_are_written_as_ip_route_writes_them(route: KernelRoute, text: str) -> None:
    assert kernel.as_ip_route(route) == text


def test_the_longest_outage_is_the_longest_run_of_lost_pings() -> None:
    echoes = Echoes(sent_at=[0.0, 0.1, 0.2, 0.3, 0.4, 0.5], answered={0, 2, 5})
    report = echoes.report(interval_s=0.1)
    assert (report.sent, report.received, report.lost) == (6, 3, 3)
    assert report.longest_outage_s == pytest.approx(0.2)


def test_wait_until_names_the_missing_state() -> None:
    with pytest.raises(DeadlineExceededError, match="after 0 s still not: rain\nsun"):
        wait_until(lambda: False, 0, "rain", explain=lambda: "sun")
    assert wait_until(lambda: "rain", 0, "rain") == "rain"
