"""The options of static routes.

See `schema` for the rest of routes.yaml, and `options` for how an option is declared.
"""

from __future__ import annotations

from ipc.lazy_dataclass import dataclass
from routed.config import scalars, shapes, table_scalars
from routed.config.options import Inline, ListOf, Scalar
from routed.config.options import option as _option
from routed.config.route_options import AttributesConfig, StaticType
from routed.model.kernel_attributes import KernelAttributes
from routed.model.prefix import Address, Prefix
from routed.model.route import MAX_WEIGHT, Gateway, bfd_tracker, probe_tracker

__all__ = ["NextHopConfig", "StaticConfig"]


@dataclass(frozen=True, slots=True)
class NextHopConfig:
    """One of several next hops of a static route."""

    via: Address | None = _option(
        Scalar(scalars.gateway),
        "The gateway; an IPv4 route may have an IPv6 gateway.", default=None,
    )  # fmt: skip
    dev: str | None = _option(
        Scalar(scalars.next_hop_link),
        "The interface; required for a link-local `via`.",
        default=None,
    )
    weight: int = _option(
        Scalar(scalars.whole_number(1, MAX_WEIGHT)), "Share of the traffic.",
        default=1, written="1",
    )  # fmt: skip
    onlink: bool = _option(
        Scalar(scalars.boolean),
        "Treat `via` as reachable on `dev` even if no subnet of `dev` contains it.",
        default=False, written="false",
    )  # fmt: skip

    bfd: str | None = _option(
        Scalar(scalars.word),
        "The BFD session (see `bfd`) that must be up for this next hop to be used.",
        default=None,
    )
    probe: str | None = _option(
        Scalar(scalars.word),
        "The probe (see `probes`) that must be up for this next hop to be used.",
        default=None,
    )

    @property
    def gateway(self) -> Gateway:
        """The next hop in the form that the RIB uses."""
        tracker = bfd_tracker(self.bfd) or probe_tracker(self.probe)
        return Gateway(self.via, self.dev, self.weight, self.onlink, tracker)


@dataclass(frozen=True, slots=True)
class StaticConfig:
    """A static route: `via` and `dev`, or several `next_hops`, or a `type` that has none."""

    prefix: Prefix = _option(Scalar(scalars.prefix), "The destination.")
    table: str | None = _option(
        Scalar(table_scalars.table_reference),
        "The table of the route: an entry of `tables`, by its name.", default=None, written="main",
    )  # fmt: skip
    via: Address | None = _option(
        Scalar(scalars.gateway),
        "The gateway; an IPv4 route may have an IPv6 gateway.", default=None,
    )  # fmt: skip
    dev: str | None = _option(
        Scalar(scalars.next_hop_link),
        "The interface; required for a link-local `via`.",
        default=None,
    )
    onlink: bool = _option(
        Scalar(scalars.boolean),
        "Treat `via` as reachable on `dev` even if no subnet of `dev` contains it.",
        default=False, written="false",
    )  # fmt: skip
    next_hops: tuple[NextHopConfig, ...] = _option(
        ListOf(NextHopConfig), "Several next hops that share the traffic.", default=()
    )
    type: StaticType = _option(
        Scalar(scalars.choice(StaticType)),
        "`unicast`; `local` or (IPv4) `broadcast`, with `dev`; or how the look-up ends: "
        "`blackhole`, `unreachable`, `prohibit`, or `throw` (the next policy rule decides).",
        default=StaticType.UNICAST, written="unicast",
    )  # fmt: skip
    metric: int = _option(
        Scalar(scalars.whole_number(0, 2**31 - 1)),
        "Decides between static routes for one prefix; the lowest wins.", default=0, written="0",
    )  # fmt: skip
    distance: int = _option(
        shapes.DISTANCE,
        "Administrative distance; the lowest wins, 255 is shown and never used.",
        default=1, written="1",
    )  # fmt: skip
    tag: int = shapes.mark()
    bfd: str | None = _option(
        Scalar(scalars.word),
        "The BFD session (see `bfd`) that must be up for `via` or `dev` to be used; with several "
        "`next_hops` each names its own.",
        default=None,
    )
    probe: str | None = _option(
        Scalar(scalars.word),
        "The probe (see `probes`) that must be up for `via` or `dev` to be used; with several "
        "`next_hops` each names its own.",
        default=None,
    )
    attributes: AttributesConfig | None = _option(Inline(AttributesConfig), "", default=None)

    @property
    def kernel_attributes(self) -> KernelAttributes | None:
        """The attributes in the form that the RIB uses; None for a plain route."""
        return None if self.attributes is None else self.attributes.kernel_attributes

    @property
    def gateways(self) -> tuple[Gateway, ...]:
        """The next hops, given as `next_hops` or as `via` and `dev`; none for another type."""
        if self.next_hops:
            return tuple(next_hop.gateway for next_hop in self.next_hops)
        if self.via is None and self.dev is None:
            return ()
        tracker = bfd_tracker(self.bfd) or probe_tracker(self.probe)
        return (Gateway(self.via, self.dev, 1, self.onlink, tracker),)
