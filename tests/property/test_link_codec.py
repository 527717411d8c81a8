"""Our decoders of links and addresses against pyroute2's message classes, and arbitrary bytes."""

from __future__ import annotations

import ipaddress
import struct
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyroute2.netlink.rtnl.ifaddrmsg import ifaddrmsg
from pyroute2.netlink.rtnl.ifinfmsg import ifinfmsg

from routed.fib.links.codec import decode_address, decode_link
from routed.fib.links.table import AddressEvent, LinkEvent
from routed.model.link import InterfaceAddress
from routed.model.prefix import Address
from routed.netlink.message import (
    NetlinkDecodeError,
    NetlinkMessage,
    pack_attribute,
    split_messages,
)

RTM_NEWLINK, RTM_DELLINK, RTM_NEWADDR, RTM_DELADDR = 16, 17, 20, 21
AF_UNSPEC, AF_BRIDGE, AF_MPLS = 0, 7, 28
IFF_UP, IFF_LOOPBACK, IFF_RUNNING, IFF_MULTICAST, IFF_LOWER_UP = 0x1, 0x8, 0x40, 0x1000, 0x10000
IFA_F_DADFAILED, IFA_F_TENTATIVE, IFA_F_OPTIMISTIC = 0x08, 0x40, 0x04
IFA_F_NOPREFIXROUTE = 0x200

IFINDEXES = st.integers(1, 2**31 - 1)
IFNAMES = st.text("abcxyz0123-.", min_size=1, max_size=15)
FLAGS = st.integers(0, 2**20 - 1)


def message(kind: Any, message_type: int, fields: dict[str, Any]) -> NetlinkMessage:
    """Return the kernel's message, encoded by pyroute2."""
    encoded = kind()
    for name, value in fields.items():
        encoded[name] = value
    encoded["header"]["type"] = message_type
    encoded.encode()
    (only,) = split_messages(bytes(encoded.data))
    return only


@given(IFINDEXES, IFNAMES, st.integers(0, 2**32 - 1), FLAGS, st.booleans())
def test_a_link_is_read_as_pyroute2_reads_it(
    ifindex: int, ifname: str, mtu: int, flags: int, is_removed: bool
) -> None:
    attributes = [
        ("IFLA_TXQLEN", 1000), ("IFLA_IFNAME", ifname), ("IFLA_MTU", mtu),
        ("IFLA_ADDRESS", "02:00:00:00:00:01"), ("IFLA_OPERSTATE", "UP"),
    ]  # fmt: skip
    fields = {"family": AF_UNSPEC, "index": ifindex, "flags": flags, "attrs": attributes}
    seen = decode_link(message(ifinfmsg, RTM_DELLINK if is_removed else RTM_NEWLINK, fields))
    assert seen == LinkEvent(
        ifindex, ifname, is_removed,
        is_admin_up=bool(flags & IFF_UP),
        has_carrier=bool(flags & IFF_RUNNING) and bool(flags & IFF_LOWER_UP),
        mtu=mtu,
        is_loopback=bool(flags & IFF_LOOPBACK),
        has_multicast=bool(flags & IFF_MULTICAST),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("kind", "is_port"),
    [(b"bridge", True), (b"bond", True), (b"team", True), (b"vrf", False), (b"", False)],
)
def test_a_port_of_a_bridge_or_a_bond_is_recognised(kind: bytes, is_port: bool) -> None:
    slave_kind = pack_attribute(4, kind + b"\0") if kind else b""
    info = pack_attribute(1, b"veth\0") + slave_kind
    fields = {"family": AF_UNSPEC, "index": 3, "flags": IFF_UP, "attrs": [("IFLA_IFNAME", "a")]}
    plain = message(ifinfmsg, RTM_NEWLINK, fields)
    seen = decode_link(plain._replace(payload=plain.payload + pack_attribute(18, info)))
    assert seen is not None
    assert seen.is_port is is_port


def test_a_bridge_port_is_not_a_link() -> None:
    fields = {"family": AF_BRIDGE, "index": 3, "flags": IFF_UP, "attrs": [("IFLA_IFNAME", "a")]}
    assert decode_link(message(ifinfmsg, RTM_NEWLINK, fields)) is None


HOSTS = st.ip_addresses(v=4) | st.ip_addresses(v=6)


@given(IFINDEXES, HOSTS, st.data(), FLAGS, st.booleans())
def test_an_address_is_read_as_pyroute2_reads_it(
    ifindex: int, local: Any, data: st.DataObject, flags: int, is_removed: bool
) -> None:
    prefix_len = data.draw(st.integers(0, local.max_prefixlen))
    remote = data.draw(st.none() | st.ip_addresses(v=local.version))
    attributes = [("IFA_ADDRESS", str(remote or local)), ("IFA_FLAGS", flags)]
    if remote is not None or local.version == 4:
        attributes.append(("IFA_LOCAL", str(local)))
    fields = {
        "family": 2 if local.version == 4 else 10, "prefixlen": prefix_len, "flags": flags & 0xFF,
        "scope": 0, "index": ifindex, "attrs": attributes,
    }  # fmt: skip
    seen = decode_address(message(ifaddrmsg, RTM_DELADDR if is_removed else RTM_NEWADDR, fields))
    is_tentative = flags & IFA_F_TENTATIVE and not flags & IFA_F_OPTIMISTIC
    address = InterfaceAddress(
        address=Address.unpack(local.packed),
        prefix_len=prefix_len,
        peer=None if remote in (None, local) else Address.unpack(remote.packed),
        is_usable=not (is_tentative or flags & IFA_F_DADFAILED),
    )
    has_prefix_route = not flags & IFA_F_NOPREFIXROUTE
    assert seen == AddressEvent(ifindex, address, is_removed, has_prefix_route)


def test_without_its_own_attribute_the_flags_are_those_of_the_header() -> None:
    """Kernels before 3.14 have only these eight flags."""
    fields = {
        "family": 2, "prefixlen": 24, "flags": IFA_F_TENTATIVE, "scope": 0, "index": 2,
        "attrs": [("IFA_LOCAL", "192.0.2.1")],
    }  # fmt: skip
    seen = decode_address(message(ifaddrmsg, RTM_NEWADDR, fields))
    assert seen is not None
    assert not seen.address.is_usable


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        (b"eth0", "eth0"),
        (b"\xc3\xa9th0", "\u00e9th0"),
        (b"\xef\xbf\xbd", "\ufffd"),
        (b"\x80\xff", "if:7"),
        (b"eth\xe9", "if:7"),
    ],
)
def test_names_that_are_not_utf_8_stay_different(name: bytes, shown: str) -> None:
    """Linux accepts any bytes but blanks, slashes and colons."""
    header = struct.pack("=BBHiII", 0, 0, 1, 7, 0, 0)
    attribute = struct.pack("=HH", 5 + len(name), 3) + name + b"\0"
    seen = decode_link(NetlinkMessage(RTM_NEWLINK, 0, 0, 0, header + attribute))
    assert seen is not None
    assert seen.ifname == shown


@pytest.mark.parametrize("family", [AF_BRIDGE, AF_MPLS])
def test_an_address_of_another_family_or_without_a_value_is_none(family: int) -> None:
    fields = {"family": family, "prefixlen": 0, "flags": 0, "scope": 0, "index": 2, "attrs": []}
    assert decode_address(message(ifaddrmsg, RTM_NEWADDR, fields)) is None
    assert decode_address(message(ifaddrmsg, RTM_NEWADDR, {**fields, "family": 2})) is None


@given(st.sampled_from([RTM_NEWLINK, RTM_DELLINK]), st.binary(max_size=80))
def test_arbitrary_bytes_are_a_link_or_an_error(message_type: int, payload: bytes) -> None:
    try:
        seen = decode_link(NetlinkMessage(message_type, 0, 0, 0, payload))
    except NetlinkDecodeError:
        return
    assert seen is None or seen.ifname is not None


@given(st.sampled_from([RTM_NEWADDR, RTM_DELADDR]), st.sampled_from([2, 10]), st.binary())
def test_arbitrary_bytes_are_an_address_or_an_error(
    message_type: int, family: int, rest: bytes
) -> None:
    header = bytes((family,))
    try:
        seen = decode_address(NetlinkMessage(message_type, 0, 0, 0, header + rest))
    except NetlinkDecodeError:
        return
    assert seen is None or str(ipaddress.ip_address(seen.address.address.packed))


@given(st.integers(1, 2**32 - 1), st.integers(0, 2**31 - 1))
def test_a_vrf_and_its_ports_are_read_as_pyroute2_reads_them(table_id: int, master: int) -> None:
    data = {"attrs": [("IFLA_VRF_TABLE", table_id)]}
    info = {"attrs": [("IFLA_INFO_KIND", "vrf"), ("IFLA_INFO_DATA", data)]}
    attributes = [("IFLA_IFNAME", "red"), ("IFLA_MASTER", master), ("IFLA_LINKINFO", info)]
    fields = {"family": AF_UNSPEC, "index": 7, "flags": IFF_UP, "attrs": attributes}
    seen = decode_link(message(ifinfmsg, RTM_NEWLINK, fields))
    assert seen is not None
    assert (seen.vrf_table, seen.master) == (table_id, master)


def test_a_link_of_another_kind_is_not_a_vrf() -> None:
    attributes = [("IFLA_LINKINFO", {"attrs": [("IFLA_INFO_KIND", "veth")]})]
    fields = {"family": AF_UNSPEC, "index": 7, "flags": IFF_UP, "attrs": attributes}
    seen = decode_link(message(ifinfmsg, RTM_NEWLINK, fields))
    assert seen is not None
    assert (seen.vrf_table, seen.master) == (0, 0)
