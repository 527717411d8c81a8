"""Programming of one kernel table: the desired routes that follow from the best paths of its RIB.

    best-path changes --set_desired--> kernel filter --> DesiredFib

`programming` orders the messages to the parent, in which the desired routes of all tables are sent.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable
from typing import TypeVar

from routed.config.schema import KernelRule
from routed.engine.fib.desired import DesiredFib, DesiredRoute
from routed.engine.fib.filter import KernelFilter
from routed.log.logger import Logger
from routed.model.prefix import Prefix
from routed.model.route import RouteSource
from routed.rib.table import BestPath, BestPathChanges

__all__ = ["KERNEL_SOURCES", "TableProgramming", "is_learned"]

KERNEL_SOURCES = frozenset({RouteSource.CONNECTED, RouteSource.KERNEL})
"""Sources of best routes that the kernel has without this daemon."""

_LEARNED = frozenset({RouteSource.NEIGHBOR, RouteSource.REDISTRIBUTED})

_SCATTER = 64
"""Stride at which neighboring prefixes are sent."""

T = TypeVar("T")


class TableProgramming:
    """Owns the kernel filter of a table."""

    def __init__(
        self,
        kernel_rules: tuple[KernelRule, ...],
        best: Callable[[Prefix], BestPath | None],
        desired: DesiredFib,
        log: Logger,
    ) -> None:
        """Begin with no desired route.

        Args:
            kernel_rules: the filter of what may reach the kernel.
            best: looks up the best path of a prefix in the RIB.
            desired: receives the desired routes.
            log: for routes with more next hops than are used.
        """
        self._best = best
        self._desired = desired
        self._log = log
        self.kernel_filter = KernelFilter(kernel_rules)
        """Keeps routes that the RIB has selected out of the kernel."""
        self.defers_learned = False
        """After a restart, until NUP is loaded. The kernel forwards by what an earlier engine has
        learned, and a part of the neighbors' tables may form a loop."""

    def set_kernel_rules(self, kernel_rules: tuple[KernelRule, ...]) -> bool:
        """Apply another kernel filter. Returns whether `refresh` is due for every prefix."""
        before, self.kernel_filter = self.kernel_filter.rules, KernelFilter(kernel_rules)
        return before != kernel_rules

    def refresh(self, prefix: Prefix) -> None:
        """Compute the desired route of a prefix again, although its best path is the same."""
        if not (self.defers_learned and is_learned(self._best(prefix))):
            self._desired.set_routes(prefix.family, [prefix.as_int], [self.desired_for(prefix)])

    def set_desired(self, changes: BestPathChanges) -> None:
        """Set the desired routes that follow from best-path changes.

        Adjacent prefixes are sent far apart: the kernel removes a million sorted prefixes three
        times slower than shuffled ones (peers.md section 1).
        """
        if self.defers_learned:
            changes = _without_learned(changes)
        family, keys, best_paths = changes
        distinct = {id(best_path): best_path for best_path in best_paths}
        desired = {number: _desired_route(best_path) for number, best_path in distinct.items()}
        values = [desired[id(best_path)] for best_path in best_paths]
        if any(
            desired_route is not None and desired_route.left_out
            for desired_route in desired.values()
        ):
            self._log_left_out(changes, desired)
        if self.kernel_filter:
            values = self._filtered(changes, values)
        self._desired.set_routes(family, _scattered(keys), _scattered(values))

    def _log_left_out(
        self, changes: BestPathChanges, desired: dict[int, DesiredRoute | None]
    ) -> None:
        """Log each best path with more next hops than are used, with its first prefix."""
        for key, best_path in zip(changes.keys, changes.best_paths, strict=True):
            desired_route = desired.pop(id(best_path), None)
            if desired_route is not None and desired_route.left_out:
                used = len(desired_route.next_hops)
                self._log.emit(
                    "next-hops-left-out",
                    prefix=Prefix.from_int(changes.family, key),
                    next_hops=used + desired_route.left_out,
                    used=used,
                )

    def _filtered(
        self, changes: BestPathChanges, desired: list[DesiredRoute | None]
    ) -> list[DesiredRoute | None]:
        """Apply the kernel filter: None for a route that it denies, and the attributes that it
        sets. Equal routes stay one object."""
        shared: dict[DesiredRoute | None, DesiredRoute | None] = {}
        rows = zip(changes.keys, changes.best_paths, desired, strict=True)
        filtered = [
            self._filtered_route(Prefix.from_int(changes.family, key), best_path, desired_route)
            for key, best_path, desired_route in rows
        ]
        return [shared.setdefault(desired_route, desired_route) for desired_route in filtered]

    def _filtered_route(
        self, prefix: Prefix, best_path: BestPath | None, desired: DesiredRoute | None
    ) -> DesiredRoute | None:
        if best_path is None or desired is None or not self.kernel_filter:
            return desired
        best = best_path.attributes
        if self.kernel_filter.refusal(prefix, best.source, best.tag):
            return None
        attributes = self.kernel_filter.attributes_of(prefix, best)
        return (
            desired if attributes is desired.attributes else desired._replace(attributes=attributes)
        )

    def desired_for(self, prefix: Prefix) -> DesiredRoute | None:
        """Compute the desired route of a prefix; None if routed should install none."""
        best_path = self._best(prefix)
        return self._filtered_route(prefix, best_path, _desired_route(best_path))

    def defer_learned(self) -> None:
        """Keep learned routes from the kernel until `release_learned`."""
        self.defers_learned = True

    def release_learned(self, best_paths: Iterable[BestPathChanges]) -> None:
        """Set the desired routes of everything that NUP has learned.

        Args:
            best_paths: of all prefixes of the RIB.
        """
        self.defers_learned = False
        for of_family in best_paths:
            for prefix, best_path in of_family.items():
                if is_learned(best_path):
                    self.refresh(prefix)


def is_learned(best_path: BestPath | None) -> bool:
    """Return whether a best path was learned by NUP."""
    return best_path is not None and best_path.attributes.source in _LEARNED


def _without_learned(changes: BestPathChanges) -> BestPathChanges:
    """Leave out the best paths that were learned by NUP."""
    rows = [
        (key, best_path)
        for key, best_path in zip(changes.keys, changes.best_paths, strict=True)
        if not is_learned(best_path)
    ]
    return BestPathChanges(changes.family, [key for key, _ in rows], [row for _, row in rows])


def _scattered(column: list[T]) -> list[T]:
    """Reorder a column so that adjacent entries are far apart."""
    return list(itertools.chain.from_iterable(column[first::_SCATTER] for first in range(_SCATTER)))


def _desired_route(best_path: BestPath | None) -> DesiredRoute | None:
    """Build the desired route of a best path; None where the kernel has its own route."""
    if best_path is None or best_path.attributes.source in KERNEL_SOURCES:
        return None
    attributes = best_path.attributes
    return DesiredRoute(
        attributes.type, best_path.next_hops, best_path.left_out, attributes.kernel_attributes
    )
