"""The engine's standard output: usually nothing, or a traceback if it dies of a defect.

    engine --stdout, stderr--> pipe --lines--> the parent's log, and the last of them kept

A compromised engine may print without end. Hence one chunk is read per turn of the event loop, with
a pause after each full chunk: an engine that prints more blocks in its own write(2), and costs the
parent at most a few per cent of a processor. The log limits the number of lines.

Invariants:
    Lines are independent of the chunks in which they are read; a line longer than LINE_MAX is
    split, and an empty one is left out.
    After the process has ended, at most one pipe buffer is left, and all of it is read.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable

import trio

__all__ = ["CHUNK_BYTES", "LINES_KEPT", "LINE_MAX", "EngineOutput"]

CHUNK_BYTES = 4096
"""The most bytes of one read; about 5 ms of work if every line is a single letter."""
PAUSE_S = 0.05
"""The pause after a full chunk; a traceback of average length fits into one chunk."""
LINE_MAX = 1000
"""The most bytes of a line."""
LINES_KEPT = 20
"""How many of the last lines are kept."""
_PIPE_BYTES = 65_536
"""The capacity of a pipe, pipe(7)."""


class EngineOutput:
    """The owner of the read end of one engine's standard output and error."""

    def __init__(self, descriptor: int, on_line: Callable[[str], None]) -> None:
        """Take over the read end.

        Args:
            descriptor: the read end; `close` closes it.
            on_line: called with each line.
        """
        self.final_output: deque[str] = deque(maxlen=LINES_KEPT)
        """The last lines, for the message of a daemon that could not start."""
        self._descriptor = descriptor
        self._on_line = on_line
        self._rest = b""
        """The beginning of a line that is not complete yet."""
        os.set_blocking(descriptor, False)

    async def relay(self) -> None:
        """Process lines until the engine has closed its end."""
        while True:
            await trio.lowlevel.wait_readable(self._descriptor)
            chunk = self._read()
            if not chunk:
                return
            self._take(chunk)
            if len(chunk) == CHUNK_BYTES:
                await trio.sleep(PAUSE_S)

    def drain(self) -> None:
        """Process the rest of the output of an engine that has ended."""
        for _ in range(_PIPE_BYTES // CHUNK_BYTES):
            chunk = self._read()
            if not chunk:
                break
            self._take(chunk)
        if self._rest:
            self._take(b"\n")

    def close(self) -> None:
        """Close the read end."""
        os.close(self._descriptor)

    def _read(self) -> bytes:
        """Read at most one chunk; empty at the end of the stream, or if the pipe is empty."""
        try:
            return os.read(self._descriptor, CHUNK_BYTES)
        except BlockingIOError:
            return b""

    def _take(self, chunk: bytes) -> None:
        *lines, self._rest = (self._rest + chunk).split(b"\n")
        if len(self._rest) > LINE_MAX:
            lines.append(self._rest)
            self._rest = b""
        for line in lines:
            for start in range(0, len(line), LINE_MAX):
                text = line[start : start + LINE_MAX].decode("utf-8", "backslashreplace")
                self.final_output.append(text)
                self._on_line(text)
