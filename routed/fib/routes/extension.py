"""The optional C extension, if it is built and of this version."""

from __future__ import annotations

__all__ = ["implementation", "native"]

_INTERFACE_VERSION = 1

try:
    from routed.fib.routes import _routes
except ImportError:  # not built, which is allowed
    native = None
else:
    # An extension built from another version of these files is worse than none.
    native = _routes if _routes.INTERFACE_VERSION == _INTERFACE_VERSION else None


def implementation() -> str:
    """Name the code that holds the kernel's tables, as text for people."""
    return "pure Python" if native is None else "C extension"
