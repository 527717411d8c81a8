"""Programming of the kernel FIB: the messages to the parent about it, and their order.

    best-path changes --set_desired--> DesiredFib --pop_update--> parent, kernel
    an adjacency or a link is lost --> next hops to verify --> parent: out of all groups, at once
    the decision without them, and all that follows from it, was sent --> "verified"
    the router is in sync, and all that it desires was sent --> "in sync"

A next hop that is likely dead is removed from the kernel's groups before anything is decided. Once
the RIB has decided without it, and every desired route that follows was sent, the parent learns
that it need not remember that next hop any more.

Invariant: nothing is sent about desired routes before the first decision with all links. A decision
without them would withdraw routes that the kernel rightly has.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable
from typing import TypeVar

from routed.config.schema import FibConfig, KernelRule
from routed.engine.fib.desired import DesiredFib, DesiredRoute
from routed.engine.fib.filter import KernelFilter
from routed.engine.fib.latency import ConvergenceClock
from routed.imsg.messages import NEXT_HOPS_TO_VERIFY_MAX, FibUpdate, NextHopsToVerify
from routed.log.logger import Logger
from routed.model.prefix import Address, Prefix
from routed.model.route import RouteSource
from routed.nup.events import AdjacencyChanged
from routed.rib.table import BestPath, BestPathChanges

__all__ = ["KERNEL_SOURCES", "FibProgramming", "is_learned"]

KERNEL_SOURCES = frozenset({RouteSource.CONNECTED, RouteSource.KERNEL})
"""Sources of best routes that the kernel has without this daemon."""

_LEARNED = frozenset({RouteSource.NEIGHBOR, RouteSource.REDISTRIBUTED})

_SCATTER = 64
"""Stride at which neighboring prefixes are sent."""

T = TypeVar("T")


class FibProgramming:
    """Owns the next hops to verify, the kernel filter, and what may be sent now."""

    def __init__(
        self,
        fib: FibConfig,
        kernel_rules: tuple[KernelRule, ...],
        best: Callable[[Prefix], BestPath | None],
        desired: DesiredFib,
        convergence: ConvergenceClock,
        log: Logger,
    ) -> None:
        """Begin with no desired route.

        Args:
            fib: the section of the first configuration.
            kernel_rules: its filter of what may reach the kernel.
            best: looks up the best path of a prefix in the RIB.
            desired: receives the desired routes.
            convergence: times their way to the kernel.
            log: for routes with more next hops than are used.
        """
        self._best = best
        self._desired = desired
        self._convergence = convergence
        self._log = log
        self._priority = fib.priority
        self.kernel_filter = KernelFilter(kernel_rules)
        """Keeps routes that the RIB has selected out of the kernel."""
        self.defers_learned = False
        """After a restart, until NUP is loaded. The kernel forwards by what an earlier engine has
        learned, and a part of the neighbors' tables may form a loop."""
        self._to_verify: dict[tuple[Address, int], None] = {}
        """Next hops that are likely dead, not sent yet."""
        self._must_verify = False
        """Whether the RIB has yet to decide without some next hop."""
        self._has_verified = False
        self._has_decided = False
        self._has_sent_first = False
        self._is_in_sync = False
        self._has_sent_in_sync = False

    # --- desired routes

    def apply(self, fib: FibConfig, kernel_rules: tuple[KernelRule, ...]) -> bool:
        """Apply another configuration. Returns whether `refresh` is due for every prefix.

        Under another table or priority the parent begins without a route; it removes the former
        ones when this engine is in sync again.
        """
        before = self._desired.table_id, self._priority, self.kernel_filter.rules
        self.kernel_filter = KernelFilter(kernel_rules)
        self._desired.set_table(fib.table_id)
        self._priority = fib.priority
        if before[:2] != (fib.table_id, fib.priority):
            self._has_sent_in_sync = False
        return before != (self._desired.table_id, self._priority, self.kernel_filter.rules)

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

    def pop_update(self) -> FibUpdate | None:
        """Take the next desired routes to send; None if there are none, or nothing is decided yet.

        The first update is sent even without routes: it says that the engine has decided, and the
        daemon's readiness waits for that.
        """
        if not self._has_decided:
            return None
        if self._has_sent_first:
            update = self._desired.pop_update()
        else:
            self._has_sent_first = True
            update = self._desired.pop_first_update()
        if update is not None:
            self._convergence.sent(update.serial, is_all=not self._desired.has_unsent)
        return update

    # --- decisions

    def begin_decision(self) -> bool:
        """Return whether the decision that begins now is about next hops to verify."""
        must_verify, self._must_verify = self._must_verify, False
        return must_verify

    def end_decision(self, *, has_verified: bool, has_all_links: bool) -> None:
        """Record that the desired routes of a decision are set.

        Args:
            has_verified: what `begin_decision` has returned.
            has_all_links: whether every link of the host was known to the decision.
        """
        self._has_verified |= has_verified
        self._has_decided = has_all_links

    # --- next hops to verify

    def must_verify(self) -> None:
        """Record that a next hop may have died; the next decision is about it."""
        self._must_verify = True

    def verify_next_hops(self, change: AdjacencyChanged) -> bool:
        """Have the next hops that an adjacency has lost removed from the kernel's groups, before
        anything is decided. Returns whether there is something to send."""
        lost = [(hop.via, hop.ifindex) for hop in change.lost_next_hops if hop.via is not None]
        if change.lost_next_hops:
            self.verify(lost)
        return bool(change.lost_next_hops)

    def verify(self, lost: Iterable[tuple[Address, int]]) -> None:
        """Have next hops, each a gateway and a link, removed from the kernel's groups, until the
        next decision has been sent."""
        self._to_verify.update(dict.fromkeys(lost))
        self.must_verify()

    def pop_next_hops_to_verify(self) -> NextHopsToVerify | None:
        """Take the next hops that are likely dead, to be sent before everything else."""
        next_hops, self._to_verify = tuple(self._to_verify), {}
        return NextHopsToVerify(next_hops[:NEXT_HOPS_TO_VERIFY_MAX]) if next_hops else None

    def pop_next_hops_verified(self) -> bool:
        """Return whether "verified" is to be sent now: after all desired routes that follow."""
        if not self._has_verified or self._must_verify or self._desired.has_unsent:
            return False
        self._has_verified = False
        return True

    # --- in sync

    def set_in_sync(self) -> None:
        """Record that the router desires all that it will desire after a start."""
        self._is_in_sync = True

    def pop_in_sync(self) -> bool:
        """Return whether "in sync" is to be sent now: after every desired route, once for each
        table and priority."""
        if not self._is_in_sync or self._has_sent_in_sync or self._desired.has_unsent:
            return False
        self._has_sent_in_sync = True
        return True


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
