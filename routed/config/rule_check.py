"""The checks of policy rules that need more than one value. Pure.

Source: fib_nl2rule() and fib4_rule_configure() of Linux.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from routed.config.rules import RuleConfig, RuleFamily, RuleType
from routed.model.prefix import Family
from routed.model.rule import PolicyRule, protocol_name

__all__ = ["rule_problems"]

_Problem = tuple[str, str]
"""A path such as `rules[2].goto`, and what is wrong there."""

_IPV4_TOS = 0x1C
"""Bits of the TOS that Linux compares for IPv4 (IPTOS_TOS_MASK)."""
_PROTOCOLS_WITHOUT_PORTS = {1, 2, 4, 41, 46, 47, 50, 51, 58, 89, 94, 103, 112, 137}


def rule_problems(rules: Sequence[tuple[int, RuleConfig]]) -> Iterator[_Problem]:
    """Find the problems of rules whose values are valid on their own.

    Args:
        rules: each with its index in the file.
    """
    seen: dict[PolicyRule, int] = {}
    for index, rule in rules:
        path = f"rules[{index}]"
        yield from _family_problems(path, rule)
        yield from _action_problems(path, rule)
        yield from _selector_problems(path, rule)
        for each in rule.rules:
            if each in seen:
                yield path, f"is the same as rules[{seen[each]}]"
                break
            seen[each] = index


def _family_problems(path: str, rule: RuleConfig) -> Iterator[_Problem]:
    """Selectors that are of one family name that family."""
    named = [
        (key, family)
        for key, family in (
            ("from", rule.source and rule.source.family),
            ("to", rule.destination and rule.destination.family),
            ("realms", rule.realms and Family.IPV4),
            ("flowlabel", rule.flow_label and Family.IPV6),
        )
        if family is not None
    ]
    for key, family in named[1:]:
        if family is not named[0][1]:
            yield f"{path}.{key}", f"`{named[0][0]}` and `{key}` are of different families"
            return
    if named and rule.family is not RuleFamily.BOTH:
        yield f"{path}.family", f"follows from `{named[0][0]}`; leave it out"


def _action_problems(path: str, rule: RuleConfig) -> Iterator[_Problem]:
    """A rule has one action: a look-up, `goto`, or a type without a look-up."""
    is_lookup = rule.type is RuleType.LOOKUP and rule.goto is None
    if is_lookup and rule.table is None and not rule.is_l3mdev:
        yield (
            f"{path}.priority",
            "needs `table`, `l3mdev`, `goto`, or a `type` such as blackhole",
        )
    if rule.goto is not None and rule.type is not RuleType.LOOKUP:
        yield f"{path}.type", "`goto` is an action of its own; leave `type` out"
    if rule.table is not None and rule.is_l3mdev:
        yield f"{path}.table", "`l3mdev` looks up the table of the packet's VRF; leave `table` out"
    elif rule.table is not None and not is_lookup:
        what = f"a {rule.type.value} rule" if rule.goto is None else "a rule with `goto`"
        yield f"{path}.table", f"{what} does not look up a table"
    if rule.goto is not None and rule.goto <= rule.priority:
        yield (
            f"{path}.goto",
            f"{rule.goto} is not greater than the priority {rule.priority}: Linux continues with "
            "a later rule only",
        )
    for key, value in (
        ("suppress_prefixlength", rule.suppress_prefix_len),
        ("suppress_ifgroup", rule.suppress_group),
        ("realms", rule.realms),
    ):
        if value is not None and not is_lookup:
            yield f"{path}.{key}", "has no effect on a rule that does not look up a table"


def _selector_problems(path: str, rule: RuleConfig) -> Iterator[_Problem]:
    """Selectors that exclude each other, or that Linux refuses for a family."""
    if rule.tos is not None and rule.dscp is not None:
        yield f"{path}.tos", "give `tos` or `dscp`, not both"
    if rule.tos is not None and rule.tos & ~_IPV4_TOS and Family.IPV4 in rule.families:
        yield (
            f"{path}.tos",
            f"Linux compares 0x04 to {_IPV4_TOS:#04x} for IPv4: use `dscp: {rule.tos >> 2}`, or "
            "`family: ipv6`",
        )
    for key, ports in (("sport", rule.source_ports), ("dport", rule.destination_ports)):
        number = rule.ip_protocol
        if ports is not None and number in _PROTOCOLS_WITHOUT_PORTS:
            yield f"{path}.{key}", f"`ipproto: {protocol_name(number)}` has no ports"
    length = rule.suppress_prefix_len
    if length is not None and all(length > family.width for family in rule.families):
        yield f"{path}.suppress_prefixlength", "an IPv4 prefix has at most 32 bits"
    if rule.is_inverted and not any(map(_has_selector, rule.rules)):
        yield f"{path}.not", "a rule without selectors matches all packets, so this matches none"


def _has_selector(rule: PolicyRule) -> bool:
    """Whether a rule is for some packets only."""
    bare = PolicyRule(
        rule.family,
        rule.priority,
        rule.action,
        rule.table_id,
        is_inverted=rule.is_inverted,
        goto_priority=rule.goto_priority,
        suppress_prefix_len=rule.suppress_prefix_len,
        suppress_group=rule.suppress_group,
        realms=rule.realms,
    )
    return rule != bare
