"""Import what Python imports late, while there is still a file system to import from.

Modules that the engine's code names are imported with it; `tests/meta/test_late_imports.py` holds
that. Python itself imports more when an exception is printed: the modules that format tracebacks
do so for the first time here, on an exception group, because trio raises those.
"""

from __future__ import annotations

import io
import traceback

__all__ = ["load_what_tracebacks_need"]


def load_what_tracebacks_need() -> None:
    """Format a small exception group to nowhere.

    Cost: about a millisecond, most of it reading this file for the source line.
    """
    try:
        raise ExceptionGroup("nothing", [ValueError("nothing")])
    except ExceptionGroup as group:
        traceback.print_exception(group, file=io.StringIO())
