"""Run a program inside a router on the caller's terminal, shells included."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Sequence

from network import Network

__all__ = ["run_on_terminal"]


def run_on_terminal(lab: Network, router: str, command: Sequence[str]) -> int:
    """Run a program with our standard streams; its exit status, as a shell would tell it.

    Raises:
        LabError: there is no such router.
    """
    # The terminal sends a Ctrl-C to us, too; what it means is the program's to say. (A handler
    # that does nothing, not SIG_IGN, which the program would inherit.)
    old_handler = signal.signal(signal.SIGINT, lambda _number, _frame: None)
    try:
        status = lab.popen(router, command).wait()
    finally:
        signal.signal(signal.SIGINT, old_handler)
    _take_terminal_back()
    return status if status >= 0 else 128 - status


def _take_terminal_back() -> None:
    """A shell made itself the foreground process group, and cannot name ours to give it back:
    our group has no number in the lab's PID namespace."""
    if not sys.stdin.isatty() or os.tcgetpgrp(sys.stdin.fileno()) == os.getpgrp():
        return
    old_handler = signal.signal(signal.SIGTTOU, signal.SIG_IGN)
    try:
        os.tcsetpgrp(sys.stdin.fileno(), os.getpgrp())
    finally:
        signal.signal(signal.SIGTTOU, old_handler)
