"""Whether a route may have its type and its kernel attributes, in its family. Pure.

The configuration, requests of clients and the admission of the engine's routes check by the same
function, so what one of them accepts is accepted by all.
"""

from __future__ import annotations

from collections.abc import Iterator

from routed.model.kernel_attributes import SCOPES, KernelAttributes, attributes_of
from routed.model.prefix import Family
from routed.model.route import RouteType

__all__ = ["kernel_problem", "kernel_problems"]

_LEAST_SCOPE = {RouteType.LOCAL: SCOPES["host"], RouteType.BROADCAST: SCOPES["link"]}
"""fib_props of Linux (net/ipv4/fib_semantics.c)."""


def kernel_problem(
    family: Family, route_type: RouteType, attributes: KernelAttributes | None
) -> str:
    """Return why a route cannot have these attributes or be of this type; empty if it can.

    Args:
        family: of the prefix.
        route_type: of the route.
        attributes: None for a plain route; nothing about them is trusted.

    Cost: some microseconds for attributes, nothing without.
    """
    if attributes is not None:
        try:
            if attributes_of(attributes.words) != attributes:
                return "attributes that no route can have"
        except ValueError as error:
            return str(error)
    for word, problem in kernel_problems(family, route_type, attributes):
        return f"{word}: {problem}"
    return ""


def kernel_problems(
    family: Family, route_type: RouteType, attributes: KernelAttributes | None
) -> Iterator[tuple[str, str]]:
    """Iterate over what is wrong with the type (`type`) and the attributes (their words) of a route
    of a family. Arguments as for `kernel_problem`; each attribute is right in itself."""
    if route_type is RouteType.BROADCAST and family is Family.IPV6:
        yield "type", "broadcast is for IPv4 routes only"
    if attributes is None:
        return
    if attributes.scope is not None and attributes.scope < _LEAST_SCOPE.get(route_type, 0):
        yield "scope", f"is too wide for a {route_type.name.lower()} route"
    if attributes.pref and route_type is not RouteType.UNICAST:
        yield "pref", "is for unicast routes only"
    yield from attributes.problems_for(family)
