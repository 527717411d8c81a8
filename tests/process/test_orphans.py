"""Orphans in a container: the daemon as PID 1 reaps them, and none of its own children."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path

import trio
import trio.lowlevel
import trio.testing

from routed.parent.orphans import reap_orphans


def child_that_ends() -> int:
    pid = os.fork()
    if not pid:
        os._exit(0)
    return pid


def is_there(pid: int) -> bool:
    """Whether a process exists, at least as a zombie."""
    return Path(f"/proc/{pid}").exists()


def is_zombie(pid: int) -> bool:
    return ") Z " in Path(f"/proc/{pid}/stat").read_text()


async def until(condition: Callable[[], bool]) -> None:
    with trio.fail_after(30):
        while not condition():  # noqa: ASYNC110  (the kernel tells nobody)
            await trio.sleep(0.01)


async def test_orphans_are_reaped_as_they_end_and_own_children_are_not() -> None:
    own = child_that_ends()
    early = child_that_ends()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(reap_orphans, lambda pid: pid == own)
        await until(lambda: is_zombie(own))
        await trio.testing.wait_all_tasks_blocked()
        assert is_there(own)
        assert os.waitpid(own, os.WNOHANG)[0] == own, "its own waiter has it"  # noqa: ASYNC222
        await until(lambda: not is_there(early))
        late = child_that_ends()
        await until(lambda: not is_there(late))
        nursery.cancel_scope.cancel()


async def test_a_process_without_children_waits() -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(reap_orphans, lambda _pid: False)
        await trio.testing.wait_all_tasks_blocked()
        os.kill(os.getpid(), signal.SIGCHLD)
        await trio.testing.wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
