"""A persistently refused sender stays visible, however many addresses another sender uses."""

from __future__ import annotations

import pytest

from routed.model.prefix import Address, Family
from routed.nup.link.refusals import MAX_KEPT, MAX_SHOWN, REFUSAL_S, RefusalList

REAL = Address.parse("fe80::2:1")
UNSIGNED = "no signature; this link requires one"


def spoofed(number: int) -> Address:
    return Address(Family.IPV6, (0xFE80 << 112) + 0xDEAD0000 + number)


def is_shown(refusals: RefusalList, now: float) -> bool:
    return REAL in [refusal.source for refusal in refusals.recent(now)]


@pytest.mark.parametrize("per_second", [80, 1601])
@pytest.mark.parametrize("is_first", [True, False])
def test_a_peer_that_keeps_coming_stays_visible_in_a_flood_of_addresses(
    per_second: int, is_first: bool
) -> None:
    """Each second one message of the peer; sixteen places were taken over every 200 ms."""
    refusals = RefusalList()
    real = 0 if is_first else 10
    if is_first:
        refusals.record(REAL, UNSIGNED, 998.0)
        refusals.record(REAL, UNSIGNED, 999.0)
    shown = []
    number, now = 0, 1000.0
    for second in range(90):
        for count in range(per_second):
            now = 1000.0 + second + count / per_second
            if count == per_second // 3 and second >= real:
                refusals.record(REAL, UNSIGNED, now)
            number += 1
            refusals.record(spoofed(number), UNSIGNED, now)
        shown.append(is_shown(refusals, now))
    assert all(shown[-30:]), "in a minute it has come again"
    if is_first:
        assert all(shown)
    assert len(refusals._once) + len(refusals._again) <= MAX_KEPT


def test_what_is_not_shown_is_counted() -> None:
    refusals = RefusalList()
    for number in range(MAX_SHOWN):
        refusals.record(spoofed(number), UNSIGNED, 0.0)
    assert {refusal.reason for refusal in refusals.recent(0.0)} == {UNSIGNED}
    for number in range(MAX_SHOWN, MAX_SHOWN + 4):
        refusals.record(spoofed(number), UNSIGNED, 0.0)
    recent = refusals.recent(0.0)
    assert len(recent) == MAX_SHOWN
    assert recent[-1].reason == f"{UNSIGNED} (4 other addresses are refused and not shown)"
    for number in range(2 * MAX_KEPT):
        refusals.record(spoofed(number), UNSIGNED, 0.5)
    hidden = MAX_KEPT - MAX_SHOWN
    assert f"({hidden} or more other addresses" in refusals.recent(0.5)[-1].reason


def test_the_most_persistent_are_listed_first_and_forgotten_in_time() -> None:
    refusals = RefusalList()
    for number in range(MAX_KEPT):
        for second in range(1 + number % 2):
            refusals.record(spoofed(number), UNSIGNED, float(second))
    assert [refusal.seconds for refusal in refusals.recent(1.0)] == [2] * MAX_SHOWN
    assert refusals.recent(1.0 + REFUSAL_S) == []
    refusals.record(REAL, "another", 1.0 + REFUSAL_S)
    assert [refusal.source for refusal in refusals.recent(1.0 + REFUSAL_S)] == [REAL]
    refusals.clear(REAL)
    assert refusals.recent(1.0 + REFUSAL_S) == []


def test_the_reason_shown_is_the_last_one() -> None:
    refusals = RefusalList()
    refusals.record(REAL, UNSIGNED, 0.0)
    refusals.record(REAL, "unknown key", 5.0)
    assert [refusal.reason for refusal in refusals.recent(5.0)] == ["unknown key"]
