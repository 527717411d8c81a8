"""Selections of routes: what the requests `show routes` and `show fib` ask for, validated."""

from __future__ import annotations

from dataclasses import dataclass

from ipc.control import AddressFamily, ShowFib, ShowRoutes
from routed.model.prefix import Family, Prefix
from routed.model.route import RouteSource

__all__ = ["RouteSelector", "fib_selector", "route_selector"]


@dataclass(frozen=True, slots=True)
class RouteSelector:
    """A selection of candidates; the default selects all."""

    family: Family | None = None
    prefix: Prefix | None = None
    is_longer: bool = False
    """With `prefix`: everything inside it, instead of exactly it."""
    source: RouteSource | None = None
    is_selected_only: bool = False

    def matches_prefix(self, prefix: Prefix) -> bool:
        """Return whether candidates of a prefix may be selected."""
        if self.family is not None and prefix.family != self.family:
            return False
        if self.prefix is None:
            return True
        return self.prefix.covers(prefix) if self.is_longer else prefix == self.prefix


def route_selector(request: ShowRoutes) -> RouteSelector:
    """Return the candidates that a request selects.

    Raises:
        ValueError: no such prefix or source; the text is for the client.
    """
    return RouteSelector(
        _family(request.family),
        _prefix(request.prefix),
        request.is_longer,
        None if request.source is None else _source(request.source),
        request.is_selected_only,
    )


def fib_selector(request: ShowFib) -> RouteSelector:
    """Return the desired routes that a request selects; raises as `route_selector`."""
    return RouteSelector(_family(request.family), _prefix(request.prefix), request.is_longer)


def _prefix(text: str | None) -> Prefix | None:
    return None if text is None else Prefix.parse(text)


def _family(family: AddressFamily | None) -> Family | None:
    return None if family is None else Family[family.name]


def _source(name: str) -> RouteSource:
    labels = {source.label: source for source in RouteSource}
    if name not in labels:
        raise ValueError(f"{name!r} is no route source: {', '.join(labels)}")
    return labels[name]
