"""Policy rules <-> rtnetlink bytes, by pyroute2's message class: rules are few and have many
attributes, more with each kernel, so a complete codec maintained elsewhere matters more than speed.

The only importer of pyroute2, and of its codec alone (its sockets run on asyncio and would block
the trio loop). It is imported when there is a rule to write, or to read that is not the kernel's:
most routers have none, and the import would take an eighth of a daemon's start.

A rule that `PolicyRule` cannot express (a port range, a goto, a TOS) cannot be one of ours; it is
ignored when the kernel lists it.

Sources: linux/fib_rules.h.
"""

from __future__ import annotations

import functools
import ipaddress
from typing import Any, NamedTuple

from routed.model.prefix import Address, Family, Prefix
from routed.model.rule import ANY_MARK, PolicyRule, RuleAction
from routed.netlink.message import (
    NLM_F_ACK,
    NLM_F_DUMP,
    NLM_F_REQUEST,
    NLMSG_HEADER,
    NetlinkDecodeError,
    NetlinkMessage,
    attributes,
    pack_message,
)

__all__ = ["RULE_MESSAGES", "SeenRule", "decode_rule", "encode_rule", "encode_rule_dump"]

RTM_NEWRULE, RTM_DELRULE, RTM_GETRULE = 32, 33, 34
RULE_MESSAGES = frozenset({RTM_NEWRULE, RTM_DELRULE})

_NLM_F_EXCL, _NLM_F_CREATE = 0x200, 0x400
_HEADER_BYTES = 12
_FRA_PROTOCOL = 21
_RTPROT_KERNEL = bytes((2,))
_UNSPEC_TABLE = 0
_FIB_RULE_INVERT = 2
"""FIB_RULE_INVERT. Other flags mean that a link is missing, or that the rule is permanent."""

_OURS = {
    "FRA_DST", "FRA_SRC", "FRA_IIFNAME", "FRA_PRIORITY", "FRA_FWMARK", "FRA_TABLE", "FRA_FWMASK",
    "FRA_OIFNAME", "FRA_PROTOCOL",
}  # fmt: skip
_MEANINGLESS = {"FRA_SUPPRESS_PREFIXLEN": 0xFFFF_FFFF, "FRA_PAD": None, "FRA_FLOW": 0}
"""Attributes that the kernel may list although they were not set, and their value then."""


@functools.cache
def _fibmsg() -> Any:
    """Import and return pyroute2's message class."""
    from pyroute2.netlink.rtnl.fibmsg import fibmsg

    return fibmsg


class SeenRule(NamedTuple):
    """A rule as the kernel reported it."""

    rule: PolicyRule
    protocol: int
    """0 if the kernel did not report it."""


def encode_rule_dump(family: Family, sequence: int) -> bytes:
    """Encode a request for every rule of one family."""
    header = bytes((family,)) + bytes(_HEADER_BYTES - 1)
    return pack_message(RTM_GETRULE, NLM_F_REQUEST | NLM_F_DUMP, sequence, header)


def encode_rule(rule: PolicyRule, protocol: int, sequence: int, *, is_removal: bool) -> bytes:
    """Encode one acknowledged request.

    Args:
        rule: the rule to add or remove.
        protocol: FRA_PROTOCOL; in a removal it must match, so a foreign rule stays.
        sequence: sequence number, repeated in the acknowledgement.
        is_removal: whether to remove the rule instead of adding it.
    """
    message = _fibmsg()()
    message["family"] = int(rule.family)
    message["action"] = int(rule.action)
    message["table"] = rule.table_id if rule.table_id < 256 else _UNSPEC_TABLE
    attributes: list[tuple[str, object]] = [
        ("FRA_PRIORITY", rule.priority),
        ("FRA_PROTOCOL", protocol),
    ]
    if rule.table_id:
        attributes.append(("FRA_TABLE", rule.table_id))
    for prefix, name, length in (
        (rule.source, "FRA_SRC", "src_len"),
        (rule.destination, "FRA_DST", "dst_len"),
    ):
        if prefix is not None:
            message[length] = prefix.prefix_len
            attributes.append((name, str(prefix.address)))
    for ifname, name in ((rule.iif, "FRA_IIFNAME"), (rule.oif, "FRA_OIFNAME")):
        if ifname is not None:
            attributes.append((name, ifname))
    if rule.fwmask:
        attributes += [("FRA_FWMARK", rule.fwmark), ("FRA_FWMASK", rule.fwmask)]
    message["attrs"] = attributes
    flags = NLM_F_REQUEST | NLM_F_ACK
    message["header"]["type"] = RTM_DELRULE if is_removal else RTM_NEWRULE
    message["header"]["flags"] = flags if is_removal else flags | _NLM_F_CREATE | _NLM_F_EXCL
    message["header"]["sequence_number"] = sequence
    message.encode()
    return bytes(message.data)


def decode_rule(message: NetlinkMessage) -> SeenRule | None:
    """Decode one rule message; None for the kernel's own, and for rules not expressible here.

    Raises:
        DecodeError: malformed.
    """
    payload = message.payload
    if (_FRA_PROTOCOL, _RTPROT_KERNEL) in attributes(payload, _HEADER_BYTES, len(payload)):
        return None
    header = NLMSG_HEADER.pack(
        NLMSG_HEADER.size + len(payload), message.type, message.flags, message.sequence, 0
    )
    decoded = _fibmsg()(header + payload)
    try:
        decoded.decode()
        return _seen(decoded)
    except Exception as error:
        # The exceptions of pyroute2's struct and attribute parsers differ between versions.
        raise NetlinkDecodeError(f"rule: {error}") from error


def _seen(decoded: Any) -> SeenRule | None:
    attributes = dict(decoded["attrs"])
    for name, value in attributes.items():
        if name not in _OURS and _MEANINGLESS.get(name, value) != value:
            return None
        if name not in _OURS and name not in _MEANINGLESS:
            return None
    if decoded["family"] not in tuple(Family) or decoded["action"] not in tuple(RuleAction):
        return None
    if decoded["tos"] or decoded["flags"] & _FIB_RULE_INVERT:
        return None
    family, action = Family(decoded["family"]), RuleAction(decoded["action"])
    table_id = int(attributes.get("FRA_TABLE") or decoded["table"])
    fwmark = int(attributes.get("FRA_FWMARK") or 0)
    rule = PolicyRule(
        family=family,
        priority=int(attributes.get("FRA_PRIORITY") or 0),
        action=action,
        table_id=table_id if action is RuleAction.LOOKUP else 0,
        source=_prefix(attributes.get("FRA_SRC"), decoded["src_len"]),
        destination=_prefix(attributes.get("FRA_DST"), decoded["dst_len"]),
        iif=attributes.get("FRA_IIFNAME"),
        oif=attributes.get("FRA_OIFNAME"),
        fwmark=fwmark,
        fwmask=int(attributes.get("FRA_FWMASK") or (ANY_MARK if fwmark else 0)),
    )
    return SeenRule(rule, int(attributes.get("FRA_PROTOCOL") or 0))


def _prefix(address_text: str | None, prefix_len: int) -> Prefix | None:
    if address_text is None:
        return None
    address = Address.unpack(ipaddress.ip_address(address_text).packed)
    return Prefix(address.family, address.addr_bits, prefix_len)
