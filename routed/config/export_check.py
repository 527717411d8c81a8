"""Checks of `dataplane.export`. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from routed.config.observation import COLLECTORS_MAX, DataplaneConfig

__all__ = ["export_problems"]


def export_problems(dataplane: DataplaneConfig) -> Iterator[tuple[str, str]]:
    """Yield what is wrong: the path of the key, and a message."""
    collectors = dataplane.export.ipfix
    if collectors and not dataplane.flows.max:
        yield "dataplane.export.ipfix", "flows are not counted: `flows: {max: 65536}` counts them"
    if len(collectors) > COLLECTORS_MAX:
        yield "dataplane.export.ipfix", f"{len(collectors)} collectors: {COLLECTORS_MAX} at most"
    seen = set()
    for index, collector in enumerate(collectors):
        if collector.to in seen:
            yield f"dataplane.export.ipfix[{index}].to", f"{collector.to} is named twice"
        seen.add(collector.to)
