"""What a diagnostic dump (SIGUSR1) says of the engine: facts, in the words of `show`, no secrets.

A dump is for the log of a daemon that nobody can ask any more, so it is bounded: NEIGHBORS_SHOWN
neighbors, the counters that are not zero, no routes.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator

from routed.engine.show.daemon import Reporter

__all__ = ["NEIGHBORS_SHOWN", "engine_facts"]

NEIGHBORS_SHOWN = 100


def engine_facts(reporter: Reporter) -> Iterator[tuple[str, object]]:
    """What, and how it is."""
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
