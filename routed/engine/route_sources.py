"""Candidates of the RIB that come from NUP and the kernel; see also `static_routes`.

    RoutesLearned, RouteHeld, RouteLost     --> RouteSource.NEIGHBOR or REDISTRIBUTED
    routes that other programs install      --> RouteSource.KERNEL
    a summary that is originated            --> an unreachable route behind it (RFC 4632, 5.1)

This module remembers what is needed to withdraw a candidate: from which source a route of NUP came.
"""

from __future__ import annotations

from collections.abc import Iterable

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
    """Owns the source of each route of NUP."""

    def __init__(self, rib: Rib) -> None:
        """Begin without candidates.

        Args:
            rib: receives the candidates; other objects install those of other sources.
        """
        self._rib = rib
        self.origins: dict[Prefix, Address] = {}
        """The router that originates each prefix that NUP has learned."""
        self._learned: dict[Prefix, RouteSource] = {}

    # --- the kernel

    def handle_kernel_routes(
        self, install: Iterable[ImportedRoute], remove: Iterable[tuple[Prefix, str]]
    ) -> None:
        """Install and withdraw routes that are imported from the kernel."""
        for imported in install:
            self._rib.install(
                Route(
                    prefix=imported.prefix,
                    source=RouteSource.KERNEL,
                    distance=imported.distance,
                    metric=imported.metric,
                    tag=imported.tag,
                    type=imported.type,
                    next_hops=imported.next_hops,
                    owner=imported.owner,
                )
            )
        for prefix, owner in remove:
            self._rib.withdraw(prefix, RouteSource.KERNEL, owner)

    # --- neighbors

    def handle_learned(self, learned: RoutesLearned) -> None:
        """Install the path that NUP has selected for some prefixes."""
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
        """Make a prefix unreachable while it is retracted: a shorter prefix might form a loop."""
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
        """Record the source of a prefix, which has one source in NUP at a time."""
        before = self._learned.get(prefix)
        if before is not source:
            if before is not None:
                self._rib.withdraw(prefix, before, _NUP_OWNER)
            self._learned[prefix] = source

    def withdraw(self, prefix: Prefix) -> None:
        """Withdraw the route of NUP to a prefix."""
        self.origins.pop(prefix, None)
        source = self._learned.pop(prefix, None)
        if source is not None:
            self._rib.withdraw(prefix, source, _NUP_OWNER)

    # --- summaries

    def set_summary(self, prefix: Prefix, is_active: bool) -> None:
        """Install or withdraw the unreachable route of a summary.

        Packets to what the summary covers and no route reaches then do not follow a default route.
        """
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
