"""A program inside a router that is asked for `show status` again and again.

Starting routectl takes longer than a daemon's recovery; this one is there already. It runs inside,
because the daemon refuses a client whose process it cannot see (another PID namespace).

    a line on stdin  ->  connect, ask, hang up; the row, or null, as a line of JSON on stdout
"""

from __future__ import annotations

import json
import subprocess
import sys
from types import TracebackType
from typing import Any, Self

import router_config
from inside import Inside
from ipc.blocking import ControlClient, ControlError
from ipc.control import ShowStatus

__all__ = ["Watcher"]

_TIMEOUT_S = 2.0


class Watcher:
    """One such program for each router; a context manager."""

    def __init__(self, lab: Inside, routers: list[str]) -> None:
        """Start them."""
        self._programs = {
            router: lab.popen(
                router,
                [sys.executable, __file__, router_config.socket_path(router)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
            )
            for router in routers
        }

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        for program in self._programs.values():
            with program:
                assert program.stdin is not None
                program.stdin.close()

    def status(self, router: str) -> dict[str, Any] | None:
        """`show status`; None while nobody answers."""
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
