"""A supervisor and its engines, for tests of the configuration that each side runs: each step
may be the last.

An engine is configured as a real one is: `prepare`, `commit`, or nothing when it is stopped. The
next one starts a moment after its death and gets the configuration that `ConfigSwitch` returns.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar, cast

import trio

from routed.config.load import load_text
from routed.config.plan import LinkPlan
from routed.config.schema import Config, InterfaceConfig, LogConfig
from routed.imsg.messages import ConfBegin, ReloadFinished
from routed.log.events import Level
from routed.log.logger import Logger, LogRecord
from routed.model.martians import MartianRules
from routed.model.secret import SharedSecret
from routed.parent.config_reader import ConfigReader
from routed.parent.config_switch import ConfigSwitch, InForce
from routed.parent.engine_process.session import CONFIGURE_TIMEOUT_S, EngineFailed, EngineSession
from routed.parent.engine_process.supervisor import Supervisor
from routed.parent.instance_lock import OtherInstanceError
from routed.parent.kernel import KernelSyncs
from routed.parent.kernel_settings import KernelSettings
from routed.parent.nup_sockets import NupSockets
from routed.parent.startup import Opened

RESTART_S = 0.05

_T = TypeVar("_T")


class DirectReader(ConfigReader):
    """Reads at once: a thread and a virtual clock do not know of each other."""

    async def _read(self, read: Callable[[], _T]) -> _T:
        return read()

    async def write(self, write: Callable[[], object]) -> None:
        write()

    async def compute(self, call: Callable[[], _T]) -> _T:
        await trio.lowlevel.checkpoint()
        return call()

    async def decode(self, text: str, name: str) -> Config:
        await trio.lowlevel.checkpoint()
        return load_text(text, name)


class Sink:
    """Records the log lines."""

    def __init__(self) -> None:
        self.records: list[LogRecord] = []

    def write(self, record: LogRecord) -> None:
        self.records.append(record)

    def close(self) -> None:
        pass


class FakeListeners:
    """Metrics can be served anywhere, unless `is_taken`."""

    is_taken = False

    def prepare_metrics(self, where: object) -> None:
        from routed.parent.listeners import ListenerError

        if self.is_taken and where is not None:
            raise ListenerError(f"metrics at {where}: address in use")

    def replace_metrics(self, listener: object) -> None:
        pass

    def copy_metrics(self) -> None:
        return None


class FakeLog:
    def __init__(self, logger: Logger) -> None:
        self.logger = logger

    def begin_reopening(self) -> None:
        pass

    def follow(self, config: LogConfig) -> None:
        pass


class FakeReporter:
    """Counts the reloads that the service manager is notified of."""

    def __init__(self) -> None:
        self.reloads = 0

    @contextmanager
    def reload_announced(self) -> Iterator[None]:
        self.reloads += 1
        yield


class FakeAnswers:
    """Keeps each answer with its ticket, instead of sending it to an engine."""

    def __init__(self) -> None:
        self.answers_in, self.answers = trio.open_memory_channel[tuple[int, ReloadFinished]](100)
        self.notices: list[object] = []

    def send(self, ticket: int, answer: ReloadFinished) -> None:
        self.answers_in.send_nowait((ticket, answer))

    def notify(self, message: object) -> None:
        self.notices.append(message)


def _settings_of(config: Config) -> KernelSettings:
    return KernelSettings.of(config.fib, config.rules, config.learn, config.tables)


class FakeKernel:
    """The sections and the martians that the kernel side follows."""

    def __init__(self, config: Config) -> None:
        self.sections = _settings_of(config)
        self.admission = FakeAdmission(config.martians)

    def follow(self, new: KernelSettings) -> None:
        self.sections = new


class FakeAdmission:
    """The martians that may be installed."""

    def __init__(self, martians: MartianRules) -> None:
        self.martians = martians

    def follow(self, martians: MartianRules) -> None:
        self.martians = martians


class FakeNupSockets:
    """One link, on which NUP runs by both configurations."""

    def __init__(self, config: Config) -> None:
        self.interfaces = config.interfaces

    def follow(self, interfaces: tuple[InterfaceConfig, ...]) -> None:
        self.interfaces = interfaces

    def reconcile_all(self) -> None:
        pass

    def link_plans(self, new: tuple[InterfaceConfig, ...]) -> list[LinkPlan]:
        return []


class FakeInstance:
    """Holds the name of a protocol number, as a real lock does."""

    def __init__(self) -> None:
        self.is_held = True
        self.is_taken = False
        """Whether another daemon holds the name."""
        self.problem = ""
        """Reason why the name cannot be taken; a second daemon is not detected then."""

    async def claim_again(self) -> str:
        if self.problem:
            return self.problem
        if self.is_taken:
            raise OtherInstanceError("another routed has protocol 205")
        self.is_held = True
        return ""


class FakeOpened:
    started_at_ns = 0

    def __init__(self, logger: Logger) -> None:
        self.instance = FakeInstance()
        self.listeners = FakeListeners()
        self.log = FakeLog(logger)


class FakeEngine:
    """One engine, from its start to its end."""

    def __init__(self, step: Callable[[str, FakeEngine], None]) -> None:
        """Args: step, called with the name of each step before it; may kill or stop this engine."""
        self.runs_by: Config | None = None
        self.is_running = False
        self.is_stopped = False
        self.died = trio.Event()
        self._step_hook = step
        self.prepared: Config | None = None

    def kill(self) -> None:
        self.is_running = False
        self.died.set()

    async def prepare(
        self, config: Config, secrets: tuple[SharedSecret, ...], begin: Callable[[int], ConfBegin]
    ) -> None:
        await self._step("prepare")
        self.prepared = config
        await self._step("prepared")

    async def commit(self) -> None:
        await self._step("commit")
        self.runs_by = self.prepared
        await self._step("committed")
        self.is_running = True

    def send(self, message: object, **_: object) -> None:
        pass

    async def _step(self, name: str) -> None:
        await trio.lowlevel.checkpoint()
        self._step_hook(name, self)
        if self.is_stopped:
            with trio.move_on_after(CONFIGURE_TIMEOUT_S):
                await self.died.wait()
            raise EngineFailed("the engine did not accept the configuration")
        if self.died.is_set():
            raise EngineFailed("the engine did not accept the configuration")


class FakeParent:
    """The real `ConfigSwitch` among fakes of its collaborators, with one engine after another."""

    def __init__(self, path: Path, started_by: Config) -> None:
        self.sink = Sink()
        self.log = Logger(self.sink, "parent", Level.DEBUG)
        self.restarts = 0
        self.session: FakeEngine | None = None
        self.on_step: Callable[[str, FakeEngine], None] = lambda _name, _engine: None
        self.kernel = FakeKernel(started_by)
        self.opened = FakeOpened(self.log)
        self.reader = DirectReader(str(path))
        self.nup_sockets = FakeNupSockets(started_by)
        self.switch = ConfigSwitch(
            InForce(started_by),
            self.reader,
            cast("Opened", self.opened),
            cast("Supervisor", self),
            cast("KernelSyncs", self.kernel),
            cast("NupSockets", self.nup_sockets),
        )

    @property
    def running(self) -> FakeEngine | None:
        return self.session if self.session is not None and self.session.is_running else None

    async def run_engines(self) -> None:
        """One engine after another."""
        while True:
            engine = self.session = FakeEngine(lambda name, engine: self.on_step(name, engine))
            try:
                await self.switch.configure(cast("EngineSession", engine))
            except EngineFailed:
                engine.kill()
            await engine.died.wait()
            self.switch.engine_ended()
            self.restarts += 1
            await trio.sleep(RESTART_S)

    def follows(self, config: Config) -> bool:
        """Return whether each component of the parent has its sections of a configuration."""
        return (
            self.kernel.sections,
            self.kernel.admission.martians,
            self.nup_sockets.interfaces,
        ) == (
            _settings_of(config),
            config.martians,
            config.interfaces,
        )
