"""Import modules that Python would import later, before the file system becomes inaccessible.

Modules that the engine's code names are imported with it; `tests/meta/test_late_imports.py` checks
that. Python itself imports more modules when it formats a traceback, so one is formatted here: that
of an exception group, because trio raises those.
"""

from __future__ import annotations

import io
import traceback

__all__ = ["load_what_tracebacks_need"]


def load_what_tracebacks_need() -> None:
    """Format a small exception group and discard the text.

    Cost: about a millisecond, most of it to read this file for the source line.
    """
    try:
        raise ExceptionGroup("nothing", [ValueError("nothing")])
    except ExceptionGroup as group:
        traceback.print_exception(group, file=io.StringIO())
