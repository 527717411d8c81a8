"""Options of what can be observed from outside: metrics, and the dataplane's counters."""

from __future__ import annotations

from ipc.lazy_dataclass import dataclass
from routed.config import scalars
from routed.config.endpoint import Endpoint, endpoint
from routed.config.options import ListOf, Nested, Scalar, option
from routed.config.scalars import ListenAddress

__all__ = [
    "COLLECTORS_MAX",
    "COUNTED_ROUTES_MAX",
    "DataplaneConfig",
    "ExportConfig",
    "FlowsConfig",
    "IpfixCollectorConfig",
    "MetricsConfig",
]

COUNTED_ROUTES_MAX = (1 << 22) - 1
COUNTED_FLOWS_MAX = 1 << 22
COLLECTORS_MAX = 16


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
class FlowsConfig:
    """The section `dataplane.flows`: which hosts exchange how much."""

    max: int = option(
        Scalar(scalars.whole_number(0, COUNTED_FLOWS_MAX)),
        "The most flows that are counted at a time, over all processors; it decides the memory, "
        "104 bytes each. 0: flows are not counted, and there is no observer.",
        default=0, written="0",
    )  # fmt: skip
    idle_s: float = option(
        Scalar(scalars.duration(1, 3600)),
        "A flow ends so long after its last packet.",
        key="idle", default=15.0, written="15s",
    )  # fmt: skip
    active_s: float = option(
        Scalar(scalars.duration(1, 3600)),
        "A flow that goes on is reported, and begins again, so long after its first packet.",
        key="active", default=60.0, written="60s",
    )  # fmt: skip


@dataclass(frozen=True, slots=True)
class IpfixCollectorConfig:
    """One collector of IPFIX."""

    to: Endpoint = option(
        Scalar(endpoint),
        "Its address and UDP port, such as `192.0.2.9:4739` or `[2001:db8::9]:4739`.",
    )
    domain: int = option(
        Scalar(scalars.whole_number(0, 0xFFFF_FFFF)),
        "The observation domain id, which distinguishes several exporters of one address.",
        default=0, written="0",
    )  # fmt: skip


@dataclass(frozen=True, slots=True)
class ExportConfig:
    """The section `dataplane.export`: where flows that have ended are sent."""

    ipfix: tuple[IpfixCollectorConfig, ...] = option(
        ListOf(IpfixCollectorConfig),
        "Collectors of IPFIX (RFC 7011) over UDP, 16 at most; each is sent all flows. Needs "
        "`flows`.",
        default=(), written="[]",
    )  # fmt: skip


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
    flows: FlowsConfig = option(
        Nested(FlowsConfig), "Flows: which hosts exchange how much.",
        factory=FlowsConfig,
    )  # fmt: skip
    export: ExportConfig = option(
        Nested(ExportConfig), "Where flows that have ended are sent.", factory=ExportConfig
    )
    statistics: bool = option(
        Scalar(scalars.boolean),
        "Have the kernel count and time the runs of all eBPF programs of the machine, for `show "
        "dataplane programs`; each run costs two readings of the clock more.",
        default=False, written="false",
    )  # fmt: skip
