"""Keep one engine running: start it, wait for its end, start the next one.

    Supervisor --start_engine--> EngineSession (one incarnation)

An engine that breaks the rules of the channel is killed at once. As after a crash, the kernel
routes stay, and a new engine starts after a back-off that doubles. After RESTARTS_MAX deaths within
RESTART_WINDOW_S the daemon gives up and leaves its routes in the kernel. It gives up at once when
the engine has another version than this process, as after an upgrade in place: the next engine
would have that version, too.
"""

from __future__ import annotations

import signal
from collections import deque
from collections.abc import Awaitable, Callable, Iterable

import trio

from ipc.closing import Closer
from ipc.lazy_dataclass import dataclass
from routed import __version__
from routed.config.scalars import EngineUser
from routed.config.schema import SandboxMode
from routed.log.logger import Logger
from routed.model.backoff import Backoff
from routed.parent.engine_process.code_on_disk import CodeOnDisk
from routed.parent.engine_process.conduct import Conduct
from routed.parent.engine_process.send_queue import StateSource
from routed.parent.engine_process.session import EngineFailed, EngineHandlers, EngineSession
from routed.parent.engine_process.spawn import EngineProcess, start_engine

__all__ = ["EngineContext", "Supervisor"]

RESTARTS_MAX = 5
RESTART_WINDOW_S = 60.0
_RESTART = Backoff(first_s=0.05, limit_s=5.0)

_CHANNEL_BUFFER_BYTES = 1024 * 1024


@dataclass(frozen=True, slots=True)
class EngineContext:
    """The collaborators of each engine session."""

    state: StateSource
    """The kernel's state, of which each engine is sent the current value."""
    handlers: EngineHandlers
    """The handlers of the messages that engines send."""
    introduce: Callable[[EngineSession], Awaitable[None]]
    """Configures a new engine and sends it the state; on EngineFailed or OSError it is killed."""
    on_death: Callable[[EngineSession], None]
    """Called after an engine has ended without being stopped."""
    survives_deaths: Callable[[], bool]
    """Called when too many engines have died; True if the next one starts with another
    configuration."""


class Supervisor:
    """The supervisor of the engine, which keeps one running."""

    def __init__(self, log: Logger) -> None:
        """Begin without an engine; record the state of the program's files."""
        self.session: EngineSession | None = None
        self.restarts = 0
        """Number of engines that have died since the daemon started."""
        self.conduct = Conduct()
        self._closer = Closer()
        self._log = log
        self._is_ending = trio.Event()
        """Set once no other engine is to be started."""
        self._deaths: deque[float] = deque(maxlen=RESTARTS_MAX)
        self._code = CodeOnDisk()

    @property
    def running(self) -> EngineSession | None:
        """The session of an engine that runs and has applied its configuration, or None."""
        session = self.session
        return session if session is not None and session.is_running else None

    async def run(self, user: EngineUser, sandbox: SandboxMode, context: EngineContext) -> None:
        """Run engines, one after another; return once one was stopped on purpose.

        Args:
            user: user the engines run as.
            sandbox: how engines are confined.
            context: the collaborators of their sessions.

        Raises:
            EngineFailed: too many engines died within RESTART_WINDOW_S, or none can be started.
        """
        while (process := await self._start(user, sandbox)) is not None:
            session = EngineSession(
                process, context.state, context.handlers, self._log, self.conduct, self._closer
            )
            self.session = session
            self._log.emit(
                "engine-started", pid=process.pid, user=user.name, restarts=self.restarts
            )
            problem = ""

            async def introduce(session: EngineSession = session) -> None:
                nonlocal problem
                try:
                    await context.introduce(session)
                except (EngineFailed, OSError) as error:
                    # OSError: no descriptor to spare for its sockets.
                    problem = str(error)
                    session.kill()

            async with trio.open_nursery() as nursery:
                nursery.start_soon(introduce)
                status = await session.run()
                nursery.cancel_scope.cancel()
            if self._is_ending.is_set():
                return
            self.restarts += 1
            context.on_death(session)
            self._record_death(session, problem or status, context.survives_deaths)
            await self._pause(self._delay())

    @property
    def is_next_last(self) -> bool:
        """Whether one more death, after the one being handled, would reach the limit."""
        now = trio.current_time()
        recent = sum(now - death < RESTART_WINDOW_S for death in self._deaths)
        return recent + 1 >= RESTARTS_MAX - 1

    def is_own(self, pid: int) -> bool:
        """Whether a process is an engine, whose exit status its session collects."""
        return self.session is not None and self.session.process.pid == pid

    async def stop(self, *, is_restart: bool) -> None:
        """Stop the engine if there is one, and start no other: `run` returns.

        A running engine may first notify its neighbors that it stops, or that it restarts.
        """
        self._is_ending.set()
        if self.session is not None:
            await self.session.stop(is_restart=is_restart)

    async def _pause(self, delay_s: float) -> None:
        """Sleep, or return early when no other engine is to be started."""
        with trio.move_on_after(delay_s):
            await self._is_ending.wait()

    async def _start(self, user: EngineUser, sandbox: SandboxMode) -> EngineProcess | None:
        """Start an engine; retry while the system has no process or descriptor to spare.

        Returns:
            The engine; None if the supervisor was stopped meanwhile.

        Raises:
            EngineFailed: the daemon's first engine cannot be started at all.
        """
        while not self._is_ending.is_set():
            try:
                return start_engine(user.uid, user.gid, sandbox.value, _CHANNEL_BUFFER_BYTES)
            except OSError as error:
                if self.session is None:
                    raise EngineFailed(f"the engine cannot be started: {error}") from error
                self._log.emit("engine-not-started", error=error)
                await self._pause(_RESTART.limit_s)
        return None

    def _record_death(
        self, session: EngineSession, status: str, survives_deaths: Callable[[], bool]
    ) -> None:
        """Count a death, and decide whether another engine is started.

        Raises:
            EngineFailed: no other engine is started.
        """
        now = trio.current_time()
        self._deaths.append(now)
        if session.was_killed_by(signal.SIGSYS):
            self.conduct.violations["syscall"] += 1
            self._log.emit("sandbox-violated", pid=session.process.pid)
        self._refuse_other_code(session)
        words = _last_sentence(session.final_output) or status
        if self.restarts == 1 and not session.has_run:
            # No engine has ever run here: report the reason at once instead of retrying.
            raise EngineFailed(f"the engine cannot start: {words}")
        is_limit = len(self._deaths) == RESTARTS_MAX and now - self._deaths[0] < RESTART_WINDOW_S
        if is_limit and survives_deaths():
            self._deaths.clear()
        elif is_limit:
            self._log.emit("engine-given-up", deaths=RESTARTS_MAX, within_s=int(RESTART_WINDOW_S))
            raise EngineFailed(f"the engine died {RESTARTS_MAX} times, the last time: {words}")
        self._log.emit(
            "engine-died",
            pid=session.process.pid,
            status=status,
            restart_in_ms=round(self._delay() * 1000),
        )

    def _refuse_other_code(self, session: EngineSession) -> None:
        """Give up at once if no engine that is started now can work with this process.

        Raises:
            EngineFailed: the code on disk differs from the version that this process runs.
        """
        other = session.other_version
        if other is None and not session.has_greeted and self._code.has_changed():
            other = "unknown"  # it ended before its hello
        if other is None:
            return
        self._log.emit("engine-version-differs", parent=__version__, engine=other)
        raise EngineFailed(
            f"the code on disk is not the version that this daemon runs ({__version__}, on disk: "
            f"{other}): start the daemon again; its routes stay in the kernel until then"
        )

    def _delay(self) -> float:
        now = trio.current_time()
        recent = sum(now - death < RESTART_WINDOW_S for death in self._deaths)
        return _RESTART.pause_s(max(recent, 1))


def _last_sentence(lines: Iterable[str]) -> str:
    """Return the last line with text: the frame that Python draws around an exception group gives
    no reason."""
    said = [line.strip("|+- ") for line in lines]
    return next((line for line in reversed(said) if line), "")
