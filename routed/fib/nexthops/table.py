"""The table of kernel nexthop objects: desired, in the kernel, pending. Pure.

    value_for (a route's next hops) --> +-------------+ --plan--> kernel
    dump, notifications (kernel) -----> | NexthopTable |
    suspect / lift -------------------> +-------------+ --forms, failures--> people

A route with gateways uses an object: a single one for one gateway, a group of single ones with
weights for several. So does an IPv6 route with several next hops of which some are links alone,
which the kernel accepts in no other form. All routes with the same next hops use the same object,
so that one message changes all of them: a next hop that dies is removed from its groups at once,
before the RIB has selected new routes.

    effective form of a group = its members, without those suspected, those that the kernel refuses
                                and those on links that are down; all of them when none would be
                                left; with weights that this kernel accepts (`weights.py`)

Each rtm_protocol has its own range of ids: `protocol * 1,000,000` and up. Objects that an earlier
run of the daemon left are recognised by id and nhm_protocol, and their ids are used for the same
next hops again, so that routes through them are adopted without a write. Objects that no route of
ours uses are swept after the routes: the kernel silently removes the routes of a removed object.

Invariants:
    An id means the same next hops as long as anything uses it; only the effective form changes.
    A group is written after its members, and removed before them.
    A foreign object is never changed, whatever its id. The exception is one that has replaced an
    object that this process wrote: it is replaced in turn or, if the kernel refuses that, removed,
    so that its routes fail instead of sending packets elsewhere.

Order: links alone, then gateways, then groups. `plan_link_routes` is the first part by itself:
gateways of other routes may resolve over routes without a gateway (`sync.py`).

What the kernel derives when an object is written (the scope of an IPv4 gateway) is compared when it
is read, and an object whose gateway was an address of this host is written again once the host no
longer has that address (`rewrite`).

Failure: a refused object is kept with the kernel's message and retried after a pause that doubles,
or when a link changes, or when a route appears over which the gateway resolves. Beyond OBJECTS_MAX
objects, or MEMBERS_MAX members of groups, further next hops get no object.

Sources: net/ipv4/nexthop.c of Linux: nexthop_flush_dev (a link that goes down removes its
single objects and shrinks groups, silently), remove_nexthop (removes the routes of the object).
"""

from __future__ import annotations

import errno
import math
from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

from ipc.lazy_dataclass import dataclass
from routed.fib.nexthops.codec import (
    Group,
    Hop,
    NextHopForm,
    NextHopKind,
    NextHopWrite,
    SeenNextHop,
)
from routed.fib.nexthops.weights import OLD_WEIGHT_LIMIT, reduced
from routed.fib.routes.ownership import RouteValue
from routed.fib.routes.plan import KernelRefusal
from routed.model.backoff import Backoff
from routed.model.prefix import Address, Family
from routed.model.route import MAX_WEIGHT, NextHop, RouteType

__all__ = [
    "BATCH_MEMBERS",
    "IDS_PER_PROTOCOL",
    "MEMBERS_MAX",
    "OBJECTS_MAX",
    "SUSPECT_PAUSE_S",
    "NextHopState",
    "NexthopTable",
    "resolve",
]

IDS_PER_PROTOCOL = 1_000_000
"""Size of the id range of a protocol: `ip nexthop` shows 205000017 for protocol 205."""

OBJECTS_MAX = 16_384
"""Most objects; reading all of them takes some 50 ms."""

BATCH_MEMBERS = 1024
"""About how many members of groups are written at once: one next hop may be in many large groups,
and the kernel needs time for each member."""
SUSPECT_PAUSE_S = 1.0
"""Seconds after a `lift` in which a next hop is not suspected again, since each suspicion writes
all its groups twice. Routes still change, a little later."""

MEMBERS_MAX = 131_072
"""Most members of all groups together: 2,048 groups of 64. It bounds the work after a change of one
link or next hop to 0.1 s, whatever an engine requests; further next hops get no object."""

_RETRY = Backoff(first_s=0.5, limit_s=60.0)


@dataclass(slots=True)
class _Failure:
    outcome: KernelRefusal
    attempts: int
    retry_at: float

    def retry_now(self) -> None:
        """Retry now, and restart the back-off at its first pause."""
        self.attempts, self.retry_at = 0, -math.inf


class NextHopState(NamedTuple):
    """The state of one object, for people."""

    id: int
    next_hops: tuple[NextHop, ...]
    """The next hops that the routes desire."""
    active: tuple[NextHop, ...]
    """The next hops in the kernel; empty if it lacks the object."""
    problem: str
    """The kernel's refusal; empty if there is none."""


_Hop = tuple[Address | None, int]
"""A gateway (None: the link alone) and its ifindex."""


def resolve(objects: Mapping[int, NextHopForm | None], nexthop_id: int) -> tuple[NextHop, ...]:
    """Return the next hops of an object of any owner; none if they cannot be determined."""
    form = objects.get(nexthop_id)
    if form is None:
        return ()
    if isinstance(form, Hop):
        return (NextHop(form.via, form.ifindex, 1, form.is_onlink),)
    hops = []
    for member, weight in form:
        single = objects.get(member)
        if isinstance(single, Hop):
            hops.append(NextHop(single.via, single.ifindex, weight, single.is_onlink))
    return tuple(sorted(hops, key=NextHop.sort_key))


class NexthopTable:
    """Owns the nexthop objects of one rtm_protocol, and their ids."""

    def __init__(
        self, protocol: int, *, is_enabled: bool, is_link_up: Callable[[int], bool]
    ) -> None:
        """Args:
        protocol: nhm_protocol of our objects, which also determines the range of ids.
        is_enabled: whether routes use objects; otherwise the objects that exist are swept.
        is_link_up: whether a link (by ifindex) carries packets now.
        """
        self.protocol = protocol
        self.is_enabled = is_enabled
        self.weight_limit = MAX_WEIGHT
        """The greatest weight in a group that this kernel accepts, as far as is known."""
        self._is_link_up = is_link_up
        self._first_id = protocol * IDS_PER_PROTOCOL
        self._next_id = self._first_id
        self._forms: dict[int, NextHopForm] = {}
        """The desired form of each id."""
        self._ids: dict[NextHopForm, int] = {}
        self._values: dict[int, RouteValue] = {}
        """The route value of each id, shared by all routes through the object."""
        self._claimed: set[int] = set()
        """Ids that this process has assigned; the others are from an earlier run of the daemon."""
        self._groups_of: dict[int, set[int]] = {}
        """Groups of which a single object is a member."""
        self._has_links_only: dict[int, bool] = {}
        """Cache of `is_link_route`, for ids in `_forms`."""
        self._members = 0
        """Number of members of all groups in `_forms`."""
        self._kernel: dict[int, NextHopForm | None] = {}
        """Our objects in the kernel."""
        self._foreign: dict[int, int] = {}
        """Protocols of the foreign objects that occupy ids of our range."""
        self._taken: set[int] = set()
        """Ids of claimed objects that another program has replaced, under whichever protocol."""
        self.popped_changes: list[SeenNextHop] = []
        """New entries of `_taken`, for the log."""
        self._uncompared: dict[int, None] = {}
        """Groups that may differ from the kernel's."""
        self._pending: dict[int, None] = {}
        """Ids whose object differs from its effective form."""
        self._failures: dict[int, _Failure] = {}
        self._to_verify: dict[_Hop, int] = {}
        self._lifted_at: dict[_Hop, float] = {}
        """Time of the last `lift` of each next hop that some object uses."""
        self._suspicions = 0

    def __len__(self) -> int:
        return len(self._kernel)

    # --- values of routes

    def value_for(self, value: RouteValue, family: Family = Family.IPV4) -> RouteValue:
        """Return the same route through an object; unchanged if it needs or gets none.

        Args:
            value: the value of the route.
            family: the family of the route.
        """
        hops = value.next_hops
        if not self.is_enabled or not hops or value.has_realm:
            return value
        has_link_alone = any(hop.via is None for hop in hops)
        if has_link_alone and (family is Family.IPV4 or len(hops) == 1):
            return value
        singles = [Hop(hop.via, hop.ifindex, hop.is_onlink) for hop in hops]
        missing = self._missing(singles, hops)
        if len(self._forms) + missing > OBJECTS_MAX:
            return value
        if missing and len(hops) > 1 and self._members + len(hops) > MEMBERS_MAX:
            return value
        ids = [self._claim(single) for single in singles]
        shared = self._value(ids[0] if len(ids) == 1 else self._claim(_group(ids, hops)))
        return shared if value.attributes is None else shared._replace(attributes=value.attributes)

    def _missing(self, singles: Sequence[Hop], hops: Sequence[NextHop]) -> int:
        """Count the objects that must be defined before a route can use its own."""
        ids = [self._ids.get(single) for single in singles]
        known = [nexthop_id for nexthop_id in ids if nexthop_id is not None]
        has_all = len(known) == len(ids)
        if len(ids) == 1 or (has_all and _group(known, hops) in self._ids):
            return len(ids) - len(known)
        return len(ids) - len(known) + 1

    def _value(self, nexthop_id: int) -> RouteValue:
        value = self._values.get(nexthop_id)
        if value is None:
            value = self._values[nexthop_id] = RouteValue(RouteType.UNICAST, (), nexthop_id)
        return value

    def _claim(self, form: NextHopForm) -> int:
        """Return the id of a form, which this process has claimed from now on."""
        nexthop_id = self._ids.get(form)
        if nexthop_id is None:
            nexthop_id = self._free_id()
            self._define(nexthop_id, form)
        if nexthop_id not in self._claimed:
            self._claimed.add(nexthop_id)
            self._evaluate(nexthop_id)
        return nexthop_id

    def _free_id(self) -> int:
        while True:
            self._next_id += 1
            if self._next_id >= self._first_id + IDS_PER_PROTOCOL:
                self._next_id = self._first_id + 1
            if self._next_id not in self._forms and self._next_id not in self._foreign:
                return self._next_id

    def _define(self, nexthop_id: int, form: NextHopForm) -> None:
        self._forms[nexthop_id] = form
        self._ids.setdefault(form, nexthop_id)
        if not isinstance(form, Hop):
            self._members += len(form)
            for member, _ in form:
                self._groups_of.setdefault(member, set()).add(nexthop_id)

    # --- the kernel side

    def read(self, seen: Iterable[SeenNextHop]) -> None:
        """Apply a complete dump."""
        before, self._kernel, self._foreign = self._kernel, {}, {}
        for entry in sorted(seen, key=lambda entry: entry.id):
            self._record(entry, before)
        self._taken &= self._kernel.keys()
        for nexthop_id in before.keys() | self._kernel.keys() | self._pending.keys():
            self._evaluate(nexthop_id)

    def changed(self, seen: SeenNextHop, *, is_removed: bool) -> bool:
        """Apply a notification about an object that our own writes did not cause.

        Returns:
            Whether routes of ours may have been removed with it.
        """
        if is_removed:
            self._foreign.pop(seen.id, None)
            self._taken.discard(seen.id)
            was_ours = seen.id in self._kernel
            self._kernel.pop(seen.id, None)
            failure = self._failures.get(seen.id)
            if failure is not None:
                failure.retry_now()
        else:
            self._record(seen, self._kernel)
            was_ours = False
        self._evaluate(seen.id)
        for group in self._groups_of.get(seen.id, ()):
            self._evaluate(group)
        return was_ours

    def _record(self, seen: SeenNextHop, before: Container[int]) -> None:
        if not self._first_id < seen.id < self._first_id + IDS_PER_PROTOCOL:
            return
        if seen.protocol != self.protocol:
            self._record_foreign(seen, before)
            return
        self._foreign.pop(seen.id, None)
        meant = self._forms.get(seen.id) if seen.id in self._claimed else None
        if isinstance(meant, Hop) and seen.form != meant:
            self._taken.add(seen.id)
        else:
            self._taken.discard(seen.id)
        self._kernel[seen.id] = None if seen.is_gateway_unused else seen.form
        if seen.id not in self._forms and seen.form is not None:
            self._define(seen.id, seen.form)

    def _record_foreign(self, seen: SeenNextHop, before: Container[int]) -> None:
        """Record a foreign object under an id of our range. The kernel keeps the routes of an
        object that is replaced, so they now use the next hops of the new one."""
        if seen.id in self._claimed and seen.id in before:
            if seen.id not in self._taken:
                self.popped_changes.append(seen)
                self._failures.pop(seen.id, None)
            self._taken.add(seen.id)
            self._kernel[seen.id] = None
            return
        self._foreign[seen.id] = seen.protocol
        self._kernel.pop(seen.id, None)
        if seen.id not in self._claimed:
            self._forget(seen.id)

    def links_changed(self) -> None:
        """Handle a change of a link or address: effective members may change, and refused objects
        are retried."""
        for failure in self._failures.values():
            failure.retry_now()
        for nexthop_id in self._claimed:
            self._evaluate(nexthop_id)

    def retry_covered(self, is_covered: Callable[[Address], bool]) -> None:
        """Retry gateways over whose new routes in the kernel they may resolve.

        Args:
            is_covered: whether a gateway may resolve over these routes.
        """
        for nexthop_id, failure in self._failures.items():
            form = self._forms.get(nexthop_id)
            if isinstance(form, Hop) and form.via is not None and is_covered(form.via):
                failure.retry_now()

    def rewrite(self, addresses: Container[Address]) -> None:
        """Write the objects of these gateways again: they were addresses of this host, and the
        kernel may have treated them as such when the objects were written."""
        for nexthop_id, form in self._forms.items():
            if isinstance(form, Hop) and form.via in addresses and nexthop_id in self._kernel:
                self._kernel[nexthop_id] = None
                self._evaluate(nexthop_id)

    # --- next hops that die

    def begin_verification(self, hops: Iterable[tuple[Address | None, int]], now: float) -> bool:
        """Remove next hops from every group that has other members, until `lift`.

        Args:
            hops: gateways and their links; ignored within SUSPECT_PAUSE_S after a `lift`.
            now: seconds, monotonic.

        Returns:
            Whether there is something to write.
        """
        self._suspicions += 1
        had = len(self._pending)
        since = now - SUSPECT_PAUSE_S
        known = [hop for hop in self._known(hops) if self._lifted_at.get(hop, -math.inf) <= since]
        added = [hop for hop in known if hop not in self._to_verify]
        self._to_verify.update(dict.fromkeys(known, self._suspicions))
        self._evaluate_groups_with(added)
        return len(self._pending) > had or bool(self._uncompared)

    def _known(self, hops: Iterable[tuple[Address | None, int]]) -> list[_Hop]:
        """Select the next hops that some object uses, each once; an engine may name any."""
        return [hop for hop in dict.fromkeys(hops) if self._is_known(hop)]

    def _is_known(self, hop: _Hop) -> bool:
        return Hop(*hop) in self._ids or Hop(*hop, is_onlink=True) in self._ids

    @property
    def suspicions(self) -> int:
        """Return the number of suspicions so far, an argument of a later `lift`."""
        return self._suspicions

    def lift(self, suspicions: int, now: float) -> None:
        """End the suspicions that the RIB has evaluated.

        Args:
            suspicions: the value of `suspicions` at the last one that was evaluated.
            now: seconds, monotonic.
        """
        lifted = [hop for hop, number in self._to_verify.items() if number <= suspicions]
        for hop in lifted:
            del self._to_verify[hop]
            self._lifted_at[hop] = now
        self._evaluate_groups_with(lifted)

    def _evaluate_groups_with(self, hops: Iterable[_Hop]) -> None:
        """Compare every group that has one of these members, each group once: some at once, the
        others by `compare`, because a message of an engine may name a member of all groups.
        """
        groups: dict[int, None] = {}
        for hop in hops:
            for is_onlink in (False, True):
                single = self._ids.get(Hop(*hop, is_onlink))
                if single is not None:
                    groups.update(dict.fromkeys(self._groups_of.get(single, ())))
        self._uncompared.update(groups)
        self.compare()

    def compare(self) -> int:
        """Compare some of the groups whose members have changed with the kernel's. Returns how many
        were compared.

        Cost: BATCH_MEMBERS members, and those of one group more.
        """
        compared = members = 0
        while self._uncompared and members < BATCH_MEMBERS:
            group = next(iter(self._uncompared))
            del self._uncompared[group]
            form = self._forms.get(group)
            members += 1 if form is None or isinstance(form, Hop) else len(form)
            self._evaluate(group)
            compared += 1
        return compared

    def next_hops_on(self, ifindex: int) -> list[tuple[Address, int]]:
        """List the gateways on a link that some object uses."""
        return [
            (form.via, form.ifindex)
            for form in self._forms.values()
            if isinstance(form, Hop) and form.ifindex == ifindex and not form.is_onlink
            if form.via is not None
        ]

    def next_hops_of(self, nexthop_ids: Iterable[int]) -> set[tuple[Address, int]]:
        """Collect the gateways of these objects, with their links."""
        hops: set[tuple[Address, int]] = set()
        for nexthop_id in nexthop_ids:
            form = self._forms.get(nexthop_id, ())
            singles = [form] if isinstance(form, Hop) else [self._forms.get(id_) for id_, _ in form]
            hops.update(
                (hop.via, hop.ifindex)
                for hop in singles
                if isinstance(hop, Hop) and hop.via is not None
            )
        return hops

    def _effective(self, form: NextHopForm) -> NextHopForm:
        if isinstance(form, Hop):
            return form
        members = tuple(member for member in form if self._is_alive(member[0])) or form
        weights = reduced([weight for _, weight in members], self.weight_limit)
        return tuple((member, weight) for (member, _), weight in zip(members, weights, strict=True))

    def _is_alive(self, nexthop_id: int) -> bool:
        hop = self._forms.get(nexthop_id)
        if not isinstance(hop, Hop):
            return False
        if nexthop_id in self._failures and nexthop_id not in self._kernel:
            return False  # refused
        return (hop.via, hop.ifindex) not in self._to_verify and self._is_link_up(hop.ifindex)

    def _evaluate(self, nexthop_id: int) -> None:
        """Add an id to the pending ones, or remove it from them."""
        form = self._forms.get(nexthop_id)
        is_right = (
            form is None
            or nexthop_id not in self._claimed
            or self._kernel.get(nexthop_id) == self._effective(form)
        )
        if is_right:
            self._pending.pop(nexthop_id, None)
            self._failures.pop(nexthop_id, None)
        else:
            self._pending[nexthop_id] = None

    # --- plans and their outcomes

    def plan(self, now: float, limit: int) -> list[NextHopWrite]:
        """Plan the next objects to write, at most `limit`, members before their groups."""
        due = [nexthop_id for nexthop_id in self._pending if self._retry_at(nexthop_id) <= now]
        due.sort(key=self._order)
        return self._batch(due, limit)

    def plan_link_routes(self, now: float, limit: int) -> list[NextHopWrite]:
        """Plan the next objects without any gateway, at most `limit`."""
        due = [
            nexthop_id
            for nexthop_id in self._pending
            if self.is_link_route(nexthop_id) and self._retry_at(nexthop_id) <= now
        ]
        due.sort(key=self._order)
        return self._batch(due, limit)

    def plan_regroup(self, now: float, limit: int) -> list[NextHopWrite]:
        """Plan the next groups that are in the kernel with other members, at most `limit`."""
        due = [
            nexthop_id
            for nexthop_id in self._pending
            if nexthop_id in self._kernel
            and not isinstance(self._forms[nexthop_id], Hop)
            and self._retry_at(nexthop_id) <= now
        ]
        return self._batch(due, limit)

    def _batch(self, due: Sequence[int], limit: int) -> list[NextHopWrite]:
        """Plan the first of these ids: at most `limit`, with about BATCH_MEMBERS members in all."""
        writes: list[NextHopWrite] = []
        members = 0
        for nexthop_id in due[:limit]:
            write = self._write(nexthop_id)
            members += 0 if isinstance(write.form, Hop) else len(write.form)
            if writes and members > BATCH_MEMBERS:
                break
            writes.append(write)
        return writes

    def is_link_route(self, nexthop_id: int) -> bool:
        """Whether an object names links alone, without a gateway. Cost: one look-up if cached."""
        known = self._has_links_only.get(nexthop_id)
        if known is not None:
            return known
        hops = resolve(self._forms, nexthop_id)
        has_links_only = bool(hops) and all(hop.via is None for hop in hops)
        if hops:
            self._has_links_only[nexthop_id] = has_links_only
        return has_links_only

    def _order(self, nexthop_id: int) -> int:
        """Return the rank of an object in the order of writes: links alone, gateways, groups."""
        form = self._forms[nexthop_id]
        if not isinstance(form, Hop):
            return 2
        return 0 if form.via is None else 1

    def _write(self, nexthop_id: int) -> NextHopWrite:
        is_there = nexthop_id in self._kernel
        if self.is_to_go(nexthop_id):
            return NextHopWrite(NextHopKind.REMOVE, nexthop_id, ())
        kind = NextHopKind.REPLACE if is_there else NextHopKind.INSTALL
        return NextHopWrite(kind, nexthop_id, self._effective(self._forms[nexthop_id]))

    def is_to_go(self, nexthop_id: int) -> bool:
        """Whether a foreign object has replaced ours and the kernel refuses to change it: it is
        removed, with its routes, before ours is retried."""
        return nexthop_id in self._taken and nexthop_id in self._failures

    def plan_sweep(self, used: set[int]) -> list[NextHopWrite]:
        """Plan the removal of all our objects that no route uses, groups before their members.

        Args:
            used: ids that our routes use, are to use, or used a moment ago.
        """
        kept = set(used)
        for nexthop_id in used:
            form = self._forms.get(nexthop_id)
            if form is not None and not isinstance(form, Hop):
                kept.update(member for member, _ in form)
        for nexthop_id in self._forms.keys() - kept - self._kernel.keys():
            self._forget(nexthop_id)
        self._taken &= kept
        stale = sorted(
            self._kernel.keys() - kept,
            key=lambda nexthop_id: (isinstance(self._kernel[nexthop_id], Hop), nexthop_id),
        )
        return [
            NextHopWrite(NextHopKind.REMOVE, nexthop_id, self._kernel[nexthop_id] or ())
            for nexthop_id in stale
        ]

    def record(
        self, writes: Sequence[NextHopWrite], outcomes: Sequence[KernelRefusal], now: float
    ) -> set[int]:
        """Record the outcome of planned writes.

        Returns:
            The objects that had failed and are in the kernel now.
        """
        recovered = set()
        regrouped: dict[int, None] = {}
        for (kind, nexthop_id, form), outcome in zip(writes, outcomes, strict=True):
            if kind is NextHopKind.REMOVE and self.is_to_go(nexthop_id):
                self._taken.discard(nexthop_id)
                self._kernel.pop(nexthop_id, None)
                continue
            if kind is NextHopKind.REMOVE:
                # Refused or not, it is not desired; the next dump shows it if it still exists.
                self._kernel.pop(nexthop_id, None)
                self._forget(nexthop_id)
                continue
            had_failed = nexthop_id in self._failures
            if self._is_too_heavy(form, outcome):
                self.weight_limit = OLD_WEIGHT_LIMIT  # it stays pending, with other weights
            elif not outcome.errno:
                if had_failed:
                    recovered.add(nexthop_id)
                self._kernel[nexthop_id] = form
                self._taken.discard(nexthop_id)
                self._evaluate(nexthop_id)
            elif form == self._effective(self._forms[nexthop_id]):
                self._refused(nexthop_id, outcome, now)
            # Otherwise a member was just refused: the group stays pending, without that member.
            if had_failed or outcome.errno:
                regrouped.update(dict.fromkeys(self._groups_of.get(nexthop_id, ())))
        self._regroup(regrouped)
        return recovered

    def _regroup(self, groups: Iterable[int]) -> None:
        """Compare groups again whose members were just written or refused."""
        for group in groups:
            failure = self._failures.get(group)
            if failure is not None:
                failure.retry_now()
            self._evaluate(group)

    def _is_too_heavy(self, form: NextHopForm, outcome: KernelRefusal) -> bool:
        """Whether the kernel refused a group for a weight that only newer kernels accept."""
        if isinstance(form, Hop) or outcome.errno != errno.EINVAL:
            return False
        detail = outcome.detail.lower()
        return (
            max(weight for _, weight in form) > OLD_WEIGHT_LIMIT
            and (not detail or "weight" in detail)
            and all(member in self._kernel for member, _ in form)
        )

    def _refused(self, nexthop_id: int, outcome: KernelRefusal, now: float) -> None:
        form = self._forms[nexthop_id]
        if outcome.errno == errno.EADDRINUSE:
            self._kernel.pop(nexthop_id, None)
        if not isinstance(form, Hop):  # the reason of the missing member is more specific
            failed = [self._failures[member] for member, _ in form if member in self._failures]
            outcome = failed[0].outcome if failed else outcome
        elif (owner := self._foreign.get(nexthop_id)) is not None:
            detail = f"nexthop {nexthop_id} has another owner (protocol {owner})"
            outcome = KernelRefusal(outcome.errno, detail)
        old = self._failures.get(nexthop_id)
        attempts = old.attempts + 1 if old else 1
        # At once if another object is there instead: it is removed first.
        pause = 0.0 if nexthop_id in self._taken else _RETRY.pause_s(attempts)
        self._failures[nexthop_id] = _Failure(outcome, attempts, now + pause)

    def _forget(self, nexthop_id: int) -> None:
        form = self._forms.pop(nexthop_id, None)
        self._values.pop(nexthop_id, None)
        self._has_links_only.pop(nexthop_id, None)
        self._pending.pop(nexthop_id, None)
        self._uncompared.pop(nexthop_id, None)
        self._failures.pop(nexthop_id, None)
        self._groups_of.pop(nexthop_id, None)
        self._taken.discard(nexthop_id)
        self._claimed.discard(nexthop_id)
        if form is None:
            return
        if self._ids.get(form) == nexthop_id:
            del self._ids[form]
        if isinstance(form, Hop):
            if not self._is_known((form.via, form.ifindex)):
                self._to_verify.pop((form.via, form.ifindex), None)
                self._lifted_at.pop((form.via, form.ifindex), None)
            return
        self._members -= len(form)
        for member, _ in form:
            self._groups_of.get(member, set()).discard(nexthop_id)

    def _retry_at(self, nexthop_id: int) -> float:
        failure = self._failures.get(nexthop_id)
        return -math.inf if failure is None else failure.retry_at

    def retry_at(self) -> float:
        """Return when the next refused object is retried; math.inf if none waits."""
        if self._uncompared:
            return -math.inf
        return min((self._retry_at(nexthop_id) for nexthop_id in self._pending), default=math.inf)

    # --- reports

    @property
    def has_failures(self) -> bool:
        """Whether the kernel has refused some object and it waits for its next attempt."""
        return bool(self._failures)

    def failure_of(self, nexthop_id: int) -> KernelRefusal | None:
        """Return why the kernel refused an object; None if it did not."""
        failure = self._failures.get(nexthop_id)
        return None if failure is None else failure.outcome

    def is_new_failure_in_groups(self, nexthop_id: int) -> bool:
        """Whether an object that groups contain was just refused for the first time."""
        failure = self._failures.get(nexthop_id)
        return (
            failure is not None and failure.attempts == 1 and bool(self._groups_of.get(nexthop_id))
        )

    def is_there(self, nexthop_id: int) -> bool:
        """Whether the kernel has an object of ours under this id."""
        return nexthop_id in self._kernel

    def hops_of(self, value: RouteValue) -> tuple[NextHop, ...]:
        """Return the next hops of a route or of its object; none if the object is not ours."""
        if not value.nexthop_id:
            return value.next_hops
        return resolve(self._forms, value.nexthop_id)

    def _active(self, nexthop_id: int) -> tuple[NextHop, ...]:
        form = self._kernel.get(nexthop_id)
        members = [] if form is None or isinstance(form, Hop) else [member for member, _ in form]
        known: dict[int, NextHopForm | None] = {
            member: self._forms.get(member) for member in members
        }
        return resolve({**known, nexthop_id: form}, nexthop_id)

    def states_after(self, nexthop_id: int) -> Iterator[NextHopState]:
        """Iterate over our objects with ids above `nexthop_id`, in order.

        Cost: one look-up for every id, and the work for the states that are consumed.
        """
        after = nexthop_id
        known = self._forms.keys() | self._kernel.keys()
        for nexthop_id in sorted(each for each in known if each > after):
            outcome = self.failure_of(nexthop_id)
            yield NextHopState(
                nexthop_id,
                resolve(self._forms, nexthop_id),
                self._active(nexthop_id),
                outcome.text if outcome else "",
            )


def _group(ids: Sequence[int], hops: Sequence[NextHop]) -> Group:
    """Build the members of a group from their ids and next hops."""
    return tuple(sorted((member, hop.weight) for member, hop in zip(ids, hops, strict=True)))
