"""`explain ADDRESS`: the route that an address takes, the other candidates, and why they lost.

Every prefix that covers the address is looked at, the longest first. Within the prefix that
decides, each losing candidate is compared with the winner by the rules of `rib/decision.py`, and
the first rule in which they differ is named with both values.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from routed.control.views import ExplainedCandidate, ExplainView, NextHopView, RouteView
from routed.engine.router import Router
from routed.engine.tables import RoutingTable
from routed.model.prefix import Address, Prefix
from routed.model.tables import MAIN_TABLE
from routed.rib.decision import Contender, DecisionRule, deciding_rule
from routed.rib.table import Candidate, Rib

__all__ = ["explain"]

WAITING_MAX = 16
"""Infeasible routes that are listed at most."""
REASON_MAX = 200
"""Characters of the reason why a prefix cannot be used. There may be 128 prefixes."""


ProblemOf = Callable[[Candidate], str]
"""Returns why a candidate is not usable, with how long its probe has been down."""


def explain(
    router: Router,
    address: Address,
    view_of: Callable[[Candidate], RouteView],
    table: RoutingTable[Rib] | None = None,
) -> ExplainView:
    """Explain how an address is routed.

    Args:
        router: whose tables are read.
        address: any.
        view_of: makes the view of a candidate of the table.
        table: the table that is searched; the main one when absent.

    Cost: one dictionary look-up for each prefix length of the family.
    """
    rib = router.rib if table is None else table.rib

    def problem_of(candidate: Candidate) -> str:
        return router.tracking.dated(candidate.problem, candidate.attributes.gateways)

    covering = _covering(rib, address)
    decided = rib.match(address)
    unusable = [
        prefix for prefix in covering if decided is None or prefix.prefix_len > decided.prefix_len
    ]
    return ExplainView(
        address=address,
        prefix=decided,
        candidates=() if decided is None else _candidates(rib, decided, view_of, problem_of),
        unusable=tuple(map(str, unusable)),
        shorter=tuple(
            str(prefix)
            for prefix in covering
            if decided is not None and prefix.prefix_len < decided.prefix_len
        ),
        trie_path=tuple(router.snapshot.path(address)) if table is None else (),
        unusable_reasons=tuple(_reason(rib, prefix, problem_of) for prefix in unusable),
        waiting=tuple(_waiting(router, address)) if table is None else (),
        table=MAIN_TABLE if table is None else table.name,
    )


def _waiting(router: Router, address: Address) -> Iterator[str]:
    """List routes of neighbors that are not feasible, the longest prefix first."""
    for row in router.neighbors.waiting_for(address)[:WAITING_MAX]:
        yield (
            f"{row.prefix}: {row.router_id} on {router.ifname_of(row.ifindex)} advertises it at "
            f"metric {row.metric}, not feasible until {row.origin} has raised its seqno"
        )


def _reason(rib: Rib, prefix: Prefix, problem_of: ProblemOf) -> str:
    problem = problem_of(rib.candidates(prefix)[0])
    return f"{prefix}: {problem[:REASON_MAX]}"


def _covering(rib: Rib, address: Address) -> list[Prefix]:
    """List the prefixes of the RIB that cover the address, the longest first."""
    width = address.family.width
    prefixes = (
        Prefix.masked(address.family, address.addr_bits, length) for length in range(width, -1, -1)
    )
    return [prefix for prefix in prefixes if rib.candidates(prefix)]


def _candidates(
    rib: Rib,
    prefix: Prefix,
    view_of: Callable[[Candidate], RouteView],
    problem_of: ProblemOf,
) -> tuple[ExplainedCandidate, ...]:
    found = rib.candidates(prefix)
    winner = found[0]
    return tuple(
        _explained(view_of(candidate), *_verdict(winner, candidate, problem_of))
        for candidate in found
    )


def _verdict(
    winner: Candidate, candidate: Candidate, problem_of: ProblemOf
) -> tuple[int | None, str]:
    if candidate is winner:
        return None, "wins"
    rule = deciding_rule(_contender(winner), _contender(candidate))
    own, best = _compared(rule, candidate, problem_of), _compared(rule, winner, problem_of)
    return int(rule), f"loses by rule {int(rule)} ({_RULE_TEXTS[rule]}): {own} against {best}"


_RULE_TEXTS = {
    DecisionRule.ELIGIBILITY: "only a usable route may win",
    DecisionRule.DISTANCE: "lower distance",
    DecisionRule.METRIC: "lower metric",
    DecisionRule.SOURCE: "order of sources",
    DecisionRule.OWNER: "order of owners",
}


def _compared(rule: DecisionRule, candidate: Candidate, problem_of: ProblemOf) -> str:
    """Return what a rule compares, for one candidate."""
    route = candidate.route
    match rule:
        case DecisionRule.ELIGIBILITY:
            return "usable" if _contender(candidate).is_eligible else problem_of(candidate)
        case DecisionRule.DISTANCE:
            return str(route.distance)
        case DecisionRule.METRIC:
            return str(route.metric)
        case DecisionRule.SOURCE:
            return route.source.label
        case DecisionRule.OWNER:
            return route.owner


def _contender(candidate: Candidate) -> Contender:
    is_resolved = bool(candidate.next_hops) or not candidate.route.type.has_next_hops
    return Contender(candidate.route.attributes, is_resolved)


def _explained(view: RouteView, rule: int | None, verdict: str) -> ExplainedCandidate:
    hops: tuple[NextHopView, ...] = view.next_hops
    return ExplainedCandidate(
        source=view.source,
        owner=view.owner,
        distance=view.distance,
        metric=view.metric,
        type=view.type,
        next_hops=hops,
        selected=view.selected,
        fib_state=view.fib_state,
        fib_reason=view.fib_reason,
        rule=rule,
        verdict=verdict,
        attributes=view.attributes,
    )
