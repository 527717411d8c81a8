"""Foreign kernel routes, imported as candidates of our RIB: which, and what changed. Pure.

    routes.yaml (`learn:`) --set_desired---+
    kernel --changed, begin_dump-----------+--> RouteImporter --pop_changes--> engine

Imported routes are read and reported, never written: they still belong to the daemon that wrote
them. A rule names the protocol whose routes are imported and their table; the first rule that
accepts a route decides its distance and tag. The kernel's priority becomes the metric.

Invariants:
    Our own routes are never imported: that would be a feedback loop.
    Destinations that are valid on one link only (link-local, multicast, loopback) are not imported.
    A route that the RIB cannot express in full is not imported: one for a TOS, one whose packets
    are encapsulated, one with more than NEXT_HOPS_MAX next hops, or one through a nexthop object
    that cannot be expressed (a tunnel).
    The routes that a dump left out for any of these reasons are counted (`left_out`), and
    `import_sync` logs the counts.
    A route through a foreign nexthop object has the object's next hops; if that is a blackhole, the
    kernel reports the route as one.
    A notification that arrives while a dump is under way is newer than the dump.
    Changes are states, not steps: a route that changes twice before it is sent is sent once.
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
from routed.model.route import NEXT_HOPS_MAX, ImportedRoute, RouteType

__all__ = [
    "IMPORTED_CHANGES_MAX",
    "ImportDump",
    "ImportedChanges",
    "KernelImportRule",
    "RouteImporter",
]

IMPORTED_CHANGES_MAX = 300
"""Routes sent to the engine at a time: with eight next hops each well under the frame limit."""


class KernelImportRule(NamedTuple):
    """Which kernel routes are imported, with which distance and tag."""

    protocol: int
    table_id: int
    distance: int
    tag: int
    accepts: Callable[[Prefix], bool]


class ImportedChanges(NamedTuple):
    """Changes of imported routes since the last ones were sent to the engine."""

    install: tuple[ImportedRoute, ...]
    remove: tuple[tuple[Prefix, str], ...]
    """(prefix, owner) of each."""


class _Identity(NamedTuple):
    """Identity of a kernel route: it distinguishes two routes of one prefix."""

    key: RouteKey
    protocol: int

    @property
    def owner(self) -> str:
        """Text for people: `dhcp/main/100`."""
        name = PROTOCOL_NAMES.get(self.protocol, str(self.protocol))
        table = "main" if self.key.table_id == _MAIN else str(self.key.table_id)
        return f"{name}/{table}/{self.key.priority}"


_MAIN = 254

_NOT_IMPORTED = frozenset({RouteType.LOCAL, RouteType.BROADCAST, RouteType.THROW})
"""Types that say something about this host, and nothing about a way to the destination."""


class RouteImporter:
    """The imported routes, and which of them are not sent yet."""

    def __init__(self) -> None:
        self._rules: tuple[KernelImportRule, ...] = ()
        self._imported: dict[_Identity, ImportedRoute] = {}
        self._unsent: dict[_Identity, None] = {}
        self._dump: ImportDump | None = None
        self.objects: Mapping[int, NextHopForm | None] = {}
        """All nexthop objects in the kernel, as last read."""
        self.left_out: dict[str, int] = {}
        """Number of routes in the last complete round of dumps that a rule accepts and that were
        left out, by reason."""
        self.has_unknown_objects = False
        """Whether a route goes through a nexthop object that is not in `objects`."""

    def __len__(self) -> int:
        return len(self._imported)

    @property
    def tables(self) -> frozenset[int]:
        """Tables that any rule names."""
        return frozenset(rule.table_id for rule in self._rules)

    def protocols_in(self, table_id: int) -> frozenset[int]:
        """Select the protocols that any rule for a table names."""
        return frozenset(rule.protocol for rule in self._rules if rule.table_id == table_id)

    def set_desired(self, rules: Sequence[KernelImportRule]) -> None:
        """Apply the rules of a configuration. Routes that no rule accepts any longer are removed at
        once; routes that one accepts now come with the next dump."""
        self._rules = tuple(rules)
        for identity, imported in list(self._imported.items()):
            rule = self._rule_for(identity.key, identity.protocol)
            if rule is None:
                self._forget(identity)
            elif (rule.distance, rule.tag) != (imported.distance, imported.tag):
                self._put(identity, imported._replace(distance=rule.distance, tag=rule.tag))

    def begin_session(self) -> None:
        """Send everything again: the engine is new."""
        self._unsent = dict.fromkeys(self._imported)

    def changed(self, route: KernelRoute, *, is_removed: bool) -> None:
        """Handle one notification about a kernel route of any owner."""
        identity = _Identity(route.key, route.protocol)
        if self._dump is not None:
            self._dump.overtaken.add(identity)
        if is_removed:
            self._forget(identity)
        else:
            self.record(identity, route)

    def begin_dump(self, table_id: int, family: Family) -> ImportDump:
        """Begin to compare a dump of one table and family with the imported routes."""
        self._dump = ImportDump(self, table_id, family)
        return self._dump

    def pop_changes(self) -> ImportedChanges | None:
        """Pop the next changes for the engine; None if there are none."""
        identities = list(itertools.islice(self._unsent, IMPORTED_CHANGES_MAX))
        if not identities:
            return None
        install, remove = [], []
        for identity in identities:
            del self._unsent[identity]
            imported = self._imported.get(identity)
            if imported is None:
                remove.append((identity.key.prefix, identity.owner))
            else:
                install.append(imported)
        return ImportedChanges(tuple(install), tuple(remove))

    def record(self, identity: _Identity, route: KernelRoute) -> None:
        """Record a route that is in the kernel; import it if a rule accepts it."""
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
                self.has_unknown_objects = True
                self._forget(identity)
                return
        imported = ImportedRoute(
            prefix=identity.key.prefix,
            owner=identity.owner,
            distance=rule.distance,
            metric=identity.key.priority,
            tag=rule.tag,
            type=route.value.type,
            next_hops=next_hops,
        )
        if self._imported.get(identity) != imported:
            self._put(identity, imported)

    def _put(self, identity: _Identity, imported: ImportedRoute) -> None:
        self._imported[identity] = imported
        self._unsent[identity] = None

    def _forget(self, identity: _Identity) -> None:
        if self._imported.pop(identity, None) is not None:
            self._unsent[identity] = None

    def is_desired(self, route: KernelRoute) -> bool:
        """Whether a rule accepts a route."""
        return self._rule_for(route.key, route.protocol) is not None

    def reason_to_leave_out(self, route: KernelRoute) -> str:
        """Name what the RIB cannot express of a route; empty if it can express all of it."""
        if _is_of_one_link(route.key.prefix):
            return "link-local, loopback or multicast"
        if route.value.type in _NOT_IMPORTED:
            return f"of type {route.value.type.name.lower()}"
        if route.key.tos:
            return "only for a TOS"
        nexthop_id = route.value.nexthop_id
        form = self.objects.get(nexthop_id)
        is_known = nexthop_id in self.objects and route.value.type.has_next_hops
        if is_known and not resolve(self.objects, nexthop_id):
            return "through a nexthop object that cannot be expressed"
        members = 0 if form is None or isinstance(form, Hop) else len(form)
        if max(members, len(route.value.next_hops)) > NEXT_HOPS_MAX:
            return f"more than {NEXT_HOPS_MAX} next hops"
        return "encapsulated" if route.is_encapsulated else ""

    def _rule_for(self, key: RouteKey, protocol: int) -> KernelImportRule | None:
        for rule in self._rules:
            if (
                rule.protocol == protocol
                and rule.table_id == key.table_id
                and rule.accepts(key.prefix)
            ):
                return rule
        return None

    def keep_only(self, table_id: int, family: Family, seen: set[_Identity]) -> None:
        """Remove the routes that a complete dump of one table and family did not show."""
        self._dump = None
        gone = [
            identity
            for identity in self._imported
            if identity.key.table_id == table_id
            and identity.key.prefix.family is family
            and identity not in seen
        ]
        for identity in gone:
            self._forget(identity)


class ImportDump:
    """One dump of one table and family."""

    def __init__(self, importer: RouteImporter, table_id: int, family: Family) -> None:
        self._importer = importer
        self._table_id = table_id
        self._family = family
        self._protocols = importer.protocols_in(table_id)
        self.overtaken: set[_Identity] = set()
        """Routes notified since the dump began."""
        self._seen: list[tuple[SeenRoute, list[int]]] = []

    def receive(self, seen: SeenRoute, keys: Sequence[int]) -> None:
        """Receive a run of routes that differ in their prefix only."""
        if seen.protocol in self._protocols and seen.table_key.table_id == self._table_id:
            self._seen.append((seen, list(keys)))

    def finish(self) -> Counter[str]:
        """Complete the dump: routes that it did not show are removed.

        Returns:
            How many routes that a rule accepts were left out, by reason.
        """
        identities = set(self.overtaken)
        left_out: Counter[str] = Counter()
        for seen, keys in self._seen:
            for key in keys:
                route = KernelRoute(seen.table_key.key(key), *seen[1:])
                if (
                    reason := self._importer.reason_to_leave_out(route)
                ) and self._importer.is_desired(route):
                    left_out[reason] += 1
                identity = _Identity(route.key, route.protocol)
                if identity not in self.overtaken:
                    identities.add(identity)
                    self._importer.record(identity, route)
        self._importer.keep_only(self._table_id, self._family, identities)
        return left_out


def _is_of_one_link(prefix: Prefix) -> bool:
    address = prefix.address
    return prefix.prefix_len > 0 and (
        address.is_link_local or address.is_loopback or address.is_multicast
    )
