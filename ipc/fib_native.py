"""The optional C extension, when it is there and of this version."""

from __future__ import annotations

from collections.abc import Callable

from ipc.fib_layout import LAYOUT_VERSION

__all__ = ["fence", "implementation", "native"]

try:
    from ipc import _fib
except ImportError:  # not built, which is allowed
    native = None
else:
    # One that was built from another version of these files is worse than none.
    native = _fib if _fib.LAYOUT_VERSION == LAYOUT_VERSION else None


def _no_fence() -> None:
    """See `fence`."""


fence: Callable[[], None] = _no_fence if native is None else native.fence
"""Keeps stores to shared memory in order, for readers on other processors.

A machine that keeps them by itself (x86-64) needs nothing; on one that does not (ARM), it takes the
extension to be sure."""


def implementation() -> str:
    """Which code searches the FIB and builds it, in words for people."""
    return "pure Python" if native is None else "C extension"
