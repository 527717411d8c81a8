"""The tracker of a FIB table: the C extension's if it is built, otherwise the one in Python."""

from __future__ import annotations

from typing import TypeAlias

from routed.fib.routes import extension
from routed.fib.routes.delta import DeltaTracker
from routed.fib.routes.native_tracker import NativeTracker
from routed.fib.routes.ownership import RouteValue
from routed.model.prefix import Family

__all__ = ["RouteTracker", "new_tracker"]

RouteTracker: TypeAlias = DeltaTracker[int, RouteValue] | NativeTracker


def new_tracker(family: Family) -> RouteTracker:
    """Create an empty tracker for routes of one family."""
    return DeltaTracker() if extension.native is None else NativeTracker(family)
