"""Desired routes: changes of one prefix are merged, the window is kept, each has a state."""

from __future__ import annotations

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from ipc.codec import encode
from ipc.framing import INTERNAL_FRAME_MAX_BYTES
from routed.engine.fib.desired import UPDATE_ROUTES_MAX, DesiredFib, DesiredRoute
from routed.engine.fib.window import WINDOW_UPDATES
from routed.fib.routes.ownership import Ownership, RouteValue
from routed.imsg.messages import FibUpdate
from routed.model.fib import FibCounters, FibFailure
from routed.model.kernel_attributes import KernelAttributes, attributes_of
from routed.model.martians import MartianRules
from routed.model.prefix import Address, Family, Prefix
from routed.model.route import NextHop, RouteType
from routed.parent.route_admission import validate_update

A = Prefix.parse("10.1.0.0/16")
BLACKHOLE = DesiredRoute(RouteType.BLACKHOLE, ())
ANYTHING = MartianRules.of([Prefix.parse("0.0.0.0/0"), Prefix.parse("::/0")])
OURS = Ownership(205, 205, frozenset({254}))


class Wanted(dict[Prefix, DesiredRoute]):
    """Best paths of a RIB, and the desired routes that follow."""

    def __init__(self) -> None:
        super().__init__()
        self.desired = DesiredFib(254)

    def set_desired(self, prefix: Prefix, desired_route: DesiredRoute | None = BLACKHOLE) -> None:
        if desired_route is None:
            self.pop(prefix, None)
        else:
            self[prefix] = desired_route
        self.desired.set_routes(prefix.family, [prefix.as_int], [desired_route])


def as_dict(update: FibUpdate) -> tuple[dict[Prefix, RouteValue], list[Prefix]]:
    """Decode an update as the parent does."""
    taken, refused = validate_update(update, OURS, ANYTHING)
    assert not refused
    install = {
        Prefix.from_int(rows.family, key): value
        for rows in taken.install
        for key, value in zip(rows.keys, rows.values, strict=True)
    }
    remove = [Prefix.from_int(rows.family, key) for rows in taken.remove for key in rows.keys]
    return install, remove


def test_a_desired_route_is_pending_then_installed_or_failed() -> None:
    wanted = Wanted()
    desired = wanted.desired
    wanted.set_desired(A)
    assert desired.is_pending(A)
    update = desired.pop_update()
    assert update is not None
    assert desired.is_pending(A)
    desired.record_progress(update.serial, [], [], FibCounters())
    assert not desired.is_pending(A)
    desired.record_progress(update.serial, [FibFailure(254, A, "no")], [], FibCounters())
    assert desired.failure_of(A) == "no"
    desired.record_progress(update.serial, [], [(254, A)], FibCounters())
    assert desired.failure_of(A) == ""


def test_a_failure_ends_with_its_desired_route() -> None:
    wanted = Wanted()
    wanted.set_desired(A)
    wanted.desired.pop_update()
    wanted.desired.record_progress(1, [FibFailure(254, A, "no")], [], FibCounters())
    assert not wanted.desired.is_waiting(A)
    wanted.set_desired(A, None)
    wanted.desired.pop_update()
    wanted.set_desired(A)
    assert wanted.desired.failure_of(A) == ""


def test_the_first_update_is_sent_even_when_nothing_is_desired() -> None:
    update = Wanted().desired.pop_first_update()
    assert update == FibUpdate(1, (), (), (), completes_start=True)


@pytest.mark.parametrize("desired_route", [BLACKHOLE, None])
def test_the_start_is_complete_with_the_last_route_decided_at_the_first_update(
    desired_route: DesiredRoute | None,
) -> None:
    """A14: a daemon was ready when the kernel had the first 2,000 routes of 20,000."""
    wanted = Wanted()
    desired = wanted.desired
    first = {Prefix(Family.IPV4, number << 8, 24) for number in range(2 * UPDATE_ROUTES_MAX)}
    first |= {Prefix(Family.IPV6, number << 64, 64) for number in range(1, UPDATE_ROUTES_MAX)}
    for prefix in first:
        wanted.set_desired(prefix, desired_route)
    updates = [desired.pop_first_update()]
    for number in range(9 * UPDATE_ROUTES_MAX):  # what comes later is not waited for
        wanted.set_desired(Prefix(Family.IPV4, (1 << 31) + (number << 8), 24))
    while (update := desired.pop_update()) is not None:
        updates.append(update)
        desired.record_progress(update.serial, [], [], FibCounters())
    sent: set[Prefix] = set()
    for update in updates:
        install, remove = as_dict(update)
        sent |= {*install, *remove}
        if update.completes_start:
            break
        assert not first <= sent
    assert first <= sent
    assert [update.completes_start for update in updates].count(True) == 1
    assert len(updates) > 10


def test_many_changes_of_one_prefix_are_sent_as_one() -> None:
    wanted = Wanted()
    wanted.set_desired(A)
    wanted.set_desired(A, None)
    wanted.set_desired(A, DesiredRoute(RouteType.PROHIBIT, ()))
    update = wanted.desired.pop_update()
    assert update is not None
    assert as_dict(update) == ({A: RouteValue(RouteType.PROHIBIT, ())}, [])
    assert wanted.desired.pop_update() is None


def test_no_more_updates_than_the_window_are_in_flight() -> None:
    wanted = Wanted()
    count = UPDATE_ROUTES_MAX * (WINDOW_UPDATES + 1)
    for number in range(count):
        wanted.set_desired(Prefix(Family.IPV4, number << 8, 24))
    updates = [wanted.desired.pop_update() for _ in range(WINDOW_UPDATES)]
    assert all(updates)
    assert wanted.desired.pop_update() is None
    assert wanted.desired.has_unsent
    wanted.desired.record_progress(1, [], [], FibCounters())
    last = wanted.desired.pop_update()
    assert last is not None
    assert last.serial == WINDOW_UPDATES + 1
    assert not wanted.desired.has_unsent


def largest(family: Family, number: int) -> KernelAttributes:
    """Return attributes of nearly the largest size, other ones for each number."""
    words = {
        "window": str(2**32 - 1 - number), "mtu": "lock 65520", "advmss": "lock 65495",
        "initcwnd": f"lock {2**32 - 1}", "initrwnd": f"lock {2**32 - 1}", "hoplimit": "lock 255",
        "rto_min": "120000ms", "quickack": "lock 1", "congctl": f"lock {'c' * 15}",
        "features": "lock ecn", "src": "192.0.2.255" if family is Family.IPV4 else "fe80::ffff",
    }  # fmt: skip
    if family is Family.IPV4:
        words |= {"scope": "252", "realm": "65535/65535", "tos": "0xfc"}
    found = attributes_of(tuple(words.items()))
    assert found is not None
    return found


@pytest.mark.parametrize("hops_of_each", [0, 1, 8])
@pytest.mark.parametrize("has_attributes", [False, True])
@pytest.mark.parametrize("family", Family)
def test_the_largest_update_fits_a_frame(
    family: Family, has_attributes: bool, hops_of_each: int
) -> None:
    wanted = Wanted()
    for number in range(UPDATE_ROUTES_MAX):
        hops = tuple(
            NextHop(Address(Family.IPV6, (1 << 127) + number * 8 + hop), 2**31 - 1, 256)
            for hop in range(hops_of_each)
        )
        prefix = Prefix(family, number << (family.width - 24), 24)
        attributes = largest(family, number) if has_attributes else None
        kind = RouteType.UNICAST if hops else RouteType.BLACKHOLE
        wanted.set_desired(prefix, DesiredRoute(kind, hops, attributes=attributes))
    said: dict[Prefix, RouteValue] = {}
    while (update := wanted.desired.pop_update()) is not None:
        assert len(encode(update)) < INTERNAL_FRAME_MAX_BYTES - 64
        said |= as_dict(update)[0]
        wanted.desired.record_progress(update.serial, [], [], FibCounters())
    assert len(said) == UPDATE_ROUTES_MAX


PREFIXES = [Prefix(Family.IPV4, number << 24, 8) for number in range(1, 4)]
PREFIXES += [Prefix(Family.IPV6, number << 120, 8) for number in range(1, 3)]
WISHES = st.none() | st.sampled_from(RouteType).filter(lambda kind: not kind.has_next_hops).map(
    lambda kind: DesiredRoute(kind, ())
)


class DesiredFibMachine(RuleBasedStateMachine):
    """The parent's copy, built from updates alone, becomes equal to the desired routes."""

    def __init__(self) -> None:
        super().__init__()
        self.wanted = Wanted()
        self.parent: dict[Prefix, RouteValue] = {}

    @rule(prefix=st.sampled_from(PREFIXES), desired_route=WISHES)
    def set_desired(self, prefix: Prefix, desired_route: DesiredRoute | None) -> None:
        self.wanted.set_desired(prefix, desired_route)

    @rule()
    def say(self) -> None:
        update = self.wanted.desired.pop_update()
        if update is None:
            return
        install, remove = as_dict(update)
        assert not install.keys() & set(remove)
        self.parent |= install
        for prefix in remove:
            self.parent.pop(prefix, None)
        self.wanted.desired.record_progress(update.serial, [], [], FibCounters())

    @invariant()
    def what_was_said_is_what_is_wanted(self) -> None:
        if self.wanted.desired.has_unsent:
            return
        assert self.parent == {
            prefix: RouteValue(desired_route.type, desired_route.next_hops)
            for prefix, desired_route in self.wanted.items()
        }


TestDesiredFib = DesiredFibMachine.TestCase


def test_of_routes_that_change_together_those_without_a_gateway_are_sent_first() -> None:
    """172.31.1.1/32 dev eth0 is in the first update, the default through it in no earlier one."""
    link = DesiredRoute(RouteType.UNICAST, (NextHop(None, 2),))
    through = DesiredRoute(RouteType.UNICAST, (NextHop(Address.parse("172.31.1.1"), 2),))
    desired = DesiredFib(254)
    keys = [Prefix.parse("0.0.0.0/0").as_int]
    keys += [Prefix.masked(Family.IPV4, number << 8, 24).as_int for number in range(1, 5001)]
    base = Prefix.parse("172.31.1.1/32")
    desired.set_routes(Family.IPV4, [*keys, base.as_int], [*[through] * len(keys), link])
    update = desired.pop_update()
    assert update is not None
    install, _ = as_dict(update)
    assert len(install) == UPDATE_ROUTES_MAX
    assert base in install
    said = set(install)
    while (update := desired.pop_update()) is not None:
        said |= set(as_dict(update)[0])
    assert len(said) == 5002, "and each of the others in its turn"
