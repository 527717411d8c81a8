"""Options of what can be observed from outside: metrics, and the dataplane's counters."""

from __future__ import annotations

from ipc.lazy_dataclass import dataclass
from routed.config import scalars
from routed.config.options import ListOf, Scalar, option
from routed.config.scalars import ListenAddress

__all__ = ["COUNTED_ROUTES_MAX", "DataplaneConfig", "MetricsConfig"]

COUNTED_ROUTES_MAX = (1 << 22) - 1


@dataclass(frozen=True, slots=True)
class MetricsConfig:
    """The section `metrics`: the endpoint for Prometheus."""

    listen: ListenAddress | None = option(
        Scalar(scalars.listen_address),
        "`unix:/path` (for users with read access, see `management`), or `127.0.0.1:PORT` or "
        "`[::1]:PORT` (for all users of this machine). Without it metrics are not served.",
        default=None,
    )


@dataclass(frozen=True, slots=True)
class DataplaneConfig:
    """The section `dataplane`: programs in the kernel that count traffic (eBPF)."""

    interfaces: tuple[str, ...] = option(
        ListOf(scalars.interface_pattern),
        "The interfaces whose traffic is counted, by name or pattern, 64 at most. Without any, "
        "nothing is loaded into the kernel.",
        default=(), written="[]",
    )  # fmt: skip
    routes: int = option(
        Scalar(scalars.whole_number(0, COUNTED_ROUTES_MAX)),
        "The most routes whose traffic is counted, for `show traffic routes`; it decides the size "
        "of the counters. 0: the traffic of routes is not counted.",
        default=131_072, written="131072",
    )  # fmt: skip
    statistics: bool = option(
        Scalar(scalars.boolean),
        "Have the kernel count and time the runs of all eBPF programs of the machine, for `show "
        "dataplane programs`; each run costs two readings of the clock more.",
        default=False, written="false",
    )  # fmt: skip
