"""One small program in each router, which answers requests over its pipes."""

from __future__ import annotations

import subprocess
import sys
from types import TracebackType
from typing import Self

from inside import Inside

__all__ = ["RouterPrograms"]


class RouterPrograms:
    """Owns the programs; a context manager that ends them."""

    def __init__(self, lab: Inside, arguments: dict[str, list[str]]) -> None:
        """Start the programs.

        Args:
            lab: the lab of the routers.
            arguments: arguments of the Python program in each router, its file first.
        """
        self._programs = {
            router: lab.popen(
                router, [sys.executable, *command], stdin=subprocess.PIPE, stdout=subprocess.PIPE
            )
            for router, command in arguments.items()
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
