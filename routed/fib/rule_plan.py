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

from collections import Counter, defaultdict, deque
from collections.abc import Iterable
from itertools import groupby
from typing import NamedTuple

from routed.fib.rule_codec import SeenRule
from routed.model.rule import PolicyRule

__all__ = ["RulePlan", "is_removed_by", "order_of", "plan_rules"]

_COMPARED_ALWAYS = 3
"""Family, priority and action: the first fields of a rule."""
_COMPARED_NEVER = frozenset(map(PolicyRule._fields.index, ("is_inverted", "goto_priority")))
_UNSET = tuple(PolicyRule._field_defaults.get(field) for field in PolicyRule._fields)
"""The value of each field that is not given, and is then not compared."""


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
        listed = list(group)
        if len(set(listed)) < len(listed) or not wanted.issuperset(listed):
            _plan_removals(listed, wanted, plan)
    return plan


def is_removed_by(rule: PolicyRule, request: PolicyRule) -> bool:
    """Whether the kernel takes a rule for the one that a removal asks for."""
    compared = _compared_fields(request)
    return _project(rule, compared) == _project(request, compared)


def _compared_fields(request: PolicyRule) -> tuple[int, ...]:
    """Return the positions of the fields that a removal compares."""
    return tuple(
        position
        for position, unset in enumerate(_UNSET)
        if position not in _COMPARED_NEVER
        and (position < _COMPARED_ALWAYS or request[position] != unset)
    )


def _project(rule: PolicyRule, positions: tuple[int, ...]) -> tuple[object, ...]:
    return tuple([rule[position] for position in positions])


def _group_of(rule: PolicyRule) -> tuple[int, int]:
    return rule.family, rule.priority


def _plan_removals(listed: list[PolicyRule], wanted: set[PolicyRule], plan: RulePlan) -> None:
    """Plan the removals from the rules of one priority, given in the kernel's order."""
    surplus = Counter(listed)
    surplus.subtract(wanted.intersection(listed))
    kernel = _KernelList(listed)
    for rule in listed:
        while surplus[rule] > 0:
            taken = kernel.remove(rule)
            plan.removals.append(rule)
            if surplus[taken] > 0:
                surplus[taken] -= 1
            else:
                plan.copies.append(taken)


class _KernelList:
    """The kernel's rules of one priority, from which removals are simulated.

    Rules are indexed by the fields that a removal compares, once for each such set of fields.
    """

    def __init__(self, listed: list[PolicyRule]) -> None:
        """Start with a list, in the kernel's order."""
        self._listed = listed
        self._is_removed = bytearray(len(listed))
        self._positions: dict[tuple[int, ...], dict[tuple[object, ...], deque[int]]] = {}

    def remove(self, request: PolicyRule) -> PolicyRule:
        """Remove the first rule that a request matches, and return it.

        The request itself is in the list, so there is one.
        """
        compared = _compared_fields(request)
        if compared not in self._positions:
            index = self._positions[compared] = defaultdict(deque)
            for position, rule in enumerate(self._listed):
                index[_project(rule, compared)].append(position)
        matching = self._positions[compared][_project(request, compared)]
        while self._is_removed[matching[0]]:
            matching.popleft()
        position = matching.popleft()
        self._is_removed[position] = True
        return self._listed[position]
