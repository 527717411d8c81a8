"""Which tracker a book has: the C extension's, when it is there, or the Python one."""

from __future__ import annotations

from typing import TypeAlias

from routed.fib.routes import extension as native
from routed.fib.routes.delta import DeltaTracker
from routed.fib.routes.native_tracker import NativeTracker
from routed.fib.routes.ownership import RouteValue
from routed.model.prefix import Family

__all__ = ["RouteTracker", "new_tracker"]

RouteTracker: TypeAlias = DeltaTracker[int, RouteValue] | NativeTracker


def new_tracker(family: Family) -> RouteTracker:
    """An empty one for routes of one family."""
    return DeltaTracker() if native.native is None else NativeTracker(family)
