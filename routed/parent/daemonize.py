"""The double fork, and a pipe on which the daemon says *ready* or what went wrong.

    shell --- command ------------- waits on the pipe ----------- exits with the daemon's word
                 \\ fork, setsid
                  session leader -- exits at once
                     \\ fork
                      daemon ------ ... ready, or the error ---> pipe

The shell's exit status is then the truth: 0 means that routes are in the kernel, not that a process
was forked. The second fork gives up session leadership, so that no terminal can become ours.

Must be called before any thread or event loop exists (fork copies one thread only).

Wire form on the pipe: one byte of exit status, then the message as UTF-8, then end of file. End of
file without a byte means that the daemon died without a word, which is an error of its own.
"""

from __future__ import annotations

import os
import sys

from ipc.standard_streams import open_nothing, write_message
from routed.parent import signals

__all__ = ["ReadyPipe", "daemonize", "stay_in_foreground"]


class ReadyPipe:
    """The daemon's end: says once how starting went."""

    def __init__(self, descriptor: int | None) -> None:
        """Args: descriptor of the pipe's write end, or None in the foreground."""
        self._descriptor = descriptor

    @property
    def is_open(self) -> bool:
        """Whether somebody still waits for the word."""
        return self._descriptor is not None

    def report(self, status: int, message: str = "") -> None:
        """Say how it went and close; later calls say nothing.

        Args:
            status: the exit status for the waiting command, 0 to 255; 0 is ready.
            message: what the command prints on stderr.
        """
        if self._descriptor is None:
            return
        try:
            os.write(self._descriptor, bytes([status]) + message.encode())
        except BrokenPipeError:
            pass  # the command was interrupted; the daemon goes on
        finally:
            os.close(self._descriptor)
            self._descriptor = None


def stay_in_foreground() -> ReadyPipe:
    """Go on as the process that was started, from / as a daemon does.

    The engine starts where we are, and a foreign directory is no place for it. Every path in the
    configuration is absolute, or starts from the configuration file.

    Returns:
        A pipe on which nobody waits.
    """
    os.chdir("/")
    return ReadyPipe(None)


def daemonize() -> ReadyPipe:
    """Fork into the background; returns in the daemon only.

    The calling process waits for the daemon's word and exits with it. In the daemon: a new session
    without a terminal, working directory /, umask 022, standard streams on /dev/null.

    Returns:
        The pipe to report on. The caller must report, or the waiting command says that the daemon
        died.
    """
    read_end, write_end = os.pipe()
    if os.fork():
        signals.release()  # they are the daemon's to hold; whoever waits may be interrupted
        os.close(write_end)
        os._exit(_await_word(read_end))
    os.close(read_end)
    os.setsid()
    if os.fork():
        os._exit(0)
    _detach()
    return ReadyPipe(write_end)


def _await_word(read_end: int) -> int:
    """Wait for the daemon's word, print it, and return the exit status that it names.

    That is the status also where the word cannot be printed.
    """
    word = b""
    while chunk := os.read(read_end, 65_536):
        word += chunk
    if not word:
        write_message("routed: the daemon died before it was ready; see its log\n")
        return 1
    if len(word) > 1:
        write_message(word[1:].decode("utf-8", "replace").rstrip("\n") + "\n")
    return word[0]


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
