"""The options of NUP: its interfaces, keys, filters, redistribution and summaries.

See `schema` for the rest of routes.yaml, and `options` for the declaration of an option.
"""

from __future__ import annotations

import enum

from ipc.lazy_dataclass import dataclass
from routed.config import scalars, shapes
from routed.config.options import Inline, ListOf, Nested, Scalar
from routed.config.options import option as _option
from routed.config.route_options import AttributesConfig
from routed.config.scalars import PrefixMatch
from routed.model.kernel_attributes import KernelAttributes
from routed.model.prefix import Address, Prefix

__all__ = [
    "DampingConfig",
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
    "LinkMetric",
    "RedistributeConfig",
    "RedistributeSource",
    "SummaryConfig",
]


class RedistributeSource(enum.Enum):
    """The sources whose routes NUP can redistribute."""

    CONNECTED = "connected"
    STATIC = "static"
    INJECTED = "injected"
    KERNEL = "kernel"


class FilterAction(enum.Enum):
    """The action of a rule on the routes that match it."""

    ACCEPT = "accept"
    DENY = "deny"


class FilterSource(enum.Enum):
    """The kinds of NUP routes, by how the route's origin obtained them."""

    NEIGHBOR = "neighbor"
    REDISTRIBUTED = "redistributed"


class LinkMetric(enum.Enum):
    """How the cost of a link is determined."""

    FIXED = "fixed"
    LOSS = "loss"


@dataclass(frozen=True, slots=True)
class DampingConfig:
    """Damping of a neighbor that flaps. Each loss of the adjacency adds 1000 to its penalty."""

    half_life_s: float = _option(
        Scalar(scalars.duration(1, 3600)), "Half-life of the penalty.",
        key="half_life", default=15.0, written="15s",
    )  # fmt: skip
    suppress: int = _option(
        Scalar(scalars.whole_number(1000, 100_000)),
        "The neighbor is suppressed from this penalty on.",
        default=3000, written="3000",
    )  # fmt: skip
    reuse: int = _option(
        Scalar(scalars.whole_number(100, 100_000)),
        "The neighbor is used again once the penalty is below this.",
        default=1000, written="1000",
    )  # fmt: skip
    longest_s: float = _option(
        Scalar(scalars.duration(1, 3600)),
        "The longest suppression after the last loss of the adjacency.",
        key="longest", default=60.0, written="60s",
    )  # fmt: skip


class KernelRuleSource(enum.Enum):
    """The sources of the routes that the daemon installs in the kernel."""

    STATIC = "static"
    INJECTED = "injected"
    NEIGHBOR = "neighbor"
    REDISTRIBUTED = "redistributed"


@dataclass(frozen=True, slots=True)
class InterfaceConfig:
    """Settings of NUP on the links whose name matches a pattern."""

    pattern: str
    """The key: a name, or a pattern with * ? [ ]."""
    cost: int = _option(
        Scalar(scalars.whole_number(1, 65_535)),
        "Added to the metric of every route learned on the interface.",
        default=10, written="10",
    )  # fmt: skip
    metric: LinkMetric = _option(
        Scalar(scalars.choice(LinkMetric)),
        "`fixed`: the cost as configured; `loss`: multiplied by the expected transmissions, "
        "measured by the heartbeats that arrive.",
        default=LinkMetric.FIXED, written="fixed",
    )  # fmt: skip
    rtt_cost: int = _option(
        Scalar(scalars.whole_number(0, 65_535)),
        "Added to the cost of a neighbor whose round-trip time is `rtt_max` or more; 0: the "
        "round-trip time is not used.",
        default=0, written="0",
    )  # fmt: skip
    rtt_min_s: float = _option(
        Scalar(scalars.duration(0.0, 10)), "Nothing is added up to this round-trip time.",
        key="rtt_min", default=0.01, written="10ms",
    )  # fmt: skip
    rtt_max_s: float = _option(
        Scalar(scalars.duration(0.001, 10)),
        "All of `rtt_cost` is added from this round-trip time on.",
        key="rtt_max", default=0.12, written="120ms",
    )  # fmt: skip
    hello_s: float = _option(
        Scalar(scalars.duration(0.1, 60)), "Interval between heartbeats.",
        key="hello", default=1.0, written="1s",
    )  # fmt: skip
    multiplier: int = _option(
        Scalar(scalars.whole_number(2, 100)),
        "The neighbor is down after this many hello intervals without a heartbeat.",
        default=3, written="3",
    )  # fmt: skip
    key: str | None = _option(
        Scalar(scalars.word),
        "The entry of `keys` that signs sent messages and verifies received ones on the interface.",
        default=None,
    )
    accept_unsigned: bool = _option(
        Scalar(scalars.boolean),
        "With `key`: also accept neighbors that do not sign, while keys are being introduced.",
        default=False, written="false",
    )  # fmt: skip
    neighbors: tuple[Address, ...] = _option(
        ListOf(scalars.address),
        "Exchange routes with these addresses only, by unicast: for links without multicast.",
        default=(), written="[]",
    )  # fmt: skip
    max_prefixes: int = _option(
        Scalar(scalars.whole_number(1, 10_000_000)),
        "The most prefixes learned from each neighbor; those beyond are requested again once "
        "there is room.",
        default=200_000, written="200000",
    )  # fmt: skip
    damping: DampingConfig | None = _option(
        Nested(DampingConfig),
        "Suppress a neighbor that flaps; without this option no neighbor is suppressed.",
        default=None,
    )  # fmt: skip


class KeyAlgorithm(enum.Enum):
    """The algorithms of message authentication codes."""

    HMAC_SHA256 = "hmac-sha256"
    BLAKE2S = "blake2s"
    PASSWORD = "password"  # noqa: S105  (the name of an algorithm)
    KEYED_SHA1 = "keyed-sha1"
    METICULOUS_KEYED_SHA1 = "meticulous-keyed-sha1"

    @property
    def is_for_bfd(self) -> bool:
        """Whether BFD knows it; NUP knows the others."""
        return self not in (KeyAlgorithm.HMAC_SHA256, KeyAlgorithm.BLAKE2S)


_REFUSED_ALGORITHMS = dict.fromkeys(
    ("md5", "keyed-md5", "meticulous-keyed-md5"),
    "MD5 is broken; use meticulous-keyed-sha1, which every system with keyed MD5 has, too",
)


@dataclass(frozen=True, slots=True)
class KeyConfig:
    """One key: its algorithm, lifetimes, and the file with its secret."""

    id: int = _option(
        Scalar(scalars.whole_number(0, 255)),
        "Identifies the key within its set; the same on all routers.",
    )
    secret_file: str = _option(
        Scalar(scalars.file_path),
        "The file with the secret, readable by its owner only; relative to this file.",
    )
    algorithm: KeyAlgorithm = _option(
        Scalar(scalars.choice(KeyAlgorithm, refuse=_REFUSED_ALGORITHMS)),
        "For NUP `hmac-sha256` or `blake2s`; for BFD `password`, `keyed-sha1` or "
        "`meticulous-keyed-sha1`.",
        default=KeyAlgorithm.HMAC_SHA256, written="hmac-sha256",
    )  # fmt: skip
    send_from: float | None = _option(
        Scalar(scalars.moment),
        "Start of signing with this key; from the beginning when absent.",
        default=None,
    )
    send_until: float | None = _option(
        Scalar(scalars.moment), "End of signing with this key; never when absent.",
        default=None,
    )  # fmt: skip
    accept_from: float | None = _option(
        Scalar(scalars.moment),
        "Start of accepting this key; from the beginning when absent.",
        default=None,
    )
    accept_until: float | None = _option(
        Scalar(scalars.moment), "End of accepting this key; never when absent.", default=None
    )


@dataclass(frozen=True, slots=True)
class KeySetConfig:
    """A named set of keys; it has several while keys are being replaced."""

    name: str
    keys: tuple[KeyConfig, ...]


@dataclass(frozen=True, slots=True)
class RedistributeConfig:
    """A rule of redistribution: which routes of another source are advertised, and how."""

    source: RedistributeSource = _option(
        Scalar(scalars.choice(RedistributeSource)), "`connected`, `static`, `injected` or `kernel`."
    )
    metric: int = _option(
        shapes.START_METRIC, "Their initial metric.",
        default=0, written="0",
    )  # fmt: skip
    tag: int | None = _option(
        shapes.TAG,
        "A tag that replaces their own when they are announced.", default=None,
    )  # fmt: skip
    match: tuple[PrefixMatch, ...] = shapes.match()

    match_tag: int | None = shapes.only_tag()
    interface: str | None = _option(
        Scalar(scalars.interface_pattern), "Only routes through interfaces of this name.",
        default=None,
    )  # fmt: skip
    action: FilterAction = _option(
        Scalar(scalars.choice(FilterAction)), "`accept`, or `deny`: announce none of these.",
        default=FilterAction.ACCEPT, written="accept",
    )  # fmt: skip

    def accepts(self, prefix: Prefix) -> bool:
        """Whether the prefix passes `match`."""
        return scalars.is_accepted(self.match, prefix)


@dataclass(frozen=True, slots=True)
class FilterRule:
    """One rule of a filter: conditions, an action, and changes to the route."""

    action: FilterAction = _option(
        Scalar(scalars.choice(FilterAction)), "`accept` or `deny`.",
        default=FilterAction.ACCEPT, written="accept",
    )  # fmt: skip
    match: tuple[PrefixMatch, ...] = shapes.match()
    source: FilterSource | None = _option(
        Scalar(scalars.choice(FilterSource)),
        "`neighbor`: from inside the network; `redistributed`: brought into it by its origin.",
        default=None,
    )
    tag: int | None = shapes.only_tag()
    neighbor: Address | None = _option(
        Scalar(scalars.router_id), "Only routes learned from the router with this id.", default=None
    )
    interface: str | None = _option(
        Scalar(scalars.interface_pattern),
        "Only on interfaces of this name: learned there (import), or advertised there (export).",
        default=None,
    )
    set_metric: int | None = _option(
        Scalar(scalars.whole_number(0, 2**31 - 1)),
        "The metric is raised to this value if it is lower; it is never lowered.", default=None,
    )  # fmt: skip
    set_tag: int | None = _option(shapes.TAG, "The tag is set to this value.", default=None)


@dataclass(frozen=True, slots=True)
class ImportRule(FilterRule):
    """One rule of the import filter."""

    set_distance: int | None = _option(
        shapes.DISTANCE,
        "Administrative distance; the lowest wins, 255 is shown and never used.",
        default=None,
    )


@dataclass(frozen=True, slots=True)
class KernelRule:
    """One rule of the kernel filter."""

    action: FilterAction = _option(
        Scalar(scalars.choice(FilterAction)),
        "`accept`, or `deny`: decided and announced, but not in the kernel.",
        default=FilterAction.ACCEPT, written="accept",
    )  # fmt: skip
    match: tuple[PrefixMatch, ...] = shapes.match()
    source: KernelRuleSource | None = _option(
        Scalar(scalars.choice(KernelRuleSource)),
        "Only routes of this source: `static`, `injected`, `neighbor` or `redistributed`.",
        default=None,
    )
    tag: int | None = shapes.only_tag()
    attributes: AttributesConfig | None = _option(
        Inline(AttributesConfig, "set_"), "", default=None
    )

    @property
    def kernel_attributes(self) -> KernelAttributes | None:
        """The attributes that the rule sets; None for none that differs from its default."""
        return None if self.attributes is None else self.attributes.kernel_attributes

    @property
    def words(self) -> tuple[str, ...]:
        """The words of the attributes that the rule sets."""
        return () if self.attributes is None else self.attributes.words


@dataclass(frozen=True, slots=True)
class FiltersConfig:
    """The three filters; in each list the first rule that matches a route decides."""

    imports: tuple[ImportRule, ...] = _option(
        ListOf(ImportRule),
        "Routes learned from neighbors; a route that matches no rule is accepted.",
        key="import", default=(), written="[]",
    )  # fmt: skip
    exports: tuple[FilterRule, ...] = _option(
        ListOf(FilterRule),
        "Routes advertised to neighbors; a route that matches no rule is advertised.",
        key="export", default=(), written="[]",
    )  # fmt: skip
    kernel: tuple[KernelRule, ...] = _option(
        ListOf(KernelRule),
        "Selected routes for the kernel; a route that matches no rule is installed.",
        default=(), written="[]",
    )  # fmt: skip


@dataclass(frozen=True, slots=True)
class SummaryConfig:
    """A summary: a prefix that is advertised while there is a route to a prefix inside it."""

    prefix: Prefix = _option(Scalar(scalars.prefix), "The prefix to announce.")
    metric: int = _option(
        shapes.START_METRIC, "Its initial metric.",
        default=0, written="0",
    )  # fmt: skip
    tag: int = _option(shapes.TAG, "Its tag.", default=0, written="0")
    only: bool = _option(
        Scalar(scalars.boolean),
        "Do not announce the prefixes inside it, on the interfaces of `interface`.",
        default=False, written="false",
    )  # fmt: skip
    interface: str | None = _option(
        Scalar(scalars.interface_pattern),
        "With `only`: the interfaces; all when absent.",
        default=None,
    )
