"""Standard streams that a program was started without, as by `program >&-`.

A descriptor that is not open is the next one that anything opens gets: what is printed later would
go into a pid file or a socket. So the places are taken by /dev/null first.
"""

from __future__ import annotations

import os
import sys

__all__ = ["occupy_standard_streams"]


def occupy_standard_streams() -> None:
    """Open /dev/null in the place of each standard stream that is closed.

    To be called before anything else is opened.
    """
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # the lowest free number, which is this one
            os.set_inheritable(descriptor, True)
    if sys.stdin is None:
        sys.stdin = open(0, closefd=False)  # noqa: SIM115  (it stays open, like the original)
    if sys.stdout is None:
        sys.stdout = open(1, "w", closefd=False)  # noqa: SIM115
    if sys.stderr is None:
        sys.stderr = open(2, "w", closefd=False)  # noqa: SIM115
