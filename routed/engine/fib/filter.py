"""`filters.kernel`: which best routes of the RIB are installed in the kernel. Pure.

The first matching rule decides, and may set kernel attributes: those of the other family than the
route's are left out. A route that no rule matches is installed as it is. A route that is kept out
is a best route all the same: it is advertised as the export policy says, the shared snapshot holds
it, and `show routes` names the rule that keeps it out of the kernel.
"""

from __future__ import annotations

from routed.config.schema import FilterAction, KernelRule
from routed.model.kernel_attributes import NONE, KernelAttributes
from routed.model.prefix import Family, Prefix
from routed.model.route import PathAttributes, RouteSource, RouteType

__all__ = ["KernelFilter"]

_ChangeKey = tuple[int, Family, RouteType, KernelAttributes | None]

_CHANGED_MAX = 10_000
"""Results that are kept; a router has few sets of attributes, and a client may inject many."""


class KernelFilter:
    """The rules of one configuration."""

    def __init__(self, rules: tuple[KernelRule, ...] = ()) -> None:
        """Use the rules of a configuration.

        Args:
            rules: in order.
        """
        self.rules = rules
        self._changed: dict[_ChangeKey, KernelAttributes | None] = {}
        """Attributes that result from a rule; many routes share them."""

    def __bool__(self) -> bool:
        return bool(self.rules)

    def refusal(self, prefix: Prefix, source: RouteSource, tag: int) -> str:
        """Return why a route stays out of the kernel; empty if it is installed.

        Cost: 1 us for each rule that is looked at.
        """
        number = self._first(prefix, source, tag)
        is_denied = number is not None and self.rules[number].action is FilterAction.DENY
        return (
            f"kept out by rule {number + 1} of filters.kernel"
            if number is not None and is_denied
            else ""
        )

    def attributes_of(self, prefix: Prefix, attributes: PathAttributes) -> KernelAttributes | None:
        """Return the kernel attributes with which a route is installed.

        Args:
            prefix: of the route.
            attributes: of its best path; what a route of its type cannot have is not set.

        Cost: 1 us for each rule that is looked at.
        """
        own = attributes.kernel_attributes
        number = self._first(prefix, attributes.source, attributes.tag)
        words = () if number is None else self.rules[number].words
        if number is None or not words:
            return own
        key = number, prefix.family, attributes.type, own
        if key not in self._changed:
            if len(self._changed) >= _CHANGED_MAX:
                self._changed.clear()
            over = self.rules[number].kernel_attributes or NONE
            left_out = {word for word, _ in over.problems_for(prefix.family)}
            if attributes.type is not RouteType.UNICAST:
                left_out.add("pref")
            merged = (own or NONE).overlaid(over, set(words) - left_out)
            self._changed[key] = None if merged == NONE else merged
        return self._changed[key]

    def _first(self, prefix: Prefix, source: RouteSource, tag: int) -> int | None:
        """Return the index of the rule that decides; None if no rule matches."""
        for number, rule in enumerate(self.rules):
            if _fits(rule, prefix, source, tag):
                return number
        return None


def _fits(rule: KernelRule, prefix: Prefix, source: RouteSource, tag: int) -> bool:
    return (
        (rule.source is None or rule.source.name == source.name)
        and rule.tag in (None, tag)
        and (not rule.match or any(match.matches(prefix) for match in rule.match))
    )
