"""The command `routed`, and `python -m routed`.

The signals that a running daemon handles are blocked before modules are imported: a script that
finds the process by its name may send one while Python still reads the modules of the command.
`_signal` is built in, so no file is read for it.
"""

from __future__ import annotations

import sys
from _signal import (  # type: ignore[import-not-found]
    SIG_BLOCK,
    SIGHUP,
    SIGUSR1,
    SIGUSR2,
    pthread_sigmask,
)

__all__ = ["main"]


def main() -> int:
    """Block the signals and run the command. Returns its exit status."""
    pthread_sigmask(SIG_BLOCK, {SIGHUP, SIGUSR1, SIGUSR2})
    from routed.cli import main as run

    return run()


if __name__ == "__main__":
    sys.exit(main())
