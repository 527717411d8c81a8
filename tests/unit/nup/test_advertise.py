"""Advertisement: own prefixes and their seqnos, batches, dumps, held retractions."""

from __future__ import annotations

import pytest

from routed.model.prefix import Address, Family, Prefix
from routed.model.route import METRIC_INFINITY
from routed.nup.routes.seqno_limits import Raise
from routed.nup.transport.advertise import (
    COALESCE_S,
    LinkAdvertiser,
    OriginTable,
    RetractionHold,
    TableDump,
    pop_fitting,
)
from routed.nup.wire.message import (
    CONTENT_MAX_BYTES,
    HeaderFlag,
    MessageType,
    Receiver,
    RouteUpdate,
    Sender,
    SeqnoRequest,
    TableVersion,
    encode_tlvs,
    seal,
)
from tests.fakes.operations import operations

OURS = Address.parse("10.255.0.1")
PREFIX = Prefix.parse("192.0.2.0/24")
PREFIXES = [Prefix(Family.IPV6, number << 64, 64) for number in range(200)]


def reachable(prefix: Prefix) -> RouteUpdate:
    return RouteUpdate(prefix, 10, 0, False, OURS, 1)


def gone(_: Prefix) -> None:
    return None


def test_whatever_is_originated_later_has_a_newer_seqno_after_a_change() -> None:
    origins = OriginTable(first_seqno=100)
    assert origins.originate([PREFIX], 0, 0, is_external=False)
    assert not origins.originate([PREFIX], 0, 0, is_external=False)
    assert origins.originate([PREFIX], 5, 0, is_external=False)
    changed = origins.get(PREFIX)
    assert changed is not None
    assert changed.seqno == 101
    assert origins.withdraw(PREFIX)
    assert not origins.withdraw(PREFIX)
    origins.originate([PREFIX], 5, 0, is_external=False)
    again = origins.get(PREFIX)
    assert again is not None
    assert again.seqno == origins.highest_seqno == 102


def test_a_seqno_is_raised_to_what_is_needed_and_never_lowered() -> None:
    origins = OriginTable(first_seqno=100)
    origins.originate([PREFIX], 0, 0, is_external=False)
    assert origins.raise_seqno(PREFIX, 107, 0.0) is Raise.GRANTED
    assert origins.raise_seqno(PREFIX, 107, 0.0) is Raise.BEHIND
    assert origins.raise_seqno(PREFIX, 90, 0.0) is Raise.BEHIND
    assert origins.raise_seqno(Prefix.parse("10.0.0.0/8"), 200, 0.0) is Raise.BEHIND
    assert origins.highest_seqno == 107


def test_an_earlier_lifes_seqno_is_outrun() -> None:
    origins = OriginTable(first_seqno=100)
    origins.originate([PREFIX], 0, 0, is_external=False)
    assert origins.raise_past(PREFIX, 100, 0.0) is Raise.BEHIND
    assert origins.raise_past(PREFIX, 300, 0.0) is Raise.GRANTED
    assert origins.highest_seqno == 301


def test_a_change_is_one_step_whatever_another_prefix_was_driven_to() -> None:
    """A prefix whose seqno was raised with another one's would be out of reach where it was used
    before."""
    origins = OriginTable(first_seqno=100)
    other = Prefix.parse("10.0.0.0/8")
    origins.originate([PREFIX, other], 0, 0, is_external=False)
    for step in range(1, 5):
        origins.raise_seqno(other, 100 + step * 1000, 0.0)
    assert set(origins.originate([PREFIX, other], 5, 0, is_external=False)) == {PREFIX, other}
    changed, driven = origins.get(PREFIX), origins.get(other)
    assert changed is not None
    assert driven is not None
    assert changed.seqno == 101
    assert driven.seqno == origins.highest_seqno == 101 + 4 * 1000


def test_changes_are_coalesced_and_each_prefix_is_advertised_once() -> None:
    link = LinkAdvertiser()
    link.mark(PREFIX, 1.0)
    assert link.flush_at == 1.0, "news after a quiet while"
    assert link.pop_batch(reachable, OURS, 1.0) is not None
    link.mark(PREFIX, 1.001)
    link.mark(PREFIX, 1.002)
    assert link.flush_at == 1.0 + COALESCE_S
    batch = link.pop_batch(reachable, OURS, 1.0 + COALESCE_S)
    assert batch is not None
    assert [update.prefix for update in batch.updates] == [PREFIX]
    assert link.pop_batch(reachable, OURS, 1.0 + COALESCE_S) is None


def test_changes_wait_while_a_neighbor_begins_to_listen() -> None:
    link = LinkAdvertiser()
    link.mark(PREFIX, 1.0)
    link.pause(1.0)
    assert link.flush_at == 1.0 + COALESCE_S


def test_a_retraction_goes_only_to_where_the_prefix_was_advertised() -> None:
    link = LinkAdvertiser()
    link.mark(PREFIX, 1.0)
    assert link.pop_batch(gone, OURS, 1.0) is None
    link.mark(PREFIX, 2.0)
    link.pop_batch(reachable, OURS, 1.0)
    link.mark(PREFIX, 3.0)
    batch = link.pop_batch(gone, OURS, 1.0)
    assert batch is not None
    assert batch.retracted == (PREFIX,)
    assert batch.updates[0].metric == METRIC_INFINITY
    assert link.advertised == set()


def test_many_changes_fill_messages_to_the_brim_and_none_is_lost() -> None:
    link = LinkAdvertiser()
    for prefix in PREFIXES:
        link.mark(prefix, 1.0)
    told: list[Prefix] = []
    sizes: list[int] = []
    sender, receiver = Sender(OURS, 1), Receiver(OURS, 1)
    while (batch := link.pop_batch(reachable, OURS, 1.0)) is not None:
        told += [update.prefix for update in batch.updates]
        payload = encode_tlvs(sender, (receiver, TableVersion(1), *batch.updates))
        sizes.append(len(seal(MessageType.DATA, HeaderFlag.UNICAST_STREAM, 1, 0, payload)))
    assert told == PREFIXES
    assert max(sizes) <= CONTENT_MAX_BYTES
    assert min(sizes[:-1]) > CONTENT_MAX_BYTES - 40


def test_a_dump_skips_removed_prefixes_and_counts_what_it_sent() -> None:
    dump = TableDump(PREFIXES)
    told: list[Prefix] = []
    survivors = set(PREFIXES[::2])
    while (
        batch := dump.pop_batch(lambda prefix: reachable(prefix) if prefix in survivors else None)
    ) is not None:
        told += [update.prefix for update in batch.updates]
    assert told == PREFIXES[::2]
    assert dump.is_sent
    assert dump.count == len(told)


def test_a_hold_ends_when_every_link_has_acknowledged_the_retraction_itself() -> None:
    hold = RetractionHold()
    hold.hold(PREFIX, [1, 2])
    assert hold.record_delivered([PREFIX], 1, version=3) == []  # an older message
    hold.record_sent([PREFIX], 1, version=4)
    hold.record_sent([PREFIX], 2, version=5)
    assert hold.record_delivered([PREFIX], 1, version=4) == []
    assert hold.record_delivered([PREFIX], 2, version=5) == [PREFIX]
    assert not hold.is_held(PREFIX)


def test_a_link_without_listeners_holds_nothing() -> None:
    hold = RetractionHold()
    hold.hold(PREFIX, [1, 2])
    assert hold.record_link_empty(1) == []
    assert hold.record_link_empty(2) == [PREFIX]


def test_an_empty_link_costs_what_waits_for_it_whatever_waits_for_others() -> None:
    """A neighbor that appears and disappears on a link ends the exchange there each time."""
    many = [Prefix(Family.IPV6, number << 64, 64) for number in range(5000)]
    hold = RetractionHold()
    for prefix in many:
        hold.hold(prefix, [1])
    hold.hold(PREFIX, [1, 2])
    assert operations(lambda: hold.record_link_empty(3)) < 20
    assert operations(lambda: hold.record_link_empty(2)) < 20
    hold.hold(PREFIX, [2])
    hold.hold(PREFIX, [1])
    assert hold.record_link_empty(2) == [], "it is held anew, for another link"
    hold.release(many[:4998])
    hold.record_sent(many[4998:], 1, version=7)
    assert hold.record_delivered(many[4998:4999], 1, version=7) == many[4998:4999]
    assert operations(lambda: hold.record_link_empty(1)) < 40
    assert not any(map(hold.is_held, (*many, PREFIX)))


def test_a_prefix_that_came_back_is_not_held() -> None:
    hold = RetractionHold()
    hold.hold(PREFIX, [1])
    hold.record_sent([PREFIX], 1, version=4)
    hold.release([PREFIX])
    assert hold.record_delivered([PREFIX], 1, version=4) == []


def test_requests_leave_in_messages_that_fit() -> None:
    waiting = {(prefix, OURS, 1): SeqnoRequest(prefix, OURS, 1, 64) for prefix in PREFIXES}
    taken: list[Prefix] = []
    while waiting:
        fitting = pop_fitting(waiting)
        assert fitting
        taken += [request.prefix for request in fitting]
    assert taken == PREFIXES


@pytest.mark.parametrize("told", [True, False])
def test_resetting_a_link_drops_advertised_and_dirty_prefixes(told: bool) -> None:
    link = LinkAdvertiser()
    link.mark(PREFIX, 1.0)
    if told:
        link.pop_batch(reachable, OURS, 1.0)
    link.reset()
    assert link.advertised == set()
    assert link.flush_at is None
    assert link.pop_batch(reachable, OURS, 1.0) is None
