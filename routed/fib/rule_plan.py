"""What to write so that the kernel has the desired policy rules of ours, and no others. Pure.

The kernel removes the first rule that matches a request, and it compares only what the request
names: a request for `from all lookup 100` also matches `from 10.0.0.0/8 lookup 100` of the same
priority, and `not` and the target of a goto are never compared. So the removals are simulated on
the list that the kernel has shown. A desired rule that a removal takes first is added once more
beforehand: the copy stands behind all rules of its priority, and no packet misses the rule.

    the kernel's list    from 10.0.0.0/8 lookup 100    from all lookup 100
    desired              from 10.0.0.0/8 lookup 100
    writes               add from 10.0.0.0/8, remove from all (takes the first), remove from all

Source: rule_find() in net/core/fib_rules.c, fib4_rule_compare() in net/ipv4/fib_rules.c of Linux.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from itertools import groupby
from typing import NamedTuple

from routed.fib.rule_codec import SeenRule
from routed.model.rule import PolicyRule

__all__ = ["RulePlan", "is_removed_by", "order_of", "plan_rules"]

_COMPARED_ALWAYS = 3
"""Family, priority and action: the first fields of a rule."""
_COMPARED_NEVER = {"is_inverted", "goto_priority"}
_COMPARED_IF_GIVEN = [
    (position, PolicyRule._field_defaults[field])
    for position, field in enumerate(PolicyRule._fields)
    if position >= _COMPARED_ALWAYS and field not in _COMPARED_NEVER
]
"""Positions of the fields of a rule that a removal compares unless they have this value."""


class RulePlan(NamedTuple):
    """Writes, in this order."""

    additions: list[PolicyRule]
    """Desired rules that the kernel does not have, by priority."""
    copies: list[PolicyRule]
    """Desired rules that a removal would take."""
    removals: list[PolicyRule]
    """Rules to remove; the same one several times if the kernel takes another one first."""


def order_of(rule: PolicyRule) -> tuple[int, int, str]:
    """Return the key by which rules are shown in order."""
    return rule.family, rule.priority, str(rule)


def plan_rules(desired: Iterable[PolicyRule], seen: Iterable[SeenRule], protocol: int) -> RulePlan:
    """Plan the writes.

    Args:
        desired: all rules that the kernel is to have of ours.
        seen: its rules, in its order.
        protocol: the number of ours.
    """
    ours = [entry.rule for entry in seen if entry.protocol == protocol]
    wanted = set(desired)
    plan = RulePlan(sorted(wanted.difference(ours), key=order_of), [], [])
    ours.sort(key=_group_of)  # stable: the kernel's order within a priority stays
    for _, group in groupby(ours, _group_of):
        _plan_removals(list(group), wanted, plan)
    return plan


def is_removed_by(rule: PolicyRule, request: PolicyRule) -> bool:
    """Whether the kernel takes a rule for the one that a removal asks for."""
    if rule[:_COMPARED_ALWAYS] != request[:_COMPARED_ALWAYS]:
        return False
    return all(
        request[position] in (unset, rule[position]) for position, unset in _COMPARED_IF_GIVEN
    )


def _group_of(rule: PolicyRule) -> tuple[int, int]:
    return rule.family, rule.priority


def _plan_removals(listed: list[PolicyRule], wanted: set[PolicyRule], plan: RulePlan) -> None:
    """Plan the removals from the rules of one priority, given in the kernel's order."""
    surplus = Counter(listed)
    surplus.subtract(wanted.intersection(listed))
    for rule in list(listed):
        while surplus[rule] > 0:
            taken = next(each for each in listed if is_removed_by(each, rule))
            listed.remove(taken)
            plan.removals.append(rule)
            if surplus[taken] > 0:
                surplus[taken] -= 1
            else:
                plan.copies.append(taken)
