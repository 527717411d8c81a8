"""Resolution of gateways end to end: through routes of ours, over several links, and by addresses
of this router.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence

import pytest

import kernel
import router_config
from kernel import KernelRoute
from routed.fib.nexthops.codec import Hop, decode_nexthop
from routed.netlink.message import NetlinkMessage
from testbed import Lab
from tests.integration.conftest import LabBuilder
from waiting import wait_until

pytestmark = pytest.mark.root

DEADLINE_S = 60.0


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
    """Start R with static routes. Returns the output of the start."""
    config = lab.read_config("R")
    assert "fib:" not in config
    text = f"fib: {{nexthop_objects: {objects}}}\nstatic:\n{static}"
    lab.write_config("R", config + text)
    done = lab.run("R", ["routed", "-c", router_config.config_path("R")])
    assert done.returncode == 0, done.stderr
    return done.stderr.strip()


def events(lab: Lab, name: str) -> list[str]:
    return [str(row["text"]) for row in lab.routectl("R", "show", "log") if row["event"] == name]


def wait_installed(lab: Lab, count: int) -> None:
    """Wait until all routes are installed. Linux may take a second to report that a new link
    carries packets.
    """
    wait_until(
        lambda: list(states(lab).values()) == ["installed"] * count, DEADLINE_S, "all installed"
    )


def states(lab: Lab) -> dict[str, str]:
    return {str(row["prefix"]): str(row["state"]) for row in lab.routectl("R", "show", "fib")}


STANDING = """
  - {prefix: 0.0.0.0/0, via: 172.31.1.1}
  - {prefix: 172.31.1.1/32, dev: eth-A}
  - {prefix: "2000::/3", via: "2001:db8:77::1"}
  - {prefix: "2001:db8:77::1/128", dev: eth-A}
"""


def test_a_default_route_whose_gateway_is_resolved_by_a_route_of_ours(
    lab: Lab, objects: str
) -> None:
    """At Hetzner and GCE the gateway is in no subnet of the link."""
    assert start(lab, STANDING, objects) == ""
    wait_installed(lab, 4)
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


def test_an_ipv6_route_over_several_links_without_gateways(lab: Lab) -> None:
    static = """
  - {prefix: "2001:db8:77::1/128", next_hops: [{dev: eth-A}, {dev: eth-B}]}
  - {prefix: "2001:db8:5::/48", via: "2001:db8:77::1"}
  - {prefix: 10.77.0.1/32, next_hops: [{dev: eth-A}, {dev: eth-B}]}
"""
    assert start(lab, static, "auto") == ""
    wait_installed(lab, 3)


def test_a_gateway_that_is_our_own_address_is_used_once_the_address_is_removed(lab: Lab) -> None:
    """A VRRP address is on this router at the start and moves away."""
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
    """A subnet to configure on eth-A that has space for one more address."""
    subnet = ipaddress.IPv4Network("198.18.7.0/24")
    lab.netlink("R").add_address("eth-A", ipaddress.ip_interface("198.18.7.1/24"))
    return subnet


def test_a_virtual_address_is_added_and_removed_with_a_flap_in_between(lab: Lab) -> None:
    """With VRRP the gateway of a route becomes an address of this router, the link flaps, and the
    address is removed.
    """
    subnet = lab_subnet(lab)
    virtual = ipaddress.ip_interface(f"{subnet.network_address + 200}/{subnet.prefixlen}")
    other = subnet.network_address + 100
    static = f"""
  - {{prefix: 203.0.113.0/24, via: {virtual.ip}}}
  - {{prefix: 198.51.100.0/24, next_hops: [{{via: {virtual.ip}}}, {{via: {other}}}]}}
"""
    assert start(lab, static, "auto") == ""
    wait_installed(lab, 2)
    before = lab.kernel_routes("R")
    netlink = lab.netlink("R")
    for _ in range(2):
        netlink.add_address("eth-A", virtual)
        netlink.set_up("eth-A", is_up=False)
        netlink.set_up("eth-A", is_up=True)
        wait_until(
            lambda: all(gateways_in_use(lab)),
            DEADLINE_S,
            "no object has a gateway that is not used",
        )
        netlink.delete_address("eth-A", virtual)
        wait_until(lambda: hops(lab) == expected(before), DEADLINE_S, "they are as before")
        assert all(gateways_in_use(lab))


def hops(lab: Lab) -> set[tuple[str, frozenset[str]]]:
    """The gateways of R's routes in the kernel."""
    return expected(lab.kernel_routes("R"))


def expected(routes: Sequence[KernelRoute]) -> set[tuple[str, frozenset[str]]]:
    return {(route.prefix, frozenset(str(hop.via) for hop in route.next_hops)) for route in routes}


def gateways_in_use(lab: Lab) -> list[bool]:
    """For every nexthop object with a gateway: whether its scope lets packets pass to the
    gateway.
    """
    scopes = []
    for body in kernel._dump_nexthops(lab.netlink("R")):
        seen = decode_nexthop(NetlinkMessage(104, 0, 0, 0, body))
        if isinstance(seen.form, Hop):
            scopes.append(not seen.is_gateway_unused)
    return scopes
