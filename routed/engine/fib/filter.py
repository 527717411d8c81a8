"""`filters.kernel`: which of the routes that the RIB has decided go into the kernel. Pure.

The first rule that fits decides; what no rule fits goes in. A route that is kept out is decided all
the same: neighbors are told it as policy has it, the shared snapshot holds it, and `show routes`
says which rule keeps it out of the kernel.
"""

from __future__ import annotations

from routed.config.schema import FilterAction, KernelRule
from routed.model.prefix import Prefix
from routed.model.route import RouteSource

__all__ = ["KernelFilter"]


class KernelFilter:
    """The rules of one configuration."""

    def __init__(self, rules: tuple[KernelRule, ...] = ()) -> None:
        """Args:
        rules: in order.
        """
        self.rules = rules

    def __bool__(self) -> bool:
        return bool(self.rules)

    def refusal(self, prefix: Prefix, source: RouteSource, tag: int) -> str:
        """Why a route stays out of the kernel; empty when it goes in.

        Cost: 1 us for each rule that has to be looked at.
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
