"""Advertisements: our own or the selected route, after split horizon and the export policy.

Split horizon: a selected route is not advertised on a link that any of its next hops is on.
"""

from __future__ import annotations

from routed.model.prefix import Prefix
from routed.nup.shared_state import SharedState
from routed.nup.wire.message import RouteUpdate

__all__ = ["Advertisements"]


class Advertisements:
    """Computes advertisements from the routes as they are; owns no state."""

    def __init__(self, state: SharedState) -> None:
        self._router_id = state.own.router_id
        self._origins = state.origins
        self._table = state.table
        self._policy = state.policy

    def lookup(self, prefix: Prefix, ifindex: int) -> RouteUpdate | None:
        """Return what a link may be advertised of a prefix now; None when nothing."""
        own = self._origins.get(prefix)
        if own is not None:
            ours = RouteUpdate(
                prefix, own.metric, own.tag, own.is_external, self._router_id, own.seqno
            )
            return self._policy.export(ours, (), ifindex)
        selection = self._table.selection(prefix)
        if selection is None or any(key.ifindex == ifindex for key in selection.neighbors):
            return None
        update = RouteUpdate(
            prefix,
            selection.metric,
            selection.tag,
            selection.is_external,
            selection.origin,
            selection.seqno,
        )
        learned_from = tuple(key.router_id for key in selection.neighbors)
        return self._policy.export(update, learned_from, ifindex)
