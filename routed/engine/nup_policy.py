"""NUP's policy: filters and summaries of the configuration, as rules of NUP."""

from __future__ import annotations

from collections.abc import Iterable

from routed.config.schema import (
    FilterAction,
    FilterRule,
    FiltersConfig,
    FilterSource,
    ImportRule,
    SummaryConfig,
)
from routed.nup.routes.policy import NeighborRule, Policy, Suppression

__all__ = ["neighbor_policy"]


def neighbor_policy(filters: FiltersConfig, summaries: Iterable[SummaryConfig]) -> Policy:
    """Convert the rules of a configuration, in its order."""
    return Policy(
        imports=tuple(_rule(rule) for rule in filters.imports),
        exports=tuple(_rule(rule) for rule in filters.exports),
        suppressions=tuple(
            Suppression(summary.prefix, summary.interface) for summary in summaries if summary.only
        ),
    )


def _rule(rule: FilterRule) -> NeighborRule:
    return NeighborRule(
        is_accepted=rule.action is FilterAction.ACCEPT,
        prefixes=rule.match,
        is_external=None if rule.source is None else rule.source is FilterSource.REDISTRIBUTED,
        tag=rule.tag,
        neighbor=rule.neighbor,
        interface=rule.interface,
        set_metric=rule.set_metric,
        set_tag=rule.set_tag,
        set_distance=rule.set_distance if isinstance(rule, ImportRule) else None,
    )
