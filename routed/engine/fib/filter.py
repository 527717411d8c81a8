"""`filters.kernel`: which best routes of the RIB are installed in the kernel. Pure.

The first matching rule decides. A route that no rule matches is installed. A route that is kept out
is a best route all the same: it is advertised as the export policy says, the shared snapshot holds
it, and `show routes` names the rule that keeps it out of the kernel.
"""

from __future__ import annotations

from routed.config.schema import FilterAction, KernelRule
from routed.model.prefix import Prefix
from routed.model.route import RouteSource

__all__ = ["KernelFilter"]


class KernelFilter:
    """The rules of one configuration."""

    def __init__(self, rules: tuple[KernelRule, ...] = ()) -> None:
        """Use the rules of a configuration.

        Args:
            rules: in order.
        """
        self.rules = rules

    def __bool__(self) -> bool:
        return bool(self.rules)

    def refusal(self, prefix: Prefix, source: RouteSource, tag: int) -> str:
        """Return why a route stays out of the kernel; empty if it is installed.

        Cost: 1 us for each rule that is looked at.
        """
        for number, rule in enumerate(self.rules, start=1):
            if _fits(rule, prefix, source, tag):
                is_denied = rule.action is FilterAction.DENY
                return f"kept out by rule {number} of filters.kernel" if is_denied else ""
        return ""


def _fits(rule: KernelRule, prefix: Prefix, source: RouteSource, tag: int) -> bool:
    return (
        (rule.source is None or rule.source.name == source.name)
        and rule.tag in (None, tag)
        and (not rule.match or any(match.matches(prefix) for match in rule.match))
    )
