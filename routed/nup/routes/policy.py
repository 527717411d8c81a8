"""Import and export policy for neighbors: rules, of which the first that matches decides.

    received  --import--> RouteTable --selected--> advertisement --export--> sent

A rule compares prefix, kind, tag, neighbor and link, and accepts or denies; an accepting rule may
change metric and tag, and at import the distance that the RIB compares. A route that no rule
matches is accepted unchanged.

Loop freedom rests on metrics that grow along a path (`table`), so a metric can be raised here and
never lowered: `set_metric` applies where the metric would be less. Import raises the cost of the
route through that neighbor; export raises the claim.

A summary stands for the prefixes it covers: with `only`, more specific prefixes are not advertised
on the links that it names. Whether it is originated is not decided here.

Source: the match and set clauses of route maps, in the order that BIRD and FRR users know.
"""

from __future__ import annotations

import fnmatch
import functools
from typing import Protocol

from ipc.lazy_dataclass import dataclass
from routed.model.prefix import Address, Prefix
from routed.model.route import METRIC_INFINITY
from routed.nup.wire.message import RouteUpdate

__all__ = ["Imported", "NeighborRule", "Policy", "PrefixTest", "Suppression"]


class PrefixTest(Protocol):
    """A set of prefixes."""

    def matches(self, candidate: Prefix) -> bool:
        """Return whether a prefix is in the set."""
        ...


@dataclass(frozen=True, slots=True)
class NeighborRule:
    """One rule of a filter; a condition that is None (or an empty tuple) always holds."""

    is_accepted: bool = True
    prefixes: tuple[PrefixTest, ...] = ()
    is_external: bool | None = None
    """Whether it was redistributed into the network."""
    tag: int | None = None
    neighbor: Address | None = None
    """The neighbor that it was learned from; our own routes have none."""
    interface: str | None = None
    """A pattern: of the link it was learned on (import), or is to be advertised on (export)."""
    set_metric: int | None = None
    """At least this, 0 to METRIC_INFINITY - 1."""
    set_tag: int | None = None
    set_distance: int | None = None
    """Import only, 1 to 255."""

    def fits(self, update: RouteUpdate, neighbors: tuple[Address, ...], ifname: str) -> bool:
        """Return whether the rule matches this route."""
        return (
            (self.is_external is None or self.is_external is update.is_external)
            and (self.tag is None or self.tag == update.tag)
            and (self.neighbor is None or self.neighbor in neighbors)
            and (self.interface is None or fnmatch.fnmatchcase(ifname, self.interface))
            and (not self.prefixes or any(test.matches(update.prefix) for test in self.prefixes))
        )


@dataclass(frozen=True, slots=True)
class Suppression:
    """A summary prefix: no more specific prefix is advertised on links of this name."""

    prefix: Prefix
    interface: str | None = None

    def hides(self, prefix: Prefix, ifname: str) -> bool:
        """Return whether a prefix is covered by the summary and not advertised."""
        return (
            prefix != self.prefix
            and self.prefix.covers(prefix)
            and (self.interface is None or fnmatch.fnmatchcase(ifname, self.interface))
        )


@dataclass(frozen=True, slots=True)
class Imported:
    """The result of the import policy for a learned route."""

    is_accepted: bool
    least_metric: int
    """Least cost of the route, including the link's."""
    tag: int
    distance: int | None
    """Distance of the route; None for the default of its kind."""


@functools.lru_cache(maxsize=1024)
def _unchanged(tag: int) -> Imported:
    """Return the result for a route that no rule matches; routes share it, as most have the same
    tag."""
    return Imported(is_accepted=True, least_metric=0, tag=tag, distance=None)


@dataclass(frozen=True, slots=True)
class Policy:
    """All rules of a router."""

    imports: tuple[NeighborRule, ...] = ()
    exports: tuple[NeighborRule, ...] = ()
    suppressions: tuple[Suppression, ...] = ()

    @property
    def imports_by_prefix(self) -> bool:
        """Whether import may treat routes differently that differ in their prefix only."""
        return any(rule.prefixes for rule in self.imports)

    def apply_import(self, update: RouteUpdate, neighbor: Address, ifname: str) -> Imported:
        """Apply the import rules to a route that a neighbor advertises."""
        for rule in self.imports:
            if rule.fits(update, (neighbor,), ifname):
                tag = update.tag if rule.set_tag is None else rule.set_tag
                return Imported(rule.is_accepted, rule.set_metric or 0, tag, rule.set_distance)
        return _unchanged(update.tag)

    def export(
        self, update: RouteUpdate, neighbors: tuple[Address, ...], ifname: str
    ) -> RouteUpdate | None:
        """Apply the export rules of a link to a route; None when it is not advertised.

        Args:
            update: the route, unfiltered.
            neighbors: that it was learned from; empty when it is ours.
            ifname: the link.
        """
        if self.suppressions and any(
            each.hides(update.prefix, ifname) for each in self.suppressions
        ):
            return None
        for rule in self.exports:
            if not rule.fits(update, neighbors, ifname):
                continue
            if not rule.is_accepted:
                return None
            return update._replace(
                metric=min(max(update.metric, rule.set_metric or 0), METRIC_INFINITY - 1),
                tag=update.tag if rule.set_tag is None else rule.set_tag,
            )
        return update
