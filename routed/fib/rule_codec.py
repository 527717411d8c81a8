"""Policy rules <-> rtnetlink bytes, by pyroute2's message class: rules are few and have many
attributes, more with each kernel, so a complete codec maintained elsewhere matters more than speed.
The attributes that are newer than pyroute2's class are added to it here.

The only importer of pyroute2, and of its codec alone (its sockets run on asyncio and would block
the trio loop). It is imported when there is a rule to write, or to read that is not the kernel's:
most routers have none, and the import would take an eighth of a daemon's start.

A rule that `PolicyRule` cannot express (NAT, an attribute of a later kernel) cannot be one of ours;
it is ignored when the kernel lists it.

Sources: linux/fib_rules.h.
"""

from __future__ import annotations

import functools
import ipaddress
from typing import Any, NamedTuple

from routed.model.prefix import Address, Family, Prefix
from routed.model.rule import (
    ANY_DSCP,
    ANY_FLOW_LABEL,
    ANY_MARK,
    ANY_PORT,
    Masked,
    PolicyRule,
    PortRange,
    Realms,
    RuleAction,
    UidRange,
)
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

__all__ = [
    "RULE_MESSAGES",
    "InexpressibleRuleError",
    "SeenRule",
    "decode_rule",
    "encode_rule",
    "encode_rule_dump",
    "read_rule",
]

RTM_NEWRULE, RTM_DELRULE, RTM_GETRULE = 32, 33, 34
RULE_MESSAGES = frozenset({RTM_NEWRULE, RTM_DELRULE})

_NLM_F_CREATE = 0x400
_HEADER_BYTES = 12
_FRA_PROTOCOL = 21
_RTPROT_KERNEL = bytes((2,))
_UNSPEC_TABLE = 0
_FIB_RULE_INVERT = 2
"""FIB_RULE_INVERT. Other flags mean that a link or the target of a goto is missing, or that the
rule is permanent."""

_NOT_SET = 0xFFFF_FFFF
_NEVER_ALL_ONES = ("FRA_SUPPRESS_PREFIXLEN", "FRA_SUPPRESS_IFGROUP")
"""Attributes that the kernel may list although they were not set; their value is _NOT_SET then."""

_PLAIN_ATTRIBUTES = {
    "FRA_PRIORITY": "priority", "FRA_GOTO": "goto_priority", "FRA_IIFNAME": "iif",
    "FRA_OIFNAME": "oif", "FRA_IP_PROTO": "ip_protocol", "FRA_TUN_ID": "tunnel_id",
    "FRA_SUPPRESS_PREFIXLEN": "suppress_prefix_len", "FRA_SUPPRESS_IFGROUP": "suppress_group",
}  # fmt: skip
"""Attributes whose value is that of a field of `PolicyRule`."""

_NEWER_ATTRIBUTES = (
    (25, "FRA_DSCP", "uint8"),
    (26, "FRA_FLOWLABEL", "be32"),
    (27, "FRA_FLOWLABEL_MASK", "be32"),
    (28, "FRA_SPORT_MASK", "uint16"),
    (29, "FRA_DPORT_MASK", "uint16"),
    (30, "FRA_DSCP_MASK", "uint8"),
)
"""Attributes since Linux 6.12, which pyroute2's class does not have."""

_UNDERSTOOD = {
    *_PLAIN_ATTRIBUTES, *(name for _, name, _ in _NEWER_ATTRIBUTES), "FRA_DST", "FRA_SRC",
    "FRA_FWMARK", "FRA_FWMASK", "FRA_TABLE", "FRA_PROTOCOL", "FRA_PAD", "FRA_FLOW", "FRA_L3MDEV",
    "FRA_UID_RANGE", "FRA_SPORT_RANGE", "FRA_DPORT_RANGE",
}  # fmt: skip


class InexpressibleRuleError(Exception):
    """A rule that `PolicyRule` cannot express. The text says why."""


@functools.cache
def _fibmsg() -> Any:
    """Import pyroute2's message class. Returns it with the newer attributes."""
    from pyroute2.netlink.rtnl.fibmsg import fibmsg

    class CompleteMessage(fibmsg):  # type: ignore[misc]
        nla_map = (*fibmsg.nla_map, *_NEWER_ATTRIBUTES)

    return CompleteMessage


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

    An addition has no NLM_F_EXCL: the kernel compares too little (it ignores `not` and the target
    of a goto, and takes an address that is not given for any), so it would refuse rules that do not
    exist yet.

    Args:
        rule: the rule to add or remove.
        protocol: FRA_PROTOCOL; in a removal it must match, so a foreign rule stays.
        sequence: sequence number, repeated in the acknowledgement.
        is_removal: whether to remove the rule instead of adding it.

    Source: rule_exists() and rule_find() in net/core/fib_rules.c of Linux.
    """
    message = _fibmsg()()
    message["family"] = int(rule.family)
    message["action"] = int(rule.action)
    message["table"] = rule.table_id if rule.table_id < 256 else _UNSPEC_TABLE
    message["tos"] = rule.tos
    message["flags"] = _FIB_RULE_INVERT if rule.is_inverted else 0
    message["src_len"] = rule.source.prefix_len if rule.source else 0
    message["dst_len"] = rule.destination.prefix_len if rule.destination else 0
    message["attrs"] = [("FRA_PROTOCOL", protocol), *_attributes_of(rule)]
    flags = NLM_F_REQUEST | NLM_F_ACK
    message["header"]["type"] = RTM_DELRULE if is_removal else RTM_NEWRULE
    message["header"]["flags"] = flags if is_removal else flags | _NLM_F_CREATE
    message["header"]["sequence_number"] = sequence
    message.encode()
    return bytes(message.data)


def _attributes_of(rule: PolicyRule) -> list[tuple[str, object]]:
    defaults = PolicyRule._field_defaults
    found: list[tuple[str, object]] = [
        (name, getattr(rule, field))
        for name, field in _PLAIN_ATTRIBUTES.items()
        if field not in defaults or getattr(rule, field) != defaults[field]
    ]
    for prefix, name in ((rule.source, "FRA_SRC"), (rule.destination, "FRA_DST")):
        if prefix is not None:
            found.append((name, str(prefix.address)))
    if rule.table_id:
        found.append(("FRA_TABLE", rule.table_id))
    if rule.fwmask:
        found += [("FRA_FWMARK", rule.fwmark), ("FRA_FWMASK", rule.fwmask)]
    if rule.is_l3mdev:
        found.append(("FRA_L3MDEV", 1))
    if rule.realms is not None:
        found.append(("FRA_FLOW", rule.realms.source << 16 | rule.realms.destination))
    if rule.uids is not None:
        found.append(("FRA_UID_RANGE", f"{rule.uids.first}:{rule.uids.last}"))
    return found + _newer_attributes_of(rule)


def _newer_attributes_of(rule: PolicyRule) -> list[tuple[str, object]]:
    """List the attributes of ports, DSCP and flow label, whose masks are newer than their values:
    a mask that compares everything is not sent."""
    found: list[tuple[str, object]] = []
    for ports, word in ((rule.source_ports, "SPORT"), (rule.destination_ports, "DPORT")):
        if ports is not None:
            found.append((f"FRA_{word}_RANGE", f"{ports.first}:{ports.last}"))
            if ports.mask != ANY_PORT:
                found.append((f"FRA_{word}_MASK", ports.mask))
    if rule.dscp is not None:
        found.append(("FRA_DSCP", rule.dscp.value))
        if rule.dscp.mask != ANY_DSCP:
            found.append(("FRA_DSCP_MASK", rule.dscp.mask))
    if rule.flow_label is not None:
        found += [
            ("FRA_FLOWLABEL", rule.flow_label.value),
            ("FRA_FLOWLABEL_MASK", rule.flow_label.mask),
        ]
    return found


def decode_rule(message: NetlinkMessage) -> SeenRule | None:
    """Decode one rule message; None for the kernel's own, and for rules not expressible here.

    Raises:
        DecodeError: malformed.
    """
    try:
        return read_rule(message)
    except InexpressibleRuleError:
        return None


def read_rule(message: NetlinkMessage) -> SeenRule | None:
    """Decode one rule message; None for the kernel's own.

    Raises:
        DecodeError: malformed.
        InexpressibleRuleError: not expressible here.
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
    except InexpressibleRuleError:
        raise
    except Exception as error:
        # The exceptions of pyroute2's struct and attribute parsers differ between versions.
        raise NetlinkDecodeError(f"rule: {error}") from error


def _seen(decoded: Any) -> SeenRule:
    found = dict(decoded["attrs"])
    unknown = sorted(str(name) for name in found if name not in _UNDERSTOOD)
    if unknown:
        raise InexpressibleRuleError(f"attribute {unknown[0]} of the kernel is not known here")
    for name, numbers in (("family", tuple(Family)), ("action", tuple(RuleAction))):
        if decoded[name] not in numbers:
            raise InexpressibleRuleError(f"{name} {decoded[name]} is not known here")
    for name in _NEVER_ALL_ONES:
        if found.get(name) == _NOT_SET:
            del found[name]
    plain = {field: found[name] for name, field in _PLAIN_ATTRIBUTES.items() if name in found}
    action = RuleAction(decoded["action"])
    table_id = int(found.get("FRA_TABLE") or decoded["table"])
    rule = PolicyRule(
        family=Family(decoded["family"]),
        action=action,
        table_id=table_id if action is RuleAction.LOOKUP else 0,
        source=_prefix(found.get("FRA_SRC"), decoded["src_len"]),
        destination=_prefix(found.get("FRA_DST"), decoded["dst_len"]),
        is_inverted=bool(decoded["flags"] & _FIB_RULE_INVERT),
        tos=decoded["tos"],
        is_l3mdev=bool(found.get("FRA_L3MDEV")),
        **{"priority": 0, **plain, **_compound_fields(found)},
    )
    return SeenRule(rule, int(found.get("FRA_PROTOCOL") or 0))


def _compound_fields(found: dict[str, Any]) -> dict[str, Any]:
    """Decode the fields that consist of several numbers."""
    fields: dict[str, Any] = {
        "source_ports": _ports(found, "SPORT"),
        "destination_ports": _ports(found, "DPORT"),
        "dscp": _masked(found, "FRA_DSCP", ANY_DSCP),
        "flow_label": _masked(found, "FRA_FLOWLABEL", ANY_FLOW_LABEL),
    }
    if "FRA_FWMARK" in found or "FRA_FWMASK" in found:
        fields["fwmark"] = found.get("FRA_FWMARK", 0)
        fields["fwmask"] = found.get("FRA_FWMASK", ANY_MARK)
    if found.get("FRA_FLOW"):
        fields["realms"] = Realms(found["FRA_FLOW"] >> 16, found["FRA_FLOW"] & 0xFFFF)
    if "FRA_UID_RANGE" in found:
        fields["uids"] = UidRange(*_range(found["FRA_UID_RANGE"]))
    return fields


def _range(text: str) -> tuple[int, int]:
    """Read a range as pyroute2 writes it."""
    first, _, last = text.partition(":")
    return int(first), int(last)


def _ports(found: dict[str, Any], word: str) -> PortRange | None:
    if f"FRA_{word}_RANGE" not in found:
        return None
    first, last = _range(found[f"FRA_{word}_RANGE"])
    mask = found.get(f"FRA_{word}_MASK", ANY_PORT)
    return PortRange(first, last, mask if first == last else ANY_PORT)


def _masked(found: dict[str, Any], name: str, whole: int) -> Masked | None:
    if name not in found:
        return None
    return Masked(found[name], found.get(f"{name}_MASK", whole))


def _prefix(address_text: str | None, prefix_len: int) -> Prefix | None:
    if address_text is None:
        return None
    address = Address.unpack(ipaddress.ip_address(address_text).packed)
    return Prefix(address.family, address.addr_bits, prefix_len)
