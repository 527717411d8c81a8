"""What offers routes to the RIB, besides links and clients: configuration, neighbors, kernel.

    static routes (a configuration)        --> RouteSource.STATIC
    RoutesLearned, RouteHeld, RouteLost    --> RouteSource.NEIGHBOR or REDISTRIBUTED
    what others keep in the kernel         --> RouteSource.KERNEL
    an announced summary                   --> an unreachable route behind it (RFC 4632 section 5.1)

Here is what has to be remembered to take a candidate back: which static routes are in force, and by
which source a neighbor's route came.
"""

from __future__ import annotations

from collections.abc import Iterable

from routed.config.schema import Config
from routed.engine.redistribution import SUMMARY_OWNER
from routed.model.prefix import Address, Prefix
from routed.model.route import (
    DEFAULT_DISTANCE,
    METRIC_INFINITY,
    ImportedRoute,
    PathAttributes,
    Route,
    RouteSource,
    RouteType,
)
from routed.nup.events import RoutesLearned
from routed.rib.table import Rib

__all__ = ["CandidateSources"]

_NUP_OWNER = "nup"


class CandidateSources:
    """Keeps the RIB's candidates of these sources as they are offered."""

    def __init__(self, rib: Rib) -> None:
        """Args:
        rib: where they go; others install candidates of other sources.
        """
        self._rib = rib
        self._statics: dict[tuple[Prefix, str], Route] = {}
        self.origins: dict[Prefix, Address] = {}
        """The router that announces each prefix which NUP has learned."""
        self._learned: dict[Prefix, RouteSource] = {}

    # --- the configuration

    def follow_statics(self, config: Config) -> None:
        """The static routes are these; only what differs is touched."""
        before, self._statics = self._statics, _static_routes(config)
        for key, route in before.items():
            if key not in self._statics:
                self._rib.withdraw(route.prefix, route.source, route.owner)
        for key, route in self._statics.items():
            if before.get(key) != route:
                self._rib.install(route)

    # --- the kernel

    def follow_kernel(
        self, install: Iterable[ImportedRoute], remove: Iterable[tuple[Prefix, str]]
    ) -> None:
        """What others keep in the kernel has changed."""
        for learned in install:
            self._rib.install(
                Route(
                    prefix=learned.prefix,
                    source=RouteSource.KERNEL,
                    distance=learned.distance,
                    metric=learned.metric,
                    tag=learned.tag,
                    type=learned.type,
                    next_hops=learned.next_hops,
                    owner=learned.owner,
                )
            )
        for prefix, owner in remove:
            self._rib.withdraw(prefix, RouteSource.KERNEL, owner)

    # --- neighbors

    def learn(self, learned: RoutesLearned) -> None:
        """Offer what NUP has chosen for some prefixes."""
        family, prefixes, path = learned
        source = RouteSource.REDISTRIBUTED if path.is_external else RouteSource.NEIGHBOR
        self.origins.update(dict.fromkeys(prefixes, path.origin))
        source_of = self._learned.get
        for prefix in [each for each in prefixes if source_of(each, source) is not source]:
            self._rib.withdraw(prefix, self._learned[prefix], _NUP_OWNER)
        self._learned.update(dict.fromkeys(prefixes, source))
        attributes = PathAttributes(
            path.distance or DEFAULT_DISTANCE[source],
            path.metric,
            source,
            _NUP_OWNER,
            tag=path.tag,
            next_hops=path.next_hops,
        )
        keys = [addr_bits << 8 | prefix_len for _, addr_bits, prefix_len in prefixes]  # `as_int`
        self._rib.install_all(family, keys, attributes)

    def hold(self, prefix: Prefix) -> None:
        """Refuse packets while neighbors are told: a shorter prefix might lead them in a circle."""
        source = self._learned.get(prefix, RouteSource.NEIGHBOR)
        self._install_learned(
            Route(
                prefix=prefix,
                source=source,
                distance=DEFAULT_DISTANCE[source],
                metric=METRIC_INFINITY - 1,
                type=RouteType.UNREACHABLE,
                owner=_NUP_OWNER,
            )
        )

    def _install_learned(self, route: Route) -> None:
        self._record_source(route.prefix, route.source)
        self._rib.install(route)

    def _record_source(self, prefix: Prefix, source: RouteSource) -> None:
        """NUP offers a prefix from one source at a time."""
        before = self._learned.get(prefix)
        if before is not source:
            if before is not None:
                self._rib.withdraw(prefix, before, _NUP_OWNER)
            self._learned[prefix] = source

    def forget(self, prefix: Prefix) -> None:
        """NUP has none any more."""
        self.origins.pop(prefix, None)
        source = self._learned.pop(prefix, None)
        if source is not None:
            self._rib.withdraw(prefix, source, _NUP_OWNER)

    # --- summaries

    def set_summary(self, prefix: Prefix, is_active: bool) -> None:
        """What a summary covers and nobody reaches ends here, rather than at a default route."""
        if not is_active:
            self._rib.withdraw(prefix, RouteSource.STATIC, SUMMARY_OWNER)
        else:
            self._rib.install(
                Route(
                    prefix=prefix,
                    source=RouteSource.STATIC,
                    distance=DEFAULT_DISTANCE[RouteSource.STATIC],
                    metric=0,
                    type=RouteType.UNREACHABLE,
                    owner=SUMMARY_OWNER,
                )
            )


def _static_routes(config: Config) -> dict[tuple[Prefix, str], Route]:
    routes = {}
    for static in config.static:
        # Two static routes of one prefix differ in distance or metric (config/check.py).
        owner = f"{static.distance}/{static.metric}"
        routes[static.prefix, owner] = Route(
            prefix=static.prefix,
            source=RouteSource.STATIC,
            distance=static.distance,
            metric=static.metric,
            tag=static.tag,
            type=static.type.route_type,
            gateways=static.gateways,
            owner=owner,
        )
    return routes
