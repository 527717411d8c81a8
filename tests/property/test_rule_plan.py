"""Whatever rules of ours a kernel holds, one plan makes them the desired ones, without a gap."""

from __future__ import annotations

from collections import Counter

import trio
from hypothesis import given
from hypothesis import strategies as st

from routed.fib.rule_codec import SeenRule
from routed.fib.rule_plan import plan_rules
from routed.model.prefix import Family, Prefix
from routed.model.rule import PolicyRule
from tests.fakes.fake_kernel import FakeRuleKernel
from tests.fakes.random_rules import any_rule

PRIORITIES = st.sampled_from([50, 51])


def wildcards_of(rule: PolicyRule) -> list[PolicyRule]:
    """Rules that only differ in fields that the kernel compares only if they are given, or
    never.
    """
    fewer = rule._replace(source=None, uids=None, ip_protocol=0, fwmark=0, fwmask=0)
    return [rule, fewer, fewer._replace(is_inverted=not rule.is_inverted)]


RULES = (
    st.lists(any_rule(PRIORITIES), min_size=1, max_size=4)
    .map(lambda rules: [each for rule in rules for each in wildcards_of(rule)])
    .flatmap(
        lambda pool: st.tuples(
            st.lists(st.sampled_from(pool), max_size=8), st.sets(st.sampled_from(pool), max_size=6)
        )
    )
)


@given(RULES)
def test_a_plan_leads_to_the_desired_rules(rules: tuple[list[PolicyRule], set[PolicyRule]]) -> None:
    listed, desired = rules
    kernel = FakeRuleKernel()
    foreign = [SeenRule(rule, 77) for rule in listed[:2]]
    kernel.rules += foreign
    for rule in listed:
        kernel.add_rule(rule)
    plan = plan_rules(desired, trio.run(kernel.dump_rules), 205)
    kept = desired.intersection(listed)
    for rule in (*plan.additions, *plan.copies):
        assert kernel.add_rule(rule).errno == 0
    for rule in plan.removals:
        assert kernel.remove_rule(rule).errno == 0
        assert kept <= {seen.rule for seen in kernel.rules}, "each packet finds its rule"
    ours = Counter(seen.rule for seen in kernel.rules if seen.protocol == 205)
    assert ours == Counter(dict.fromkeys(desired, 1))
    assert [seen for seen in kernel.rules if seen.protocol == 77] == sorted(
        foreign, key=lambda seen: seen.rule[:2]
    )
    assert not any(plan_rules(desired, trio.run(kernel.dump_rules), 205))


def test_a_removal_that_would_remove_a_desired_rule_is_preceded_by_a_copy() -> None:
    narrow = PolicyRule(Family.IPV4, 50, table_id=100, source=Prefix.parse("10.0.0.0/8"))
    wide = narrow._replace(source=None)
    seen = [SeenRule(narrow, 205), SeenRule(wide, 205)]
    assert plan_rules({narrow}, seen, 205) == ([], [narrow], [wide, wide])
    assert plan_rules({wide}, seen, 205) == ([], [], [narrow])
    assert plan_rules({wide, narrow}, seen, 205) == ([], [], [])
    assert plan_rules({wide}, seen, 77) == ([wide], [], []), "rules of others are not ours"
