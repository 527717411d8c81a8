"""The inputs and outputs of the loop that synchronises the kernel FIB.

desired routes --DesiredChanges--> FibSync --RouteKernel--> kernel
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
    """The part of a kernel that the loop needs: `RequestSocket`, or the tests' fake."""

    async def dump_routes(
        self, table_id: int, family: Family, receive: Callable[[SeenRoute, Sequence[int]], None]
    ) -> None:
        """Read one table of one family. DumpInterrupted: it must be read again; NetlinkError: it is
        refused."""
        ...

    def apply(self, batches: Sequence[FibBatch]) -> list[Refusals]:
        """Apply all batches. Returns the refusals of each; NetlinkError if they are not known."""
        ...


class FibRows(NamedTuple):
    """Desired routes for one table and family, side by side."""

    table_id: int
    family: Family
    keys: Sequence[int]
    """`Prefix.as_int` of each, canonical."""
    values: Sequence[RouteValue]


class FibRemovals(NamedTuple):
    """Prefixes of one table and family that are no longer desired."""

    table_id: int
    family: Family
    keys: Sequence[int]


class DesiredChanges(NamedTuple):
    """One update of the engine's desired routes."""

    serial: int
    """`Progress.applied_serial` reaches it once all its routes were tried."""
    install: Sequence[FibRows]
    remove: Sequence[FibRemovals]
    completes_start: bool = False
    """Whether this update completes what the engine had decided when it sent its first one."""


class ResyncReport(NamedTuple):
    """The result of a resync."""

    routes: int
    """Number of our routes in the kernel, after the comparison."""
    missing: int
    changed: int
    took_s: float


class Progress(NamedTuple):
    """Changes since the last report to the engine."""

    applied_serial: int
    """Every desired route up to this update was tried."""
    failures: tuple[FibFailure, ...]
    """New failures, and those with a new reason."""
    recovered: tuple[tuple[int, Prefix], ...]
    """(table, prefix) of routes that no longer fail."""
    counters: FibCounters
    preferred: tuple[PreferredRoute, ...] = ()
    """Foreign routes that the kernel prefers to ours, new or changed."""
    unpreferred: tuple[tuple[int, Prefix], ...] = ()
    """(table, prefix) of routes to which the kernel no longer prefers a foreign one."""
