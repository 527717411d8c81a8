"""Injected routes: who owns them, and how long they stay without being asked for. Pure.

    clients --change, renew--> InjectedRoutes --install, withdraw--> RIB
                                   ^   |
             end_session, expire --+   +-- next_expiry: when to look again

The RIB holds the routes themselves, one candidate per (prefix, owner). Here is only what ends by
itself: timed leases, and those of a session.

A request is judged whole before anything is changed, so that it takes effect whole or not at all.

Invariants:
    Every leased prefix is in the RIB as an injected candidate of its owner.
    A lease never outlives its session; a timed one ends at the first `expire` at or after its time.

Cost: a dictionary entry for each leased route; ending a lease costs one entry of a heap per request
that brought or renewed it, not per route.
"""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from routed.model.prefix import Prefix
from routed.model.route import DEFAULT_DISTANCE, Gateway, Route, RouteSource, RouteType

__all__ = ["Attributes", "Candidates", "InjectedRoutes", "Problem"]

Problem = tuple[int, str]
"""The number of a route in its request, and why it cannot be."""

_NEVER = float("inf")
_DISTANCE = DEFAULT_DISTANCE[RouteSource.INJECTED]


class Attributes(Protocol):
    """What routes of one request share."""

    @property
    def type(self) -> RouteType: ...
    @property
    def gateways(self) -> tuple[Gateway, ...]: ...
    @property
    def metric(self) -> int: ...
    @property
    def tag(self) -> int: ...


class Candidates(Protocol):
    """What is asked of the RIB."""

    def install(self, route: Route) -> None: ...
    def withdraw(self, prefix: Prefix, source: RouteSource, owner: str) -> bool: ...
    def has(self, prefix: Prefix, source: RouteSource, owner: str) -> bool: ...


@dataclass(slots=True)
class _Holding:
    """What one owner has leased."""

    until: dict[Prefix, float]
    """On the caller's clock; _NEVER for a session's routes without a time."""
    session: int | None


class InjectedRoutes:
    """Owns the leases."""

    def __init__(self, rib: Candidates) -> None:
        self._rib = rib
        self._holdings: dict[str, _Holding] = {}
        self._expiries: list[tuple[float, int, str, list[Prefix]]] = []
        self._expiry_number = 0

    # --- requests

    def put(
        self,
        owner: str,
        routes: Sequence[tuple[Prefix, Attributes]],
        *,
        is_replace: bool,
        lease_s: float | None,
        session: int | None,
        now: float,
    ) -> list[Problem]:
        """Install routes of one owner, all or none.

        Args:
            owner: whose.
            routes: of a prefix that is there twice, the last one counts.
            is_replace: take the place of what the owner has, instead of refusing.
            lease_s: they vanish so long from now, unless they are put again or renewed; None: not.
            session: they vanish with it; None: not.
            now: seconds, monotonic.

        Returns:
            Why not; empty when it is done.
        """
        if not is_replace:
            has = self._rib.has
            problems = [
                (number, f"{owner} has a route to {prefix} already; `replace` puts another there")
                for number, (prefix, _) in enumerate(routes)
                if has(prefix, RouteSource.INJECTED, owner)
            ]
            if problems:
                return problems
        install = self._rib.install
        for prefix, attributes in routes:
            install(
                Route(
                    prefix=prefix,
                    source=RouteSource.INJECTED,
                    distance=_DISTANCE,
                    metric=attributes.metric,
                    tag=attributes.tag,
                    type=attributes.type,
                    gateways=attributes.gateways,
                    owner=owner,
                )
            )
        self._lease(owner, [prefix for prefix, _ in routes], lease_s, session, now)
        return []

    def delete(self, owners: tuple[str, ...], prefixes: list[Prefix]) -> list[Problem]:
        """Take routes away, all or none.

        Args:
            owners: for each prefix the first of these that has it.
            prefixes: each once.
        """
        has = self._rib.has
        found: list[tuple[Prefix, str]] = []
        problems: list[Problem] = []
        for number, prefix in enumerate(prefixes):
            for owner in owners:
                if has(prefix, RouteSource.INJECTED, owner):
                    found.append((prefix, owner))
                    break
            else:
                problems.append((number, f"{' and '.join(owners)} injected no route to {prefix}"))
        if not problems:
            for prefix, owner in found:
                self._withdraw(prefix, owner)
        return problems

    def renew(self, owner: str, lease_s: float, now: float) -> int:
        """Begin every timed lease of an owner anew; returns how many there are."""
        holding = self._holdings.get(owner)
        timed = (
            [prefix for prefix, until in holding.until.items() if until != _NEVER]
            if holding is not None
            else []
        )
        if holding is not None and timed:
            self._lease(owner, timed, lease_s, holding.session, now)
        return len(timed)

    # --- what ends by itself

    def end_session(self, session: int) -> int:
        """Take away what a session leaves behind; returns how many routes."""
        count = 0
        for owner, holding in list(self._holdings.items()):
            if holding.session == session:
                for prefix in list(holding.until):
                    self._withdraw(prefix, owner)
                    count += 1
        return count

    def next_expiry(self) -> float:
        """When to call `expire` next, on the same clock; infinity when nothing ends by time."""
        return self._expiries[0][0] if self._expiries else _NEVER

    def expire(self, now: float) -> dict[str, int]:
        """Take away what was not renewed in time; returns how many routes by owner."""
        ended: dict[str, int] = {}
        while self._expiries and self._expiries[0][0] <= now:
            _, _, owner, prefixes = heapq.heappop(self._expiries)
            for prefix in prefixes:
                holding = self._holdings.get(owner)
                if holding is not None and holding.until.get(prefix, _NEVER) <= now:
                    self._withdraw(prefix, owner)
                    ended[owner] = ended.get(owner, 0) + 1
        return ended

    # --- questions

    def remaining_s(self, prefix: Prefix, owner: str, now: float) -> float | None:
        """How long a route stays by itself; None when it has no such end."""
        holding = self._holdings.get(owner)
        until = _NEVER if holding is None else holding.until.get(prefix, _NEVER)
        return None if until == _NEVER else max(until - now, 0.0)

    # --- inside

    def _lease(
        self,
        owner: str,
        prefixes: list[Prefix],
        lease_s: float | None,
        session: int | None,
        now: float,
    ) -> None:
        holding = self._holdings.get(owner)
        if lease_s is None and session is None:
            if holding is not None:  # what was leased is for good now
                for prefix in prefixes:
                    holding.until.pop(prefix, None)
                self._drop_if_empty(owner, holding)
            return
        if holding is None:
            holding = self._holdings[owner] = _Holding({}, session)
        until = _NEVER if lease_s is None else now + lease_s
        holding.until.update(dict.fromkeys(prefixes, until))
        if lease_s is not None:
            self._expiry_number += 1
            heapq.heappush(self._expiries, (until, self._expiry_number, owner, prefixes))

    def _withdraw(self, prefix: Prefix, owner: str) -> None:
        self._rib.withdraw(prefix, RouteSource.INJECTED, owner)
        holding = self._holdings.get(owner)
        if holding is not None:
            holding.until.pop(prefix, None)
            self._drop_if_empty(owner, holding)

    def _drop_if_empty(self, owner: str, holding: _Holding) -> None:
        if not holding.until:
            del self._holdings[owner]
