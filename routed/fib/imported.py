"""Routes that others keep in the kernel, as candidates of our RIB: which, and the news. Pure.

    routes.yaml (`learn:`) --want----------+
    kernel --changed, begin_dump / take----+--> RouteLearner --pop_changes--> engine

What is learned is seen and told; it is never written, and what another daemon holds stays its own.
A rule names the protocol whose routes are learned and the table that they are in; the first rule
that accepts a route decides its distance and tag. The kernel's priority becomes the metric.

Invariants:
    Our own routes are never learned: that would be talking to ourselves.
    Destinations that mean something on one link only (link-local, multicast, loopback) are not.
    A route of which the RIB could only say a part is not: one for a TOS, one whose packets are
    encapsulated, one of more than NEXT_HOPS_MAX next hops, or one through a nexthop object that
    cannot be told (a tunnel).
    How many a dump left out for any of these reasons is counted (`left_out`), and `import_sync`
    logs it.
    A route through a nexthop object of somebody has the object's next hops; the kernel says itself
    when that is a blackhole.
    What is notified while a dump is under way is newer than the dump.
    News are states, not steps: what changes twice before it is told is told once.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from routed.fib.nexthops.codec import Hop, NextHopForm
from routed.fib.nexthops.table import resolve
from routed.fib.routes.ownership import PROTOCOL_NAMES, KernelRoute, RouteKey
from routed.fib.routes.tables import SeenRoute
from routed.model.prefix import Family, Prefix
from routed.model.route import NEXT_HOPS_MAX, ImportedRoute

__all__ = ["IMPORTED_CHANGES_MAX", "ImportedChanges", "LearnDump", "LearnRule", "RouteLearner"]

IMPORTED_CHANGES_MAX = 300
"""Routes told at a time: with eight next hops each well under the frame limit."""


class LearnRule(NamedTuple):
    """Which routes are learned, and how they are trusted."""

    protocol: int
    table_id: int
    distance: int
    tag: int
    accepts: Callable[[Prefix], bool]


class ImportedChanges(NamedTuple):
    """What has changed since the engine was told."""

    install: tuple[ImportedRoute, ...]
    remove: tuple[tuple[Prefix, str], ...]
    """(prefix, owner) of each."""


class _Identity(NamedTuple):
    """What tells two kernel routes of one prefix apart."""

    key: RouteKey
    protocol: int

    @property
    def owner(self) -> str:
        """For people: `dhcp/main/100`."""
        name = PROTOCOL_NAMES.get(self.protocol, str(self.protocol))
        table = "main" if self.key.table_id == _MAIN else str(self.key.table_id)
        return f"{name}/{table}/{self.key.priority}"


_MAIN = 254


class RouteLearner:
    """Owns what is learned."""

    def __init__(self) -> None:
        self._rules: tuple[LearnRule, ...] = ()
        self._learned: dict[_Identity, ImportedRoute] = {}
        self._unsent: dict[_Identity, None] = {}
        self._dump: LearnDump | None = None
        self.objects: Mapping[int, NextHopForm | None] = {}
        """Nexthop objects of everybody, as last read."""
        self.left_out: dict[str, int] = {}
        """Of the last complete round of dumps, routes that a rule accepts and that are not learned
        all the same, by reason."""
        self.has_riddles = False
        """Whether a route was seen to go through an object that is not among them."""

    def __len__(self) -> int:
        return len(self._learned)

    @property
    def tables(self) -> frozenset[int]:
        """Tables that some rule is about."""
        return frozenset(rule.table_id for rule in self._rules)

    def protocols_in(self, table_id: int) -> frozenset[int]:
        """Protocols whose routes in a table some rule is about."""
        return frozenset(rule.protocol for rule in self._rules if rule.table_id == table_id)

    def set_desired(self, rules: Sequence[LearnRule]) -> None:
        """Follow a configuration. What no rule accepts any longer goes at once; what one accepts
        now comes with the next dump."""
        self._rules = tuple(rules)
        for identity, learned in list(self._learned.items()):
            rule = self._rule_for(identity.key, identity.protocol)
            if rule is None:
                self._forget(identity)
            elif (rule.distance, rule.tag) != (learned.distance, learned.tag):
                self._put(identity, learned._replace(distance=rule.distance, tag=rule.tag))

    def begin_session(self) -> None:
        """A new engine knows nothing."""
        self._unsent = dict.fromkeys(self._learned)

    def changed(self, route: KernelRoute, *, is_removed: bool) -> None:
        """Take over one notification, about whomever's route."""
        identity = _Identity(route.key, route.protocol)
        if self._dump is not None:
            self._dump.overtaken.add(identity)
        if is_removed:
            self._forget(identity)
        else:
            self.see(identity, route)

    def begin_dump(self, table_id: int, family: Family) -> LearnDump:
        """Compare a dump of one table and family with what is known, as it comes in."""
        self._dump = LearnDump(self, table_id, family)
        return self._dump

    def pop_changes(self) -> ImportedChanges | None:
        """What the engine should be told next; None when it knows everything."""
        identities = list(itertools.islice(self._unsent, IMPORTED_CHANGES_MAX))
        if not identities:
            return None
        install, remove = [], []
        for identity in identities:
            del self._unsent[identity]
            learned = self._learned.get(identity)
            if learned is None:
                remove.append((identity.key.prefix, identity.owner))
            else:
                install.append(learned)
        return ImportedChanges(tuple(install), tuple(remove))

    def see(self, identity: _Identity, route: KernelRoute) -> None:
        """A kernel route is there; learned if a rule accepts it."""
        rule = self._rule_for(identity.key, identity.protocol)
        if rule is None:
            return
        if self.reason_to_leave_out(route):
            self._forget(identity)
            return
        has_next_hops = route.value.type.has_next_hops
        next_hops = route.value.next_hops if has_next_hops else ()
        if route.value.nexthop_id and has_next_hops:
            next_hops = resolve(self.objects, route.value.nexthop_id)
            if not next_hops:
                self.has_riddles = True
                self._forget(identity)
                return
        learned = ImportedRoute(
            prefix=identity.key.prefix,
            owner=identity.owner,
            distance=rule.distance,
            metric=identity.key.priority,
            tag=rule.tag,
            type=route.value.type,
            next_hops=next_hops,
        )
        if self._learned.get(identity) != learned:
            self._put(identity, learned)

    def _put(self, identity: _Identity, learned: ImportedRoute) -> None:
        self._learned[identity] = learned
        self._unsent[identity] = None

    def _forget(self, identity: _Identity) -> None:
        if self._learned.pop(identity, None) is not None:
            self._unsent[identity] = None

    def is_desired(self, route: KernelRoute) -> bool:
        """Whether a rule accepts a route."""
        return self._rule_for(route.key, route.protocol) is not None

    def reason_to_leave_out(self, route: KernelRoute) -> str:
        """What the RIB has no word for; empty when it can say all of a route."""
        if _is_of_one_link(route.key.prefix):
            return "link-local, loopback or multicast"
        if route.key.tos:
            return "only for a TOS"
        nexthop_id = route.value.nexthop_id
        form = self.objects.get(nexthop_id)
        is_known = nexthop_id in self.objects and route.value.type.has_next_hops
        if is_known and not resolve(self.objects, nexthop_id):
            return "through a nexthop object that cannot be told"
        members = 0 if form is None or isinstance(form, Hop) else len(form)
        if max(members, len(route.value.next_hops)) > NEXT_HOPS_MAX:
            return f"more than {NEXT_HOPS_MAX} next hops"
        return "encapsulated" if route.is_encapsulated else ""

    def _rule_for(self, key: RouteKey, protocol: int) -> LearnRule | None:
        for rule in self._rules:
            if (
                rule.protocol == protocol
                and rule.table_id == key.table_id
                and rule.accepts(key.prefix)
            ):
                return rule
        return None

    def keep_only(self, table_id: int, family: Family, seen: set[_Identity]) -> None:
        """Forget what a complete dump of one table and family did not show."""
        self._dump = None
        gone = [
            identity
            for identity in self._learned
            if identity.key.table_id == table_id
            and identity.key.prefix.family is family
            and identity not in seen
        ]
        for identity in gone:
            self._forget(identity)


class LearnDump:
    """One dump of one table and family."""

    def __init__(self, learner: RouteLearner, table_id: int, family: Family) -> None:
        self._learner = learner
        self._table_id = table_id
        self._family = family
        self._protocols = learner.protocols_in(table_id)
        self.overtaken: set[_Identity] = set()
        """What notifications have told of meanwhile."""
        self._seen: list[tuple[SeenRoute, list[int]]] = []

    def take(self, seen: SeenRoute, keys: Sequence[int]) -> None:
        """A run of routes that differ in their prefix only."""
        if seen.protocol in self._protocols and seen.table_key.table_id == self._table_id:
            self._seen.append((seen, list(keys)))

    def finish(self) -> Counter[str]:
        """The dump is complete: what it did not show is gone.

        Returns:
            How many routes that a rule accepts were left out, by reason.
        """
        identities = set(self.overtaken)
        left_out: Counter[str] = Counter()
        for seen, keys in self._seen:
            for key in keys:
                route = KernelRoute(seen.table_key.key(key), *seen[1:])
                if (
                    reason := self._learner.reason_to_leave_out(route)
                ) and self._learner.is_desired(route):
                    left_out[reason] += 1
                identity = _Identity(route.key, route.protocol)
                if identity not in self.overtaken:
                    identities.add(identity)
                    self._learner.see(identity, route)
        self._learner.keep_only(self._table_id, self._family, identities)
        return left_out


def _is_of_one_link(prefix: Prefix) -> bool:
    address = prefix.address
    return prefix.prefix_len > 0 and (
        address.is_link_local or address.is_loopback or address.is_multicast
    )
