"""The daemon's log: its destination by the configuration, and the last lines for `show log`.

    configuration        foreground                     background
    file: PATH           that file                      that file
    (none)               stderr; journald's socket if   journald, else syslog
                         stderr leads to journald

Invariants:
    If a destination cannot be opened, the log keeps its present one, with a line about the error.
    Only `run` and `reopen` wait for a file system; they give up after OPEN_TIMEOUT_S.
"""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Callable

import trio

from routed.config.schema import LogConfig, LogFormat
from routed.imsg.messages import LOG_LINES_KEPT, LogLine
from routed.log.events import Level
from routed.log.logger import Logger, LogRecord, Sink, format_text, wall_time
from routed.parent.file_threads import open_isolated, run_in_thread
from routed.parent.log_sinks import (
    FileSink,
    StreamSink,
    is_journal,
    is_standard_stream,
    open_log,
    system_sink,
)

__all__ = ["DaemonLog"]

OPEN_TIMEOUT_S = 5.0
"""The time limit of opening a log file."""

OPENERS_MAX = 2
"""The most threads that hang in a file system; another attempt waits until one ends, or its time
limit."""

_STDERR = 2


class DaemonLog:
    """The owner of the sink, the level and the last lines."""

    def __init__(self, config: LogConfig, *, is_foreground: bool) -> None:
        """Open the destination.

        Args:
            config: the section `log` of the configuration.
            is_foreground: whether the daemon runs in the foreground.

        Raises:
            OSError: the destination cannot be opened.
        """
        self._is_foreground = is_foreground
        self._has_thread = False
        self._config = config
        self._to_open = trio.Event()
        self._opening = trio.Lock()
        self._openers = trio.CapacityLimiter(OPENERS_MAX)
        sink = _open_sink(config, is_foreground=is_foreground, has_thread=False)
        self.logger = Logger(sink, "parent", Level[config.level.name])
        self.logger.on_record = self._remember
        self.lines: deque[LogLine] = deque(maxlen=LOG_LINES_KEPT)
        """The last lines at level info and above, oldest first."""
        self._on_line: Callable[[LogLine], None] = lambda _line: None

    def follow(self, config: LogConfig) -> None:
        """Apply another configuration: its level at once, its destination when `run` has opened
        it."""
        self.logger.level = Level[config.level.name]
        self._config = config
        self._to_open.set()

    async def run(self) -> None:
        """Open new destinations in the background, until cancelled."""
        while True:
            await self._to_open.wait()
            self._to_open = trio.Event()
            await self._open_again()

    async def reopen(self) -> str:
        """Open the path of the log file again, because the file may have been renamed; wait for
        it.

        Returns:
            Why it was not opened; empty if it was. The log keeps its present file then.
        """
        if not isinstance(self.logger.sink, FileSink):
            return "the log is not a file"
        return await self._open_again()

    async def _open_again(self) -> str:
        """Open the destination. Returns why it was not opened; empty if it was."""
        async with self._opening:
            config = self._config
            try:
                sink = await self._sink_of(config)
            except OSError as error:
                problem = error.strerror or str(error)
            except trio.TooSlowError:
                problem = "the file system does not answer"
            else:
                self.logger.sink.close()
                self.logger.sink = sink
                return ""
            self.logger.emit("internal-error", where="log file", error=problem)
            return f"{config.file}: {problem}"

    async def _sink_of(self, config: LogConfig) -> Sink:
        """Open the destination of a configuration.

        Raises:
            OSError: it cannot be opened.
            trio.TooSlowError: it was not opened in time.
        """
        path = config.file
        if path is None or is_standard_stream(path):
            return _open_sink(
                config, is_foreground=self._is_foreground, has_thread=self._has_thread
            )
        opening = _Opening(path)
        try:
            with trio.fail_after(OPEN_TIMEOUT_S):
                descriptor = await run_in_thread(opening.run, self._openers)
        except BaseException:
            opening.abandon()
            raise
        return _file_sink(config, path, has_thread=self._has_thread, descriptor=descriptor)

    def subscribe(self, on_line: Callable[[LogLine], None]) -> None:
        """Set the function that is called with each line that is added to `lines`."""
        self._on_line = on_line

    def begin_thread(self) -> None:
        """Write log files in a thread from now on; see `FileSink.begin_thread`."""
        self._has_thread = True
        if isinstance(self.logger.sink, FileSink):
            self.logger.sink.begin_thread()

    def close(self) -> None:
        """Write the queued lines, and close the log."""
        self.logger.sink.close()

    def begin_reopening(self) -> None:
        """Let `run` open the path of the log file again, without waiting for it."""
        if isinstance(self.logger.sink, FileSink):
            self._to_open.set()

    @property
    def level(self) -> str:
        """The present level, as in the configuration."""
        return self.logger.level.name.lower()

    def set_level(self, level: str) -> None:
        """Set the level, until a configuration with a log section that changed is applied.

        Raises:
            ValueError: there is no such level.
        """
        try:
            wanted = Level[level.upper()]
        except KeyError:
            raise ValueError(f"log level {level!r} does not exist") from None
        # Logged at the more verbose of the two levels, so that each change leaves a line.
        self.logger.level = min(self.logger.level, wanted)
        self.logger.emit("log-level", level=wanted.name.lower())
        self.logger.level = wanted

    def step_level(self) -> None:
        """Set the next more verbose level; after debug comes error."""
        levels = list(Level)
        self.set_level(levels[levels.index(self.logger.level) - 1].name)

    def _remember(self, record: LogRecord) -> None:
        if record.level < Level.INFO:
            return
        level, text = record.level.name.lower(), format_text(record)
        line = LogLine(wall_time(), level, record.process, record.event, text)
        self.lines.append(line)
        self._on_line(line)


class _Opening:
    """The opening of a file in a thread, whose caller may give up."""

    def __init__(self, path: str) -> None:
        """Prepare to open a path; `run` opens it."""
        self._path = path
        self._lock = threading.Lock()
        self._descriptor: int | None = None
        self._is_abandoned = False

    def run(self) -> int:
        """Open the file; runs in the thread. Returns a descriptor, closed already if abandoned.

        Raises:
            OSError: the file cannot be opened.
        """
        descriptor = open_isolated(lambda: open_log(self._path))
        with self._lock:
            if self._is_abandoned:
                os.close(descriptor)
            self._descriptor = descriptor
        return descriptor

    def abandon(self) -> None:
        """Close the descriptor, now or as soon as the file is open."""
        with self._lock:
            self._is_abandoned = True
            if self._descriptor is not None:
                os.close(self._descriptor)


def _file_sink(
    config: LogConfig, path: str, *, has_thread: bool, descriptor: int | None = None
) -> FileSink:
    as_json = config.format is LogFormat.JSON
    return FileSink(path, as_json=as_json, has_thread=has_thread, descriptor=descriptor)


def _open_sink(config: LogConfig, *, is_foreground: bool, has_thread: bool) -> Sink:
    as_json = config.format is LogFormat.JSON
    if config.file is not None:
        if not is_foreground and is_standard_stream(config.file):
            raise OSError(0, "it has no destination in the background: start with --foreground")
        return _file_sink(config, config.file, has_thread=has_thread)
    if is_foreground and not is_journal(_STDERR, os.environ):
        return StreamSink(_STDERR, as_json=as_json)
    return system_sink(as_json=as_json)
