"""The synchronisation of policy rules with the configuration: dump, compare, add, remove.

    routes.yaml (`rules:`) --set---+
    notifications, timer ----------+--> RuleSync --add, remove--> kernel

Rules are few, so every round is the same: read the kernel's rules and write the difference. Our
rules are recognised by FRA_PROTOCOL, as routes are: an equal rule of an earlier run of the daemon
is adopted without a write, a stale one is removed, a foreign rule is never changed. New rules are
added before old ones are removed, so that each packet matches a rule at all times.

Failure: a rule that the kernel refuses is logged with the kernel's message and retried in the next
round; a round that fails as a whole is logged, and the next one follows after RETRY_S.

Sources: ip-rule(8); linux/fib_rules.h; FRA_PROTOCOL since Linux 4.17.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple, Protocol

import trio

from routed.fib.routes.plan import KernelRefusal
from routed.fib.rule_codec import SeenRule
from routed.log.logger import Logger
from routed.model.rule import PolicyRule
from routed.netlink.socket import DumpInterrupted, NetlinkError

__all__ = ["RuleKernel", "RuleState", "RuleSync", "plan_rules"]

RETRY_S = 5.0
"""Seconds after a round that failed, or in which the kernel refused a rule."""


class RuleState(NamedTuple):
    """The state of one desired rule."""

    rule: PolicyRule
    problem: str
    """Why the kernel does not have the rule; empty if it has."""


class RuleKernel(Protocol):
    """The part of a kernel that the loop needs: `RequestSocket`, or the tests' fake."""

    async def dump_rules(self) -> list[SeenRule]:
        """Read every rule of both families that can be expressed here, except the kernel's own."""
        ...

    def add_rule(self, rule: PolicyRule) -> KernelRefusal:
        """Add a rule of ours; errno 0 means that the kernel has it."""
        ...

    def remove_rule(self, rule: PolicyRule) -> KernelRefusal:
        """Remove a rule of ours."""
        ...


def plan_rules(
    desired: Iterable[PolicyRule], seen: Iterable[SeenRule], protocol: int
) -> tuple[list[PolicyRule], list[PolicyRule]]:
    """Plan the rules to add and those to remove, each ordered by priority."""
    ours = {entry.rule for entry in seen if entry.protocol == protocol}
    return sorted(set(desired) - ours, key=_order), sorted(ours - set(desired), key=_order)


def _order(rule: PolicyRule) -> tuple[int, int, str]:
    return rule.family, rule.priority, str(rule)


class RuleSync:
    """Runs the rules of one configuration against a kernel."""

    def __init__(
        self,
        kernel: RuleKernel,
        protocol: int,
        *,
        resync_s: float,
        log: Logger,
        on_states: Callable[[], None],
    ) -> None:
        """Begin without desired rules.

        Args:
            kernel: where rules are read and written; used by this task only.
            protocol: FRA_PROTOCOL of our rules.
            resync_s: seconds between two periodic rounds.
            log: for rules that were added, removed or refused.
            on_states: called when `states` has changed.
        """
        self.resync_s = resync_s
        self.states: tuple[RuleState, ...] = ()
        """The state of every desired rule, as of the last round."""
        self._kernel = kernel
        self._protocol = protocol
        self._log = log
        self._on_states = on_states
        self._desired: frozenset[PolicyRule] = frozenset()
        self._told: dict[PolicyRule, str] = {}
        self._wake = trio.Event()

    def set_desired(self, rules: Iterable[PolicyRule]) -> None:
        """Apply the rules of a configuration."""
        self._desired = frozenset(rules)
        self.request_dump()

    def request_dump(self) -> None:
        """Request a round: the kernel's rules may have changed."""
        self._wake.set()

    async def run(self) -> None:
        """Keep the kernel's rules as desired until cancelled."""
        while True:
            self._wake = trio.Event()
            is_in_sync = await self.round()
            with trio.move_on_after(self.resync_s if is_in_sync else RETRY_S):
                await self._wake.wait()

    async def round(self) -> bool:
        """Compare and write the difference once. Returns whether nothing is left to do."""
        try:
            seen = await self._kernel.dump_rules()
        except DumpInterrupted:
            return False
        except (NetlinkError, OSError) as error:
            self._log.emit("netlink-error", what="reading rules", error=error)
            return False
        additions, removals = plan_rules(self._desired, seen, self._protocol)
        problems = self._do(additions, removals)
        states = tuple(
            RuleState(rule, problems.get(rule, "")) for rule in sorted(self._desired, key=_order)
        )
        if states != self.states:
            self.states = states
            self._on_states()
        return not problems

    async def flush(self) -> int:
        """Remove every rule of ours. Returns how many are left."""
        self._desired = frozenset()
        await self.round()
        try:
            seen = await self._kernel.dump_rules()
        except (NetlinkError, OSError) as error:
            self._log.emit("netlink-error", what="reading rules", error=error)
            return 0
        return sum(entry.protocol == self._protocol for entry in seen)

    def _do(
        self, additions: Sequence[PolicyRule], removals: Sequence[PolicyRule]
    ) -> dict[PolicyRule, str]:
        problems = {}
        for rule in additions:
            outcome = self._kernel.add_rule(rule)
            if outcome.errno:
                problems[rule] = outcome.text
            else:
                self._log.emit("rule-added", rule=rule)
        for rule in removals:
            outcome = self._kernel.remove_rule(rule)
            if outcome.errno in (0, errno.ENOENT):
                self._log.emit("rule-removed", rule=rule)
            else:
                problems[rule] = outcome.text
        for rule, problem in problems.items():
            if self._told.get(rule) != problem:
                self._log.emit("rule-failed", rule=rule, reason=problem)
        self._told = problems
        return problems
