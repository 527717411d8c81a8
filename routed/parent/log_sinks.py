"""Destinations of the parent's log lines: stderr, a file, journald or syslog.

    StreamSink   a stream that another process opened: stderr of a foreground daemon
    FileSink     a path: a regular file, a FIFO, a terminal, /dev/stdout
    SyslogSink, JournalSink   datagrams

No sink blocks the daemon. A pipe, a terminal or a FIFO is written only as long as its buffer has
space. A regular file, whose file system may hang, is written by a thread from a bounded queue once
`begin_thread` was called. A line without space is lost; the logger counts it, and the next line
that is written has the count.

Failure: OSError from `write`, which the logger counts. The next `write` raises the error of an
earlier line that the thread could not write.
"""

from __future__ import annotations

import errno
import os
import re
import select
import socket
import stat
import threading
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any

from routed.log.events import Level
from routed.log.logger import LogRecord, Sink, format_json, format_text, timestamp, wall_time
from routed.parent.file_threads import isolate_files

__all__ = [
    "QUEUE_BYTES_MAX",
    "FileSink",
    "JournalSink",
    "StreamSink",
    "SyslogSink",
    "is_journal",
    "is_standard_stream",
    "open_log",
    "system_sink",
]

QUEUE_BYTES_MAX = 1 << 20
"""The most bytes of lines that wait for a file system: some seconds of a busy log."""

LINKS_MAX = 8
"""The most symbolic links that are followed in a row."""

CLOSE_WAIT_S = 1.0
"""The longest time that `close` waits for the thread to write the queued lines."""


class _Channel:
    """A pipe, terminal, FIFO or socket that is written without blocking.

    Other processes may share it, so it is not set to non-blocking mode. If only the beginning of a
    line was written, the line is finished before the next one begins.
    """

    def __init__(self, descriptor: int) -> None:
        """Write to a descriptor, which stays the caller's."""
        self.descriptor = descriptor
        self._poll = select.poll()
        self._poll.register(descriptor, select.POLLOUT)
        self._unfinished = b""

    def write(self, line: bytes) -> None:
        """Write a line, or its beginning if the buffer has no space for all of it.

        Raises:
            BlockingIOError: there is no space; nothing of the line was written.
            OSError: the line cannot be written.
        """
        self._unfinished = self._written(self._unfinished)
        if self._unfinished:
            raise BlockingIOError("the log has no reader")
        rest = self._written(line)
        if len(rest) == len(line):
            raise BlockingIOError("the log has no reader")
        self._unfinished = rest

    def _written(self, data: bytes) -> bytes:
        """Write until there is no space. Returns the data that was not written.

        poll(2) reports a pipe as writable if it has space for PIPE_BUF bytes (pipe(7)).
        """
        while data and self._poll.poll(0):
            written = os.write(self.descriptor, data[: select.PIPE_BUF])
            data = data[written:]
        return data


class StreamSink:
    """A sink on a descriptor that another process opened: stderr of a foreground daemon."""

    def __init__(self, descriptor: int, *, as_json: bool) -> None:
        """Write to a descriptor, which stays the caller's; as JSON or as text."""
        self._channel = _Channel(descriptor)
        self._as_json = as_json

    def write(self, record: LogRecord) -> None:
        """Write one line.

        Raises:
            OSError: there is no space for the line, or it cannot be written.
        """
        self._channel.write(_stamped_line(record, as_json=self._as_json))

    def close(self) -> None:
        """Do nothing: the descriptor belongs to its opener."""


class _FileThread:
    """A thread that writes a regular file from a bounded queue, so that a file system that hangs
    does not block the daemon.

    It shares no other descriptors with the process (`routed.parent.file_threads`).
    """

    def __init__(self, descriptor: int) -> None:
        """Take over a descriptor and start the thread."""
        self._descriptor = descriptor
        self._lines: deque[bytes] = deque()
        self._queued_bytes = 0
        self._has_ended = False
        self._has_own_files = False
        """Whether the descriptor is open twice: in the thread's table and in the process's."""
        self._failure: OSError | None = None
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._run, name="log file", daemon=True)
        self._thread.start()

    def write(self, line: bytes) -> None:
        """Queue a line.

        Raises:
            BlockingIOError: the queue is full.
            OSError: an earlier line could not be written; this one is queued all the same.
        """
        with self._changed:
            failure, self._failure = self._failure, None
            if self._queued_bytes + len(line) > QUEUE_BYTES_MAX:
                raise BlockingIOError("the log file's file system does not answer")
            self._lines.append(line)
            self._queued_bytes += len(line)
            self._changed.notify_all()
        if failure is not None:
            try:
                raise failure
            finally:
                del failure  # its traceback refers to this frame

    def close(self) -> None:
        """Write the queued lines, for at most CLOSE_WAIT_S, and close the descriptor."""
        with self._changed:
            self._has_ended = True
            self._changed.notify_all()
        self._thread.join(CLOSE_WAIT_S)
        if self._has_own_files:
            os.close(self._descriptor)

    def _run(self) -> None:
        self._has_own_files = isolate_files(self._descriptor)
        while (line := self._next_line()) is not None:
            try:
                while line:
                    line = line[os.write(self._descriptor, line) :]
            except OSError as error:
                with self._changed:
                    self._failure = error
        os.close(self._descriptor)

    def _next_line(self) -> bytes | None:
        with self._changed:
            while not self._lines:
                if self._has_ended:
                    return None
                self._changed.wait()
            line = self._lines.popleft()
            self._queued_bytes -= len(line)
            return line


class FileSink:
    """A sink that appends to a file; after a rotation `reopen` opens the new file."""

    def __init__(
        self, path: str, *, as_json: bool, has_thread: bool = False, descriptor: int | None = None
    ) -> None:
        """Open the file.

        Args:
            path: path of a regular file, which is created if it does not exist, or of a FIFO or
                terminal.
            as_json: whether lines are JSON.
            has_thread: whether to begin in the state after `begin_thread`.
            descriptor: a result of `open_log`, which this object owns from now on; None to open
                the path.

        Raises:
            OSError: the file cannot be opened, or is a symbolic link of another user.
        """
        self.path = path
        self._as_json = as_json
        self._has_thread = has_thread
        self._descriptor = -1
        self._writer: _Channel | _FileThread | None = None
        self.use(open_log(path) if descriptor is None else descriptor)

    def use(self, descriptor: int) -> None:
        """Write to another descriptor of the path, a result of `open_log`, from now on."""
        os.set_inheritable(descriptor, False)
        self._close_writer()
        self._descriptor = descriptor
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            self._writer = _Channel(descriptor)
        elif self._has_thread:
            self._writer = _FileThread(descriptor)

    def _close_writer(self) -> None:
        writer, self._writer = self._writer, None
        if isinstance(writer, _FileThread):
            writer.close()  # closes the descriptor as well
        elif self._descriptor >= 0:
            os.close(self._descriptor)
        self._descriptor = -1

    def begin_thread(self) -> None:
        """Write a regular file in a thread from now on. Must be called after the daemon's last
        fork, and after it has dropped its capabilities, which are a property of each thread."""
        self._has_thread = True
        if self._writer is None:
            self._writer = _FileThread(self._descriptor)

    def reopen(self) -> None:
        """Open the path again; the old file stays in use if that fails.

        Raises:
            OSError: the file cannot be opened.
        """
        self.use(open_log(self.path))

    def write(self, record: LogRecord) -> None:
        """Append one line.

        Raises:
            OSError: there is no space for the line, or it cannot be written.
        """
        line = _stamped_line(record, as_json=self._as_json)
        if self._writer is None:
            os.write(self._descriptor, line)
        else:
            self._writer.write(line)

    def close(self) -> None:
        """Write the queued lines, and close the file."""
        self._close_writer()


_MAGIC = re.compile(r"/(?:proc/(?:self|\d+)|dev)/fd/\d+\Z")
"""A path that refers to an open descriptor and not to another path (proc(5))."""


def open_log(path: str) -> int:
    """Open a log for appending, without waiting for a reader. Returns its descriptor.

    A symbolic link is followed only if it belongs to root or to this process's user: in a directory
    that all users can write, any user can create one. The kernel's fs.protected_symlinks has a
    similar rule.

    Raises:
        OSError: the path cannot be opened, or is a link that is not followed.
    """
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOCTTY | os.O_NONBLOCK
    for _ in range(LINKS_MAX):
        if _MAGIC.match(path):
            return _open(path, flags)
        try:
            status = os.lstat(path)
        except FileNotFoundError:
            return _open(path, flags | os.O_NOFOLLOW)
        if not stat.S_ISLNK(status.st_mode):
            return _open(path, flags | os.O_NOFOLLOW)
        if status.st_uid not in (0, os.geteuid()):
            text = f"a symbolic link of uid {status.st_uid}, which routed does not follow"
            raise OSError(0, text)
        path = os.path.join(os.path.dirname(path), os.readlink(path))
    raise OSError(0, f"more than {LINKS_MAX} symbolic links one after the other")


def _open(path: str, flags: int) -> int:
    try:
        return os.open(path, flags, 0o640)
    except OSError as error:
        if error.errno == errno.ENXIO:  # open(2), O_NONBLOCK
            raise OSError(errno.ENXIO, _why_no_reader(path)) from None
        raise


def _why_no_reader(path: str) -> str:
    """Explain the error ENXIO of a path."""
    try:
        mode = os.stat(path).st_mode
    except OSError:
        return os.strerror(errno.ENXIO)
    if stat.S_ISFIFO(mode):
        return "a FIFO without a reader"
    if stat.S_ISSOCK(mode):
        return "a socket, which cannot be opened as a file"
    return "a device that is not there, such as /dev/tty without a terminal"


def is_standard_stream(path: str) -> bool:
    """Whether a path refers to an open descriptor, such as /dev/stdout."""
    return path in ("/dev/stdout", "/dev/stderr") or _MAGIC.match(path) is not None


def _stamped_line(record: LogRecord, *, as_json: bool) -> bytes:
    now = timestamp(wall_time())
    if as_json:
        line = f'{{"time": "{now}", {format_json(record)[1:]}\n'
    else:
        line = f"{now} {record.level.name.lower()} {record.process}: {format_text(record)}\n"
    return line.encode("utf-8", "backslashreplace")


_SYSLOG_DAEMON = 3 << 3
_SYSLOG_SEVERITY = {Level.DEBUG: 7, Level.INFO: 6, Level.WARNING: 4, Level.ERROR: 3}


class _DatagramSink:
    """A sink that sends datagrams to a Unix socket, and connects again if an error occurs."""

    def __init__(self, path: str) -> None:
        """Connect to a socket.

        Raises:
            OSError: no service listens there.
        """
        self._path = path
        self._socket = self._connect()

    def _connect(self) -> socket.socket:
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
        connection.setblocking(False)
        connection.connect(self._path)
        return connection

    def _send(self, datagram: bytes) -> None:
        try:
            self._socket.send(datagram)
        except BlockingIOError:
            raise  # the receiver's queue is full: the line is lost and counted
        except OSError:
            self._socket.close()
            self._socket = self._connect()
            self._socket.send(datagram)

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()


class SyslogSink(_DatagramSink):
    """A sink that sends RFC 3164 datagrams to /dev/log."""

    PATH = "/dev/log"

    def __init__(self, *, as_json: bool, path: str = PATH) -> None:
        super().__init__(path)
        self._as_json = as_json

    def write(self, record: LogRecord) -> None:
        """Send one datagram."""
        text = format_json(record) if self._as_json else format_text(record)
        priority = _SYSLOG_DAEMON | _SYSLOG_SEVERITY[record.level]
        self._send(f"<{priority}>routed[{os.getpid()}]: {record.process}: {text}".encode())


class JournalSink(_DatagramSink):
    """A sink that speaks journald's native protocol: each field of an event is a journal field.

    Source: systemd's native journal protocol, as documented at
    systemd.io/JOURNAL_NATIVE_PROTOCOL; values with newlines use the length-prefixed form.
    """

    PATH = "/run/systemd/journal/socket"

    def __init__(self, path: str = PATH) -> None:
        super().__init__(path)

    def write(self, record: LogRecord) -> None:
        """Send one entry."""
        entry: dict[str, str] = {
            "MESSAGE": format_text(record),
            "PRIORITY": str(_SYSLOG_SEVERITY[record.level]),
            "SYSLOG_IDENTIFIER": "routed",
            "ROUTED_EVENT": record.event,
            "ROUTED_PROCESS": record.process,
        }
        entry |= {f"ROUTED_{name.upper()}": value for name, value in record.fields.items()}
        self._send(b"".join(_journal_field(name, value) for name, value in entry.items()))


def _journal_field(name: str, value: str) -> bytes:
    encoded = value.encode("utf-8", "backslashreplace")
    if b"\n" in encoded:
        return name.encode() + b"\n" + len(encoded).to_bytes(8, "little") + encoded + b"\n"
    return name.encode() + b"=" + encoded + b"\n"


class _NullSink:
    """A sink that discards lines, for a machine with neither journald nor syslog."""

    def write(self, record: LogRecord) -> None:
        """Discard a line."""

    def close(self) -> None:
        """Do nothing."""


def is_journal(descriptor: int, environment: Mapping[str, str]) -> bool:
    """Whether a stream leads to journald; then its native protocol preserves more than lines.

    Source: systemd.exec(5), $JOURNAL_STREAM: device and inode of the stream that systemd opened.
    """
    status = os.fstat(descriptor)
    return environment.get("JOURNAL_STREAM") == f"{status.st_dev}:{status.st_ino}"


def system_sink(*, as_json: bool) -> Sink:
    """Open the log of the system: journald, else syslog, else a sink that discards lines."""
    makers: list[Callable[[], Any]] = [JournalSink, lambda: SyslogSink(as_json=as_json)]
    for make in makers:
        try:
            sink: Sink = make()
        except OSError:  # no service listens there
            continue
        return sink
    return _NullSink()
