"""Real daemons in unusual networks: two links to one LAN, and a neighbor that advertises
martians.
"""

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
DATAGRAMS = 40
"""Most of them are heartbeats: each neighbor sends one in 0.3 to 0.6 s."""


def counters(lab: Lab, router: str) -> dict[str, int]:
    return {row["name"]: row["value"] for row in lab.routectl(router, "show", "counters")}


def up_links(lab: Lab, router: str) -> list[tuple[str, str]]:
    return sorted(
        (row["router_id"], row["interface"])
        for row in lab.routectl(router, "show", "neighbors")
        if row["state"] == "up"
    )


TWO_LINKS_TO_ONE_LAN: dict[str, Any] = {
    "description": "S joins two links of A and one of B in a bridge, and runs no daemon",
    "nodes": {"A": {}, "S": {}, "B": {}},
    "links": ["A-S", "S-B"],
    "lans": {"second": ["A", "S"]},
}


def test_two_links_to_one_lan_are_two_adjacencies_that_stay_up(build_lab: LabBuilder) -> None:
    """The router's own heartbeats return on the other link, and its neighbor receives two
    of each.
    """
    lab = build_lab(topology.compute(TWO_LINKS_TO_ONE_LAN))
    switch = lab.netlink("S")
    switch.add_bridge("joined")
    for ifname in ("eth-A", "eth-B", "eth-second"):
        switch.set_master(ifname, "joined")
    switch.set_up("joined", is_up=True)
    lab.start_daemons(["A", "B"])
    a, b = lab.node("A").router_id, lab.node("B").router_id
    both = {"A": [(b, "eth-S"), (b, "eth-second")], "B": [(a, "eth-S"), (a, "eth-S")]}
    wait_until(
        lambda: {router: up_links(lab, router) for router in both} == both,
        DEADLINE_S,
        "both adjacencies are up on both sides",
    )
    for router in both:
        before = counters(lab, router)["nup_received"]
        wait_until(
            lambda router=router, before=before: (  # type: ignore[misc]
                counters(lab, router)["nup_received"] >= before + DATAGRAMS
            ),
            DEADLINE_S,
            "many heartbeats have come",
        )
    for router, other in (("A", "B"), ("B", "A")):
        assert up_links(lab, router) == both[router]
        assert lab.log(router).count("adjacency-up") == 2
        assert "adjacency-down" not in lab.log(router)
        wanted = {str(loopback) for loopback in lab.node(other).loopbacks}
        assert wanted <= {route.prefix for route in lab.kernel_routes(router)}
    assert lab.ping("A", "B", 2, 6).lost == 0


MARTIANS = ("169.254.7.0/24", "224.0.7.0/24", "127.0.7.0/24", "fe80:7::/32", "ff0e:7::/32")


def test_martians_of_a_neighbor_do_not_reach_the_kernel_and_it_is_named(
    build_lab: LabBuilder,
) -> None:
    """Prefixes that the neighbor's own filter lets pass are not learned here; the others are."""
    lab = build_lab("line3")
    lab.write_config_unless_there("A")
    config = yaml.safe_load(lab.read_config("A"))
    config["allow_martians"] = list(MARTIANS)
    config["static"] = [
        {"prefix": prefix, "type": "blackhole"} for prefix in (*MARTIANS, "10.77.0.0/16")
    ]
    config["redistribute"].append({"source": "static"})
    lab.write_config("A", yaml.safe_dump(config))
    lab.start_daemons()

    def learned(router: str) -> set[str]:
        return {route.prefix for route in lab.kernel_routes(router)}

    wait_until(
        lambda: "10.77.0.0/16" in learned("B"), DEADLINE_S, "what is no martian is passed on"
    )

    def problem() -> str:
        rows = lab.routectl("R", "show", "neighbors")
        return next(
            (row["problem"] or "" for row in rows if row["router_id"] == lab.node("A").router_id),
            "",
        )

    wanted = f"martians are refused: {len(MARTIANS)}, such as "
    wait_until(lambda: wanted in problem(), DEADLINE_S, "the neighbor is named with its martians")
    assert counters(lab, "R")["nup_ignored_martian"] >= len(MARTIANS)
    assert counters(lab, "R")["nup_martian_refused"] == 1
    assert counters(lab, "B")["nup_ignored_martian"] == 0, "R passes none of them on"
    for router in ("R", "B"):
        assert not learned(router) & set(MARTIANS)
    rows = lab.routectl("R", "show", "routes")
    assert not {row["prefix"] for row in rows} & set(MARTIANS)
