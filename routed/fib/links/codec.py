"""Links and addresses <-> rtnetlink bytes.

The decoders read the few attributes that the daemon uses. Tests compare them with pyroute2, which
decodes the messages in full; importing it would take 0.1 s of the 0.8 s of processor time of a
daemon's start, and 12 MB in the privileged process (measured), so it is not imported before a
policy rule needs it (`rule_codec.py`).

Sources: rtnetlink(7); linux/if_link.h; linux/if_addr.h for the address flags; RFC 4862 section 5.4
for duplicate address detection.
"""

from __future__ import annotations

import struct

from routed.fib.links.table import AddressEvent, LinkEvent
from routed.model.link import InterfaceAddress
from routed.model.prefix import Family
from routed.netlink import message as message_codec
from routed.netlink.message import (
    IFINFOMSG,
    NLM_F_DUMP,
    NLM_F_REQUEST,
    RTM_DELLINK,
    RTM_GETLINK,
    RTM_NEWLINK,
    Ifla,
    NetlinkDecodeError,
    NetlinkMessage,
    attributes,
    decode_u32,
    decode_vrf_table,
    pack_message,
    pack_u32_attribute,
)

__all__ = [
    "ADDRESS_MESSAGES",
    "LINK_MESSAGES",
    "decode_address",
    "decode_link",
    "encode_address_dump",
    "encode_link_dump",
    "encode_link_request",
    "link_flags",
]

_RTM_NEWADDR, _RTM_DELADDR, _RTM_GETADDR = 20, 21, 22
LINK_MESSAGES = frozenset({RTM_NEWLINK, RTM_DELLINK})
ADDRESS_MESSAGES = frozenset({_RTM_NEWADDR, _RTM_DELADDR})

_AF_BRIDGE = 7
_IFF_UP, _IFF_LOOPBACK, _IFF_RUNNING, _IFF_MULTICAST = 0x1, 0x8, 0x40, 0x1000
_IFF_LOWER_UP = 0x10000
_PORT_KINDS = frozenset({b"bridge", b"bond", b"team", b"openvswitch"})
"""Kinds of links that receive all packets of their ports; a VRF does not."""
_SKIP_STATS = 8
_IFADDR = struct.Struct("=BBBBI")
"""Family, prefix length, flags, scope, index."""
_IFA_ADDRESS, _IFA_LOCAL, _IFA_FLAGS = 1, 2, 8
_IFA_F_DADFAILED, _IFA_F_TENTATIVE, _IFA_F_OPTIMISTIC = 0x08, 0x40, 0x04
_IFA_F_NOPREFIXROUTE = 0x200


def encode_link_dump(sequence: int) -> bytes:
    """Encode a request for every link."""
    payload = IFINFOMSG.pack(0, 0, 0, 0, 0)
    return pack_message(RTM_GETLINK, NLM_F_REQUEST | NLM_F_DUMP, sequence, payload)


def encode_link_request(ifindex: int, sequence: int) -> bytes:
    """Encode a request for one link, without its statistics."""
    payload = IFINFOMSG.pack(0, 0, ifindex, 0, 0) + pack_u32_attribute(Ifla.EXT_MASK, _SKIP_STATS)
    return pack_message(RTM_GETLINK, NLM_F_REQUEST, sequence, payload)


def link_flags(message: NetlinkMessage) -> int:
    """Decode only the flags (IFF_*) of a link message.

    Raises:
        DecodeError: malformed.
    """
    if len(message.payload) < IFINFOMSG.size:
        raise NetlinkDecodeError(f"a link message of {len(message.payload)} bytes")
    return int(IFINFOMSG.unpack_from(message.payload)[3])


def encode_address_dump(sequence: int) -> bytes:
    """Encode a request for every address of both families."""
    payload = _IFADDR.pack(0, 0, 0, 0, 0)
    return pack_message(_RTM_GETADDR, NLM_F_REQUEST | NLM_F_DUMP, sequence, payload)


def decode_link(message: NetlinkMessage) -> LinkEvent | None:
    """Decode one link message.

    Returns:
        The event; None for a message about a bridge port, which is of another family and does not
        show whether the link exists.

    Raises:
        DecodeError: malformed.
    """
    payload = message.payload
    flags = link_flags(message)
    family, _, ifindex, _, _ = IFINFOMSG.unpack_from(payload)
    if family == _AF_BRIDGE:
        return None
    found = dict(attributes(payload, IFINFOMSG.size, len(payload)))
    return LinkEvent(
        ifindex=ifindex,
        ifname=_name(found.get(Ifla.IFNAME, b"").rstrip(b"\0"), ifindex),
        is_removed=message.type == RTM_DELLINK,
        is_admin_up=bool(flags & _IFF_UP),
        # IFF_RUNNING lags up to a second behind the carrier (linkwatch); IFF_LOWER_UP does not.
        has_carrier=bool(flags & _IFF_RUNNING and flags & _IFF_LOWER_UP),
        mtu=decode_u32(found[Ifla.MTU]) if Ifla.MTU in found else 0,
        is_loopback=bool(flags & _IFF_LOOPBACK),
        has_multicast=bool(flags & _IFF_MULTICAST),
        is_port=_is_port(found.get(Ifla.LINKINFO, b"")),
        master=decode_u32(found[Ifla.MASTER]) if Ifla.MASTER in found else 0,
        vrf_table=decode_vrf_table(found.get(Ifla.LINKINFO, b"")),
    )


def _name(name: bytes, ifindex: int) -> str:
    """Decode a link's name. A name that is not UTF-8 can be neither shown nor written to a file: it
    is replaced by `if:INDEX`, which is no link's name, because Linux refuses colons in names."""
    try:
        return name.decode()
    except UnicodeDecodeError:
        return f"if:{ifindex}"


def _is_port(link_info: bytes) -> bool:
    """Whether a link is a port of another one that receives its packets."""
    if not link_info:
        return False
    kinds = dict(attributes(link_info, 0, len(link_info)))
    return kinds.get(Ifla.INFO_SLAVE_KIND, b"").rstrip(b"\0") in _PORT_KINDS


def decode_address(message: NetlinkMessage) -> AddressEvent | None:
    """Decode one address message.

    Returns:
        The event; None for an address without a value, or of another family.

    Raises:
        DecodeError: malformed.
    """
    payload = message.payload
    if len(payload) < _IFADDR.size:
        raise NetlinkDecodeError(f"an address message of {len(payload)} bytes")
    family, prefix_len, flags, _, ifindex = _IFADDR.unpack_from(payload)
    if family not in tuple(Family):
        return None
    found = dict(attributes(payload, _IFADDR.size, len(payload)))
    # On a point-to-point link IFA_LOCAL is our address and IFA_ADDRESS the other end; on other
    # links IPv4 has both, with the same address, and IPv6 has IFA_ADDRESS alone.
    remote = found.get(_IFA_ADDRESS)
    local = found.get(_IFA_LOCAL, remote)
    if local is None:
        return None
    if _IFA_FLAGS in found:  # all 32 bits
        flags = decode_u32(found[_IFA_FLAGS])
    is_tentative = flags & _IFA_F_TENTATIVE and not flags & _IFA_F_OPTIMISTIC
    is_peer = remote is not None and remote != local
    return AddressEvent(
        ifindex=ifindex,
        address=InterfaceAddress(
            address=message_codec.decode_address(local),
            prefix_len=prefix_len,
            peer=message_codec.decode_address(remote) if remote is not None and is_peer else None,
            is_usable=not (is_tentative or flags & _IFA_F_DADFAILED),
        ),
        is_removed=message.type == _RTM_DELADDR,
        has_prefix_route=not flags & _IFA_F_NOPREFIXROUTE,
    )
