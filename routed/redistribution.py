"""Which of our best routes the neighbors are told of. One question per prefix, asked when its best
route has changed or the rules have.

    best route, rules (`redistribute:`) --settle--> NeighborInstance.originate / withdraw

A rule speaks for the routes of one source whose prefix it accepts; the first rule that fits wins.
"""

from __future__ import annotations

from routed.config.schema import RedistributeConfig, RedistributeSource
from routed.model.prefix import Prefix
from routed.model.route import Route, RouteSource
from routed.neighbor.instance import NeighborInstance

__all__ = ["Redistribution"]


class Redistribution:
    """Owns the set of prefixes that this router originates."""

    def __init__(self, instance: NeighborInstance) -> None:
        self.rules: tuple[RedistributeConfig, ...] = ()
        """In order; after a change every prefix is to be settled anew."""
        self._nup = instance
        self._originated: set[Prefix] = set()

    def settle(self, prefix: Prefix, best: Route | None, now: float) -> None:
        """Originate a prefix exactly when its best route is one that a rule redistributes."""
        rule = None if best is None else self._rule_for(best)
        if rule is None or best is None:
            if prefix in self._originated:
                self._originated.discard(prefix)
                self._nup.withdraw(prefix, now)
            return
        self._originated.add(prefix)
        tag = best.tag if rule.tag is None else rule.tag
        is_external = best.source is not RouteSource.CONNECTED
        self._nup.originate(prefix, rule.metric, tag, is_external, now)

    def _rule_for(self, best: Route) -> RedistributeConfig | None:
        word = _REDISTRIBUTABLE.get(best.source)
        if word is None:
            return None
        for rule in self.rules:
            if rule.source is word and rule.accepts(best.prefix):
                return rule
        return None


_REDISTRIBUTABLE = {
    RouteSource.CONNECTED: RedistributeSource.CONNECTED,
    RouteSource.STATIC: RedistributeSource.STATIC,
    RouteSource.INJECTED: RedistributeSource.INJECTED,
}
