"""The double fork, and the pipe on which the daemon reports that it is ready or why it is not.

    shell --- command ------------- waits on the pipe ----------- exits with the reported status
                 \\ fork, setsid
                  session leader -- exits at once
                     \\ fork
                      daemon ------ ... ready, or the error ---> pipe

The exit status of the command is therefore accurate: 0 means that routes are in the kernel, not
only that a process was forked. The second fork gives up session leadership, so that the daemon
cannot acquire a controlling terminal.

Must be called before any thread or event loop exists (fork copies one thread only).

Format on the pipe: one byte of exit status, then the message in UTF-8, then end of file. End of
file without a byte means that the daemon died without a report, which is reported as an error.
"""

from __future__ import annotations

import os
import resource
import sys

from ipc.standard_streams import open_nothing, write_message
from routed.parent import signals

__all__ = ["OPEN_FILES_MIN", "ReadyPipe", "daemonize", "provide_open_files", "stay_in_foreground"]

OPEN_FILES_MIN = 64
"""Fewest open files with which a start succeeds: a small daemon has half as many."""


def provide_open_files() -> None:
    """Raise the soft limit of open files (RLIMIT_NOFILE) to OPEN_FILES_MIN if it is lower.

    Raises:
        ValueError: the hard limit does not permit that.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft >= OPEN_FILES_MIN or soft == resource.RLIM_INFINITY:
        return
    if hard < OPEN_FILES_MIN and hard != resource.RLIM_INFINITY:
        raise ValueError(
            f"at most {hard} files may be open here (ulimit -n), and a start needs {OPEN_FILES_MIN}"
        )
    resource.setrlimit(resource.RLIMIT_NOFILE, (OPEN_FILES_MIN, hard))


class ReadyPipe:
    """The daemon's end of the pipe, for one report about the start."""

    def __init__(self, descriptor: int | None) -> None:
        """Take over a descriptor.

        Args:
            descriptor: the write end of the pipe; None in the foreground.
        """
        self._descriptor = descriptor

    @property
    def is_open(self) -> bool:
        """Whether the command still waits for the report."""
        return self._descriptor is not None

    def report(self, status: int, message: str = "") -> None:
        """Report the result of the start and close the pipe; later calls have no effect.

        Args:
            status: the exit status for the waiting command, 0 to 255; 0 is ready.
            message: what the command prints on stderr.
        """
        if self._descriptor is None:
            return
        try:
            os.write(self._descriptor, bytes([status]) + message.encode())
        except BrokenPipeError:
            pass  # the command was interrupted; the daemon continues
        finally:
            os.close(self._descriptor)
            self._descriptor = None


def stay_in_foreground() -> ReadyPipe:
    """Continue in the foreground, with the working directory /.

    The engine inherits the working directory, which must not be one that another user may write.
    Every path in the configuration is absolute or relative to the configuration file.

    Returns:
        A closed pipe: no command waits for a report.
    """
    os.chdir("/")
    return ReadyPipe(None)


def daemonize() -> ReadyPipe:
    """Fork into the background; returns in the daemon only.

    The calling process waits for the daemon's report and exits with its status. The daemon has a
    new session without a terminal, the working directory /, umask 022, and standard streams on
    /dev/null.

    Returns:
        The pipe for the report. The caller must report; otherwise the waiting command prints that
        the daemon died.
    """
    read_end, write_end = os.pipe()
    if os.fork():
        signals.unblock()  # only the daemon holds them; the waiting command may be interrupted
        os.close(write_end)
        os._exit(_await_report(read_end))
    os.close(read_end)
    os.setsid()
    if os.fork():
        os._exit(0)
    _detach()
    return ReadyPipe(write_end)


def _await_report(read_end: int) -> int:
    """Wait for the daemon's report, print its message, and return its exit status.

    The status is returned even if the message cannot be printed.
    """
    report = b""
    while chunk := os.read(read_end, 65_536):
        report += chunk
    if not report:
        write_message("routed: the daemon died before it was ready; see its log\n")
        return 1
    if len(report) > 1:
        write_message(report[1:].decode("utf-8", "replace").rstrip("\n") + "\n")
    return report[0]


def _detach() -> None:
    os.chdir("/")
    os.umask(0o022)
    sys.stdout.flush()
    sys.stderr.flush()
    null = open_nothing()
    for stream in (0, 1, 2):
        os.dup2(null, stream)
    if null > 2:
        os.close(null)
