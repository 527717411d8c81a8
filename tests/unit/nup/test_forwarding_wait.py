"""The forwarding wait: better updates wait for the kernel, worse ones and retractions do not."""

from __future__ import annotations

import pytest

from routed.model.prefix import Prefix
from routed.nup.events import AdjacencyState
from routed.nup.transport.forwarding_wait import FORWARDING_WAIT_MAX_S, ForwardingWait
from routed.nup.wire.message import EndOfTable, RouteUpdate, decode
from tests.fakes.fake_wire import FakeWire, Node, Segment
from tests.fakes.nup_pair import LOOPBACK, states

A = Prefix.parse("10.1.0.0/16")
B = Prefix.parse("10.2.0.0/16")


class Line:
    """The network a - b - c. The test decides when b's kernel has followed."""

    def __init__(self) -> None:
        self.wire = FakeWire(1)
        self.a, self.b, self.c = (self.wire.add_node(name) for name in "abc")
        self.left = self.wire.connect("a", "b")
        self.right = self.wire.connect("b", "c")
        self.wire.run(2)
        self.wire.await_forwarding("b", is_on=True)

    def metric_at(self, node: Node, prefix: Prefix = LOOPBACK) -> int | None:
        route = node.learned.get(prefix)
        return None if route is None else route.metric

    def follow(self) -> list[Prefix]:
        """Let b's kernel follow completely, and some time pass."""
        followed = self.wire.follow("b")
        self.wire.run(0.1)
        return followed

    def cost(self, segment: Segment, cost: int) -> None:
        self.wire.change_cost(segment, cost)
        self.wire.run(0.1)


def learned_line() -> Line:
    line = Line()
    line.wire.originate("a", str(LOOPBACK))
    line.wire.run(0.1)
    line.follow()
    assert line.metric_at(line.c) == 20
    return line


def test_a_new_route_is_advertised_when_the_kernel_has_it() -> None:
    line = Line()
    line.wire.originate("a", str(LOOPBACK))
    line.wire.run(0.5)
    assert line.metric_at(line.b) == 10
    assert line.metric_at(line.c) is None
    assert line.follow() == [LOOPBACK]
    assert line.metric_at(line.c) == 20


def test_a_better_metric_waits_and_a_worse_one_does_not() -> None:
    line = learned_line()
    line.cost(line.left, 4)
    assert line.metric_at(line.c) == 20
    line.follow()
    assert line.metric_at(line.c) == 14
    line.cost(line.left, 9)
    assert line.metric_at(line.c) == 19
    line.cost(line.left, 7)
    assert line.metric_at(line.c) == 17, "no better than what the kernel was once said to do"
    assert line.follow() == []


def test_a_retraction_is_sent_although_the_prefix_waits() -> None:
    line = learned_line()
    line.cost(line.left, 4)
    line.wire.withdraw("a", str(LOOPBACK))
    line.wire.run(0.1)
    assert line.metric_at(line.c) is None
    line.follow()
    assert line.metric_at(line.c) is None


def test_a_route_that_got_worse_while_it_waited_is_advertised_as_it_is() -> None:
    line = learned_line()
    line.cost(line.left, 4)
    line.cost(line.left, 30)
    assert line.metric_at(line.c) == 20
    line.follow()
    assert line.metric_at(line.c) == 40


def test_what_was_chosen_after_the_question_waits_for_another_answer() -> None:
    line = learned_line()
    line.cost(line.left, 4)
    asked = line.b.instance.pop_forwarding_waits()
    line.cost(line.left, 2)
    line.wire.follow("b", asked)
    line.wire.run(0.1)
    assert line.metric_at(line.c) == 20
    assert line.follow() == [LOOPBACK]
    assert line.metric_at(line.c) == 12


def test_a_newer_seqno_alone_is_reported_too_or_its_wait_would_not_end() -> None:
    line = learned_line()
    before = line.b.learned[LOOPBACK]
    line.wire.originate("a", str(LOOPBACK), metric=1)
    line.wire.originate("a", str(LOOPBACK), metric=0)
    line.wire.run(0.1)
    assert line.b.learned[LOOPBACK] == before
    assert line.b.learned[LOOPBACK] is not before
    assert line.follow() == [LOOPBACK]


def test_nothing_is_reported_twice_where_nothing_waits() -> None:
    line = learned_line()
    before = line.c.learned[LOOPBACK]
    line.wire.originate("a", str(LOOPBACK), metric=1)
    line.wire.originate("a", str(LOOPBACK), metric=0)
    line.wire.run(0.1)
    line.follow()
    assert line.c.learned[LOOPBACK] is before


def test_a_kernel_that_hangs_delays_updates_only_so_long() -> None:
    line = learned_line()
    line.cost(line.left, 4)
    line.wire.run(FORWARDING_WAIT_MAX_S - 0.2)
    assert line.metric_at(line.c) == 20
    line.wire.run(0.2)
    assert line.metric_at(line.c) == 14
    assert line.b.instance.counters()["forwarding_late"] == 1


def test_our_own_prefixes_wait_too() -> None:
    line = Line()
    line.wire.originate("b", str(LOOPBACK))
    line.wire.run(0.5)
    assert line.metric_at(line.c) is None
    assert line.follow() == [LOOPBACK]
    assert line.metric_at(line.c) == 10


def test_without_reports_of_the_kernel_all_is_advertised_at_once() -> None:
    line = Line()
    line.wire.originate("a", str(LOOPBACK))
    line.wire.run(0.1)
    assert line.metric_at(line.c) is None
    line.wire.await_forwarding("b", is_on=False)
    line.wire.run(0.1)
    assert line.metric_at(line.c) == 20


def test_a_table_ends_when_waiting_prefixes_were_sent() -> None:
    line = Line()
    line.wire.originate("a", str(LOOPBACK))
    line.wire.run(0.1)
    told: list[RouteUpdate | EndOfTable] = []

    def spy(sender: Node, _receiver: Node, data: bytes) -> bool:
        if sender is line.b:
            tlvs = decode(data).tlvs
            told.extend(tlv for tlv in tlvs if isinstance(tlv, (EndOfTable, RouteUpdate)))
        return False

    line.right.drops = spy
    line.wire.cut(line.right)
    line.wire.mend(line.right)
    line.wire.run(0.5)
    assert told == []
    assert states(line.c)[-1] is AdjacencyState.LOADING
    line.follow()
    updates = [tlv for tlv in told if isinstance(tlv, RouteUpdate)]
    assert {update.metric for update in updates} == {10}
    assert EndOfTable(1) in told
    assert states(line.c)[-2:] == [AdjacencyState.LOADING, AdjacencyState.UP]
    assert line.metric_at(line.c) == 20


def test_waiting_is_bounded_by_the_first_reason() -> None:
    wait = ForwardingWait()
    wait.is_on = True
    wait.add([A], 1.0)
    wait.add([B], 1.4)
    wait.add([A], 1.5)
    assert wait.next_timer() == 1.0 + FORWARDING_WAIT_MAX_S
    assert wait.expire(1.0 + FORWARDING_WAIT_MAX_S) == [A]
    assert wait.expire(1.0 + FORWARDING_WAIT_MAX_S) == []
    assert len(wait) == 1


def test_an_answer_counts_only_for_what_was_asked() -> None:
    wait = ForwardingWait()
    wait.is_on = True
    wait.add([A], 1.0)
    assert wait.end([A]) == []
    assert wait.pop_new() == [A]
    assert wait.end([B, A]) == [A]
    assert wait.next_timer() is None


@pytest.mark.parametrize("is_on", [False, True])
def test_nothing_waits_while_it_is_off(is_on: bool) -> None:
    wait = ForwardingWait()
    wait.is_on = is_on
    wait.add([A], 1.0)
    assert (A in wait) is is_on
    assert wait.pop_new() == [A] * is_on
    assert wait.end_all() == [A] * is_on
    assert A not in wait


def test_nothing_better_is_advertised_for_a_process_that_hangs() -> None:
    """S24: a second later neighbors were sent into a black hole."""
    line = learned_line()
    line.wire.hear_of_kernel("b")
    line.cost(line.left, 4)
    line.wire.run(60 * FORWARDING_WAIT_MAX_S)
    assert line.metric_at(line.c) == 20, "not better, however long it takes"
    assert line.wire.hear_of_kernel("b"), "late, and not for want of a process"
    line.wire.run(0.1)
    assert line.metric_at(line.c) == 14


def test_a_process_that_hangs_holds_back_no_retraction() -> None:
    line = learned_line()
    line.wire.hear_of_kernel("b")
    line.wire.withdraw("a", str(LOOPBACK))
    line.wire.run(FORWARDING_WAIT_MAX_S)
    assert line.metric_at(line.c) is None


def test_a_process_that_is_alive_and_slow_delays_updates_by_a_second_only() -> None:
    line = learned_line()
    line.cost(line.left, 4)
    for _ in range(20):
        line.wire.hear_of_kernel("b")
        line.wire.run(0.1)
    assert line.metric_at(line.c) == 14
