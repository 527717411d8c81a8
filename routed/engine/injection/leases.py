"""Injected routes: their owners and leases. Pure.

    clients --change, renew--> InjectedRoutes --install, withdraw--> RIB
                                   ^   |
             end_session, expire --+   +-- next_expiry: when to call `expire`

The RIB holds the routes themselves, one candidate per (prefix, owner). This module holds only what
ends without a request: timed leases, and those of a session.

A request is validated as a whole before anything is changed, so it is carried out as a whole or not
at all.

Invariants:
    Every leased prefix is in the RIB as an injected candidate of its owner.
    A lease never outlives its session; a timed one ends at the first `expire` at or after its time.

Cost: a dictionary entry for each leased route. To end a lease costs one entry of a heap for each
request that put or renewed it, not for each route.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Sequence
from typing import Protocol

from routed.model.injection import InjectedAttributes
from routed.model.prefix import Family, Prefix
from routed.model.route import (
    DEFAULT_DISTANCE,
    PathAttributes,
    RouteColumn,
    RouteSource,
)

__all__ = ["Candidates", "InjectedRoutes", "Problem"]

Problem = tuple[int, str]
"""The number of a route in its request, and why it is refused."""

_NEVER = float("inf")
_DISTANCE = DEFAULT_DISTANCE[RouteSource.INJECTED]


class Candidates(Protocol):
    """The part of the RIB that is used."""

    def install_all(
        self, family: Family, keys: Sequence[int], attributes: PathAttributes
    ) -> None: ...
    def withdraw(self, prefix: Prefix, source: RouteSource, owner: str) -> bool: ...
    def present(
        self, family: Family, keys: Sequence[int], source: RouteSource, owner: str
    ) -> set[int]: ...


Leases = dict[int, float]
"""Ends of leases by prefix, of one family, on the caller's clock; _NEVER for routes of a session
without a time."""


class _OwnerLeases:
    """The leases of one owner."""

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
        self._owners: dict[str, _OwnerLeases] = {}
        self._expiries: list[tuple[float, int, str, Family, Sequence[int]]] = []
        self._expiry_number = 0

    # --- requests

    def put(
        self,
        owner: str,
        routes: Iterable[RouteColumn],
        attributes: Sequence[InjectedAttributes],
        *,
        is_replace: bool,
        lease_s: float | None,
        session: int | None,
        now: float,
    ) -> list[Problem]:
        """Install routes of one owner, all or none.

        Args:
            owner: of the routes.
            routes: each prefix once.
            attributes: the routes' numbers are indices into it.
            is_replace: replace routes that the owner has, instead of refusing the request.
            lease_s: time until the routes expire, unless put again or renewed; None for no time.
            session: the routes end with it; None for no session.
            now: seconds, monotonic.

        Returns:
            Why the request is refused; empty if it was carried out.
        """
        columns = list(routes)
        if not is_replace:
            problems = self._present(owner, columns)
            if problems:
                return problems
        shared = [
            PathAttributes(
                _DISTANCE, each.metric, RouteSource.INJECTED, owner, each.tag, each.type,
                each.gateways, kernel_attributes=each.kernel_attributes,
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
        on_removed: Callable[[str, Family, list[int]], None] = lambda _owner, _family, _keys: None,
    ) -> list[Problem]:
        """Delete routes, all or none.

        Args:
            owners: of each prefix, the route of the first of these that has one is deleted.
            routes: each prefix once.
            on_removed: called with an owner and its deleted prefixes.
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
        removed: dict[tuple[str, Family], list[int]] = {}
        for family, key, owner in found:
            self._withdraw(family, key, owner)
            removed.setdefault((owner, family), []).append(key)
        for (owner, family), keys in removed.items():
            on_removed(owner, family, keys)
        return []

    def renew(self, owner: str, lease_s: float, now: float) -> int:
        """Renew every timed lease of an owner. Returns how many there are."""
        owned = self._owners.get(owner)
        if owned is None:
            return 0
        count = 0
        for family, leases in owned.until.items():
            timed = [key for key, until in leases.items() if until != _NEVER]
            if timed:
                self._lease(owner, family, timed, lease_s, owned.session, now)
            count += len(timed)
        return count

    # --- ends of leases

    def end_session(self, session: int) -> int:
        """Withdraw the routes of a session. Returns how many there were."""
        count = 0
        for owner, owned in list(self._owners.items()):
            if owned.session == session:
                for family, leases in owned.until.items():
                    for key in list(leases):
                        self._withdraw(family, key, owner)
                        count += 1
        return count

    def next_expiry(self) -> float:
        """Return when to call `expire` next, on the same clock; infinity if no lease is timed."""
        return self._expiries[0][0] if self._expiries else _NEVER

    def expire(self, now: float) -> dict[str, int]:
        """Withdraw what was not renewed in time. Returns the number of routes by owner."""
        ended: dict[str, int] = {}
        while self._expiries and self._expiries[0][0] <= now:
            _, _, owner, family, keys = heapq.heappop(self._expiries)
            for key in keys:
                owned = self._owners.get(owner)
                if owned is not None and owned.until[family].get(key, _NEVER) <= now:
                    self._withdraw(family, key, owner)
                    ended[owner] = ended.get(owner, 0) + 1
        return ended

    # --- questions

    def remaining_s(self, prefix: Prefix, owner: str, now: float) -> float | None:
        """Return the time until a route's lease expires; None if it has no timed lease."""
        owned = self._owners.get(owner)
        if owned is None:
            return None
        until = owned.until[prefix.family].get(prefix.as_int, _NEVER)
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
        owned = self._owners.get(owner)
        if lease_s is None and session is None:
            if owned is not None:  # these routes have no lease any more
                for key in keys:
                    owned.until[family].pop(key, None)
                self._drop_if_empty(owner, owned)
            return
        if owned is None:
            owned = self._owners[owner] = _OwnerLeases(session)
        until = _NEVER if lease_s is None else now + lease_s
        owned.until[family].update(dict.fromkeys(keys, until))
        if lease_s is not None:
            self._expiry_number += 1
            heapq.heappush(self._expiries, (until, self._expiry_number, owner, family, keys))

    def _withdraw(self, family: Family, key: int, owner: str) -> None:
        self._rib.withdraw(Prefix.from_int(family, key), RouteSource.INJECTED, owner)
        owned = self._owners.get(owner)
        if owned is not None:
            owned.until[family].pop(key, None)
            self._drop_if_empty(owner, owned)

    def _drop_if_empty(self, owner: str, owned: _OwnerLeases) -> None:
        if owned.is_empty:
            del self._owners[owner]


def _by_number(keys: Sequence[int], numbers: Sequence[int]) -> dict[int, list[int]]:
    """Group prefixes by the number of their attributes."""
    if len(set(numbers)) == 1:
        return {numbers[0]: list(keys)}
    found: dict[int, list[int]] = {}
    for key, number in zip(keys, numbers, strict=True):
        found.setdefault(number, []).append(key)
    return found
