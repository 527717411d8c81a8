"""The static routes of a configuration, as candidates of the RIB of their table."""

from __future__ import annotations

from collections.abc import Iterable

from routed.config.schema import StaticConfig
from routed.model.prefix import Prefix
from routed.model.route import Route, RouteSource
from routed.rib.table import Rib

__all__ = ["StaticRoutes"]


class StaticRoutes:
    """Owns the static routes of a table that are in force."""

    def __init__(self, rib: Rib) -> None:
        """Begin without routes.

        Args:
            rib: of the table; other objects install candidates of other sources.
        """
        self._rib = rib
        self._routes: dict[tuple[Prefix, str], Route] = {}

    def apply(self, statics: Iterable[StaticConfig]) -> None:
        """Install the static routes of a configuration; only differences are touched."""
        before, self._routes = self._routes, _static_routes(statics)
        for key, route in before.items():
            if key not in self._routes:
                self._rib.withdraw(route.prefix, route.source, route.owner)
        for key, route in self._routes.items():
            if before.get(key) != route:
                self._rib.install(route)


def _static_routes(statics: Iterable[StaticConfig]) -> dict[tuple[Prefix, str], Route]:
    routes = {}
    for static in statics:
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
            kernel_attributes=static.kernel_attributes,
        )
    return routes
