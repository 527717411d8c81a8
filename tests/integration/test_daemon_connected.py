"""Connected routes and own addresses between real daemons: a subnet is announced only while it is
routed.
"""

from __future__ import annotations

import ipaddress

import pytest
import yaml

from rtnetlink import IFA_F_NODAD, IFA_F_NOPREFIXROUTE, SubnetRoute
from testbed import Lab
from tests.integration.conftest import LabBuilder
from waiting import wait_until

pytestmark = pytest.mark.root

DEADLINE_S = 60.0
SUBNETS = ["10.20.9.0/24", "2001:db8:20:9::/64"]
MARK = "10.20.8.0/24"


def configure(lab: Lab, router: str, text: str) -> None:
    """Add to a router's configuration."""
    lab.write_config_unless_there(router)
    config = yaml.safe_load(lab.read_config(router))
    added = yaml.safe_load(text)
    config["redistribute"] += added.pop("redistribute", [])
    lab.write_config(router, yaml.safe_dump({**config, **added}))


def add_address(lab: Lab, router: str, ifname: str, address: str, flags: int = 0) -> None:
    interface = ipaddress.ip_interface(address)
    lab.netlink(router).add_address(ifname, interface, flags=flags | IFA_F_NODAD)


def prefixes(lab: Lab, router: str) -> set[str]:
    return {route.prefix for route in lab.kernel_routes(router)}


def test_a_subnet_is_announced_only_while_the_kernel_routes_it(build_lab: LabBuilder) -> None:
    """`noprefixroute` alone announces nothing; with a prefix route of a network manager the subnet
    is announced.
    """
    lab = build_lab("line3")
    matched = ", ".join(f'"{prefix}"' for prefix in [*SUBNETS, MARK])
    configure(lab, "A", f"redistribute: [{{source: connected, match: [{matched}]}}]\n")
    for address in ("10.20.9.1/24", "2001:db8:20:9::1/64"):
        add_address(lab, "A", "eth-R", address, IFA_F_NOPREFIXROUTE)
    add_address(lab, "A", "eth-R", "10.20.8.1/24")
    lab.start_daemons(["A", "R"])
    wait_until(lambda: MARK in prefixes(lab, "R"), DEADLINE_S, "R has A's routed subnet")
    assert prefixes(lab, "R").isdisjoint(SUBNETS)
    assert lab.routectl("A", "show", "routes", SUBNETS[0]) == []

    routes = [SubnetRoute(prefix, priority=100) for prefix in SUBNETS]
    for route in routes:
        lab.netlink("A").add_subnet_route("eth-R", route)
    wait_until(lambda: prefixes(lab, "R") >= set(SUBNETS), DEADLINE_S, "a manager's route counts")
    for route in routes:
        lab.netlink("A").delete_subnet_route("eth-R", route)
    wait_until(lambda: prefixes(lab, "R").isdisjoint(SUBNETS), DEADLINE_S, "and when it goes")

    lab.netlink("A").delete_subnet_route("eth-R", SubnetRoute(MARK))
    wait_until(lambda: MARK not in prefixes(lab, "R"), DEADLINE_S, "the kernel's own, deleted")


def test_a_gateway_is_unresolved_while_it_is_our_own_address(build_lab: LabBuilder) -> None:
    """A virtual address that VRRP moves to this router and away again is such a gateway."""
    lab = build_lab("line3")
    add_address(lab, "A", "eth-R", "10.20.9.1/24")
    add_address(lab, "A", "eth-R", "2001:db8:20:9::1/64")
    virtual = {"10.20.9.9/24": "10.21.0.0/16", "2001:db8:20:9::9/64": "2001:db8:21::/48"}
    statics = "".join(
        f'  - {{prefix: "{prefix}", via: "{address.partition("/")[0]}"}}\n'
        for address, prefix in virtual.items()
    )
    ecmp = "  - {prefix: 10.22.0.0/16, next_hops: [{via: 10.20.9.9}, {via: 10.20.9.8}]}\n"
    configure(lab, "A", f"static:\n{statics}{ecmp}")
    for address in virtual:
        add_address(lab, "A", "eth-R", address)
    lab.start_daemons(["A"])

    wait_until(lambda: "10.22.0.0/16" in prefixes(lab, "A"), DEADLINE_S, "one of two is usable")
    assert prefixes(lab, "A").isdisjoint(virtual.values())
    for address, prefix in virtual.items():
        (row,) = lab.routectl("A", "show", "routes", prefix)
        assert not row["selected"]
        own = address.partition("/")[0]
        assert f"{own} is an address of this router itself, on eth-R" in str(row)
        (explained,) = lab.routectl("A", "explain", prefix.partition("/")[0])
        assert "this router itself" in str(explained)

    for address in virtual:
        lab.netlink("A").delete_address("eth-R", ipaddress.ip_interface(address))
    wait_until(
        lambda: prefixes(lab, "A") >= set(virtual.values()), DEADLINE_S, "usable when it has left"
    )
    for address in virtual:
        add_address(lab, "A", "eth-R", address)
    wait_until(
        lambda: prefixes(lab, "A").isdisjoint(virtual.values()), DEADLINE_S, "and when it is back"
    )
