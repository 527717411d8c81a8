"""The synchronisation of policy rules with the configuration: dump, compare, add, remove.

    routes.yaml (`rules:`) --set---+
    notifications, timer ----------+--> RuleSync --add, remove--> kernel

Rules are few, so every round is the same: read the kernel's rules and write the difference
(`rule_plan`). Our rules are recognised by FRA_PROTOCOL, as routes are: an equal rule of an earlier
run of the daemon is adopted without a write, a stale one is removed, a foreign rule is never
changed. New rules are added before old ones are removed, so that each packet matches a rule at all
times.

Failure: a rule that the kernel refuses is logged with the kernel's message and retried in the next
round; a round that fails as a whole is logged, and the next one follows after RETRY_S. A rule with
a selector that the kernel does not know is not written (`rule_support`). A rule that the kernel
shows otherwise than it was written is removed, and not written again before the next
configuration: the difference would never end.

Sources: ip-rule(8); linux/fib_rules.h; FRA_PROTOCOL since Linux 4.17.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterable
from typing import NamedTuple

import trio

from routed.fib.rule_codec import SeenRule
from routed.fib.rule_plan import RulePlan, order_of, plan_rules
from routed.fib.rule_support import RuleKernel, RuleSupport
from routed.log.logger import Logger
from routed.model.rule import PolicyRule
from routed.netlink.socket import DUMP_ATTEMPTS, DumpInterrupted, NetlinkError

__all__ = ["RuleState", "RuleSync"]

RETRY_S = 5.0
"""Seconds after a round that failed, or in which the kernel refused a rule."""


class RuleState(NamedTuple):
    """The state of one desired rule."""

    rule: PolicyRule
    problem: str
    """Why the kernel does not have the rule; empty if it has."""


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
        self._support = RuleSupport(kernel, protocol)
        self._altered: dict[PolicyRule, str] = {}
        self._reported: dict[PolicyRule, str] = {}
        self._wake = trio.Event()

    def set_desired(self, rules: Iterable[PolicyRule]) -> None:
        """Apply the rules of a configuration."""
        self._desired = frozenset(rules)
        self._altered.clear()
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
            problems = await self._write_difference()
        except DumpInterrupted:
            return False
        except (NetlinkError, OSError) as error:
            self._log.emit("netlink-error", what="reading rules", error=error)
            return False
        self._report(problems)
        states = tuple(
            RuleState(rule, problems.get(rule, "")) for rule in sorted(self._desired, key=order_of)
        )
        if states != self.states:
            self.states = states
            self._on_states()
        return not problems

    async def _write_difference(self) -> dict[PolicyRule, str]:
        """Read, compare and write. Returns the rules that are not as desired, and why."""
        plan = plan_rules(self._desired, await self._kernel.dump_rules(), self._protocol)
        if not any(plan):
            return {}
        problems = await self._support.problems(plan.additions)
        problems |= {
            rule: problem for rule, problem in self._altered.items() if rule in plan.additions
        }
        additions = [rule for rule in plan.additions if rule not in problems]
        problems |= self._do(plan._replace(additions=additions))
        if additions:
            self._altered |= self._find_altered(additions, await self._kernel.dump_rules())
        return problems | self._altered

    def _find_altered(
        self, additions: Iterable[PolicyRule], seen: Iterable[SeenRule]
    ) -> dict[PolicyRule, str]:
        """Find the added rules in whose place the kernel shows a different one."""
        shown = self._ours(seen)
        strange = {rule[:2]: rule for rule in shown if rule not in self._desired}
        return {
            rule: f"the kernel shows the rule as {strange[rule[:2]]}"
            for rule in additions
            if rule not in shown and rule[:2] in strange
        }

    def _ours(self, seen: Iterable[SeenRule]) -> list[PolicyRule]:
        return [entry.rule for entry in seen if entry.protocol == self._protocol]

    async def flush(self) -> int:
        """Remove every rule of ours, in several rounds if the kernel cannot be read at once.

        Returns:
            How many are left.

        Raises:
            NetlinkError: the kernel cannot be read, so the number is not known.
            OSError: the socket failed.
        """
        self._desired = frozenset()
        for _ in range(DUMP_ATTEMPTS):
            if await self.round():
                break
        return len(self._ours(await self._kernel.dump_rules()))

    def _do(self, plan: RulePlan) -> dict[PolicyRule, str]:
        """Write a plan. Returns the rules that the kernel refused to add or to remove, and why."""
        problems = {}
        for rule in (*plan.additions, *plan.copies):
            outcome = self._kernel.add_rule(rule)
            if outcome.errno:
                problems[rule] = outcome.text
        for rule in plan.removals:
            outcome = self._kernel.remove_rule(rule)
            if outcome.errno not in (0, errno.ENOENT):
                problems[rule] = outcome.text
        for event, rules in (("rule-added", plan.additions), ("rule-removed", plan.removals)):
            for rule in dict.fromkeys(rules):
                if rule not in problems:
                    self._log.emit(event, rule=rule)
        return problems

    def _report(self, problems: dict[PolicyRule, str]) -> None:
        """Log the problems that were not there in the last round."""
        for rule, problem in problems.items():
            if self._reported.get(rule) != problem:
                self._log.emit("rule-failed", rule=rule, reason=problem)
        self._reported = problems
