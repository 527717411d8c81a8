"""Options that several sections of routes.yaml share, with the same meaning everywhere."""

from __future__ import annotations

from typing import Any

from routed.config import scalars
from routed.config.options import ListOf, Scalar, option

__all__ = ["DISTANCE", "START_METRIC", "TAG", "mark", "match", "only_tag"]

TAG = Scalar(scalars.whole_number(0, 2**32 - 1))

START_METRIC = Scalar(scalars.whole_number(0, 65_535))
"""The metric of a route at its origin in NUP; each link adds its cost."""

DISTANCE = Scalar(scalars.whole_number(1, 255))


def match() -> Any:
    """Declare the option `match`, a condition on the prefix."""
    return option(
        ListOf(scalars.prefix_match),
        "Prefixes to match: `PREFIX [ge LENGTH] [le LENGTH]`, any of the list; all when absent.",
        default=(),
    )


def only_tag() -> Any:
    """Declare the option `tag` as a condition."""
    return option(TAG, "Only routes with this tag.", default=None)


def mark() -> Any:
    """Declare the option `tag` as the tag that routes receive."""
    return option(TAG, "A mark that policy can match.", default=0, written="0")
