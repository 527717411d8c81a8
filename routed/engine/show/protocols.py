"""State of each source of routes, with a line of detail, for `show protocol`. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from routed.config.schema import Config
from routed.model.route import RouteSource
from routed.nup.events import AdjacencyState

__all__ = ["ProtocolFact", "protocol_facts"]


class ProtocolFact(NamedTuple):
    """The state of one source of routes."""

    state: str
    """up, down or off."""
    detail: str


def protocol_facts(
    config: Config,
    adjacencies: Sequence[AdjacencyState],
    are_links_up: Sequence[bool],
    neighbor_links: int,
) -> dict[RouteSource, ProtocolFact]:
    """Describe every source of routes.

    Args:
        config: in force.
        adjacencies: their states.
        are_links_up: for every link of the host.
        neighbor_links: the number of links on which NUP runs.
    """
    up = sum(state is AdjacencyState.UP for state in adjacencies)
    nup_detail = (
        f"NUP on {_count(neighbor_links, 'link')}, {up} of "
        f"{_count(len(adjacencies), 'adjacency', 'adjacencies')} up"
    )
    is_nup_configured = bool(config.interfaces)
    nup = ProtocolFact(
        "up" if up else "down" if is_nup_configured else "off",
        nup_detail if is_nup_configured else "no `interfaces` are configured for NUP",
    )
    links_up = sum(are_links_up)
    return {
        RouteSource.CONNECTED: ProtocolFact(
            "up" if links_up else "down", f"{links_up} of {_count(len(are_links_up), 'link')} up"
        ),
        RouteSource.STATIC: ProtocolFact(
            "up" if config.static else "off", f"{len(config.static)} configured"
        ),
        RouteSource.INJECTED: ProtocolFact("up", "from clients of the management socket"),
        RouteSource.NEIGHBOR: nup,
        RouteSource.REDISTRIBUTED: nup._replace(detail="NUP, from outside the network"),
        RouteSource.KERNEL: ProtocolFact(
            "up" if config.learn else "off",
            f"{_count(len(config.learn), 'rule')} of `learn`"
            if config.learn
            else "nothing under `learn`",
        ),
    }


def _count(number: int, noun: str, plural: str = "") -> str:
    return f"{number} {noun if number == 1 else plural or noun + 's'}"
