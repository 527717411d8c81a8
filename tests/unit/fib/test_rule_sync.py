"""Policy rules: added, adopted, removed, refused, and nobody else's touched."""

from __future__ import annotations

import errno
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio
from trio.testing import MockClock

from routed.fib.routes.plan import KernelRefusal
from routed.fib.rule_codec import SeenRule
from routed.fib.rule_sync import RuleSync
from routed.log.events import Level
from routed.log.logger import Logger
from routed.model.prefix import Family, Prefix
from routed.model.rule import (
    ANY_DSCP,
    ANY_FLOW_LABEL,
    ANY_MARK,
    Masked,
    PolicyRule,
    PortRange,
    Realms,
    RuleAction,
    UidRange,
)
from routed.netlink.socket import NetlinkError
from tests.fakes.fake_kernel import FakeRuleKernel
from tests.unit.fib.test_sync import ListSink

A = PolicyRule(Family.IPV4, 1000, RuleAction.LOOKUP, 100, source=Prefix.parse("10.1.0.0/16"))
B = PolicyRule(Family.IPV6, 1001, RuleAction.PROHIBIT, iif="eth0")


class Bench:
    def __init__(self) -> None:
        self.kernel = FakeRuleKernel()
        self.own = len(self.kernel.rules)
        self.sink = ListSink()
        log = Logger(self.sink, "parent", Level.DEBUG, now=trio.current_time)
        self.told = 0
        self.sync = RuleSync(self.kernel, 205, resync_s=300, log=log, on_states=self._count)

    def _count(self) -> None:
        self.told += 1

    def ours(self) -> set[PolicyRule]:
        return {seen.rule for seen in self.kernel.rules if seen.protocol == 205}

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.sync.run)
            await trio.testing.wait_all_tasks_blocked()
            yield
            nursery.cancel_scope.cancel()


async def test_rules_follow_the_configuration(autojump_clock: MockClock) -> None:
    bench = Bench()
    bench.sync.set_desired([A])
    async with bench.running():
        assert bench.ours() == {A}
        bench.sync.set_desired([B])
        await trio.testing.wait_all_tasks_blocked()
        assert bench.ours() == {B}
        assert bench.kernel.writes == [("add", A), ("add", B), ("remove", A)], "new ones first"
        bench.sync.set_desired([B])
        await trio.testing.wait_all_tasks_blocked()
        assert len(bench.kernel.writes) == 3
    assert await bench.sync.flush() == 0
    assert len(bench.kernel.rules) == bench.own


async def test_rules_are_removed_although_a_dump_fails(
    autojump_clock: MockClock,
) -> None:
    bench = Bench()
    bench.sync.set_desired([A])
    async with bench.running():
        assert bench.ours() == {A}
    bench.kernel.refuse_dump = True
    assert await bench.sync.flush() == 0
    assert bench.ours() == set()


async def test_rules_that_cannot_be_read_at_the_end_are_not_reported_as_removed(
    monkeypatch: pytest.MonkeyPatch, autojump_clock: MockClock
) -> None:
    bench = Bench()

    async def fail() -> list[SeenRule]:
        raise NetlinkError("dump refused")

    monkeypatch.setattr(bench.kernel, "dump_rules", fail)
    with pytest.raises(NetlinkError, match="dump refused"):
        await bench.sync.flush()


async def test_equal_leftovers_are_adopted_and_stale_ones_removed(
    autojump_clock: MockClock,
) -> None:
    bench = Bench()
    stale = A._replace(priority=900)
    foreign = SeenRule(A._replace(priority=901), 12)
    bench.kernel.rules += [SeenRule(A, 205), SeenRule(stale, 205), foreign]
    bench.sync.set_desired([A])
    async with bench.running():
        assert bench.ours() == {A}
    assert bench.kernel.writes == [("remove", stale)]
    assert foreign in bench.kernel.rules


async def test_a_rule_that_was_deleted_by_hand_comes_back(autojump_clock: MockClock) -> None:
    bench = Bench()
    bench.sync.set_desired([A])
    async with bench.running():
        bench.kernel.rules.remove(SeenRule(A, 205))
        bench.sync.request_dump()
        await trio.testing.wait_all_tasks_blocked()
        assert bench.ours() == {A}
        bench.kernel.rules.remove(SeenRule(A, 205))
        await trio.sleep(301)
        assert bench.ours() == {A}, "found by the timer, too"


async def test_a_refused_rule_is_told_once_and_tried_again(autojump_clock: MockClock) -> None:
    bench = Bench()
    bench.kernel.refuse[A] = KernelRefusal(errno.EINVAL, "Invalid table")
    bench.sync.set_desired([A, B])
    async with bench.running():
        assert bench.ours() == {B}, "it stops no other"
        assert [state.problem for state in bench.sync.states] == [
            "Invalid table (Invalid argument)", "",
        ]  # fmt: skip
        await trio.sleep(30)
        assert len(bench.sink.events("rule-failed")) == 1
        assert bench.told == 1
        bench.kernel.refuse.clear()
        await trio.sleep(6)
        assert bench.ours() == {A, B}
        assert not any(state.problem for state in bench.sync.states)
        assert bench.told == 2


async def test_a_dump_that_fails_is_asked_for_again(autojump_clock: MockClock) -> None:
    bench = Bench()
    bench.kernel.refuse_dump = True
    bench.sync.set_desired([A])
    async with bench.running():
        assert bench.kernel.writes == []
        await trio.sleep(6)
        assert bench.ours() == {A}


async def test_a_selector_that_the_kernel_does_not_know_is_named(autojump_clock: MockClock) -> None:
    """The kernel reads it over, and would add a rule for all packets."""
    bench = Bench()
    bench.kernel.unknown = {"dscp", "source_ports"}
    marked = A._replace(dscp=Masked(46, ANY_DSCP), source_ports=PortRange(5, 5), ip_protocol=17)
    bench.sync.set_desired([marked, A._replace(ip_protocol=6), B])
    async with bench.running():
        assert bench.ours() == {A._replace(ip_protocol=6), B}, "nothing else is lost"
        problem = "this kernel does not know `sport`, `dscp`"
        assert {state.rule: state.problem for state in bench.sync.states}[marked] == problem
        assert ("add", marked) not in bench.kernel.writes
        tried = [rule for _, rule in bench.kernel.writes if rule.priority == 2**32 - 1]
        assert {rule.action for rule in tried} == {RuleAction.NOP}, "it matches and does nothing"
        writes = len(bench.kernel.writes)
        await trio.sleep(30)
        assert len(bench.kernel.writes) == writes, "the kernel stays what it is"
    (record,) = bench.sink.events("rule-failed")
    assert record.fields["reason"] == problem


async def test_a_mask_that_the_kernel_does_not_know_is_named(autojump_clock: MockClock) -> None:
    bench = Bench()
    masked = A._replace(dscp=Masked(8, 0x38))
    whole = A._replace(dscp=Masked(8, ANY_DSCP))
    known_of = bench.kernel.known_of
    bench.kernel.known_of = lambda rule: known_of(  # type: ignore[method-assign]
        rule._replace(dscp=rule.dscp and rule.dscp._replace(mask=ANY_DSCP))
    )
    bench.sync.set_desired([masked, whole])
    async with bench.running():
        assert bench.ours() == {whole}
        assert {state.problem for state in bench.sync.states} == {
            "", "this kernel does not know a mask of `dscp`",
        }  # fmt: skip


async def test_an_adopted_rule_is_not_tried(autojump_clock: MockClock) -> None:
    bench = Bench()
    marked = A._replace(dscp=Masked(46, ANY_DSCP))
    bench.kernel.rules.append(SeenRule(marked, 205))
    bench.sync.set_desired([marked])
    async with bench.running():
        assert not any(state.problem for state in bench.sync.states)
    assert bench.kernel.writes == []


async def test_a_selector_that_the_kernel_refuses_has_its_reason(autojump_clock: MockClock) -> None:
    bench = Bench()
    labelled = A._replace(flow_label=Masked(5, ANY_FLOW_LABEL))
    bench.sync.set_desired([labelled])
    async with bench.running():
        (state,) = bench.sync.states
        assert "Flow label cannot be specified for IPv4 FIB rules" in state.problem
        assert bench.ours() == set()


async def test_a_rule_that_the_kernel_alters_is_removed_and_not_written_for_ever(
    autojump_clock: MockClock,
) -> None:
    bench = Bench()
    bench.kernel.unknown = {"tos"}
    bench.sync.set_desired([A._replace(tos=0x10), B])
    async with bench.running():
        await trio.sleep(30)
        assert bench.ours() == {B}
        assert f"the kernel shows the rule as {A}" in {state.problem for state in bench.sync.states}
        writes = len(bench.kernel.writes)
        await trio.sleep(3600)
        assert len(bench.kernel.writes) == writes
        bench.kernel.unknown = set()
        bench.sync.set_desired([A._replace(tos=0x10), B])
        await trio.testing.wait_all_tasks_blocked()
        assert bench.ours() == {A._replace(tos=0x10), B}, "a reload tries again"


async def test_a_changed_rule_of_the_same_priority_is_replaced(autojump_clock: MockClock) -> None:
    """The kernel takes one for the other: `not` and the target of a goto are not compared."""
    bench = Bench()
    jump = PolicyRule(Family.IPV4, 5, RuleAction.GOTO, goto_priority=7)
    for before, after in (
        (A, A._replace(is_inverted=True)),
        (jump, jump._replace(goto_priority=8)),
        (A, A._replace(source=None)),
        (A._replace(source=None), A),
    ):
        bench.kernel.rules = [SeenRule(before, 205)]
        bench.sync.set_desired([after])
        async with bench.running():
            assert [seen.rule for seen in bench.kernel.rules] == [after]


def test_a_rule_reads_as_ip_rule_writes_it() -> None:
    assert str(A) == "1000: from 10.1.0.0/16 lookup 100"
    assert str(B) == "1001: from all iif eth0 prohibit"
    marked = PolicyRule(Family.IPV4, 7, RuleAction.LOOKUP, 254, oif="eth1", fwmark=16, fwmask=255)
    assert str(marked) == "7: from all fwmark 0x10/0xff oif eth1 lookup main"
    assert "fwmark 0x10 oif" in str(marked._replace(fwmask=ANY_MARK))
    every = PolicyRule(
        Family.IPV4, 9, table_id=2**32 - 1, source=Prefix.parse("10.0.0.1/32"), is_inverted=True,
        destination=Prefix.parse("10.2.0.0/16"), iif="lo", oif="eth1", fwmark=0, fwmask=0xF0,
        tos=0x08, uids=UidRange(5, 9), ip_protocol=17, source_ports=PortRange(1, 9),
        destination_ports=PortRange(16, 16, 0xFFF0), tunnel_id=7, suppress_prefix_len=0,
        suppress_group=5, realms=Realms(3, 4), flow_label=Masked(5, 0xFF),
        dscp=Masked(8, 0x38),
    )  # fmt: skip
    assert str(every) == (
        "9: not from 10.0.0.1 to 10.2.0.0/16 tos 0x08 fwmark 0/0xf0 iif lo oif eth1 uidrange 5-9 "
        "ipproto udp sport 1-9 dport 0x10/0xfff0 tun_id 7 lookup 4294967295 "
        "suppress_prefixlength 0 suppress_ifgroup 5 realms 3/4 dscp 0x8/0x38 flowlabel 0x5/0xff"
    )
    assert every.fields() == {
        "priority": 9, "not": None, "src": "10.0.0.1", "dst": "10.2.0.0", "dstlen": 16,
        "tos": "0x08", "fwmark": "0", "fwmask": "0xf0", "iif": "lo", "oif": "eth1",
        "uid_start": 5, "uid_end": 9, "ipproto": "udp", "sport_start": 1, "sport_end": 9,
        "dport": 16, "dport_mask": "0xfff0", "tun_id": 7, "table": "4294967295",
        "suppress_prefixlen": 0, "suppress_ifgroup": "5", "flow_from": "3", "flow_to": "4",
        "dscp": "0x8", "dscp_mask": "0x38", "flowlabel": "0x5", "flowlabel_mask": "0xff",
    }  # fmt: skip
    others = [
        B._replace(action=RuleAction.GOTO, goto_priority=32766, iif=None),
        B._replace(action=RuleAction.NOP, iif=None, dscp=Masked(46, ANY_DSCP)),
        B._replace(action=RuleAction.LOOKUP, iif=None, is_l3mdev=True, ip_protocol=200),
    ]
    assert [str(rule) for rule in others] == [
        "1001: from all goto 32766",
        "1001: from all nop dscp 46",
        "1001: from all lookup [l3mdev-table] ipproto 200",
    ]
