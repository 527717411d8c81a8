"""Outputs that accumulate until the caller drains them, and the counters of trace codes.

One object, shared by all parts of an instance that emit outputs.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from routed.model.prefix import Address
from routed.nup.events import Output, Trace, TraceCode

__all__ = ["OutputLog"]


class OutputLog:
    """Outputs in order, and how often each trace code has happened."""

    def __init__(self) -> None:
        self._outputs: list[Output] = []
        self._counters: Counter[TraceCode] = Counter()

    def emit(self, output: Output) -> None:
        """Add an output."""
        self._outputs.append(output)

    def count(self, code: TraceCode, times: int = 1) -> None:
        """Count an event that is too frequent or too normal to be traced."""
        self._counters[code] += times

    def trace(
        self, code: TraceCode, ifindex: int, source: Address | None, detail: str = ""
    ) -> None:
        """Count an event and emit a trace of it."""
        self._counters[code] += 1
        self._outputs.append(Trace(code, ifindex, source, detail))

    def drain(self) -> list[Output]:
        """Return all outputs since the last call."""
        drained, self._outputs = self._outputs, []
        return drained

    def counters(self) -> Mapping[str, int]:
        """Return every code's count, by its value."""
        return {code.value: self._counters[code] for code in TraceCode}
