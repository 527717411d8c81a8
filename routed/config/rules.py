"""The options of `rules:`, policy rules with every selector of `ip rule`."""

from __future__ import annotations

import enum

from ipc.lazy_dataclass import dataclass
from routed.config import rule_scalars, scalars, table_scalars
from routed.config.options import Scalar
from routed.config.options import option as _option
from routed.model.prefix import Family, Prefix
from routed.model.rule import (
    Masked,
    PolicyRule,
    PortRange,
    Realms,
    RuleAction,
    UidRange,
)

__all__ = ["RuleConfig", "RuleFamily", "RuleType"]

_PRIORITY_MAX = 2**32 - 1


class RuleFamily(enum.Enum):
    """The address families of a policy rule that has no selector of one family."""

    BOTH = "both"
    IPV4 = "ipv4"
    IPV6 = "ipv6"


class RuleType(enum.Enum):
    """The action of a policy rule, as `ip rule` names it."""

    LOOKUP = "lookup"
    NOP = "nop"
    BLACKHOLE = "blackhole"
    UNREACHABLE = "unreachable"
    PROHIBIT = "prohibit"


@dataclass(frozen=True, slots=True)
class RuleConfig:
    """A policy rule: which packets use which table (ip-rule(8))."""

    priority: int = _option(
        Scalar(scalars.whole_number(1, _PRIORITY_MAX)),
        "Rules are tried in this order, lowest first; the kernel's own are at 0, 32766 and 32767.",
    )
    is_inverted: bool = _option(
        Scalar(scalars.boolean), "Whether the rule is for packets that do not match.",
        key="not", default=False, written="false",
    )  # fmt: skip
    source: Prefix | None = _option(
        Scalar(scalars.prefix), "Source of the packets.", key="from", default=None
    )
    destination: Prefix | None = _option(
        Scalar(scalars.prefix), "Destination of the packets.", key="to", default=None
    )
    iif: str | None = _option(
        Scalar(scalars.interface_name),
        "The interface on which they arrived; `lo` for packets of this host.", default=None,
    )  # fmt: skip
    oif: str | None = _option(
        Scalar(scalars.interface_name),
        "The interface to which their socket is bound.",
        default=None,
    )
    fwmark: scalars.FirewallMark | None = _option(
        Scalar(scalars.fwmark), "The firewall mark, `MARK` or `MARK/MASK`.", default=None
    )
    tos: int | None = _option(
        Scalar(rule_scalars.tos),
        "The TOS or traffic class, such as `0x10`; IPv4 has 0x04 to 0x1c only.",
        default=None,
    )
    dscp: Masked | None = _option(
        Scalar(rule_scalars.dscp),
        "The DSCP: a number, a name such as `AF11`, or `VALUE/MASK` (Linux 6.12; a mask 6.15).",
        default=None,
    )
    flow_label: Masked | None = _option(
        Scalar(rule_scalars.flow_label),
        "The flow label of IPv6, `LABEL` or `LABEL/MASK` (Linux 6.14).",
        key="flowlabel", default=None,
    )  # fmt: skip
    ip_protocol: int | None = _option(
        Scalar(rule_scalars.ip_protocol), "The IP protocol, such as `tcp`, or its number.",
        key="ipproto", default=None,
    )  # fmt: skip
    source_ports: PortRange | None = _option(
        Scalar(rule_scalars.ports),
        "The source port, a range `FIRST-LAST`, or `PORT/MASK` (Linux 6.15).",
        key="sport", default=None,
    )  # fmt: skip
    destination_ports: PortRange | None = _option(
        Scalar(rule_scalars.ports), "The destination port, likewise.", key="dport", default=None
    )
    uids: UidRange | None = _option(
        Scalar(rule_scalars.uids),
        "The users whose sockets send the packets, `FIRST-LAST`, as numbers.",
        key="uidrange", default=None,
    )  # fmt: skip
    tunnel_id: int | None = _option(
        Scalar(scalars.whole_number(1, 2**64 - 1)),
        "The id of the tunnel key with which they arrived or leave.",
        key="tun_id", default=None,
    )  # fmt: skip
    is_l3mdev: bool = _option(
        Scalar(scalars.boolean),
        "Whether the rule is for packets of VRFs, and looks up the table of their VRF.",
        key="l3mdev", default=False, written="false",
    )  # fmt: skip
    family: RuleFamily = _option(
        Scalar(scalars.choice(RuleFamily)),
        "For a rule without a selector of one family: `both`, `ipv4` or `ipv6`.",
        default=RuleFamily.BOTH, written="both",
    )  # fmt: skip
    table: int | None = _option(
        Scalar(table_scalars.any_table),
        "The table that is looked up: `main`, `local`, a number, a name of iproute2's "
        "`rt_tables`, or `vrf:NAME`.",
        default=None,
    )
    suppress_prefix_len: int | None = _option(
        Scalar(scalars.whole_number(0, 128)),
        "Reject a route that was found if its prefix length is at most this; 0 rejects default "
        "routes.",
        key="suppress_prefixlength", default=None,
    )  # fmt: skip
    suppress_group: int | None = _option(
        Scalar(rule_scalars.group),
        "Reject a route that was found if its interface belongs to this group.",
        key="suppress_ifgroup", default=None,
    )  # fmt: skip
    realms: Realms | None = _option(
        Scalar(rule_scalars.realms),
        "The realms of the route that was found, `[SOURCE/]DESTINATION`; IPv4 alone.",
        default=None,
    )
    goto: int | None = _option(
        Scalar(scalars.whole_number(1, _PRIORITY_MAX)),
        "Continue with the rule of this priority, which must be greater, in place of a look-up.",
        default=None,
    )
    type: RuleType = _option(
        Scalar(scalars.choice(RuleType)),
        "`lookup`, `nop`, or how packets are refused: `blackhole`, `unreachable`, `prohibit`.",
        default=RuleType.LOOKUP, written="lookup",
    )  # fmt: skip

    @classmethod
    def of(cls, rule: PolicyRule, family: RuleFamily) -> RuleConfig:
        """Return the entry for a rule of the kernel.

        Args:
            rule: the rule; its values may be ones that a file cannot have.
            family: `family` of the entry.
        """
        mark = scalars.FirewallMark(rule.fwmark, rule.fwmask) if rule.fwmask else None
        is_typed = rule.action.name in RuleType.__members__
        return cls(
            priority=rule.priority,
            is_inverted=rule.is_inverted,
            source=rule.source,
            destination=rule.destination,
            iif=rule.iif,
            oif=rule.oif,
            fwmark=mark,
            tos=rule.tos or None,
            dscp=rule.dscp,
            flow_label=rule.flow_label,
            ip_protocol=rule.ip_protocol or None,
            source_ports=rule.source_ports,
            destination_ports=rule.destination_ports,
            uids=rule.uids,
            tunnel_id=rule.tunnel_id or None,
            is_l3mdev=rule.is_l3mdev,
            family=family,
            table=rule.table_id or None,
            suppress_prefix_len=rule.suppress_prefix_len,
            suppress_group=rule.suppress_group,
            realms=rule.realms,
            goto=rule.goto_priority or None,
            type=RuleType[rule.action.name] if is_typed else RuleType.LOOKUP,
        )

    @property
    def families(self) -> tuple[Family, ...]:
        """The family of its selectors or, if it has none of one family, those of `family`."""
        prefix = self.source or self.destination
        if prefix is not None:
            return (prefix.family,)
        if self.realms is not None:
            return (Family.IPV4,)
        if self.flow_label is not None:
            return (Family.IPV6,)
        if self.family is RuleFamily.BOTH:
            return tuple(Family)
        return (Family[self.family.name],)

    @property
    def rules(self) -> tuple[PolicyRule, ...]:
        """The kernel's rules for this entry, one for each family."""
        mark = self.fwmark or scalars.FirewallMark(0, 0)
        rule = PolicyRule(
            family=Family.IPV4,
            priority=self.priority,
            action=RuleAction[self.type.name] if self.goto is None else RuleAction.GOTO,
            table_id=self.table or 0,
            source=_none_if_any(self.source),
            destination=_none_if_any(self.destination),
            iif=self.iif,
            oif=self.oif,
            fwmark=mark.mark,
            fwmask=mark.mask,
            is_inverted=self.is_inverted,
            goto_priority=self.goto or 0,
            tos=self.tos or 0,
            dscp=self.dscp,
            flow_label=self.flow_label,
            uids=self.uids,
            ip_protocol=self.ip_protocol or 0,
            source_ports=self.source_ports,
            destination_ports=self.destination_ports,
            tunnel_id=self.tunnel_id or 0,
            is_l3mdev=self.is_l3mdev,
            suppress_prefix_len=self.suppress_prefix_len,
            suppress_group=self.suppress_group,
            realms=self.realms,
        )
        return tuple(rule._replace(family=family) for family in self.families)


def _none_if_any(prefix: Prefix | None) -> Prefix | None:
    """Return no prefix for 0.0.0.0/0 and ::/0, as the kernel shows them."""
    return prefix if prefix is not None and prefix.prefix_len else None
