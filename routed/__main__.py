"""The command `routed`, and `python -m routed`.

The signals that a running daemon serves are held before anything is imported: whoever finds the
process by its name may signal it while Python still reads the command's modules. `_signal` is built
in: no file is read for it.
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
    """Hold the signals, then be the command; returns its exit status."""
    pthread_sigmask(SIG_BLOCK, {SIGHUP, SIGUSR1, SIGUSR2})
    from routed.cli import main as run

    return run()


if __name__ == "__main__":
    sys.exit(main())
