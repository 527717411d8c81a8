"""A program inside a router that queries `show status` on request.

Starting routectl takes longer than a daemon's recovery; this program is running already. It runs
inside, because the daemon refuses a client whose process it cannot see (another PID namespace).

    a line on stdin  ->  connect, query, disconnect; the row, or null, as a line of JSON on stdout
"""

from __future__ import annotations

import json
import sys
from typing import Any

import router_config
from inside import Inside
from ipc.blocking import ControlClient, ControlError
from ipc.control import ShowStatus
from router_programs import RouterPrograms

__all__ = ["Watcher"]

_TIMEOUT_S = 2.0


class Watcher(RouterPrograms):
    """One such program for each router; a context manager."""

    def __init__(self, lab: Inside, routers: list[str]) -> None:
        """Start the programs."""
        super().__init__(
            lab, {router: [__file__, router_config.socket_path(router)] for router in routers}
        )

    def status(self, router: str) -> dict[str, Any] | None:
        """Return the row of `show status`; None if the daemon does not answer."""
        program = self._programs[router]
        assert program.stdin is not None
        assert program.stdout is not None
        program.stdin.write("\n")
        program.stdin.flush()
        answer: dict[str, Any] | None = json.loads(program.stdout.readline())
        return answer


def _ask(path: str) -> dict[str, object] | None:
    try:
        with ControlClient(path, timeout_s=_TIMEOUT_S) as client:
            return next(iter(client.ask(ShowStatus()).rows()), None)
    except ControlError:
        return None


if __name__ == "__main__":
    for _ in sys.stdin:
        print(json.dumps(_ask(sys.argv[1])), flush=True)
