"""What `show` shows: plain frozen data, made by the engine; `rows.py` turns it into rows.

A view class is a contract with everybody who scripts `routectl --json`: its field names are the
column names, in this order, and they only grow (DESIGN section 7). The rooms' own objects stay at
home; the engine copies what is to be seen into these.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass

from routed.model.prefix import Address, Family, Prefix
from routed.model.route import RouteSource, RouteType

__all__ = [
    "VIEW_CLASSES",
    "ConfigView",
    "CounterView",
    "ExplainView",
    "ExplainedCandidate",
    "FibState",
    "FibTotals",
    "FibView",
    "InterfaceView",
    "LogView",
    "MemoryView",
    "NeighborView",
    "NextHopObjectView",
    "NextHopView",
    "ProtocolView",
    "RecordingView",
    "ReloadView",
    "RouteSelector",
    "RouteView",
    "RuleView",
    "StatusView",
    "TopologyView",
]


class FibState(enum.Enum):
    """Where a route that the RIB wants in the kernel stands there."""

    PENDING = "pending"
    """Said to the parent; the kernel has not answered yet."""
    INSTALLED = "installed"
    FAILED = "failed"
    """The kernel refused it, or took it away; it is tried again."""
    SHADOWED = "shadowed"
    """The kernel has it, and prefers a foreign route of a better priority."""
    DECOUPLED = "decoupled"
    """Kept out of the kernel by `fib decouple`."""


@dataclass(frozen=True, slots=True)
class NextHopView:
    """One next hop as a person would name it."""

    via: Address | None
    dev: str | None
    weight: int = 1


@dataclass(frozen=True, slots=True)
class NeighborView:
    """One neighbor on one link."""

    router_id: Address | None
    """None until its first message is understood."""
    interface: str
    address: Address
    state: str
    """The adjacency state in lower case: down, init, two_way, loading, up."""
    uptime_s: float | None
    """Since it came up; None while it is not."""
    dead_in_s: float | None
    """Until its silence would take it down."""
    rtt_ms: float | None
    """Smoothed; None before the first measurement."""
    rto_ms: float | None
    cost: int
    retransmissions: int
    """Since the adjacency began."""
    prefixes: int
    """Learned from it and feasible."""
    problem: str = ""
    """What is wrong: why it is not believed, or where its settings and ours disagree."""
    window: int = 0
    """DATA messages that may be unacknowledged at once."""
    in_flight: int = 0
    sent: int = 0
    """DATA messages since the adjacency began, each once."""
    received: int = 0
    """The same."""
    duplicates: int = 0
    """DATA messages that came again."""
    out_of_order: int = 0
    """DATA messages that came after a later one."""
    is_restarting: bool = False
    """Its routes are kept although the adjacency is not up."""
    loss_here: float = 0.0
    """Share of its last heartbeats that did not arrive, 0 to 1."""
    loss_there: float = 0.0
    """Of ours, as it says."""
    infeasible: int = 0
    """Of its prefixes, those that it may not be used for until their origin's seqno is newer."""


@dataclass(frozen=True, slots=True)
class InterfaceView:
    """One link."""

    interface: str
    ifindex: int
    state: str
    """up, no_carrier (switched on, the medium is away) or down."""
    mtu: int
    """Bytes."""
    addresses: tuple[str, ...]
    """ADDRESS/LENGTH."""
    has_nup: bool
    """Whether we speak to neighbors there."""
    cost: int | None
    """None where NUP does not run; the same for the hello interval."""
    hello_interval_s: float | None
    neighbors: int
    """Adjacencies that are up."""
    nup_over: str | None = None
    """Which IP version carries NUP there, ipv6 or ipv4; None where it does not run. Both ends of a
    link need the same."""


@dataclass(frozen=True, slots=True)
class RouteView:
    """One candidate."""

    prefix: Prefix
    type: RouteType
    source: RouteSource
    distance: int
    metric: int
    tag: int
    next_hops: tuple[NextHopView, ...]
    selected: bool
    fib_state: FibState | None
    """None when the kernel is not meant to have it from us."""
    fib_reason: str
    """Why it failed or is not eligible, or which foreign route the kernel prefers; empty
    otherwise."""
    age_s: float
    owner: str
    """Whose an injected route is (`routed/control/injection.py`); empty for all others."""
    lease_s: float | None
    """Until it vanishes by itself; None when it has no such end."""


@dataclass(frozen=True, slots=True)
class TopologyView:
    """One router that NUP knows; a neighbor on several links has a row for each."""

    router_id: Address | None
    role: str
    """self, neighbor, or router (known by what it announces)."""
    interface: str
    """Of a neighbor."""
    address: Address | None
    state: str | None
    """Of the adjacency; None for others."""
    cost: int | None
    """Of the link to a neighbor."""
    metric: int | None
    """The least at which a prefix that it originates is reached."""
    prefixes: int
    """That it originates, and we reach."""
    via: tuple[str, ...]
    """Router ids of the neighbors that lead there."""


@dataclass(frozen=True, slots=True)
class ExplainedCandidate:
    """One candidate of the prefix that decides, and how it fared."""

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
    """The number of the rule by which it lost (`routed/rib/decision.py`); None for the winner."""
    verdict: str
    """The same in words."""


@dataclass(frozen=True, slots=True)
class ExplainView:
    """How one address is routed."""

    address: Address
    prefix: Prefix | None
    """The longest one with a usable route; None when there is none."""
    candidates: tuple[ExplainedCandidate, ...]
    """Of that prefix, the winner first."""
    unusable: tuple[str, ...]
    """Longer prefixes that cover it, too, but have no candidate that can be used."""
    shorter: tuple[str, ...]
    """Prefixes that would follow, the longest first."""
    trie_path: tuple[str, ...]
    """What a search in the snapshot reads, a line a step."""
    unusable_reasons: tuple[str, ...] = ()
    """Each of `unusable`, and why its best candidate cannot be used."""
    waiting: tuple[str, ...] = ()
    """Prefixes that cover it and to which neighbors offer a route that may not be used yet."""


@dataclass(frozen=True, slots=True)
class FibView:
    """One route that the kernel should hold."""

    prefix: Prefix
    table: int
    type: RouteType
    next_hops: tuple[NextHopView, ...]
    state: FibState
    reason: str
    """Why it failed, or which foreign route the kernel prefers; empty otherwise."""


@dataclass(frozen=True, slots=True)
class FibTotals:
    """Routes by state."""

    desired: int
    installed: int
    failed: int
    pending: int
    stale: int
    """In the kernel and wanted no longer: to be removed, once the engine is in sync."""
    coupled: bool
    """False after `fib decouple`."""
    nexthop_objects: int = 0
    """Kernel nexthop objects of ours."""
    nexthops: str = ""
    """Whether routes go through nexthop objects, and how the kernel shows that."""
    shadowed: int = 0
    """Of all these, those to which the kernel prefers a foreign route."""


@dataclass(frozen=True, slots=True)
class ReloadView:
    """The last reload."""

    ok: bool
    age_s: float
    text: str
    """What changed, or the first error."""


@dataclass(frozen=True, slots=True)
class StatusView:
    """The daemon as a whole."""

    version: str
    pid: int
    """Of the parent: what a service manager watches."""
    uptime_s: float
    router_id: Address
    config_path: str
    last_reload: ReloadView | None
    """None when there was none since the start."""
    routes: int
    """Prefixes in the RIB."""
    neighbors: int
    """Adjacencies that are up."""
    fib: FibTotals
    engine_restarts: int
    sandbox: str
    """What holds the engine: `seccomp, landlock abi 7, uid 998`."""
    sandbox_refusals: int | None
    """System calls that engines of this daemon were refused; `show counters` has them by name. None
    where nobody counts them: without seccomp, and before Linux 5.7."""
    config_state: str = "confirmed"
    """`confirmed`; `switching` while a reload is carried out; `unconfirmed` while it waits for a
    `confirm`; `returning` until an engine runs by the former configuration again."""
    confirm_left_s: float | None = None
    """Until an unconfirmed one is taken back; None otherwise."""
    confirm_token: str | None = None
    """What `confirm` may name; None unless one waits."""
    parent_silent_s: float | None = None
    """Since the parent was last heard of, when it hangs; None while it does not."""


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
    """As `ip nexthop` shows it."""
    next_hops: tuple[NextHopView, ...]
    """What routes through it want."""
    active: tuple[NextHopView, ...]
    """What the kernel uses: without those that died, empty when it has none of it."""
    state: FibState
    reason: str
    """What the kernel said against it; empty when nothing."""


@dataclass(frozen=True, slots=True)
class RuleView:
    """One policy rule of the configuration, for one family."""

    priority: int
    family: str
    """`ipv4` or `ipv6`."""
    rule: str
    """As `ip rule` writes it."""
    state: FibState
    reason: str
    """Why the kernel does not have it; empty when it has."""


@dataclass(frozen=True, slots=True)
class ConfigView:
    """One line of the configuration in force."""

    option: str
    """Its path, such as `interfaces.eth0.cost`."""
    value: str | None
    """As a file would say it; None for a line that others follow."""
    is_default: bool
    """Whether it is what would hold without it."""
    line: str
    """With its indent: all lines together are a file."""


@dataclass(frozen=True, slots=True)
class ProtocolView:
    """One source of routes."""

    protocol: str
    """As in `source` of a route."""
    state: str
    """up, down (asked for, and nobody there), or off (not asked for)."""
    distance: int
    """Unless a route's own configuration says otherwise."""
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
class MemoryView:
    """What one part of the daemon takes."""

    part: str
    size_bytes: int
    items: int | None
    """How many things it holds, where that can be counted."""
    help: str


@dataclass(frozen=True, slots=True)
class RecordingView:
    """A piece of a recording; all of them, one after the other, are its text."""

    text: str


VIEW_CLASSES: tuple[type, ...] = (
    TopologyView,
    ExplainView,
    StatusView,
    NeighborView,
    InterfaceView,
    RouteView,
    FibView,
    CounterView,
    LogView,
    MemoryView,
    NextHopObjectView,
    RuleView,
    ConfigView,
    ProtocolView,
)


@dataclass(frozen=True, slots=True)
class RouteSelector:
    """Which candidates a caller wants; the default is all of them."""

    family: Family | None = None
    prefix: Prefix | None = None
    is_longer: bool = False
    """With `prefix`: everything inside it, rather than exactly it."""
    source: RouteSource | None = None
    is_selected_only: bool = False

    def matches_prefix(self, prefix: Prefix) -> bool:
        """Whether candidates of this prefix are wanted."""
        if self.family is not None and prefix.family != self.family:
            return False
        if self.prefix is None:
            return True
        return self.prefix.covers(prefix) if self.is_longer else prefix == self.prefix
