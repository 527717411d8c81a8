"""What the parent is asked for: wishes, suspects, and the word that they were judged.

    BestChanges --want--> FibWishes --next_update--> parent, kernel
    an adjacency or a link that is lost --> suspects --> parent: out of every group, at once
    the decision about them, and all that it wants, was said --> "judged"

A suspected next hop is taken out of the kernel's groups before anything is decided. Once the RIB
has decided without it, and every wish that follows was said, the parent learns that it need not
remember the suspicion.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import TypeVar

from routed.config.schema import Config
from routed.engine.fib.desired import FibWishes, Wish
from routed.engine.fib.filter import KernelFilter
from routed.imsg.messages import FibUpdate, NextHopsSuspected
from routed.log.logger import Logger
from routed.model.prefix import Address, Prefix
from routed.model.route import RouteSource
from routed.nup.events import AdjacencyChanged
from routed.rib.table import BestChanges, Selection

__all__ = ["KERNELS_OWN", "SUSPECTS_MAX", "FibRequests", "is_learned"]

KERNELS_OWN = frozenset({RouteSource.CONNECTED, RouteSource.KERNEL})
"""Best routes that the kernel has by itself."""

_LEARNED = frozenset({RouteSource.NEIGHBOR, RouteSource.REDISTRIBUTED})

SUSPECTS_MAX = 1000
"""Next hops in one message; what is beyond waits for the RIB."""

_SCATTER = 64

T = TypeVar("T")


class FibRequests:
    """Owns the wishes and the suspicions."""

    def __init__(
        self, config: Config, best: Callable[[Prefix], Selection | None], log: Logger
    ) -> None:
        """Begin with no wish.

        Args:
            config: the first configuration.
            best: what the RIB has selected for a prefix.
            log: for routes with more next hops than are used.
        """
        self._best = best
        self._log = log
        self.wishes = FibWishes(config.fib.table_id, self.wish_of)
        self._priority = config.fib.priority
        self.kernel_filter = KernelFilter(config.filters.kernel)
        """What the RIB decides and the kernel does not get."""
        self.defers_learned = False
        """After a restart, until NUP has heard everybody: the kernel forwards by what an earlier
        life has learned, and part of the neighbors' tables may lead in a circle."""
        self._suspects: dict[tuple[Address, int], None] = {}
        """Next hops that are likely dead, and the parent does not know."""
        self._must_judge = False
        """Something may be suspected that the RIB has not decided about."""
        self._has_judged = False
        self._has_said_first = False

    # --- wishes

    def follow(self, config: Config) -> bool:
        """Take on another configuration; whether every prefix is to be wanted again.

        The parent gives up what it keeps under another table or priority by itself, and begins with
        nothing there.
        """
        before = self.wishes.table_id, self._priority, self.kernel_filter.rules
        self.kernel_filter = KernelFilter(config.filters.kernel)
        self.wishes.table_id, self._priority = config.fib.table_id, config.fib.priority
        return before != (self.wishes.table_id, self._priority, self.kernel_filter.rules)

    def want_again(self, prefix: Prefix) -> None:
        """What is wanted for a prefix may differ, although its best route does not."""
        if not (self.defers_learned and is_learned(self._best(prefix))):
            self.wishes.changed(prefix.family, [prefix.as_int], [self.wish_of(prefix)])

    def want(self, changes: BestChanges) -> None:
        """Want in the kernel what was decided.

        Neighbors of the table are told far apart: the kernel takes a sorted million out three times
        slower than a shuffled one (peers.md section 1).
        """
        if self.defers_learned:
            changes = _without_learned(changes)
        family, keys, selections = changes
        distinct = {id(selection): selection for selection in selections}
        wishes = {number: _wish_for(selection) for number, selection in distinct.items()}
        wanted = [wishes[id(selection)] for selection in selections]
        if any(wish is not None and wish.left_out for wish in wishes.values()):
            self._say_cut(changes, wishes)
        if self.kernel_filter:
            wanted = self._filtered(changes, wanted)
        self.wishes.changed(family, _scattered(keys), _scattered(wanted))

    def _say_cut(self, changes: BestChanges, wishes: dict[int, Wish | None]) -> None:
        """Log what is cut, with the first prefix of each choice that is."""
        for key, selection in zip(changes.keys, changes.selections, strict=True):
            wish = wishes.pop(id(selection), None)
            if wish is not None and wish.left_out:
                used = len(wish.next_hops)
                self._log.emit(
                    "next-hops-left-out",
                    prefix=Prefix.from_int(changes.family, key),
                    next_hops=used + wish.left_out,
                    used=used,
                )

    def _filtered(self, changes: BestChanges, wishes: list[Wish | None]) -> list[Wish | None]:
        """The same wishes, without those that stay out of the kernel."""
        rows = zip(changes.keys, changes.selections, wishes, strict=True)
        return [
            None
            if wish is None or self._kept_out(Prefix.from_int(changes.family, key), selection)
            else wish
            for key, selection, wish in rows
        ]

    def _kept_out(self, prefix: Prefix, selection: Selection | None) -> bool:
        if selection is None or not self.kernel_filter:
            return False
        best = selection.attributes
        return bool(self.kernel_filter.refusal(prefix, best.source, best.tag))

    def wish_of(self, prefix: Prefix) -> Wish | None:
        selection = self._best(prefix)
        return None if self._kept_out(prefix, selection) else _wish_for(selection)

    def next_update(self) -> FibUpdate | None:
        """The next wishes to send; None when there is nothing to say now.

        The first update is sent even when nothing is wanted: it says "I have decided", on which the
        daemon's readiness waits.
        """
        if self._has_said_first:
            return self.wishes.take_update()
        self._has_said_first = True
        return self.wishes.take_first_update()

    # --- suspects

    def must_judge(self) -> None:
        """A next hop may have died; the next decision is about it."""
        self._must_judge = True

    def begin_decision(self) -> bool:
        """Whether the decision that begins now is about suspects."""
        must_judge, self._must_judge = self._must_judge, False
        return must_judge

    def end_decision(self, *, is_judgment: bool) -> None:
        """It is made, and its wishes are here."""
        self._has_judged |= is_judgment

    def suspect(self, change: AdjacencyChanged) -> bool:
        """Have what an adjacency has lost taken out of the kernel's groups, before anything is
        decided; whether there is something to say."""
        legs = [(hop.via, hop.ifindex) for hop in change.lost_next_hops if hop.via is not None]
        if change.lost_next_hops:
            self._suspects.update(dict.fromkeys(legs))
            self.must_judge()
        return bool(change.lost_next_hops)

    def take_suspects(self) -> NextHopsSuspected | None:
        """Next hops that are likely dead, to be said before everything else."""
        legs, self._suspects = tuple(self._suspects), {}
        return NextHopsSuspected(legs[:SUSPECTS_MAX]) if legs else None

    def take_judged(self) -> bool:
        """Whether "judged" is to be said now: after every wish that follows from it."""
        if not self._has_judged or self._must_judge or self.wishes.has_unsaid:
            return False
        self._has_judged = False
        return True


def is_learned(selection: Selection | None) -> bool:
    """Whether NUP has brought what was selected."""
    return selection is not None and selection.attributes.source in _LEARNED


def _without_learned(changes: BestChanges) -> BestChanges:
    rows = [
        (key, selection)
        for key, selection in zip(changes.keys, changes.selections, strict=True)
        if not is_learned(selection)
    ]
    return BestChanges(changes.family, [key for key, _ in rows], [row for _, row in rows])


def _scattered(column: list[T]) -> list[T]:
    """The same, what stood side by side far apart."""
    return list(itertools.chain.from_iterable(column[first::_SCATTER] for first in range(_SCATTER)))


def _wish_for(selection: Selection | None) -> Wish | None:
    """What the kernel should have; None where it has a route by itself."""
    if selection is None or selection.attributes.source in KERNELS_OWN:
        return None
    return Wish(selection.attributes.type, selection.next_hops, selection.left_out)
