"""Rows for `show`: plain data made from the protocol's state."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeAlias

from routed.model.martians import find_martian
from routed.model.prefix import Address, Family, Prefix
from routed.nup.events import AdjacencyReason, AdjacencyState, LearnedRow, NeighborRow
from routed.nup.link.refusals import RefusedSender
from routed.nup.link.state import Link, Neighbor
from routed.nup.routes.entries import LearnedRoute, NeighborKey
from routed.nup.routes.prefix_counts import MAX_ROUTES
from routed.nup.routes.table import RouteTable

__all__ = [
    "NeighborPosition",
    "learned_rows",
    "neighbor_ids",
    "neighbor_rows",
    "next_hops_of",
    "position_of",
    "waiting_rows",
]

Fillers: TypeAlias = Mapping[NeighborKey, int]

NeighborPosition: TypeAlias = tuple[int, Address, Address]
"""The sort key of a row: its link, its address, and its router id (0.0.0.0 for none)."""

_NO_ROUTER_ID = Address(Family.IPV4, 0)


def position_of(row: NeighborRow) -> NeighborPosition:
    """Return the sort key of a row."""
    return row.ifindex, row.address, row.router_id or _NO_ROUTER_ID


def neighbor_ids(links: Mapping[int, Link]) -> set[Address]:
    """Return the router ids of all adjacencies."""
    return {
        neighbor.adjacency.router_id
        for link in links.values()
        for neighbor in link.neighbors.values()
    }


def next_hops_of(links: Mapping[int, Link], address: Address) -> set[tuple[Address | None, int]]:
    """Return the gateways and links of the neighbors with a router id or an address."""
    hops = (
        neighbor.next_hop(link.settings, family)
        for link in links.values()
        for neighbor in link.neighbors.values()
        if address in (neighbor.adjacency.router_id, neighbor.adjacency.address)
        for family in Family
    )
    return {(hop.via, hop.ifindex) for hop in hops if hop is not None}


def neighbor_rows(
    links: Mapping[int, Link],
    table: RouteTable,
    after: NeighborPosition | None,
    limit: int,
    now: float,
) -> list[NeighborRow]:
    """Return adjacencies and refused senders, in the order of their positions.

    Args:
        links: all of them, by index.
        table: the learned routes.
        after: the last one seen; None to begin.
        limit: how many.
        now: seconds, monotonic.
    """
    fillers = table.counts.fillers()
    rows: list[NeighborRow] = []
    for ifindex in sorted(links):
        if after is not None and ifindex < after[0]:
            continue
        link = links[ifindex]
        entries = _entries(link, now)
        for position in sorted(entries):
            if len(rows) == limit:
                return rows
            if after is None or position > after:
                entry = entries[position]
                rows.append(
                    refusal_row(link, entry)
                    if isinstance(entry, RefusedSender)
                    else neighbor_row(link, entry, table, fillers, now)
                )
    return rows


def _entries(link: Link, now: float) -> dict[NeighborPosition, Neighbor | RefusedSender]:
    """Return the neighbors and refused senders of a link, by position."""
    ifindex = link.settings.ifindex
    entries: dict[NeighborPosition, Neighbor | RefusedSender] = {
        (ifindex, neighbor.adjacency.address, neighbor.adjacency.router_id): neighbor
        for neighbor in link.neighbors.values()
    }
    known = {neighbor.adjacency.address for neighbor in link.neighbors.values()}
    for refusal in link.refusals.recent(now):
        if refusal.source not in known:
            entries[ifindex, refusal.source, _NO_ROUTER_ID] = refusal
    return entries


def neighbor_row(
    link: Link, neighbor: Neighbor, table: RouteTable, fillers: Fillers, now: float
) -> NeighborRow:
    """Make the row of one adjacency.

    Args:
        link: where it is.
        neighbor: that it is with.
        table: the learned routes.
        fillers: the neighbors with the most routes of a full table (`PrefixCounts.fillers`).
        now: seconds, monotonic.
    """
    adjacency, exchange = neighbor.adjacency, neighbor.exchange
    is_up = adjacency.state is AdjacencyState.UP and adjacency.up_since is not None
    return NeighborRow(
        router_id=adjacency.router_id,
        ifindex=link.settings.ifindex,
        ifname=link.settings.ifname,
        address=adjacency.address,
        state=adjacency.state,
        uptime_s=now - (adjacency.up_since or now) if is_up else 0.0,
        dead_in_s=max(adjacency.dead_at - now, 0.0),
        rtt_ms=None if adjacency.rtt_s is None else adjacency.rtt_s * 1000,
        rto_ms=exchange.sender.estimator.rto_s * 1000,
        cost=adjacency.cost(link.settings.cost),
        loss_here=1 - adjacency.history.share,
        loss_there=1 - adjacency.share_there,
        retransmissions=exchange.sender.retransmissions,
        prefixes=table.counts.reachable(neighbor.key),
        infeasible=table.seqno_requests.waiting(neighbor.key),
        is_restarting=neighbor.retained_until is not None,
        window=int(exchange.sender.window),
        in_flight=exchange.sender.in_flight,
        sent=exchange.sender.sent,
        received=exchange.receiver.received,
        duplicates=exchange.receiver.duplicates,
        out_of_order=exchange.receiver.out_of_order,
        problem=_problem(link, neighbor, table, fillers, now),
        mtu=None if adjacency.hello is None else adjacency.hello.mtu,
    )


def _problem(
    link: Link, neighbor: Neighbor, table: RouteTable, fillers: Fillers, now: float
) -> str:
    """Return why a neighbor is suppressed, or where its settings and ours disagree."""
    damping, hello = link.settings.damping, neighbor.adjacency.hello
    held_s = link.suppressed_for(neighbor, now)
    if damping is not None and held_s:
        penalty = link.memory.damper.penalty(neighbor.key.router_id, damping, now)
        return f"damped for {held_s:.0f} s: it flapped too often (penalty {penalty:.0f})"
    if neighbor.adjacency.address_problem:
        return neighbor.adjacency.address_problem
    one_way = _one_way(link, neighbor)
    if one_way:
        return one_way
    if neighbor.adjacency.state is not AdjacencyState.UP and link.was_given_up(neighbor, now):
        return f"recently given up: {AdjacencyReason.UNACKNOWLEDGED.value}"
    if _is_table_overdue(neighbor):
        return "its table does not end"
    route_problem = _route_problem(link, neighbor, table, fillers, now)
    if route_problem:
        return route_problem
    if hello is not None and hello.mtu != link.settings.mtu:
        return f"MTU differs: theirs {hello.mtu}, ours {link.settings.mtu}"
    if hello is not None:
        ours = f"{round(link.settings.hello_interval_s * 1000)} ms x {link.settings.multiplier}"
        theirs = f"{hello.interval_ms} ms x {hello.multiplier}"
        if theirs != ours:
            # It works, because each side advertises its dead interval, but is seldom intended.
            return f"hello differs: theirs {theirs}, ours {ours}"
    return ""


def _is_table_overdue(neighbor: Neighbor) -> bool:
    """Return whether a neighbor's table is no longer awaited, and has not ended."""
    return (
        neighbor.adjacency.state is AdjacencyState.LOADING
        and neighbor.adjacency.loading_until is None
        and not neighbor.exchange.is_table_received
    )


def _route_problem(
    link: Link, neighbor: Neighbor, table: RouteTable, fillers: Fillers, now: float
) -> str:
    """Return what is wrong with the routes that a neighbor advertises."""
    own = neighbor.exchange.duplicate_ids.found(now)
    if own is not None:
        return f"another router has our router id: {own} is announced with it"
    counts, key = table.counts, neighbor.key
    refused, unremembered, martians = (
        counts.refused(key),
        counts.unremembered(key),
        counts.martians(key),
    )
    if refused and counts.is_crowded_out(key):
        names = ", ".join(str(filler.router_id) for filler in fillers)
        limit = f"the table has {MAX_ROUTES} routes, most of {names}"
        return f"{limit}: {refused} updates were refused"
    if refused:
        return f"over max_prefixes {link.settings.max_prefixes}: {refused} updates were refused"
    if key in fillers:
        return f"it has advertised {fillers[key]} routes; the table is full with {MAX_ROUTES}"
    if unremembered:
        return f"too many origins: {unremembered} updates were refused"
    if martians:
        reason = find_martian(martians[0])
        named = "" if reason is None else f" ({reason.value})"
        return f"martians are refused: {len(martians)}, such as {martians[0]}{named}"
    if counts.allowed(key):
        return "its table is requested again: prefixes refused as martians are allowed now"
    return ""


def _one_way(link: Link, neighbor: Neighbor) -> str:
    """Return why a neighbor that we hear does not get beyond INIT."""
    adjacency = neighbor.adjacency
    if adjacency.state is not AdjacencyState.INIT or not adjacency.is_unlisted:
        return ""
    if adjacency.is_signing and link.guard.ring is None:
        return "one-way: it does not list us; it signs, and this link has no key"
    return "one-way: it does not list us"


def refusal_row(link: Link, refusal: RefusedSender) -> NeighborRow:
    """Make the row of a refused sender, with the reason."""
    return NeighborRow(
        router_id=None,
        ifindex=link.settings.ifindex,
        ifname=link.settings.ifname,
        address=refusal.source,
        state=AdjacencyState.DOWN,
        uptime_s=0.0,
        dead_in_s=0.0,
        rtt_ms=None,
        rto_ms=0.0,
        cost=link.settings.cost,
        loss_here=0.0,
        loss_there=0.0,
        retransmissions=0,
        prefixes=0,
        infeasible=0,
        is_restarting=False,
        window=0,
        in_flight=0,
        sent=0,
        received=0,
        duplicates=0,
        out_of_order=0,
        problem=refusal.reason,
    )


def learned_rows(table: RouteTable) -> list[LearnedRow]:
    """Return every learned route, by prefix, link and router id."""
    rows = [
        _learned_row(table, *learned)
        for prefix in table.prefixes()
        for learned in table.learned_of(prefix)
    ]
    return sorted(rows, key=lambda row: (row.prefix, row.ifindex, row.router_id))


def waiting_rows(table: RouteTable, address: Address) -> list[LearnedRow]:
    """Return the routes to an address that wait for a newer seqno of their origin, the longest
    prefix first, then by neighbor."""
    family = address.family
    return [
        row
        for length in range(family.width, -1, -1)
        for row in _waiting_of(table, Prefix.masked(family, address.addr_bits, length))
    ]


def _waiting_of(table: RouteTable, prefix: Prefix) -> list[LearnedRow]:
    if table.seqno_requests.waits_since(prefix) is None:
        return []
    rows = [_learned_row(table, *learned) for learned in table.learned_of(prefix)]
    waiting = [row for row in rows if not row.is_feasible]
    return sorted(waiting, key=lambda row: (row.ifindex, row.router_id))


def _learned_row(
    table: RouteTable, prefix: Prefix, key: NeighborKey, route: LearnedRoute, is_feasible: bool
) -> LearnedRow:
    selection = table.selection(prefix)
    return LearnedRow(
        prefix=prefix,
        router_id=key.router_id,
        ifindex=key.ifindex,
        metric=route.metric,
        tag=route.tag,
        is_external=route.is_external,
        origin=route.origin,
        seqno=route.seqno,
        is_feasible=is_feasible,
        is_selected=selection is not None and key in selection.neighbors,
        is_stale=route.is_stale,
    )
