"""Runs a program inside a router on the caller's terminal, including shells."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Sequence

from network import Network

__all__ = ["run_on_terminal"]


def run_on_terminal(lab: Network, router: str, command: Sequence[str]) -> int:
    """Run a program with our standard streams. Returns its exit status, in a shell's encoding.

    Raises:
        LabError: there is no such router.
    """
    # The terminal sends Ctrl-C to this process, too; only the program handles it. (A handler that
    # does nothing is used rather than SIG_IGN, which the program would inherit.)
    old_handler = signal.signal(signal.SIGINT, lambda _number, _frame: None)
    try:
        status = lab.popen(router, command).wait()
    finally:
        signal.signal(signal.SIGINT, old_handler)
    _take_terminal_back()
    return status if status >= 0 else 128 - status


def _take_terminal_back() -> None:
    """Make this process group the foreground group again. A shell has made itself the foreground
    group, and cannot restore ours, which has no number in the lab's PID namespace."""
    if not sys.stdin.isatty() or os.tcgetpgrp(sys.stdin.fileno()) == os.getpgrp():
        return
    old_handler = signal.signal(signal.SIGTTOU, signal.SIG_IGN)
    try:
        os.tcsetpgrp(sys.stdin.fileno(), os.getpgrp())
    finally:
        signal.signal(signal.SIGTTOU, old_handler)
