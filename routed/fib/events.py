"""Links and addresses as rtnetlink tells them, decoded by pyroute2's message classes.

The only importer of pyroute2: its codec is used, not its sockets (those run on asyncio and would
block the trio loop). Links and addresses are few and rich in attributes, where a complete decoder
that others maintain is worth more than speed; routes have their own (`codec.py`).

Sources: rtnetlink(7); linux/if_addr.h for the address flags; RFC 4862 section 5.4 for duplicate
address detection.
"""

from __future__ import annotations

import ipaddress
import struct
from typing import Any

from pyroute2.netlink.rtnl.ifaddrmsg import ifaddrmsg
from pyroute2.netlink.rtnl.ifinfmsg import ifinfmsg

from routed.fib.codec import (
    NLM_F_DUMP,
    NLM_F_REQUEST,
    NLMSG_HEADER,
    DecodeError,
    NetlinkMessage,
    pack_message,
    pack_u32_attribute,
)
from routed.fib.links import AddressEvent, LinkEvent
from routed.model.link import InterfaceAddress
from routed.model.prefix import Address, Family

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

_RTM_NEWLINK, _RTM_DELLINK, _RTM_GETLINK = 16, 17, 18
_RTM_NEWADDR, _RTM_DELADDR, _RTM_GETADDR = 20, 21, 22
LINK_MESSAGES = frozenset({_RTM_NEWLINK, _RTM_DELLINK})
ADDRESS_MESSAGES = frozenset({_RTM_NEWADDR, _RTM_DELADDR})

_AF_BRIDGE = 7
_IFF_UP, _IFF_LOOPBACK, _IFF_RUNNING, _IFF_MULTICAST = 0x1, 0x8, 0x40, 0x1000
_IFF_LOWER_UP = 0x10000
_IFLA_EXT_MASK, _SKIP_STATS = 29, 8
_IFINFO = struct.Struct("=BxHiII")
_IFA_F_DADFAILED, _IFA_F_TENTATIVE, _IFA_F_OPTIMISTIC = 0x08, 0x40, 0x04


def encode_link_dump(sequence: int) -> bytes:
    """Ask for every link."""
    payload = _IFINFO.pack(0, 0, 0, 0, 0)
    return pack_message(_RTM_GETLINK, NLM_F_REQUEST | NLM_F_DUMP, sequence, payload)


def encode_link_request(ifindex: int, sequence: int) -> bytes:
    """Ask for one link, without its statistics."""
    payload = _IFINFO.pack(0, 0, ifindex, 0, 0) + pack_u32_attribute(_IFLA_EXT_MASK, _SKIP_STATS)
    return pack_message(_RTM_GETLINK, NLM_F_REQUEST, sequence, payload)


def link_flags(message: NetlinkMessage) -> int:
    """The flags (IFF_*) of a link message, and nothing else of it.

    Raises:
        DecodeError: malformed.
    """
    if len(message.payload) < _IFINFO.size:
        raise DecodeError(f"a link message of {len(message.payload)} bytes")
    return int(_IFINFO.unpack_from(message.payload)[3])


def encode_address_dump(sequence: int) -> bytes:
    """Ask for every address of both families."""
    payload = struct.pack("=BBBBI", 0, 0, 0, 0, 0)
    return pack_message(_RTM_GETADDR, NLM_F_REQUEST | NLM_F_DUMP, sequence, payload)


def _decode(kind: Any, message: NetlinkMessage) -> Any:
    header = NLMSG_HEADER.pack(
        NLMSG_HEADER.size + len(message.payload),
        message.type,
        message.flags,
        message.sequence,
        message.port_id,
    )
    decoded = kind(header + message.payload)
    try:
        decoded.decode()
    except Exception as error:
        # pyroute2 raises whatever its struct and attribute walkers raise, by version.
        raise DecodeError(f"{kind.__name__}: {error}") from error
    return decoded


def decode_link(message: NetlinkMessage) -> LinkEvent | None:
    """One link message.

    Returns:
        The event; None for a message about a bridge port, which names an existing link in another
        family and says nothing of its life.

    Raises:
        DecodeError: malformed.
    """
    decoded = _decode(ifinfmsg, message)
    if decoded["family"] == _AF_BRIDGE:
        return None
    flags = int(decoded["flags"])
    return LinkEvent(
        ifindex=int(decoded["index"]),
        ifname=str(decoded.get_attr("IFLA_IFNAME") or ""),
        is_removed=message.type == _RTM_DELLINK,
        is_admin_up=bool(flags & _IFF_UP),
        # IFF_RUNNING follows the carrier up to a second late (linkwatch), IFF_LOWER_UP is it.
        has_carrier=bool(flags & _IFF_RUNNING and flags & _IFF_LOWER_UP),
        mtu=int(decoded.get_attr("IFLA_MTU") or 0),
        is_loopback=bool(flags & _IFF_LOOPBACK),
        has_multicast=bool(flags & _IFF_MULTICAST),
    )


def decode_address(message: NetlinkMessage) -> AddressEvent | None:
    """One address message.

    Returns:
        The event; None for an address without a value, or of another family.

    Raises:
        DecodeError: malformed.
    """
    decoded = _decode(ifaddrmsg, message)
    if decoded["family"] not in tuple(Family):
        return None
    # On a point-to-point link IFA_LOCAL is ours and IFA_ADDRESS the other end; elsewhere IPv4
    # gives both alike, and IPv6 gives IFA_ADDRESS alone.
    remote_text = decoded.get_attr("IFA_ADDRESS")
    local_text = decoded.get_attr("IFA_LOCAL") or remote_text
    if local_text is None:
        return None
    flags = int(decoded.get_attr("IFA_FLAGS") or decoded["flags"])
    is_tentative = flags & _IFA_F_TENTATIVE and not flags & _IFA_F_OPTIMISTIC
    is_peer = remote_text is not None and remote_text != local_text
    return AddressEvent(
        ifindex=int(decoded["index"]),
        address=InterfaceAddress(
            address=_address(local_text),
            prefix_len=int(decoded["prefixlen"]),
            peer=_address(remote_text) if is_peer else None,
            is_usable=not (is_tentative or flags & _IFA_F_DADFAILED),
        ),
        is_removed=message.type == _RTM_DELADDR,
    )


def _address(text: str) -> Address:
    parsed = ipaddress.ip_address(text)
    return Address.unpack(parsed.packed)
