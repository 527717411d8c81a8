"""The decision between the candidates of one prefix: a numbered, strict, total order. Pure.

    1  eligible before ineligible     next hops resolved, distance below 255
    2  lower administrative distance
    3  lower metric
    4  source, by its fixed number    connected, static, injected, neighbor, redistributed, kernel
    5  owner, by its text             within one source no two candidates have the same owner

Rules 4 and 5 exist only so that no tie is left: the result must not depend on the order of arrival
or on a hash seed. Equal cost within one source is not a tie between candidates: a source that has
several equal next hops (static `next_hops`, NUP's ECMP) passes them as one candidate.

The RIB decides by this module and by nothing else. It keeps the candidates of a prefix sorted by
`is_preferred` (rules 2 to 5), and the first one that `is_eligible` (rule 1) is the best path.

Source: the shape is OpenBGPD's decision function, one list from top to bottom.
"""

from __future__ import annotations

import enum
import operator
from collections.abc import Callable
from typing import NamedTuple

from routed.model.route import DISTANCE_NEVER, PathAttributes

__all__ = [
    "Contender",
    "DecisionRule",
    "deciding_rule",
    "is_eligible",
    "is_preferred",
]


class DecisionRule(enum.IntEnum):
    """The rules, as `explain` names them."""

    ELIGIBILITY = 1
    DISTANCE = 2
    METRIC = 3
    SOURCE = 4
    OWNER = 5


_FIELDS = {
    DecisionRule.DISTANCE: "distance",
    DecisionRule.METRIC: "metric",
    DecisionRule.SOURCE: "source",
    DecisionRule.OWNER: "owner",
}
"""The field of the path attributes that each rule compares; the lower value wins."""
_COUNT = len(_FIELDS)
assert PathAttributes._fields[:_COUNT] == tuple(_FIELDS[rule] for rule in sorted(_FIELDS))

is_preferred: Callable[[PathAttributes, PathAttributes], bool] = operator.lt
"""Apply rules 2 to 5: whether the first of two candidates of a prefix stands before the second.

A tuple comparison, since the path attributes begin with the fields of these rules in this order.
Two candidates of a prefix differ in source or owner, so nothing beyond these fields is compared.
"""


def is_eligible(attributes: PathAttributes, is_resolved: bool) -> bool:
    """Apply rule 1: whether a candidate may be selected at all.

    Args:
        attributes: of the candidate.
        is_resolved: whether it has next hops that can be used, or its type needs none.
    """
    return is_resolved and attributes.distance < DISTANCE_NEVER


class Contender(NamedTuple):
    """A candidate, and whether its next hops can be used."""

    attributes: PathAttributes
    is_resolved: bool

    @property
    def is_eligible(self) -> bool:
        """Whether it may be selected at all."""
        return is_eligible(self.attributes, self.is_resolved)

    @property
    def sort_key(self) -> tuple[bool, int, int, int, str]:
        """All five rules as a sort key; the least one wins."""
        return not self.is_eligible, *self.attributes[:4]


def deciding_rule(winner: Contender, loser: Contender) -> DecisionRule:
    """Return the rule that put one candidate before the other.

    Raises:
        ValueError: the winner does not win, or both are the same candidate (the caller's bug).
    """
    better, worse = winner.sort_key, loser.sort_key
    if better >= worse:
        raise ValueError("that is not the winner")
    position = next(index for index, (a, b) in enumerate(zip(better, worse, strict=True)) if a != b)
    return list(DecisionRule)[position]
