"""A kernel's route tables in a dictionary, with failures on demand.

It keeps the rules that the daemon relies on (what EXCL, REPLACE and a removal by protocol do), and
the contract suite in tests/integration runs the same assertions against the real kernel, so that
the fake cannot drift from it unnoticed.

Each refusal is consumed by the next request that it concerns; `unconsumed` says which were not, and
a test that sets one asserts that it was used.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from routed.fib.nexthops.codec import (
    OWN_GATEWAY,
    Hop,
    NextHopForm,
    NextHopKind,
    NextHopWrite,
    SeenNextHop,
)
from routed.fib.nexthops.table import resolve
from routed.fib.routes.ownership import KernelRoute, RouteKey, RouteValue
from routed.fib.routes.plan import FibBatch, KernelRefusal, OpKind, Refusals
from routed.fib.routes.tables import SeenRoute
from routed.fib.rule_codec import SeenRule
from routed.fib.rule_plan import is_removed_by
from routed.model.kernel_attributes import KernelAttributes
from routed.model.prefix import Address, Family, Prefix
from routed.model.route import NextHop
from routed.model.rule import PolicyRule, RuleAction
from routed.netlink.socket import DumpInterrupted, NetlinkError

__all__ = ["FakeKernel", "FakeRuleKernel", "Operation", "operations_of", "single"]


class Operation(NamedTuple):
    """One operation of a batch, as a test looks at it."""

    kind: OpKind
    key: RouteKey
    value: RouteValue


def single(kind: OpKind, key: RouteKey, value: RouteValue) -> FibBatch:
    """Return a batch of one operation."""
    return FibBatch(kind, key.table_key, [key.prefix.as_int], [value])


def operations_of(batches: Iterable[FibBatch]) -> list[Operation]:
    """Return the operations of batches, one by one."""
    return [
        Operation(batch.kind, batch.table_key.key(key), value)
        for batch in batches
        for key, value in zip(batch.keys, batch.values, strict=True)
    ]


class FakeKernel:
    """One network namespace's routes, as rtnetlink shows them."""

    def __init__(self, protocol: int = 205) -> None:
        self.protocol = protocol
        self.routes: dict[RouteKey, KernelRoute] = {}
        self.behind: dict[RouteKey, list[KernelRoute]] = {}
        """More routes of the same key, in the order in which they would forward."""
        self.writes: list[Operation] = []
        """Every operation so far, in order."""
        self.dumps = 0
        self.interrupt_dumps = 0
        """Number of following dumps that are interrupted."""
        self.refuse_dump = False
        self.refuse_apply = False
        self.during_dump: Callable[[], None] | None = None
        """Called once, after the next dump has read the table and before it is over."""
        self._refusals: dict[tuple[OpKind, RouteKey], KernelRefusal] = {}
        self.down_links: set[int] = set()
        self.objects: dict[int, SeenNextHop] = {}
        self.object_writes: list[NextHopWrite] = []
        """Every operation on nexthop objects so far, in order."""
        self.has_objects = True
        self.families = set(Family)
        """Families of this kernel; without IPv6 under ipv6.disable=1."""
        self.weight_max = 256
        """The greatest weight in a group; 255 before Linux 6.12."""
        self.subnets: set[tuple[Prefix, int]] | None = None
        """Subnets of addresses and their links; None if every gateway is reachable."""
        self.addresses: set[Address] = set()
        """Addresses of this host."""
        self.sources: set[Address] | None = None
        """Addresses that may be the source of a route, with `addresses`; None where all may be."""
        self.congestion_controls = {"reno", "cubic"}

    def refuse_next(self, kind: OpKind, key: RouteKey, number: int, detail: str = "") -> None:
        """Refuse the next operation of this kind on this key."""
        self._refusals[kind, key] = KernelRefusal(number, detail)

    @property
    def unconsumed(self) -> list[object]:
        """Failures that were set and never met."""
        flags: list[object] = list(self._refusals)
        if self.interrupt_dumps:
            flags.append("interrupt_dumps")
        if self.refuse_dump:
            flags.append("refuse_dump")
        if self.refuse_apply:
            flags.append("refuse_apply")
        if self.during_dump is not None:
            flags.append("during_dump")
        return flags

    def put(self, key: RouteKey, value: RouteValue, protocol: int) -> KernelRoute:
        """Write a route of another program."""
        route = KernelRoute(key, protocol, value)
        self.routes[key] = route
        return route

    def prepend(self, key: RouteKey, value: RouteValue, protocol: int) -> KernelRoute:
        """Write another route of a key, before all others (`ip route prepend`)."""
        if key in self.routes:
            self.behind.setdefault(key, []).insert(0, self.routes[key])
        return self.put(key, value, protocol)

    def append(self, key: RouteKey, value: RouteValue, protocol: int) -> KernelRoute:
        """Write another route of a key, after all others."""
        route = KernelRoute(key, protocol, value)
        self.behind.setdefault(key, []).append(route)
        return route

    def stack(self, key: RouteKey) -> list[KernelRoute]:
        """Every route of a key, the one that forwards first."""
        return [self.routes[key], *self.behind.get(key, [])] if key in self.routes else []

    def take_out(self, route: KernelRoute) -> KernelRoute:
        """Remove one route, as another program does."""
        stack = self.stack(route.key)
        stack.remove(route)
        self.behind[route.key] = stack[1:]
        if stack:
            self.routes[route.key] = stack[0]
        else:
            del self.routes[route.key]
        return route

    def ours(self) -> dict[RouteKey, RouteValue]:
        """The routes with our protocol number."""
        return {
            key: route.value
            for key, route in self.routes.items()
            if route.protocol == self.protocol
        }

    async def dump_routes(
        self, table_id: int, family: Family, take: Callable[[SeenRoute, Sequence[int]], None]
    ) -> None:
        """Do the same as `netlink.RequestSocket.dump_routes`."""
        if family is Family.IPV4:
            self.dumps += 1
        if self.refuse_dump:
            self.refuse_dump = False
            raise NetlinkError("dump refused")
        if self.interrupt_dumps:
            self.interrupt_dumps -= 1
            raise DumpInterrupted("the table changed under the dump")
        for key in self.routes:
            if key.table_id == table_id and key.prefix.family is family:
                for route in self.stack(key):
                    take(SeenRoute(key.table_key, route.protocol, route.value), [key.prefix.as_int])
        if self.during_dump is not None:
            meanwhile, self.during_dump = self.during_dump, None
            meanwhile()

    def apply(self, batches: Sequence[FibBatch]) -> list[Refusals]:
        """Do the same as `netlink.RequestSocket.apply`."""
        if self.refuse_apply:
            self.refuse_apply = False
            raise NetlinkError("answers got lost")
        refusals: list[Refusals] = []
        for batch in batches:
            operations = operations_of([batch])
            self.writes += operations
            outcomes = [self._apply(operation) for operation in operations]
            refusals.append({at: outcome for at, outcome in enumerate(outcomes) if outcome})
        return refusals

    def _apply(self, operation: Operation) -> KernelRefusal | None:
        kind, key, value = operation
        refusal = self._refusals.pop((kind, key), None)
        if refusal is not None:
            return refusal
        if key.prefix.family not in self.families:
            return KernelRefusal(errno.EOPNOTSUPP, "")
        there = self.routes.get(key)
        if kind is OpKind.REMOVE:
            for route in self.stack(key):
                if route.protocol == self.protocol:
                    self.take_out(route)
                    return None
            return KernelRefusal(errno.ESRCH, "")
        if any(hop.ifindex in self.down_links for hop in value.next_hops):
            return KernelRefusal(errno.ENETDOWN, "")
        if value.nexthop_id and value.nexthop_id not in self.objects:
            return KernelRefusal(errno.EINVAL, "Nexthop id does not exist")
        problem = self._problem_of_attributes(key.prefix.family, value.attributes)
        problem = problem or self._problem_of_hops(key.prefix.family, value)
        if problem is not None:
            return problem
        if kind is OpKind.INSTALL and there is not None:
            return KernelRefusal(errno.EEXIST, "")
        if kind is OpKind.REPLACE and there is None:
            return KernelRefusal(errno.ENOENT, "")
        route = KernelRoute(key, self.protocol, value)
        if key.prefix.family is Family.IPV4 and route in self.behind.get(key, []):
            return KernelRefusal(errno.EEXIST, "")
        self.routes[key] = route
        return None

    def _problem_of_attributes(
        self, family: Family, attributes: KernelAttributes | None
    ) -> KernelRefusal | None:
        if attributes is None:
            return None
        if attributes.congctl and attributes.congctl not in self.congestion_controls:
            return KernelRefusal(errno.EINVAL, "Unknown tcp congestion algorithm")
        if attributes.src is None or self.sources is None:
            return None
        if attributes.src in self.sources or attributes.src in self.addresses:
            return None
        words = "Invalid prefsrc address" if family is Family.IPV4 else "Invalid source address"
        return KernelRefusal(errno.EINVAL, words)

    def _problem_of_hops(self, family: Family, value: RouteValue) -> KernelRefusal | None:
        hops = value.next_hops
        if family is Family.IPV6 and len(hops) > 1 and any(hop.via is None for hop in hops):
            return KernelRefusal(
                errno.EINVAL,
                "Device only routes can not be added for IPv6 using the multipath API",
            )
        for hop in hops:
            if hop.via is not None and not hop.is_onlink:
                problem = self._problem_of_gateway(hop.via, hop.ifindex)
                if problem is not None:
                    return problem
        return None

    def _problem_of_gateway(self, via: Address, ifindex: int) -> KernelRefusal | None:
        """Return the refusal of a gateway: it must be reached over a route that names a link
        alone."""
        if self.subnets is None or via.is_link_local or via in self.addresses:
            return None
        covering = self.subnets | {
            (key.prefix, hop.ifindex)
            for key, route in self.routes.items()
            for hop in self._hops_of(route.value)
            if hop.via is None
        }
        for prefix, at in covering:
            if at == ifindex and prefix.contains_address(via):
                return None
        if via.family is Family.IPV6:
            return KernelRefusal(errno.EHOSTUNREACH, "")
        return KernelRefusal(errno.ENETUNREACH, "Nexthop has invalid gateway")

    def _hops_of(self, value: RouteValue) -> tuple[NextHop, ...]:
        forms = {seen.id: seen.form for seen in self.objects.values()}
        return resolve(forms, value.nexthop_id) if value.nexthop_id else value.next_hops

    # --- nexthop objects

    def dump_nexthops(self) -> list[SeenNextHop] | None:
        """Do the same as `netlink.RequestSocket.dump_nexthops`."""
        return sorted(self.objects.values()) if self.has_objects else None

    def write_nexthops(self, writes: Sequence[NextHopWrite]) -> list[KernelRefusal]:
        """Do the same as `netlink.RequestSocket.write_nexthops`."""
        self.object_writes += writes
        return [self._write_nexthop(*write) or KernelRefusal(0, "") for write in writes]

    def _write_nexthop(
        self, kind: NextHopKind, nexthop_id: int, form: NextHopForm
    ) -> KernelRefusal | None:
        if kind is NextHopKind.REMOVE:
            if nexthop_id not in self.objects:
                return KernelRefusal(errno.ENOENT, "")
            self.remove_objects([nexthop_id])
            return None
        if kind is NextHopKind.INSTALL and nexthop_id in self.objects:
            return KernelRefusal(errno.EEXIST, "")
        if isinstance(form, Hop):
            if form.ifindex in self.down_links:
                return KernelRefusal(errno.ENETDOWN, "Nexthop device is not up")
            if form.via is not None and not form.is_onlink:
                problem = self._problem_of_gateway(form.via, form.ifindex)
                if problem is not None:
                    return problem
            if form.via in self.addresses:
                self.remove_objects([nexthop_id] if nexthop_id in self.objects else [])
                return OWN_GATEWAY
        elif any(weight > self.weight_max for _, weight in form):
            return KernelRefusal(errno.EINVAL, "Invalid value for weight")
        elif not all(member in self.objects for member, _ in form):
            return KernelRefusal(errno.EINVAL, "Invalid nexthop id")
        self.put_object(nexthop_id, form, self.protocol)
        return None

    def put_object(
        self, nexthop_id: int, form: NextHopForm, protocol: int, *, is_gateway_unused: bool = False
    ) -> SeenNextHop:
        """Write an object of another program."""
        seen = SeenNextHop(nexthop_id, protocol, form, is_gateway_unused)
        self.objects[nexthop_id] = seen
        return seen

    def remove_objects(self, ids: Iterable[int]) -> list[SeenNextHop]:
        """Remove objects, their memberships and their routes."""
        gone = [self.objects.pop(nexthop_id) for nexthop_id in ids]
        missing = {seen.id for seen in gone}
        for seen in list(self.objects.values()):
            if isinstance(seen.form, Hop) or seen.form is None:
                continue
            left = tuple(member for member in seen.form if member[0] not in missing)
            if not left:
                gone += self.remove_objects([seen.id])
            elif left != seen.form:
                self.put_object(seen.id, left, seen.protocol)
        for route in self._every_route():
            if route.value.nexthop_id in missing:
                self.take_out(route)
        return gone

    def set_link(self, ifindex: int, *, is_up: bool) -> None:
        """Set the state of a link. If it goes down, objects and IPv4 routes over it are removed
        without notification."""
        if is_up:
            self.down_links.discard(ifindex)
            return
        self.down_links.add(ifindex)
        self.remove_objects(
            seen.id
            for seen in list(self.objects.values())
            if isinstance(seen.form, Hop) and seen.form.ifindex == ifindex
        )
        for route in self._every_route():
            if any(hop.ifindex == ifindex for hop in route.value.next_hops):
                self.take_out(route)

    def _every_route(self) -> list[KernelRoute]:
        return [route for key in self.routes for route in self.stack(key)]

    def lose(self, keys: Iterable[RouteKey]) -> list[KernelRoute]:
        """Remove routes (a link went down, another program flushed them). Returns the removed
        routes."""
        return [self.take_out(self.routes[key]) for key in list(keys) if key in self.routes]


class FakeRuleKernel:
    """One network namespace's policy rules."""

    def __init__(self, protocol: int = 205) -> None:
        self.protocol = protocol
        self.rules: list[SeenRule] = [
            SeenRule(PolicyRule(family, priority, RuleAction.LOOKUP, table_id), KERNELS_PROTOCOL)
            for family, priority, table_id in (
                (Family.IPV4, 0, 255), (Family.IPV4, 32766, 254), (Family.IPV4, 32767, 253),
                (Family.IPV6, 0, 255), (Family.IPV6, 32766, 254),
            )
        ]  # fmt: skip
        self.writes: list[tuple[str, PolicyRule]] = []
        self.refuse: dict[PolicyRule, KernelRefusal] = {}
        """Rules that cannot be added, and why."""
        self.unknown: set[str] = set()
        """Fields of a rule that this kernel ignores, as it does with attributes of later ones."""
        self.refuse_dump = False

    async def dump_rules(self) -> list[SeenRule]:
        """Do the same as `netlink.RequestSocket.dump_rules`."""
        if self.refuse_dump:
            self.refuse_dump = False
            raise NetlinkError("dump refused")
        return [seen for seen in self.rules if seen.protocol != KERNELS_PROTOCOL]

    def add_rule(self, rule: PolicyRule) -> KernelRefusal:
        """Do the same as `netlink.RequestSocket.add_rule`."""
        self.writes.append(("add", rule))
        if rule in self.refuse:
            return self.refuse[rule]
        if rule.family is Family.IPV4 and rule.flow_label is not None:
            return KernelRefusal(errno.EINVAL, "Flow label cannot be specified for IPv4 FIB rules")
        self.rules.append(SeenRule(self.known_of(rule), self.protocol))
        self.rules.sort(key=lambda seen: seen.rule[:2])  # stable: behind its equals
        return KernelRefusal(0, "")

    def remove_rule(self, rule: PolicyRule) -> KernelRefusal:
        """Do the same as `netlink.RequestSocket.remove_rule`."""
        self.writes.append(("remove", rule))
        request = self.known_of(rule)
        for seen in self.rules:
            if seen.protocol == self.protocol and is_removed_by(seen.rule, request):
                self.rules.remove(seen)
                return KernelRefusal(0, "")
        return KernelRefusal(errno.ENOENT, "")

    def known_of(self, rule: PolicyRule) -> PolicyRule:
        """Return the part of a rule that this kernel supports."""
        unknown = self.unknown | ({"realms"} if rule.family is Family.IPV6 else set())
        defaults = PolicyRule._field_defaults
        return rule._replace(**{field: defaults[field] for field in unknown})


KERNELS_PROTOCOL = 2
"""RTPROT_KERNEL."""
