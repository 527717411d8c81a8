"""Views: what `show` shows, as plain frozen data made by the engine; `rows.py` makes rows of it.

A view class is a contract with everyone who scripts `routectl --json`: its field names are the
column names, in this order, and they only grow (DESIGN section 7). Objects of other components do
not leave them; the engine copies what is shown into views.
"""

from __future__ import annotations

import enum

from ipc.lazy_dataclass import dataclass, field
from routed.control.bfd_views import BfdSessionView
from routed.control.memory_view import MemoryView
from routed.control.nup_views import NupRouteView
from routed.control.probe_views import ProbeView
from routed.control.traffic import TRAFFIC_VIEW_CLASSES
from routed.model.prefix import Address, Prefix
from routed.model.route import RouteSource, RouteType
from routed.model.rule import PolicyRule

__all__ = [
    "VIEW_CLASSES",
    "ConfigView",
    "CounterView",
    "ExplainView",
    "ExplainedCandidate",
    "FibState",
    "FibTotals",
    "FibView",
    "HealthState",
    "InterfaceView",
    "LogView",
    "MemoryView",
    "MetricLineView",
    "NeighborView",
    "NextHopObjectView",
    "NextHopView",
    "ProtocolView",
    "RecordingView",
    "ReloadView",
    "RouteView",
    "RuleView",
    "StatusView",
    "TopologyView",
]


class FibState(enum.Enum):
    """The state of a desired route in the kernel."""

    PENDING = "pending"
    """The kernel has not answered yet."""
    INSTALLED = "installed"
    FAILED = "failed"
    """The kernel has refused or removed it; it is tried again."""
    SHADOWED = "shadowed"
    """The kernel has it, and prefers a foreign route of better priority."""
    DECOUPLED = "decoupled"
    """The route is kept out of the kernel by `fib decouple`."""
    WAITING = "waiting"
    """The source of the route is no address of this host yet; it counts as failed."""


@dataclass(frozen=True, slots=True)
class NextHopView:
    """One next hop, with the name of its interface."""

    via: Address | None
    dev: str | None
    weight: int = 1


@dataclass(frozen=True, slots=True)
class NeighborView:
    """One neighbor on one interface."""

    router_id: Address | None
    """Router id; None until its first message is understood."""
    interface: str
    address: Address
    state: str
    """The adjacency state in lower case: down, init, two_way, loading, up."""
    uptime_s: float | None
    """Since it came up; None while it is not up."""
    dead_in_s: float | None
    """Time until the dead interval ends the adjacency."""
    rtt_ms: float | None
    """Smoothed; None before the first measurement."""
    rto_ms: float | None
    cost: int
    retransmissions: int
    """Since the adjacency began."""
    prefixes: int
    """Learned from the neighbor and feasible."""
    problem: str = ""
    """Reason why its messages are refused, or settings that disagree; else empty."""
    window: int = 0
    """DATA messages that may be unacknowledged at the same time."""
    in_flight: int = 0
    sent: int = 0
    """Distinct DATA messages since the adjacency began."""
    received: int = 0
    """Distinct DATA messages since the adjacency began."""
    duplicates: int = 0
    """DATA messages received again."""
    out_of_order: int = 0
    """DATA messages received after a later one."""
    is_restarting: bool = False
    """Whether its routes are kept although the adjacency is not up."""
    loss_here: float = 0.0
    """Share of its last heartbeats that did not arrive, 0 to 1."""
    loss_there: float = 0.0
    """Share of this router's heartbeats that did not arrive there, as it reports."""
    infeasible: int = 0
    """Prefixes for which it may not be used until their origin has raised its seqno."""
    mtu: int | None = None
    """MTU of its interface in bytes, as it reports; None before its first hello."""


@dataclass(frozen=True, slots=True)
class InterfaceView:
    """One interface."""

    interface: str
    ifindex: int
    state: str
    """up, no_carrier (enabled, without carrier) or down."""
    mtu: int
    """Bytes."""
    addresses: tuple[str, ...]
    """ADDRESS/LENGTH."""
    has_nup: bool
    """Whether NUP runs on it."""
    cost: int | None
    """Cost of the link; None where NUP is not configured, as is the hello interval."""
    hello_interval_s: float | None
    neighbors: int
    """Adjacencies that are up."""
    nup_over: str | None = None
    """The IP version of NUP, ipv6 or ipv4; None where it does not run."""


@dataclass(frozen=True, slots=True)
class RouteView:
    """One candidate route."""

    prefix: Prefix
    type: RouteType
    source: RouteSource
    distance: int
    metric: int
    tag: int
    next_hops: tuple[NextHopView, ...]
    selected: bool
    fib_state: FibState | None
    """FIB state; None if routed is not to install the route."""
    fib_reason: str
    """Reason why it failed or is unusable, or the foreign route that the kernel prefers."""
    age_s: float
    owner: str
    """The owner of an injected route (`routed/control/injection.py`); empty for other routes."""
    lease_s: float | None
    """Time until its lease expires; None if it has no timed lease."""
    attributes: dict[str, str] = field(default_factory=dict)
    """Kernel attributes of the route, by the words of ip-route(8)."""
    table: str = "main"
    """The name of its table."""


@dataclass(frozen=True, slots=True)
class TopologyView:
    """One router that NUP knows; a neighbor on several interfaces has a row for each."""

    router_id: Address | None
    role: str
    """self, neighbor, or router (known by the prefixes that it originates)."""
    interface: str
    """The interface of a neighbor; else empty."""
    address: Address | None
    state: str | None
    """State of the adjacency; None for other routers."""
    cost: int | None
    """Cost of the link to a neighbor; None for other routers."""
    metric: int | None
    """The least metric of a prefix that it originates."""
    prefixes: int
    """Originated by it and known here."""
    via: tuple[str, ...]
    """Router ids of the neighbors through which it is reached."""


@dataclass(frozen=True, slots=True)
class ExplainedCandidate:
    """One candidate of the prefix that decides, and the result of its comparison."""

    source: RouteSource
    owner: str
    distance: int
    metric: int
    type: RouteType
    next_hops: tuple[NextHopView, ...]
    selected: bool
    fib_state: FibState | None
    fib_reason: str
    rule: int | None
    """Number of the rule by which it lost (`routed/rib/decision.py`); None for the winner."""
    verdict: str
    """The rule and the compared values, as text."""
    attributes: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ExplainView:
    """The explanation of how an address is routed."""

    address: Address
    prefix: Prefix | None
    """The longest prefix with a usable route; None if there is none."""
    candidates: tuple[ExplainedCandidate, ...]
    """Candidates of that prefix, the winner first."""
    unusable: tuple[str, ...]
    """Longer prefixes that cover the address and have no usable candidate."""
    shorter: tuple[str, ...]
    """Shorter prefixes that cover the address, the longest first."""
    trie_path: tuple[str, ...]
    """The steps of a lookup in the snapshot, one line for each."""
    unusable_reasons: tuple[str, ...] = ()
    """The prefixes of `unusable`, each with the reason why its best candidate is not usable."""
    waiting: tuple[str, ...] = ()
    """Prefixes that cover the address and for which neighbors advertise an infeasible route."""
    network_namespace: int | None = None
    """Inode of the daemon's network namespace, whose kernel may be compared; None if unknown."""
    table: str = "main"
    """The name of the table that was searched."""


@dataclass(frozen=True, slots=True)
class FibView:
    """One desired route."""

    prefix: Prefix
    table: int
    type: RouteType
    next_hops: tuple[NextHopView, ...]
    state: FibState
    reason: str
    """Reason why it failed, or the foreign route that the kernel prefers; else empty."""
    attributes: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class FibTotals:
    """Numbers of routes by state."""

    desired: int
    installed: int
    failed: int
    pending: int
    stale: int
    """Routes in the kernel that are no longer desired; removed once the engine is in sync."""
    coupled: bool
    """False after `fib decouple`."""
    nexthop_objects: int = 0
    """Nexthop objects of routed in the kernel."""
    nexthops: str = ""
    """Whether routes use nexthop objects, and how the kernel shows that."""
    shadowed: int = 0
    """Routes to which the kernel prefers a foreign one; they are counted above as well."""


class HealthState(enum.Enum):
    """The verdict on the daemon (`routed.engine.show.health`)."""

    OK = "ok"
    DEGRADED = "degraded"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class ReloadView:
    """The last reload."""

    ok: bool
    age_s: float
    text: str
    """The changes, or the first error."""


@dataclass(frozen=True, slots=True)
class StatusView:
    """The daemon as a whole."""

    version: str
    pid: int
    """The pid of the parent, which a service manager watches."""
    uptime_s: float
    router_id: Address
    config_path: str
    last_reload: ReloadView | None
    """The last reload; None if there was none since the engine started."""
    routes: int
    """Prefixes in the RIB."""
    neighbors: int
    """Adjacencies that are up."""
    fib: FibTotals
    engine_restarts: int
    sandbox: str
    """The confinement of the engine: `seccomp, landlock abi 7, uid 998`."""
    sandbox_refusals: int | None
    """Refused system calls of its engines. None without seccomp, and before Linux 5.7."""
    config_state: str = "confirmed"
    """`confirmed`; `switching` while a reload is carried out; `unconfirmed` while it waits for a
    `confirm`; `returning` until an engine runs with the previous configuration again."""
    confirm_left_s: float | None = None
    """Time until an unconfirmed configuration is rolled back; else None."""
    confirm_token: str | None = None
    """The name that `confirm` may give; None unless a configuration is unconfirmed."""
    parent_silent_s: float | None = None
    """Since the parent's last message, if it hangs; None while it does not."""
    config_in_sync: bool = True
    """False if the configuration file, as it was read last, is not in force."""
    health: HealthState = HealthState.OK
    problems: tuple[str, ...] = ()
    """Reasons why `health` is not `ok`, the worst first."""
    network_namespace: int | None = None
    """Inode of the daemon's network namespace; None if it is not known."""


@dataclass(frozen=True, slots=True)
class CounterView:
    """One counter."""

    name: str
    value: int
    help: str


@dataclass(frozen=True, slots=True)
class NextHopObjectView:
    """A kernel nexthop object: one next hop, or a group of several."""

    id: int
    """Id as shown by `ip nexthop`."""
    next_hops: tuple[NextHopView, ...]
    """The next hops of the routes that use it."""
    active: tuple[NextHopView, ...]
    """The next hops that the kernel uses, without dead ones; empty if it has no such object."""
    state: FibState
    reason: str
    """Reason why the kernel has refused it; else empty."""


@dataclass(frozen=True, slots=True)
class RuleView:
    """One policy rule of the configuration, for one family."""

    priority: int
    family: str
    """`ipv4` or `ipv6`."""
    rule: str
    """Rule in the format of `ip rule`."""
    ip_rule: dict[str, object]
    """As `ip -j rule` writes it."""
    state: FibState
    reason: str
    """Reason why the kernel does not have it; else empty."""

    @classmethod
    def of(cls, rule: PolicyRule, problem: str) -> RuleView:
        """Return the row of a rule; `problem` is empty if the kernel has it."""
        return cls(
            priority=rule.priority,
            family=rule.family.name.lower(),
            rule=str(rule),
            ip_rule=rule.fields(),
            state=FibState.FAILED if problem else FibState.INSTALLED,
            reason=problem,
        )


@dataclass(frozen=True, slots=True)
class ConfigView:
    """One line of the configuration in force."""

    option: str
    """Path of the option, such as `interfaces.eth0.cost`."""
    value: str | None
    """Value as in a file; None for a line that begins a section."""
    is_default: bool
    """Whether it equals the default."""
    line: str
    """Indented: all lines together are a valid file."""


@dataclass(frozen=True, slots=True)
class ProtocolView:
    """One source of routes."""

    protocol: str
    """Source of routes, as in `source` of a route."""
    state: str
    """up, down (configured, without any adjacency or link), or off (not configured)."""
    distance: int
    """The default for its routes."""
    routes: int
    """Candidates in the RIB."""
    detail: str


@dataclass(frozen=True, slots=True)
class LogView:
    """One line of the log."""

    time: str
    """RFC 3339, in UTC."""
    level: str
    """debug, info, warning or error."""
    process: str
    """parent or engine."""
    event: str
    text: str
    """The event and its fields, as in the text form of the log."""


@dataclass(frozen=True, slots=True)
class MetricLineView:
    """A line of the metrics in the text format of Prometheus."""

    text: str


@dataclass(frozen=True, slots=True)
class RecordingView:
    """A piece of a recording; all pieces in order are its text."""

    text: str
    ended_s: float
    """Time since the end of the recording, in seconds; 0.0 if this request ended it."""


VIEW_CLASSES: tuple[type, ...] = (
    TopologyView, ExplainView, StatusView, NeighborView, InterfaceView, RouteView,
    FibView, CounterView, LogView, MemoryView, MetricLineView, NextHopObjectView,
    RuleView, BfdSessionView, NupRouteView, ConfigView, ProtocolView, *TRAFFIC_VIEW_CLASSES,
    RuleView, BfdSessionView, ProbeView, ConfigView, ProtocolView, *TRAFFIC_VIEW_CLASSES,
)  # fmt: skip
