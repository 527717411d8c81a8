"""The daemon's log: where its lines go by the configuration, and the last ones, for `show log`.

    configuration        foreground             background
    file: PATH           that file              that file
    (none)               stderr, or the journal journald or syslog
                         if stderr is it

Invariants:
    A place that cannot be opened changes nothing: the lines go where they went, and say so.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable

from routed.config.schema import LogConfig, LogFormat
from routed.imsg.messages import LOG_LINES_KEPT, LogLine
from routed.log.events import Level
from routed.log.logger import Logger, LogRecord, Sink, format_text, wall_time
from routed.parent.log_sinks import (
    FileSink,
    StreamSink,
    is_journal,
    is_standard_stream,
    system_sink,
)

__all__ = ["DaemonLog"]

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
        sink = _open_sink(config, is_foreground=is_foreground, has_thread=False)
        self.logger = Logger(sink, "parent", Level[config.level.name])
        self.logger.on_record = self._remember
        self.lines: deque[LogLine] = deque(maxlen=LOG_LINES_KEPT)
        """At info and above, oldest first."""
        self.on_line: Callable[[LogLine], None] | None = None
        """Told each of them as it comes."""

    def follow(self, config: LogConfig) -> None:
        """Log by another configuration from now on."""
        self.logger.level = Level[config.level.name]
        try:
            sink = _open_sink(
                config, is_foreground=self._is_foreground, has_thread=self._has_thread
            )
        except OSError as error:
            self.logger.emit("internal-error", where="log file", error=error.strerror)
            return
        self.logger.sink.close()
        self.logger.sink = sink

    def begin_thread(self) -> None:
        """Let no file system hold up the daemon from now on; see `FileSink.begin_thread`."""
        self._has_thread = True
        if isinstance(self.logger.sink, FileSink):
            self.logger.sink.begin_thread()

    def close(self) -> None:
        """Write what waits; nothing is logged after it."""
        self.logger.sink.close()

    def reopen(self) -> None:
        """Somebody may have moved the file away."""
        if isinstance(self.logger.sink, FileSink):
            try:
                self.logger.sink.reopen()
            except OSError as error:
                self.logger.emit("internal-error", where="log file", error=error.strerror)

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
        if self.on_line is not None:
            self.on_line(line)


def _open_sink(config: LogConfig, *, is_foreground: bool, has_thread: bool) -> Sink:
    as_json = config.format is LogFormat.JSON
    if config.file is not None:
        if not is_foreground and is_standard_stream(config.file):
            raise OSError(0, "it leads nowhere in the background: start with --foreground")
        return FileSink(config.file, as_json=as_json, has_thread=has_thread)
    if is_foreground and not is_journal(_STDERR, os.environ):
        return StreamSink(_STDERR, as_json=as_json)
    return system_sink(as_json=as_json)
