"""Route updates of a neighbor: applied to the table, with counters and traces of the outcomes.

Every update that does not simply take effect is counted by its reason. A condition that an operator
should know is traced once, until it is over.
"""

from __future__ import annotations

from collections.abc import Sequence

from routed.model.martians import find_martian
from routed.model.prefix import Prefix
from routed.nup.events import TraceCode
from routed.nup.lifecycle import Lifecycle
from routed.nup.link.state import Link, Neighbor
from routed.nup.pending_updates import PendingUpdates
from routed.nup.routes.distances import SOURCE_GC_S
from routed.nup.routes.entries import UpdateOutcome, UpdateVerdict
from routed.nup.routes.prefix_counts import MAX_ROUTES
from routed.nup.routes.seqno_limits import Raise
from routed.nup.shared_state import SharedState
from routed.nup.wire.message import RouteUpdate

__all__ = ["UpdateReceiver"]

_CODES = {
    UpdateVerdict.UNFEASIBLE: TraceCode.UNFEASIBLE_UPDATE,
    UpdateVerdict.OLD_VERSION: TraceCode.IGNORED_OLD_VERSION,
    UpdateVerdict.OWN_ORIGIN: TraceCode.IGNORED_OWN_ORIGIN,
    UpdateVerdict.TABLE_FULL: TraceCode.IGNORED_TABLE_FULL,
    UpdateVerdict.OUT_OF_REACH: TraceCode.SEQNO_OUT_OF_REACH,
    UpdateVerdict.ORIGINS_FULL: TraceCode.IGNORED_ORIGINS_FULL,
    UpdateVerdict.MARTIAN: TraceCode.IGNORED_MARTIAN,
}


class UpdateReceiver:
    """Hands updates to the table; owns no state."""

    def __init__(
        self, state: SharedState, lifecycle: Lifecycle, pending_updates: PendingUpdates
    ) -> None:
        self._log = state.log
        self._table = state.table
        self._origins = state.origins
        self._lifecycle = lifecycle
        self._pending_updates = pending_updates

    def receive(
        self,
        link: Link,
        neighbor: Neighbor,
        updates: Sequence[RouteUpdate],
        version: int,
        now: float,
    ) -> None:
        """Apply the updates of one message."""
        counts, key = self._table.counts, neighbor.key
        was_over, had_martians = counts.refused(key) > 0, bool(counts.martians(key))
        was_unremembered = counts.unremembered(key) > 0
        own: set[Prefix] = set()
        for outcome in self._table.accept_updates(key, updates, version, now):
            code = _CODES.get(outcome.verdict)
            if code is not None:
                self._log.count(code, len(outcome.prefixes))
            if outcome.verdict is UpdateVerdict.OWN_ORIGIN:
                own.update(self._handle_own_origin(neighbor, outcome, now))
        watch = neighbor.exchange.duplicate_ids
        if not watch.is_empty:
            watch.clear(update.prefix for update in updates if update.prefix not in own)
        self._lifecycle.report_duplicate_id(link, neighbor, now)
        if not was_over and counts.refused(key):
            limit = f"max_prefixes: {link.settings.max_prefixes}"
            if counts.is_crowded_out(key):
                fillers = ", ".join(str(filler.router_id) for filler in counts.fillers())
                limit = f"the table holds: {MAX_ROUTES} routes, most of them of {fillers}"
            self._trace(link, neighbor, TraceCode.PREFIX_LIMIT, f"advertises more than {limit}")
        if not was_unremembered and counts.unremembered(key):
            self._trace(link, neighbor, TraceCode.ORIGIN_LIMIT, "advertises too many origins")
        if counts.unremembered(key):
            self._lifecycle.plan_table_request(neighbor, now + SOURCE_GC_S)
        martians = [] if had_martians else counts.martians(key)
        if martians:
            reason = find_martian(martians[0])
            named = "" if reason is None else f" ({reason.value})"
            detail = f"advertises martians, such as {martians[0]}{named}"
            self._trace(link, neighbor, TraceCode.MARTIAN_REFUSED, detail)
        self._lifecycle.plan_request_if_room(neighbor, now)

    def _handle_own_origin(
        self, neighbor: Neighbor, outcome: UpdateOutcome, now: float
    ) -> list[Prefix]:
        """Handle updates with our router id as origin. Returns the prefixes that we do not announce
        so."""
        watch = neighbor.exchange.duplicate_ids
        strange: list[Prefix] = []
        for prefix in outcome.prefixes:
            if prefix not in self._origins:
                watch.record(prefix, now)
                strange.append(prefix)
                continue
            # A route of an earlier boot is newer than ours: exceed its seqno, or ours is unusable.
            verdict = self._origins.raise_past(prefix, outcome.seqno, now)
            if verdict is Raise.GRANTED:
                self._log.count(TraceCode.SEQNO_RAISED)
                self._pending_updates.mark(prefix, now)
            elif verdict is not Raise.BEHIND:
                self._log.count(TraceCode.SEQNO_RAISE_REFUSED)
                watch.record(prefix, now)
                strange.append(prefix)
            if verdict is not Raise.BEHIND and self._origins.is_contested(prefix, now):
                watch.record_contested(prefix)
                strange.append(prefix)
        return strange

    def _trace(self, link: Link, neighbor: Neighbor, code: TraceCode, detail: str) -> None:
        self._log.trace(
            code,
            link.settings.ifindex,
            neighbor.adjacency.address,
            f"{neighbor.key.router_id} {detail}",
        )
