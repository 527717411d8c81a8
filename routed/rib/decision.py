"""Which of two candidates for one prefix wins: a numbered, strict, total order. Pure.

    1  eligible before ineligible     next hops resolved, distance below 255
    2  lower administrative distance
    3  lower metric
    4  source, by its fixed number    connected, static, injected, neighbor, redistributed, kernel
    5  owner, by its text             within one source no two candidates have the same owner

Rules 4 and 5 exist only so that no tie is left: the answer must not depend on the order of arrival
or on a hash seed. Equal cost within one source is not a tie between candidates: a source that has
several equal next hops (static `next_hops`, NUP's ECMP) offers them as one candidate.

Source: the shape is OpenBGPD's decision function, one list from top to bottom.
"""

from __future__ import annotations

import enum
from typing import NamedTuple

from routed.model.route import DISTANCE_NEVER, PathAttributes

__all__ = ["Contender", "DecisionRule", "deciding_rule", "preference_key"]


class DecisionRule(enum.IntEnum):
    """The rules, as `explain` names them."""

    ELIGIBILITY = 1
    DISTANCE = 2
    METRIC = 3
    SOURCE = 4
    OWNER = 5

    @property
    def words(self) -> str:
        """For people: why the winner won."""
        return _WORDS[self]


_WORDS = {
    DecisionRule.ELIGIBILITY: "the other one is not eligible",
    DecisionRule.DISTANCE: "lower administrative distance",
    DecisionRule.METRIC: "lower metric",
    DecisionRule.SOURCE: "source order",
    DecisionRule.OWNER: "owner order",
}

PreferenceKey = tuple[bool, int, int, int, str]


class Contender(NamedTuple):
    """A candidate and whether its next hops can be used."""

    attributes: PathAttributes
    is_resolved: bool

    @property
    def is_eligible(self) -> bool:
        """Whether it may be selected at all."""
        return self.is_resolved and self.attributes.distance < DISTANCE_NEVER


def preference_key(contender: Contender) -> PreferenceKey:
    """The order as a sort key: the least one wins, and two candidates never have the same."""
    return not contender.is_eligible, *contender.attributes[:4]


def deciding_rule(winner: Contender, loser: Contender) -> DecisionRule:
    """Which rule put one candidate before the other.

    Raises:
        ValueError: the winner does not win, or both are the same candidate (the caller's bug).
    """
    better, worse = preference_key(winner), preference_key(loser)
    if better >= worse:
        raise ValueError("that is not the winner")
    position = next(index for index, (a, b) in enumerate(zip(better, worse, strict=True)) if a != b)
    return list(DecisionRule)[position]
