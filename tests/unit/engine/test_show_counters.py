"""Every counter has a text."""

from __future__ import annotations

from routed.engine.show.counters import NUP_COUNTERS
from routed.nup.events import TraceCode


def test_every_trace_code_has_a_text_of_its_own() -> None:
    assert set(NUP_COUNTERS) == set(TraceCode)
    assert len(set(NUP_COUNTERS.values())) == len(NUP_COUNTERS)
