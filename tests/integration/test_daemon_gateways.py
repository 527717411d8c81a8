"""What gateways stand on, end to end: routes of ours, several links, addresses that are our own."""

from __future__ import annotations

import ipaddress

import pytest

import router_config
from testbed import Lab
from tests.integration.conftest import LabBuilder
from waiting import wait_until

pytestmark = pytest.mark.root

DEADLINE_S = 30.0


@pytest.fixture
def lab(build_lab: LabBuilder) -> Lab:
    lab = build_lab("line3")
    lab.write_config_unless_there("R")
    return lab


@pytest.fixture(params=["auto", "off"])
def objects(request: pytest.FixtureRequest) -> str:
    """With nexthop objects and without."""
    return str(request.param)


def start(lab: Lab, static: str, objects: str) -> str:
    """Start R with static routes; what the start says."""
    config = lab.read_config("R")
    assert "fib:" not in config
    text = f"fib: {{nexthop_objects: {objects}}}\nstatic:\n{static}"
    lab.write_config("R", config + text)
    done = lab.run("R", ["routed", "-c", router_config.config_path("R")])
    assert done.returncode == 0, done.stderr
    return done.stderr.strip()


def events(lab: Lab, name: str) -> list[str]:
    return [str(row["text"]) for row in lab.routectl("R", "show", "log") if row["event"] == name]


def states(lab: Lab) -> dict[str, str]:
    return {str(row["prefix"]): str(row["state"]) for row in lab.routectl("R", "show", "fib")}


STANDING = """
  - {prefix: 0.0.0.0/0, via: 172.31.1.1}
  - {prefix: 172.31.1.1/32, dev: eth-A}
  - {prefix: "2000::/3", via: "2001:db8:77::1"}
  - {prefix: "2001:db8:77::1/128", dev: eth-A}
"""


def test_a_default_through_a_gateway_that_stands_on_a_route_of_ours(lab: Lab, objects: str) -> None:
    """As Hetzner and GCE have it: the gateway is in no subnet of the link."""
    assert start(lab, STANDING, objects) == ""
    assert set(states(lab).values()) == {"installed"}
    wanted = {"0.0.0.0/0", "172.31.1.1/32", "2000::/3", "2001:db8:77::1/128"}
    assert {route.prefix for route in lab.kernel_routes("R")} == wanted
    assert events(lab, "fib-route-failed") == [], "nothing is tried before what it stands on"
    netlink = lab.netlink("R")
    for _ in range(3):
        netlink.set_up("eth-A", is_up=False)
        wait_until(lambda: not lab.kernel_routes("R"), DEADLINE_S, "they go with the link")
        netlink.set_up("eth-A", is_up=True)
        wait_until(
            lambda: {route.prefix for route in lab.kernel_routes("R")} == wanted,
            DEADLINE_S,
            "they are back",
        )


def test_an_ipv6_route_over_several_links_alone(lab: Lab) -> None:
    static = """
  - {prefix: "2001:db8:77::1/128", next_hops: [{dev: eth-A}, {dev: eth-B}]}
  - {prefix: "2001:db8:5::/48", via: "2001:db8:77::1"}
  - {prefix: 10.77.0.1/32, next_hops: [{dev: eth-A}, {dev: eth-B}]}
"""
    assert start(lab, static, "auto") == ""
    shown = states(lab)
    assert len(shown) == 3
    assert set(shown.values()) == {"installed"}


def test_a_gateway_that_is_our_own_address_is_used_once_it_has_left(lab: Lab) -> None:
    """A VRRP address that is here at the start and leaves."""
    subnet = lab_subnet(lab)
    virtual = ipaddress.ip_interface(f"{subnet.network_address + 200}/{subnet.prefixlen}")
    netlink = lab.netlink("R")
    netlink.add_address("eth-A", virtual)
    start(lab, f"  - {{prefix: 203.0.113.0/24, via: {virtual.ip}}}\n", "auto")
    assert states(lab).get("203.0.113.0/24") != "installed"
    netlink.delete_address("eth-A", virtual)
    wait_until(
        lambda: states(lab).get("203.0.113.0/24") == "installed", DEADLINE_S, "it is installed"
    )
    (route,) = [route for route in lab.kernel_routes("R") if route.prefix == "203.0.113.0/24"]
    assert [str(hop.via) for hop in route.next_hops] == [str(virtual.ip)]


def lab_subnet(lab: Lab) -> ipaddress.IPv4Network:
    """A subnet to put on eth-A, large enough for one more address."""
    subnet = ipaddress.IPv4Network("198.18.7.0/24")
    lab.netlink("R").add_address("eth-A", ipaddress.ip_interface("198.18.7.1/24"))
    return subnet
