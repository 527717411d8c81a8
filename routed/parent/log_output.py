"""The daemon's log: where its lines go by the configuration, and the last ones, for `show log`.

    configuration        foreground             background
    file: PATH           that file              that file
    (none)               stderr, or the journal journald or syslog
                         if stderr is it

Invariants:
    A place that cannot be opened changes nothing: the lines go where they went, and say so.
    Nobody waits for a file system but `run` and `reopen`, which give up after OPEN_TIMEOUT_S.
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
from routed.parent.file_threads import open_apart, run_in_thread
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

OPENERS_MAX = 2
"""Threads that a file system may hold; another attempt waits for one of them, as long as it may."""

_STDERR = 2


class DaemonLog:
    """Owns the sink, the level and the lines that are remembered."""

    def __init__(self, config: LogConfig, *, is_foreground: bool) -> None:
        """Open the place that the configuration names.

        Raises:
            OSError: the file cannot be written.
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
        """At info and above, oldest first."""
        self._on_line: Callable[[LogLine], None] = lambda _line: None

    def follow(self, config: LogConfig) -> None:
        """Log by another configuration: at its level from now on, and to its place as soon as `run`
        has opened that."""
        self.logger.level = Level[config.level.name]
        self._config = config
        self._to_open.set()

    async def run(self) -> None:
        """Open what is to be opened, until cancelled."""
        while True:
            await self._to_open.wait()
            self._to_open = trio.Event()
            await self._open_again()

    async def reopen(self) -> None:
        """Somebody may have moved the file away; return when that was looked at."""
        if isinstance(self.logger.sink, FileSink):
            await self._open_again()

    async def _open_again(self) -> None:
        async with self._opening:
            config = self._config
            try:
                sink = await self._sink_of(config)
            except OSError as error:
                self.logger.emit("internal-error", where="log file", error=error.strerror)
            except trio.TooSlowError:
                problem = "the file system does not answer"
                self.logger.emit("internal-error", where="log file", error=problem)
            else:
                self.logger.sink.close()
                self.logger.sink = sink

    async def _sink_of(self, config: LogConfig) -> Sink:
        """Raises:
        OSError: the place cannot be opened.
        trio.TooSlowError: not in time.
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
        """Have a function called with each line that is remembered from now on."""
        self._on_line = on_line

    def begin_thread(self) -> None:
        """Let no file system hold up the daemon from now on; see `FileSink.begin_thread`."""
        self._has_thread = True
        if isinstance(self.logger.sink, FileSink):
            self.logger.sink.begin_thread()

    def close(self) -> None:
        """Write what waits; nothing is logged after it."""
        self.logger.sink.close()

    def begin_reopening(self) -> None:
        """The same, by `run`."""
        if isinstance(self.logger.sink, FileSink):
            self._to_open.set()

    @property
    def level(self) -> str:
        """As the configuration would say it."""
        return self.logger.level.name.lower()

    def set_level(self, level: str) -> None:
        """Log from a level on, until the configuration says otherwise.

        Raises:
            ValueError: there is no such level.
        """
        try:
            wanted = Level[level.upper()]
        except KeyError:
            raise ValueError(f"log level {level!r} does not exist") from None
        # Said by the more talkative of the two: nobody silences the log without a trace in it.
        self.logger.level = min(self.logger.level, wanted)
        self.logger.emit("log-level", level=wanted.name.lower())
        self.logger.level = wanted

    def step_level(self) -> None:
        """One more verbose, from debug round to error."""
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
    """A file that is opened in a thread, perhaps for nobody any more."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._descriptor: int | None = None
        self._is_abandoned = False

    def run(self) -> int:
        """Open it; the caller's from then on, unless it is abandoned.

        Raises:
            OSError: it cannot be opened.
        """
        descriptor = open_apart(lambda: open_log(self._path))
        with self._lock:
            if self._is_abandoned:
                os.close(descriptor)
            self._descriptor = descriptor
        return descriptor

    def abandon(self) -> None:
        """Nobody waits for it any more."""
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
            raise OSError(0, "it leads nowhere in the background: start with --foreground")
        return _file_sink(config, config.file, has_thread=has_thread)
    if is_foreground and not is_journal(_STDERR, os.environ):
        return StreamSink(_STDERR, as_json=as_json)
    return system_sink(as_json=as_json)
