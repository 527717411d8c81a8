"""Which selectors of policy rules this kernel knows.

A kernel ignores attributes of a rule that it does not know: it adds a rule that matches more than
was asked for. So a selector is tried before it is first used, with a rule that does nothing (`nop`,
at the last priority): what the kernel shows of that rule is what it knows. One dump answers for all
selectors that are new.

    rules to add --selectors--> add nop rules --> dump --> remove them --> known or not

Invariants:
    Nothing is written while all desired rules exist, as after a restart of the daemon.

Failure: a trial that the kernel refuses says nothing about the selector: the rule itself is then
added, and refused with the kernel's own reason. A trial rule that remains after a crash is removed
as every rule of ours that is not desired.

Source: fib_newrule() in net/core/fib_rules.c of Linux (nlmsg_parse_deprecated).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple, Protocol

from routed.fib.routes.plan import KernelRefusal
from routed.fib.rule_codec import SeenRule
from routed.model.prefix import Family
from routed.model.rule import (
    ANY_DSCP,
    ANY_FLOW_LABEL,
    ANY_PORT,
    Masked,
    PolicyRule,
    PortRange,
    RuleAction,
)

__all__ = ["RuleKernel", "RuleSupport"]

_LAST_PRIORITY = 2**32 - 1

_SELECTORS = {
    "is_l3mdev": "l3mdev", "uids": "uidrange", "ip_protocol": "ipproto", "source_ports": "sport",
    "destination_ports": "dport", "tunnel_id": "tun_id", "realms": "realms",
    "suppress_prefix_len": "suppress_prefixlength", "suppress_group": "suppress_ifgroup",
    "dscp": "dscp", "flow_label": "flowlabel",
}  # fmt: skip
"""Fields of a rule that a kernel may not know, by the name of their option."""


class RuleKernel(Protocol):
    """The part of a kernel that rules need: `RequestSocket`, or the tests' fake."""

    async def dump_rules(self) -> list[SeenRule]:
        """Read every rule of both families that can be expressed here, except the kernel's own."""
        ...

    def add_rule(self, rule: PolicyRule) -> KernelRefusal:
        """Add a rule of ours, even if it exists; errno 0 means that the kernel has it."""
        ...

    def remove_rule(self, rule: PolicyRule) -> KernelRefusal:
        """Remove the first rule of ours that the request matches (`rule_plan`)."""
        ...


class _Selector(NamedTuple):
    """A selector that the kernel knows or not."""

    family: Family
    field: str
    is_masked: bool


class RuleSupport:
    """The selectors that were tried on a kernel."""

    def __init__(self, kernel: RuleKernel, protocol: int) -> None:
        """Start without any knowledge.

        Args:
            kernel: where selectors are tried.
            protocol: FRA_PROTOCOL of our rules.
        """
        self._kernel = kernel
        self._protocol = protocol
        self._is_known: dict[_Selector, bool] = {}

    async def problems(self, rules: Iterable[PolicyRule]) -> dict[PolicyRule, str]:
        """Find the rules with a selector that this kernel does not know. Returns the reason of
        each.

        Raises:
            DumpInterrupted: the dump must be repeated.
            NetlinkError: the kernel refused the dump.
        """
        selectors = {rule: list(_selectors_of(rule)) for rule in rules}
        await self._try(
            {
                selector: _trial_of(rule, selector)
                for rule, found in selectors.items()
                for selector in found
                if selector not in self._is_known
            }
        )
        problems = {}
        for rule, found in selectors.items():
            unknown = [each for each in found if not self._is_known.get(each, True)]
            if unknown:
                problems[rule] = "this kernel does not know " + ", ".join(map(_name_of, unknown))
        return problems

    async def _try(self, trials: dict[_Selector, PolicyRule]) -> None:
        added = {
            selector: trial
            for selector, trial in trials.items()
            if not self._kernel.add_rule(trial).errno
        }
        if not added:
            return
        try:
            seen = await self._kernel.dump_rules()
        finally:
            for trial in added.values():
                self._kernel.remove_rule(trial)
        shown = {entry.rule for entry in seen if entry.protocol == self._protocol}
        self._is_known |= {selector: trial in shown for selector, trial in added.items()}


def _selectors_of(rule: PolicyRule) -> Iterator[_Selector]:
    defaults = PolicyRule._field_defaults
    for field in _SELECTORS:
        value = getattr(rule, field)
        if value != defaults[field]:
            yield _Selector(rule.family, field, _is_masked(field, value))


def _is_masked(field: str, value: object) -> bool:
    match value:
        case PortRange():
            return value.mask != ANY_PORT
        case Masked():
            return value.mask != (ANY_DSCP if field == "dscp" else ANY_FLOW_LABEL)
    return False


def _trial_of(rule: PolicyRule, selector: _Selector) -> PolicyRule:
    trial = PolicyRule(rule.family, _LAST_PRIORITY, RuleAction.NOP)
    return trial._replace(**{selector.field: getattr(rule, selector.field)})


def _name_of(selector: _Selector) -> str:
    name = f"`{_SELECTORS[selector.field]}`"
    return f"a mask of {name}" if selector.is_masked else name
