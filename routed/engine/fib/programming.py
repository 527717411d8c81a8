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

from collections.abc import Callable, Iterable

from routed.config.schema import FibConfig, KernelRule, TableConfig
from routed.engine.fib.desired import DesiredFib
from routed.engine.fib.desired_tables import DesiredTables
from routed.engine.fib.latency import ConvergenceClock
from routed.engine.fib.table_programming import TableProgramming
from routed.imsg.messages import NEXT_HOPS_TO_VERIFY_MAX, FibUpdate, NextHopsToVerify
from routed.log.logger import Logger
from routed.model.prefix import Address, Prefix
from routed.nup.events import AdjacencyChanged
from routed.rib.table import BestPath

__all__ = ["FibProgramming"]


class FibProgramming(TableProgramming):
    """Programming of the main table. Owns the next hops to verify, and what may be sent now, of all
    tables."""

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
        super().__init__(kernel_rules, best, desired, log)
        self.tables = DesiredTables(desired)
        """The desired routes of all tables."""
        self._convergence = convergence
        self._priority = fib.priority
        self._other_tables: frozenset[int] = frozenset()
        self._to_verify: dict[tuple[Address, int], None] = {}
        """Next hops that are likely dead, not sent yet."""
        self._must_verify = False
        """Whether the RIB has yet to decide without some next hop."""
        self._has_verified = False
        self._has_decided = False
        self._must_decide = False
        """Whether the tables of a new configuration are yet to be decided."""
        self._has_sent_first = False
        self._is_in_sync = False
        self._has_sent_in_sync = False

    # --- desired routes

    def apply(
        self,
        fib: FibConfig,
        kernel_rules: tuple[KernelRule, ...],
        tables: Iterable[TableConfig] = (),
    ) -> bool:
        """Apply another configuration. Returns whether `refresh` is due for every prefix.

        Under another table or priority the parent begins without a route. It removes the former
        ones, and those of other tables that were taken out, when this engine is in sync again.
        """
        others = frozenset(entry.table_id for entry in tables)
        has_other_rules = self.set_kernel_rules(kernel_rules)
        has_moved = (self._desired.table_id, self._priority) != (fib.table_id, fib.priority)
        if has_moved or others != self._other_tables:
            self._has_sent_in_sync = False
        self._must_decide |= others != self._other_tables
        self._desired.set_table(fib.table_id)
        self._priority, self._other_tables = fib.priority, others
        return has_moved or has_other_rules

    def pop_update(self) -> FibUpdate | None:
        """Take the next desired routes to send; None if there are none, or nothing is decided yet.

        The first update is sent even without routes: it says that the engine has decided, and the
        daemon's readiness waits for that.
        """
        if not self._has_decided:
            return None
        if self._has_sent_first:
            update = self.tables.pop_update()
        else:
            self._has_sent_first = True
            update = self.tables.pop_first_update()
        if update is not None:
            self._convergence.sent(update.serial, is_all=not self.tables.has_unsent)
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
        self._must_decide = False

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
        if not self._has_verified or self._must_verify or self.tables.has_unsent:
            return False
        self._has_verified = False
        return True

    # --- in sync

    def set_in_sync(self) -> None:
        """Record that the router desires all that it will desire after a start."""
        self._is_in_sync = True

    def pop_in_sync(self) -> bool:
        """Return whether "in sync" is to be sent now: after every desired route, once for each
        set of tables and priority."""
        if not self._is_in_sync or self._has_sent_in_sync:
            return False
        if self._must_decide or self.tables.has_unsent:
            return False
        self._has_sent_in_sync = True
        return True
