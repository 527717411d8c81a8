"""The optional C extension, if it is built and has this layout version."""

from __future__ import annotations

from ipc.fib_layout import LAYOUT_VERSION

__all__ = ["native"]

try:
    from routed.snapshot import _writer
except ImportError:  # not built, which is allowed
    native = None
else:
    # An extension built from another version of these files is worse than none.
    native = _writer if _writer.LAYOUT_VERSION == LAYOUT_VERSION else None
