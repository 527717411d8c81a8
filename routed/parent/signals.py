"""The daemon's signals: held from the first instruction until there is somebody to serve them.

    main            HUP, USR1, USR2 held      TERM, INT end a start that holds nothing yet
    before the first file is made             all held
    event loop      receiver opened, then released: what came before is served now
    end             held again, so that a second TERM does not stop the clean-up

A held signal is pending in the kernel, one of each kind, and needs no code here. The default action
of each of them is the end of the process, and the pid file names the process long before the event
loop runs.

The engine leaves them to its parent: it is started with all of them held, sets them to be ignored,
and releases them. A terminal and a service manager signal the whole group, and the engine must live
to say goodbye when its parent says so.
"""

from __future__ import annotations

import signal

__all__ = ["END", "SERVED", "heed_children", "hold", "ignore", "release"]

END = frozenset({signal.SIGTERM, signal.SIGINT})
SERVED = END | {signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2}


def heed_children() -> None:
    """Have ended children wait for us, whatever the program that started us has set.

    An ignored SIGCHLD outlives exec(2), and then the kernel reaps children by itself: nobody learns
    how they ended (waitpid(2), ECHILD).
    """
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGCHLD})


def hold(*numbers: signal.Signals) -> None:
    """Keep these pending from now on; in this thread, and those that it starts."""
    signal.pthread_sigmask(signal.SIG_BLOCK, numbers)


def release() -> None:
    """Deliver all of them again, beginning with those that are pending."""
    signal.pthread_sigmask(signal.SIG_UNBLOCK, SERVED)


def ignore() -> None:
    """Drop all of them from now on, those that are pending as well."""
    for number in SERVED:
        signal.signal(number, signal.SIG_IGN)
    release()
