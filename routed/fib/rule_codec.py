"""Policy rules <-> rtnetlink bytes.

Rules are encoded by pyroute2's message class: they are written rarely and have many attributes,
more with each kernel. The attributes that are newer than its class are added to it here. All rules
of the kernel are decoded in each round: here, because pyroute2 takes seven times as long.

The only importer of pyroute2, and of its codec alone (its sockets run on asyncio and would block
the trio loop). It is imported when there is a rule to write: most routers have none, and the import
would take an eighth of a daemon's start.

A rule that `PolicyRule` cannot express (NAT, an attribute of a later kernel) cannot be one of ours;
it is ignored when the kernel lists it.

Sources: linux/fib_rules.h.
"""

from __future__ import annotations

import enum
import functools
import struct
from typing import Any, NamedTuple

from routed.model.prefix import Address, Family, Prefix
from routed.model.rule import (
    ANY_DSCP,
    ANY_FLOW_LABEL,
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
_RTPROT_KERNEL = bytes((2,))
_UNSPEC_TABLE = 0
_FIB_RULE_INVERT = 2
"""FIB_RULE_INVERT. Other flags mean that a link or the target of a goto is missing, or that the
rule is permanent."""

_NOT_SET = 0xFFFF_FFFF
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


class _Fra(enum.IntEnum):
    """Attributes of a rule (FRA_*)."""

    DST = 1
    SRC = 2
    IIFNAME = 3
    GOTO = 4
    PRIORITY = 6
    FWMARK = 10
    FLOW = 11
    TUN_ID = 12
    SUPPRESS_IFGROUP = 13
    SUPPRESS_PREFIXLEN = 14
    TABLE = 15
    FWMASK = 16
    OIFNAME = 17
    L3MDEV = 19
    UID_RANGE = 20
    PROTOCOL = 21
    IP_PROTO = 22
    SPORT_RANGE = 23
    DPORT_RANGE = 24
    DSCP = 25
    FLOWLABEL = 26
    FLOWLABEL_MASK = 27
    SPORT_MASK = 28
    DPORT_MASK = 29
    DSCP_MASK = 30


_FRA_PAD = 18
_UNDERSTOOD = frozenset(_Fra) | {_FRA_PAD}

_HEADER = struct.Struct("=BBBBBBBBI")
"""struct fib_rule_hdr: family, lengths of destination and source, TOS, table, two reserved, action,
flags."""
_U8, _U16, _U32 = struct.Struct("=B"), struct.Struct("=H"), struct.Struct("=I")
_BE32, _BE64 = struct.Struct(">I"), struct.Struct(">Q")
_PORT_RANGE, _UID_RANGE = struct.Struct("=HH"), struct.Struct("=II")
_ALL_ONES = b"\xff" * 4

_NUMBERS = {
    _Fra.PRIORITY: ("priority", _U32),
    _Fra.GOTO: ("goto_priority", _U32),
    _Fra.IP_PROTO: ("ip_protocol", _U8),
    _Fra.TUN_ID: ("tunnel_id", _BE64),
    _Fra.SUPPRESS_PREFIXLEN: ("suppress_prefix_len", _U32),
    _Fra.SUPPRESS_IFGROUP: ("suppress_group", _U32),
}
"""Attributes that are one number, by the field of `PolicyRule`."""


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
    header = bytes((family,)) + bytes(_HEADER.size - 1)
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
        (name, _plain_value(getattr(rule, field)))
        for name, field in _PLAIN_ATTRIBUTES.items()
        if field not in defaults or getattr(rule, field) != defaults[field]
    ]
    for prefix, name in ((rule.source, "FRA_SRC"), (rule.destination, "FRA_DST")):
        if prefix is not None:
            found.append((name, str(prefix.address)))
    if rule.table_id:
        found.append(("FRA_TABLE", rule.table_id))
    if rule.fwmark or rule.fwmask:  # a rule of others may have bits outside its mask
        found += [("FRA_FWMARK", rule.fwmark), ("FRA_FWMASK", rule.fwmask)]
    if rule.is_l3mdev:
        found.append(("FRA_L3MDEV", 1))
    if rule.realms is not None:
        found.append(("FRA_FLOW", rule.realms.source << 16 | rule.realms.destination))
    if rule.uids is not None:
        found.append(("FRA_UID_RANGE", f"{rule.uids.first}:{rule.uids.last}"))
    return found + _newer_attributes_of(rule)


def _plain_value(value: object) -> object:
    """Return a number as it is, and the name of an interface as the kernel's bytes."""
    return value.encode("utf-8", "surrogateescape") if isinstance(value, str) else value


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

    Cost: about 20 us.
    """
    payload = message.payload
    if len(payload) < _HEADER.size:
        raise NetlinkDecodeError(f"a rule message of {len(payload)} bytes")
    found = dict(attributes(payload, _HEADER.size, len(payload)))
    if found.get(_Fra.PROTOCOL) == _RTPROT_KERNEL:
        return None
    try:
        return SeenRule(_decode(payload, found), (found.get(_Fra.PROTOCOL) or b"\0")[0])
    except (struct.error, ValueError) as error:
        raise NetlinkDecodeError(f"rule: {error}") from error


def _decode(payload: bytes, found: dict[int, bytes]) -> PolicyRule:
    family, dst_len, src_len, tos, table, _, _, action_number, flags = _HEADER.unpack_from(payload)
    unknown = sorted(found.keys() - _UNDERSTOOD)
    if unknown:
        raise InexpressibleRuleError(f"attribute {unknown[0]} of the kernel is not known here")
    for name, number, known in (
        ("family", family, tuple(Family)), ("action", action_number, tuple(RuleAction))
    ):  # fmt: skip
        if number not in known:
            raise InexpressibleRuleError(f"{name} {number} is not known here")
    fields: dict[str, Any] = {"priority": 0}
    for attribute, (field, form) in _NUMBERS.items():
        if attribute in found:
            (fields[field],) = form.unpack(found[attribute])
    for field in ("suppress_prefix_len", "suppress_group"):
        if fields.get(field) == _NOT_SET:
            del fields[field]
    for attribute, field in ((_Fra.IIFNAME, "iif"), (_Fra.OIFNAME, "oif")):
        if attribute in found:
            fields[field] = found[attribute].rstrip(b"\0").decode("utf-8", "surrogateescape")
    action = RuleAction(action_number)
    (table_id,) = _U32.unpack(found[_Fra.TABLE]) if _Fra.TABLE in found else (table,)
    return PolicyRule(
        family=Family(family),
        action=action,
        table_id=table_id if action is RuleAction.LOOKUP else 0,
        source=_prefix(found.get(_Fra.SRC), src_len),
        destination=_prefix(found.get(_Fra.DST), dst_len),
        is_inverted=bool(flags & _FIB_RULE_INVERT),
        tos=tos,
        is_l3mdev=any(found.get(_Fra.L3MDEV, b"")),
        **fields,
        **_compound_fields(found),
    )


def _compound_fields(found: dict[int, bytes]) -> dict[str, Any]:
    """Decode the fields that consist of several numbers."""
    fields: dict[str, Any] = {}
    if _Fra.FWMARK in found or _Fra.FWMASK in found:
        (fields["fwmark"],) = _U32.unpack(found.get(_Fra.FWMARK, bytes(4)))
        (fields["fwmask"],) = _U32.unpack(found.get(_Fra.FWMASK, _ALL_ONES))
    if any(found.get(_Fra.FLOW, b"")):
        fields["realms"] = Realms(*divmod(_U32.unpack(found[_Fra.FLOW])[0], 1 << 16))
    if _Fra.UID_RANGE in found:
        fields["uids"] = UidRange(*_UID_RANGE.unpack(found[_Fra.UID_RANGE]))
    for field, attribute, mask in (
        ("source_ports", _Fra.SPORT_RANGE, _Fra.SPORT_MASK),
        ("destination_ports", _Fra.DPORT_RANGE, _Fra.DPORT_MASK),
    ):
        if attribute in found:
            first, last = _PORT_RANGE.unpack(found[attribute])
            is_masked = mask in found and first == last
            fields[field] = PortRange(
                first, last, _U16.unpack(found[mask])[0] if is_masked else ANY_PORT
            )
    for field, attribute, mask, form, whole in (
        ("dscp", _Fra.DSCP, _Fra.DSCP_MASK, _U8, ANY_DSCP),
        ("flow_label", _Fra.FLOWLABEL, _Fra.FLOWLABEL_MASK, _BE32, ANY_FLOW_LABEL),
    ):
        if attribute in found:
            (value,) = form.unpack(found[attribute])
            fields[field] = Masked(value, form.unpack(found[mask])[0] if mask in found else whole)
    return fields


def _prefix(packed: bytes | None, prefix_len: int) -> Prefix | None:
    if packed is None:
        return None
    address = Address.unpack(packed)
    return Prefix(address.family, address.addr_bits, prefix_len)
