"""The daemon's signals: blocked from the first instruction until the event loop handles them.

    main            HUP, USR1, USR2 blocked   TERM, INT end a start that has created nothing yet
    before the first file is created          all blocked
    event loop      receiver opened, then unblocked: pending signals are handled now
    end             blocked again, so that a second TERM does not interrupt the clean-up

A blocked signal is pending in the kernel, one of each number, and needs no code here. The default
action of each of these signals is to end the process, and the pid file has the pid of the process
long before the event loop runs.

The engine leaves the signals to its parent: it is started with all of them blocked, sets them to be
ignored, and unblocks them. A terminal and a service manager send signals to the whole process
group, and the engine must run until its parent makes it send a GOODBYE.
"""

from __future__ import annotations

import signal

__all__ = ["END", "HANDLED", "block", "ignore", "restore_child_signal", "unblock"]

END = frozenset({signal.SIGTERM, signal.SIGINT})
"""The signals that stop the daemon."""
HANDLED = END | {signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2}
"""The signals that the daemon handles."""


def restore_child_signal() -> None:
    """Restore the default handling of SIGCHLD, which the starting program may have changed.

    An ignored SIGCHLD is inherited through exec(2). Then the kernel reaps children by itself, and
    their exit status is lost (waitpid(2), ECHILD).
    """
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGCHLD})


def block(*numbers: signal.Signals) -> None:
    """Block these signals from now on, in this thread and in those that it starts."""
    signal.pthread_sigmask(signal.SIG_BLOCK, numbers)


def unblock() -> None:
    """Unblock all handled signals; pending ones are delivered at once."""
    signal.pthread_sigmask(signal.SIG_UNBLOCK, HANDLED)


def ignore() -> None:
    """Ignore all handled signals from now on, including pending ones, and unblock them."""
    for number in HANDLED:
        signal.signal(number, signal.SIG_IGN)
    unblock()
