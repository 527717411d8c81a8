"""Which of our best routes the neighbors are told of. One question per prefix, asked when its best
route has changed or the rules have.

    best route, rules (`redistribute:`) --settle--> NeighborInstance.originate_all, withdraw_all
    best routes inside a summary (`summaries:`) --> the summary, for as long as there is one

A rule speaks for the routes of one source that it fits; the first rule that fits wins, and says
accept or deny. A summary is originated while something more specific inside it is announced by us
or was learned from neighbors; what it covers and nobody reaches must end here, so the router keeps
an unreachable route for it meanwhile (RFC 4632 section 5.1).

Martians (`routed.model.martians`) are announced by no rule, whatever their source, unless
`allow_martians` allows them.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Callable
from typing import NamedTuple

from routed.config.schema import (
    Config,
    FilterAction,
    RedistributeConfig,
    RedistributeSource,
    SummaryConfig,
)
from routed.model.martians import NO_EXCEPTIONS, MartianRules
from routed.model.prefix import Family, Prefix
from routed.model.route import PathAttributes, RouteSource
from routed.nup.instance import NeighborInstance
from routed.rib.table import BestPath, BestPathChanges

__all__ = ["SUMMARY_OWNER", "Redistribution"]

SUMMARY_OWNER = "summary"
"""The owner of the unreachable routes that stand behind summaries."""


class _Announcement(NamedTuple):
    """How a prefix is announced."""

    metric: int
    tag: int
    is_external: bool


def _attributes(best_path: BestPath | None) -> PathAttributes | None:
    return None if best_path is None else best_path.attributes


class Redistribution:
    """Owns the set of prefixes that this router originates."""

    def __init__(
        self,
        instance: NeighborInstance,
        set_summary: Callable[[Prefix, bool], None],
        ifname_of: Callable[[int], str],
    ) -> None:
        """Begin with nothing announced.

        Args:
            instance: who announces.
            set_summary: called when a summary begins (True) or ends to be announced.
            ifname_of: the name of a link, for rules that match it.
        """
        self._nup = instance
        self._set_summary = set_summary
        self._ifname_of = ifname_of
        self._rules: tuple[RedistributeConfig, ...] = ()
        self._summaries: tuple[SummaryConfig, ...] = ()
        self._martians: MartianRules = NO_EXCEPTIONS
        self._covered: dict[Prefix, set[Prefix]] = {}
        """By summary: what inside it is announced or learned."""
        self._originated: dict[Family, set[int]] = {family: set() for family in Family}

    def follow(self, config: Config) -> bool:
        """Take on other rules; whether every prefix is to be settled anew."""
        martians = MartianRules.of(config.allow_martians)
        followed = self._rules, self._summaries, self._martians
        if followed == (config.redistribute, config.summaries, martians):
            return False
        self._martians = martians
        kept = {summary.prefix for summary in config.summaries}
        for prefix in [prefix for prefix in self._covered if prefix not in kept]:
            if self._covered.pop(prefix):
                self._set_summary(prefix, False)
        self._rules, self._summaries = config.redistribute, config.summaries
        return True

    def follow_best(self, changes: BestPathChanges, now: float) -> None:
        """Settle what was decided anew.

        Cost: 0.2 us for a prefix that no rule speaks of, as long as there are no summaries; 1 us
        for one that is announced, as long as no rule of its source looks at prefixes.
        """
        spoken_of = {rule.source for rule in self._rules}
        sources = {source for source, word in _REDISTRIBUTABLE.items() if word in spoken_of}
        family, keys, best_paths = changes
        originated, has_summaries = self._originated[family], bool(self._summaries)
        self._settle_all(
            family,
            [
                (key, best)
                for key, best in zip(keys, map(_attributes, best_paths), strict=True)
                if has_summaries
                or (best is not None and best.source in sources)
                or key in originated
            ],
            now,
        )

    def settle(self, prefix: Prefix, best: PathAttributes | None, now: float) -> None:
        """Originate a prefix exactly when its best route is one that is to be announced."""
        self._settle_all(prefix.family, [(prefix.as_int, best)], now)

    def _settle_all(
        self, family: Family, rows: list[tuple[int, PathAttributes | None]], now: float
    ) -> None:
        martians = dict(self._martians.find_all(family, [key for key, _ in rows]))
        if martians:
            rows = [(key, None if key in martians else best) for key, best in rows]
        originated = self._originated[family]
        by_prefix = {rule.source for rule in self._rules if rule.match}
        said: dict[int, _Announcement | None] = {}
        """Of attributes, by identity, where the prefix does not matter."""
        announced: dict[_Announcement, list[Prefix]] = {}
        withdrawn: list[Prefix] = []
        for key, best in rows:
            prefix = Prefix.from_int(family, key)
            if id(best) in said:
                word = said[id(best)]
            else:
                word = self._announcement_of(prefix, best)
                source = None if best is None else _REDISTRIBUTABLE.get(best.source)
                if not self._summaries and source not in by_prefix:
                    said[id(best)] = word
            if word is not None:
                originated.add(key)
                announced.setdefault(word, []).append(prefix)
            elif key in originated:
                originated.discard(key)
                withdrawn.append(prefix)
        for (metric, tag, is_external), prefixes in announced.items():
            self._nup.originate_all(prefixes, metric, tag, is_external, now)
        if withdrawn:
            self._nup.withdraw_all(withdrawn, now)

    def _announcement_of(self, prefix: Prefix, best: PathAttributes | None) -> _Announcement | None:
        """How a prefix is announced; None when it is not."""
        rule = None if best is None else self._rule_for(prefix, best)
        is_learned = best is not None and best.source in _LEARNED
        self._settle_summaries(prefix, is_announced=rule is not None or is_learned)
        summary = self._active_summary(prefix)
        if summary is not None and best is not None and best.owner == SUMMARY_OWNER:
            return _Announcement(summary.metric, summary.tag, False)
        if rule is None or best is None:
            return None
        tag = best.tag if rule.tag is None else rule.tag
        return _Announcement(rule.metric, tag, best.source is not RouteSource.CONNECTED)

    def _active_summary(self, prefix: Prefix) -> SummaryConfig | None:
        for summary in self._summaries:
            if summary.prefix == prefix and self._covered.get(prefix):
                return summary
        return None

    def _settle_summaries(self, prefix: Prefix, *, is_announced: bool) -> None:
        """Count a prefix for the summaries that it is inside of."""
        for summary in self._summaries:
            if prefix == summary.prefix or not summary.prefix.covers(prefix):
                continue
            covered = self._covered.setdefault(summary.prefix, set())
            was_active = bool(covered)
            if is_announced:
                covered.add(prefix)
            else:
                covered.discard(prefix)
            if bool(covered) is not was_active:
                self._set_summary(summary.prefix, bool(covered))

    def _rule_for(self, prefix: Prefix, best: PathAttributes) -> RedistributeConfig | None:
        """The rule that announces a route; None when none fits, or the first says deny."""
        word = _REDISTRIBUTABLE.get(best.source)
        if word is None or best.owner == SUMMARY_OWNER:
            return None
        for rule in self._rules:
            if rule.source is word and self._fits(rule, prefix, best):
                return rule if rule.action is FilterAction.ACCEPT else None
        return None

    def _fits(self, rule: RedistributeConfig, prefix: Prefix, best: PathAttributes) -> bool:
        if rule.match_tag is not None and rule.match_tag != best.tag:
            return False
        if rule.interface is not None and not any(
            fnmatch.fnmatchcase(ifname, rule.interface) for ifname in self._ifnames(best)
        ):
            return False
        return rule.accepts(prefix)

    def _ifnames(self, best: PathAttributes) -> list[str]:
        """The links that a route leaves by, as far as it names them."""
        named = [gateway.ifname for gateway in best.gateways if gateway.ifname is not None]
        return named + [self._ifname_of(hop.ifindex) for hop in best.next_hops]


_REDISTRIBUTABLE = {
    RouteSource.CONNECTED: RedistributeSource.CONNECTED,
    RouteSource.STATIC: RedistributeSource.STATIC,
    RouteSource.INJECTED: RedistributeSource.INJECTED,
    RouteSource.KERNEL: RedistributeSource.KERNEL,
}
_LEARNED = frozenset({RouteSource.NEIGHBOR, RouteSource.REDISTRIBUTED})
