"""How each source of routes stands, in a word and a line: what `show protocol` says. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from routed.config.schema import Config
from routed.model.route import RouteSource
from routed.nup.events import AdjacencyState

__all__ = ["ProtocolFact", "protocol_facts"]


class ProtocolFact(NamedTuple):
    """One source of routes."""

    state: str
    """up, down or off."""
    detail: str


def protocol_facts(
    config: Config,
    adjacencies: Sequence[AdjacencyState],
    are_links_up: Sequence[bool],
    neighbor_links: int,
) -> dict[RouteSource, ProtocolFact]:
    """Every source.

    Args:
        config: in force.
        adjacencies: the state of each.
        are_links_up: of every link of the host.
        neighbor_links: on how many of them NUP runs.
    """
    up = sum(state is AdjacencyState.UP for state in adjacencies)
    nup_detail = (
        f"NUP on {_count(neighbor_links, 'link')}, {up} of "
        f"{_count(len(adjacencies), 'adjacency', 'adjacencies')} up"
    )
    is_nup_wanted = bool(config.interfaces)
    nup = ProtocolFact(
        "up" if up else "down" if is_nup_wanted else "off",
        nup_detail if is_nup_wanted else "no `interfaces` are configured for NUP",
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
