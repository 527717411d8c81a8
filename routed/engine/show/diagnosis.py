"""The engine's part of a diagnostic dump (SIGUSR1): the state as `show` has it, without secrets.

A dump is for the log of a daemon that does not answer clients any more, so it is bounded:
NEIGHBORS_SHOWN neighbors, the counters that are not zero, no routes.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator

from routed.engine.show.daemon import Reporter

__all__ = ["NEIGHBORS_SHOWN", "engine_facts"]

NEIGHBORS_SHOWN = 100


def engine_facts(reporter: Reporter) -> Iterator[tuple[str, object]]:
    """Iterate over the names of facts and their values."""
    status = reporter.status()
    yield "sandbox", status.sandbox
    yield "prefixes", status.routes
    yield "neighbors", status.neighbors
    rows = (row for chunk in reporter.neighbors() for row in chunk)
    for row in itertools.islice(rows, NEIGHBORS_SHOWN):
        yield (
            f"neighbor {row.router_id}",
            f"{row.state} on {row.interface}, {row.prefixes} prefixes, "
            f"{row.retransmissions} retransmissions {row.problem}".rstrip(),
        )
    for part in reporter.memory():
        yield f"memory {part.part}", part.size_bytes
    yield "counters", {view.name: view.value for view in reporter.counters() if view.value}
