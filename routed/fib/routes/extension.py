"""The optional C extension, when it is there and of this version."""

from __future__ import annotations

__all__ = ["implementation", "native"]

_INTERFACE_VERSION = 1

try:
    from routed.fib.routes import _native
except ImportError:  # not built, which is allowed
    native = None
else:
    # One that was built from another version of these files is worse than none.
    native = _native if _native.INTERFACE_VERSION == _INTERFACE_VERSION else None


def implementation() -> str:
    """Which code keeps the books of the kernel's tables, in words for people."""
    return "pure Python" if native is None else "C extension"
