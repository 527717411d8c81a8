"""What is said to the loop that keeps the kernel FIB, and what it says.

desired routes --FibUpdate--> FibSync --RouteKernel--> kernel
                         +--Progress, ResyncReport--> engine, people
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol

from routed.fib.routes.ownership import RouteValue
from routed.fib.routes.plan import FibBatch, Refusals
from routed.fib.routes.tables import SeenRoute
from routed.model.fib import FibCounters, FibFailure, PreferredRoute
from routed.model.prefix import Family, Prefix

__all__ = ["DesiredChanges", "FibRemovals", "FibRows", "Progress", "ResyncReport", "RouteKernel"]


class RouteKernel(Protocol):
    """What the loop needs of a kernel: `netlink.RequestSocket`, or the tests' fake."""

    async def dump_routes(
        self, table_id: int, family: Family, receive: Callable[[SeenRoute, Sequence[int]], None]
    ) -> None:
        """Read one table of one family; DumpInterrupted to be asked again, NetlinkError if
        refused."""
        ...

    def apply(self, batches: Sequence[FibBatch]) -> list[Refusals]:
        """Do all of them; the refusals of each. NetlinkError if those cannot be told."""
        ...


class FibRows(NamedTuple):
    """Desired routes for one table and family, side by side."""

    table_id: int
    family: Family
    keys: Sequence[int]
    """`Prefix.as_int` of each, canonical."""
    values: Sequence[RouteValue]


class FibRemovals(NamedTuple):
    """What is wanted no longer in one table and family."""

    table_id: int
    family: Family
    keys: Sequence[int]


class DesiredChanges(NamedTuple):
    """One message of the engine's desired routes."""

    serial: int
    """`Progress.applied_serial` reaches it when all of it was tried."""
    install: Sequence[FibRows]
    remove: Sequence[FibRemovals]
    completes_start: bool = False
    """With this one, all is here that the engine had decided when it sent its first."""


class ResyncReport(NamedTuple):
    """What reading the kernel again found."""

    routes: int
    """Of ours in the kernel, now that the books are right."""
    missing: int
    changed: int
    took_s: float


class Progress(NamedTuple):
    """What changed since the engine was last told."""

    applied_serial: int
    """Every desired route up to this update was tried."""
    failures: tuple[FibFailure, ...]
    """New or with a new reason."""
    recovered: tuple[tuple[int, Prefix], ...]
    """(table, prefix) that fail no longer."""
    counters: FibCounters
    preferred: tuple[PreferredRoute, ...] = ()
    """Foreign routes that the kernel prefers to ours, new or changed."""
    unpreferred: tuple[tuple[int, Prefix], ...] = ()
    """(table, prefix) where it prefers none any longer."""
