"""Requests without fields; see `ipc.control`."""

from __future__ import annotations

from ipc.lazy_dataclass import dataclass

__all__ = ["ShowMemory", "ShowMetrics", "ShowNextHops", "ShowRules"]


@dataclass(frozen=True, slots=True)
class ShowMemory:
    """The daemon's memory usage, one row for each part."""


@dataclass(frozen=True, slots=True)
class ShowMetrics:
    """The metrics in the text format of Prometheus, one row for each line."""


@dataclass(frozen=True, slots=True)
class ShowNextHops:
    """The kernel nexthop objects that routes go through."""


@dataclass(frozen=True, slots=True)
class ShowRules:
    """Every policy rule of the configuration."""
