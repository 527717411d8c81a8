"""What prefixes have carried in a window of time, from counters of records. Pure.

A record belongs to one prefix at a time, and its counters are zero when it begins to. Within a
window:

    sample ---------- fold ---------------- fold ------------------------ now
      before --> figures    0 --> figures         0 -----------> counters now
      first prefix          second prefix         present prefix

Each line is a difference that belongs to one prefix. Without a fold it is that of the two ends.
"""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Callable, Generator, Sequence
from struct import Struct
from typing import NamedTuple

from routed.dataplane.figures import NOTHING, Figures
from routed.dataplane.history import BLOCK_BYTES, Window
from routed.dataplane.layout import ROUTE_BYTES
from routed.model.prefix import Prefix

__all__ = ["Fold", "RouteWindow", "divide", "rates"]

_COUNTERS = Struct("=4Q")
_PER_BLOCK = BLOCK_BYTES // ROUTE_BYTES
_STEP = 32
"""Blocks that are looked at between two turns of the event loop: 2 ms."""

assert _COUNTERS.size == ROUTE_BYTES


class Fold(NamedTuple):
    """Counters of a record that were added to the account of its prefix."""

    sample: int
    """Number of the last sample before it."""
    record: int
    prefix: Prefix
    figures: Figures


class RouteWindow(NamedTuple):
    """What prefixes have carried since a moment."""

    began: float
    """Seconds, monotonic."""
    carried: dict[Prefix | None, Figures]
    """None: what has no record of its own. What has carried nothing is left out."""


def divide(
    window: Window, folds: Sequence[Fold], owner: Callable[[int], Prefix]
) -> Generator[None, None, RouteWindow]:
    """Divide what records have counted among their prefixes, in steps.

    Args:
        window: of the array `routes`.
        folds: of the window, in order.
        owner: returns the prefix of a record at the end of the window.
    """
    carried: defaultdict[Prefix | None, Figures] = defaultdict(lambda: NOTHING)
    folded: set[int] = set()
    for fold in folds:
        before = NOTHING if fold.record in folded else _figures(window.before, fold.record)
        folded.add(fold.record)
        carried[fold.prefix] = carried[fold.prefix].plus(fold.figures.minus(before))
    for record in folded:
        _add(carried, record, _figures(window.now, record), owner)
    for step, block in enumerate(window.changed(), 1):
        pairs = zip(
            _COUNTERS.iter_unpack(window.before[block]),
            _COUNTERS.iter_unpack(window.now[block]),
            strict=True,
        )
        for record, (former, now) in enumerate(pairs, block * _PER_BLOCK):
            if former != now and record not in folded:
                _add(carried, record, Figures(*now).minus(Figures(*former)), owner)
        if step % _STEP == 0:
            yield
    return RouteWindow(
        window.began, {prefix: figures for prefix, figures in carried.items() if any(figures)}
    )


def _add(
    carried: defaultdict[Prefix | None, Figures],
    record: int,
    figures: Figures,
    owner: Callable[[int], Prefix],
) -> None:
    if any(figures):
        prefix = owner(record) if record else None
        carried[prefix] = carried[prefix].plus(figures)


def _figures(blocks: Sequence[bytes], record: int) -> Figures:
    block, position = divmod(record, _PER_BLOCK)
    return Figures(*_COUNTERS.unpack_from(blocks[block], position * ROUTE_BYTES))


def rates(
    values: Sequence[tuple[float, bytes]],
    first: int,
    folds: Sequence[Fold],
    prefix: Prefix,
    *,
    is_last_owner: bool,
) -> list[tuple[float, Figures]]:
    """Find what one record has counted for a prefix between two samples each.

    Args:
        values: moments and counters of the record at each sample, oldest first.
        first: number of the oldest sample.
        folds: of this record, in order.
        prefix: the one that is looked at.
        is_last_owner: whether the record belongs to the prefix now.

    Returns:
        Seconds and figures; one pair less than there are values.
    """
    owners = [fold.prefix == prefix for fold in folds] + [is_last_owner]
    found = []
    position = 0
    for number, ((began, before), (ended, after)) in enumerate(itertools.pairwise(values), first):
        figures, begin = NOTHING, Figures(*_COUNTERS.unpack(before))
        while position < len(folds) and folds[position].sample == number:
            if owners[position]:
                figures = figures.plus(folds[position].figures.minus(begin))
            begin = NOTHING
            position += 1
        if owners[position]:
            figures = figures.plus(Figures(*_COUNTERS.unpack(after)).minus(begin))
        found.append((ended - began, figures))
    return found
