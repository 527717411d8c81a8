"""Networks of real daemons find shortest paths, around a cut link, and back."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

import topology
from testbed import Lab
from tests.integration.conftest import LabBuilder
from waiting import wait_until

pytestmark = pytest.mark.root

DEADLINE_S = 60.0


def test_ring8_reaches_all_routers_and_avoids_a_cut_link(build_lab: LabBuilder) -> None:
    lab = build_lab("ring8")
    lab.start_daemons()
    lab.wait_converged(DEADLINE_S)
    routers = list(lab.topology.nodes)
    for destination in routers[1:]:
        for version in (4, 6):
            assert lab.ping(routers[0], destination, 1, version).lost == 0
    across = lab.topology.ports_of(routers[0])[0]
    segment = next(segment for segment in lab.topology.segments if across in segment.ports)
    link = "-".join(port.node for port in segment.ports)
    other = next(port.node for port in segment.ports if port.node != routers[0])
    lab.cut(link)
    lab.wait_converged(DEADLINE_S)
    for version in (4, 6):
        assert lab.ping(routers[0], other, 2, version).lost == 0
    lab.mend(link)
    lab.wait_converged(DEADLINE_S)


@pytest.mark.parametrize("topology", ["triangle", "lan4", "grid16"])
def test_a_network_converges_on_shortest_paths(build_lab: LabBuilder, topology: str) -> None:
    lab = build_lab(topology)
    lab.start_daemons()
    lab.wait_converged(DEADLINE_S)
    first, *_, last = lab.topology.nodes
    for version in (4, 6):
        assert lab.ping(first, last, 2, version).lost == 0


def test_neighbors_named_by_address_need_no_multicast(build_lab: LabBuilder) -> None:
    lab = build_lab("line3")
    named = {
        "A": {"eth-R": "10.0.1.2"},
        "R": {"eth-A": "10.0.1.1", "eth-B": "10.0.2.2"},
        "B": {"eth-R": "10.0.2.1"},
    }
    for router, neighbors in named.items():
        lab.write_config_unless_there(router)
        config = yaml.safe_load(lab.read_config(router))
        config["interfaces"] = {
            ifname: {"hello": "300ms", "neighbors": [address]}
            for ifname, address in neighbors.items()
        }
        lab.write_config(router, yaml.safe_dump(config))
    lab.start_daemons()
    wait_until(
        lambda: lab.ping("A", "B", 1).lost == 0, DEADLINE_S, "A and B reach each other by IPv4"
    )
    addresses = {row["address"] for row in lab.routectl("R", "show", "neighbors")}
    assert addresses == {"10.0.1.1", "10.0.2.2"}


def test_a_costly_link_is_used_only_without_another_way(build_lab: LabBuilder) -> None:
    lab = build_lab(
        topology.compute(
            {
                "nodes": {"A": None, "B": None, "C": None},
                "links": [{"between": "A-B", "cost": 100}, "B-C", "A-C"],
            }
        )
    )
    lab.start_daemons()
    lab.wait_converged(DEADLINE_S)
    prefix = str(lab.node("B").loopbacks[0].network)
    assert [hop["dev"] for hop in selected(lab, prefix)["next_hops"]] == ["eth-C"]
    assert selected(lab, prefix)["metric"] == 20
    lab.cut("B-C")
    lab.wait_converged(DEADLINE_S)
    assert [hop["dev"] for hop in selected(lab, prefix)["next_hops"]] == ["eth-B"]
    assert selected(lab, prefix)["metric"] == 100


def selected(lab: Lab, prefix: str) -> dict[str, Any]:
    """The selected route of A to a prefix."""
    (row,) = lab.routectl("A", "show", "routes", prefix, "selected")
    return row
