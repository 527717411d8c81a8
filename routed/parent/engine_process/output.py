"""What an engine prints: nothing as a rule, and a traceback when it dies of a defect.

    engine --stdout, stderr--> pipe --lines--> the parent's log, and the last of them kept

An engine that was taken over may print without end. So one chunk is read in a turn of the event
loop, and after a full one there is a pause: whoever prints more waits in his own write(2), and
costs the parent a few per cent of a processor at most. How many lines are written is the log's to
limit.

Invariants:
    A line is one line wherever the reads cut it; what is longer than LINE_MAX is several, and what
    is empty is none.
    After the process has ended at most one pipe's worth is left, and all of it is taken.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable

import trio

__all__ = ["CHUNK_BYTES", "LINES_KEPT", "LINE_MAX", "EngineOutput"]

CHUNK_BYTES = 4096
"""Of one read; about 5 ms of work when every line is a single letter."""
PAUSE_S = 0.05
"""After a full chunk: a traceback of average length is a single read."""
LINE_MAX = 1000
"""Bytes."""
LINES_KEPT = 20
_PIPE_BYTES = 65_536
"""What a pipe holds, pipe(7)."""


class EngineOutput:
    """Owns the read end of one engine's standard output and error."""

    def __init__(self, descriptor: int, on_line: Callable[[str], None]) -> None:
        """Args:
        descriptor: the read end; closed by `close`.
        on_line: told each line.
        """
        self.final_output: deque[str] = deque(maxlen=LINES_KEPT)
        """What it printed last, for the message of a daemon that could not start."""
        self._descriptor = descriptor
        self._on_line = on_line
        self._rest = b""
        """Of a line that has no end yet."""
        os.set_blocking(descriptor, False)

    async def relay(self) -> None:
        """Pass on line after line until the process has closed its end."""
        while True:
            await trio.lowlevel.wait_readable(self._descriptor)
            chunk = self._read()
            if not chunk:
                return
            self._take(chunk)
            if len(chunk) == CHUNK_BYTES:
                await trio.sleep(PAUSE_S)

    def drain(self) -> None:
        """Pass on what is left of a process that has ended."""
        for _ in range(_PIPE_BYTES // CHUNK_BYTES):
            chunk = self._read()
            if not chunk:
                break
            self._take(chunk)
        if self._rest:
            self._take(b"\n")

    def close(self) -> None:
        """Let go of the descriptor."""
        os.close(self._descriptor)

    def _read(self) -> bytes:
        """Up to a chunk; nothing at the end of the stream, or when nothing is there just now."""
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
