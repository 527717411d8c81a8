"""The configured policy, applied to the neighbors and links of an instance."""

from __future__ import annotations

from collections.abc import Mapping

from routed.model.prefix import Address
from routed.nup.link.state import Link
from routed.nup.routes.entries import NeighborKey
from routed.nup.routes.policy import Imported, Policy
from routed.nup.wire.message import RouteUpdate

__all__ = ["LinkPolicy"]


class LinkPolicy:
    """Owner of the policy that is in force; rules name links by their names."""

    def __init__(self, links: Mapping[int, Link]) -> None:
        """Start without rules.

        Args:
            links: those that are up, by index.
        """
        self._links = links
        self._policy = Policy()

    @property
    def current(self) -> Policy:
        """The policy that is in force."""
        return self._policy

    def replace(self, policy: Policy) -> None:
        """Put another policy in force; the caller applies it to the routes that are known."""
        self._policy = policy

    def apply_import(self, key: NeighborKey, update: RouteUpdate) -> Imported:
        """Apply the import rules to an update of a neighbor."""
        ifname = self._links[key.ifindex].settings.ifname
        return self._policy.apply_import(update, key.router_id, ifname)

    def export(
        self, update: RouteUpdate, learned_from: tuple[Address, ...], ifindex: int
    ) -> RouteUpdate | None:
        """Apply the export rules of a link to a route; None when it is not advertised there.

        Args:
            update: the route, unfiltered.
            learned_from: router ids of the neighbors that it is reached by; empty for our own.
            ifindex: of the link.
        """
        return self._policy.export(update, learned_from, self._links[ifindex].settings.ifname)
