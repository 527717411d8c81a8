"""The table of kernel nexthop objects: desired, in the kernel, pending. Pure.

    value_for (a route's next hops) --> +-------------+ --plan--> kernel
    kernel's dump and news -----------> | NexthopTable |
    suspect / lift -------------------> +-------------+ --forms, failures--> people

A route with gateways goes through an object: a single one for one gateway, a group of single ones
with weights for several. So does an IPv6 route with several next hops of which some are links
alone, which the kernel takes in no other form. All routes with the same next hops go through the
same object, so that one message changes where all of them go: a next hop that dies is taken out of
its groups at once, while the RIB is still thinking about the routes.

    effective form of a group = its members, without those suspected, those that the kernel refuses
                                and those on links that are down; all of them when none would be
                                left; with weights that this kernel takes (`weights.py`)

Ids are our own range, one for each rtm_protocol: `protocol * 1,000,000` and up. What an earlier
life left there is known by id and nhm_protocol, and its ids are given to the same next hops again,
so that routes through them are adopted without a write. What is used by no route of ours is swept
after the routes are: the kernel removes the routes of an object that goes, without a word.

Invariants:
    An id means the same next hops as long as anything uses it; only the effective form changes.
    A group is written after its members, and removed before them.
    A foreign object is never touched, wherever its id is. One that somebody has put in the place of
    an object of this life is no such thing: it is replaced in turn, and where the kernel refuses
    that it is removed, so that its routes fail and do not go elsewhere.

Order: links alone, then gateways, then groups. `plan_link_routes` is the first part by itself:
routes without a gateway are what gateways of others may stand on (`sync.py`).

What the kernel derives when an object is written (the scope of an IPv4 gateway) is compared when it
is read, and an object whose gateway was an address of this host is written again once that address
has left (`rewrite`).

Failure: what the kernel refuses is kept with its words and tried again, after a pause that doubles,
or when a link changed, or when something appears that the gateway stands on. Beyond OBJECTS_MAX
objects, or MEMBERS_MAX members of groups, further next hops go without an object.

Sources: net/ipv4/nexthop.c of Linux: nexthop_flush_dev (a link that goes down takes its single
objects along and shrinks groups, silently), remove_nexthop (routes go with their object).
"""

from __future__ import annotations

import errno
import math
from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

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
"""How far apart the ranges of two protocols are: `ip nexthop` shows 205000017 for protocol 205."""

OBJECTS_MAX = 16_384
"""Objects at a time; reading all of them takes some 50 ms."""

BATCH_MEMBERS = 1024
"""Members of groups that are written at once: one next hop may be in many large groups, and the
kernel takes time for each member."""
SUSPECT_PAUSE_S = 1.0
"""A next hop that was lifted is not suspected again before: each time all its groups are written
twice. Routes follow without that, a little later."""

MEMBERS_MAX = 131_072
"""Members of all groups together: 2,048 groups of 64. It bounds the work of one link or next hop
that changes, 0.1 s, whatever an engine asks for; what is beyond goes without an object."""

_RETRY = Backoff(first_s=0.5, limit_s=60.0)


@dataclass(slots=True)
class _Failure:
    outcome: KernelRefusal
    attempts: int
    retry_at: float

    def retry_now(self) -> None:
        """Something has changed: the next pause is the first one again."""
        self.attempts, self.retry_at = 0, -math.inf


class NextHopState(NamedTuple):
    """How one object stands, for people."""

    id: int
    next_hops: tuple[NextHop, ...]
    """As routes want them."""
    active: tuple[NextHop, ...]
    """As the kernel has them; empty when it lacks the object."""
    problem: str
    """What the kernel said; empty when it did as asked."""


_Hop = tuple[Address | None, int]
"""A gateway and its link: what dies."""


def resolve(objects: Mapping[int, NextHopForm | None], nexthop_id: int) -> tuple[NextHop, ...]:
    """What an object stands for, whoever made it; nothing when that cannot be told."""
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
    """Owns the ids."""

    def __init__(
        self, protocol: int, *, is_enabled: bool, is_link_up: Callable[[int], bool]
    ) -> None:
        """Args:
        protocol: nhm_protocol of what is ours, and where our ids begin.
        is_enabled: whether new routes go through objects; otherwise what is left is swept.
        is_link_up: whether a link (by ifindex) carries packets now.
        """
        self.protocol = protocol
        self.is_enabled = is_enabled
        self.weight_limit = MAX_WEIGHT
        """The greatest weight in a group that this kernel takes, as far as it has shown."""
        self._is_link_up = is_link_up
        self._first_id = protocol * IDS_PER_PROTOCOL
        self._next_id = self._first_id
        self._forms: dict[int, NextHopForm] = {}
        """What each id means."""
        self._ids: dict[NextHopForm, int] = {}
        self._values: dict[int, RouteValue] = {}
        """One for all routes through an object, so that a million of them share it."""
        self._claimed: set[int] = set()
        """Ids that this life has given out; the others are an earlier one's."""
        self._groups_of: dict[int, set[int]] = {}
        """Groups that a single object is a member of."""
        self._has_links_only: dict[int, bool] = {}
        """Of ids in `_forms`, as far as somebody has asked."""
        self._members = 0
        """Of all groups in `_forms`."""
        self._kernel: dict[int, NextHopForm | None] = {}
        """Ours that are there."""
        self._foreign: set[int] = set()
        """Ids of our range that somebody else has taken."""
        self._taken: set[int] = set()
        """Ids of claimed objects in whose place somebody else has put another one, under whichever
        protocol."""
        self.popped_changes: list[SeenNextHop] = []
        """What is new among these, for the log."""
        self._uncompared: dict[int, None] = {}
        """Groups that may be other than the kernel's."""
        self._pending: dict[int, None] = {}
        """Ids whose object is not as it should be."""
        self._failures: dict[int, _Failure] = {}
        self._to_verify: dict[_Hop, int] = {}
        self._lifted_at: dict[_Hop, float] = {}
        """When these were suspected last, of those that some object uses."""
        self._suspicions = 0

    def __len__(self) -> int:
        """Objects of ours in the kernel."""
        return len(self._kernel)

    # --- what routes want

    def value_for(self, value: RouteValue, family: Family = Family.IPV4) -> RouteValue:
        """The same route through an object; unchanged where it needs or gets none.

        Args:
            value: what the route does.
            family: of the route.
        """
        hops = value.next_hops
        if not self.is_enabled or not hops:
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
        return self._value(ids[0] if len(ids) == 1 else self._claim(_group(ids, hops)))

    def _missing(self, singles: Sequence[Hop], hops: Sequence[NextHop]) -> int:
        """How many objects there are to be defined before a route can have its own."""
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
        """The id of a form, which is ours from now on."""
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

    # --- what the kernel says

    def read(self, seen: Iterable[SeenNextHop]) -> None:
        """Take over a complete dump."""
        before, self._kernel, self._foreign = self._kernel, {}, set()
        for entry in sorted(seen, key=lambda entry: entry.id):
            self._record(entry, before)
        self._taken &= self._kernel.keys()
        for nexthop_id in before.keys() | self._kernel.keys() | self._pending.keys():
            self._evaluate(nexthop_id)

    def changed(self, seen: SeenNextHop, *, is_removed: bool) -> bool:
        """Take over a notification about an object that we did not cause.

        Returns:
            Whether routes of ours may have gone with it.
        """
        if is_removed:
            self._foreign.discard(seen.id)
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
        self._foreign.discard(seen.id)
        meant = self._forms.get(seen.id) if seen.id in self._claimed else None
        if isinstance(meant, Hop) and seen.form != meant:
            self._taken.add(seen.id)
        else:
            self._taken.discard(seen.id)
        self._kernel[seen.id] = None if seen.is_gateway_unused else seen.form
        if seen.id not in self._forms and seen.form is not None:
            self._define(seen.id, seen.form)

    def _record_foreign(self, seen: SeenNextHop, before: Container[int]) -> None:
        """Somebody has put an object under an id of our range. The kernel keeps the routes of one
        that is replaced, so they go where the new one says."""
        if seen.id in self._claimed and seen.id in before:
            if seen.id not in self._taken:
                self.popped_changes.append(seen)
                self._failures.pop(seen.id, None)
            self._taken.add(seen.id)
            self._kernel[seen.id] = None
            return
        self._foreign.add(seen.id)
        self._kernel.pop(seen.id, None)
        if seen.id not in self._claimed:
            self._forget(seen.id)

    def links_changed(self) -> None:
        """A link or an address changed: other members may be in their groups, and what failed may
        work now."""
        for failure in self._failures.values():
            failure.retry_now()
        for nexthop_id in self._claimed:
            self._evaluate(nexthop_id)

    def retry_covered(self, is_covered: Callable[[Address], bool]) -> None:
        """Something that gateways may stand on is in the kernel: try those again that do.

        Args:
            is_covered: whether a gateway may stand on it.
        """
        for nexthop_id, failure in self._failures.items():
            form = self._forms.get(nexthop_id)
            if isinstance(form, Hop) and form.via is not None and is_covered(form.via):
                failure.retry_now()

    def rewrite(self, addresses: Container[Address]) -> None:
        """These are addresses of this host no longer: the kernel may have taken gateways for them
        when their objects were written, so these are written again."""
        for nexthop_id, form in self._forms.items():
            if isinstance(form, Hop) and form.via in addresses and nexthop_id in self._kernel:
                self._kernel[nexthop_id] = None
                self._evaluate(nexthop_id)

    # --- what dies

    def suspect(self, hops: Iterable[tuple[Address | None, int]], now: float) -> bool:
        """Take next hops out of every group that has others, until `lift`.

        Args:
            next hops: gateways and their links; passed over within SUSPECT_PAUSE_S after a `lift`.
            now: seconds, monotonic.

        Returns:
            Whether something is to be written for it.
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
        """Those that some object uses, each once; an engine may name what it likes."""
        return [hop for hop in dict.fromkeys(hops) if self._is_known(hop)]

    def _is_known(self, hop: _Hop) -> bool:
        return Hop(*hop) in self._ids or Hop(*hop, is_onlink=True) in self._ids

    @property
    def suspicions(self) -> int:
        """How often somebody was suspected: what `lift` is told."""
        return self._suspicions

    def lift(self, suspicions: int, now: float) -> None:
        """The RIB has decided about everything that was suspected up to then.

        Args:
            suspicions: what `suspicions` was then.
            now: seconds, monotonic.
        """
        lifted = [hop for hop, number in self._to_verify.items() if number <= suspicions]
        for hop in lifted:
            del self._to_verify[hop]
            self._lifted_at[hop] = now
        self._evaluate_groups_with(lifted)

    def _evaluate_groups_with(self, hops: Iterable[_Hop]) -> None:
        """Have every group compared that has one of these members, each group once: some at once,
        the others by `compare`, as a message of an engine may name a member of all groups.
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
        """Compare some of the groups whose members have changed with what the kernel has; how many
        those were.

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
        """The gateways on a link that some object uses."""
        return [
            (form.via, form.ifindex)
            for form in self._forms.values()
            if isinstance(form, Hop) and form.ifindex == ifindex and not form.is_onlink
            if form.via is not None
        ]

    def next_hops_of(self, nexthop_ids: Iterable[int]) -> set[tuple[Address, int]]:
        """The gateways, and their links, that these objects stand for."""
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
        """Enter an id among the pending ones, or take it out."""
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

    # --- what is to be done, and what became of it

    def plan(self, now: float, limit: int) -> list[NextHopWrite]:
        """The next objects to write, at most `limit`, members before their groups."""
        due = [nexthop_id for nexthop_id in self._pending if self._retry_at(nexthop_id) <= now]
        due.sort(key=self._order)
        return self._batch(due, limit)

    def plan_link_routes(self, now: float, limit: int) -> list[NextHopWrite]:
        """Of the next objects those without any gateway, at most `limit`."""
        due = [
            nexthop_id
            for nexthop_id in self._pending
            if self.is_link_route(nexthop_id) and self._retry_at(nexthop_id) <= now
        ]
        due.sort(key=self._order)
        return self._batch(due, limit)

    def plan_regroup(self, now: float, limit: int) -> list[NextHopWrite]:
        """Of the next objects those groups that are in the kernel with other members."""
        due = [
            nexthop_id
            for nexthop_id in self._pending
            if nexthop_id in self._kernel
            and not isinstance(self._forms[nexthop_id], Hop)
            and self._retry_at(nexthop_id) <= now
        ]
        return self._batch(due, limit)

    def _batch(self, due: Sequence[int], limit: int) -> list[NextHopWrite]:
        """The first of these: at most `limit`, with about BATCH_MEMBERS members together."""
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
        """Whether an object names links alone, no gateway. Cost: one look, once it is known."""
        known = self._has_links_only.get(nexthop_id)
        if known is not None:
            return known
        hops = resolve(self._forms, nexthop_id)
        has_links_only = bool(hops) and all(hop.via is None for hop in hops)
        if hops:
            self._has_links_only[nexthop_id] = has_links_only
        return has_links_only

    def _order(self, nexthop_id: int) -> int:
        """Links alone, gateways, groups."""
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
        """Whether somebody's object is in the place of ours and the kernel refuses to change it:
        it is removed, with its routes, before ours is tried again."""
        return nexthop_id in self._taken and nexthop_id in self._failures

    def plan_sweep(self, used: set[int]) -> list[NextHopWrite]:
        """What to remove: everything of ours that no route uses, groups before their members.

        Args:
            used: ids that routes of ours go through, or want to, or went through a moment ago.
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
        """Enter what became of planned writes.

        Returns:
            The objects that work now and had failed.
        """
        recovered = set()
        regrouped: dict[int, None] = {}
        for (kind, nexthop_id, form), outcome in zip(writes, outcomes, strict=True):
            if kind is NextHopKind.REMOVE and self.is_to_go(nexthop_id):
                self._taken.discard(nexthop_id)
                self._kernel.pop(nexthop_id, None)
                continue
            if kind is NextHopKind.REMOVE:
                # Refused or not, nobody wants it; the next dump shows it if it is still there.
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
            # Else a member was refused a moment ago: it stays pending, without that.
            if had_failed or outcome.errno:
                regrouped.update(dict.fromkeys(self._groups_of.get(nexthop_id, ())))
        self._regroup(regrouped)
        return recovered

    def _regroup(self, groups: Iterable[int]) -> None:
        """Members of these are there, or are refused, since a moment ago."""
        for group in groups:
            failure = self._failures.get(group)
            if failure is not None:
                failure.retry_now()
            self._evaluate(group)

    def _is_too_heavy(self, form: NextHopForm, outcome: KernelRefusal) -> bool:
        """Whether the kernel has refused a group for a weight that only newer ones take."""
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
        if not isinstance(form, Hop):  # the reason of the member that is missing says more
            failed = [self._failures[member] for member, _ in form if member in self._failures]
            outcome = failed[0].outcome if failed else outcome
        elif nexthop_id in self._foreign:
            outcome = KernelRefusal(outcome.errno, f"nexthop {nexthop_id} belongs to somebody else")
        old = self._failures.get(nexthop_id)
        attempts = old.attempts + 1 if old else 1
        pause = _RETRY.pause_s(attempts)
        if nexthop_id in self._taken:
            pause = 0.0  # what is there instead goes at once
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
        """When the next refused object is due; math.inf when none waits."""
        if self._uncompared:
            return -math.inf
        return min((self._retry_at(nexthop_id) for nexthop_id in self._pending), default=math.inf)

    # --- what is told

    @property
    def has_failures(self) -> bool:
        """Whether the kernel has refused some object and it waits for its next attempt."""
        return bool(self._failures)

    def failure_of(self, nexthop_id: int) -> KernelRefusal | None:
        """Why an object is not as it should be."""
        failure = self._failures.get(nexthop_id)
        return None if failure is None else failure.outcome

    def is_new_failure_in_groups(self, nexthop_id: int) -> bool:
        """Whether the kernel has just refused an object for the first time that groups have."""
        failure = self._failures.get(nexthop_id)
        return (
            failure is not None and failure.attempts == 1 and bool(self._groups_of.get(nexthop_id))
        )

    def is_there(self, nexthop_id: int) -> bool:
        """Whether the kernel has an object of ours under this id."""
        return nexthop_id in self._kernel

    def hops_of(self, value: RouteValue) -> tuple[NextHop, ...]:
        """Where a route goes, through an object or not; nothing for an object that is not ours."""
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
        """Every object of ours with an id above this one, in order; made as they are taken.

        Cost: a look at every id, and a name for each next hop of those that are taken.
        """
        after = nexthop_id
        known = self._forms.keys() | self._kernel.keys()
        for nexthop_id in sorted(each for each in known if each > after):
            outcome = self.failure_of(nexthop_id)
            yield NextHopState(
                nexthop_id,
                resolve(self._forms, nexthop_id),
                self._active(nexthop_id),
                outcome.words if outcome else "",
            )


def _group(ids: Sequence[int], hops: Sequence[NextHop]) -> Group:
    """The members of a group, from their ids and the next hops that they stand for."""
    return tuple(sorted((member, hop.weight) for member, hop in zip(ids, hops, strict=True)))
