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
from collections.abc import Callable, Iterable, Sequence
from typing import Protocol

from routed.model.prefix import Family, Prefix
from routed.model.route import (
    DEFAULT_DISTANCE,
    Gateway,
    PathAttributes,
    RouteColumn,
    RouteSource,
    RouteType,
)

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

    def install_all(
        self, family: Family, keys: Sequence[int], attributes: PathAttributes
    ) -> None: ...
    def withdraw(self, prefix: Prefix, source: RouteSource, owner: str) -> bool: ...
    def present(
        self, family: Family, keys: Sequence[int], source: RouteSource, owner: str
    ) -> set[int]: ...


Leases = dict[int, float]
"""Of one family: when each prefix vanishes, on the caller's clock; _NEVER for a session's routes
without a time."""


class _Holding:
    """What one owner has leased."""

    def __init__(self, session: int | None) -> None:
        self.session = session
        self.until: dict[Family, Leases] = {family: {} for family in Family}

    @property
    def is_empty(self) -> bool:
        return not any(self.until.values())


class InjectedRoutes:
    """Owns the leases."""

    def __init__(self, rib: Candidates) -> None:
        self._rib = rib
        self._holdings: dict[str, _Holding] = {}
        self._expiries: list[tuple[float, int, str, Family, Sequence[int]]] = []
        self._expiry_number = 0

    # --- requests

    def put(
        self,
        owner: str,
        routes: Iterable[RouteColumn],
        attributes: Sequence[Attributes],
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
            attributes: what the routes' numbers mean.
            is_replace: take the place of what the owner has, instead of refusing.
            lease_s: they vanish so long from now, unless they are put again or renewed; None: not.
            session: they vanish with it; None: not.
            now: seconds, monotonic.

        Returns:
            Why not; empty when it is done.
        """
        columns = list(routes)
        if not is_replace:
            problems = self._present(owner, columns)
            if problems:
                return problems
        shared = [
            PathAttributes(
                _DISTANCE, each.metric, RouteSource.INJECTED, owner, each.tag, each.type,
                each.gateways,
            )
            for each in attributes
        ]  # fmt: skip
        for family, keys, numbers in columns:
            for number, of_number in _by_number(keys, numbers).items():
                self._rib.install_all(family, of_number, shared[number])
            self._lease(owner, family, keys, lease_s, session, now)
        return []

    def _present(self, owner: str, columns: Iterable[RouteColumn]) -> list[Problem]:
        problems, first = [], 0
        for family, keys, _ in columns:
            present = self._rib.present(family, keys, RouteSource.INJECTED, owner)
            problems += [
                (
                    first + position,
                    f"{owner} has a route to {Prefix.from_int(family, key)} already; "
                    "`replace` puts another there",
                )
                for position, key in enumerate(keys)
                if key in present
            ]
            first += len(keys)
        return problems

    def delete(
        self,
        owners: tuple[str, ...],
        routes: Iterable[RouteColumn],
        told: Callable[[str, Family, list[int]], None] = lambda _owner, _family, _keys: None,
    ) -> list[Problem]:
        """Take routes away, all or none.

        Args:
            owners: for each prefix the first of these that has it.
            routes: each prefix once.
            told: whose prefixes were taken away.
        """
        found: list[tuple[Family, int, str]] = []
        problems: list[Problem] = []
        first = 0
        for family, keys, _ in routes:
            has = {
                owner: self._rib.present(family, keys, RouteSource.INJECTED, owner)
                for owner in owners
            }
            for position, key in enumerate(keys):
                owner = next((owner for owner in owners if key in has[owner]), None)
                if owner is None:
                    prefix = Prefix.from_int(family, key)
                    why = f"{' and '.join(owners)} injected no route to {prefix}"
                    problems.append((first + position, why))
                else:
                    found.append((family, key, owner))
            first += len(keys)
        if problems:
            return problems
        taken: dict[tuple[str, Family], list[int]] = {}
        for family, key, owner in found:
            self._withdraw(family, key, owner)
            taken.setdefault((owner, family), []).append(key)
        for (owner, family), keys in taken.items():
            told(owner, family, keys)
        return []

    def renew(self, owner: str, lease_s: float, now: float) -> int:
        """Begin every timed lease of an owner anew; returns how many there are."""
        holding = self._holdings.get(owner)
        if holding is None:
            return 0
        count = 0
        for family, leases in holding.until.items():
            timed = [key for key, until in leases.items() if until != _NEVER]
            if timed:
                self._lease(owner, family, timed, lease_s, holding.session, now)
            count += len(timed)
        return count

    # --- what ends by itself

    def end_session(self, session: int) -> int:
        """Take away what a session leaves behind; returns how many routes."""
        count = 0
        for owner, holding in list(self._holdings.items()):
            if holding.session == session:
                for family, leases in holding.until.items():
                    for key in list(leases):
                        self._withdraw(family, key, owner)
                        count += 1
        return count

    def next_expiry(self) -> float:
        """When to call `expire` next, on the same clock; infinity when nothing ends by time."""
        return self._expiries[0][0] if self._expiries else _NEVER

    def expire(self, now: float) -> dict[str, int]:
        """Take away what was not renewed in time; returns how many routes by owner."""
        ended: dict[str, int] = {}
        while self._expiries and self._expiries[0][0] <= now:
            _, _, owner, family, keys = heapq.heappop(self._expiries)
            for key in keys:
                holding = self._holdings.get(owner)
                if holding is not None and holding.until[family].get(key, _NEVER) <= now:
                    self._withdraw(family, key, owner)
                    ended[owner] = ended.get(owner, 0) + 1
        return ended

    # --- questions

    def remaining_s(self, prefix: Prefix, owner: str, now: float) -> float | None:
        """How long a route stays by itself; None when it has no such end."""
        holding = self._holdings.get(owner)
        if holding is None:
            return None
        until = holding.until[prefix.family].get(prefix.as_int, _NEVER)
        return None if until == _NEVER else max(until - now, 0.0)

    # --- inside

    def _lease(
        self,
        owner: str,
        family: Family,
        keys: Sequence[int],
        lease_s: float | None,
        session: int | None,
        now: float,
    ) -> None:
        holding = self._holdings.get(owner)
        if lease_s is None and session is None:
            if holding is not None:  # what was leased is for good now
                for key in keys:
                    holding.until[family].pop(key, None)
                self._drop_if_empty(owner, holding)
            return
        if holding is None:
            holding = self._holdings[owner] = _Holding(session)
        until = _NEVER if lease_s is None else now + lease_s
        holding.until[family].update(dict.fromkeys(keys, until))
        if lease_s is not None:
            self._expiry_number += 1
            heapq.heappush(self._expiries, (until, self._expiry_number, owner, family, keys))

    def _withdraw(self, family: Family, key: int, owner: str) -> None:
        self._rib.withdraw(Prefix.from_int(family, key), RouteSource.INJECTED, owner)
        holding = self._holdings.get(owner)
        if holding is not None:
            holding.until[family].pop(key, None)
            self._drop_if_empty(owner, holding)

    def _drop_if_empty(self, owner: str, holding: _Holding) -> None:
        if holding.is_empty:
            del self._holdings[owner]


def _by_number(keys: Sequence[int], numbers: Sequence[int]) -> dict[int, list[int]]:
    """The prefixes of each attributes; one that is there twice has the last."""
    if len(set(numbers)) == 1:
        return {numbers[0]: list(keys)}
    found: dict[int, list[int]] = {}
    for key, number in dict(zip(keys, numbers, strict=True)).items():
        found.setdefault(number, []).append(key)
    return found
