"""Policy routing rules: which packets consult which table (ip-rule(8)).

A rule is written as `ip rule` writes it: the parts and their order are those of print_rule() of
iproute2. Tables (except main, default and local), TOS, groups and realms are numbers, because the
files that name them belong to iproute2.

Sources: linux/fib_rules.h; ip/iprule.c of iproute2.
"""

from __future__ import annotations

import enum
from collections.abc import Iterator
from typing import NamedTuple

from routed.model.link import InterfaceName
from routed.model.prefix import Family, Prefix

__all__ = [
    "ANY_DSCP",
    "ANY_FLOW_LABEL",
    "ANY_MARK",
    "ANY_PORT",
    "RESERVED_TABLES",
    "Masked",
    "PolicyRule",
    "PortRange",
    "Realms",
    "RuleAction",
    "UidRange",
    "protocol_name",
]

ANY_MARK = 0xFFFF_FFFF
"""The mask that compares a whole firewall mark; the kernel's default if none is given."""
ANY_DSCP = 0x3F
"""The mask that compares a whole DSCP."""
ANY_FLOW_LABEL = 0xF_FFFF
"""The mask that compares a whole flow label."""
ANY_PORT = 0xFFFF
"""The mask that compares a whole port."""

RESERVED_TABLES = {"default": 253, "main": 254, "local": 255}
"""Names of tables in linux/rtnetlink.h (RT_TABLE_*)."""
_TABLE_NAMES = {number: name for name, number in RESERVED_TABLES.items()}


class RuleAction(enum.IntEnum):
    """What becomes of a packet that the rule matches, numbered as in linux/fib_rules.h."""

    LOOKUP = 1
    GOTO = 2
    NOP = 3
    BLACKHOLE = 6
    UNREACHABLE = 7
    PROHIBIT = 8


class Masked(NamedTuple):
    """A value, and the bits of it that are compared."""

    value: int
    mask: int


class PortRange(NamedTuple):
    """Ports from `first` to `last`, both included; or one port and the bits that are compared."""

    first: int
    last: int
    mask: int = ANY_PORT
    """ANY_PORT if `first` and `last` differ."""


class UidRange(NamedTuple):
    """Users of the sockets that packets come from; both ends are included."""

    first: int
    last: int


class Realms(NamedTuple):
    """Realms that a rule assigns to the routes it finds; 0 is none."""

    source: int
    destination: int


class PolicyRule(NamedTuple):
    """A rule of one family. Two equal ones are the same rule."""

    family: Family
    priority: int
    """0 to 2**32 - 1; the kernel evaluates the lowest first."""
    action: RuleAction = RuleAction.LOOKUP
    table_id: int = 0
    """The table that is looked up; 0 for other actions, and with `is_l3mdev`."""
    source: Prefix | None = None
    destination: Prefix | None = None
    iif: InterfaceName | None = None
    """The link on which the packet arrived; `lo` for packets of this host."""
    oif: InterfaceName | None = None
    """The link that a socket is bound to."""
    fwmark: int = 0
    fwmask: int = 0
    """0: the mark is not compared."""
    is_inverted: bool = False
    """The rule is for packets that do not match (`not`)."""
    goto_priority: int = 0
    """For GOTO: the priority of the rule with which the evaluation continues."""
    tos: int = 0
    """The TOS or traffic class without its two ECN bits; 0: not compared."""
    dscp: Masked | None = None
    flow_label: Masked | None = None
    """IPv6 alone."""
    uids: UidRange | None = None
    ip_protocol: int = 0
    """The IP protocol, 1 to 255; 0: not compared."""
    source_ports: PortRange | None = None
    destination_ports: PortRange | None = None
    tunnel_id: int = 0
    """The id of the tunnel key, 1 to 2**64 - 1; 0: not compared."""
    is_l3mdev: bool = False
    """The table is that of the VRF that the packet belongs to; packets of no VRF do not match."""
    suppress_prefix_len: int | None = None
    """A route that is found is rejected if its prefix is not longer than this."""
    suppress_group: int | None = None
    """A route that is found is rejected if its link belongs to this group."""
    realms: Realms | None = None
    """IPv4 alone."""

    def __str__(self) -> str:
        return f"{self.priority}: " + "".join(text for text, _ in _parts(self)).strip()

    def fields(self) -> dict[str, object]:
        """Return the rule as `ip -j rule` shows it, without the protocol."""
        shown: dict[str, object] = {"priority": self.priority}
        for _, fields in _parts(self):
            shown |= fields
        return shown


Part = tuple[str, dict[str, object]]
"""A piece of the text, which begins with a blank, and the same as fields of JSON."""


def _parts(rule: PolicyRule) -> Iterator[Part]:
    if rule.is_inverted:
        yield " not", {"not": None}
    yield from _address_part("from", "src", rule.source)
    if rule.destination is not None:
        yield from _address_part("to", "dst", rule.destination)
    if rule.tos:
        yield f" tos {rule.tos:#04x}", {"tos": f"{rule.tos:#04x}"}
    if rule.fwmask:
        yield _masked_part("fwmark", Masked(rule.fwmark, rule.fwmask), ANY_MARK, "fwmask")
    for key, ifname in (("iif", rule.iif), ("oif", rule.oif)):
        if ifname is not None:
            yield f" {key} {ifname}", {key: ifname}
    if rule.is_l3mdev:
        yield " lookup [l3mdev-table]", {"l3mdev": None}
    yield from _transport_parts(rule)
    yield from _action_parts(rule)
    if rule.dscp is not None:
        yield _dscp_part(rule.dscp)
    if rule.flow_label is not None:
        yield _masked_part("flowlabel", rule.flow_label, ANY_FLOW_LABEL, "flowlabel_mask")


def _address_part(word: str, key: str, prefix: Prefix | None) -> Iterator[Part]:
    if prefix is None:
        yield f" {word} all", {key: "all"}
    elif prefix.prefix_len == prefix.family.width:
        yield f" {word} {prefix.address}", {key: str(prefix.address)}
    else:
        yield f" {word} {prefix}", {key: str(prefix.address), f"{key}len": prefix.prefix_len}


def _masked_part(word: str, masked: Masked, whole: int, mask_key: str) -> Part:
    text, fields = f" {word} {_hex(masked.value)}", {word: _hex(masked.value)}
    if masked.mask == whole:
        return text, dict(fields)
    return f"{text}/{_hex(masked.mask)}", {**fields, mask_key: _hex(masked.mask)}


def _dscp_part(dscp: Masked) -> Part:
    if dscp.mask == ANY_DSCP:
        return f" dscp {dscp.value}", {"dscp": str(dscp.value)}
    return (
        f" dscp {_hex(dscp.value)}/{_hex(dscp.mask)}",
        {"dscp": _hex(dscp.value), "dscp_mask": _hex(dscp.mask)},
    )


def _transport_parts(rule: PolicyRule) -> Iterator[Part]:
    if rule.uids is not None:
        first, last = rule.uids
        yield f" uidrange {first}-{last}", {"uid_start": first, "uid_end": last}
    if rule.ip_protocol:
        name = protocol_name(rule.ip_protocol)
        yield f" ipproto {name}", {"ipproto": name}
    if rule.source_ports is not None:
        yield _port_part("sport", rule.source_ports)
    if rule.destination_ports is not None:
        yield _port_part("dport", rule.destination_ports)
    if rule.tunnel_id:
        yield f" tun_id {rule.tunnel_id}", {"tun_id": rule.tunnel_id}


def _port_part(word: str, ports: PortRange) -> Part:
    first, last, mask = ports
    if first != last:
        return f" {word} {first}-{last}", {f"{word}_start": first, f"{word}_end": last}
    if mask == ANY_PORT:
        return f" {word} {first}", {word: first}
    return f" {word} {_hex(first)}/{_hex(mask)}", {word: first, f"{word}_mask": _hex(mask)}


def _action_parts(rule: PolicyRule) -> Iterator[Part]:
    if rule.table_id:
        name = _TABLE_NAMES.get(rule.table_id, str(rule.table_id))
        yield f" lookup {name}", {"table": name}
    if rule.suppress_prefix_len is not None:
        length = rule.suppress_prefix_len
        yield f" suppress_prefixlength {length}", {"suppress_prefixlen": length}
    if rule.suppress_group is not None:
        group = str(rule.suppress_group)
        yield f" suppress_ifgroup {group}", {"suppress_ifgroup": group}
    if rule.realms is not None:
        source, destination = rule.realms
        fields: dict[str, object] = {"flow_from": str(source)} if source else {}
        shown = f"{source}/{destination}" if source else str(destination)
        yield f" realms {shown}", {**fields, "flow_to": str(destination)}
    match rule.action:
        case RuleAction.LOOKUP:
            return
        case RuleAction.GOTO:
            yield f" goto {rule.goto_priority}", {"goto": rule.goto_priority}
        case RuleAction.NOP:
            yield " nop", {"nop": None}
        case _:
            yield f" {rule.action.name.lower()}", {"action": rule.action.name.lower()}


def _hex(value: int) -> str:
    """Return a number as C's `%#x` prints it."""
    return f"{value:#x}" if value else "0"


_PROTOCOL_NAMES = {
    1: "icmp", 2: "igmp", 4: "ipencap", 6: "tcp", 17: "udp", 33: "dccp", 41: "ipv6", 46: "rsvp",
    47: "gre", 50: "esp", 51: "ah", 58: "ipv6-icmp", 89: "ospf", 94: "ipip", 103: "pim",
    112: "vrrp", 115: "l2tp", 132: "sctp", 136: "udplite", 137: "mpls-in-ip",
}  # fmt: skip
"""Names of /etc/protocols (IANA), which the engine cannot read."""


def protocol_name(ip_protocol: int) -> str:
    """Return the name of an IP protocol; its number if it has none here."""
    return _PROTOCOL_NAMES.get(ip_protocol, str(ip_protocol))
