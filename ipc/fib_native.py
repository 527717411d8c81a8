"""The optional C extension, when it is there and of this version."""

from __future__ import annotations

from ipc.fib_layout import LAYOUT_VERSION

__all__ = ["implementation", "native"]

try:
    from ipc import _fib
except ImportError:  # not built, which is allowed
    native = None
else:
    # One that was built from another version of these files is worse than none.
    native = _fib if _fib.LAYOUT_VERSION == LAYOUT_VERSION else None


def implementation() -> str:
    """Which code searches the FIB and builds it, in words for people."""
    return "pure Python" if native is None else "C extension"
