"""The optional C extension, if it is built and of this version."""

from __future__ import annotations

from collections.abc import Callable

from ipc.fib_layout import LAYOUT_VERSION

__all__ = ["fence", "implementation", "native"]

try:
    from ipc import _search
except ImportError:  # not built, which is allowed
    native = None
else:
    # An extension built from another version of these files is worse than none.
    native = _search if _search.LAYOUT_VERSION == LAYOUT_VERSION else None


def _no_fence() -> None:
    """See `fence`."""


fence: Callable[[], None] = _no_fence if native is None else native.fence
"""Keeps stores to shared memory in order for readers on other processors.

A machine that keeps their order by itself (x86-64) needs no fence; on one that does not (ARM), only
the extension has one."""


def implementation() -> str:
    """Name the code that searches the FIB, as text for people."""
    return "pure Python" if native is None else "C extension"
