"""What may come in from neighbors and what may go out to them: rules, the first that fits decides.

    heard  --import--> RouteTable --selected--> advertisement --export--> told

A rule compares prefix, kind, tag, neighbor and link, and says accept or deny; an accepting one may
change metric and tag, and at import the distance that the RIB compares. What no rule fits is
accepted as it is.

Loop freedom rests on metrics that grow along a path (`feasibility`), so a metric can be raised here
and never lowered: `set_metric` holds where the metric would be less. Importing raises what the
route costs through that neighbor; exporting raises what is claimed.

A summary stands for what it covers: with `only` more specific prefixes are not told on the links
that it names. Whether it is originated is not decided here.

Source: the match and set clauses of route maps, in the order that BIRD and FRR users know.
"""

from __future__ import annotations

import fnmatch
import functools
from dataclasses import dataclass
from typing import Protocol

from routed.model.prefix import Address, Prefix
from routed.model.route import METRIC_INFINITY
from routed.nup.wire.message import RouteUpdate

__all__ = ["Imported", "NeighborRule", "Policy", "PrefixTest", "Suppression"]


class PrefixTest(Protocol):
    """A set of prefixes."""

    def matches(self, candidate: Prefix) -> bool:
        """Whether a prefix is in the set."""
        ...


@dataclass(frozen=True, slots=True)
class NeighborRule:
    """One line of a filter; a condition that is None (or an empty tuple) always holds."""

    is_accepted: bool = True
    prefixes: tuple[PrefixTest, ...] = ()
    is_external: bool | None = None
    """Whether it was redistributed into the network."""
    tag: int | None = None
    neighbor: Address | None = None
    """Whom it was heard from; routes of our own are from nobody."""
    interface: str | None = None
    """A pattern: of the link it was heard on (import), or is to be told on (export)."""
    set_metric: int | None = None
    """At least this, 0 to METRIC_INFINITY - 1."""
    set_tag: int | None = None
    set_distance: int | None = None
    """Import only, 1 to 255."""

    def fits(self, update: RouteUpdate, neighbors: tuple[Address, ...], ifname: str) -> bool:
        """Whether the rule speaks of this route."""
        return (
            (self.is_external is None or self.is_external is update.is_external)
            and (self.tag is None or self.tag == update.tag)
            and (self.neighbor is None or self.neighbor in neighbors)
            and (self.interface is None or fnmatch.fnmatchcase(ifname, self.interface))
            and (not self.prefixes or any(test.matches(update.prefix) for test in self.prefixes))
        )


@dataclass(frozen=True, slots=True)
class Suppression:
    """Inside this prefix nothing more specific is told on links of this name."""

    prefix: Prefix
    interface: str | None = None

    def hides(self, prefix: Prefix, ifname: str) -> bool:
        """Whether a prefix is left to the summary."""
        return (
            prefix != self.prefix
            and self.prefix.covers(prefix)
            and (self.interface is None or fnmatch.fnmatchcase(ifname, self.interface))
        )


@dataclass(frozen=True, slots=True)
class Imported:
    """What a rule makes of a route that was heard."""

    is_accepted: bool
    least_metric: int
    """What it costs at least, link included."""
    tag: int
    distance: int | None
    """None: as routes of its kind have it."""


@functools.lru_cache(maxsize=1024)
def _unchanged(tag: int) -> Imported:
    """What becomes of a route that no rule fits; routes share it, as most have the same tag."""
    return Imported(is_accepted=True, least_metric=0, tag=tag, distance=None)


@dataclass(frozen=True, slots=True)
class Policy:
    """All rules of a router."""

    imports: tuple[NeighborRule, ...] = ()
    exports: tuple[NeighborRule, ...] = ()
    suppressions: tuple[Suppression, ...] = ()

    @property
    def imports_by_prefix(self) -> bool:
        """Whether routes that differ in their prefix only may be judged differently at import."""
        return any(rule.prefixes for rule in self.imports)

    def apply_import(self, update: RouteUpdate, neighbor: Address, ifname: str) -> Imported:
        """What becomes of a route that a neighbor tells."""
        for rule in self.imports:
            if rule.fits(update, (neighbor,), ifname):
                tag = update.tag if rule.set_tag is None else rule.set_tag
                return Imported(rule.is_accepted, rule.set_metric or 0, tag, rule.set_distance)
        return _unchanged(update.tag)

    def export(
        self, update: RouteUpdate, neighbors: tuple[Address, ...], ifname: str
    ) -> RouteUpdate | None:
        """What is told of a route on a link; None when nothing.

        Args:
            update: what would be told.
            neighbors: whom it was learned from; nobody when it is ours.
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
