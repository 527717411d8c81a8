"""Reaping of orphaned processes, if the daemon is PID 1 of a container.

A process whose parent ends becomes a child of PID 1 (pid_namespaces(7)). When it ends, it stays a
zombie until PID 1 waits for it.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from typing import NoReturn

import trio

__all__ = ["is_init", "reap_orphans"]

OWN_CHILD_S = 0.05
"""The pause after which to look again, if a child that another task waits for has ended."""


def is_init() -> bool:
    """Whether this process becomes the parent of orphans."""
    return os.getpid() == 1


async def reap_orphans(is_own: Callable[[int], bool]) -> NoReturn:
    """Reap orphans when they end, until cancelled.

    Args:
        is_own: returns whether another task waits for the process with this pid.
    """
    with trio.open_signal_receiver(signal.SIGCHLD) as ended:
        while True:
            await _reap_all(is_own)
            await anext(ended)


async def _reap_all(is_own: Callable[[int], bool]) -> None:
    """Reap all orphans that have ended so far."""
    peek = os.WEXITED | os.WNOHANG | os.WNOWAIT
    while True:
        try:
            found = os.waitid(os.P_ALL, 0, peek)  # noqa: ASYNC222  (WNOHANG)
        except ChildProcessError:
            return
        if found is None:
            return
        if is_own(found.si_pid):
            await trio.sleep(OWN_CHILD_S)
        else:
            os.waitid(os.P_PID, found.si_pid, os.WEXITED | os.WNOHANG)  # noqa: ASYNC222
