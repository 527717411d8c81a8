"""A gateway that is an address of this router is not used while it is one."""

from __future__ import annotations

import dataclasses

import pytest

from routed.model.link import Interface, InterfaceAddress
from routed.model.prefix import Address, Prefix
from routed.rib.own_addresses import OwnAddresses
from routed.rib.table import Rib
from tests.unit.rib.test_table import ETH0, ETH1, hop, install_and_process, link, problem, static

LO = link(1, "lo", "127.0.0.1/8", "203.0.113.1/24", "2001:db8:f::1/64", is_loopback=True)


def with_address(interface: Interface, text: str, *, is_usable: bool = True) -> Interface:
    address, _, length = text.partition("/")
    entry = InterfaceAddress(Address.parse(address), int(length), is_usable=is_usable)
    return dataclasses.replace(interface, addresses=(*interface.addresses, entry))


@pytest.fixture
def rib() -> Rib:
    rib = Rib(lambda: 0.0)
    for each in (LO, ETH0, ETH1):
        rib.link_changed(each)
    rib.process()
    return rib


@pytest.mark.parametrize(
    ("prefix", "virtual", "is_named"),
    [
        ("10.0.0.0/8", "192.0.2.9", False),
        ("10.0.0.0/8", "192.0.2.9", True),
        ("2001:db8::/32", "2001:db8:1::9", False),
        ("2001:db8::/32", "2001:db8:1::9", True),
    ],
)
@pytest.mark.parametrize("holder", [ETH0, ETH1], ids=["same link", "another link"])
def test_a_gateway_that_becomes_our_own_is_left_until_it_goes(
    rib: Rib, prefix: str, virtual: str, is_named: bool, holder: Interface
) -> None:
    via = f"{virtual}%eth0" if is_named else virtual
    assert install_and_process(rib, static(prefix, via)) == {prefix: (hop(virtual, 2),)}
    length = 128 if ":" in virtual else 32
    rib.link_changed(with_address(holder, f"{virtual}/{length}"))
    assert install_and_process(rib)[prefix] is None
    assert problem(rib, prefix) == (
        f"{virtual} is an address of this router itself, on {holder.ifname}"
    )
    rib.link_changed(holder)
    assert install_and_process(rib)[prefix] == (hop(virtual, 2),)


@pytest.mark.parametrize(
    ("prefix", "others"),
    [("10.0.0.0/8", "192.0.2.8"), ("2001:db8::/32", "2001:db8:1::8")],
)
def test_of_several_gateways_only_the_own_one_is_left_out(
    rib: Rib, prefix: str, others: str
) -> None:
    own = others[:-1] + "1"
    assert install_and_process(rib, static(prefix, own, others)) == {prefix: (hop(others, 2),)}
    assert problem(rib, prefix) == f"{own} is an address of this router itself, on eth0"


def test_a_link_local_address_is_own_on_its_link_only(rib: Rib) -> None:
    rib.link_changed(with_address(ETH1, "fe80::7/64"))
    assert install_and_process(rib, static("10.0.0.0/8", "fe80::7%eth0")) == {
        "10.0.0.0/8": (hop("fe80::7", 2),)
    }
    assert install_and_process(rib, static("10.0.0.0/8", "fe80::7%eth1"))["10.0.0.0/8"] is None
    assert "this router itself" in problem(rib, "10.0.0.0/8")


def test_what_duplicate_address_detection_says_makes_no_difference(rib: Rib) -> None:
    rib.link_changed(with_address(ETH0, "2001:db8:1::9/64", is_usable=False))
    assert (
        install_and_process(rib, static("2001:db8::/32", "2001:db8:1::9")).get("2001:db8::/32")
        is None
    )
    assert "this router itself" in problem(rib, "2001:db8::/32")


def test_addresses_in_another_vrf_are_not_ours(rib: Rib) -> None:
    leaked = dataclasses.replace(with_address(ETH1, "192.0.2.9/24"), is_in_other_vrf=True)
    rib.link_changed(leaked)
    assert install_and_process(rib, static("10.0.0.0/8", "192.0.2.9%eth0"))["10.0.0.0/8"] == (
        hop("192.0.2.9", 2),
    )


@pytest.mark.parametrize("via", ["203.0.113.9", "203.0.113.9%lo", "2001:db8:f::9"])
def test_no_gateway_is_behind_the_loopback_link(rib: Rib, via: str) -> None:
    prefix = "2001:db8::/32" if ":" in via else "10.0.0.0/8"
    install_and_process(rib, static(prefix, via))
    assert "leads back to this router" in problem(rib, prefix)


def test_onlink_is_no_way_around_it(rib: Rib) -> None:
    route = static("10.0.0.0/8", "192.0.2.1%eth0")
    (gateway,) = route.attributes.gateways
    install_and_process(rib, route._replace(gateways=(gateway._replace(is_onlink=True),)))
    assert "this router itself" in problem(rib, "10.0.0.0/8")


def test_the_addresses_of_a_link_that_is_off_stay_ours() -> None:
    """As in the kernel's local table, which keeps them."""
    off = dataclasses.replace(ETH0, is_admin_up=False, has_carrier=False)
    own = OwnAddresses()
    own.follow(None, ETH0)
    assert own.follow(ETH0, off) == set()
    assert own.ifnames_with(Address.parse("192.0.2.1")) == {"eth0"}
    assert own.ifnames_with(Address.parse("2001:db8:1::1")) == {"eth0"}


def test_an_address_on_two_links_is_own_until_both_are_gone() -> None:
    own, shared = OwnAddresses(), Address.parse("fe80::1")
    own.follow(None, ETH0)
    own.follow(None, ETH1)
    own.follow(ETH0, None)
    assert own.ifnames_with(shared) == {"eth1"}
    assert shared in own.follow(ETH1, None)
    assert not own.ifnames_with(shared)


def test_a_renamed_link_keeps_its_addresses_under_its_new_name() -> None:
    own, renamed = OwnAddresses(), dataclasses.replace(ETH0, ifname="wan0")
    own.follow(None, ETH0)
    own.follow(ETH0, renamed)
    assert own.ifnames_with(Address.parse("192.0.2.1")) == {"wan0"}


TUNNEL = link(4, "tun4", "169.254.6.2/30")


def test_an_ipv4_link_local_gateway_is_found_in_the_subnets_of_links(rib: Rib) -> None:
    """Q9: tunnels of AWS and Azure; nothing announces or routes 169.254.0.0/16."""
    install_and_process(rib, static("10.0.0.0/8", "169.254.6.1"))
    assert (
        problem(rib, "10.0.0.0/8")
        == "169.254.6.1 is not reachable: no route that routed knows covers it"
    )
    rib.link_changed(TUNNEL)
    assert install_and_process(rib) == {"10.0.0.0/8": (hop("169.254.6.1", 4),)}
    rib.link_changed(dataclasses.replace(TUNNEL, has_carrier=False))
    assert install_and_process(rib) == {"10.0.0.0/8": None}
    rib.link_changed(TUNNEL)
    install_and_process(rib)
    disconnected = dataclasses.replace(TUNNEL.addresses[0], is_connected=False)
    rib.link_changed(dataclasses.replace(TUNNEL, addresses=(disconnected,)))
    assert install_and_process(rib) == {"10.0.0.0/8": None}


def test_an_ipv4_link_local_gateway_on_several_links_needs_the_link_named(rib: Rib) -> None:
    rib.link_changed(TUNNEL)
    rib.link_changed(link(5, "tun5", "169.254.6.2/30"))
    install_and_process(rib, static("10.0.0.0/8", "169.254.6.1"))
    assert problem(rib, "10.0.0.0/8") == (
        "169.254.6.1 is link-local, and on several links: say which, with `dev`"
    )
    rib.link_changed(link(5, "tun5", "169.254.0.9/16"))
    assert install_and_process(rib) == {"10.0.0.0/8": (hop("169.254.6.1", 4),)}, (
        "the more specific subnet"
    )
    assert install_and_process(rib, static("10.1.0.0/16", "169.254.6.1%tun5")) == {
        "10.1.0.0/16": (hop("169.254.6.1", 5),)
    }


def test_a_subnet_that_the_kernel_does_not_route_is_not_connected(rib: Rib) -> None:
    """B1: and routes that resolved by it follow, both ways."""
    assert install_and_process(
        rib, static("10.0.0.0/8", "192.0.2.7"), static("10.1.0.0/16", "192.0.2.7%eth0")
    )
    unrouted = dataclasses.replace(
        ETH0,
        addresses=tuple(
            dataclasses.replace(entry, is_connected=entry.address.is_link_local)
            for entry in ETH0.addresses
        ),
    )
    rib.link_changed(unrouted)
    assert install_and_process(rib) == {
        "10.0.0.0/8": None, "10.1.0.0/16": None, "192.0.2.0/24": None, "2001:db8:1::/64": None,
    }  # fmt: skip
    assert rib.best(Prefix.parse("192.0.2.0/24")) is None
    rib.link_changed(ETH0)
    assert install_and_process(rib) == {
        "10.0.0.0/8": (hop("192.0.2.7", 2),), "10.1.0.0/16": (hop("192.0.2.7", 2),),
        "192.0.2.0/24": (hop(None, 2),), "2001:db8:1::/64": (hop(None, 2),),
    }  # fmt: skip
