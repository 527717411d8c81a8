"""Routes and rules of a kernel -> entries of routes.yaml, or the reason why there is none. Pure.

A route becomes an entry of `static` if the schema has an option for everything that the kernel
obeys of it. An attribute of `AttributesConfig` has the word of `ip route`, so an attribute that the
schema gains is used here without a change.

Invariants:
    An entry means what the kernel has: nothing of a route or a rule is dropped in silence.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from routed.config.options import Option, Scalar, options_of
from routed.config.route_options import AttributesConfig
from routed.config.rules import RuleConfig, RuleFamily
from routed.config.schema import NextHopConfig, StaticConfig, StaticType
from routed.fib.nexthops.codec import NextHopForm
from routed.fib.nexthops.table import resolve
from routed.model.prefix import Family
from routed.model.rule import PolicyRule
from routed.netlink.route_message import RouteHop, RouteMessage, type_name

__all__ = ["UNPRINTABLE", "InexpressibleError", "Surroundings", "rule_entries", "static_entry"]

UNPRINTABLE = "the name of the interface has characters that no file can have"
"""The reason why a route or rule of such an interface is left out."""

_TYPES = {member.value: member for member in StaticType}
_ATTRIBUTES = {option.key: option for option in options_of(AttributesConfig)}


class InexpressibleError(Exception):
    """A route or rule that routes.yaml cannot express. The text says why."""


class Surroundings(NamedTuple):
    """What routes refer to."""

    table_id: int
    """The table that the configuration manages."""
    name_of: Callable[[int], str]
    """Returns the name of the link of an index."""
    objects: Mapping[int, NextHopForm | None]
    """The nexthop objects of the kernel."""


def static_entry(route: RouteMessage, around: Surroundings) -> StaticConfig:
    """Convert a route.

    Args:
        route: the route.
        around: what it refers to.

    Raises:
        InexpressibleError: there is no such entry.
    """
    kind = _TYPES.get(type_name(route.type))
    if kind is None:
        raise InexpressibleError(f"no option for the type {type_name(route.type)}")
    fields: dict[str, Any] = {"prefix": route.prefix, "type": kind, "metric": route.priority}
    if route.table_id != around.table_id:
        raise InexpressibleError("the configuration manages one table; see --table")
    attributes: dict[str, Any] = {}
    for word, value in route.other:
        if word not in _ATTRIBUTES:
            raise InexpressibleError(f"no option for `{word} {value}`")
        attributes[_ATTRIBUTES[word].field] = _read(_ATTRIBUTES[word], value)
    if attributes:
        fields["attributes"] = AttributesConfig(**attributes)
    if kind.route_type.has_next_hops:
        fields |= _next_hops(_hops_of(route, around), around)
    return StaticConfig(**fields)


def _read(option: Option, text: str) -> object:
    """Read a value as from a file.

    Raises:
        InexpressibleError: the option does not have this value.
    """
    key, shape = option.key, option.shape
    if not isinstance(shape, Scalar):
        raise InexpressibleError(f"`{key}` is not a single value")
    try:
        return shape.reader.read(text)
    except ValueError as error:
        raise InexpressibleError(f"{key}: {error}") from error


def _hops_of(route: RouteMessage, around: Surroundings) -> list[RouteHop]:
    """Return the next hops, from the route or from its nexthop object."""
    if not route.nexthop_id or route.hops:
        return list(route.hops)
    hops = resolve(around.objects, route.nexthop_id)
    if not hops:
        raise InexpressibleError(f"the nexthop object {route.nexthop_id} is of another kind")
    return [RouteHop(hop.via, hop.ifindex, hop.weight, hop.is_onlink) for hop in hops]


def _next_hops(hops: list[RouteHop], around: Surroundings) -> dict[str, Any]:
    if not hops:
        raise InexpressibleError("a unicast route without a next hop")
    for hop in hops:
        for word, value in hop.other:
            raise InexpressibleError(f"no option for `{word} {value}` of a next hop")
    found = [
        NextHopConfig(hop.via, _link_of(hop, around), hop.weight, hop.is_onlink) for hop in hops
    ]
    if len(found) > 1:
        return {"next_hops": tuple(found)}
    (only,) = found
    return {"via": only.via, "dev": only.dev, "onlink": only.onlink}


def _link_of(hop: RouteHop, around: Surroundings) -> str | None:
    if not hop.ifindex:
        return None
    name = around.name_of(hop.ifindex)
    if not name.isprintable():
        raise InexpressibleError(UNPRINTABLE)
    return name


def rule_entries(rules: list[PolicyRule]) -> list[RuleConfig]:
    """Convert rules: one entry for a rule that both families have.

    Cost: linear in the rules.
    """
    everywhere = set(rules)
    entries = []
    for rule in dict.fromkeys(rules):
        other = Family.IPV6 if rule.family is Family.IPV4 else Family.IPV4
        both = RuleConfig.of(rule, RuleFamily.BOTH)
        if both.families == (rule.family,):
            entries.append(both)
        elif rule._replace(family=other) not in everywhere:
            entries.append(RuleConfig.of(rule, RuleFamily(rule.family.name.lower())))
        elif rule.family is Family.IPV4:
            entries.append(both)
    return entries
