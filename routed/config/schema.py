"""The options of routes.yaml, each declared once: name, default, range, unit and description.

The classes below, and those of `nup`, are the configuration as the daemon uses it. The decoder
(`load.py`), the JSON Schema (`routed --print-schema`) and the reference page are derived from them;
`options` declares an option.

The configuration is sent to the engine unchanged, because the classes are frozen and plain. Users
and groups are numbers in it, because the engine cannot read /etc/passwd.
"""

from __future__ import annotations

import enum

from ipc.lazy_dataclass import dataclass
from routed.config import scalars, shapes, table_scalars
from routed.config.bfd import BfdConfig, BfdSessionConfig
from routed.config.nup import (
    DampingConfig,
    FilterAction,
    FilterRule,
    FiltersConfig,
    FilterSource,
    ImportRule,
    InterfaceConfig,
    KernelRule,
    KernelRuleSource,
    KeyAlgorithm,
    KeyConfig,
    KeySetConfig,
    LinkMetric,
    RedistributeConfig,
    RedistributeSource,
    SummaryConfig,
)
from routed.config.observation import DataplaneConfig, MetricsConfig
from routed.config.options import (
    ListOf,
    MapOf,
    NamedLists,
    Nested,
    Option,
    Scalar,
    options_of,
)
from routed.config.options import option as _option
from routed.config.probes import ProbeConfig
from routed.config.route_options import StaticType
from routed.config.rules import RuleConfig
from routed.config.scalars import EngineUser, PrefixMatch, Principal
from routed.config.static import NextHopConfig, StaticConfig
from routed.config.tables import TableConfig
from routed.model.martians import MartianRules
from routed.model.prefix import Address, Prefix

__all__ = [
    "BfdConfig",
    "BfdSessionConfig",
    "Config",
    "DampingConfig",
    "DataplaneConfig",
    "FibConfig",
    "FilterAction",
    "FilterRule",
    "FilterSource",
    "FiltersConfig",
    "ImportRule",
    "InterfaceConfig",
    "KernelRule",
    "KernelRuleSource",
    "KeyAlgorithm",
    "KeyConfig",
    "KeySetConfig",
    "LearnConfig",
    "LinkMetric",
    "ListOf",
    "LogConfig",
    "LogFormat",
    "LogLevel",
    "ManagementConfig",
    "MapOf",
    "MetricsConfig",
    "NamedLists",
    "Nested",
    "NextHopConfig",
    "NextHopObjects",
    "OnExit",
    "Option",
    "ProbeConfig",
    "RedistributeConfig",
    "RedistributeSource",
    "RuleConfig",
    "SandboxMode",
    "Scalar",
    "StaticConfig",
    "StaticType",
    "SummaryConfig",
    "TableConfig",
    "options_of",
]


class LogLevel(enum.Enum):
    """The log levels; each includes the levels after it."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


class LogFormat(enum.Enum):
    """The formats of a log line."""

    TEXT = "text"
    JSON = "json"


class OnExit(enum.Enum):
    """What happens to the daemon's kernel routes when it stops."""

    FLUSH = "flush"
    KEEP = "keep"


class NextHopObjects(enum.Enum):
    """Whether routes use nexthop objects of the kernel."""

    AUTO = "auto"
    OFF = "off"


class SandboxMode(enum.Enum):
    """Whether the engine is confined by seccomp and landlock."""

    AUTO = "auto"
    REQUIRED = "required"
    OFF = "off"


@dataclass(frozen=True, slots=True)
class LogConfig:
    """The section `log`: which lines are logged, how, and where."""

    level: LogLevel = _option(
        Scalar(scalars.choice(LogLevel)), "The lowest level that is logged.",
        default=LogLevel.INFO, written="info",
    )  # fmt: skip
    format: LogFormat = _option(
        Scalar(scalars.choice(LogFormat)), "`text` for people, `json` for machines.",
        default=LogFormat.TEXT, written="text",
    )  # fmt: skip
    file: str | None = _option(
        Scalar(scalars.absolute_path),
        "A file to append to; without it a daemon logs to stderr in the foreground, and in the "
        "background to journald or syslog. Reopened on SIGHUP.",
        default=None,
    )


@dataclass(frozen=True, slots=True)
class FibConfig:
    """The section `fib`: how the daemon's routes are written to the kernel."""

    table_id: int = _option(
        Scalar(table_scalars.table),
        "The kernel table to manage: `main`, a number, a name of iproute2's `rt_tables`, or "
        "`vrf:NAME`.",
        key="table", default=254, written="main",
    )  # fmt: skip
    protocol: int = _option(
        Scalar(scalars.whole_number(5, 255)),
        "The rtm_protocol that marks the daemon's routes, rules and next hops; one per daemon.",
        default=205, written="205",
    )  # fmt: skip
    priority: int = _option(
        Scalar(scalars.whole_number(1, 2**31 - 1)),
        "Priority of the daemon's routes in the kernel (printed as metric by `ip route`).",
        default=205, written="205",
    )  # fmt: skip
    on_exit: OnExit = _option(
        Scalar(scalars.choice(OnExit)),
        "At an orderly stop: `flush` removes the daemon's routes, `keep` leaves them for the next "
        "start.",
        default=OnExit.FLUSH, written="flush",
    )  # fmt: skip
    resync_s: float = _option(
        Scalar(scalars.duration(1, 86_400)),
        "Interval at which the whole kernel table is read and compared, in addition to "
        "notifications.",
        key="resync", default=300.0, written="300s",
    )  # fmt: skip
    carrier_check_s: float | None = _option(
        Scalar(scalars.duration(0.001, 1)),
        "Interval at which the carrier of every link that is up is polled: `10ms` detects a loss "
        "that Linux may take a second to report; without it nothing is polled.",
        key="carrier_check", default=None,
    )  # fmt: skip
    nexthop_objects: NextHopObjects = _option(
        Scalar(scalars.choice(NextHopObjects)),
        "`auto`: routes go through kernel nexthop objects where the kernel has them (Linux 5.3), "
        "so that a failed next hop is removed from all of its routes at once; `off`: next hops are "
        "written into each route.",
        default=NextHopObjects.AUTO, written="auto",
    )  # fmt: skip


@dataclass(frozen=True, slots=True)
class ManagementConfig:
    """The section `management`: the socket of routectl, and who has access."""

    socket: str = _option(
        Scalar(scalars.socket_path), "Path of the Unix socket.",
        default="/run/routed/routed.sock", written="/run/routed/routed.sock",
    )  # fmt: skip
    read: tuple[Principal, ...] = _option(
        ListOf(scalars.principal),
        "Users with read access (show, monitor, snapshot): NAME, user:NAME, group:NAME, or a "
        "number.",
        default=(), written="[]",
    )  # fmt: skip
    admin: tuple[Principal, ...] = _option(
        ListOf(scalars.principal), "Users who may also make changes.",
        factory=lambda: (scalars.principal.read("root"),), written="[root]",
    )  # fmt: skip


@dataclass(frozen=True, slots=True)
class LearnConfig:
    """An entry of `learn`: which kernel routes of another program are imported, and how."""

    protocol: int = _option(
        Scalar(scalars.route_protocol),
        "Their protocol as `ip route` names it (`dhcp`, `static`, `bird`, ...), or its number.",
    )
    table: int = _option(
        Scalar(table_scalars.table), "Their kernel table.", default=254, written="main"
    )
    distance: int = _option(
        shapes.DISTANCE,
        "Administrative distance; the lowest wins, 255 is shown and never used.",
        default=254, written="254",
    )  # fmt: skip
    tag: int = shapes.mark()
    match: tuple[PrefixMatch, ...] = shapes.match()

    def accepts(self, prefix: Prefix) -> bool:
        """Whether the prefix passes `match`."""
        return scalars.is_accepted(self.match, prefix)


PID_FILE = "/run/routed/routed.pid"


@dataclass(frozen=True, slots=True)
class Config:
    """A whole configuration, the content of routes.yaml."""

    router_id: Address = _option(
        Scalar(scalars.router_id),
        "Identifies this router in the network: 32 bits, dotted, unique; usually a loopback "
        "address.",
    )
    user: EngineUser = _option(
        Scalar(scalars.engine_user),
        "The user that the unprivileged engine runs as: a name, or a number if it has no name.",
        factory=lambda: scalars.engine_user.read("routed"), written="routed",
    )  # fmt: skip
    sandbox: SandboxMode = _option(
        Scalar(scalars.choice(SandboxMode)),
        "The engine's seccomp and landlock: `auto` does without the parts that the kernel lacks, "
        "`required` refuses to start then, `off` helps to find out whether the sandbox causes a "
        "problem.",
        default=SandboxMode.AUTO, written="auto",
    )  # fmt: skip
    pid_file: str = _option(
        Scalar(scalars.absolute_path), "File with the daemon's pid, locked while the daemon runs.",
        default=PID_FILE, written=PID_FILE,
    )  # fmt: skip
    log: LogConfig = _option(Nested(LogConfig), "Logging.", factory=LogConfig)
    fib: FibConfig = _option(Nested(FibConfig), "The kernel FIB.", factory=FibConfig)
    interfaces: tuple[InterfaceConfig, ...] = _option(
        MapOf(InterfaceConfig, scalars.interface_pattern),
        "The interfaces that NUP runs on, by name or pattern. An exact name goes before patterns, "
        "and patterns are tried in file order.",
        default=(), written="{}",
    )  # fmt: skip
    tables: tuple[TableConfig, ...] = _option(
        MapOf(TableConfig, table_scalars.entry_name),
        "Kernel tables besides the main one (`fib.table`), each with routes of its own: by number, "
        "by their name in iproute2's `rt_tables`, or by a name of your own with `number`.",
        default=(), written="{}",
    )  # fmt: skip
    static: tuple[StaticConfig, ...] = _option(
        ListOf(StaticConfig), "Static routes.", default=(), written="[]"
    )
    bfd: BfdConfig = _option(
        Nested(BfdConfig), "Forwarding detection: whether next hops answer.", factory=BfdConfig
    )
    probes: tuple[ProbeConfig, ...] = _option(
        MapOf(ProbeConfig, scalars.word),
        "Probes, by name: whether a system answers, or a link works.",
        default=(), written="{}",
    )  # fmt: skip
    redistribute: tuple[RedistributeConfig, ...] = _option(
        ListOf(RedistributeConfig),
        "Routes announced to neighbors besides those learned from neighbors; the first match "
        "decides.",
        default=(), written="[]",
    )  # fmt: skip
    management: ManagementConfig = _option(
        Nested(ManagementConfig), "The management socket.", factory=ManagementConfig
    )
    keys: tuple[KeySetConfig, ...] = _option(
        NamedLists(KeySetConfig, KeyConfig, scalars.word),
        "Sets of keys that authenticate neighbors, by name.", default=(), written="{}",
    )  # fmt: skip
    filters: FiltersConfig = _option(
        Nested(FiltersConfig),
        "Filters for routes learned, routes advertised, and routes for the kernel.",
        factory=FiltersConfig,
    )
    summaries: tuple[SummaryConfig, ...] = _option(
        ListOf(SummaryConfig), "Prefixes announced in place of the prefixes inside them.",
        default=(), written="[]",
    )  # fmt: skip
    learn: tuple[LearnConfig, ...] = _option(
        ListOf(LearnConfig),
        "Kernel routes of other programs imported as candidates; the first match decides.",
        default=(), written="[]",
    )  # fmt: skip
    rules: tuple[RuleConfig, ...] = _option(
        ListOf(RuleConfig), "Policy rules: which packets use which table.",
        default=(), written="[]",
    )  # fmt: skip
    allow_martians: tuple[Prefix, ...] = _option(
        ListOf(scalars.prefix),
        "Martians (link-local, multicast, loopback, reserved and unspecified prefixes) that may be "
        "learned, advertised and installed nevertheless: these prefixes and all prefixes inside "
        "them.",
        default=(), written="[]",
    )  # fmt: skip
    metrics: MetricsConfig = _option(
        Nested(MetricsConfig), "The OpenMetrics endpoint.", factory=MetricsConfig
    )
    dataplane: DataplaneConfig = _option(
        Nested(DataplaneConfig), "Traffic counters in the kernel.", factory=DataplaneConfig
    )

    @property
    def martians(self) -> MartianRules:
        """The martians refused from protocols: all but `allow_martians` and static prefixes.

        Cost: 0.2 us for each static route.
        """
        return MartianRules.of(self.allow_martians, [static.prefix for static in self.static])
