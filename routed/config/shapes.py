"""Options that several sections of routes.yaml have: the same word means the same everywhere."""

from __future__ import annotations

from typing import Any

from routed.config import scalars
from routed.config.options import ListOf, Scalar, option

__all__ = ["DISTANCE", "START_METRIC", "TAG", "mark", "match", "only_tag"]

TAG = Scalar(scalars.whole_number(0, 2**32 - 1))

START_METRIC = Scalar(scalars.whole_number(0, 65_535))
"""What a route enters NUP with; links add to it."""

DISTANCE = Scalar(scalars.whole_number(1, 255))


def match() -> Any:
    """Conditions on the prefix."""
    return option(
        ListOf(scalars.prefix_match),
        "Prefixes to match: `PREFIX [ge LENGTH] [le LENGTH]`, any of the list; all when absent.",
        default=(),
    )


def only_tag() -> Any:
    """A condition on the tag."""
    return option(TAG, "Only routes with this tag.", default=None)


def mark() -> Any:
    """The tag that routes get."""
    return option(TAG, "A mark that policy can match.", default=0, written="0")
