"""The network as NUP knows it: this router, its neighbors, and whoever announces something.

A distance-vector protocol does not know the links between others. What it knows of a router is how
far the nearest of its prefixes is, and which neighbors lead there.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from routed.control.views import TopologyView
from routed.engine.router import Router
from routed.model.prefix import Address

__all__ = ["topology"]

CHUNK_PREFIXES = 1000
"""Prefixes looked at between two turns of the event loop."""


@dataclass(slots=True)
class _Known:
    prefixes: int = 0
    metric: int | None = None
    via: set[Address] = field(default_factory=set)


def topology(router: Router, router_id: Address) -> Iterator[Sequence[TopologyView]]:
    """Every router, this one first; chunks may be empty.

    Cost: a dictionary look-up for each prefix that NUP has learned.
    """
    neighbors = router.neighbors.neighbors(time.monotonic())
    by_hop = {(row.address, row.ifindex): row.router_id for row in neighbors}
    known: dict[Address, _Known] = {}
    origins = list(router.origins.items())
    for start in range(0, len(origins), CHUNK_PREFIXES):
        for prefix, origin in origins[start : start + CHUNK_PREFIXES]:
            entry = known.setdefault(origin, _Known())
            entry.prefixes += 1
            selection = router.rib.best(prefix)
            if selection is None:
                continue
            metric = selection.attributes.metric
            entry.metric = metric if entry.metric is None else min(entry.metric, metric)
            for hop in selection.next_hops:
                leads = None if hop.via is None else by_hop.get((hop.via, hop.ifindex))
                if leads is not None:
                    entry.via.add(leads)
        yield []
    nothing = _Known()
    yield [TopologyView(router_id, "self", "", None, None, None, None, 0, ())]
    yield [
        TopologyView(
            row.router_id,
            "neighbor",
            row.ifname,
            row.address,
            row.state.value,
            row.cost,
            *_reach(nothing if row.router_id is None else known.get(row.router_id, nothing)),
        )
        for row in neighbors
    ]
    ours = {row.router_id for row in neighbors}
    others = [item for item in known.items() if item[0] not in ours]
    yield [
        TopologyView(origin, "router", "", None, None, None, *_reach(entry))
        for origin, entry in sorted(others, key=lambda item: (item[1].metric or 0, item[0]))
    ]


def _reach(entry: _Known) -> tuple[int | None, int, tuple[str, ...]]:
    return entry.metric, entry.prefixes, tuple(map(str, sorted(entry.via)))
