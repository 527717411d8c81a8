"""What the parent is asked for: desired routes, suspects, and the word that they were judged.

    BestChanges --want--> DesiredFib --next_update--> parent, kernel
    an adjacency or a link that is lost --> suspects --> parent: out of every group, at once
    the decision about them, and all that it wants, was said --> "judged"

A suspected next hop is taken out of the kernel's groups before anything is decided. Once the RIB
has decided without it, and every desired route that follows was said, the parent learns that it
need not remember the suspicion.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import TypeVar

from routed.config.schema import Config
from routed.engine.fib.desired import DesiredFib, DesiredRoute
from routed.engine.fib.filter import KernelFilter
from routed.imsg.messages import FibUpdate, NextHopsToVerify
from routed.log.logger import Logger
from routed.model.prefix import Address, Prefix
from routed.model.route import RouteSource
from routed.nup.events import AdjacencyChanged
from routed.rib.table import BestPath, BestPathChanges

__all__ = ["KERNELS_OWN", "NEXT_HOPS_TO_VERIFY_MAX", "FibRequests", "is_learned"]

KERNELS_OWN = frozenset({RouteSource.CONNECTED, RouteSource.KERNEL})
"""Best routes that the kernel has by itself."""

_LEARNED = frozenset({RouteSource.NEIGHBOR, RouteSource.REDISTRIBUTED})

NEXT_HOPS_TO_VERIFY_MAX = 1000
"""Next hops in one message; what is beyond waits for the RIB."""

_SCATTER = 64

T = TypeVar("T")


class FibRequests:
    """Owns the desired routes and the suspicions."""

    def __init__(
        self, config: Config, best: Callable[[Prefix], BestPath | None], log: Logger
    ) -> None:
        """Begin with no desired route.

        Args:
            config: the first configuration.
            best: what the RIB has selected for a prefix.
            log: for routes with more next hops than are used.
        """
        self._best = best
        self._log = log
        self.desired = DesiredFib(config.fib.table_id, self.desired_for)
        self._priority = config.fib.priority
        self.kernel_filter = KernelFilter(config.filters.kernel)
        """What the RIB decides and the kernel does not get."""
        self.defers_learned = False
        """After a restart, until NUP has heard everybody: the kernel forwards by what an earlier
        life has learned, and part of the neighbors' tables may lead in a circle."""
        self._to_verify: dict[tuple[Address, int], None] = {}
        """Next hops that are likely dead, and the parent does not know."""
        self._must_verify = False
        """Something may be suspected that the RIB has not decided about."""
        self._has_verified = False
        self._has_said_first = False

    # --- desired routes

    def follow(self, config: Config) -> bool:
        """Take on another configuration; whether every prefix is to be wanted again.

        The parent gives up what it keeps under another table or priority by itself, and begins with
        nothing there.
        """
        before = self.desired.table_id, self._priority, self.kernel_filter.rules
        self.kernel_filter = KernelFilter(config.filters.kernel)
        self.desired.table_id, self._priority = config.fib.table_id, config.fib.priority
        return before != (self.desired.table_id, self._priority, self.kernel_filter.rules)

    def want_again(self, prefix: Prefix) -> None:
        """What is wanted for a prefix may differ, although its best route does not."""
        if not (self.defers_learned and is_learned(self._best(prefix))):
            self.desired.changed(prefix.family, [prefix.as_int], [self.desired_for(prefix)])

    def set_desired(self, changes: BestPathChanges) -> None:
        """Want in the kernel what was decided.

        Neighbors of the table are told far apart: the kernel takes a sorted million out three times
        slower than a shuffled one (peers.md section 1).
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
            self._say_cut(changes, desired)
        if self.kernel_filter:
            values = self._filtered(changes, values)
        self.desired.changed(family, _scattered(keys), _scattered(values))

    def _say_cut(self, changes: BestPathChanges, desired: dict[int, DesiredRoute | None]) -> None:
        """Log what is cut, with the first prefix of each choice that is."""
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
        """The same desired routes, without those that stay out of the kernel."""
        rows = zip(changes.keys, changes.best_paths, desired, strict=True)
        return [
            None
            if desired_route is None
            or self._kept_out(Prefix.from_int(changes.family, key), best_path)
            else desired_route
            for key, best_path, desired_route in rows
        ]

    def _kept_out(self, prefix: Prefix, best_path: BestPath | None) -> bool:
        if best_path is None or not self.kernel_filter:
            return False
        best = best_path.attributes
        return bool(self.kernel_filter.refusal(prefix, best.source, best.tag))

    def desired_for(self, prefix: Prefix) -> DesiredRoute | None:
        best_path = self._best(prefix)
        return None if self._kept_out(prefix, best_path) else _desired_route(best_path)

    def next_update(self) -> FibUpdate | None:
        """The next desired routes to send; None when there is nothing to say now.

        The first update is sent even when nothing is wanted: it says "I have decided", on which the
        daemon's readiness waits.
        """
        if self._has_said_first:
            return self.desired.pop_update()
        self._has_said_first = True
        return self.desired.pop_first_update()

    # --- suspects

    def must_verify(self) -> None:
        """A next hop may have died; the next decision is about it."""
        self._must_verify = True

    def begin_decision(self) -> bool:
        """Whether the decision that begins now is about suspects."""
        must_verify, self._must_verify = self._must_verify, False
        return must_verify

    def end_decision(self, *, is_judgment: bool) -> None:
        """It is made, and its desired routes are here."""
        self._has_verified |= is_judgment

    def suspect(self, change: AdjacencyChanged) -> bool:
        """Have what an adjacency has lost taken out of the kernel's groups, before anything is
        decided; whether there is something to say."""
        legs = [(hop.via, hop.ifindex) for hop in change.lost_next_hops if hop.via is not None]
        if change.lost_next_hops:
            self._to_verify.update(dict.fromkeys(legs))
            self.must_verify()
        return bool(change.lost_next_hops)

    def pop_next_hops_to_verify(self) -> NextHopsToVerify | None:
        """Next hops that are likely dead, to be said before everything else."""
        legs, self._to_verify = tuple(self._to_verify), {}
        return NextHopsToVerify(legs[:NEXT_HOPS_TO_VERIFY_MAX]) if legs else None

    def pop_next_hops_verified(self) -> bool:
        """Whether "judged" is to be said now: after every desired route that follows from it."""
        if not self._has_verified or self._must_verify or self.desired.has_unsent:
            return False
        self._has_verified = False
        return True


def is_learned(best_path: BestPath | None) -> bool:
    """Whether NUP has brought what was selected."""
    return best_path is not None and best_path.attributes.source in _LEARNED


def _without_learned(changes: BestPathChanges) -> BestPathChanges:
    rows = [
        (key, best_path)
        for key, best_path in zip(changes.keys, changes.best_paths, strict=True)
        if not is_learned(best_path)
    ]
    return BestPathChanges(changes.family, [key for key, _ in rows], [row for _, row in rows])


def _scattered(column: list[T]) -> list[T]:
    """The same, what stood side by side far apart."""
    return list(itertools.chain.from_iterable(column[first::_SCATTER] for first in range(_SCATTER)))


def _desired_route(best_path: BestPath | None) -> DesiredRoute | None:
    """What the kernel should have; None where it has a route by itself."""
    if best_path is None or best_path.attributes.source in KERNELS_OWN:
        return None
    return DesiredRoute(best_path.attributes.type, best_path.next_hops, best_path.left_out)
