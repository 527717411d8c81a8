"""Cost of the start of table dumps: repeated resets do not walk the table."""

from __future__ import annotations

import functools

import pytest

from routed.model.prefix import Address, Family, Prefix
from routed.nup.events import AdjacencyState, TraceCode
from routed.nup.transmit import TRIGGERED_REFILL_MAX_S
from routed.nup.transport import table_dumps
from routed.nup.transport.table_dumps import (
    DUMP_GAP_S,
    DUMPS_AT_ONCE,
    LINK_DUMP_GAP_S,
    LINK_DUMPS_AT_ONCE,
    MAX_ROUTERS,
    DumpLimits,
    TableOrder,
)
from routed.nup.wire.message import Ack, MessageType, RouteUpdate, Stream
from tests.fakes.fake_wire import router_id
from tests.fakes.operations import operations
from tests.unit.nup.test_instance_transitions import Puppet

ROUTES = 4000
RESETS = 40
OPERATIONS_PER_RESET = 25_000
"""Operations of two heartbeats, a new session, and the first eight messages of a table."""


def prefix(number: int) -> Prefix:
    return Prefix.trusted(Family.IPV4, (100 << 24) + (number << 8), 24)


def reset(puppet: Puppet, session: int) -> None:
    """Have the neighbor reset the adjacency, learn our new number for it, and get a table."""
    puppet.hears_us(session)
    puppet.wait(TRIGGERED_REFILL_MAX_S)
    puppet.hears_us(session)


def puppet_with_table() -> Puppet:
    puppet = Puppet()
    puppet.instance.originate_all([prefix(n) for n in range(5 * ROUTES)], 0, 0, False, puppet.now)
    puppet.drain()
    return puppet


@pytest.mark.parametrize("is_new_boot", [False, True])
def test_resets_cost_no_walk_over_the_table(
    is_new_boot: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each reset made the router sort all its prefixes."""
    sorts = 0

    def counted(items: set[Prefix]) -> list[Prefix]:
        nonlocal sorts
        sorts += 1
        return sorted(items)

    monkeypatch.setattr(table_dumps, "sorted", counted, raising=False)
    puppet = puppet_with_table()
    puppet.reach(AdjacencyState.LOADING)
    assert sorts == 1

    for number in range(RESETS):
        if is_new_boot:
            puppet.boot_id += 1
            puppet.sequence = 0
        before = len(puppet.unacknowledged)
        begin_anew = functools.partial(reset, puppet, 1000 + number)
        assert operations(begin_anew) < OPERATIONS_PER_RESET
        assert puppet.state is AdjacencyState.LOADING
        assert len(puppet.unacknowledged) - before < 16
    assert sorts == 1
    assert puppet.instance.counters()[TraceCode.TABLE_DELAYED.value] == RESETS + 1 - DUMPS_AT_ONCE


def test_a_table_that_had_to_wait_is_sent_whole() -> None:
    puppet = Puppet()
    puppet.reach(AdjacencyState.LOADING)
    for number in range(DUMPS_AT_ONCE + 3):
        reset(puppet, 1000 + number)
    assert puppet.instance.counters()[TraceCode.TABLE_DELAYED.value] > 0
    puppet.unicast_sequence = 0
    del puppet.unacknowledged[:-1]
    puppet.exchange_tables()
    waited_s = 0.0
    while waited_s < DUMP_GAP_S + 1:
        assert puppet.knows_route, "nothing else of it waits"
        puppet.wait(0.5)
        puppet.hears_us(session=1000 + DUMPS_AT_ONCE + 2)
        last = max(number for stream, number in puppet.unacknowledged if stream is Stream.UNICAST)
        puppet.send(MessageType.ACK, Ack(router_id(1), puppet.session, Stream.UNICAST, last))
        waited_s += 0.5
    assert puppet.state is AdjacencyState.UP


def test_a_further_restart_costs_only_what_was_advertised_since() -> None:
    puppet = Puppet()
    puppet.reach(AdjacencyState.LOADING)
    for first in range(0, ROUTES, 40):
        updates = [
            RouteUpdate(prefix(n), 0, 0, False, router_id(2), 5) for n in range(first, first + 40)
        ]
        puppet.tell(*updates)

    def begin_anew() -> None:
        puppet.boot_id += 1
        puppet.sequence = 0
        puppet.hears_us()

    assert operations(begin_anew) > ROUTES, "all that it told is stale now"
    for _ in range(5):
        assert operations(begin_anew) < ROUTES / 2
    assert len(puppet.instance.learned()) == ROUTES


def test_the_list_has_everything_and_is_made_anew_after_many_changes() -> None:
    known = {prefix(n): None for n in range(0, 2000, 2)}
    order = TableOrder()
    first = order.listed(known)
    assert list(first) == sorted(known)
    known[prefix(1)] = None
    order.record_added([prefix(1)])
    assert order.listed(known) is first
    assert set(order.listed(known)) == set(known)
    for number in range(0, 400, 2):
        del known[prefix(number)]
    order.record_removed(200)
    assert list(order.listed(known)) == sorted(known)


def test_a_router_and_a_link_have_a_share_each() -> None:
    limits, now = DumpLimits(), 100.0
    first = router_id(1)
    for _ in range(DUMPS_AT_ONCE):
        assert limits.open_at(first) <= now
        limits.record_begun(first, now)
    assert limits.open_at(first) == pytest.approx(now + DUMP_GAP_S)
    others = [Address(Family.IPV4, (9 << 24) + n) for n in range(LINK_DUMPS_AT_ONCE)]
    begun = DUMPS_AT_ONCE
    while limits.open_at(others[begun % len(others)]) <= now:
        limits.record_begun(others[begun], now)
        begun += 1
    assert begun == LINK_DUMPS_AT_ONCE
    assert limits.open_at(others[-1]) == pytest.approx(now + LINK_DUMP_GAP_S)
    assert len(limits._routers) == MAX_ROUTERS
