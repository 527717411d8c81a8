"""A process of the parent's that exists while it is wanted: started, started again, stopped.

    wanted --start--> ChildSession --ends--> pause --start--> ...
                           '---- not wanted any more ----> stopped

When it dies it is started again, with a pause that doubles up to RESTART's limit. Its death changes
no route and no counter.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import NamedTuple

import trio

from ipc.closing import Closer
from routed.config.scalars import EngineUser
from routed.config.schema import SandboxMode
from routed.log.logger import Logger
from routed.model.backoff import Backoff
from routed.parent.child_session import ChildProtocol, ChildSession
from routed.parent.engine_process import spawn

__all__ = ["ChildKeeper", "ChildKind"]

RESTART = Backoff(first_s=0.05, limit_s=5.0)
STEADY_S = 60.0
"""A process that has lived this long begins with the shortest pause again."""

_CHANNEL_BUFFER_BYTES = 256 * 1024


class ChildKind(NamedTuple):
    """A kind of process."""

    command: tuple[str, ...]
    protocol: ChildProtocol
    started: str
    stopped: str
    died: str
    """Log events."""


class ChildKeeper:
    """Owns the process, and decides when there is one."""

    def __init__(
        self,
        kind: ChildKind,
        is_wanted: Callable[[], bool],
        serve: Callable[[ChildSession], Awaitable[None]],
        log: Logger,
        on_request: Callable[[object], None],
    ) -> None:
        """Begin without a process.

        Args:
            kind: what is started.
            is_wanted: whether there is to be a process; read after each `wake`.
            serve: sends a process what it needs, until cancelled or nothing is left to do.
            log: for starts and ends.
            on_request: called with each request of the process.
        """
        self.restarts = 0
        """Number of processes that have died."""
        self.session: ChildSession | None = None
        self._kind = kind
        self._is_wanted = is_wanted
        self._serve = serve
        self._log = log
        self._on_request = on_request
        self._is_ending = False
        self._has_changed = trio.Event()
        self._closer = Closer()

    def wake(self) -> None:
        """Note that something may have changed."""
        self._has_changed.set()

    async def changed(self, within_s: float = float("inf")) -> None:
        """Wait until something may have changed, or for a time."""
        with trio.move_on_after(within_s):
            await self._has_changed.wait()
        self._has_changed = trio.Event()

    def is_own(self, pid: int) -> bool:
        """Whether a process is this one, whose exit status its session collects."""
        return self.session is not None and self.session.process.pid == pid

    async def run(self, user: EngineUser, sandbox: SandboxMode) -> None:
        """Keep a process running while it is wanted, until `stop` or cancelled.

        Args:
            user: user the process runs as.
            sandbox: how it is confined.
        """
        failures = 0
        while not self._is_ending:
            if not self._is_wanted():
                await self.changed()
                continue
            began = trio.current_time()
            await self._run_process(user, sandbox)
            failures = 1 if trio.current_time() - began > STEADY_S else failures + 1
            if self._is_wanted() and not self._is_ending:
                await trio.sleep(RESTART.pause_s(failures))

    async def stop(self) -> None:
        """Stop the process, in order."""
        self._is_ending = True
        self.wake()
        if self.session is not None:
            await self.session.stop()

    async def _run_process(self, user: EngineUser, sandbox: SandboxMode) -> None:
        """Run one process until it ends."""
        kind = self._kind
        try:
            process = spawn.start_engine(
                user.uid, user.gid, sandbox.value, _CHANNEL_BUFFER_BYTES, kind.command
            )
        except OSError as error:
            self._log.emit(kind.died, pid=0, status=f"cannot be started: {error}")
            return
        self._log.emit(kind.started, pid=process.pid, restarts=self.restarts)
        session = self.session = ChildSession(
            process, kind.protocol, self._log, self._closer, self._on_request
        )
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._serve_greeted, session)
            status = await session.run()
            nursery.cancel_scope.cancel()
        self.session = None
        if self._is_ending or not self._is_wanted():
            self._log.emit(kind.stopped, pid=process.pid)
            return
        self.restarts += 1
        self._log.emit(kind.died, pid=process.pid, status=status)

    async def _serve_greeted(self, session: ChildSession) -> None:
        if await session.wait_greeted():
            await self._serve(session)
